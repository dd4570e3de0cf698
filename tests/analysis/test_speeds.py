"""Ratios of speeds and the multiplier at equal training time, against clocks that are known."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from worlds import manifest, study

from modsearch.analysis.claims import study_claims
from modsearch.analysis.compare import Multiplier, fieller
from modsearch.analysis.noise import NORMAL
from modsearch.analysis.slopes import Slope
from modsearch.analysis.speeds import (
    Ratio,
    at_equal_time,
    current,
    decode_ratio,
    doubts,
    front,
    paired,
    reference_at,
    scatter,
    step_ratio,
    training_ratio,
    unrest,
)
from modsearch.config.speeds import Decoded, Speeds, Timed

FLAT = Slope(value=0.15, se=0.01, budgets=(1e11, 1e12))


def arm(
    name: str,
    steps: Sequence[float],
    tokens: Sequence[float] = (),
    flops: int = 1000,
    trial: str = "a",
) -> Timed:
    rows = [
        Decoded(batch_size=size, context=24, tokens=8, seconds=list(tokens), cache_bytes=100.0)
        for size in (1, 16)
    ]
    return Timed(
        arm=name, budget=1e12, trial=trial, depth=2, width=16, parameter_bytes=4000,
        flops_per_step=flops, step_seconds=list(steps), decoded=rows if tokens else [],
        missing=None if tokens else "weights of trial a were not kept",
    )  # fmt: skip


def speeds(*arms: Timed, before: float = 0.1, after: float = 1.1, threads: int = 1) -> Speeds:
    return Speeds(
        study="made up", device="cpu", machine="a clock", precision="fp32", threads=threads,
        cores=2, torch="2", rounds=len(arms[0].step_seconds), seconds=0.5, load_before=before,
        load_after=after, arms=list(arms),
    )  # fmt: skip


BOTH = speeds(
    arm("dense", [0.2, 0.4, 0.1], [0.02, 0.04, 0.01], flops=2000),
    arm("mod", [0.1, 0.2, 0.05], [0.01, 0.02, 0.005], flops=1100),
)
"""A clock that doubles and halves, which hits both arms alike."""


def test_drift_that_hits_both_arms_is_in_no_ratio() -> None:
    assert step_ratio(BOTH, "mod", "dense", 1e12) == Ratio(*[pytest.approx(0.5)] * 3)
    assert decode_ratio(BOTH, "mod", "dense", 1e12) == Ratio(*[pytest.approx(2.0)] * 3)
    assert decode_ratio(BOTH, "dense", "mod", 1e12, 16) == Ratio(*[pytest.approx(0.5)] * 3)


def test_training_time_at_equal_flops_counts_a_steps_flops() -> None:
    """A step of half the time for 55 % of the FLOPs: the training takes 0.5 / 0.55 of the time."""
    found = training_ratio(BOTH, "mod", "dense", 1e12)
    assert found is not None
    assert found.value == pytest.approx(0.5 / 0.55)


def test_what_was_not_measured_has_no_ratio() -> None:
    alone = speeds(arm("dense", [0.2, 0.2], [0.1, 0.1]), arm("mod", [0.1, 0.1]))
    assert step_ratio(alone, "other", "dense", 1e12) is None
    assert training_ratio(alone, "mod", "dense", 1e11) is None
    assert decode_ratio(alone, "mod", "dense", 1e12) is None
    assert decode_ratio(BOTH, "mod", "dense", 1e12, 4) is None
    assert paired([0.2], [0.1]) == Ratio(pytest.approx(2.0), None, None)


def test_an_interval_of_paired_rounds_holds_the_truth_in_19_of_20() -> None:
    """Also where disturbances are one-sided, as another program's are."""
    draw = np.random.default_rng(0)
    for spikes in (0.0, 0.05):
        held = 0
        for _ in range(1000):
            drift = np.cumsum(draw.normal(0, 0.05, 9))
            noise = draw.normal(0, 0.02, (2, 9)) + spikes * draw.exponential(1, (2, 9))
            ours, theirs = np.exp(drift + noise)
            found = paired(list(0.7 * ours), list(theirs))
            assert found.low is not None
            assert found.high is not None
            held += found.low <= 0.7 <= found.high
        assert 0.93 <= held / 1000 <= 0.975, spikes


def multiplier(d: float, half: float, along: Slope = FLAT) -> Multiplier:
    low, high = fieller(d, (half, half), along)
    ends = (None if end is None else math.exp(end) for end in (low, high))
    return Multiplier(math.exp(d / along.value), *ends, along, extrapolated=False)


def test_half_of_the_time_a_flop_doubles_the_multiplier() -> None:
    known = multiplier(0.03, 0.015)
    exact = at_equal_time(known, Ratio(0.5, 0.5, 0.5))
    assert known.low is not None
    assert known.high is not None
    assert exact.value == pytest.approx(2 * known.value)
    assert exact.low == pytest.approx(2 * known.low)
    assert exact.high == pytest.approx(2 * known.high)
    wider = at_equal_time(known, Ratio(0.5, 0.4, 0.6))
    assert wider.low is not None
    assert wider.high is not None
    assert wider.low < 2 * known.low
    assert wider.high > 2 * known.high


