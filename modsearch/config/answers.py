"""What programs are given: the answers of verbs, as plain data."""

from typing import Any

from modsearch.config.base import Frozen
from modsearch.config.data import CorpusFacts
from modsearch.config.records import Candidate
from modsearch.config.units import Unit


class Estimate(Frozen):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Outcome(Frozen):
    """What a study says, as one JSON object."""

    name: str
    root: str
    """The study directory."""
    verdict: str
    """better, worse, inconclusive, untrained or none: routed against dense."""
    sentence: str
    budget: float | None
    """Training FLOPs at which arms were compared."""
    difference: float | None
    """Nats by which the routed arm's loss is lower."""
    low: float | None
    """95 % interval of the difference."""
    high: float | None
    multiplier: float | None
    """How many times the FLOPs the dense arm needs for the routed arm's loss."""
    winner: str | None
    """Hash of a trial of the confirmed candidate with the lowest mean loss."""
    trials: dict[str, int]
    """By how they ended."""
    report: str | None
    """The report's page."""
    warnings: list[str]
    """What of the study does not count or can't be read."""
    unit: Unit
    """What nats are counted over: `byte` where the study has several tokenizers."""


class FrontPoint(Frozen):
    """A candidate of explore by all of its objectives."""

    arm: str
    hash: str
    """Of one of its trials."""
    objective: float
    """The loss, or the metric of a suite: the first objective."""
    prices: dict[str, float]
    """The others by name."""
    on_front: bool
    """Whether no other candidate is as good in all of them, and better in one."""
    share: float | None
    """Of draws with other seeds' losses in which it is; None where their noise is not known."""
    seeds: int
    candidate: Candidate


class Frontier(Frozen):
    """All candidates of explore at one budget, those on the front first."""

    budget: float
    sd: float | None
    """Of one trial's first objective over seeds."""
    basis: str
    """Where that comes from."""
    points: list[FrontPoint]


class Packed(Frozen):
    """A study's records in one file."""

    records: str
    """The file."""
    bytes: int
    """Its size."""
    trials: int
    """How many results it holds: all that count."""
    warnings: list[str]
    """What of the study is not in it, and why."""


class Prepared(Frozen):
    """A corpus as token shards."""

    corpus: CorpusFacts
    folder: str
    """In the cache, shared by all studies of this text."""
    bytes: int
    """Of the shards."""
    others: list["Prepared"] = []
    """The same text as the tokens of a space's further tokenizers."""


class Exported(Frozen):
    """A checkpoint as a folder of `transformers`."""

    folder: str
    architecture: str
    """`LlamaForCausalLM`, or `ModsearchForCausalLM`: the folder brings its code then."""
    trust_remote_code: bool
    """Whether `transformers` must be told to run that code."""
    params: int
    vocab_size: int
    seq_len: int
    tokenizer: str
    files: dict[str, int]
    """Bytes of each."""


class Evaluation(Frozen):
    """lm-eval's results of one suite."""

    suite: str
    corpus: str
    """What its tasks draw from."""
    results: dict[str, dict[str, dict[str, Any]]]
    """Metrics by model (a trial's hash, or a folder) and task, as lm-eval names them."""
    averages: dict[str, dict[str, Estimate]] = {}
    """By model and metric: over the suite's tasks, with 95 % intervals over documents."""
    file: str | None = None
    """Where results are kept, of a model that stands beside a study."""
    sides: list["Side"] = []
    """What stands in a table of scores: the model, or each confirmed arm with its runs."""
    tasks: list["ScoredTask"] = []
    """Its rows: averages, and of each task the metric that leads and its accuracy."""
    scores: list["Score"] = []
    """Its cells."""
    notes: list[str] = []


class LeftOutBudget(Frozen):
    """A measured budget, foretold from the arm's other ones."""

    budget: float
    loss: Estimate
    """Foretold."""
    fitted_loss: float
    """Of the budget's own curve."""
    error: float
    """Foretold minus fitted, nats."""
    params: Estimate
    fitted_params: float


class SurfaceAnswer(Frozen):
    """L = E + A / N^alpha + B / D^beta through an arm's trials of `measure`."""

    counts: str
    """What N is: all parameters, or those without embeddings."""
    trials: int
    """That entered."""
    set_aside: int
    """Too far off."""
    irreducible: Estimate
    """E."""
    alpha: Estimate
    beta: Estimate
    params_exponent: Estimate
    """a = beta / (alpha + beta) of N* ~ C^a."""
    tokens_exponent: Estimate
    """b = alpha / (alpha + beta) of D* ~ C^b."""
    vertex_bias: dict[str, float]
    """By budget: the vertex that the study's own grid would have on this surface, over N*."""


