"""What crosses a process or a file: frozen models that round-trip through JSON.

Losses are in nats per token, FLOPs are plain counts, seconds are wall-clock.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum, StrEnum
from pathlib import PurePath
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from modsearch.errors import has_surrogates, shown

MOST_FLOPS = 1e28
"""Ten times and more what any training has taken."""
MOST_LAYERS = 512
MOST_WIDTH = 65_536
MOST_TOKENS = 1_048_576
"""Of a sequence, a vocabulary or a sample."""
MOST_SEED = 2**31 - 1
"""Seeds of trials, batches and draws are made from it in 64 bits."""


class Frozen(BaseModel):
    """Immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stated(Frozen):
    """What a user wrote: a number is a finite number and neither a text nor true or false, but
    2.0 is a count. A list may stand for a tuple or a set, and a text for what has no other form
    in YAML, such as a path."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        return _in_python(cls.model_fields[info.field_name].annotation, value)


def _in_python(kind: Any, value: Any) -> Any:
    """A value of YAML as a strict type of Python's takes it: whole floats are ints, where the type
    has ints and no floats; lists are tuples or sets, and texts members and paths, where it has
    these alone."""
    leaves = _leaves(kind)
    if isinstance(value, list):
        made = [_in_python(kind, each) for each in value]
        for other in (tuple, frozenset, set):
            if other in leaves and list not in leaves:
                return other(made)
        return made
    if isinstance(value, float) and value.is_integer():
        return int(value) if int in leaves and float not in leaves else value
    if isinstance(value, str) and str not in leaves:
        for other in leaves:
            if isinstance(other, type) and issubclass(other, Enum | PurePath):
                with suppress(ValueError):
                    return other(value)
    return value


def _leaves(kind: Any) -> set[Any]:
    """Every type that a type is made of."""
    found = {get_origin(kind) or kind}
    return found.union(*map(_leaves, get_args(kind)))


OWN = {"own": True}
"""Context of validation for what a study holds from earlier: it means what it meant then, also
where it would be refused by now."""


def once(values: list[Any], info: ValidationInfo) -> list[Any]:
    """A list whose values differ.

    Raises:
        ValueError: one stands there twice.
    """
    for place, value in enumerate(values):
        if value in values[:place] and info.context != OWN:
            raise ValueError(f"{shown(value)} stands there twice")
    return values


def _short_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", text):
        raise ValueError(
            f"must be up to 100 letters, digits and . _ -, the first no . or -, "
            f"but got {shown(text)}"
        )
    return text


ShortName = Annotated[str, AfterValidator(_short_name)]
"""A name that is the name of a file, too."""


class Component(BaseModel):
    """A registered component by name, with options of its own beside the name."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The options, without the name."""
        return dict(self.model_extra or {})


def _named(value: object) -> object:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Component | dict) and not (isinstance(value, dict) and not value):
        return value
    raise ValueError(
        f"must be a component's name, or {{name: NAME, OPTION: ...}}, but got {shown(value)}"
    )


ComponentField = Annotated[Component, BeforeValidator(_named)]
"""A component; a bare string is its name."""


class ModelConfig(Stated):
    """Shape and parts of a decoder-only transformer."""

    vocab_size: int = Field(256, gt=1, le=MOST_TOKENS)
    """Rows of the embedding and of the LM head; tokens are bytes, so 256 or more."""
    seq_len: int = Field(256, gt=1, le=MOST_TOKENS)
    """Tokens of a training sequence."""
    depth: int = Field(2, gt=0, le=MOST_LAYERS)
    """Blocks of the stack."""
    width: int = Field(32, gt=0, le=MOST_WIDTH)
    """Of the residual stream; a multiple of 2 x `num_heads`."""
    num_heads: int = Field(2, gt=0, le=1024)
    """Heads of queries."""
    num_kv_heads: int | None = Field(None, gt=0, le=1024)
    """Heads of keys and values, shared by groups of queries (Ainslie et al. 2023, arXiv
    2305.13245); as many as `num_heads` where nothing is said."""
    tied: bool = True
    """Whether the LM head is the embedding matrix."""
    block: ComponentField = Component(name="dense")
    """What a layer is; a block that is not routed ignores router, schedule, capacity and every."""
    ffn: ComponentField | None = None
    """What the block's name says, or `mlp`, where nothing is said."""
    router: ComponentField = Component(name="expert_choice")
    """Which tokens enter a routed block."""
    schedule: ComponentField = Component(name="every_nth")
    """Which layers are routed, with what capacity."""
    capacity: float = Field(0.125, gt=0, le=1)
    """Share of a sequence's tokens that a routed block processes."""
    every: int = Field(2, gt=0, le=MOST_LAYERS)
    """Every `every`-th block is routed, the others are dense."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "ModelConfig":
        if self.width % (2 * self.num_heads):
            raise ValueError(
                f"width must be a multiple of 2 x num_heads (rotary pairs), "
                f"but got width={self.width}, num_heads={self.num_heads}"
            )
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads must be a multiple of num_kv_heads, "
                f"but got num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}"
            )
        return self


class OptimConfig(Stated):
    """AdamW with warm-up and cosine decay."""

    batch_size: int = Field(2, gt=0, le=65_536)
    """Sequences a step."""
    rate: float = Field(0.005, gt=0, le=1e6)
    """Learning rate at width 64; the rate in use is `rate * 64 / width`."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises to its peak."""
    final: float = Field(0.1, ge=0, le=1)
    """Last learning rate as a share of the peak."""
    weight_decay: float = Field(0.1, ge=0, le=100)
    """Of matrices; norms have none."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the mean of gradients, a step."""
    beta2: float = Field(0.99, ge=0, lt=1)
    """Decay of the mean of squared gradients, a step."""
    clip: float = Field(1.0, gt=0, le=1e6)
    """Largest gradient norm."""
    min_steps: int = Field(200, gt=0, le=1_000_000_000)
    """A candidate whose budget makes fewer steps is rejected."""
    max_epochs: float = Field(4.0, gt=0, le=1e9)
    """A candidate whose budget needs the train part more often is rejected."""


