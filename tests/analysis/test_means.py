"""Means over seeds: intervals that hold what they should."""

import math

import numpy as np
import pytest
from scipy import stats

from modsearch.analysis.means import mean_of, runs_note


def test_the_interval_of_a_mean_equals_scipys() -> None:
    values = [1.0, 1.3, 0.8, 1.1]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = mean_of(values)
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), *expected))


def test_what_seeds_share_does_not_shrink_with_them() -> None:
    many = mean_of(list(np.linspace(-0.01, 0.01, 1000)), shared=0.03)
    assert many.high == pytest.approx(1.96 * 0.03, rel=0.01)


@pytest.mark.parametrize(
    ("seeds", "items", "sd"), [(3, 400, 0.002), (3, 100, 0.05), (8, 200, 0.1)]
)
def test_the_interval_covers_where_all_seeds_answer_the_same_items(
    seeds: int, items: int, sd: float
) -> None:
    """Items differ in how hard they are, and seeds in how good they are."""
    draws = np.random.default_rng(1)
    held = alone = 0
    worlds = 1500
    for _ in range(worlds):
        hard_I = draws.normal(0, 0.3, items)
        good_S = draws.normal(0, sd, seeds)
        chance_SI = np.clip(0.5 + good_S[:, None] + hard_I, 0, 1)
        right_SI = draws.random(chance_SI.shape) < chance_SI
        values = right_SI.mean(1)
        errors = np.sqrt(values * (1 - values) / (items - 1))
        both, seeds_alone = mean_of(values, math.hypot(*errors) / seeds**0.5), mean_of(values)
        held += both.low is not None and both.low <= 0.5 <= (both.high or 0)
        alone += seeds_alone.low is not None and seeds_alone.low <= 0.5 <= (seeds_alone.high or 0)
    assert 0.94 <= held / worlds <= 0.995
    assert alone < held


def test_few_values_have_no_interval_and_a_word() -> None:
    assert mean_of([1.0, 2.0]).low is None
    assert mean_of([1.0, 1.0, 1.0]).low is None
    assert [runs_note(num) for num in (1, 2, 3)] == ["single run", "2 runs: no interval", ""]
