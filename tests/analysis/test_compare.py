"""Two arms against each other, by fresh seeds."""

import math

import numpy as np
import pytest
from scipy import stats
from worlds import BUDGETS, GAIN, SLOPE, changed, law, looked, trial

from modsearch.analysis.claims import study_claims
from modsearch.analysis.compare import Confirmed, Group, compare, fieller
from modsearch.analysis.headline_notes import smaller
from modsearch.analysis.looks import FIXED, Look, planned
from modsearch.analysis.slopes import Slope
from modsearch.analysis.verdicts import Bounds, Verdict, held, verdict_of
from modsearch.config.design import Size
from modsearch.config.records import Record, Stage, State

BOUNDS = Bounds(margin=0.02, bigram_entropy=3.0)


def arm(
    name: str, losses: list[float], regret: float = 0.0, look: Look | None = FIXED
) -> Confirmed:
    """Runs of one size."""
    rows = [
        trial(Stage.CONFIRM, arm=name, loss=loss, seed=100 + seed)
        for seed, loss in enumerate(losses)
    ]
    group = Group(Size(depth=2, width=32), 30_000, tuple(rows))
    return Confirmed(name, 1e11, (group,), (), look, regret=regret)


def test_one_size_has_welchs_interval() -> None:
    a, b = [2.0, 2.02, 2.05], [1.9, 1.95, 1.91, 1.97]
    found = compare(arm("mod", b), arm("dense", a)).interval
    assert found is not None
    expected = stats.ttest_ind(a, b, equal_var=False)
    ends = expected.confidence_interval(0.95)
    inner = expected.confidence_interval(0.90)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
    assert found.inner == pytest.approx((inner.low, inner.high))
    assert found.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(("higher", "told"), [(0.005, True), (0.3, False)])
def test_fewer_forward_flops_are_no_saving_where_a_smaller_dense_model_does_as_well(
    higher: float, told: bool
) -> None:
    losses = [2.0, 2.02, 2.05]
    routed, dense = arm("mod", losses), arm("dense", losses)
    rows = [
        trial(Stage.CONFIRM, arm="dense", width=16, loss=loss + higher, seed=seed)
        for seed, loss in enumerate(losses)
    ]
    group = Group(Size(depth=2, width=16), 10_000, tuple(rows))
    both = Confirmed("dense", 1e11, (group, *dense.groups), ())
    notes = smaller(compare(routed, both), "token")
    assert len(notes) == told
    if told:
        assert "dense, depth 2, width 16, needs " in notes[0]
        assert "its loss, 0.005 [-0.0" in notes[0]
    assert smaller(compare(routed, dense), "token") == [], "one size has no smaller one"


def test_an_early_look_has_a_wider_interval() -> None:
    losses = {"mod": [2.0, 2.02, 2.05], "dense": [1.9, 1.95, 1.91]}
    ends = [
        compare(*(arm(name, each, look=look) for name, each in losses.items())).interval
        for look in (*planned(40)[:1], *planned(4))
    ]
    widths = [each.high - each.low for each in ends if each is not None]
    assert widths == sorted(widths, reverse=True)
    assert math.isfinite(widths[0])
    before = [arm(name, each, look=None) for name, each in losses.items()]
    assert compare(*before).interval is None
    assert before[0].half_width is None


def test_a_fixed_size_carries_how_far_its_own_minimum_may_lie_below() -> None:
    losses = [2.0, 2.01, 2.02], [2.05, 2.06, 2.07]
    plain = compare(arm("mod", losses[0]), arm("dense", losses[1])).interval
    wide = compare(arm("mod", losses[0], 0.01), arm("dense", losses[1], 0.02)).interval
    assert plain is not None
    assert wide is not None
    assert (wide.low, wide.high) == pytest.approx((plain.low - 0.02, plain.high + 0.01))
    assert wide.p > plain.p, "p is that of the widened interval"


