"""IsoFLOP fits: at one budget, loss against ln(parameters) is a parabola near its minimum.

Approach 2 of Hoffmann et al. 2022 (arXiv 2203.15556), with the guards that its use for a
comparison of architectures needs: only points near the minimum (a wide grid biases the vertex,
Czech et al. 2026, arXiv 2603.22339), no minimum at the edge of a ladder, no concave fit. A fit
that fails them is a `Refusal` with its reason, never a number. Only the trials of `measure`
enter: those of `explore` are the best of many draws, and those of `confirm` are for the claim.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np

from modsearch.config.records import Record, Stage, State

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


@dataclass(frozen=True)
class Optimum:
    """The best of an arm at a budget: the lowest of its depths."""

    arm: str
    budget: float
    depth: int
    params: float
    loss: float
    sd: float | None
    point: Point
    """The measured trial that stands for it: the nearest to the vertex, or the lowest."""
    refused: str | None
    """Set where every fit was refused, and this is a measured point instead of a vertex."""
    marks: tuple[str, ...]
    """What a reader should know about it."""


@dataclass(frozen=True)
class Choice:
    """The ladder size that an arm is confirmed at."""

    hash: str
    depth: int
    width: int
    params: int
    marked: str | None
    """Why it is the lowest measured size and not the nearest to a vertex."""


@dataclass(frozen=True)
class Slope:
    """s = -dL / d ln C along the minima of several budgets."""

    value: float
    se: float | None
    budgets: tuple[float, ...]


def fit_curves(records: Sequence[Record]) -> list[Curve]:
    """A fit or a refusal for each (budget, arm, depth) that `measure` has finished trials of.

    The standard error of a vertex loss is that of the parabola there (at the vertex the
    derivative to its place vanishes), scaled by the run-to-run deviation of `noise`.
    """
    ladders: dict[tuple[float, str, int], list[Point]] = defaultdict(list)
    for arm in sorted({record.arm for record in records}):
        for record in measured(records, arm):
            point = _point(record)
            ladders[record.budget.flops, arm, point.depth].append(point)
    raw = [
        _fit(arm, budget, depth, sorted(points, key=lambda point: (point.params, point.hash)))
        for (budget, arm, depth), points in sorted(ladders.items())
    ]
    sd = noise(records, raw)
    return [_with_noise(curve, sd) for curve in raw]


def measured(records: Sequence[Record], arm: str) -> list[Record]:
    """An arm's finished trials of `measure`, all of one recipe.

    A study that was extended may hold a second recipe; the one that explore ranks first
    counts, or else the one with most trials.
    """
    rows = sorted(
        (record for record in records if record.arm == arm and _scored(record, Stage.MEASURE)),
        key=lambda record: record.hash,
    )
    keys = Counter(recipe_key(record) for record in rows)
    best = best_recipe(records, arm)
    wanted = recipe_key(best) if best is not None else None
    if wanted not in keys:
        wanted = min(keys, key=lambda key: (-keys[key], key), default=None)
    return [record for record in rows if recipe_key(record) == wanted]


def recipe_key(record: Record) -> str:
    """Identity of everything of a candidate that is not its size."""
    recipe = record.candidate.model_dump(mode="json", exclude={"data": True})
    del recipe["model"]["depth"], recipe["model"]["width"]
    return json.dumps(recipe, sort_keys=True)


def explored(records: Sequence[Record], arm: str) -> list[list[Record]]:
    """An arm's finished trials of `explore` at its largest budget, by recipe, best first.

    A trial is as noisy as what recipes differ by, so that where all recipes were tried at the
    same sizes, as in a grid, a recipe counts by its mean; elsewhere by its lowest loss.
    """
    rows = [record for record in records if record.arm == arm and _scored(record, Stage.EXPLORE)]
    largest = max((record.budget.flops for record in rows), default=0.0)
    recipes: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(rows, key=lambda record: (causal_loss(record), record.hash)):
        if record.budget.flops == largest:
            recipes[recipe_key(record)].append(record)
    sizes = {tuple(sorted(map(_size, group))) for group in recipes.values()}

    def rank(group: list[Record]) -> tuple[float, str]:
        losses = [causal_loss(record) for record in group]
        return (fmean(losses) if len(sizes) == 1 else losses[0], group[0].hash)

    return sorted(recipes.values(), key=rank)


def best_recipe(records: Sequence[Record], arm: str) -> Record | None:
    """The best trial of the recipe that `explore` ranks first."""
    ranked = explored(records, arm)
    return ranked[0][0] if ranked else None


def missed(records: Sequence[Record], arm: str, chosen: str, sd: float) -> float:
    """How much lower the loss of the arm's best recipe may be than that of the chosen one, in
    nats: the 95 % upper limit, at least 0, by what `explore` saw of the others.

    Explore's few trials of a recipe choose it, and fresh seeds do not undo a wrong choice. The
    error of a difference comes from `sd`, that of one trial, or from the scatter of the
    differences over sizes that both were tried at, if that is larger.
    """
    ranked = explored(records, arm)
    mine = [group for group in ranked if recipe_key(group[0]) == chosen]
    if not mine:
        return 0.0
    own = {_size(record): causal_loss(record) for record in mine[0]}
    limits = [0.0]
    for group in ranked:
        if group is not mine[0]:
            other = {_size(record): causal_loss(record) for record in group}
            error = sd * math.sqrt(1 / len(own) + 1 / len(other))
            gaps = [own[size] - other[size] for size in sorted(own.keys() & other.keys())]
            if len(gaps) > 1:
                error = max(error, stdev(gaps) / math.sqrt(len(gaps)))
            limits.append(fmean(own.values()) - fmean(other.values()) + LUCK * error)
    return max(limits)


def _size(record: Record) -> tuple[int, int]:
    return record.candidate.model.depth, record.candidate.model.width


def confirm_choice(records: Sequence[Record], arm: str, budget: float) -> Choice | None:
    """The size that an arm is confirmed at: the measured one nearest to its optimum's vertex.

    Where every fit is refused, the lowest measured one, marked. None where no trial of the
    arm was measured at the budget.
    """
    best = optimum(fit_curves([row for row in records if row.arm == arm]), arm, budget)
    if best is None:
        return None
    point = best.point
    return Choice(point.hash, point.depth, point.width, point.params, best.refused)


def optimum(curves: Iterable[Curve], arm: str, budget: float) -> Optimum | None:
    """The lowest of an arm's depths at a budget.

    Depths whose fits have points to spare are compared at their minima. A refused fit, or an
    exact one of three points, follows whatever noise it has: one lucky trial would move a whole
    arm to its depth. So such a depth counts before the others only where it was measured lower
    than their minima by more than `LUCK` run-to-run deviations, and alone where there are no
    others. The optimum of a refused depth is its lowest measured point, marked.
    """
    of_arm = [curve for curve in curves if curve.arm == arm]
    mine = [curve for curve in of_arm if curve.budget == budget]
    if not mine:
        return None
    spare = [curve for curve in mine if isinstance(curve, Fit) and not curve.exact]
    best: Curve = min(mine, key=lambda curve: (_lowest(curve.points).loss, curve.depth))
    if spare:
        fit = min(spare, key=lambda fit: (fit.minimum_loss, fit.depth))
        if _lowest(best.points).loss > fit.minimum_loss - LUCK * _scatter(of_arm):
            best = fit
    elif exact := [curve for curve in mine if isinstance(curve, Fit)]:
        best = min(exact, key=lambda fit: (fit.minimum_loss, fit.depth))
    marks = (*_depth_marks(best.depth, sorted(c.depth for c in mine)), *_overlooked(best, mine))
    if isinstance(best, Fit):
        exactly = ("an exact fit of three points",) if best.exact else ()
        return Optimum(
            arm, budget, best.depth, best.minimum_params, best.minimum_loss, best.minimum_sd,
            best.nearest, None, (*marks, *exactly),
        )  # fmt: skip
    point = best.lowest
    why = f"the lowest measured size, not a fitted one: {best.reason}"
    return Optimum(
        arm, budget, point.depth, point.params, point.loss, best.lowest_sd, point,
        best.reason, (why, *marks),
    )  # fmt: skip


def _scatter(curves: Iterable[Curve]) -> float:
    """Run-to-run deviation by the residuals of an arm's fits alone: what is chosen to confirm
    must not move when confirm's own seeds come in."""
    fits = (curve for curve in curves if isinstance(curve, Fit))
    return _pooled(_residuals(fit) for fit in fits) or 0.0


