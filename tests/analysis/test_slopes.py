"""The local slope of the minima, against laws that are known."""

import math

import numpy as np
import pytest
from worlds import study, trial

from modsearch.analysis.curves import Fit
from modsearch.analysis.fits import fit_curves
from modsearch.analysis.optima import optima
from modsearch.analysis.slopes import EXPONENT, local_law, slope_at
from modsearch.config.records import Record

E, G, POWER = 0.9, 1.0, 0.2


def least(budget: float) -> float:
    return E + G * (budget / 1e11) ** -POWER


def minima(rows: list[Record]) -> list[Fit]:
    found = optima(fit_curves(rows))
    return [best.fit for best in found if best.arm == "dense" and best.fit is not None]


def rows_of(budgets: tuple[float, ...], edge: float | None = None) -> list[Record]:
    """Ladders with a minimum in the middle; at the budget `edge` the first size is the lowest."""
    sizes = (16, 20, 24, 32, 40, 48, 64)
    return [
        trial(
            budget=budget,
            width=width,
            loss=least(budget) + (0.1 * i if budget == edge else 0.02 * (i - 3) ** 2),
        )
        for budget in budgets
        for i, width in enumerate(sizes)
    ]


def test_the_slope_is_that_at_the_budget_and_not_of_a_line_through_all() -> None:
    budgets = (1e11, 3e11, 1e12, 3e12)
    x = np.log(np.array(budgets) / 3e12)
    law = local_law(x, np.array(list(map(least, budgets))), 1e-5 + 0 * x)
    assert law.slope == pytest.approx(POWER * (least(3e12) - E), rel=1e-3)
    assert law.exponent == pytest.approx(POWER, rel=1e-2)
    assert np.sqrt(law.covariance[1, 1]) < 1e-3
    line = -np.polyfit(x, [least(budget) for budget in budgets], 1)[0]
    assert line > 1.3 * law.slope


def test_slopes_of_two_budgets_are_secants_bent_by_the_prior() -> None:
    found = slope_at(minima(rows_of((1e11, 1e12))), 1e12)
    assert found is not None
    assert "secant of two budgets" in found.kind
    assert found.at == 1e12
    assert found.exponent == pytest.approx(EXPONENT)
    fits = [curve for curve in fit_curves(rows_of((1e11, 1e12))) if isinstance(curve, Fit)]
    secant = (fits[0].minimum_loss - fits[1].minimum_loss) / math.log(10)
    bent = EXPONENT * math.log(10)
    assert found.value == pytest.approx(secant * bent / math.expm1(bent), rel=1e-6)
    assert found.se is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < POWER * (least(1e12) - E) < found.high
    low = slope_at(minima(rows_of((1e11, 1e12))), 1e11)
    assert low is not None
    assert low.value > secant > found.value


def test_three_budgets_are_a_law() -> None:
    found = slope_at(minima(rows_of((1e11, 3e11, 1e12))), 1e12)
    assert found is not None
    assert "through 3 minima" in found.kind
    assert found.value == pytest.approx(POWER * (least(1e12) - E), rel=0.1)


def test_a_refused_minimum_does_not_enter_and_one_alone_has_no_slope() -> None:
    budgets = (1e11, 3e11, 1e12)
    found = slope_at(minima(rows_of(budgets, edge=1e12)), 1e12)
    assert found is not None
    assert found.budgets == (1e11, 3e11)
    assert slope_at(minima(rows_of((1e11, 1e12), edge=1e12)), 1e12) is None
    assert slope_at([], 1e12) is None


def test_a_straight_law_has_an_exponent_of_zero() -> None:
    x = np.linspace(-3, 0, 5)
    law = local_law(x, 1.9 - 0.15 * x, np.full(5, 1e-6))
    assert law.slope == pytest.approx(0.15, abs=1e-4)
    assert law.exponent == pytest.approx(0, abs=1e-3)


def test_noise_without_information_falls_back_to_the_prior() -> None:
    generator = np.random.default_rng(3)
    for _ in range(50):
        losses = 2.0 + 0.3 * generator.standard_normal(3)
        law = local_law(np.array([-1.0, -0.5, 0.0]), losses, np.full(3, 0.3))
        assert math.isfinite(law.slope)
        assert abs(law.exponent - EXPONENT) < 0.1
        assert math.sqrt(law.covariance[1, 1]) > 0.1


def test_the_slope_of_a_study_is_at_the_headline() -> None:
    found = slope_at(minima(study()), 1e12)
    assert found is not None
    assert found.budgets == (1e11, 1e12)
