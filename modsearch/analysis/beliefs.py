"""What trials of many recipes, sizes and budgets say of all others: a smooth belief with an error.

Losses of one budget follow a curve in ln(size) with one minimum, whose place moves by a power of
the budget; recipes differ by what each of their axes adds, alone and together, and by where they
put the minimum; small budgets see most of it. That is a Gaussian process (Rasmussen and Williams
2006, chapters 2 and 5) in closed form, whose covariance says these things:

    loss = level(budget) + curve(z) + recipe(axes, z, budget) + own(configuration) + noise
    z = ln(size) - SHIFT (ln(budget) - ln(largest budget))

Scales are those of highest posterior density, from priors that stand below and were set before any
of the project's tables was looked at. Legend: N trials, A axes, M places that are asked about.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from modsearch.analysis.noise import seed_sd

Array = npt.NDArray[np.float64]

LEVEL = 1.0
"""Standard deviation of a budget's level around the mean of the losses, nats."""
BOWL = 0.04
"""Curvature of the curve that all recipes share, nats per squared e-fold of size..."""
CURVE = (0.1, 0.03, 0.01)
"""... and the standard deviations of its slope, its curvature and its third order."""
REACH = 0.5
"""Length over which an ordered axis matters, as a share of its range."""
FAR = 0.05
"""Nats above the lowest loss from which on losses are drawn in."""
MOST_FITTED = 64
"""Trials from which the scales are taken."""

PRIORS = {
    "recipe": (np.log(0.05), 1.0),
    "tilt": (np.log(0.02), 1.0),
    "drift": (np.log(0.2), 1.0),
    "own": (np.log(0.005), 0.7),
    "noise": (np.log(0.4), 0.5),
    "shift": (0.5, 0.15),
}
"""Mean and standard deviation of the logarithm of each scale, and of the shift itself: nats
between recipes; nats per e-fold of size by which recipes tilt the curve; by how much an e-fold of
budget lowers the correlation of what recipes differ by; nats of a configuration's own; the noise
of seeds as a share of `seed_sd`; the power of the budget that moves the vertex."""
NOISE, SHIFT = list(PRIORS).index("noise"), list(PRIORS).index("shift")
WEIGHT = (np.log(0.5), 1.0)
"""The same of each axis: its share in what recipes differ by."""


@dataclass(frozen=True)
class Sites:
    """Configurations at budgets, in numbers."""

    axes_NA: Array
    """Of each axis: its place from 0 to 1 where it is ordered, the number of its value where it
    is not; NaN where a configuration has no such axis."""
    ordered: tuple[bool, ...]
    """Of each axis."""
    size_N: Array
    """ln(size), from any origin that all sites share."""
    budget_N: Array
    """FLOPs."""

    def __len__(self) -> int:
        return len(self.size_N)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int_]) -> "Sites":
        """Some of them."""
        kept = np.asarray(rows, dtype=int)
        return replace(
            self,
            axes_NA=self.axes_NA[kept],
            size_N=self.size_N[kept],
            budget_N=self.budget_N[kept],
        )


@dataclass(frozen=True)
class Scales:
    """How large what is (nats), as `PRIORS` explains."""

    recipe: float
    tilt: float
    drift: float
    own: float
    noise: float
    shift: float
    weights: tuple[float, ...]

    @classmethod
    def from_vector(cls, values: Array) -> "Scales":
        """From logarithms, in the order of `PRIORS`, then of the axes."""
        recipe, tilt, drift, own, noise = np.exp(values[:SHIFT]).tolist()
        weights = tuple(np.exp(values[len(PRIORS) :]).tolist())
        return cls(recipe, tilt, drift, own, noise, float(values[SHIFT]), weights)


def prior_vector(num_axes: int) -> tuple[Array, Array]:
    """Means and standard deviations of what `Scales.from_vector` takes."""
    both = np.array([*PRIORS.values(), *[WEIGHT] * num_axes])
    return both[:, 0], both[:, 1]


