"""IsoFLOP curves: at one budget, loss against ln(parameters) is a parabola near its minimum.

Approach 2 of Hoffmann et al. 2022 (arXiv 2203.15556), with the guards that its use for a
comparison of architectures needs: only points near the minimum (a wide grid biases the vertex,
Czech et al. 2026, arXiv 2603.22339), no minimum at the edge of a ladder, no concave fit. A fit
that fails them is a `Refusal` with its reason, never a number. A single trial far off the others
does not decide: it is set aside, and the fit says so.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import numpy.typing as npt

from modsearch.analysis.noise import NORMAL, Noise, moderated, quantile

WINDOW = 2.5
"""Points within this factor in parameters of the lowest one enter a fit."""
MIN_POINTS = 3
MIN_SIZES = 4
FLAT = 1e-9
"""Curvature (nats per squared e-fold) below which a parabola has no minimum to speak of."""
LUCK = 2.0
"""Run-to-run deviations up to which a difference may be luck: 95 %."""
MIN_TO_DOUBT = 5
"""Points that a fit needs before one of them can be far off the others."""
FAR_OFF = 0.01
"""Share of sound curves that may lose a point for being far off."""
Array = npt.NDArray[np.float64]


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
    r2: float
    exact: bool
    """Three points: the parabola goes through all of them, and r2 says nothing."""
    nearest: Point
    """The measured size nearest to the vertex, in ln(parameters)."""
    set_aside: tuple[Point, ...] = ()
    """Trials so far off the others that they did not enter."""
    marks: tuple[str, ...] = ()
    """What a reader should know of how it was fitted."""
    minimum_se: float | None = None
    """Standard error of `minimum_loss`; None, as the ends, before `with_noise`."""
    minimum_low: float | None = None
    minimum_high: float | None = None
    """95 % interval of the loss at the vertex."""
    minimum_place_se: float | None = None
    """Standard error of ln(`minimum_params`), by the delta method."""
    minimum_params_low: float | None = None
    minimum_params_high: float | None = None
    """95 % interval of the vertex; it ends where the ladder does, if nothing else bounds it."""

    def regret(self, params: float) -> float:
        """Nats by which the minimum may lie lower than the loss of a size, 95 % upper limit:
        p (|ln N - ln N*| + 1.96 se)^2."""
        away = abs(math.log(params / self.minimum_params))
        return self.coefficients[0] * (away + NORMAL * (self.minimum_place_se or 0.0)) ** 2

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
    """The size with the lowest mean over seeds; its loss is that mean."""
    set_aside: tuple[Point, ...] = ()
    """Trials so far off the others that they did not count."""
    lowest_sd: float | None = None
    """Standard error of the lowest size's loss, by the run-to-run deviation."""


Curve = Fit | Refusal


def fit_points(arm: str, budget: float, depth: int, points: Sequence[Point]) -> Curve:
    """The parabola through those of a ladder that lie near its lowest, or why there is none.

    Of five points or more, one may be set aside: where it lies so far off the parabola through the
    others that this happens to a sound curve in one of a hundred.
    """
    aside: list[Point] = []
    while True:
        left = [point for point in points if point not in aside]
        near, edge, reason = _near(left)
        far = None
        if not reason and len(aside) < len(points) // MIN_TO_DOUBT:
            far = _far_off(near)
        if far is None:
            break
        aside.append(far)
    coefficients, centre = _parabola(near) if not reason else ((0.0, 0.0, 0.0), 0.0)
    reason = reason or _refuse_parabola(coefficients, centre, near, edge)
    if reason:
        lowest = lowest_of(left)
        return Refusal(arm, budget, depth, tuple(points), reason, lowest, tuple(aside))
    p, q, r = coefficients
    vertex = centre - q / (2 * p)
    losses = np.array([point.loss for point in near])
    x = np.log([point.params for point in near]) - centre
    residual = losses - np.polyval(coefficients, x)
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
        r2=1 - float((residual**2).sum() / ((losses - losses.mean()) ** 2).sum()),
        exact=len(near) == MIN_POINTS,
        nearest=min(left, key=lambda point: (abs(math.log(point.params) - vertex), point.hash)),
        set_aside=tuple(aside),
        marks=tuple(_fit_marks(aside, edge)),
    )


