"""The ledger of the paper's claims: on studies whose law is known it says what is true of them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from scripts import benchmark
from worlds import WIDTHS, changed, looked, manifest, params_of, study, trial

from modsearch.analysis import paper
from modsearch.analysis.claims import study_claims
from modsearch.analysis.findings import findings, random_control
from modsearch.analysis.paper import Answer, Finding, Stated, Unit, Word
from modsearch.analysis.verdicts import Verdict
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage
from modsearch.config.telemetry import (
    Correlation,
    LayerDecisions,
    LayerRouting,
    Membership,
    RoutingReport,
    TokenRouting,
)

BEST = 30_000
"""Parameters of the dense optimum of `ladders`."""


def ladders(
    gain: float = 0.0,
    right: float = 0.0,
    cost: float = 1.0,
    bend: float = 0.3,
    best: float = BEST,
    deeper: float | None = None,
    budget: float = 1e12,
) -> list[Record]:
    """Trials of measure alone: the routed minimum lies `gain` nats lower, at exp(`right`) times
    the parameters, and a forward pass costs `cost` times as much as a dense one of that size.
    With `deeper` there are routed models of twice the depth that lie lower by so much."""
    arms = [("dense", 2, 2.0, best), ("mod", 2, 2.0 - gain, best * math.exp(right))]
    if deeper is not None:
        arms.append(("mod", 4, 2.0 - gain - deeper, best * math.exp(right)))
    rows = []
    for arm, depth, least, place in arms:
        for width in WIDTHS:
            params = params_of(depth, width)
            loss = least + bend * math.log(params / place) ** 2
            row = trial(arm=arm, budget=budget, depth=depth, width=width, loss=loss)
            forward = 2.0 * params * (1.0 if arm == "dense" else cost)
            rows.append(changed(row, realised_forward_flops=forward))
    return rows


def ledger(
    records: Sequence[Record],
    telemetry: Mapping[str, RoutingReport] | None = None,
    made_with: Manifest | None = None,
    measured: Sequence[Finding] = (),
) -> dict[str, Finding]:
    made_with = made_with or manifest()
    claims = study_claims(made_with, records)
    rows = findings(claims, made_with, records, telemetry or {}, measured)
    return {row.stated.claim: row for row in rows}


def answer(stated: Stated, records: Sequence[Record], **settings: object) -> Answer:
    return ledger(records, **settings)[stated.claim].answer  # type: ignore[arg-type]


# By curves


@pytest.mark.parametrize(
    ("stated", "law", "word"),
    [
        (paper.PARITY, {"gain": 0.1, "right": 0.4, "cost": 0.3}, Word.SUPPORTED),
        (paper.PARITY, {"gain": 0.1, "right": 0.4, "cost": 1.2}, Word.REFUTED),
        (paper.PARITY, {"gain": -0.2}, Word.REFUTED),
        (paper.PARITY, {"gain": 0.0, "cost": 0.5}, Word.UNDERPOWERED),
        (paper.LARGER, {"right": 0.5}, Word.SUPPORTED),
        (paper.LARGER, {"right": -0.5}, Word.REFUTED),
        (paper.LARGER, {}, Word.UNDERPOWERED),
        (paper.SAME_FORWARD, {}, Word.EQUIVALENT),
        (paper.SAME_FORWARD, {"right": 0.5, "cost": 0.6}, Word.EQUIVALENT),
        (paper.SAME_FORWARD, {"cost": 0.5}, Word.REFUTED),
        (paper.SAME_FORWARD, {"bend": 0.05}, Word.UNDERPOWERED),
        (paper.CHEAPER, {"gain": 0.1, "cost": 0.6}, Word.SUPPORTED),
        (paper.CHEAPER, {"gain": 0.1, "cost": 1.3}, Word.SUPPORTED),
        (paper.CHEAPER, {"gain": -0.1, "cost": 0.6}, Word.REFUTED),
        (paper.CHEAPER, {"cost": 0.6}, Word.UNDERPOWERED),
        (paper.CHEAPER, {"cost": 20.0}, Word.NOT_TESTED),
        (paper.DEPTH, {"deeper": 0.1}, Word.SUPPORTED),
        (paper.DEPTH, {"deeper": -0.1}, Word.REFUTED),
        (paper.DEPTH, {"deeper": 0.0}, Word.UNDERPOWERED),
        (paper.DEPTH, {}, Word.NOT_TESTED),
        (paper.CROSSING, {"gain": 0.03, "right": 0.5}, Word.SUPPORTED),
        (paper.CROSSING, {"gain": 0.1, "right": -0.4}, Word.REFUTED),
        (paper.CROSSING, {}, Word.UNDERPOWERED),
        (paper.CROSSING, {"best": 16_000, "right": 2.2}, Word.NOT_TESTED),
    ],
)
def test_claims_on_curves_have_the_word_that_the_law_has(
    stated: Stated, law: dict[str, float], word: Word
) -> None:
    found = answer(stated, ladders(**law))
    assert found.word is word, found
    assert found.reason
    if word is Word.NOT_TESTED:
        assert (found.value, found.low, found.high, found.smallest) == (None, None, None, None)


def test_numbers_are_those_of_the_law() -> None:
    rows = ledger(ladders(gain=0.03, right=0.4, cost=0.6, deeper=0.02))
    right = math.exp(0.4)
    assert rows[paper.LARGER.claim].answer.value == pytest.approx(right, rel=1e-6)
    assert rows[paper.SAME_FORWARD.claim].answer.value == pytest.approx(0.6 * right, rel=1e-6)
    assert rows[paper.CHEAPER.claim].answer.value == pytest.approx(0.05, abs=1e-6)
    assert rows[paper.DEPTH.claim].answer.value == pytest.approx(0.02, abs=1e-6)
    parity = rows[paper.PARITY.claim].answer
    crossing = 0.4 - math.sqrt(0.05 / 0.3)
    assert parity.value == pytest.approx(0.6 * math.exp(crossing), rel=2e-3)
    for row in rows.values():
        found = row.answer
        if found.value is not None and found.low is not None and found.high is not None:
            assert found.low < found.value < found.high


def test_a_parity_that_the_smallest_size_has_already_is_an_upper_limit() -> None:
    found = answer(paper.PARITY, ladders(gain=0.3, cost=1.3))
    assert found.low is None
    assert found.word is Word.UNDERPOWERED, "half may be enough, and no such size was trained"
    assert "this is an upper limit" in found.reason
    assert "no fitted size has half of the forward FLOPs; with the nearest, 64 %," in found.reason
    assert found.smallest is not None


def test_the_smallest_effect_is_what_four_of_five_studies_tell() -> None:
    found = answer(paper.CHEAPER, ladders(gain=0.02, cost=0.6))
    assert found.low is not None
    assert found.high is not None
    half = (found.high - found.low) / 2
    assert found.smallest == pytest.approx((1.96 + 0.8416) / 1.96 * half, rel=1e-3)
    ratio = answer(paper.LARGER, ladders(right=0.1))
    assert ratio.smallest is not None
    assert ratio.smallest > 1, "a factor"
    at_half = answer(paper.PARITY, ladders(gain=0.02, right=0.4, cost=0.5))
    assert at_half.effect is Unit.NATS, "at half of the forward FLOPs"
    assert at_half.smallest is not None


def test_the_largest_budget_answers_and_smaller_ones_stand_in_the_reason() -> None:
    rows = [*ladders(right=0.5, budget=1e11), *ladders(right=-0.5, budget=1e12)]
    found = answer(paper.LARGER, rows)
    assert found.word is Word.REFUTED
    assert "at 1e12 FLOPs" in found.reason
    assert found.reason.endswith("at 1e11 FLOPs supported")


def test_without_a_fitted_minimum_no_curve_is_compared_and_the_reason_is_told() -> None:
    rows = ladders()
    falling = [
        changed(row, causal_loss=3 - row.candidate.model.width / 100) if row.arm == "mod" else row
        for row in rows
    ]
    for stated in (paper.PARITY, paper.LARGER, paper.SAME_FORWARD, paper.CHEAPER, paper.CROSSING):
        found = answer(stated, falling)
        assert found.word is Word.NOT_TESTED
        assert "mod has no fitted minimum (edge minimum: the largest size" in found.reason


def test_depths_are_compared_in_an_arm_that_has_them_where_the_best_one_has_not() -> None:
    rows = ladders(deeper=0.1)
    lower = [
        changed(
            trial(arm="other", budget=1e12, width=row.candidate.model.width, depth=4),
            causal_loss=row.scores.causal_loss - 0.3,
        )
        for row in rows
        if row.scores and row.arm == "mod" and row.candidate.model.depth == 2
    ]
    arms: dict[str, str | None] = {"dense": None, "other": None, "mod": None}
    found = answer(paper.DEPTH, [*rows, *lower], made_with=manifest(arms))
    assert found.word is Word.SUPPORTED
    assert found.value == pytest.approx(0.1, abs=1e-6)
    assert found.reason.startswith("minima of mod at 1e12 FLOPs: depth 4 against depth 2")
    assert "of other, which has no fit at a depth to compare" in found.reason
    alone = answer(paper.DEPTH, [row for row in [*rows, *lower] if row.arm != "mod"],
                   made_with=manifest({"dense": None, "other": None}))  # fmt: skip
    assert alone.word is Word.NOT_TESTED


def test_untrained_models_answer_nothing() -> None:
    rows = ledger([*ladders(gain=0.1, cost=0.3), *study()], made_with=manifest(bigram=0.5))
    untrained = (paper.LOWER_LOSS, paper.PARITY, paper.LARGER, paper.CHEAPER, paper.RANDOM)
    for stated in untrained:
        assert rows[stated.claim].answer.word is Word.NOT_TESTED, stated
    assert "bigrams" in rows[paper.LARGER.claim].answer.reason


def test_how_untrained_models_route_supports_nothing() -> None:
    rows = study(seeds=4)
    telemetry = {
        row.hash: told(accuracy=0.985, entropy=0.3, above=0.125)
        for row in rows
        if row.stage is Stage.CONFIRM and row.arm == "mod"
    }
    for stated in (paper.FORETOLD, paper.ENTROPY, paper.WEIGHTS, paper.SAMPLING_LOSS):
        trained = answer(stated, rows, telemetry=telemetry)
        assert trained.word is not Word.NOT_TESTED, stated
        found = answer(stated, rows, telemetry=telemetry, made_with=manifest(bigram=0.5))
        assert found.word is Word.NOT_TESTED, stated
        assert "bigrams" in found.reason


def test_another_router_says_nothing_in_place_of_the_papers_that_is_untrained() -> None:
    rows = [row for row in study(seeds=4) if row.stage is Stage.CONFIRM]
    other = [
        trial(
            Stage.CONFIRM, "other", row.budget.flops, row.candidate.model.depth,
            row.candidate.model.width, row.seed, loss=row.scores.causal_loss - 1.0,
            router="threshold",
        )
        for row in rows
        if row.scores and row.arm == "mod"
    ]  # fmt: skip
    arms: dict[str, str | None] = {"dense": None, "mod": None, "other": None, "mod-random": "mod"}
    made_with = manifest(arms, bigram=1.2)
    telemetry = {row.hash: told() for row in [*rows, *other] if row.arm in ("mod", "other")}
    stated = (paper.FORETOLD, paper.SAMPLING_LOSS, paper.ENTROPY, paper.WEIGHTS)
    for each in stated:
        found = answer(each, [*rows, *other], telemetry=telemetry, made_with=made_with)
        assert found.word is Word.NOT_TESTED, each
        reason = "no confirmed model of mod beats the corpus's bigrams: untrained"
        assert found.reason == reason, each
    alone = [row for row in rows if not row.arm.startswith("mod")] + other
    for each in stated[:3]:
        found = answer(each, alone, telemetry=telemetry, made_with=made_with)
        assert found.word is not Word.NOT_TESTED, "no arm with the paper's router is confirmed"
        assert found.reason.startswith("other at")


def test_an_empty_study_tests_nothing() -> None:
    rows = ledger([])
    assert {row.answer.word for row in rows.values()} == {Word.NOT_TESTED}
    assert all(row.answer.reason for row in rows.values())
    assert all((row.number("token"), row.reach("token")) == ("", "") for row in rows.values())


# By fresh seeds


def test_lower_loss_has_the_word_of_the_headline() -> None:
    better = answer(paper.LOWER_LOSS, study())
    assert better.word is Word.SUPPORTED
    assert better.low is not None
    assert better.value is not None
    assert 0 < better.low < better.value < 0.05, "a share of the loss"
    assert "at 1e11 FLOPs supported" in better.reason
    worse = answer(paper.LOWER_LOSS, study(shift=0.1))
    assert worse.word is Word.REFUTED
    assert "a gain of 1.5 % is excluded" in worse.reason
    measure = [row for row in study() if row.stage is not Stage.CONFIRM]
    assert answer(paper.LOWER_LOSS, measure).word is Word.NOT_TESTED


def test_equal_arms_are_equivalent_and_few_runs_underpowered() -> None:
    made_with, rows = looked(24, sd=0.01, shift=0.027)
    assert answer(paper.LOWER_LOSS, rows, made_with=made_with).word is Word.EQUIVALENT
    made_with, rows = looked(6, sd=0.05, shift=0.02)
    found = answer(paper.LOWER_LOSS, rows, made_with=made_with)
    assert found.word is Word.UNDERPOWERED
    assert found.smallest is not None
    assert found.smallest > 0.01


def test_fresh_seeds_say_whether_the_cheaper_model_is_better() -> None:
    found = answer(paper.CHEAPER, study())
    assert found.word is Word.SUPPORTED
    assert re.search(r"fresh seeds: it needs \d+ % of the forward FLOPs", found.reason)


def test_a_random_control_has_its_adjusted_word() -> None:
    rows = study()
    found = answer(paper.RANDOM, rows)
    assert found.word is Word.SUPPORTED
    assert found.value == pytest.approx(0.1, abs=1e-3)
    assert "(Holm)" in found.reason
    lucky = [
        changed(row, causal_loss=row.scores.causal_loss - 0.3)
        if row.arm == "mod-random" and row.scores
        else row
        for row in rows
    ]
    assert answer(paper.RANDOM, lucky).word is Word.REFUTED
    claims = study_claims(manifest(), rows)
    several = tuple(
        replace(each, p=0.09, verdict=Verdict.INCONCLUSIVE) if each.role == "control" else each
        for each in claims.beside
    )
    adjusted = random_control(replace(claims, beside=several))
    assert adjusted.word is Word.UNDERPOWERED
    assert "p 0.090 (Holm) with all comparisons of its budget, though its own" in adjusted.reason
    without = [row for row in rows if row.arm != "mod-random"]
    assert answer(paper.RANDOM, without).word is Word.NOT_TESTED


@pytest.mark.parametrize(
    ("difference", "word"),
    [(0.1, Word.SUPPORTED), (-0.1, Word.REFUTED), (0.0001, Word.UNDERPOWERED)],
)
def test_integrated_experts_are_held_against_dropping_ones(difference: float, word: Word) -> None:
    rows = [
        trial(
            Stage.CONFIRM, arm, seed=100 + seed, loss=least + 0.001 * seed, block="dense", ffn=ffn
        )
        for arm, ffn, least in (("moe", "moe", 2.0), ("mode", "mode_integrated", 2.0 - difference))
        for seed in range(4)
    ]
    made_with = manifest({"moe": None, "mode": None})
    assert answer(paper.INTEGRATED, rows, made_with=made_with).word is word
    assert answer(paper.INTEGRATED, study()).word is Word.NOT_TESTED


# By routing


def told(
    accuracy: float = 0.98, entropy: float = 0.3, above: float = 0.125, windows: int = 50
) -> RoutingReport:
    """A report with those figures."""
    membership = Membership(
        tokens=1000, accuracy=accuracy, always_skip=0.875, precision=0.9, recall=0.9, f1=0.9,
        calibration_error=0.01, bins=[],
    )  # fmt: skip
    decisions = LayerDecisions(
        causal_shares=[0.1], train_shares=[0.125], flip_rate=0.01, weights=[1],
        weights_above_half=above, membership=membership,
    )  # fmt: skip
    correlated = Correlation(raw=entropy, partial=entropy, low=None, high=None, se=0.02)
    return RoutingReport(
        windows=windows, positions=64, vocab_size=256, depth=2, membership=membership, sample=None,
        layers=[
            LayerRouting(
                layer=1, capacity=0.125, realised=0.11, realised_sd=0.01, decisions=decisions
            )
        ],
        tokens=TokenRouting(
            no_block=0.8, every_block=0.1, min_seen=20, known=5, dead=0.0, always=0.0, most=[],
            least=[], overlaps=[], with_loss=correlated, with_entropy=correlated,
        ),
    )  # fmt: skip


def routing(stated: Stated, seeds: int = 4, **figures: float) -> Answer:
    """Of a study whose confirmed runs route so, with a little noise."""
    rows = study(seeds=seeds)
    telemetry = {
        row.hash: told(**{name: value + 1e-3 * (row.seed % 3) for name, value in figures.items()})
        for row in rows
        if row.stage is Stage.CONFIRM and row.arm == "mod"
    }
    return answer(stated, rows, telemetry=telemetry)


@pytest.mark.parametrize(
    ("stated", "figures", "word"),
    [
        (paper.FORETOLD, {"accuracy": 0.985}, Word.SUPPORTED),
        (paper.FORETOLD, {"accuracy": 0.94}, Word.REFUTED),
        (paper.FORETOLD, {"accuracy": 0.969}, Word.UNDERPOWERED),
        (paper.ENTROPY, {"entropy": 0.3}, Word.SUPPORTED),
        (paper.ENTROPY, {"entropy": -0.3}, Word.REFUTED),
        (paper.ENTROPY, {"entropy": 0.01}, Word.UNDERPOWERED),
        (paper.WEIGHTS, {"above": 0.125}, Word.EQUIVALENT),
        (paper.WEIGHTS, {"above": 0.05}, Word.REFUTED),
        (paper.WEIGHTS, {"above": 0.104}, Word.UNDERPOWERED),
    ],
)
def test_claims_on_routing_have_the_word_that_their_figures_have(
    stated: Stated, figures: dict[str, float], word: Word
) -> None:
    found = routing(stated, **figures)
    assert found.word is word, found
    assert answer(stated, study()).word is Word.NOT_TESTED, "there is no telemetry"


def test_the_papers_router_answers_for_routing_though_another_one_has_the_headline() -> None:
    """What a threshold does refutes nothing that was said of top-k."""
    rows = study()
    better = [
        trial(
            row.stage, "other", row.budget.flops, row.candidate.model.depth,
            row.candidate.model.width, row.seed, loss=row.scores.causal_loss - 0.1,
            router="threshold",
        )
        for row in rows
        if row.scores and row.arm == "mod" and row.stage is not Stage.EXPLORE
    ]  # fmt: skip
    telemetry = {
        row.hash: told(entropy=0.3 if row.arm == "mod" else -0.3)
        for row in [*rows, *better]
        if row.stage is Stage.CONFIRM and row.arm in ("mod", "other")
    }
    made_with = manifest({"dense": None, "other": None, "mod": None, "mod-random": "mod"})
    found = ledger([*rows, *better], telemetry, made_with)
    assert "other against dense" in found[paper.LOWER_LOSS.claim].answer.reason
    entropy = found[paper.ENTROPY.claim].answer
    assert entropy.reason.startswith("mod at")
    assert entropy.word is Word.SUPPORTED


def test_accuracy_stands_beside_what_is_right_without_looking() -> None:
    found = routing(paper.FORETOLD, accuracy=0.949)
    assert "taking no token at all is right for 87.5 %" in found.reason
    assert "60 % are avoided" in found.reason


def test_two_runs_have_a_number_and_no_word_that_needs_an_interval() -> None:
    found = routing(paper.FORETOLD, seeds=2, accuracy=0.99)
    assert found.word is Word.UNDERPOWERED
    assert (found.low, found.high) == (None, None)
    assert found.reason.endswith("2 runs: no interval")


@pytest.mark.parametrize(
    ("gap", "word"),
    [(0.001, Word.SUPPORTED), (0.05, Word.REFUTED), (0.0, Word.NOT_TESTED)],
)
def test_sampling_is_held_against_training_mode(gap: float, word: Word) -> None:
    rows = [
        changed(row, train_mode_loss=row.scores.causal_loss - gap)
        for row in study()
        if row.scores is not None
    ]
    assert answer(paper.SAMPLING_LOSS, rows).word is word


# The whole


def test_times_are_not_taken_from_trials_and_measured_ones_have_a_place() -> None:
    rows = ledger(study())
    for stated in (paper.DECODING, paper.STEPS):
        assert rows[stated.claim].answer.word is Word.NOT_TESTED
        assert "modsearch time STUDY" in rows[stated.claim].answer.reason
    assert rows[paper.MEMORY.claim].answer.word is Word.NOT_TESTED
    faster = Finding(paper.DECODING, Answer(Word.SUPPORTED, "measured", 1.6, 1.5, 1.7, 1.1))
    again = ledger(study(), measured=[faster])
    assert again[paper.DECODING.claim] is faster
    assert list(again) == list(rows), "in the same order"


def test_numbers_are_written_by_their_units() -> None:
    def text(unit: Unit, *numbers: float | None, smallest: float = 0.5) -> tuple[str, str]:
        stated = Stated("c", "w", "p", unit, "s")
        row = Finding(stated, Answer(Word.UNDERPOWERED, "r", *numbers, smallest=smallest))
        return row.number("token"), row.reach("token")

    assert text(Unit.NATS, 0.0341, -0.01, 0.078) == ("0.034 [-0.010, 0.078] nats", "0.500 nats")
    assert text(Unit.SHARE, 0.01, -0.004, 0.024) == ("1.0 % [-0.4 %, 2.4 %]", "50.0 %")
    assert text(Unit.RATIO, 1.5, 0.26, None) == ("1.50 [0.26, ...]", "factor 0.50")
    assert text(Unit.RATIO, None, 0.6, None) == ("none [0.60, ...]", "factor 0.50")
    assert text(Unit.CORRELATION, 0.2, None, None) == ("0.20", "0.50")


@pytest.mark.slow
def test_intervals_between_curves_cover() -> None:
    """Of the table that benchmarks/parity.py prints."""
    parity = benchmark("parity")
    for kind in parity.KINDS[:4]:
        found = parity.run(kind, 400, seed=5)
        for name in ("size", "forward", "parity", "gap"):
            assert 0.925 <= found[name] <= 0.99, (kind.name, name, found)
        assert found["wrong"] <= 0.025, (kind.name, found)
