"""Power laws of the minima against laws that are known, and the benchmarks of both."""

import math
from pathlib import Path

import numpy as np
import pytest
from scripts import benchmark
from worlds import study

from modsearch.analysis.curves import Fit
from modsearch.analysis.fits import fit_curves
from modsearch.analysis.laws import left_out, params_law, power_law, predict

BUDGETS = (1e11, 3e11, 1e12)


def dense(budgets: tuple[float, ...] = BUDGETS, sd: float = 0.0, draw: int = 0) -> list[Fit]:
    curves = fit_curves(study(sd=sd, budgets=budgets, draw=draw))
    return [curve for curve in curves if isinstance(curve, Fit) and curve.arm == "dense"]


def test_a_power_law_is_recovered_with_its_error() -> None:
    x = np.array([1.0, 10.0, 100.0, 1000.0])
    law = power_law(x, 3 * x**0.5, np.full(4, 0.1))
    assert law.exponent == pytest.approx(0.5)
    assert law.at(50.0).value == pytest.approx(3 * 50**0.5)
    spread = math.sqrt(((np.log(x) - np.log(x).mean()) ** 2).sum())
    assert law.exponent_interval.high - 0.5 == pytest.approx(1.959964 * 0.1 / spread)
    assert law.at(1e6).high / law.at(1e6).value > law.at(30.0).high / law.at(30.0).value


def test_errors_of_x_count_by_the_exponent() -> None:
    x = np.array([1.0, 10.0, 100.0])
    y = 2 * x**0.5
    both = power_law(x, y, np.full(3, 0.3), np.full(3, 0.8))
    alone = power_law(x, y, np.full(3, 0.5))  # 0.3^2 + (0.5 * 0.8)^2
    assert both.covariance == pytest.approx(alone.covariance)
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        noisy_x = x * np.exp(0.1 * generator.standard_normal(3))
        noisy_y = y * np.exp(0.1 * generator.standard_normal(3))
        law = power_law(noisy_x, noisy_y, np.full(3, 0.1), np.full(3, 0.1))
        hits += law.exponent_interval.holds(0.5)
    assert 0.92 < hits / 400 < 0.98


def test_points_of_small_error_decide() -> None:
    x = np.array([1.0, 10.0, 100.0])
    y = 2 * x**0.5 * np.array([1.0, 1.0, 9.0])
    assert power_law(x, y, np.array([0.01, 0.01, 10.0])).exponent == pytest.approx(0.5, abs=1e-3)


def test_a_prediction_holds_the_law_and_says_how_far_it_is() -> None:
    fits = dense()
    told = predict(fits, 1e13)
    assert told is not None
    assert told.factor == pytest.approx(10)
    assert told.params.value == pytest.approx(300_000, rel=1e-6)
    assert params_law(fits).exponent == pytest.approx(0.5)
    inside = predict(fits, 1e12)
    assert inside is not None
    assert inside.loss.holds(1.9 - 0.15 * math.log(10))
    width = told.loss.high - told.loss.low
    assert width > 2 * (inside.loss.high - inside.loss.low)
    assert predict(fits[:1], 1e13) is None
    assert predict([], 1e13) is None


def test_each_budget_is_foretold_from_the_others() -> None:
    fits = dense()
    errors = left_out(fits)
    assert [each.predicted.budget for each in errors] == list(BUDGETS)
    for each, fit in zip(errors, fits, strict=True):
        assert each.loss == fit.minimum_loss
        assert each.predicted.params.value == pytest.approx(fit.minimum_params, rel=1e-6)
    assert errors[-1].predicted.factor == pytest.approx(10 / 3)
    assert left_out(fits[:2]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["three budgets", "five budgets", "two budgets"])
def test_intervals_hold_the_truth(name: str) -> None:
    """250 made-up studies; benchmarks/worlds.py prints the table of a thousand of each kind."""
    bench = benchmark("worlds")
    (kind,) = (each for each in bench.KINDS if each.name == name)
    tally = bench.run(kind, 250)
    for what in ("minimum after", "minimum before", "vertex after", "exponent"):
        assert tally.mean(what) >= 0.92, (what, tally.mean(what))
    for what in ("multiplier 5", "multiplier 16", "slope"):
        assert 0.925 <= tally.mean(what) <= 0.999, (what, tally.mean(what))
    assert 0.9 < tally.mean("slope ratio") < 1.1, "one line through all is 1.3 times too steep"
    if name != "two budgets":
        assert tally.mean("largest") > 0.93
        assert tally.mean("largest N*") > 0.9


@pytest.mark.slow
def test_chinchilla_is_fitted_as_published(
    shared_data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benchmark("chinchilla")
    path = shared_data / "isoflops" / "chinchilla.csv"
    monkeypatch.setattr("sys.argv", ["chinchilla.py", "--points", str(path), "--draws", "0"])
    bench.main()
    printed = capsys.readouterr().out
    assert "1 of 9 curves refused" in printed
    rows = bench.read(path)
    fits = [curve for curve in bench.curves_of(rows) if isinstance(curve, Fit)]
    assert 0.47 < params_law(fits).exponent < 0.55
    fit = bench.surface(rows, bench.by_huber, True, 0)
    assert fit.surface.params_exponent == pytest.approx(0.535, abs=0.02)
    assert fit.surface.alpha == pytest.approx(0.344, abs=0.02)
