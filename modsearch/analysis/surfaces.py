"""The joint surface L(N, D) = E + A / N^alpha + B / D^beta through all trials of an arm.

Approach 3 of Hoffmann et al. 2022 (arXiv 2203.15556, section 3.3 and appendix D.2), fitted in two
ways. *Variable projection*: for a given (alpha, beta) the surface is linear in E, A and B, which
non-negative least squares solves at once, so that the search has two dimensions instead of five
(Golub and Pereyra 1973). *Huber on log loss*: the published objective, with the three terms as
exponents under a log-sum-exp, delta 1e-3, L-BFGS from a grid of starts.

Known biases. The published fit of approach 3 had stopped early, and its intervals were too narrow
by far (Besiroglu et al. 2024, arXiv 2404.10102): here every search runs until it stands still, and
intervals are a bootstrap. E, A and alpha (or B and beta) trade against each other where a study
spans little in N or D, so that the surface is for interpolation and for exponents, and exponents
move with what counts as a parameter (Porian et al. 2024, arXiv 2406.19146): fit with and without
embeddings. Parabolas on a wide or off-centre grid have another vertex than the surface that they
were drawn from (Czech et al. 2026, arXiv 2603.22339): `vertex_bias` says by how much on a study's
own.

Shape suffixes: P points of the fit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from modsearch.analysis.curves import Array, Fit, Point
from modsearch.analysis.laws import Interval

NUM_PARAMETERS = 5
MIN_SURFACE_POINTS = 8
"""The parameters, and some to spare."""
MANY = 40
"""Trials from which on a far one can be told: five parameters follow the few points of a study."""
GRID = (0.1, 0.2, 0.35, 0.55, 0.8, 1.1)
"""Exponents that a search begins at."""
BOUNDS = (0.02, 2.5)
"""Exponents outside of these are no power of N or D that a ladder can tell."""
DELTA = 1e-3
"""Of the Huber loss, in log loss."""
FAR = 4.0
"""Robust standard deviations beyond which a trial is set aside."""
DRAWS = 200
"""Of a bootstrap."""
SPREAD = 1.4826
"""A normal's standard deviation over its median absolute deviation."""
Counts = npt.NDArray[np.int64]
_minimize: Any = optimize.minimize  # whose types name every method


@dataclass(frozen=True)
class Trials:
    """Points of one arm over all budgets."""

    budgets_P: Array
    params_P: Array
    tokens_P: Array
    losses_P: Array

    def take(self, rows: Counts) -> "Trials":
        """Some of them, perhaps more than once."""
        return Trials(
            self.budgets_P[rows], self.params_P[rows], self.tokens_P[rows], self.losses_P[rows]
        )

    def __len__(self) -> int:
        return len(self.losses_P)


@dataclass(frozen=True)
class Surface:
    """L = e + a / (N / unit_n)^alpha + b / (D / unit_d)^beta; units are geometric means."""

    e: float
    a: float
    alpha: float
    b: float
    beta: float
    unit_n: float
    unit_d: float

    def at(self, params_P: Array, tokens_P: Array) -> Array:
        """Loss."""
        found: Array = (
            self.e
            + self.a * (params_P / self.unit_n) ** -self.alpha
            + self.b * (tokens_P / self.unit_d) ** -self.beta
        )
        return found

    @property
    def params_exponent(self) -> float:
        """a of N* ~ C^a, where C is proportional to N D."""
        return self.beta / (self.alpha + self.beta)

    @property
    def tokens_exponent(self) -> float:
        """b of D* ~ C^b; both together are 1."""
        return self.alpha / (self.alpha + self.beta)

    def best_params(self, product: float) -> float:
        """N* where N D = `product`: alpha A / N^alpha = beta B / D^beta."""
        scale = self.alpha * self.a / (self.beta * self.b)
        unit = product / (self.unit_n * self.unit_d)
        power = 1 / (self.alpha + self.beta)
        return float(self.unit_n * scale**power * unit ** (self.beta * power))


@dataclass(frozen=True)
class SurfaceFit:
    """A surface, and how sure its exponents are."""

    surface: Surface
    set_aside: tuple[int, ...]
    """Rows of the trials that are too far off."""
    draws: tuple[Surface, ...] = ()
    """Of the bootstrap."""

    def interval(self, of: Callable[[Surface], float]) -> Interval:
        """A quantity with the middle 95 % of its bootstrap; no width without draws."""
        value = of(self.surface)
        if not self.draws:
            return Interval(value, value, value)
        low, high = np.quantile([of(each) for each in self.draws], [0.025, 0.975])
        return Interval(value, float(low), float(high))