def with_blocks(rows: tuple[Record, ...], blocks: np.ndarray) -> tuple[Record, ...]:
    found = []
    for row in rows:
        assert row.scores is not None
        scores = row.scores.model_copy(update={"block_losses": list(blocks)})
        found.append(row.model_copy(update={"scores": scores}))
    return tuple(found)


def test_the_sample_of_text_is_an_error_that_seeds_do_not_shrink() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = arm("mod", [2.0, 2.01, 2.02]), arm("dense", [2.05, 2.06, 2.07])
    ease = generator.standard_normal(64)  # how hard a share of the text is: the same for both
    shares = [ease + 0.03 * generator.standard_normal(64) for _ in range(2)]
    sides = []
    for side, blocks in zip((ours, theirs), shares, strict=True):
        group = side.groups[0]
        rows = with_blocks(group.records, blocks)
        sides.append(Confirmed(side.arm, 1e11, (Group(group.size, 30_000, rows),), ()))
    plain, wide = compare(ours, theirs).interval, compare(*sides).interval
    assert plain is not None
    assert wide is not None
    assert plain.sample_se == 0
    expected = float(np.std(shares[1] - shares[0], ddof=1)) / 8
    assert wide.sample_se == pytest.approx(expected)
    assert wide.se == pytest.approx(math.hypot(plain.se, expected))


def test_fieller_covers_and_knows_when_it_has_no_bounds() -> None:
    generator = np.random.default_rng(2)
    draws, hits = 2000, 0
    for _ in range(draws):
        d = 0.03 + 0.01 * generator.standard_normal()
        s = 0.15 + 0.02 * generator.standard_normal()
        low, high = fieller(d, (0.0196, 0.0196), Slope(s, 0.02, BUDGETS))
        assert low is not None
        assert high is not None
        hits += low <= 0.2 <= high
    assert 0.935 < hits / draws < 0.965
    assert fieller(0.03, (0.02, 0.02), Slope(0.15, 0.1, BUDGETS)) == (None, None)


def test_multiplier_and_verdict_agree() -> None:
    """The interval of the multiplier holds 1 just where that of the difference holds 0."""
    generator = np.random.default_rng(0)
    for _ in range(300):
        d, half = 0.02 * generator.standard_normal(), abs(0.02 * generator.standard_normal())
        low, high = fieller(d, (half, half), Slope(0.1, 0.02, BUDGETS))
        assert low is not None
        assert high is not None
        assert (low > 0, high < 0) == (d - half > 0, d + half < 0)


def test_words_of_several_comparisons_are_held_to_one_error() -> None:
    """One of four that alone just excludes zero is told no longer."""
    near = [2.0, 2.011, 2.022, 2.033]
    dense = arm("dense", [2.03, 2.04, 2.05, 2.06])
    several = [compare(arm(f"mod-{i}", near), dense) for i in range(4)]
    alone = [verdict_of(each, BOUNDS)[0] for each in several]
    assert alone == [Verdict.BETTER] * 4
    assert held(several[:1], BOUNDS)[0][0] is Verdict.BETTER
    words = held(several, BOUNDS)
    assert [word for word, _ in words] == [Verdict.INCONCLUSIVE] * 4
    p = several[0].interval.p if several[0].interval else math.nan
    assert [told for _, told in words] == pytest.approx([4 * p] * 4)


# Looks at a study


def test_a_study_is_read_at_its_last_whole_look() -> None:
    manifest, rows = looked(14, sd=0.004)
    claim = study_claims(manifest, rows).headline
    assert claim.runs == 12
    assert claim.comparison is not None
    assert claim.comparison.arm.num_runs == 12
    assert claim.comparison.look == planned(4)[1]
    before = study_claims(*looked(5, sd=0.004)).headline
    assert before.verdict is Verdict.NONE
    assert not before.settled
    assert "the first look is at 6 runs an arm" in before.sentence