def optima(curves: Sequence[Curve]) -> list[Optimum]:
    """The optimum of every (budget, arm) that was measured."""
    cells = sorted({(curve.budget, curve.arm) for curve in curves})
    found = (optimum(curves, arm, budget) for budget, arm in cells)
    return [best for best in found if best is not None]


def slope(minima: Sequence[Optimum]) -> Slope | None:
    """Least squares of the minima over ln C; None with fewer than two budgets.

    Its standard error is propagated from those of the minima: residuals of two or three
    points say next to nothing.
    """
    budgets = [best.budget for best in minima]
    if len(set(budgets)) < 2:
        return None
    x = np.log(budgets)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    value = -float(weights @ np.array([best.loss for best in minima]))
    deviations = [best.sd for best in minima if best.sd is not None]
    known = len(deviations) == len(minima)
    se = float(np.sqrt((weights**2) @ (np.array(deviations) ** 2))) if known else None
    return Slope(value, se, tuple(sorted(set(budgets))))


def noise(records: Sequence[Record], curves: Iterable[Curve]) -> float | None:
    """Run-to-run standard deviation: the larger of two estimates that each miss something.

    Residuals of the fits (of those with more than three points, pooled) also hold what a
    parabola can't follow, but have few degrees of freedom; the deviation over seeds in
    `confirm` (pooled over cells) is clean, but small by chance with three seeds.
    """
    residual = _pooled(_residuals(curve) for curve in curves if isinstance(curve, Fit))
    seeds = seed_sd(records)
    known = [sd for sd in (residual, seeds) if sd is not None]
    return max(known) if known else None