class ArmPrediction(Frozen):
    """What one arm is foretold at a budget."""

    arm: str
    routed: bool
    params: Estimate
    """N*."""
    depth: int
    """That of the arm's optimum at its largest fitted budget."""
    width: int
    """The nearest to N* of that depth, in steps of the ladder."""
    tokens: float
    """That the budget pays at N*."""
    loss: Estimate
    """At N*, nats, over seeds."""
    budgets: list[float]
    """Those with a fitted minimum."""
    factor: float
    """The budget over the largest of them."""
    extrapolated: bool
    """Whether the budget lies outside of them."""
    left_out: list[LeftOutBudget]
    """Each of them foretold from the others; none where there are two."""
    largest_error: float | None
    """The largest of these errors in size, nats."""
    params_exponent: Estimate
    """a of N* ~ C^a through the vertices."""
    surfaces: list[SurfaceAnswer]
    """Empty with too few trials, or with two budgets."""
    notes: list[str]


class Predictions(Frozen):
    """What a study's laws foretell of a budget."""

    study: str
    flops: float
    arms: list[ArmPrediction]
    without: dict[str, str]
    """Measured arms that nothing is foretold of, and why."""
    unit: Unit
    """What nats are counted over: `byte` where the study has several tokenizers."""


class Generation(Frozen):
    """Sampled texts, and what they took."""

    texts: list[str]
    """Prompts with what follows; bytes that are no UTF-8 are replaced."""
    tokens: list[list[int]]
    """New tokens of each text."""
    flops: list[int]
    """Forward FLOPs of each text, prompt included."""
    cache_bytes: int
    """Of keys and values at the end, in all layers."""
    layer_rows: list[list[int]]
    """Rows in each layer's cache, of each text."""
    beyond: list[int]
    """New tokens of each text at positions that training never had: expect them to be worse."""
    seq_len: int
    """Positions that the model was trained on."""


class ScoredTask(Frozen):
    """A task that models are compared on, or an average over tasks."""

    task: str
    metric: str
    higher_is_better: bool
    documents: int
    chance: float | None
    """What guessing scores by this metric; None where that has no meaning, as in bits per byte."""
    note: str | None


class Score(Frozen):
    """What one side scored on a task, mean over its runs."""

    side: str
    task: str
    metric: str
    value: float
    low: float | None
    high: float | None
    """95 % interval over documents, and over seeds where there are several."""
    se: float | None = None
    """Standard error, over the same; None where it is not known."""


OF_WEIGHTS = " (these weights alone)"
"""Behind a verdict that is about single weights, and not about what they are a seed of."""


class ScoreDifference(Frozen):
    """How much better one side is than the first, on the same documents."""

    side: str
    against: str
    task: str
    metric: str
    value: float
    """Positive where the side is better, whether higher is better or not."""
    low: float | None
    high: float | None
    """Simultaneous (Bonferroni): all of the table hold with 95 %. None of a single document."""
    p: float | None
    """Adjusted for the number of tasks and sides (Holm)."""
    verdict: str
    """Where p is below 0.05 better or worse, with ` (these weights alone)` behind it where a side
    is a single run of ours, or both are single models; else inconclusive."""
    over: str
    """What the interval is over: `seeds and documents`, or `documents` where both are one run."""
    weights_alone: bool = False
    """Whether this is about single weights alone, and tells nothing of what they are a seed of."""


class Side(Frozen):
    """What is compared: one model, or several seeds of it."""

    name: str
    runs: int
    """That were used."""
    sizes: int = 1
    """Of these runs, as confirm spreads them over several."""


class ScoreComparison(Frozen):
    """Models on the same documents, each against the first."""

    suite: str
    sides: list[Side]
    tasks: list[ScoredTask]
    scores: list[Score]
    differences: list[ScoreDifference]
    averages: list[ScoreDifference]
    """Of averages over tasks: adjusted for the number of sides alone."""
    adjusted_for: int
    """Comparisons that the differences are adjusted for."""
    notes: list[str]
    files: list[str] = []
    """Figures that were written."""