def test_an_effect_is_known_early_and_ends_the_looks() -> None:
    claim = study_claims(*looked(12, sd=0.004)).headline
    assert claim.verdict is Verdict.BETTER
    assert claim.settled
    assert claim.comparison is not None
    assert claim.comparison.difference == pytest.approx(SLOPE * math.log(GAIN), abs=0.01)
    assert any("Look 2 of 4" in note for note in claim.notes)


def test_arms_without_a_difference_are_equivalent_or_futile_at_the_end() -> None:
    same = SLOPE * math.log(GAIN)
    close = study_claims(*looked(12, sd=0.004, shift=same)).headline
    assert close.verdict is Verdict.EQUIVALENT
    assert close.settled
    assert "lies within the margin of 0.02" in close.sentence
    noisy = study_claims(*looked(12, sd=0.06, shift=same, draw=4)).headline
    assert noisy.verdict is Verdict.INCONCLUSIVE
    assert noisy.settled, "no later look has a chance of a verdict"
    assert "a later one would have a verdict with a chance of" in noisy.sentence
    last = study_claims(*looked(24, sd=0.06, shift=same, draw=4)).headline
    assert last.settled
    assert "a later one" not in last.sentence


def test_runs_that_did_not_finish_count_for_the_look_and_are_told() -> None:
    manifest, rows = looked(6, sd=0.004)
    at = next(i for i, r in enumerate(rows) if (r.stage, r.arm) == (Stage.CONFIRM, "mod"))
    rows[at] = rows[at].model_copy(update={"state": State.DIVERGED, "scores": None})
    claim = study_claims(manifest, rows).headline
    assert claim.runs == 6
    assert any("1 of 6 runs did not finish" in note for note in claim.notes)


def test_what_was_chosen_before_the_first_look_stays() -> None:
    """Measure that is extended afterwards moves neither sizes nor the arms of the headline."""
    manifest, rows = looked(12, sd=0.004)
    before = study_claims(manifest, rows).headline
    moved = [
        changed(row, causal_loss=law("mod", row.budget.flops, 4 * row.plan.params))
        if (row.stage, row.arm) == (Stage.MEASURE, "mod") and row.plan
        else row
        for row in rows
    ]
    after = study_claims(manifest, moved).headline
    assert after.comparison is not None
    assert before.comparison is not None
    sizes = [[group.size for group in each.comparison.arm.groups] for each in (before, after)
             if each.comparison]  # fmt: skip
    assert sizes[0] == sizes[1]
    assert any("measure would now choose" in note for note in after.notes)


def test_a_run_of_another_size_or_of_validation_text_does_not_count() -> None:
    manifest, rows = looked(6, sd=0.004)
    expected = study_claims(manifest, rows).headline
    others = [
        trial(Stage.CONFIRM, "mod", BUDGETS[-1], width=8, seed=100, loss=0.5, block="mod"),
        trial(Stage.CONFIRM, "mod", BUDGETS[-1], width=48, seed=100, loss=0.5, block="mod",
              part="validation", name="other part"),
    ]  # fmt: skip
    assert study_claims(manifest, rows + others).headline == expected


def test_a_study_that_notes_no_design_is_neither_settled_nor_equivalent() -> None:
    """One from before there were looks: what is there may not be all that it asks for, and no
    margin was stated before its first run."""
    manifest, rows = looked(6, sd=0.001, shift=SLOPE * math.log(GAIN))
    before = manifest.model_copy(update={"confirm": None})
    claims = study_claims(before, rows)
    assert claims.headline.comparison is not None
    assert claims.headline.verdict is not Verdict.EQUIVALENT
    assert claims.settled == {}


def test_an_arm_whose_runs_are_all_lost_ends_the_looks() -> None:
    manifest, rows = looked(6, sd=0.004)
    lost = [
        row.model_copy(update={"state": State.DIVERGED, "scores": None})
        if (row.stage, row.arm) == (Stage.CONFIRM, "mod")
        else row
        for row in rows
    ]
    claim = study_claims(manifest, lost).headline
    assert claim.verdict is Verdict.NONE
    assert claim.settled
    assert "no run of the best measured routed arm, mod, has finished" in claim.sentence