Fitter = Callable[[Trials, Surface | None], Surface]
"""Fits trials, from a grid of starts or from a surface near the answer."""


def by_projection(trials: Trials, near: Surface | None = None) -> Surface:
    """Least squares by variable projection (VPNLS): Nelder and Mead over (alpha, beta), with
    non-negative least squares for E, A and B inside."""
    unit_n, unit_d, log_n, log_d = _units(trials, near)

    def inner(exponents: Array) -> tuple[Array, float]:
        alpha, beta = np.clip(exponents, *BOUNDS)
        design = np.column_stack(
            [np.ones_like(log_n), np.exp(-alpha * log_n), np.exp(-beta * log_d)]
        )
        coefficients, norm = optimize.nnls(design, trials.losses_P)
        outside = float(np.abs(exponents - np.clip(exponents, *BOUNDS)).sum())
        return coefficients, float(norm) * (1 + outside)

    starts = [(near.alpha, near.beta)] if near else [(a, b) for a in GRID for b in GRID]
    start = min(starts, key=lambda pair: inner(np.array(pair))[1])
    found = _minimize(
        lambda pair: inner(pair)[1],
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-3 if near else 1e-5, "fatol": 1e-6 if near else 1e-12, "maxfev": 600},
    )
    (e, a, b), _ = inner(found.x)
    alpha, beta = (float(each) for each in np.clip(found.x, *BOUNDS))
    return Surface(float(e), float(a), alpha, float(b), beta, unit_n, unit_d)


def by_huber(trials: Trials, near: Surface | None = None) -> Surface:
    """Huber loss of log(predicted) - log(measured), as published, by L-BFGS; the starts are least
    squares at a grid of exponents."""
    unit_n, unit_d, log_n, log_d = _units(trials, near)
    log_loss = np.log(trials.losses_P)

    def objective(theta: Array) -> tuple[float, Array]:
        e, a, alpha, b, beta = theta
        terms = np.stack([np.full_like(log_n, e), a - alpha * log_n, b - beta * log_d])
        total = special.logsumexp(terms, axis=0)
        shares = np.exp(terms - total)
        residual = total - log_loss
        pull = np.clip(residual, -DELTA, DELTA)
        value = np.where(
            np.abs(residual) <= DELTA, residual**2 / 2, DELTA * (np.abs(residual) - DELTA / 2)
        ).sum()
        gradient = (
            pull @ shares[0],
            pull @ shares[1],
            -(pull * shares[1]) @ log_n,
            pull @ shares[2],
            -(pull * shares[2]) @ log_d,
        )
        return float(value) / DELTA**2, np.array(gradient) / DELTA**2

    def start(alpha: float, beta: float) -> Array:
        design = np.column_stack(
            [np.ones_like(log_n), np.exp(-alpha * log_n), np.exp(-beta * log_d)]
        )
        least = np.maximum(optimize.nnls(design, trials.losses_P)[0], 1e-3)
        e, a, b = np.log(least)
        return np.array([e, a, alpha, b, beta])

    if near is not None:
        pairs = [(near.alpha, near.beta)]
    else:
        first = by_projection(trials)
        pairs = [(first.alpha, first.beta), *((a, b) for a in GRID[1:4] for b in GRID[1:4])]
    limits = [(-20.0, 20.0), (-20.0, 20.0), BOUNDS, (-20.0, 20.0), BOUNDS]
    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-11, "gtol": 1e-7}
    found = [
        _minimize(
            objective, start(*pair), jac=True, method="L-BFGS-B", bounds=limits, options=options
        )
        for pair in pairs
    ]
    e, a, alpha, b, beta = min(found, key=lambda each: float(each.fun)).x
    return Surface(
        math.exp(e), math.exp(a), float(alpha), math.exp(b), float(beta), unit_n, unit_d
    )


