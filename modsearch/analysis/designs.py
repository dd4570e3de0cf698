"""What one more trial of a size tells of a curve's minimum, by the fit that a report makes of it.

Sizes are logarithms of parameters, from any origin. Legend: N trials of a fit.
"""

import math
from collections.abc import Sequence

import numpy as np

from modsearch.analysis.noise import Noise


def half_width(sizes_N: Sequence[float], vertex: float, noise: Noise) -> float:
    """Half of the 95 % interval of the loss at the vertex of a parabola through such trials, in
    nats: the loss's derivative to the place is zero there, so that the parabola's error is all.
    Infinite for fewer than three sizes."""
    if len(set(sizes_N)) < 3:
        return math.inf
    design = np.vander(np.array(sizes_N) - vertex, 3)
    return float(noise.quantile * noise.sd * math.sqrt(np.linalg.inv(design.T @ design)[2, 2]))


def most_telling(sizes_N: Sequence[float], vertex: float, choices: Sequence[float]) -> int | None:
    """Which of some sizes makes the interval of the minimum's loss narrowest; None of none."""
    unit = Noise(1.0, math.inf)
    after = [half_width([*sizes_N, each], vertex, unit) for each in choices]
    return min(range(len(after)), key=lambda place: (after[place], place), default=None)
