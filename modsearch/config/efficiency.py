"""How well a training used its device: a part of a trial's record."""

from typing import Literal

from pydantic import Field

from modsearch.config.base import Frozen


class Peak(Frozen):
    """What a device can do at the most."""

    flops: float = Field(gt=0, allow_inf_nan=False)
    """A second, of one rank's device, in the precision of the training's matrix products."""
    source: Literal["data sheet", "measured"]
    """`measured`: a large matrix product on the trial's own threads, in its process, where other
    programs may run beside it."""
    device: str
    """The card's name, or the number of the processor's threads."""


class Efficiency(Frozen):
    """In the typical training step: the median that `step_seconds` is."""

    tokens_per_second: float
    flops_per_second: float
    """By the exact ledger, of all ranks together."""
    flops_per_second_6nd: float
    """As if a token cost 6 FLOPs for each parameter (Kaplan et al. 2020, arXiv 2001.08361): too
    many where a token skips a part of the model."""
    peak: Peak | None = None
    """Of one rank; None where it is not known."""
    mfu: float | None = None
    """Model FLOPs utilisation (Chowdhery et al. 2022, arXiv 2204.02311): `flops_per_second` over
    the peak of all ranks; None without a peak."""
    mfu_6nd: float | None = None
    """The same of `flops_per_second_6nd`."""
