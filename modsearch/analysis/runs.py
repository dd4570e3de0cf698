"""Runs that stand for one side of a comparison: what each counts for, and how their mean scatters.

Confirm spreads the runs of an arm over neighbouring sizes. A mean over all of them is taken with
the weights by which their losses make the arm's lowest one, so that it is of the size where that
lies. Sizes are chosen, and not drawn: what differs between them is no scatter of seeds, which is
that of runs of one size, the same for all sizes.

Shapes: S runs; an array of values may have further axes behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """One at least."""

    shares: tuple[float, ...]
    """What each counts for; they add up to 1."""
    sizes: tuple[int, ...]
    """Which have the same size: a number for each."""

    @classmethod
    def alike(cls, num: int) -> "Runs":
        """Of one size, each as good as any other."""
        return cls((1 / num,) * num, (0,) * num)

    @property
    def num_sizes(self) -> int:
        """How many there are."""
        return len(set(self.sizes))

    @property
    def _strata(self) -> tuple[int, ...]:
        """Runs whose scatter is that of seeds: of one size, or all of them where no size has two,
        so that what differs between sizes is in it, too."""
        return self.sizes if self.num_sizes < len(self.sizes) else (0,) * len(self.sizes)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the scatter; 0 of a single run."""
        return len(self.sizes) - len(set(self._strata))

    def mean(self, values: Sequence[float] | Array) -> Array:
        """Over runs, of what may have further axes."""
        found: Array = np.tensordot(self.shares, np.asarray(values, float), axes=1)
        return found

    def rest(self, values: Sequence[float] | Array) -> Array:
        """What is left of values where the mean of each size is taken off."""
        rest, strata = np.array(values, float), np.array(self._strata)
        for each in set(self._strata):
            rest[strata == each] -= rest[strata == each].mean(0)
        return rest

    def spread(self, values: Sequence[float] | Array) -> Array:
        """Variance of a single run over other seeds; there must be degrees of freedom."""
        found: Array = (self.rest(values) ** 2).sum(0) / self.freedom
        return found

    @property
    def factor(self) -> float:
        """Variance of the mean over that of a single run."""
        return float(np.sum(np.square(self.shares)))
