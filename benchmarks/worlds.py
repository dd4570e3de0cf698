"""Do the 95 % intervals of fits hold the truth in 95 %?

Makes studies from laws that are known, fits them as the report does, and prints how often each
interval holds the truth: the loss at a curve's minimum, the vertex N*, the exponent of N*(C), the
slope of the minima at the largest budget, and the compute multiplier exp(d / s), d from 5 or 16
seeds of each of two arms that stand at their own optimum. "Largest" is the largest budget's loss,
foretold from the smaller ones.

A world is L = E + A / N^alpha + B / D^beta with exponents between 0.25 and 0.5, trained on one
ladder a budget with a run-to-run deviation of 0.018 nats. The first kinds of worlds are such, the
others are not what the tool believes.

    python benchmarks/worlds.py [--worlds 1000] [--seed 0] [--surfaces 40]

`--surfaces` is in how many worlds of a kind the joint surface is fitted, too (200 draws each).
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modsearch.analysis.compare import fieller
from modsearch.analysis.curves import Curve, Fit, Point, Refusal, fit_points, with_noise
from modsearch.analysis.fits import noise_of
from modsearch.analysis.laws import params_law, predict
from modsearch.analysis.noise import pooled, t_quantile
from modsearch.analysis.slopes import slope_at
from modsearch.analysis.surfaces import Trials, fit_surface

SD = 0.018
MIDDLE = 1e12
THREE = {3e11: (12, 16, 20, 24, 32, 40), 1e12: (16, 20, 24, 32, 40, 48, 64),
         3e12: (24, 32, 40, 48, 64, 80)}  # fmt: skip
FIVE = {1e11: (8, 10, 12, 16, 20, 24, 32), **THREE, 1e13: (32, 40, 48, 64, 80, 96, 112)}
TWO = {budget: THREE[budget] for budget in (3e11, 1e12)}
SHORT = {budget: widths[1:6] for budget, widths in THREE.items()}


@dataclass(frozen=True)
class World:
    """A law, in units of its own optimum at `MIDDLE` FLOPs."""

    alpha: float
    beta: float
    irreducible: float
    excess: float
    """L* - E at `MIDDLE`."""
    best: float
    """N* at `MIDDLE`."""
    wrong: float = 0.0
    """Nats per cubed e-fold of N / N*: a skew that no power of N or D has."""

    @property
    def exponent(self) -> float:
        """Of N*(C)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def loss_exponent(self) -> float:
        """g of L* - E ~ C^-g."""
        return self.alpha * self.beta / (self.alpha + self.beta)

    def best_params(self, budget: float) -> float:
        """N*."""
        return float(self.best * (budget / MIDDLE) ** self.exponent)

    def least(self, budget: float) -> float:
        """L*."""
        return float(self.irreducible + self.excess * (budget / MIDDLE) ** -self.loss_exponent)

    def slope(self, budget: float) -> float:
        """-dL* / d ln C."""
        return self.loss_exponent * (self.least(budget) - self.irreducible)

    def loss(self, params: float, budget: float) -> float:
        """Of a size at a budget."""
        n = params / self.best
        d = budget / MIDDLE / n
        terms = self.beta * n**-self.alpha + self.alpha * d**-self.beta
        away = math.log(params / self.best_params(budget))
        skew = self.wrong * (max(away, 0.0) ** 3 - 0.2 * max(-away, 0.0) ** 3)
        return self.irreducible + self.excess * terms / (self.alpha + self.beta) + skew


Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Kind:
    """Worlds of one kind, and the studies that are made in them."""

    name: str
    ladders: Mapping[float, Sequence[int]]
    described: bool
    """Whether the tool's forms describe it: then intervals should hold."""
    draw: Draw = lambda rng, shape: SD * rng.standard_normal(shape)
    off: float = 0.15
    """How far N* may lie from the middle of the ladders, in e-folds."""
    shift: float = 0.0
    """Deviation of what all sizes of a budget share."""
    wrong: float = 0.0
    exponents: tuple[float, float] = (0.25, 0.5)


def _outliers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return SD * rng.standard_normal(shape) + 0.2 * (rng.random(shape) < 0.04)


