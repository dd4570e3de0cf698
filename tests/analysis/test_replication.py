"""What studies with several seeds say together."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scripts import benchmark
from worlds import looked

from modsearch.analysis.claims import Claim, study_claims
from modsearch.analysis.means import mean_of
from modsearch.analysis.replication import replication
from modsearch.analysis.verdicts import Verdict


def headlines(count: int) -> list[Claim]:
    return [study_claims(*looked(12, sd=0.01, draw=draw)).headline for draw in range(count)]


def test_a_mean_over_studies_has_the_interval_of_student() -> None:
    claims = headlines(6)
    differences = [each.comparison.difference for each in claims if each.comparison]
    found = replication(claims)
    assert found is not None
    assert found.differences == tuple(differences)
    assert found.sd == pytest.approx(np.std(differences, ddof=1))
    plain = mean_of(differences)
    assert found.mean.value == plain.value
    assert found.mean.low == pytest.approx(plain.low), "no text is known to be shared here"
    intervals = [each.comparison.interval for each in claims if each.comparison]
    assert found.intervals == len(intervals) == 6
    held = [each for each in intervals if each and each.low <= found.mean.value <= each.high]
    assert found.holding == len(held)
    assert sum(found.verdicts.values()) == 6


def test_the_test_text_that_all_share_widens_the_mean_s_interval() -> None:
    claims = headlines(4)
    plain = replication(claims)
    shared = []
    for claim in claims:
        assert claim.comparison is not None
        known = claim.comparison.interval
        assert known is not None
        other = replace(claim.comparison)
        other.__dict__["interval"] = replace(known, sample_se=0.01)
        shared.append(replace(claim, comparison=other))
    found = replication(shared)
    assert plain is not None
    assert found is not None
    assert plain.mean.high is not None
    assert found.mean.high is not None
    half = plain.mean.high - plain.mean.value
    assert found.mean.high - found.mean.value == pytest.approx(math.hypot(half, 1.96 * 0.01), 1e-3)
    assert found.mean.value == plain.mean.value


def test_untrained_studies_are_counted_and_enter_no_mean() -> None:
    claims = headlines(3)
    without = replace(claims[0], verdict=Verdict.NONE, comparison=None)
    untrained = replace(claims[1], verdict=Verdict.UNTRAINED)
    found = replication([*claims, without, untrained])
    assert found is not None
    assert len(found.differences) == 3
    assert found.verdicts[Verdict.NONE] == found.verdicts[Verdict.UNTRAINED] == 1
    assert replication([without, untrained]) is None


def test_two_studies_have_a_mean_and_no_interval() -> None:
    found = replication(headlines(2))
    assert found is not None
    assert (found.mean.low, found.mean.high) == (None, None)
    assert found.sd is not None
    alone = replication(headlines(1))
    assert alone is not None
    assert alone.sd is None


@pytest.mark.slow
def test_the_mean_of_ten_studies_holds_the_truth() -> None:
    """benchmarks/verdicts.py --repeated prints the table."""
    bench = benchmark("verdicts")
    rng = np.random.default_rng(5)
    found = [bench.repeated(rng, bench.KINDS[1], 0.0, 10) for _ in range(100)]
    assert np.mean([holds for _, holds, _ in found]) > 0.89
    assert abs(np.mean([bias for bias, _, _ in found])) < 0.05 * bench.SD
