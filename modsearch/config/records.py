"""A trial: what is trained, with what budget, and what became of it.

Losses are in nats per token, or per byte where a study has several tokenizers (`unit`), FLOPs are
plain counts, seconds are wall-clock.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from modsearch.config.bars import Bars
from modsearch.config.base import MOST_FLOPS, Frozen, Stated
from modsearch.config.data import DataConfig, Validation
from modsearch.config.efficiency import Efficiency
from modsearch.config.evaluation import Price, Ranked, Scoring, as_cost
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig, trained_as
from modsearch.config.runtime import Plugin, Runtime
from modsearch.config.units import Unit


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
    routed: bool | None = None
    """Whether some tokens skip a part of the model; None where that was not noted."""
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
    STOPPED = "stopped"
    """Before its budget was spent: explore had better ones."""
    FAILED = "failed"


TRAINING_PHASES = ("data", "forward", "backward", "optimizer")
PHASES = (*TRAINING_PHASES, "evaluation")
"""What a trial's time goes into."""


class Scores(Frozen):
    """What a finished trial measured on its sample."""

    causal_loss: float
    """The objective: no decision looks at a later token."""
    train_mode_loss: float
    """Routing as in training; for top-k it sees the future and never ranks anything. The causal
    loss and the difference of the modes where both are known: in at most 256 evenly spaced
    windows, from which the other values of routing come, too."""
    bits_per_byte: float
    """Of the causal loss."""
    final_train_loss: float
    """Mean over the last tenth of the steps."""
    realised_capacity: float | None
    """Mean share of tokens in routed blocks under causal routing; None without routed blocks."""
    realised_forward_flops: float
    """Forward FLOPs per token under causal routing, on the sample; per byte as losses are."""
    agreement: float | None
    """Share of (token, routed block) decisions on which both modes agree."""
    seconds: float
    """Training and validation."""
    step_seconds: float
    """Median of a training step."""
    peak_memory: int | None
    """Bytes that were held at once in this trial, whatever its process did before: of the device
    on CUDA, of the whole process on CPU; the largest of several ranks. None where the system does
    not tell a trial's from its process's."""
    block_losses: list[float] | None = None
    """Mean causal loss of each of at most 64 consecutive shares of the sample, in order, all of
    the same number of windows or of one more: for the error of a finite sample. None where that
    was not kept."""
    micro_batch: int | None = None
    """Sequences in one pass, where the memory held fewer than the study asked for."""
    phase_seconds: dict[str, float] | None = None
    """Of the training's last process, by phase of `PHASES`."""
    efficiency: Efficiency | None = None
    """Tokens and FLOPs a second; None where that was not noted."""

    @property
    def time_shares(self) -> dict[str, float] | None:
        """Of the time in `PHASES`, each phase's; None where that was not noted."""
        if not self.phase_seconds:
            return None
        seconds = {name: self.phase_seconds.get(name, 0.0) for name in PHASES}
        total = sum(seconds.values())
        return {name: value / total if total else 0.0 for name, value in seconds.items()}


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
    unit: Unit = "token"
    """Of the scores: losses and forward FLOPs are for each."""
    objective: Ranked | None = None
    """What its cell is searched by, where that is a metric of a suite."""
    reused_from: str | None = None
    """The study that trained it, where that is not the one that it stands in."""
    prices: dict[Price, float] | None = None
    """What its cell is searched by beside that, where explore has several objectives."""

    spent: int | None = None
    """Training FLOPs of a trial that was stopped; None of all others."""

    @property
    def charge(self) -> float:
        """Share of its budget that a trial has spent: all of it, unless it was stopped or never
        trained."""
        if self.spent is not None and self.plan is not None:
            return self.spent / self.plan.flops
        return 0.0 if self.state is State.INFEASIBLE else 1.0

    def costs(self, prices: Iterable[Price]) -> tuple[float, ...]:
        """What a search of several objectives makes small: `cost`, then each price."""
        known = self.prices or {}
        return (self.cost, *(as_cost(price, known[price]) for price in prices))

    @property
    def cost(self) -> float:
        """What explore makes small: the loss of a finished trial, unless it has an objective."""
        if self.objective is not None:
            return self.objective.cost
        assert self.scores is not None
        return self.scores.causal_loss


IDENTITY = ("arm", "budget", "seed", "validation")


def trial_hash(values: Mapping[str, Any], fingerprint: str, plugins: Iterable[str]) -> str:
    """Identity of what a job or a record says in plain data, as it was written: fields that come
    later must not rename what was trained before.

    `fingerprint` is that of the tokens, `plugins` the digests of plugin files.
    """
    identity: dict[str, Any] = {name: values[name] for name in IDENTITY}
    candidate = values["candidate"]
    identity["candidate"] = {
        "model": candidate["model"],
        "optim": trained_as(candidate["optim"]),
    }
    identity["fingerprint"] = fingerprint
    if values.get("unit", "token") != "token":  # the same training has other numbers
        identity["unit"] = values["unit"]
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
    """Files that are run before the model is built, in whatever process: those that the candidate
    has a component of."""
    scoring: Scoring | None = None
    """What the trained model is scored on; no part of what the trial is."""
    unit: Unit = "token"
    """What scores are for each."""
    stopping: Bars | None = None
    """By what the training may be stopped; no part of what the trial is."""
    prices: tuple[Price, ...] = ()
    """What the trained model's use costs is measured, too; no part of what the trial is."""
    micro_batch: int | None = None
    """Sequences in one pass, where the memory held no more; no part of what the trial is."""

    @property
    def hash(self) -> str:
        """Identity: arm, candidate, budget, seed, sample, tokens and the content of plugins.

        Where the trial ran does not count, nor where the corpus or a plugin lies.
        """
        values = self.model_dump(mode="json", include={*IDENTITY, "candidate", "unit"})
        return trial_hash(values, self.fingerprint, [plugin.digest for plugin in self.plugins])

    @property
    def passing(self) -> Runtime:
        """Its runtime, in passes that the memory holds."""
        if self.micro_batch is None:
            return self.runtime
        return self.runtime.model_copy(update={"micro_batch": self.micro_batch})

    @property
    def rows(self) -> int:
        """Sequences in one pass of one rank."""
        whole = self.candidate.optim.batch_size // self.runtime.ranks
        return min(self.passing.micro_batch or whole, whole)

    def halved(self) -> "Job":
        """The same training, to the same loss, with half as many sequences in a pass."""
        assert self.rows > 1, "a pass has one sequence at least"
        return self.model_copy(update={"micro_batch": (self.rows + 1) // 2})

    @property
    def training_seed(self) -> int:
        """Of what routers draw in the first step; each later step has the next one."""
        return self.seed * 1_000_003

    @property
    def seconds(self) -> float:
        """A rough guess, as planned; none for what can't be trained."""
        return self.plan.seconds if isinstance(self.plan, Plan) else 0.0

    def record(
        self,
        state: State,
        *,
        reason: str | None = None,
        scores: Scores | None = None,
        spent: int | None = None,
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
            unit=self.unit,
            spent=spent,
        )


class TrialConfig(BaseModel):
    """Of a job as a trial's folder keeps it: what its weights were made with."""

    model_config = ConfigDict(frozen=True)

    candidate: Candidate
    budget: Budget | None = None
    seed: int | None = None
    fingerprint: str | None = None
    """Of the tokens."""
    plugins: list[Plugin] = []
