"""Fronts of several objectives, against their definition and against the noise of seeds."""

import numpy as np
import pytest

from modsearch.analysis.noise import SEED_SD
from modsearch.analysis.pareto import fronts, unbeaten
from modsearch.config.data import Validation
from modsearch.config.evaluation import Price, Ranked
from modsearch.config.model import ModelConfig
from modsearch.config.records import Budget, Candidate, Plan, Record, Scores, Stage, State

PLAN = Plan(
    steps=1, tokens=1, epochs=1.0, flops_per_step=1, flops=1, forward_flops=1.0, params=1,
    active_params=1, embedding_params=0, head_share=0.1, conventions={}, seconds=1.0,
)  # fmt: skip


def trial(
    loss: float, prices: dict[Price, float], width: int, seed: int = 0, metric: float | None = None
) -> Record:
    """Of a candidate that its width names."""
    scores = Scores(
        causal_loss=loss, train_mode_loss=loss, bits_per_byte=loss, final_train_loss=loss,
        realised_capacity=None, realised_forward_flops=1.0, agreement=None, seconds=1.0,
        step_seconds=1.0, peak_memory=1,
    )  # fmt: skip
    ranked = None
    if metric is not None:
        ranked = Ranked(name="quick acc", value=metric, higher_is_better=True)
    return Record(
        hash=f"{width}-{seed}",
        stage=Stage.EXPLORE,
        arm="mod",
        candidate=Candidate(model=ModelConfig(width=width)),
        budget=Budget(flops=1e12),
        seed=seed,
        validation=Validation(),
        state=State.COMPLETE,
        plan=PLAN,
        scores=scores,
        prices=prices,
        objective=ranked,
    )


def test_a_front_is_what_no_other_point_beats() -> None:
    cost_PK = np.array([[1.0, 9.0], [2.0, 5.0], [2.0, 6.0], [3.0, 1.0], [3.0, 1.0], [4.0, 2.0]])
    assert unbeaten(cost_PK).tolist() == [True, True, False, True, True, False]


@pytest.mark.parametrize("seed", range(3))
def test_a_front_of_random_points_agrees_with_its_definition(seed: int) -> None:
    cost_PK = np.random.default_rng(seed).integers(0, 5, (40, 3)).astype(float)
    expected = [
        not any((other <= mine).all() and (other < mine).any() for other in cost_PK)
        for mine in cost_PK
    ]
    assert unbeaten(cost_PK).tolist() == expected


def test_more_tokens_a_second_are_better() -> None:
    rows = [trial(2.0, {"decoding": 100.0}, 8), trial(2.5, {"decoding": 50.0}, 16)]
    [front] = fronts(rows)
    assert [(each.prices["decoding"], each.on_front) for each in front.points] == [
        (100.0, True),
        (50.0, False),
    ]


def test_a_share_says_how_much_of_a_place_on_the_front_is_luck() -> None:
    """The cheapest is always on it; two at one price share it by their gap over the noise."""
    rows = [
        trial(3.0, {"forward_flops": 1.0}, 8),
        trial(2.0, {"forward_flops": 2.0}, 16),
        trial(2.0 + 0.1 * SEED_SD, {"forward_flops": 2.0}, 24),
        trial(2.0 + 50 * SEED_SD, {"forward_flops": 2.0}, 32),
    ]
    [front] = fronts(rows)
    share = {each.records[0].candidate.model.width: each.share or 0.0 for each in front.points}
    on_it = {each.records[0].candidate.model.width for each in front.points if each.on_front}
    assert on_it == {8, 16}
    assert share[8] == 1.0
    assert share[16] == pytest.approx(0.52, abs=0.04)  # the chance that a gap of 0.1 sd holds
    assert share[16] + share[24] == pytest.approx(1.0, abs=0.001)
    assert share[32] < 0.01
    assert front.sd == pytest.approx(SEED_SD)


def test_seeds_of_a_candidate_are_averaged_and_tell_the_noise() -> None:
    rows = [
        trial(2.0 + each, {"forward_flops": 1.0}, 8, seed) for seed, each in enumerate((-1, 1))
    ]
    rows.append(trial(5.0, {"forward_flops": 2.0}, 16))
    [front] = fronts(rows)
    assert [len(each.records) for each in front.points] == [2, 1]
    assert front.points[0].value == 2.0
    assert front.sd is not None
    assert front.sd > 0.5
    assert front.basis.startswith("repeated seeds")


def test_the_noise_of_a_metric_is_not_made_up() -> None:
    rows = [
        trial(2.0, {"forward_flops": 1.0}, 8, metric=0.5),
        trial(1.0, {"forward_flops": 2.0}, 16, metric=0.7),
    ]
    [front] = fronts(rows)
    assert [each.value for each in front.points] == [0.7, 0.5]
    assert all(each.on_front and each.share is None for each in front.points)
    assert front.sd is None


def test_budgets_have_fronts_of_their_own_and_other_trials_none() -> None:
    assert fronts([trial(2.0, {}, 8).model_copy(update={"prices": None})]) == []
