"""A belief through recipes, sizes and budgets, held against a law that is known."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from worlds import trial

from modsearch.analysis import beliefs
from modsearch.analysis.beliefs import Belief, Scales, Sites, fitted_scales, noise_variance
from modsearch.analysis.believed import Axes, believed
from modsearch.analysis.gains import expected_regret, gains
from modsearch.analysis.recipes import best_recipe
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Candidate, Record, Stage

BUDGETS = (1e10, 3e10, 9e10)
SD = 0.012
SCALES = Scales(0.04, 0.02, 0.05, 0.003, 0.5, 0.5, (0.5, 0.5))


def law(rate: float, kind: float, size: float, budget: float) -> float:
    """A bowl in size whose place goes with the budget's root, and two effects of recipes."""
    late = math.log(budget / BUDGETS[-1])
    vertex = 0.1 + 0.5 * late + 0.1 * kind
    return 2 - 0.12 * late + 0.05 * (size - vertex) ** 2 + 0.1 * (rate - 0.6) ** 2 + 0.03 * kind


def sites(rows: list[tuple[float, float, float, float]]) -> Sites:
    table = np.array(rows).reshape(-1, 4)
    return Sites(table[:, :2], (True, False), table[:, 2], table[:, 3])


def everything() -> list[tuple[float, float, float, float]]:
    return list(product((0.0, 0.5, 1.0), (0.0, 1.0), (-0.8, -0.4, 0.0, 0.4, 0.8), BUDGETS))


