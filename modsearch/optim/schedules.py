"""Learning rates after their warm-up, as shares of the peak."""

import math

from pydantic import Field

from modsearch.config.optim import OptimConfig
from modsearch.optim.contracts import Options, RateSchedule


class Cosine(RateSchedule):
    """Half a cosine from the peak to `final` (Loshchilov and Hutter 2017, arXiv 1608.03983)."""

    def __init__(self, options: Options, optim: OptimConfig) -> None:
        self.final = optim.final

    def share(self, progress: float) -> float:
        """Slow at both ends."""
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class Linear(RateSchedule):
    """A straight line from the peak to `final`; with `final: 0` to zero (Bergsma et al. 2025,
    arXiv 2502.15938)."""

    def __init__(self, options: Options, optim: OptimConfig) -> None:
        self.final = optim.final

    def share(self, progress: float) -> float:
        """The same each step less."""
        return self.final + (1 - self.final) * (1 - progress)


class Wsd(RateSchedule):
    """Warm-up, stable, decay: the peak until the last share of the steps (Hu et al. 2024, arXiv
    2404.06395), then down to `final` as 1 - sqrt: of the shapes of Haegele et al. 2024 (arXiv
    2405.18392) the one with the lowest loss, over a fifth of the steps as low as a cosine's."""

    class Config(Options):
        """Where the decay starts."""

        decay: float = Field(0.2, gt=0, le=1)
        """Share of all steps over which the learning rate falls to `final`."""

    def __init__(self, options: Config, optim: OptimConfig) -> None:
        self.final = optim.final
        self.decay = min(1.0, options.decay / (1 - optim.warmup))
        """Share of the steps after the warm-up."""

    def share(self, progress: float) -> float:
        """1, then a fall that is steep at first."""
        left = min(1.0, (1 - progress) / self.decay)
        return self.final + (1 - self.final) * (1 - math.sqrt(1 - left))
