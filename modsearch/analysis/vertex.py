"""The lowest loss of an arm by fresh seeds at neighbouring sizes: a curve, not a point.

At one size alone two arms would be compared where `measure` has put them by noisy single runs,
and that choice's error would stand in no interval: it does not shrink with seeds, so that the
share of false verdicts grows with them. Here the seeds themselves say where the minimum lies.
Shapes: arrays may have leading axes (many draws at once); the last one is the sizes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NEAR = 3.5
"""Points of `measure` within this factor in parameters of the lowest one say how curved it is."""
TRUST = 0.25
"""Weight of measure's curvature, over that of its own error: fresh seeds overrule it. With all of
its weight false verdicts rise to 8 % where the right branch is steep. Its variance is the inverse
of this weight, four times its own error: the rest stands for curves that are no parabolas."""


@dataclass(frozen=True)
class Curvature:
    """What `measure` knows of a curve before fresh seeds do."""

    value: float | Array
    """p of loss = p ln(N)^2 + ..., nats; at least 0. One for each draw, or for all."""
    weight: float
    """As so many runs; 0: nothing is known."""


NO_CURVATURE = Curvature(0.0, 0.0)


@dataclass(frozen=True)
class Lowest:
    """The vertex of a parabola in ln(parameters), kept between the outer sizes."""

    place: Array
    """ln(parameters)."""
    loss: Array
    factors: Array
    """d loss / d mean of each size (..., S)."""
    prior: Array
    """Variance that the prior brings to `loss`, over that of one run."""

    def variance(self, of_means: Array, of_run: Array | float) -> Array:
        """Of `loss`, by the delta method, where those of the means of the sizes (..., S) and of
        one run are given. At the vertex the derivative to its place vanishes, and at a bound it
        is fixed, so that the coefficients alone count."""
        found: Array = (self.factors**2 * of_means).sum(-1) + self.prior * of_run
        return found


def measured_curvature(params: Sequence[float], losses: Sequence[float]) -> Curvature:
    """The curvature of the points of a ladder that are near its lowest.

    None is known of fewer than four points: three leave nothing to judge it by.
    """
    x, y = np.log(params), np.asarray(losses)
    near = np.abs(x - x[np.argmin(y)]) <= math.log(NEAR) + 1e-9
    x, y = x[near], y[near]
    if len(np.unique(x)) < 4:
        return NO_CURVATURE
    design = np.vander(x - x.mean(), 3)
    inverse = np.linalg.inv(design.T @ design)
    p = float((inverse @ design.T @ y)[0])
    return Curvature(max(0.0, p), TRUST / float(inverse[0, 0]))


def lowest(
    params: Sequence[float], means: npt.ArrayLike, counts: npt.ArrayLike, prior: Curvature
) -> Lowest:
    """The vertex of the parabola through the means of sizes, each with so many runs.

    One size is its own vertex. Of two sizes, and where the parabola has no minimum, the lower
    end stands.

    Args:
        params: of the sizes (S), ascending.
        means: losses (..., S).
        counts: runs behind each mean (S).
        prior: one more row of the fit: the curvature is as measured.
    """
    y = np.asarray(means, dtype=float)
    n = np.asarray(counts, dtype=float)
    centre = float(np.mean(np.log(params)))
    x = np.log(params) - centre
    if len(x) < 3:
        best = np.argmin(y, axis=-1)
        factors = np.eye(len(x))[best]
        return Lowest(x[best] + centre, y.min(axis=-1), factors, np.zeros(y.shape[:-1]))
    design = np.vander(x, 3)
    information = (design.T * n) @ design
    information[0, 0] += prior.weight
    inverse = np.linalg.inv(information)
    by_mean = inverse @ (design.T * n)  # (3, S): coefficients by means
    offset = np.multiply.outer(prior.value, inverse[:, 0] * prior.weight)
    p, q, r = np.moveaxis(y @ by_mean.T + offset, -1, 0)
    ends = x[[0, -1]]
    at_ends = p[..., None] * ends**2 + q[..., None] * ends + r[..., None]
    lower_end = ends[np.argmin(at_ends, axis=-1)]
    bowl = p > 1e-12
    place = np.where(bowl, np.clip(-q / (2 * np.where(bowl, p, 1.0)), *ends), lower_end)
    gradient = np.stack([place**2, place, np.ones_like(place)], axis=-1)
    by_prior = (gradient @ inverse[:, 0]) ** 2 * prior.weight
    return Lowest(place + centre, p * place**2 + q * place + r, gradient @ by_mean, by_prior)