def noisy(rows: list[tuple[float, float, float, float]], seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return np.array([law(*row) for row in rows]) + SD * draws.standard_normal(len(rows))


def fitted(rows: list[tuple[float, float, float, float]], losses: np.ndarray) -> Belief:
    seen = sites(rows)
    return Belief(seen, losses, BUDGETS[-1], fitted_scales(seen, losses, BUDGETS[-1]))


def test_it_foretells_what_it_has_not_seen_and_how_well() -> None:
    rows = everything()
    draws = np.random.default_rng(1)
    seen = [rows[place] for place in draws.choice(len(rows), 45, replace=False)]
    unseen = [row for row in rows if row not in seen]
    belief = fitted(seen, noisy(seen))
    found = belief.at(sites(unseen))
    errors = found.mean_M - [law(*row) for row in unseen]
    assert np.sqrt((errors**2).mean()) < SD
    away = np.abs(errors) / np.sqrt(found.variance_M)
    assert (away < 2).mean() > 0.85


def test_small_budgets_say_where_the_minimum_of_the_largest_one_is() -> None:
    seen = [row for row in everything() if row[3] < BUDGETS[-1]]
    belief = fitted(seen, noisy(seen))
    asked = [(0.5, 0.0, size, BUDGETS[-1]) for size in np.linspace(-0.8, 0.8, 17)]
    found = belief.at(sites(asked)).mean_M
    assert asked[int(np.argmin(found))][2] == pytest.approx(0.1, abs=0.45)
    assert belief.scales.shift == pytest.approx(0.5, abs=0.2)


def test_scales_are_those_of_highest_density() -> None:
    """By the density as it is written in the book: it is lower on either side of each scale."""
    rows = everything()[::2]
    losses = noisy(rows)
    seen = sites(rows)
    best = fitted_scales(seen, losses, BUDGETS[-1])

    def density(scales: Scales) -> float:
        pairs = beliefs._Pairs(seen, seen, BUDGETS[-1])
        covariance = pairs.covariance(scales) + np.diag(noise_variance(seen, scales))
        centred = losses - losses.mean() - beliefs.bowl(seen, BUDGETS[-1], scales.shift)
        of_data = centred @ np.linalg.solve(covariance, centred) + np.linalg.slogdet(covariance)[1]
        logs = np.log([scales.recipe, scales.tilt, scales.drift, scales.own, scales.noise])
        values = np.array([*logs, scales.shift, *np.log(scales.weights)])
        means, sds = beliefs.prior_vector(2)
        return -float(of_data + (((values - means) / sds) ** 2).sum()) / 2

    for factor in (0.6, 1.6):
        others = [
            replace(best, recipe=best.recipe * factor),
            replace(best, tilt=best.tilt * factor),
            replace(best, drift=best.drift * factor),
            replace(best, own=best.own * factor),
            replace(best, noise=best.noise * factor),
            replace(best, shift=best.shift * factor),
            replace(best, weights=(best.weights[0] * factor, best.weights[1])),
        ]
        assert max(map(density, others)) < density(best)


def test_more_trials_of_a_place_tell_its_loss_as_their_mean_does() -> None:
    rows = [(0.5, 0.0, 0.0, BUDGETS[-1])] * 400
    losses = noisy(rows)
    found = Belief(sites(rows), losses, BUDGETS[-1], SCALES).at(sites(rows[:1]))
    assert found.mean_M[0] == pytest.approx(losses.mean(), abs=1e-3)
    assert found.variance_M[0] == pytest.approx(found.noise_M[0] / 400, rel=0.05)


def test_a_trial_without_a_result_moves_no_mean_and_narrows_its_place() -> None:
    rows = everything()[::3]
    losses = noisy(rows)
    new = (1.0, 1.0, 0.2, BUDGETS[-1])
    before = Belief(sites(rows), losses, BUDGETS[-1], SCALES)
    after = Belief(sites([*rows, new]), np.append(losses, np.nan), BUDGETS[-1], SCALES)
    places = sites([new, *everything()])
    np.testing.assert_allclose(after.at(places).mean_M, before.at(places).mean_M, atol=1e-9)
    assert after.at(places).variance_M[0] < 0.95 * before.at(places).variance_M[0]


def test_losses_far_above_the_lowest_of_their_budget_are_drawn_in() -> None:
    losses = np.array([2.0, 2.01, 3.0, np.nan, 2.5, 2.52])
    budgets = np.array([1.0, 1.0, 1.0, 1.0, 3.0, 3.0])
    found = beliefs.drawn_in(losses, budgets)
    np.testing.assert_allclose(found[[0, 1, 4, 5]], losses[[0, 1, 4, 5]], atol=0.004)
    assert 2.1 < found[2] < 2.2
    assert np.isnan(found[3])
    assert losses[2] == 3.0


def test_a_gain_is_what_a_trial_lowers_the_chosen_loss_by_on_average() -> None:
    rows = everything()[::7]
    belief = Belief(sites(rows), noisy(rows), BUDGETS[-1], SCALES)
    choices = sites([row for row in everything() if row[3] == BUDGETS[-1]])
    place = sites([(0.5, 0.0, 0.4, BUDGETS[-1])])
    found = gains(belief, place, choices, np.array([2.0]), repeats=(1,))[0]
    at = belief.at(choices)
    moves = belief.between(place, choices)[0]
    of_place = belief.at(place)
    moves = moves / math.sqrt(of_place.variance_M[0] + of_place.noise_M[0])
    draws = np.random.default_rng(0).standard_normal(20_000)
    draws = np.concatenate([draws, -draws])
    lowest = (at.mean_M + draws[:, None] * moves).min(axis=1)
    assert found == pytest.approx((at.mean_M.min() - lowest.mean()) / 2, rel=0.15)


def test_where_noise_is_large_several_trials_count_together() -> None:
    rows = everything()
    belief = Belief(sites(rows), noisy(rows), BUDGETS[-1], SCALES)
    choices = sites([row for row in everything() if row[3] == BUDGETS[-1]])
    costs = np.ones(len(choices))
    alone = gains(belief, choices, choices, costs, repeats=(1,))
    together = gains(belief, choices, choices, costs, repeats=(1, 16))
    assert (together >= alone).all()
    assert (together > 2 * alone).any()


def test_the_expected_regret_is_that_of_draws_and_falls_with_trials() -> None:
    choices = sites([row for row in everything() if row[3] == BUDGETS[-1]])
    few, many = everything()[::5], everything() * 3
    regrets = []
    for rows in (few, many):
        belief = fitted(rows, noisy(rows))
        best = int(np.argmin(belief.at(choices).mean_M))
        regrets.append(expected_regret(belief, choices, best, 0))
        worst = int(np.argmax(belief.at(choices).mean_M))
        gap = np.ptp(belief.at(choices).mean_M)
        assert expected_regret(belief, choices, worst, 0) == pytest.approx(gap, abs=0.05)
    assert 0 <= regrets[1] < regrets[0]
    assert regrets[1] < SD / 4


def candidate(width: int = 16, rate: float = 0.005, **model: object) -> Candidate:
    values = {"width": width, **model}
    return Candidate(model=ModelConfig.model_validate(values), optim=OptimConfig(rate=rate))


def test_axes_are_what_candidates_differ_by() -> None:
    candidates = [
        candidate(16, 0.0025, depth=2, router="random"),
        candidate(24, 0.005, depth=4, router={"name": "token_choice", "z_weight": 0.1}),
        candidate(32, 0.01, depth=4, router={"name": "token_choice", "z_weight": 0.2}),
    ]
    axes = Axes.of(candidates)
    assert set(axes.values) == {
        "model.depth",
        "model.router.name",
        "model.router.z_weight",
        "optim.rate",
    }
    found = axes.sites(candidates, [1.0] * 3)
    columns = dict(zip(axes.values, found.axes_NA.T, strict=True))
    np.testing.assert_allclose(
        columns["optim.rate"], [0, 0.5, 1]
    )  # a ratio of four: in logarithms
    np.testing.assert_allclose(columns["model.depth"], [0, 1, 1])
    assert columns["model.router.name"].tolist() == [0, 1, 1]
    assert math.isnan(columns["model.router.z_weight"][0])
    assert columns["model.router.z_weight"][1:].tolist() == [0, 1]
    assert found.size_N[0] == -found.size_N[2] < 0 < found.size_N[1] < found.size_N[2]


def test_a_lucky_trial_is_not_believed() -> None:
    """Of a curve whose far end was lucky once, the middle is the best."""
    widths = (16, 20, 24, 32, 40, 48)
    records = [
        trial(
            Stage.EXPLORE,
            width=width,
            seed=seed,
            budget=1e11,
            loss=1.9 + 0.1 * math.log(width / 24) ** 2 + 0.004 * (-1) ** (seed + width // 4),
        )
        for width in widths
        for seed in (0, 1)
        if (width, seed) != (48, 1)
    ]
    lucky = trial(Stage.EXPLORE, width=48, seed=1, budget=1e11, loss=1.89)
    ranked = believed([*records, lucky])
    assert ranked[0][1][0].candidate.model.width in (20, 24)
    assert len(ranked) == len(widths)
    assert sum(len(group) for _, group in ranked) == 12


def test_what_was_drawn_is_chosen_by_belief_and_a_grid_by_its_means() -> None:
    """Two rates at the same sizes, of which the worse one was lucky once."""
    sizes = (16, 20, 24, 32, 40, 48)
    grid = [
        trial(
            Stage.EXPLORE,
            width=width,
            rate=rate,
            loss=1.9 + 0.1 * math.log(width / 24) ** 2 + (0.03 if rate > 0.01 else 0.0),
        )
        for width in sizes
        for rate in (0.005, 0.02)
    ]
    grid[-1] = trial(Stage.EXPLORE, width=48, rate=0.02, loss=1.895)

    def chosen(records: list[Record]) -> float:
        best = best_recipe(records, "dense")
        assert best is not None
        return best.candidate.optim.rate

    assert chosen(grid) == 0.005
    drawn = [*grid, trial(Stage.EXPLORE, width=28, rate=0.005, loss=1.9)]
    assert chosen(drawn) == 0.005
    assert chosen(drawn[-3:]) == 0.02  # of few trials the lowest
    assert best_recipe([], "dense") is None
