"""Early stopping: bars of known curves, forecasts of known laws, how often they are wrong."""

import math

import numpy as np
import pytest

from modsearch.analysis.stopping import bars_of, foretold, smoothed, verdict
from modsearch.config.stopping import Stopping

SHARES = [step / 100 for step in range(1, 101)]


def curve(level: float, rise: float = 1.0, sd: float = 0.0, seed: int = 0, end: float = 1.0):  # type: ignore[no-untyped-def]
    """A power law to a level, up to a share of the steps."""
    noise = np.random.default_rng(seed).normal(0, sd, len(SHARES))
    rows = [(at, level + rise * (at**-0.5 - 1) + n) for at, n in zip(SHARES, noise, strict=True)]
    return [row for row in rows if row[0] <= end]


def test_a_loss_is_smoothed_over_the_last_steps() -> None:
    rows = [(at, at) for at in SHARES]
    assert smoothed(rows, 0.5) == pytest.approx(0.48)
    assert smoothed(rows[:30], 0.5) is None
    assert smoothed([], 0.5) is None


@pytest.mark.parametrize("level", [1.0, 3.0])
def test_a_power_law_is_foretold(level: float) -> None:
    assert foretold(curve(level), 0.5) == pytest.approx(level, abs=1e-6)
    assert foretold(curve(level, sd=0.01), 0.5) == pytest.approx(level, abs=0.05)
    assert foretold(curve(level)[:7], 0.5) is None


def test_nothing_is_stopped_before_enough_are_whole() -> None:
    for rule in ("median", "asha", "extrapolate"):
        stopping = Stopping(rule=rule)
        some = [curve(2.0), curve(2.1), curve(2.2), curve(2.3, end=0.5)]
        assert bars_of(stopping, some).bars == []
        found = [bar.share for bar in bars_of(stopping, [*some, curve(2.4)]).bars]
        assert found == ([0.5] if rule == "extrapolate" else [0.25, 0.5])


def test_the_median_stops_the_upper_half() -> None:
    found = bars_of(Stopping(rule="median", rungs=[0.5]), [curve(2 + i / 10) for i in range(5)])
    [bar] = found.bars
    assert verdict(bar, curve(2.1)) is None
    said = verdict(bar, curve(2.3))
    assert said is not None
    assert "at 50% of its steps" in said
    assert "the median of 5 trials" in said


def test_asha_lets_the_best_of_eta_go_on() -> None:
    """Of eight and this one the best three go on: the bar is the third of the eight."""
    earlier = [curve(2 + i / 10) for i in range(8)]
    [bar] = bars_of(Stopping(rule="asha", rungs=[0.5], eta=3.0), earlier).bars
    assert verdict(bar, curve(2.15)) is None
    assert verdict(bar, curve(2.25)) is not None
    [mild] = bars_of(Stopping(rule="asha", rungs=[0.5], eta=1.5), earlier).bars
    assert verdict(mild, curve(2.45)) is None


def test_stopped_trials_count_where_they_were() -> None:
    whole = [curve(2.0 + i / 10) for i in range(4)]
    low = [curve(1.0, end=0.3)] * 5
    early, late = bars_of(Stopping(rule="median"), [*whole, *low]).bars
    assert early.most < min(c[24][1] for c in whole)
    assert late.most > min(c[49][1] for c in whole)


def falling(level: float, seed: int) -> list[tuple[float, float]]:
    """What a decaying rate makes of a curve: it ends lower than its law foretells."""
    return [(at, y - 0.2 * max(0.0, at - 0.5)) for at, y in curve(level, sd=0.02, seed=seed)]


def test_a_forecast_is_corrected_by_what_such_forecasts_were_off_by() -> None:
    earlier = [falling(2 + i / 20, i) for i in range(8)]
    [bar] = bars_of(Stopping(rule="extrapolate", rungs=[0.5]), earlier).bars
    assert bar.added == pytest.approx(-0.1, abs=0.04)
    assert bar.margin > 0
    assert verdict(bar, falling(2.0, 99)) is None
    assert verdict(bar, falling(2.6, 99)) is not None


def test_the_best_is_seldom_stopped_and_the_error_is_stated() -> None:
    """Of trials that end as the best one so far, an error at a level of 95 % stops about one in
    twenty, at whatever noise; much worse ones are stopped nearly always."""
    wrong = right = 0
    runs = 200
    for run in range(runs):
        earlier = [falling(2 + i / 20, 100 * run + i) for i in range(10)]
        [bar] = bars_of(Stopping(rule="extrapolate", rungs=[0.5]), earlier).bars
        wrong += verdict(bar, falling(2.0, 100 * run + 50)) is not None
        right += verdict(bar, falling(2.5, 100 * run + 51)) is not None
    assert wrong / runs < 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert right / runs > 0.9
