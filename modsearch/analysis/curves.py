"""IsoFLOP curves: at one budget, loss against ln(parameters) is a parabola near its minimum.

Approach 2 of Hoffmann et al. 2022 (arXiv 2203.15556), with the guards that its use for a
comparison of architectures needs: only points near the minimum (a wide grid biases the vertex,
Czech et al. 2026, arXiv 2603.22339), no minimum at the edge of a ladder, no concave fit. A fit
that fails them is a `Refusal` with its reason, never a number.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

WINDOW = 2.5
"""Points within this factor in parameters of the lowest one enter a fit."""
MIN_POINTS = 3
MIN_SIZES = 4
FLAT = 1e-9
"""Curvature (nats per squared e-fold) below which a parabola has no minimum to speak of."""
LUCK = 2.0
"""Run-to-run deviations up to which a difference may be luck: 95 %."""


@dataclass(frozen=True)
class Point:
    """One measured trial on a ladder."""

    hash: str
    depth: int
    width: int
    params: int
    loss: float
    """Causal, nats per token."""
    forward_flops: float
    """Realised, per token."""


@dataclass(frozen=True)
class Fit:
    """A parabola through the points of one (arm, budget, depth)."""

    arm: str
    budget: float
    depth: int
    points: tuple[Point, ...]
    """The whole ladder."""
    params: tuple[int, ...]
    """Of the points that entered."""
    losses: tuple[float, ...]
    coefficients: tuple[float, float, float]
    """(p, q, r) of loss = p ln(N)^2 + q ln(N) + r."""
    minimum_params: float
    minimum_loss: float
    minimum_sd: float | None
    """Standard error of `minimum_loss`; None while no run-to-run deviation is known."""
    r2: float
    exact: bool
    """Three points: the parabola goes through all of them, and r2 says nothing."""
    nearest: Point
    """The measured size nearest to the vertex, in ln(parameters)."""

    def at(self, params: float) -> float:
        """The fitted loss at a size."""
        p, q, r = self.coefficients
        return p * math.log(params) ** 2 + q * math.log(params) + r


@dataclass(frozen=True)
class Refusal:
    """Why there is no fit for one (arm, budget, depth)."""

    arm: str
    budget: float
    depth: int
    points: tuple[Point, ...]
    reason: str
    lowest: Point
    lowest_sd: float | None
    """Run-to-run standard deviation of one trial."""


Curve = Fit | Refusal


def fit_points(arm: str, budget: float, depth: int, points: Sequence[Point]) -> Curve:
    """The parabola through those of a ladder that lie near its lowest, or why there is none."""
    lowest = lowest_of(points)
    near = [
        point
        for point in points
        if abs(math.log(point.params / lowest.params)) <= math.log(WINDOW) + 1e-9
    ]
    reason = _refuse_points(points, near, lowest)
    if reason is not None:
        return Refusal(arm, budget, depth, tuple(points), reason, lowest, None)
    x = np.log([point.params for point in near])
    y = np.array([point.loss for point in near])
    centre = float(x.mean())
    p, q, r = (float(c) for c in np.polyfit(x - centre, y, 2))
    if p <= FLAT:
        reason = "concave: the fitted parabola has no minimum"
    elif not x.min() <= centre - q / (2 * p) <= x.max():
        reason = "edge minimum: the vertex lies outside of the points"
    if reason is not None:
        return Refusal(arm, budget, depth, tuple(points), reason, lowest, None)
    vertex = centre - q / (2 * p)
    residual = y - np.polyval([p, q, r], x - centre)
    return Fit(
        arm=arm,
        budget=budget,
        depth=depth,
        points=tuple(points),
        params=tuple(point.params for point in near),
        losses=tuple(point.loss for point in near),
        coefficients=(p, q - 2 * p * centre, p * centre**2 - q * centre + r),
        minimum_params=math.exp(vertex),
        minimum_loss=r - q**2 / (4 * p),
        minimum_sd=None,
        r2=1 - float((residual**2).sum() / ((y - y.mean()) ** 2).sum()),
        exact=len(near) == MIN_POINTS,
        nearest=min(points, key=lambda point: (abs(math.log(point.params) - vertex), point.hash)),
    )


def _refuse_points(points: Sequence[Point], near: Sequence[Point], lowest: Point) -> str | None:
    sizes = sorted({point.params for point in points})
    if len(sizes) < MIN_SIZES:
        return f"too few sizes: {len(sizes)} on the ladder, {MIN_SIZES} are needed"
    if lowest.params in (sizes[0], sizes[-1]):
        side = "smallest" if lowest.params == sizes[0] else "largest"
        return f"edge minimum: the {side} size of the ladder is the lowest"
    num_near = len({point.params for point in near})
    if num_near < MIN_POINTS:
        return (
            f"too few points: {num_near} within a factor of {WINDOW} in parameters of the "
            f"lowest, {MIN_POINTS} are needed"
        )
    return None


def lowest_of(points: Sequence[Point]) -> Point:
    """The lowest size by its mean over seeds, so that one lucky seed does not choose it."""
    by_size: dict[int, list[float]] = defaultdict(list)
    for point in points:
        by_size[point.params].append(point.loss)
    best = min(by_size, key=lambda size: (sum(by_size[size]) / len(by_size[size]), size))
    return min(
        (point for point in points if point.params == best),
        key=lambda point: (point.loss, point.hash),
    )


def residuals(fit: Fit) -> tuple[float, int]:
    """The sum of their squares, and the degrees of freedom that it has."""
    squares = (
        (loss - fit.at(size)) ** 2 for size, loss in zip(fit.params, fit.losses, strict=True)
    )
    return sum(squares), len(fit.params) - MIN_POINTS


def pooled(parts: Iterable[tuple[float, int]]) -> float | None:
    """Square root of all squares over all degrees of freedom; None without any."""
    known = [(squares, freedom) for squares, freedom in parts if freedom > 0]
    if not known:
        return None
    return math.sqrt(sum(squares for squares, _ in known) / sum(count for _, count in known))
