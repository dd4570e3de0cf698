"""How fast a study's winners train and decode on one machine: what `speeds.json` holds.

Seconds are wall-clock, one value for each round, and all arms have their turn in every round: a
ratio of two arms is taken round by round.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modsearch.config.base import Frozen
from modsearch.config.units import Unit

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Decoded(Frozen):
    """Decoding with a key-value cache at one batch size, with the trained weights."""

    batch_size: int
    context: int
    """Tokens of a sequence before the first one that is timed."""
    tokens: int
    """Of a sequence that are timed, one after the other, in each pass."""
    seconds: list[Seconds]
    """Of one token of every sequence, or of one byte (`unit`), the mean of a turn; by round."""
    cache_bytes: float
    """Of the keys and values that a sequence holds at the end, mean over sequences."""


class Timed(Frozen):
    """One arm at one budget: the size that stands for it."""

    arm: str
    budget: float
    trial: str
    """Hash of the trial whose configuration, and weights where they are kept, were run."""
    depth: int
    width: int
    parameter_bytes: int
    """Of the weights as they are held."""
    flops_per_step: int = Field(gt=0)
    """Training FLOPs of what was timed, after any warm-up of capacities."""
    step_seconds: list[Seconds]
    """Of a training step at the study's batch, the mean of a turn; by round."""
    decoded: list[Decoded] = []
    missing: str | None = None
    """Why nothing was decoded."""
    peak_memory: int | None = None
    """Bytes of a training step, weights and moments included; None where the device does not
    tell."""


class Speeds(Frozen):
    """All arms on one machine."""

    study: str
    device: Literal["cpu", "cuda"]
    machine: str
    """Name of the processor or of the card."""
    precision: Literal["fp32", "bf16"]
    """Of training's matrix products; decoding is in fp32."""
    threads: int
    cores: int
    """Of the machine."""
    torch: str
    rounds: int = Field(gt=0)
    seconds: float
    """That a turn was meant to take."""
    load_before: float | None
    """Load average over a minute when it began, None where the system has none: others' work."""
    load_after: float | None
    """The same at the end, with what was measured itself."""
    arms: list[Timed]
    unit: Unit = "token"
    """What decoding is told for each: `byte` where arms have several tokenizers."""
    same_text: bool = True
    """Whether it was timed on the study's own tokens; routers may take more or fewer of others."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Ratios are taken round by round."""
        for each in self.arms:
            for seconds in (each.step_seconds, *(row.seconds for row in each.decoded)):
                if len(seconds) != self.rounds:
                    raise ValueError(
                        f"arm {each.arm} has seconds of {len(seconds)} rounds in place of "
                        f"{self.rounds}"
                    )
        return self