def fit_surface(
    trials: Trials,
    fitter: Fitter = by_projection,
    *,
    robust: bool = True,
    draws: int = 0,
    sd: float | None = None,
) -> SurfaceFit | None:
    """A surface with its bootstrap; None with too few trials, or of fewer than two budgets.

    Robust: of `MANY` trials, those farther off than `FAR` robust standard deviations are set
    aside, at first by the Huber fit, which outliers hardly move, and again until none is. The
    bootstrap has a fixed seed.

    Args:
        draws: of the bootstrap.
        sd: of one trial over seeds, nats: each draw gives every trial another seed (Porian et al.
            2024). None: each draw resamples the trials within their budgets, which needs many: 19
            trials of three budgets covered 82 % so.
    """
    if len(trials) < MIN_SURFACE_POINTS or len(set(trials.budgets_P)) < 2:
        return None
    rows = np.arange(len(trials))
    aside = np.zeros(len(trials), dtype=np.bool_)
    robust = robust and len(trials) >= MANY
    if robust:
        aside = _far(trials, by_huber(trials, by_projection(trials)))
    surface = fitter(trials.take(rows[~aside]), None)
    for _ in range(10 if robust else 0):
        again = _far(trials, surface, ~aside)
        if (again == aside).all() or (~again).sum() < MIN_SURFACE_POINTS:
            break
        aside = again
        surface = fitter(trials.take(rows[~aside]), None)
    return SurfaceFit(
        surface,
        tuple(int(row) for row in rows[aside]),
        tuple(_bootstrap(trials.take(rows[~aside]), surface, fitter, draws, sd)),
    )


def vertex_bias(surface: Surface, fits: Sequence[Fit], per_param: float) -> list[float]:
    """ln(vertex / N*) of each fit's own grid, where the losses are the surface's: what a parabola
    makes of a curve that is none.

    Args:
        per_param: training FLOPs for a parameter and token; 6 by the usual count.

    Returns:
        Nothing where the surface has no minimum of its own: one of its terms is zero.
    """
    if min(surface.a, surface.b, surface.alpha, surface.beta) <= 0:
        return []
    found = []
    for fit in fits:
        product = fit.budget / per_param
        sizes = np.array([point.params for point in fit.points], dtype=np.float64)
        losses = surface.at(sizes, product / sizes)
        points = [
            replace(point, loss=float(loss))
            for point, loss in zip(fit.points, losses, strict=True)
        ]
        window = [point for point in points if point.params in fit.params]
        found.append(_vertex(window) - math.log(surface.best_params(product)))
    return found


def _vertex(points: Sequence[Point]) -> float:
    x = np.log([point.params for point in points])
    p, q, _ = np.polyfit(x - x.mean(), [point.loss for point in points], 2)
    return float(x.mean() - q / (2 * p))


def _units(trials: Trials, near: Surface | None) -> tuple[float, float, Array, Array]:
    log_n, log_d = np.log(trials.params_P), np.log(trials.tokens_P)
    unit_n = near.unit_n if near else math.exp(log_n.mean())
    unit_d = near.unit_d if near else math.exp(log_d.mean())
    return unit_n, unit_d, log_n - math.log(unit_n), log_d - math.log(unit_d)


def _far(
    trials: Trials, surface: Surface, among: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """Which trials are too far off, in log loss; the spread is that `among` some of them, larger
    by what five parameters take of it."""
    residual = np.log(surface.at(trials.params_P, trials.tokens_P)) - np.log(trials.losses_P)
    inner = residual if among is None else residual[among]
    spread = SPREAD * float(np.median(np.abs(inner - np.median(inner))))
    spread *= math.sqrt(len(inner) / (len(inner) - NUM_PARAMETERS))
    far: npt.NDArray[np.bool_] = np.abs(residual - np.median(inner)) > FAR * max(spread, 1e-9)
    return far


def _bootstrap(
    trials: Trials, surface: Surface, fitter: Fitter, draws: int, sd: float | None
) -> list[Surface]:
    generator = np.random.default_rng(0)
    if sd is not None:
        fitted_P = surface.at(trials.params_P, trials.tokens_P)
        noise = sd * generator.standard_normal((draws, len(trials)))
        return [fitter(replace(trials, losses_P=fitted_P + each), surface) for each in noise]
    groups = [np.flatnonzero(trials.budgets_P == each) for each in np.unique(trials.budgets_P)]
    return [
        fitter(
            trials.take(np.concatenate([generator.choice(rows, len(rows)) for rows in groups])),
            surface,
        )
        for _ in range(draws)
    ]