def test_an_end_that_is_not_known_stays_unknown() -> None:
    known, flat = multiplier(0.03, 0.015), Slope(value=0.01, se=0.02, budgets=(1e11, 1e12))
    unbound = multiplier(0.03, 0.015, flat)
    assert unbound.low is None
    assert at_equal_time(unbound, Ratio(0.5, 0.4, 0.6)) == Ratio(
        pytest.approx(2 * unbound.value), None, None
    )
    alone = at_equal_time(known, Ratio(0.5, None, None))
    assert (alone.low, alone.high) == (None, None)
    one_sided = Multiplier(1.2, 1.0, None, FLAT, extrapolated=True)
    found = at_equal_time(one_sided, Ratio(1.0, 0.9, 1.1))
    assert found.low == pytest.approx(1.2 * math.exp(-math.hypot(math.log(1.2), math.log(1.1))))
    assert found.high is None
    endless = Multiplier(1.2, 0.0, math.inf, FLAT, extrapolated=True)
    found = at_equal_time(endless, Ratio(1.0, 0.9, 1.1))
    assert (found.low, found.high) == (0.0, math.inf)


@pytest.mark.parametrize("clock", [0.01, 0.1, 0.5])
def test_the_interval_at_equal_time_holds_the_truth(clock: float) -> None:
    """Of d, s and the clock, all with errors: m = exp(0.03 / 0.15), q = 0.9. Where the clock's
    error rules, nine rounds bound it by Student's t alone."""
    draw = np.random.default_rng(1)
    truth, held = math.exp(0.03 / 0.15) / 0.9, 0
    for _ in range(1000):
        along = Slope(value=draw.normal(0.15, 0.015), se=0.015, budgets=(1e11, 1e12))
        known = multiplier(draw.normal(0.03, 0.01), NORMAL * 0.01, along)
        ours, theirs = np.exp(draw.normal(0, clock, (2, 9)))
        found = at_equal_time(known, paired(list(0.9 * ours), list(theirs)))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 0.935 <= held / 1000 <= 0.98


def test_a_quiet_machine_is_not_doubted() -> None:
    steady = speeds(arm("dense", [0.2, 0.21, 0.2], [0.02, 0.02, 0.021]), before=0.4, threads=2)
    assert doubts(steady) == []


def test_a_busy_machine_is_doubted() -> None:
    still = arm("dense", [0.2, 0.2, 0.2], [0.02, 0.02, 0.02])
    (line,) = doubts(speeds(still, before=2.0))
    assert "load average was 2.0 before and 1.1 after 1 thread on 2 cores" in line
    (line,) = doubts(speeds(still, after=3.0))
    assert "not quiet" in line
    rough = arm("mod", [0.2, 0.3, 0.2, 0.3], [0.02, 0.02, 0.02, 0.02])
    (line,) = doubts(speeds(rough))
    assert "in 1 of 3 measurements" in line
    assert "training steps of mod at 1e12 FLOPs" in line
    (line,) = doubts(speeds(arm("mod", [0.2, 0.2])))
    assert line == "mod at 1e12 FLOPs was not decoded: weights of trial a were not kept"


def test_what_was_not_measured_or_is_of_another_text_is_no_unrest() -> None:
    found = speeds(arm("mod", [0.2, 0.2])).model_copy(update={"same_text": False})
    assert len(doubts(found)) == 2
    assert unrest(found) == []


def test_a_steady_drift_is_no_scatter() -> None:
    assert scatter(np.exp(np.linspace(0, 0.5, 26)).tolist()) < 0.02
    draw = np.random.default_rng(0)
    assert scatter(np.exp(draw.normal(0, 0.1, 4000)).tolist()) == pytest.approx(0.1, rel=0.05)
    assert scatter([0.2]) == 0.0


def test_the_front_is_what_nothing_beats() -> None:
    points = [(1.0, 3.0), (2.0, 2.0), (3.0, 2.0), (3.0, 1.0), (4.0, 4.0), (1.0, 3.0)]
    assert front(points) == [True, True, False, True, False, True]
    assert front([]) == []


def test_what_no_longer_stands_for_its_arm_is_named_and_left_out() -> None:
    claims = study_claims(manifest(), study())
    dense = next(each for each in claims.confirmed if each.arm == "dense")
    reference = reference_at(claims, 1e12)
    assert reference is not None
    assert reference.arm == "dense"
    assert reference_at(claims, 1e10) is None
    stands = arm("dense", [0.2], trial=dense.records[0].hash)
    found, lines = current(speeds(stands, arm("mod", [0.1], trial="gone")), claims.confirmed)
    assert found.arms == [stands]
    (line,) = lines
    assert "mod at 1e12 FLOPs was timed at depth 2, width 16" in line