KINDS = (
    Kind("three budgets", THREE, True),
    Kind("five budgets", FIVE, True),
    Kind("ladders of five", SHORT, True),
    Kind("two budgets", TWO, False),
    Kind("off-centre ladders", THREE, False, off=0.8),
    Kind("steep right branch", THREE, False, wrong=0.15),
    Kind("4 % outliers of +0.2", THREE, False, draw=_outliers),
    Kind("t4 noise", THREE, False, draw=lambda rng, n: SD / 2**0.5 * rng.standard_t(4, n)),
    Kind("shift of all sizes", THREE, False, shift=0.018,
         draw=lambda rng, n: 0.016 * rng.standard_normal(n)),
    Kind("noise halved", THREE, False, draw=lambda rng, n: SD / 2 * rng.standard_normal(n)),
    Kind("exponents 0.15 to 0.25", THREE, False, exponents=(0.15, 0.25)),
    Kind("exponents 0.5 to 0.7", THREE, False, exponents=(0.5, 0.7)),
)  # fmt: skip


def params_of(width: int) -> int:
    """Of a model of depth 2 over bytes."""
    return 256 * width + 24 * width * width


def worlds(kind: Kind, count: int, seed: int) -> Iterator[tuple[World, np.random.Generator]]:
    """Laws, each with a generator for its noise."""
    for number in range(count):
        rng = np.random.default_rng([seed, KINDS.index(kind), number])
        alpha, beta = rng.uniform(*kind.exponents, 2)
        off = rng.uniform(-kind.off, kind.off)
        yield (
            World(
                alpha=alpha,
                beta=beta,
                irreducible=rng.uniform(0.6, 1.2),
                excess=rng.uniform(0.6, 1.2),
                best=params_of(32) * math.exp(off),
                wrong=kind.wrong,
            ),
            rng,
        )


def ladder(world: World, budget: float, kind: Kind, rng: np.random.Generator) -> list[Point]:
    """One seed of each size."""
    widths = kind.ladders[budget]
    noise = kind.draw(rng, (len(widths),)) + kind.shift * rng.standard_normal()
    return [
        Point(str(w), 2, w, params_of(w), world.loss(params_of(w), budget) + each, 1.0)
        for w, each in zip(widths, noise.tolist(), strict=True)
    ]


def seeds(kind: Kind, rng: np.random.Generator, count: int) -> np.ndarray:
    """What fresh seeds add to a loss, shifts among it."""
    return kind.draw(rng, (count,)) + kind.shift * rng.standard_normal(count)