class _Pairs:
    """What the covariance of two sets of sites is made of, whatever the scales."""

    def __init__(self, one: Sites, other: Sites, largest: float) -> None:
        self.alike = [
            _alike(one.axes_NA[:, a], other.axes_NA[:, a], ordered)
            for a, ordered in enumerate(one.ordered)
        ]
        self.logs = np.log(one.budget_N / largest), np.log(other.budget_N / largest)
        self.sizes = one.size_N, other.size_N
        self.gap = np.abs(self.logs[0][:, None] - self.logs[1][None, :])
        self.same_budget = self.gap < 1e-9
        self.same = np.abs(one.size_N[:, None] - other.size_N[None, :]) < 1e-9
        for alike in self.alike:
            self.same &= alike > 1 - 1e-12

    def covariance(self, scales: Scales) -> Array:
        """Of the losses without noise."""
        return self.parts(scales).covariance

    def parts(self, scales: Scales) -> "_Parts":
        """The covariance, and what it was made of."""
        z, y = (s - scales.shift * c for s, c in zip(self.sizes, self.logs, strict=True))
        zy = z[:, None] * y[None, :]
        one, two, three = np.square(CURVE)
        curve = zy * (one + zy * (two + zy * three))
        product = np.ones_like(zy)
        whole = 1.0
        for weight, alike in zip(scales.weights, self.alike, strict=True):
            product *= 1 + weight * alike
            whole *= 1 + weight
        recipes = (product - 1) / max(whole - 1, 1e-12)
        kept = np.exp(-scales.drift * self.gap)
        of_recipes = scales.recipe**2 + scales.tilt**2 * zy
        covariance = LEVEL**2 * self.same_budget + curve
        covariance += kept * (recipes * of_recipes + scales.own**2 * self.same)
        return _Parts(covariance, zy, product, whole, recipes, kept, of_recipes)

    def gradients(self, scales: Scales, parts: "_Parts") -> Iterator[Array]:
        """Of the covariance by what `Scales.from_vector` takes, but for the noise (second last of
        the scales, where zeros stand)."""
        p = parts
        one, other = self.logs
        z, y = (s - scales.shift * c for s, c in zip(self.sizes, self.logs, strict=True))
        of_shift = -(one[:, None] * y[None, :] + z[:, None] * other[None, :])
        yield 2 * scales.recipe**2 * p.kept * p.recipes
        yield 2 * scales.tilt**2 * p.kept * p.recipes * p.zy
        mixed = p.recipes * p.of_recipes + scales.own**2 * self.same
        yield -scales.drift * self.gap * p.kept * mixed
        yield 2 * scales.own**2 * p.kept * self.same
        yield np.zeros_like(p.zy)
        first, second, third = np.square(CURVE)
        slope = first + p.zy * (2 * second + 3 * third * p.zy)
        yield of_shift * (slope + p.kept * p.recipes * scales.tilt**2)
        above = max(p.whole - 1, 1e-12)
        for weight, alike in zip(scales.weights, self.alike, strict=True):
            of_product = p.product * alike / (1 + weight * alike)
            of_whole = p.whole / (1 + weight)
            change = weight * (of_product - p.recipes * of_whole) / above
            yield p.kept * change * p.of_recipes


@dataclass(frozen=True)
class _Parts:
    covariance: Array
    zy: Array
    product: Array
    whole: float
    recipes: Array
    kept: Array
    of_recipes: Array


def _alike(one: Array, other: Array, ordered: bool) -> Array:
    """How much two sets of values of an axis have in common, from 0 to 1."""
    gap = one[:, None] - other[None, :]
    absent = np.isnan(one)[:, None] & np.isnan(other)[None, :]
    near = np.exp(-((gap / REACH) ** 2) / 2) if ordered else (gap == 0).astype(float)
    return np.where(np.isnan(gap), absent.astype(float), near)


@dataclass(frozen=True)
class Posterior:
    """The losses of places, without noise."""

    mean_M: Array
    variance_M: Array
    noise_M: Array
    """Variance of one trial's noise at each place."""


class Belief:
    """A belief that has seen trials."""

    def __init__(self, sites: Sites, losses_N: Array, largest: float, scales: Scales) -> None:
        """`largest`: the budget that vertices are counted from. A loss that is not a number is
        that of a trial whose result is not there yet: it is taken to come as it is expected."""
        self.sites = sites
        self.largest = largest
        self.scales = scales
        there = np.flatnonzero(~np.isnan(losses_N))
        self.centre = float(np.mean(losses_N[there])) if len(there) else 0.0
        covariance = _Pairs(sites, sites, largest).covariance(scales)
        covariance[np.diag_indices_from(covariance)] += noise_variance(sites, scales)
        self._root = cholesky(covariance, lower=True)
        residual = losses_N - self.centre - bowl(sites, largest, scales.shift)
        if len(there) < len(losses_N):
            known = covariance[np.ix_(there, there)]
            residual = covariance[:, there] @ cho_solve(
                (cholesky(known, lower=True), True), residual[there]
            )
            residual[there] = losses_N[there] - self.centre
            residual[there] -= bowl(sites, largest, scales.shift)[there]
        self._weights = cho_solve((self._root, True), residual)

    def at(self, places: Sites) -> Posterior:
        """What it says of places."""
        across, half = self._half(places)
        mean = self.centre + bowl(places, self.largest, self.scales.shift) + across @ self._weights
        prior = _variance(places, self.largest, self.scales)
        variance = np.maximum(prior - (half**2).sum(axis=0), 0.0)
        return Posterior(mean, variance, noise_variance(places, self.scales))

    def between(self, places: Sites, others: Sites) -> Array:
        """Covariance of the losses of places (M) and of others (K), without noise."""
        prior = _Pairs(places, others, self.largest).covariance(self.scales)
        found: Array = prior - self._half(places)[1].T @ self._half(others)[1]
        return found

    def _half(self, places: Sites) -> tuple[Array, Array]:
        across = _Pairs(places, self.sites, self.largest).covariance(self.scales)
        return across, solve_triangular(self._root, across.T, lower=True)