def seed_sd(records: Iterable[Record]) -> float | None:
    """Standard deviation over the seeds of `confirm`, pooled over arms, budgets and sizes."""
    groups: dict[tuple[str, float, str], list[float]] = defaultdict(list)
    for record in records:
        if _scored(record, Stage.CONFIRM):
            key = (record.arm, record.budget.flops, record.candidate.model_dump_json())
            groups[key].append(causal_loss(record))
    return _pooled(
        (sum((x - sum(losses) / len(losses)) ** 2 for x in losses), len(losses) - 1)
        for _, losses in sorted(groups.items())
    )


def finished(record: Record) -> bool:
    """Whether a trial has scores that can be used."""
    return (
        record.state is State.COMPLETE
        and record.plan is not None
        and record.scores is not None
        and math.isfinite(record.scores.causal_loss)
    )


def causal_loss(record: Record) -> float:
    """The objective of a finished trial."""
    assert record.scores is not None
    return record.scores.causal_loss


def _scored(record: Record, stage: Stage) -> bool:
    return record.stage is stage and finished(record)


def _point(record: Record) -> Point:
    assert record.plan is not None
    assert record.scores is not None
    model = record.candidate.model
    return Point(
        record.hash, model.depth, model.width, record.plan.params,
        record.scores.causal_loss, record.scores.realised_forward_flops,
    )  # fmt: skip


def _fit(arm: str, budget: float, depth: int, points: Sequence[Point]) -> Curve:
    lowest = _lowest(points)
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


def _lowest(points: Sequence[Point]) -> Point:
    """The lowest size by its mean over seeds, so that one lucky seed does not choose it."""
    by_size: dict[int, list[float]] = defaultdict(list)
    for point in points:
        by_size[point.params].append(point.loss)
    best = min(by_size, key=lambda size: (sum(by_size[size]) / len(by_size[size]), size))
    return min(
        (point for point in points if point.params == best),
        key=lambda point: (point.loss, point.hash),
    )


def _with_noise(curve: Curve, sd: float | None) -> Curve:
    if isinstance(curve, Refusal):
        return replace(curve, lowest_sd=sd)
    if sd is None:
        return curve
    x = np.log(curve.params)
    centre = x.mean()
    design = np.vander(x - centre, 3)
    at = np.vander([math.log(curve.minimum_params) - centre], 3)[0]
    variance = float(at @ np.linalg.inv(design.T @ design) @ at)
    return replace(curve, minimum_sd=sd * math.sqrt(variance))


def _residuals(fit: Fit) -> tuple[float, int]:
    squares = (
        (loss - fit.at(size)) ** 2 for size, loss in zip(fit.params, fit.losses, strict=True)
    )
    return sum(squares), len(fit.params) - MIN_POINTS


def _pooled(parts: Iterable[tuple[float, int]]) -> float | None:
    """Square root of all squares over all degrees of freedom; None without any."""
    known = [(squares, freedom) for squares, freedom in parts if freedom > 0]
    if not known:
        return None
    return math.sqrt(sum(squares for squares, _ in known) / sum(count for _, count in known))


def _depth_marks(depth: int, depths: Sequence[int]) -> list[str]:
    if len(depths) == 1:
        return [f"depth {depth} is the only depth tried"]
    if depth in (depths[0], depths[-1]):
        tried = ", ".join(str(each) for each in depths)
        return [f"the best depth, {depth}, is at the edge of those tried ({tried})"]
    return []


def _overlooked(best: Curve, curves: Iterable[Curve]) -> list[str]:
    """Depths that do not stand for the arm, but where hiding that they lie lower would flatter
    the arm that this one is compared with."""
    level = best.minimum_loss if isinstance(best, Fit) else best.lowest.loss
    notes = []
    for curve in curves:
        if isinstance(curve, Refusal) and curve is not best and curve.lowest.loss < level:
            notes.append(
                f"depth {curve.depth} was measured lower ({curve.lowest.loss:.4f}), but has no "
                f"fit: {curve.reason}"
            )
        if isinstance(curve, Fit) and curve is not best and curve.minimum_loss < level:
            notes.append(
                f"depth {curve.depth} has a lower minimum ({curve.minimum_loss:.4f}), but by an "
                f"exact fit of three points"
            )
    return notes
