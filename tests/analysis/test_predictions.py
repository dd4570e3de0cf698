"""What a study's laws foretell: tested by foretelling the largest budget from the smaller ones."""

import math

import pytest
from worlds import manifest, params_of, study, trial

from modsearch.analysis.predictions import study_predictions
from modsearch.config.records import Stage
from modsearch.errors import StudyError

BUDGETS = (1e11, 3e11, 1e12)


def test_every_measured_arm_is_foretold() -> None:
    found = study_predictions(manifest(), study(budgets=BUDGETS), 1e13, draws=3)
    assert [each.arm for each in found.arms] == ["dense", "mod"], "a control is not measured"
    dense, mod = found.arms
    assert (dense.routed, mod.routed) == (False, True)
    assert dense.params.value == pytest.approx(300_000, rel=1e-4)
    assert dense.params_exponent.value == pytest.approx(0.5, abs=1e-6)
    assert dense.depth == 2
    assert abs(params_of(2, dense.width) - 300_000) < abs(params_of(2, dense.width + 4) - 300_000)
    assert dense.width % 4 == 0
    assert dense.tokens == pytest.approx(1e13 / (6 * 300_000), rel=1e-2)
    assert dense.factor == pytest.approx(10)
    assert dense.extrapolated
    assert dense.loss.low < dense.loss.value < dense.loss.high
    assert [each.budget for each in dense.left_out] == list(BUDGETS)
    assert dense.largest_error == max(abs(each.error) for each in dense.left_out)
    assert [each.counts for each in dense.surfaces] == ["all parameters", "without embeddings"]
    assert list(dense.surfaces[0].vertex_bias) == ["1e11", "3e11", "1e12"]
    assert (
        not study_predictions(manifest(), study(budgets=BUDGETS), 5e11, draws=0)
        .arms[0]
        .extrapolated
    )


def test_the_largest_budget_is_foretold_from_the_smaller_ones() -> None:
    held = 0
    for draw in range(20):
        rows = study(sd=0.01, budgets=(1e11, 1.7e11), draw=draw)
        (dense, _) = study_predictions(manifest(), rows, 3e11, draws=0).arms
        held += dense.loss.low <= 1.9 - 0.15 * math.log(3) <= dense.loss.high
        assert dense.left_out == []
        assert dense.largest_error is None
        assert any("two budgets" in note for note in dense.notes)
    assert held >= 17


def test_a_study_with_too_few_fits_says_which_and_why() -> None:
    with pytest.raises(StudyError, match=r"dense: fitted at 1 of 1 budget; mod: fitted"):
        study_predictions(manifest(), study(budgets=(1e11,)), 1e12)
    with pytest.raises(StudyError, match="nothing is measured yet"):
        study_predictions(manifest(), [], 1e12)
    falling = [
        trial(Stage.MEASURE, budget=budget, width=width, loss=3 - width / 100)
        for budget in BUDGETS
        for width in (16, 20, 24, 32, 40)
    ]
    with pytest.raises(StudyError, match=r"fitted at 0 of 3 budgets \(1e11: edge minimum"):
        study_predictions(manifest(), falling, 1e13)
    rows = [row for row in study(budgets=BUDGETS) if row.arm != "dense"] + falling
    found = study_predictions(manifest(), rows, 1e13, draws=0)
    assert [each.arm for each in found.arms] == ["mod"]
    assert "edge minimum" in found.without["dense"]
