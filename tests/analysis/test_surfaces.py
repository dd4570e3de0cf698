"""Joint surfaces against one that is known."""

from dataclasses import replace

import numpy as np
import pytest

from modsearch.analysis.curves import Fit, Point, fit_points
from modsearch.analysis.surfaces import (
    Fitter,
    Surface,
    Trials,
    by_huber,
    by_projection,
    fit_surface,
    vertex_bias,
)

LAW = Surface(e=1.7, a=406.4, alpha=0.34, b=410.7, beta=0.28, unit_n=1.0, unit_d=1.0)
"""Hoffmann et al. 2022, approach 3."""
BUDGETS = (1e18, 1e19, 1e20)


def trials(sd: float = 0.0, sizes: int = 7, draw: int = 0) -> Trials:
    budgets = np.repeat(np.array(BUDGETS), sizes)
    best = np.repeat([LAW.best_params(budget / 6) for budget in BUDGETS], sizes)
    params = best * np.tile(np.geomspace(0.2, 5, sizes), len(BUDGETS))
    tokens = budgets / 6 / params
    noise = sd * np.random.default_rng(draw).standard_normal(len(params))
    return Trials(budgets, params, tokens, LAW.at(params, tokens) + noise)


@pytest.mark.parametrize("fitter", [by_projection, by_huber])
def test_a_surface_is_recovered(fitter: Fitter) -> None:
    found = fitter(trials(), None)
    assert found.e == pytest.approx(LAW.e, abs=0.03)
    assert found.alpha == pytest.approx(LAW.alpha, rel=0.03)
    assert found.beta == pytest.approx(LAW.beta, rel=0.05)
    assert found.params_exponent == pytest.approx(LAW.params_exponent, abs=0.01)
    assert found.params_exponent + found.tokens_exponent == pytest.approx(1)
    assert found.best_params(1e19) == pytest.approx(LAW.best_params(1e19), rel=0.05)


def test_terms_are_never_negative() -> None:
    """A loss that N alone decides, and one below every positive offset."""
    flat = trials()
    flat = replace(flat, losses_P=(flat.params_P / 1e8) ** -0.3)
    found = by_projection(flat)
    assert min(found.e, found.a, found.b) >= 0
    assert found.alpha == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("fitter", [by_projection, by_huber])
def test_outliers_are_set_aside_and_told(fitter: Fitter) -> None:
    clean = trials(sd=0.002, sizes=15)
    losses = clean.losses_P.copy()
    losses[[3, 20]] += 0.5
    fit = fit_surface(replace(clean, losses_P=losses), fitter)
    assert fit is not None
    assert {3, 20} <= set(fit.set_aside)
    assert len(fit.set_aside) <= 4
    assert fit.surface.params_exponent == pytest.approx(LAW.params_exponent, abs=0.04)
    plain = fit_surface(replace(clean, losses_P=losses), fitter, robust=False)
    assert plain is not None
    assert plain.set_aside == ()


def test_the_bootstrap_is_the_same_each_time_and_holds_the_truth() -> None:
    hits = 0
    for draw in range(12):
        fit = fit_surface(trials(sd=0.01, draw=draw), draws=60, sd=0.01)
        assert fit is not None
        hits += fit.interval(lambda each: each.params_exponent).holds(LAW.params_exponent)
    assert hits >= 10
    again = fit_surface(trials(sd=0.01, draw=11), draws=60, sd=0.01)
    assert again == fit
    resampled = fit_surface(trials(sd=0.01, draw=11), draws=10)
    assert resampled is not None
    assert len({each.alpha for each in resampled.draws}) > 5


def test_few_trials_and_one_budget_have_no_surface() -> None:
    some = trials()
    assert fit_surface(some.take(np.arange(7))) is None
    assert fit_surface(some.take(np.arange(3, 10))) is None


def ladder(budget: float, low: float, high: float, sizes: int) -> Fit:
    params = LAW.best_params(budget / 6) * np.geomspace(low, high, sizes)
    losses = LAW.at(params, budget / 6 / params)
    curve = fit_points(
        "dense", budget, 2,
        [Point(str(i), 2, i, round(n), float(x), 1.0)
         for i, (n, x) in enumerate(zip(params, losses, strict=True))],
    )  # fmt: skip
    assert isinstance(curve, Fit)
    return curve


def test_the_vertex_bias_is_that_of_the_grid() -> None:
    """Small where the window is, and that which the parabola really has."""
    fit = ladder(1e19, 0.25, 4, 9)
    (bias,) = vertex_bias(LAW, [fit], 6.0)
    assert bias == pytest.approx(np.log(fit.minimum_params / LAW.best_params(1e19 / 6)), abs=1e-4)
    assert abs(bias) < 0.03
    wide = ladder(1e19, 0.05, 60, 13)
    (whole,) = vertex_bias(
        LAW, [replace(wide, params=tuple(point.params for point in wide.points))], 6.0
    )
    assert abs(whole) > 3 * abs(bias)


@pytest.mark.parametrize("without", [{"a": 0.0}, {"b": 0.0}])
def test_a_surface_without_one_of_its_terms_has_no_vertex(without: dict[str, float]) -> None:
    """Non-negative least squares drops a term where minima lie towards one end of the ladders."""
    assert vertex_bias(replace(LAW, **without), [ladder(1e19, 0.25, 4, 9)], 6.0) == []