class Tally:
    """Means of what happened, by name."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """One more."""
        self.seen[name].append(float(value))

    def mean(self, name: str) -> float:
        """NaN of none."""
        return float(np.mean(self.seen[name])) if self.seen[name] else math.nan


def run(kind: Kind, count: int, seed: int = 0, surfaces: int = 0) -> Tally:
    """Studies of a kind: shares of intervals that hold the truth."""
    tally = Tally()
    for number, (world, rng) in enumerate(worlds(kind, count, seed)):
        _study(kind, world, rng, tally, number < surfaces)
    return tally


def _study(
    kind: Kind, world: World, rng: np.random.Generator, tally: Tally, surface: bool
) -> None:
    ladders = {budget: ladder(world, budget, kind, rng) for budget in kind.ladders}
    raw = [fit_points("dense", budget, 2, points) for budget, points in ladders.items()]
    confirm = [seeds(kind, rng, 5) for _ in range(2)]
    over = pooled((float(((x - x.mean()) ** 2).sum()), len(x) - 1) for x in confirm)
    for when, found in (("before", noise_of(raw, None)), ("after", noise_of(raw, over))):
        assert found is not None
        curves = [with_noise(curve, found) for curve in raw]
        _minima(world, curves, tally, when)
    fits = [curve for curve in curves if isinstance(curve, Fit)]
    if len(fits) < 2:
        return
    if len(fits) == len(raw):
        tally.add("exponent", params_law(fits).exponent_interval.holds(world.exponent))
    at = max(kind.ladders)
    slope = slope_at(fits, at)
    assert slope is not None
    assert slope.low is not None
    assert slope.high is not None
    truth = world.slope(at)
    tally.add("slope", slope.low <= truth <= slope.high)
    tally.add("slope ratio", slope.value / truth)
    factor = rng.uniform(0.3, 0.8) * rng.choice([-1, 1])
    for number in (5, 16):
        routed = world.least(at * math.exp(factor)) + seeds(kind, rng, number)
        dense = world.least(at) + seeds(kind, rng, number)
        parts = [side.var(ddof=1) / number for side in (dense, routed)]
        freedom = sum(parts) ** 2 / sum(part**2 / (number - 1) for part in parts)
        half = t_quantile(freedom) * math.sqrt(sum(parts))
        low, high = fieller(dense.mean() - routed.mean(), (half, half), slope)
        if low is not None and high is not None:
            tally.add(f"multiplier {number}", low <= factor <= high)
        tally.add(f"unbounded {number}", low is None)
    smaller = [fit for fit in fits if fit.budget < at]
    if (told := predict(smaller, at)) is not None:
        tally.add("largest", told.loss.holds(world.least(at)))
        tally.add("largest width", told.loss.high - told.loss.low)
        tally.add("largest N*", told.params.holds(world.best_params(at)))
    if surface and found is not None:
        _surface(world, ladders, found.sd, tally)


def _minima(world: World, curves: Sequence[Curve], tally: Tally, when: str) -> None:
    for curve in curves:
        least, best = world.least(curve.budget), world.best_params(curve.budget)
        if when == "after":
            tally.add("refused", isinstance(curve, Refusal))
        if isinstance(curve, Refusal):
            if when == "after" and "edge" in curve.reason:
                tally.add("bias edge", (curve.lowest.loss - least) / SD)
            continue
        assert curve.minimum_low is not None
        assert curve.minimum_high is not None
        assert curve.minimum_params_low is not None
        assert curve.minimum_params_high is not None
        tally.add(f"minimum {when}", curve.minimum_low <= least <= curve.minimum_high)
        inside = curve.minimum_params_low <= best <= curve.minimum_params_high
        tally.add(f"vertex {when}", inside)
        if when == "after":
            kind = "exact" if curve.exact else "fit"
            tally.add(f"bias {kind}", (curve.minimum_loss - least) / SD)
            tally.add("set aside", len(curve.set_aside))


def _surface(
    world: World, ladders: Mapping[float, Sequence[Point]], sd: float, tally: Tally
) -> None:
    rows = [(budget, point) for budget, points in ladders.items() for point in points]
    params = np.array([float(point.params) for _, point in rows])
    budgets = np.array([budget for budget, _ in rows])
    losses = np.array([point.loss for _, point in rows])
    fit = fit_surface(Trials(budgets, params, budgets / 6 / params, losses), draws=200, sd=sd)
    if fit is not None:
        found = fit.interval(lambda each: each.params_exponent)
        tally.add("surface", found.holds(world.exponent))


COLUMNS = {
    "minimum": "minimum after", "vertex": "vertex after", "exponent": "exponent",
    "slope": "slope", "multiplier, 5": "multiplier 5", "16 seeds": "multiplier 16",
    "largest": "largest", "its N*": "largest N*", "surface's exponent": "surface",
    "minimum before confirm": "minimum before", "vertex before": "vertex before",
}  # fmt: skip
FIGURES = {
    "slope / truth": "slope ratio", "refused": "refused", "points set aside": "set aside",
    "unbounded multiplier": "unbounded 5", "bias of a fit (sd)": "bias fit",
    "of an exact one": "bias exact", "of an edge": "bias edge",
    "width of largest": "largest width",
}  # fmt: skip


def table(rows: Sequence[tuple[Kind, Tally]], columns: Mapping[str, str], unit: float) -> str:
    """Markdown."""
    lines = ["| worlds | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for kind, tally in rows:
        means = [unit * tally.mean(name) for name in columns.values()]
        cells = ["" if math.isnan(x) else f"{x:.1f}" if unit > 1 else f"{x:.2f}" for x in means]
        lines.append("| " + " | ".join([kind.name, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surfaces", type=int, default=40)
    options = parser.parse_args()
    rows = [(k, run(k, options.worlds, options.seed, options.surfaces)) for k in KINDS]
    print(f"{options.worlds} worlds of each kind; per cent of intervals that hold the truth\n")
    print(table(rows, COLUMNS, 100))
    print("\nmeans; biases in run-to-run deviations\n")
    print(table(rows, FIGURES, 1))


if __name__ == "__main__":
    main()