def _variance(sites: Sites, largest: float, scales: Scales) -> Array:
    """The diagonal of the covariance of sites with themselves."""
    z = sites.size_N - scales.shift * np.log(sites.budget_N / largest)
    one, two, three = np.square(CURVE)
    curve = z**2 * (one + z**2 * (two + z**2 * three))
    found: Array = LEVEL**2 + curve + scales.recipe**2 + scales.tilt**2 * z**2 + scales.own**2
    return found


def drawn_in(losses_N: Array, budget_N: Array) -> Array:
    """Losses of which those far above the lowest of their budget are drawn towards it.

    What is bad need not be known well, and how bad it is follows no smooth law: a recipe that all
    but diverges would make a belief expect as much everywhere. Near the lowest nothing changes.
    """
    found = losses_N.copy()
    for budget in np.unique(budget_N[~np.isnan(losses_N)]):
        mine = budget_N == budget
        lowest = np.nanmin(losses_N[mine])
        found[mine] = lowest + FAR * np.log1p((losses_N[mine] - lowest) / FAR)
    return found


def noise_variance(sites: Sites, scales: Scales) -> Array:
    """Of one trial."""
    budgets, which_N = np.unique(sites.budget_N, return_inverse=True)
    found: Array = np.array([(scales.noise * seed_sd(each)) ** 2 for each in budgets])[which_N]
    return found


def bowl(sites: Sites, largest: float, shift: float) -> Array:
    """The curve that is expected before anything is seen."""
    z = sites.size_N - shift * np.log(sites.budget_N / largest)
    found: Array = BOWL * z**2
    return found


def fitted_scales(sites: Sites, losses_N: Array, largest: float) -> Scales:
    """The scales of highest posterior density, by at most `MOST_FITTED` of the losses that are
    there, those of large budgets first."""
    there = np.flatnonzero(~np.isnan(losses_N))
    kept = np.sort(there[np.argsort(-sites.budget_N[there], kind="stable")][:MOST_FITTED])
    sites, losses_N = sites.take(kept), losses_N[kept]
    means, sds = prior_vector(len(sites.ordered))
    pairs = _Pairs(sites, sites, largest)
    centred = losses_N - losses_N.mean()

    logs = np.log(sites.budget_N / largest)

    def surprise(values: Array) -> tuple[float, Array]:
        scales = Scales.from_vector(values)
        parts = pairs.parts(scales)
        noise = noise_variance(sites, scales)
        covariance = parts.covariance + np.diag(noise)
        root = cholesky(covariance, lower=True, check_finite=False)
        inverse = cho_solve((root, True), np.eye(len(noise)), check_finite=False)
        residual = centred - bowl(sites, largest, scales.shift)
        weights = inverse @ residual
        away = (values - means) / sds
        found = residual @ weights / 2 + np.log(np.diag(root)).sum() + (away**2).sum() / 2
        inner = inverse - np.outer(weights, weights)
        slopes = np.array([(inner * each).sum() for each in pairs.gradients(scales, parts)]) / 2
        slopes[NOISE] = (np.diag(inner) * noise).sum()
        slopes[SHIFT] += weights @ (2 * BOWL * (sites.size_N - scales.shift * logs) * logs)
        return float(found), slopes + away / sds

    bounds = [(mean - 3 * sd, mean + 3 * sd) for mean, sd in zip(means, sds, strict=True)]
    found = minimize(
        surprise, means, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 12}
    )
    # Rounded: the last bits of a search for a minimum differ between machines.
    return Scales.from_vector(np.round(found.x, 2))
