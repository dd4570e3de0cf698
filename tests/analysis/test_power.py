"""What confirm can find out, before it is run."""

import numpy as np
import pytest
from scripts import benchmark

from modsearch.analysis.noise import SEED_SD, t_quantile
from modsearch.analysis.power import chances, reachable_margin, runs_for

LOOKS = (6, 12, 18, 24)


def test_chances_are_shares_of_all_ends() -> None:
    for effect in (0.0, 0.035):
        found = chances(LOOKS, 0.02, effect)
        ends = (found.better, found.worse, found.equivalent, found.inconclusive)
        assert sum(ends) == pytest.approx(1.0)
        assert 6 <= found.runs <= 24


def test_a_larger_effect_is_found_more_often_and_for_fewer_runs() -> None:
    found = [chances(LOOKS, 0.02, sds * SEED_SD) for sds in (0.5, 1.0, 1.5, 2.0)]
    assert [each.better for each in found] == sorted(each.better for each in found)
    assert found[1].better > 0.6
    assert found[3].better > 0.98
    assert found[3].runs < 15.5
    assert all(each.worse < 0.01 for each in found)


def test_nothing_is_found_where_nothing_is() -> None:
    found = chances(LOOKS, 0.02, 0.0)
    assert found.better + found.worse < 0.05
    assert found.equivalent > 0.5
    noisy = chances(LOOKS, 0.02, 0.0, sd=3 * SEED_SD)
    assert noisy.better + noisy.worse < 0.05
    assert noisy.runs < 18, "futility ends what can't be known"


def test_a_fixed_design_of_three_seeds_finds_little() -> None:
    found = chances((3,), 0.03, 0.035, curve=False)
    assert found.runs == 3
    assert 0.15 < found.better < 0.35


def test_the_margin_is_what_so_many_runs_can_tell_and_one_deviation_at_least() -> None:
    assert reachable_margin(tuple(range(6, 301, 6)), SEED_SD) == SEED_SD
    margins = [reachable_margin(tuple(range(6, runs + 1, 6)), SEED_SD) for runs in (6, 12, 24)]
    assert margins == sorted(margins, reverse=True)
    for runs, margin in zip((12, 24), margins[1:], strict=True):
        found = chances(tuple(range(6, runs + 1, 6)), margin, 0.0)
        assert 0.6 < found.equivalent < 0.95


def test_runs_for_is_what_a_study_needs() -> None:
    assert runs_for(1e-6) is None
    for effect in (0.018, 0.035):
        runs = runs_for(effect)
        assert runs is not None
        found = chances(tuple(range(6, runs + 1, 6)), 0.01, effect, draws=2000)
        assert 0.72 < found.better < 0.95


def test_t_quantile() -> None:
    assert t_quantile(8) == pytest.approx(2.306, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("place", range(7))
def test_equal_arms_are_seldom_called_different(place: int) -> None:
    """The whole procedure on made-up studies, choice of sizes by noisy ladders included;
    benchmarks/verdicts.py prints the table of 5,000 of each kind."""
    bench = benchmark("verdicts")
    kind = bench.KINDS[place]
    # A parabola's vertex is off where a branch is steep: 4.9 and 6.0 % there, and 2 to 3.5 % else.
    for design, most in (("looks", 0.08 if kind.steep else 0.05), ("fixed 16", 0.05)):
        rng = np.random.default_rng(3)
        ends = [bench.study(rng, kind, 0.0, design) for _ in range(1000)]
        assert np.mean([end.word in ("better", "worse") for end in ends]) < most
        assert np.mean([end.holds for end in ends]) > (0.92 if kind.steep else 0.95)


@pytest.mark.slow
def test_power_is_what_plan_says() -> None:
    bench = benchmark("verdicts")
    rng = np.random.default_rng(4)
    ends = [bench.study(rng, bench.KINDS[1], 1.5 * bench.SD, "looks") for _ in range(500)]
    found = np.mean([end.word == "better" for end in ends])
    foreseen = chances(LOOKS, reachable_margin(LOOKS, bench.SD), 1.5 * bench.SD, bench.SD)
    assert found == pytest.approx(foreseen.better, abs=0.04)
    assert np.mean([end.runs for end in ends]) == pytest.approx(foreseen.runs, abs=1.5)