class DataConfig(Stated):
    """Where text comes from: `stdlib`, or a file, a folder or a glob of text (plain or .gz)."""

    corpus: str = "stdlib"
    """`stdlib` (the source text of Python's standard library), or a file, a folder or a glob of
    plain text or .gz; relative to the current folder."""

    @field_validator("corpus", mode="before")
    @classmethod
    def _can_be_a_path(cls, value: object) -> object:
        if isinstance(value, str) and (
            not value.strip() or "\0" in value or has_surrogates(value)
        ):
            raise ValueError("must name `stdlib`, or a file, a folder or a glob of text, in UTF-8")
        return value


class Candidate(Stated):
    """A whole configuration: recipe and size."""

    model: ModelConfig = ModelConfig()
    """Shape and parts of the model."""
    optim: OptimConfig = OptimConfig()
    """How it is trained."""
    data: DataConfig = DataConfig()
    """The text."""


class Budget(Stated):
    """Training FLOPs of one trial, forward and backward."""

    flops: float = Field(gt=0, le=MOST_FLOPS)


class Plan(Frozen):
    """How a candidate spends its budget."""

    steps: int
    tokens: int
    epochs: float
    """Training tokens over the tokens of the train part."""
    flops_per_step: int
    flops: int
    """Achieved training FLOPs."""
    forward_flops: float
    """Planned forward FLOPs per token, at `slots`."""
    params: int
    active_params: int
    """Parameters that a token meets when no block skips it."""
    embedding_params: int
    head_share: float
    """Share of the LM head in the forward FLOPs."""
    conventions: dict[str, float]
    """Training FLOPs per token by counting convention."""
    seconds: float
    """A rough guess, used to start long trials first."""


class Infeasible(Frozen):
    """Why a candidate can't be trained at its budget."""

    reason: str


class Stage(StrEnum):
    """Why a trial is run, and so what it may be used for."""

    EXPLORE = "explore"
    MEASURE = "measure"
    CONFIRM = "confirm"


class State(StrEnum):
    """How a trial ended. Only `COMPLETE` has scores."""

    COMPLETE = "complete"
    INFEASIBLE = "infeasible"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"


class Validation(Frozen):
    """The fixed sample that a trial is scored on."""

    part: Literal["validation", "test"] = "validation"
    windows: int = Field(64, gt=0, le=MOST_TOKENS)
    """Windows of `seq_len` tokens, evenly spaced over the part."""


class Runtime(Frozen):
    """Constants of a study: the same for every trial, whatever the number of workers."""

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = Field(1, gt=0)
    micro_batch: int | None = Field(None, gt=0)
    """Sequences in one pass: a step adds up the gradients of several, in less memory. None: the
    whole batch."""
    checkpoint_seconds: float = Field(10.0, ge=0)
    """Between checkpoints of an unfinished trial."""


class Plugin(Frozen):
    """A plugin file, and what was in it."""

    path: str
    """Absolute."""
    digest: str
    """Hash of its content."""


class Share(Frozen):
    """What one trial takes of a machine; an engine places trials by it."""

    threads: int = Field(1, gt=0)
    cpus: float = Field(1, gt=0)
    gpus: float = Field(0, ge=0)


