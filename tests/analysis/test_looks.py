"""Several looks with one error rate."""

import numpy as np
import pytest
from scipy import special

from modsearch.analysis.looks import FIXED, chance_at_the_end, nominal, planned, spent


def test_levels_of_four_looks_are_those_of_the_literature() -> None:
    """O'Brien-Fleming-type spending of 5 %: 0.0000147, 0.00305, 0.0183, 0.0440."""
    levels = [look.level for look in planned(4)]
    assert levels == pytest.approx([1.473e-5, 0.003045, 0.018322, 0.044], rel=1e-3)
    inner = [look.equivalence for look in planned(4)]
    assert inner == pytest.approx([0.000177, 0.011087, 0.043793, 0.0854], rel=1e-3)


def test_one_look_spends_all_and_many_have_nothing_for_the_first() -> None:
    assert FIXED.level == pytest.approx(0.05)
    assert FIXED.equivalence == pytest.approx(0.10)
    many = [look.level for look in planned(150)]
    assert many[10:] == sorted(many[10:])
    assert max(many[:10]) < 1e-12
    assert 0.02 < many[-1] < 0.05
    assert spent(1.0, 0.05) == pytest.approx(0.05)


@pytest.mark.parametrize("shares", [[0.25, 0.5, 0.75, 1.0], [0.5, 1.0], [0.1, 0.9, 1.0]])
def test_error_over_all_looks_is_what_was_promised(shares: list[float]) -> None:
    generator = np.random.default_rng(0)
    draws = 400_000
    steps = np.diff([0.0, *shares])
    state = np.cumsum(generator.standard_normal((draws, len(steps))) * np.sqrt(steps), axis=1)
    z = np.abs(state) / np.sqrt(shares)
    bounds = -special.ndtri(np.array(nominal(shares, 0.05)) / 2)
    assert (z > bounds).any(1).mean() == pytest.approx(0.05, abs=0.0012)


def test_the_chance_of_a_verdict_at_the_end_is_that_of_simulated_ends() -> None:
    """Of a difference that today is d with error se, by a normal prior without an opinion."""
    generator = np.random.default_rng(0)
    look, last, margin = planned(4)[1], planned(4)[3], 0.02
    for d, se in ((0.0, 0.008), (0.01, 0.008), (0.004, 0.012), (0.03, 0.01)):
        truth = d + se * generator.standard_normal(200_000)
        more = truth + se * generator.standard_normal(200_000)  # half of the data is still to come
        end, end_se = (d + more) / 2, se * np.sqrt(0.5)
        away = np.abs(end) > -special.ndtri(last.level / 2) * end_se
        within = np.abs(end) - special.ndtri(last.equivalence / 2) * end_se < margin
        found = chance_at_the_end(d, se, look, last, margin)
        assert found == pytest.approx((away | within).mean(), abs=0.005)
