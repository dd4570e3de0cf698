"""What programs are given: the answers of verbs, as plain data."""

from typing import Any

from modsearch.config.base import Frozen


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
    """Nats per token by which the routed arm's loss is lower."""
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


class Evaluation(Frozen):
    """lm-eval's results of one suite."""

    suite: str
    corpus: str
    """What its tasks draw from."""
    results: dict[str, dict[str, dict[str, Any]]]
    """Metrics by model (a trial's hash, or a folder) and task, as lm-eval names them."""


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