class Signal(StrEnum):
    """What a driver answers when it has no job to hand out."""

    WAIT = "wait"
    """Until a record comes back."""
    DONE = "done"


class Scores(Frozen):
    """What a finished trial measured on its sample."""

    causal_loss: float
    """The objective: no decision looks at a later token."""
    train_mode_loss: float
    """Routing as in training; for top-k it sees the future and never ranks anything."""
    bits_per_byte: float
    """Of the causal loss."""
    final_train_loss: float
    """Mean over the last tenth of the steps."""
    realised_capacity: float | None
    """Mean share of tokens in routed blocks under causal routing; None without routed blocks."""
    realised_forward_flops: float
    """Forward FLOPs per token under causal routing, on the sample."""
    agreement: float | None
    """Share of (token, routed block) decisions on which both modes agree."""
    seconds: float
    """Training and validation."""
    step_seconds: float
    """Median of a training step."""
    peak_memory: int
    """Bytes: of the device on CUDA, of the process on CPU."""


class Correlation(Frozen):
    """Of two values of a token, over the tokens of all windows."""

    raw: float | None
    """Pearson's; None where one of the two does not vary."""
    partial: float | None
    """The same of what differs from the mean at the token's position; None where nothing does."""
    low: float | None
    """95 % interval of the partial one: a jackknife over windows, whose tokens depend on each
    other; None with fewer than three."""
    high: float | None
    se: float | None
    """Of the partial one's inverse hyperbolic tangent."""


class Reliability(Frozen):
    """Tokens whose predicted chance of membership lies in one bin."""

    tokens: int
    predicted: float
    """Their mean predicted chance."""
    chosen: float
    """The share of them that training's rule chose."""


class Membership(Frozen):
    """The causal decision against the one of training, on the same hidden states."""

    tokens: int
    """Decisions."""
    accuracy: float
    always_skip: float
    """Accuracy of choosing no token at all, whose F1 is 0."""
    precision: float | None
    """None where the causal decision chooses nothing."""
    recall: float | None
    f1: float | None
    calibration_error: float
    """Expected calibration error: mean over tokens of |predicted - chosen| of their bin."""
    bins: list[Reliability]
    """By predicted chance, ascending; empty bins are left out."""


class LayerDecisions(Frozen):
    """Which tokens one layer took."""

    causal_shares: list[float]
    """By position, in bins of about equal width."""
    train_shares: list[float]
    flip_rate: float
    """Share of tokens that only one of both modes takes; each mode on its own hidden states."""
    weights: list[int] | None
    """Counts of router weights, sigmoid(score), in equal bins from 0 to 1; None without scores."""
    weights_above_half: float | None
    membership: Membership | None
    """None where both modes have the same rule."""


class LayerRouting(Frozen):
    """What one routed layer did on the sample."""

    layer: int
    capacity: float
    """Asked for."""
    realised: float
    """Share of tokens under causal routing, mean over windows; of visits where experts route."""
    realised_sd: float | None
    """Over windows; None of a single one."""
    decisions: LayerDecisions | None
    """None where the layer has no router that takes or leaves whole tokens."""


class Overlap(Frozen):
    """Of the tokens that two layers take under causal routing."""

    layers: tuple[int, int]
    jaccard: float | None
    """Taken by both over taken by either; None where neither takes any."""
    independent: float | None
    """What their shares would give if they were independent."""


class TokenShare(Frozen):
    """How often a vocabulary id is taken."""

    token: int
    seen: int
    share: float
    """Of its (position, routed layer) pairs, under causal routing."""


class TokenRouting(Frozen):
    """What the routed layers together do with tokens, under causal routing."""

    no_block: float
    """Share of positions that no routed layer takes."""
    every_block: float
    """Share of positions that every routed layer takes."""
    min_seen: int
    """Only vocabulary ids seen as often count below."""
    known: int
    """Such ids."""
    dead: float | None
    """Share of them that no layer ever takes; None where there are none."""
    always: float | None
    """Share of them that every layer always takes."""
    most: list[TokenShare]
    """Highest shares first."""
    least: list[TokenShare]
    """Lowest shares first; ids that stand in `most` are left out."""
    overlaps: list[Overlap]
    with_loss: Correlation
    """Of the number of routed blocks that take a token with the loss of its prediction."""
    with_entropy: Correlation
    """The same with the entropy of its prediction."""


class RoutingSample(Frozen):
    """Decisions on the first positions of the first window, for every layer from below."""

    tokens: list[int]
    causal: list[list[bool]]
    """A layer without a router takes all."""
    train: list[list[bool]]