def with_noise(curve: Curve, noise: Noise) -> Curve:
    """The curve with intervals, by the run-to-run deviation of one trial.

    That of the loss: at the vertex the derivative to its place vanishes, so that the error is that
    of the parabola there. That of the vertex is Fieller's, all places at which the slope of the
    parabola can't be told from zero: a vertex plus or minus its standard error covers 89 %.
    """
    if isinstance(curve, Refusal):
        runs = sum(point.params == curve.lowest.params for point in kept(curve))
        return replace(curve, lowest_sd=noise.sd / math.sqrt(runs))
    x = np.log(curve.params)
    centre = float(x.mean())
    design = np.vander(x - centre, 3)
    covariance = np.asarray(noise.sd**2 * np.linalg.inv(design.T @ design), dtype=np.float64)
    at = np.vander([math.log(curve.minimum_params) - centre], 3)[0]
    se = math.sqrt(float(at @ covariance @ at))
    ladder = np.log([point.params for point in curve.points]) - centre
    ends = (float(ladder.min()), float(ladder.max()))
    p, q = _centred(curve, centre)
    low, high = _where_flat((p, q), covariance, noise.quantile, ends)
    to_vertex = np.array([q / (2 * p**2), -1 / (2 * p), 0.0])
    return replace(
        curve,
        minimum_place_se=math.sqrt(float(to_vertex @ covariance @ to_vertex)),
        minimum_se=se,
        minimum_low=curve.minimum_loss - noise.quantile * se,
        minimum_high=curve.minimum_loss + noise.quantile * se,
        minimum_params_low=math.exp(centre + low),
        minimum_params_high=math.exp(centre + high),
    )


def kept(curve: Curve) -> list[Point]:
    """The ladder without what was set aside."""
    return [point for point in curve.points if point not in curve.set_aside]


def _centred(fit: Fit, centre: float) -> tuple[float, float]:
    """(p, q) of the parabola in ln(N) - centre."""
    p, q, _ = fit.coefficients
    return p, q + 2 * p * centre


def _where_flat(
    parabola: tuple[float, float], covariance: Array, t: float, ends: tuple[float, float]
) -> tuple[float, float]:
    """The first and the last place between `ends` at which the slope 2 p x + q may be zero:
    (2 p x + q)^2 <= t^2 var(2 p x + q), a quadratic inequality in x."""
    p, q = parabola
    vertex = -q / (2 * p)
    a = 4 * p**2 - 4 * t**2 * covariance[0, 0]
    b = 2 * p * q - 2 * t**2 * covariance[0, 1]
    c = q**2 - t**2 * covariance[1, 1]
    inside = b**2 - a * c
    if inside < 0:  # nowhere told from zero: a vertex always has a slope of zero
        return ends
    roots = sorted((-b + sign * math.sqrt(inside)) / a for sign in (-1, 1)) if a else [-c / b / 2]
    # A slope is told from zero on the outer side of a root; where the curvature is not told from
    # zero both roots lie on one side of the vertex, and the other side has no bound.
    low = max((root for root in roots if root <= vertex), default=ends[0])
    high = min((root for root in roots if root >= vertex), default=ends[1])
    return max(low, ends[0]), min(high, ends[1])


def _near(points: Sequence[Point]) -> tuple[list[Point], Point | None, str]:
    """The points around the lowest, the lowest where it is an end of the ladder that noise may
    have made so, and why there is no fit."""
    centre = lowest_of(points)
    edge: Point | None = None
    if reason := _refuse_sizes(points):
        return [], None, reason
    if reason := _edge_of(points):
        edge = centre
        others = [point for point in points if point.params != edge.params]
        if _refuse_sizes(others) or _edge_of(others):
            return [], edge, reason
        centre = lowest_of(others)
    near = [point for point in points if _is_near(point, centre)]
    sizes = {point.params for point in near}
    if edge is not None and (edge.params not in sizes or len(sizes) < MIN_TO_DOUBT):
        return [], edge, reason or ""
    if len(sizes) < MIN_POINTS:
        return [], edge, (
            f"too few points: {len(sizes)} within a factor of {WINDOW} in parameters of the "
            f"lowest, {MIN_POINTS} are needed"
        )  # fmt: skip
    return near, edge, ""


def _parabola(near: Sequence[Point]) -> tuple[tuple[float, float, float], float]:
    """Least squares (p, q, r) in ln(N) - centre, and the centre."""
    x = np.log([point.params for point in near])
    centre = float(x.mean())
    p, q, r = (float(c) for c in np.polyfit(x - centre, [point.loss for point in near], 2))
    return (p, q, r), centre


def _refuse_parabola(
    coefficients: tuple[float, float, float],
    centre: float,
    near: Sequence[Point],
    edge: Point | None,
) -> str:
    """Why a parabola has no minimum among the points; those of the edge are no neighbours."""
    p, q, _ = coefficients
    if p <= FLAT:
        return "concave: the fitted parabola has no minimum"
    inner = [
        math.log(point.params) for point in near if edge is None or point.params != edge.params
    ]
    if not min(inner) <= centre - q / (2 * p) <= max(inner):
        return "edge minimum: the vertex lies outside of the points"
    return ""


def _fit_marks(aside: Sequence[Point], edge: Point | None) -> list[str]:
    marks = []
    if aside:
        names = ", ".join(f"{point.loss:.4f} at {point.params:,}" for point in aside)
        marks.append(f"set aside, far off the parabola through the others: {names} parameters")
    if edge is not None:
        marks.append("the lowest size is at the ladder's edge, by less than noise explains")
    return marks


def _refuse_sizes(points: Sequence[Point]) -> str | None:
    num_sizes = len({point.params for point in points})
    if num_sizes >= MIN_SIZES:
        return None
    return f"too few sizes: {num_sizes} on the ladder, {MIN_SIZES} are needed"


def _edge_of(points: Sequence[Point]) -> str | None:
    """Why the lowest size is no minimum, where it is the first or the last."""
    sizes = sorted({point.params for point in points})
    lowest = lowest_of(points).params
    if lowest not in (sizes[0], sizes[-1]):
        return None
    side = "smallest" if lowest == sizes[0] else "largest"
    return f"edge minimum: the {side} size of the ladder is the lowest"


def _is_near(point: Point, centre: Point) -> bool:
    return abs(math.log(point.params / centre.params)) <= math.log(WINDOW) + 1e-9


def _far_off(near: Sequence[Point]) -> Point | None:
    """The point that lies farthest off the parabola through the others, if it is too far."""
    if len({point.params for point in near}) < MIN_TO_DOUBT:
        return None
    scores = _studentised(near)
    worst = max(range(len(near)), key=lambda i: scores[i])
    return near[worst] if scores[worst] > _limit(len(near)) else None


def _limit(num_points: int) -> float:
    """How far the farthest of so many points may be off, in standard errors."""
    freedom = moderated(Noise(0.0, num_points - MIN_POINTS - 1)).freedom
    return quantile(freedom, 1 - FAR_OFF / (2 * num_points))


def _studentised(near: Sequence[Point]) -> Array:
    """How many standard errors each point is off the parabola through the others. Their deviation
    is moderated: three points and a fourth near their parabola know nothing of noise."""
    x = np.log([point.params for point in near])
    y = np.array([point.loss for point in near])
    design = np.vander(x - x.mean(), 3)
    hat = design @ np.linalg.pinv(design)
    residual = y - hat @ y
    free = np.maximum(1 - np.diag(hat), 1e-9)
    freedom = len(near) - MIN_POINTS - 1
    squares = np.maximum((residual**2).sum() - residual**2 / free, 0.0)
    sds = [moderated(Noise(math.sqrt(each / freedom), freedom)).sd for each in squares]
    scores: Array = np.abs(residual) / (np.array(sds) * np.sqrt(free))
    return scores


def lowest_of(points: Sequence[Point]) -> Point:
    """The lowest size by its mean over seeds, with that mean: one lucky seed chooses nothing."""
    by_size: dict[int, list[Point]] = defaultdict(list)
    for point in points:
        by_size[point.params].append(point)
    means = {size: fmean(each.loss for each in of) for size, of in by_size.items()}
    best = min(means, key=lambda size: (means[size], size))
    first = min(by_size[best], key=lambda point: (point.loss, point.hash))
    return replace(first, loss=means[best])


def residuals(fit: Fit) -> tuple[float, int]:
    """The sum of their squares, and the degrees of freedom that it has."""
    squares = (
        (loss - fit.at(size)) ** 2 for size, loss in zip(fit.params, fit.losses, strict=True)
    )
    return sum(squares), len(fit.params) - MIN_POINTS