class RoutingReport(Frozen):
    """How a trained model routes its validation sample."""

    windows: int
    positions: int
    """Of each window."""
    vocab_size: int
    depth: int
    layers: list[LayerRouting]
    """The routed ones."""
    membership: Membership | None
    """Over all layers."""
    tokens: TokenRouting | None
    """None where no layer has decisions."""
    sample: RoutingSample | None


class Record(Frozen):
    """What became of one trial."""

    hash: str
    stage: Stage
    arm: str
    candidate: Candidate
    budget: Budget
    seed: int
    validation: Validation
    state: State
    reason: str | None = None
    plan: Plan | None = None
    scores: Scores | None = None


IDENTITY = ("arm", "budget", "seed", "validation")


def trial_hash(values: Mapping[str, Any], fingerprint: str, plugins: Iterable[str]) -> str:
    """Identity of what a job or a record says in plain data, as it was written: fields that come
    later must not rename what was trained before.

    `fingerprint` is that of the tokens, `plugins` the digests of plugin files.
    """
    identity: dict[str, Any] = {name: values[name] for name in IDENTITY}
    identity["candidate"] = {part: values["candidate"][part] for part in ("model", "optim")}
    identity["fingerprint"] = fingerprint
    if digests := sorted(set(plugins)):
        identity["plugins"] = digests
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


class Job(Frozen):
    """One training that an engine executes."""

    stage: Stage
    arm: str
    candidate: Candidate
    budget: Budget
    seed: int
    validation: Validation
    fingerprint: str
    """Of the tokens."""
    runtime: Runtime
    plan: Plan | Infeasible
    plugins: tuple[Plugin, ...] = ()
    """Files that are run before the model is built, in whatever process."""

    @property
    def hash(self) -> str:
        """Identity: arm, candidate, budget, seed, sample, tokens and the content of plugins.

        Where the trial ran does not count, nor where the corpus or a plugin lies.
        """
        values = self.model_dump(mode="json", include={*IDENTITY, "candidate"})
        return trial_hash(values, self.fingerprint, [plugin.digest for plugin in self.plugins])

    def record(
        self, state: State, *, reason: str | None = None, scores: Scores | None = None
    ) -> Record:
        """What became of this job."""
        return Record(
            hash=self.hash,
            stage=self.stage,
            arm=self.arm,
            candidate=self.candidate,
            budget=self.budget,
            seed=self.seed,
            validation=self.validation,
            state=state,
            reason=reason,
            plan=self.plan if isinstance(self.plan, Plan) else None,
            scores=scores,
        )


class Lease(Frozen):
    """Which worker has a trial on a storage."""

    host: str
    """Where `process` means one process: machine, boot and namespace."""
    process: int
    token: str
    """Tells apart what one process does one after the other."""
    beat: int
    """Counted up while the holder lives."""


class TrialConfig(BaseModel):
    """Of a job as a trial's folder keeps it: what its weights were made with."""

    model_config = ConfigDict(frozen=True)

    candidate: Candidate
    fingerprint: str | None = None
    """Of the tokens."""
    plugins: list[Plugin] = []


class CorpusFacts(Frozen):
    """Of the tokens that a study is trained and scored on."""

    name: str
    fingerprint: str
    train_tokens: int
    validation_tokens: int
    test_tokens: int
    bytes_per_token: float
    unigram_entropy: float
    """Nats per token of the validation part under train counts."""
    bigram_entropy: float


class Manifest(Frozen):
    """What a study was made with, and what of that its driver has noted since."""

    name: str
    seed: int
    arms: dict[str, str | None]
    """Arms in order; a control names the arm that it is the control of."""
    runtime: Runtime
    corpus: CorpusFacts
    code: str
    """Hash of the package's sources."""
    revision: str
    """Git revision, or `unknown`."""
    versions: dict[str, str]
    machine: dict[str, str]
    command: str
    engine: Literal["local", "ray"] | None = None
    """What executed the trials of the first run; None where that was not noted."""
    ledger: str | None = None
    """Where the ledger is, without credentials; None: `ledger.db` in the study directory."""
    ledger_remade: bool = False
    """The first one was lost: this one does not know all trials that were handed out."""
    explored: dict[str, int] = {}
    """Results that each cell of explore had when its search was over; by arm, budget and the
    trials that it was asked for."""
    mixed: list[str] = []
    """Other code, plugins or torch versions that this study was resumed with."""
    plugins: dict[str, str] = {}
    """Digest of each plugin file, by the name of its copy in `plugins/`."""
    packages: dict[str, str] = {}
    """Version and hash of the sources of each package whose components the space names."""
