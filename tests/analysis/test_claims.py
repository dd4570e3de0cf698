"""The analysis against laws that are known, because the records are made from them."""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import (
    BUDGETS,
    CURVATURE,
    GAIN,
    SLOPE,
    WIDTHS,
    changed,
    law,
    manifest,
    params_of,
    study,
    trial,
)

from modsearch.analysis.choice import at_the_ends, chosen_sizes, next_width
from modsearch.analysis.claims import Claims, study_claims
from modsearch.analysis.curves import Fit, Refusal, with_noise
from modsearch.analysis.fits import fit_curves, noise
from modsearch.analysis.noise import PRIOR_FREEDOM, SEED_SD, Noise
from modsearch.analysis.numbers import (
    count,
    counted,
    decimal,
    duration,
    percent,
    percent_digits,
    scientific,
)
from modsearch.analysis.optima import optimum
from modsearch.analysis.power import runs_for
from modsearch.analysis.recipes import best_recipe, measured, missed
from modsearch.analysis.trials import recipe_key
from modsearch.analysis.verdicts import Verdict
from modsearch.config.design import Size
from modsearch.config.records import Record, Stage, State
from modsearch.study.events import StageBegan


def ladder(losses: Sequence[float], arm: str = "dense", **settings: Any) -> list[Record]:
    widths = WIDTHS[: len(losses)]
    return [
        trial(arm=arm, width=width, loss=loss, **settings)
        for width, loss in zip(widths, losses, strict=True)
    ]


def only(records: Sequence[Record]) -> Fit | Refusal:
    (curve,) = fit_curves(records)
    return curve


def headline(records: Sequence[Record], **settings: Any) -> Claims:
    return study_claims(manifest(**settings), records)


# Fits


def test_fit_recovers_a_parabola_to_rounding() -> None:
    curve = only([trial(width=width) for width in WIDTHS])
    assert isinstance(curve, Fit)
    assert curve.minimum_params == pytest.approx(30_000, rel=1e-9)
    assert curve.minimum_loss == pytest.approx(1.9, abs=1e-12)
    assert curve.coefficients[0] == pytest.approx(CURVATURE)
    assert curve.r2 == pytest.approx(1.0)
    assert not curve.exact
    assert curve.at(30_000) == pytest.approx(1.9)
    assert curve.nearest.width == 32  # 32.8k parameters


def test_fit_recovers_the_minimum_of_a_chinchilla_surface() -> None:
    """E + A / N^0.34 + B / D^0.28, D = C / 6N: nearly a parabola near its minimum."""
    budget, (e, a, b, alpha, beta) = 1e15, (1.69, 406.4, 410.7, 0.34, 0.28)

    def loss(n: float) -> float:
        return e + a / n**alpha + b / (budget / (6 * n)) ** beta

    best = (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (budget / 6) ** (
        beta / (alpha + beta)
    )
    sizes = best * np.geomspace(1 / 4, 4, 9)
    rows = []
    for i, size in enumerate(sizes):
        row = trial(width=2 * (i + 8), loss=loss(size), budget=budget)
        assert row.plan is not None
        rows.append(
            row.model_copy(update={"plan": row.plan.model_copy(update={"params": int(size)})})
        )
    curve = only(rows)
    assert isinstance(curve, Fit)
    assert curve.minimum_params == pytest.approx(best, rel=0.05)
    assert curve.minimum_loss == pytest.approx(loss(best), abs=2e-3)


def test_only_points_near_the_lowest_enter() -> None:
    rows = [trial(width=width) for width in WIDTHS]
    far = [
        changed(row, causal_loss=9.0) if row.candidate.model.width == 64 else row for row in rows
    ]
    curve = only(far)
    assert isinstance(curve, Fit)
    assert max(curve.params) / 30_000 < 2.5
    assert curve.minimum_loss == pytest.approx(1.9)
    assert len(curve.points) == len(WIDTHS)


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([2.0, 1.9, 2.0], "too few sizes: 3"),
        ([1.8, 1.9, 2.0, 2.1], "edge minimum: the smallest"),
        ([2.1, 2.0, 1.9, 1.8], "edge minimum: the largest"),
        ([1.95, 1.91, 1.9901, 1.99, 1.98], "edge minimum: the vertex"),
        ([2.0, 1.9, 2.4, 2.2, 1.91], "concave"),
    ],
)
def test_refusals(losses: list[float], reason: str) -> None:
    curve = only(ladder(losses))
    assert isinstance(curve, Refusal), curve
    assert curve.reason.startswith(reason)
    assert curve.lowest.loss == min(losses)


def test_too_few_points_near_the_lowest_are_refused() -> None:
    rows = [
        trial(width=width, loss=loss)
        for width, loss in ((8, 2.1), (32, 1.9), (96, 2.0), (192, 2.3))
    ]
    curve = only(rows)
    assert isinstance(curve, Refusal)
    assert curve.reason.startswith("too few points: 1")


def test_three_points_are_an_exact_fit_and_marked() -> None:
    rows = [trial(width=width) for width in (8, 24, 32, 40)]
    curve = only(rows)
    assert isinstance(curve, Fit)
    assert curve.exact
    best = optimum([curve], "dense", 1e11)
    assert best is not None
    assert any("exact" in mark for mark in best.marks)


def test_vertex_error_has_the_right_size() -> None:
    """Over many noisy ladders the vertex loss scatters as its standard error says."""
    generator = np.random.default_rng(1)
    sd, minima, errors = 0.004, [], []
    rows = [trial(width=width) for width in (20, 24, 28, 32, 36, 40, 44)]
    for _ in range(300):
        noisy = [
            changed(row, causal_loss=row.scores.causal_loss + sd * generator.standard_normal())
            for row in rows
            if row.scores is not None
        ]
        curve = with_noise(only(noisy), Noise(sd, 1e6))
        if isinstance(curve, Fit) and curve.minimum_se is not None:
            minima.append(curve.minimum_loss)
            errors.append(curve.minimum_se**2)
    assert len(minima) > 200
    assert np.std(minima) == pytest.approx(math.sqrt(np.mean(errors)), rel=0.25)


def test_noise_is_the_larger_of_residuals_and_seeds() -> None:
    exact = study(sd=0.0)
    seeds_only = noise(exact, fit_curves(exact))
    assert seeds_only is not None
    assert seeds_only.sd == pytest.approx(1e-4, rel=1e-6)  # seeds are 1e-4 apart
    noisy = study(sd=0.02)
    found = noise(noisy, fit_curves(noisy))
    assert found is not None
    assert found.sd == pytest.approx(0.02, rel=0.6)
    assert noise([], []) is None


def test_noise_is_moderated_before_there_are_seeds() -> None:
    """One seed for all sizes: residuals do not see what it shifts."""
    rows = [row for row in study() if row.stage is Stage.MEASURE]
    found = noise(rows, fit_curves(rows))
    assert found is not None
    assert found.freedom > PRIOR_FREEDOM
    assert found.sd == pytest.approx(SEED_SD * math.sqrt(PRIOR_FREEDOM / found.freedom), rel=1e-6)


def test_only_measure_enters_fits() -> None:
    rows = study()
    before = fit_curves(rows)
    others = [
        row if row.stage is Stage.MEASURE else changed(row, causal_loss=1.0 + row.seed / 7)
        for row in rows
    ]
    strip = [(fit.arm, fit.budget, fit.minimum_loss) for fit in before if isinstance(fit, Fit)]
    after = [
        (fit.arm, fit.budget, fit.minimum_loss)
        for fit in fit_curves(others)
        if isinstance(fit, Fit)
    ]
    assert len(strip) == 4
    assert strip == after


def test_unfinished_and_nan_trials_enter_no_fit() -> None:
    rows = [trial(width=width) for width in WIDTHS]
    rows.append(trial(width=28, state=State.DIVERGED))
    rows.append(trial(width=36, loss=float("nan")))
    curve = only(rows)
    assert len(curve.points) == len(WIDTHS)


def test_optimum_is_the_lowest_depth_and_an_edge_is_marked() -> None:
    rows = [
        trial(width=width, depth=depth, loss=law("dense", 1e11, params_of(depth, width)) + extra)
        for depth, extra in ((1, 0.05), (2, 0.0), (4, 0.03))
        for width in WIDTHS
    ]
    best = optimum(fit_curves(rows), "dense", 1e11)
    assert best is not None
    assert best.depth == 2
    assert best.marks == ()
    two = optimum(
        fit_curves([row for row in rows if row.candidate.model.depth > 1]), "dense", 1e11
    )
    assert two is not None
    assert "edge of those tried (2, 4)" in two.marks[0]
    one = optimum(
        fit_curves([row for row in rows if row.candidate.model.depth == 2]), "dense", 1e11
    )
    assert one is not None
    assert "only depth" in one.marks[0]


NOISY = [2.1, 1.96, 1.9, 2.04, 2.1]
"""A fit with points to spare and residuals of some 0.03."""


def test_a_refused_depth_that_was_a_little_lower_is_not_hidden() -> None:
    rows = ladder(NOISY) + ladder([1.89, 1.9, 1.95, 2.0, 2.1], depth=4)
    best = optimum(fit_curves(rows), "dense", 1e11)
    assert best is not None
    assert best.depth == 2
    assert best.refused is None
    assert any("measured lower (1.8900)" in mark for mark in best.marks)


def test_a_refused_depth_that_was_much_lower_stands_for_its_arm_and_is_marked() -> None:
    """Else an arm would be judged at a depth that is known to be worse."""
    rows = ladder(NOISY) + ladder([1.6, 1.7, 1.8, 2.0, 2.1], depth=4)
    best = optimum(fit_curves(rows), "dense", 1e11)
    assert best is not None
    assert best.depth == 4
    assert best.loss == 1.6
    assert best.refused is not None
    assert any("not a fitted one: edge minimum" in mark for mark in best.marks)


def test_what_is_confirmed_does_not_move_when_confirm_comes_in() -> None:
    rows = ladder(NOISY) + ladder([1.8, 1.85, 1.9, 2.0, 2.1], depth=4)
    before = chosen_sizes(fit_curves(rows), "dense", 1e11, 3)
    seeds = [trial(Stage.CONFIRM, seed=seed, loss=1.0 + seed) for seed in range(3)]
    assert chosen_sizes(fit_curves(rows + seeds), "dense", 1e11, 3) == before


def test_an_exact_fit_does_not_displace_one_with_points_to_spare() -> None:
    spare = ladder(NOISY)
    lucky = [
        trial(width=width, depth=4, loss=loss)
        for width, loss in ((12, 2.05), (16, 1.89), (24, 2.05), (48, 2.2))
    ]
    curves = fit_curves(spare + lucky)
    assert [curve.exact for curve in curves if isinstance(curve, Fit)] == [False, True]
    best = optimum(curves, "dense", 1e11)
    assert best is not None
    assert best.depth == 2
    assert any("depth 4 has a lower minimum" in mark for mark in best.marks)
    alone = optimum(fit_curves(lucky), "dense", 1e11)
    assert alone is not None
    assert alone.depth == 4
    assert any("exact fit" in mark for mark in alone.marks)


def test_the_chosen_sizes_are_the_nearest_to_the_vertex_and_its_neighbours() -> None:
    vertex = 30_000 * math.sqrt(10)
    nearest = min(WIDTHS, key=lambda width: abs(math.log(params_of(2, width) / vertex)))
    place = WIDTHS.index(nearest)
    curves = fit_curves(study())
    assert chosen_sizes(curves, "dense", 1e12, 1) == (Size(depth=2, width=nearest),)
    three = chosen_sizes(curves, "dense", 1e12, 3)
    assert tuple(size.width for size in three) == WIDTHS[place - 1 : place + 2]
    assert at_the_ends(curves, "dense", 1e12) == []
    falling = fit_curves(ladder([2.1, 2.0, 1.9, 1.8]))
    assert [size.width for size in chosen_sizes(falling, "dense", 1e11, 3)] == [20, 24, 32]
    assert at_the_ends(falling, "dense", 1e11) == [(Size(depth=2, width=32), 1)]
    assert chosen_sizes([], "dense", 1e11, 3) == ()
    assert chosen_sizes(curves, "dense", 3e11, 3) == ()


def test_a_lower_depth_without_a_fit_goes_on_too() -> None:
    """Else an arm stands at a depth that is known to be worse, and the other one looks better."""
    rows = ladder([2.1, 1.96, 1.9, 2.0, 2.1]) + ladder([2.1, 2.0, 1.95, 1.9, 1.885], depth=1)
    best = optimum(fit_curves(rows), "dense", 1e11)
    assert best is not None
    assert best.depth == 2
    assert at_the_ends(fit_curves(rows), "dense", 1e11) == [(Size(depth=1, width=40), 1)]


@pytest.mark.parametrize(
    ("widths", "up", "down"),
    [
        ([12, 16, 20, 24, 32], 44, 8),
        ([8, 16], 32, None),
        ([64, 96, 128], 160, 32),
        ([8], None, None),
        ([5, 6], 7, 4),
    ],
)
def test_a_ladder_goes_on_in_its_own_steps(
    widths: list[int], up: int | None, down: int | None
) -> None:
    assert next_width(widths, 1) == up
    assert next_width(widths, -1) == down


def test_best_recipe_is_of_the_largest_explore_budget() -> None:
    rows = [
        trial(Stage.EXPLORE, budget=1e10, loss=1.0, name="cheap"),
        trial(Stage.EXPLORE, budget=5e10, loss=2.0, name="b"),
        trial(Stage.EXPLORE, budget=5e10, loss=2.0, name="a", seed=3),
        trial(Stage.EXPLORE, budget=5e10, loss=1.5, name="other", arm="mod"),
        trial(Stage.EXPLORE, budget=5e10, state=State.DIVERGED, name="lost"),
        trial(Stage.MEASURE, budget=5e10, loss=0.5, name="measured"),
    ]
    best = best_recipe(rows, "dense")
    assert best is not None
    assert best.hash == "a"
    assert best_recipe(rows, "mode") is None


def explored_rows(losses: dict[float, list[float]]) -> list[Record]:
    """One recipe a learning rate, at widths 16, 20, ... in that order."""
    return [
        trial(Stage.EXPLORE, rate=rate, width=16 + 4 * i, loss=loss, name=f"{rate}-{i}")
        for rate, values in losses.items()
        for i, loss in enumerate(values)
    ]


def test_a_recipe_counts_by_its_mean_where_all_have_the_same_sizes() -> None:
    lucky = explored_rows({0.01: [2.0, 2.3, 2.3], 0.02: [2.1, 2.1, 2.2]})
    best = best_recipe(lucky, "dense")
    assert best is not None
    assert best.hash == "0.02-0"
    uneven = best_recipe(lucky[1:], "dense")
    assert uneven is not None
    assert uneven.hash == "0.02-0", "2.1 is the lowest that is left"
    drawn = best_recipe(explored_rows({0.01: [2.0], 0.02: [2.1, 1.9]}), "dense")
    assert drawn is not None
    assert drawn.hash == "0.02-1", "a sampler's trials are compared one by one"


def test_missed_is_the_upper_limit_of_what_another_recipe_may_gain() -> None:
    rows = explored_rows({0.01: [2.0, 2.2], 0.02: [2.03, 2.21], 0.03: [9.0, 9.2]})
    first, second = recipe_key(rows[0]), recipe_key(rows[2])
    error = 2 * 0.02 * (1 / 2 + 1 / 2) ** 0.5
    assert missed(rows, "dense", first, 0.02) == pytest.approx(-0.02 + error)
    assert missed(rows, "dense", second, 0.02) == pytest.approx(0.02 + error)
    scatter = 2 * 0.01  # of the gaps -0.03 and -0.01: sd 0.0141, over the root of 2
    assert missed(rows, "dense", first, 0.001) == pytest.approx(-0.02 + scatter)
    rows = explored_rows({0.01: [2.0, 2.2], 0.02: [2.05, 2.25]})
    assert missed(rows, "dense", first, 0.001) == 0, "told apart"
    assert missed(rows[:2], "dense", first, 0.02) == 0, "the only one"
    assert missed([], "dense", first, 0.02) == 0


def test_a_second_recipe_in_measure_enters_no_fit() -> None:
    """Extending explore can change an arm's recipe; the curves must not mix the two."""
    old = [trial(width=width, rate=0.01, loss=1.0) for width in WIDTHS]
    new = [trial(width=width, rate=0.005) for width in WIDTHS[:-1]]
    explore = [trial(Stage.EXPLORE, rate=0.005, loss=1.0), trial(Stage.EXPLORE, rate=0.01, loss=2)]
    assert {row.hash for row in measured(old + new + explore, "dense")} == {
        row.hash for row in new
    }
    assert len(measured(old + new, "dense")) == len(old)


def test_fitter_on_chinchilla_points(shared_data: Path) -> None:
    """Hoffmann et al. publish N* ~ C^0.50 and C^0.49 (approaches 1 and 2)."""
    path = shared_data / "isoflops" / "chinchilla.csv"
    with path.open() as file:
        points = [
            (float(row["budget"]), float(row["params"]), float(row["loss"]))
            for row in csv.DictReader(file)
        ]
    rows = []
    for i, (budget, size, loss) in enumerate(points):
        row = trial(budget=budget, width=2 * (i + 4), loss=loss, name=str(i))
        assert row.plan is not None
        plan = row.plan.model_copy(update={"params": int(size)})
        rows.append(row.model_copy(update={"plan": plan}))
    fits = [curve for curve in fit_curves(rows) if isinstance(curve, Fit)]
    assert len(fits) == 8, "1e20 has no minimum inside"
    exponent = np.polyfit(
        np.log([fit.budget for fit in fits]), np.log([fit.minimum_params for fit in fits]), 1
    )[0]
    assert 0.4 < exponent < 0.6


def test_headline_recovers_a_law_with_a_known_multiplier() -> None:
    claim = headline(study()).headline
    assert claim.budget == 1e12
    assert claim.comparison is not None
    assert claim.comparison.difference == pytest.approx(SLOPE * math.log(GAIN), abs=1e-9)
    assert claim.multiplier is not None
    assert claim.multiplier.value == pytest.approx(GAIN, abs=0.05)  # the prior bends two budgets
    assert claim.multiplier.low is not None
    assert claim.multiplier.high is not None
    assert claim.multiplier.low < GAIN < claim.multiplier.high
    assert claim.multiplier.extrapolated
    at_small = headline(study()).by_budget[0].multiplier
    assert at_small is not None
    assert not at_small.extrapolated


def test_multiplier_of_noisy_studies() -> None:
    found = [headline(study(sd=0.004, seeds=5, draw=draw)).headline for draw in range(12)]
    values = [claim.multiplier.value for claim in found if claim.multiplier]
    assert len(values) == 12
    assert np.median(values) == pytest.approx(GAIN, abs=0.05)


@pytest.mark.parametrize(
    ("shift", "verdict", "word"),
    [(0.0, Verdict.BETTER, "lower loss"), (0.1, Verdict.WORSE, "higher loss")],
)
def test_direction(shift: float, verdict: Verdict, word: str) -> None:
    claim = headline(study(shift=shift)).headline
    assert claim.verdict is verdict
    assert word in claim.sentence
    chosen = "At 1e12 FLOPs the routed model that measure chose (mod, capacity 0.125"
    assert claim.sentence.startswith(chosen)
    assert claim.comparison is not None
    better = claim.comparison.arm.loss < claim.comparison.reference.loss
    assert better is (verdict is Verdict.BETTER)
    assert (claim.comparison.difference > 0) is better


def test_sentence_has_the_forward_flops_of_confirm() -> None:
    rows = [
        changed(row, realised_forward_flops=620.0 if row.arm == "mod" else 1000.0)
        if row.stage is Stage.CONFIRM
        else row
        for row in study()
    ]
    claim = headline(rows).headline
    assert "needs 62 % of its forward FLOPs" in claim.sentence
    assert "[1." in claim.sentence or "[0." in claim.sentence


def test_interval_that_holds_zero_is_inconclusive_and_says_what_it_would_take() -> None:
    rows = study(shift=SLOPE * math.log(GAIN) + 0.001)
    spread = {100: -0.03, 101: 0.0, 102: 0.03}
    rows = [
        changed(row, causal_loss=row.scores.causal_loss + spread[row.seed])
        if row.scores and row.stage is Stage.CONFIRM
        else row
        for row in rows
    ]
    claim = headline(rows).headline
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert "contains zero" in claim.sentence
    assert claim.needed is not None
    assert claim.needed.effect == 0.035
    assert claim.needed.runs == runs_for(0.035, claim.needed.sd)
    assert claim.needed.runs is not None
    assert claim.needed.flops == pytest.approx(2 * claim.needed.runs * 1e12)
    assert claim.needed.hours == pytest.approx(2 * claim.needed.runs * 36 / 3600)


def test_false_positives_are_rare() -> None:
    """Equal arms get a verdict in about one of twenty studies, not more."""
    same = SLOPE * math.log(GAIN)
    verdicts = [
        headline(study(sd=0.01, shift=same, budgets=(1e11,), draw=draw)).headline.verdict
        for draw in range(60)
    ]
    wrong = sum(verdict in (Verdict.BETTER, Verdict.WORSE) for verdict in verdicts)
    assert wrong <= 8


@pytest.mark.parametrize("weak", ["dense", "mod"])
def test_untrained_gets_no_verdict(weak: str) -> None:
    rows = [
        changed(row, causal_loss=row.scores.causal_loss + 2)
        if row.scores and row.stage is Stage.CONFIRM and row.arm == weak
        else row
        for row in study()
    ]
    claim = headline(rows).headline
    assert claim.verdict is Verdict.UNTRAINED
    assert "bigram" in claim.sentence
    assert claim.multiplier is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_get_no_interval_and_no_verdict(seeds: int) -> None:
    claims = headline(study(seeds=seeds))
    assert claims.headline.verdict is Verdict.NONE
    assert f"{seeds} confirmed run" in claims.headline.sentence
    assert claims.headline.comparison is not None
    assert claims.headline.comparison.interval is None
    assert claims.headline.multiplier is None
    assert all(each.half_width is None for each in claims.confirmed)


def test_identical_losses_are_no_certainty() -> None:
    rows = [
        changed(row, causal_loss=1.8 if row.arm == "mod" else 1.9)
        if row.stage is Stage.CONFIRM
        else row
        for row in study()
    ]
    claim = headline(rows).headline
    assert claim.verdict is Verdict.NONE
    assert "same loss" in claim.reason


def test_a_control_is_never_the_headline() -> None:
    """Not even one that is far better than everything else."""
    rows = [
        changed(row, causal_loss=row.scores.causal_loss - 0.5)
        if row.scores and row.arm == "mod-random"
        else row
        for row in study()
    ]
    rows += [
        trial(Stage.MEASURE, "mod-random", 1e12, width=w, loss=0.5, block="mod") for w in WIDTHS
    ]
    claims = headline(rows)
    assert claims.headline.comparison is not None
    assert claims.headline.comparison.arm.arm == "mod"
    assert [each.arm.arm for each in claims.controls] == ["mod", "mod"]
    assert {each.reference.arm for each in claims.controls} == {"mod-random"}
    assert all(each.difference < 0 for each in claims.controls)
    assert all(each.difference > 0 for each in headline(study()).controls)


def test_every_routed_arm_stands_against_dense_and_every_control() -> None:
    """Also against a control that was made for another arm; controls against dense alone."""
    arms = {"dense": None, "mod": None, "other": None, "random": "mod", "static": "mod"}
    losses = {"dense": 1.9, "mod": 1.8, "other": 1.85, "random": 1.88, "static": 1.7}
    routers = {"other": "predictor", "random": "random", "static": "static"}
    rows = [
        trial(
            Stage.CONFIRM, arm, seed=seed, loss=losses[arm] + 0.001 * seed,
            block="dense" if arm == "dense" else "mod",
            router=routers.get(arm, "expert_choice"), width=40 if arm == "other" else 32,
        )
        for arm in arms
        for seed in range(3)
    ]  # fmt: skip
    found = study_claims(manifest(arms), rows)
    assert found.headline.verdict is Verdict.NONE, "nothing was measured"
    by_arm = {each.arm.arm: each for each in found.standings}
    assert list(by_arm) == ["mod", "other", "random", "static"]
    for arm, each in by_arm.items():
        assert each.dense is not None
        assert each.dense.difference == pytest.approx(1.9 - losses[arm])
        assert each.dense.interval is not None
        controls = {c.reference.arm: c for c in each.controls}
        assert set(controls) == ({"random", "static"} if arm in ("mod", "other") else set())
        for name, comparison in controls.items():
            assert comparison.difference == pytest.approx(losses[name] - losses[arm])
            assert comparison.interval is not None
    assert by_arm["mod"].notes == ()
    assert [note.split()[0] for note in by_arm["other"].notes] == ["random", "static"]
    assert [each.arm for each in found.routed] == list(by_arm)


def test_arms_stand_at_their_largest_budget_first_and_without_dense() -> None:
    rows = [
        trial(Stage.CONFIRM, "mod", budget, seed=seed) for budget in BUDGETS for seed in range(3)
    ]
    found = headline(rows)
    assert [each.arm.budget for each in found.standings] == [1e12, 1e11]
    assert all(each.dense is None for each in found.standings)
    assert [each.budget for each in found.routed] == [1e12]


def test_measure_chooses_and_confirm_speaks() -> None:
    """The arm that is lucky in confirm does not take the headline from the measured best."""
    rows = study()
    lucky = [
        row.model_copy(update={"arm": "mod-lucky", "hash": f"lucky-{row.hash}"})
        for row in rows
        if row.arm == "mod" and row.scores
    ]
    lucky = [
        changed(
            row,
            causal_loss=row.scores.causal_loss + (0.05 if row.stage is Stage.MEASURE else -0.2),
        )
        for row in lucky
        if row.scores
    ]
    arms = {"dense": None, "mod": None, "mod-lucky": None, "mod-random": "mod"}
    claims = headline(rows + lucky, arms=arms)
    assert claims.headline.comparison is not None
    assert claims.headline.comparison.arm.arm == "mod"
    others = [each for each in claims.beside if each.role == "other arm"]
    assert {each.comparison.arm.arm for each in others} == {"mod-lucky"}
    [told] = [note for note in claims.headline.notes if "fresh seeds put lower" in note]
    assert "mod-lucky (" in told
    assert not any("fresh seeds put lower" in note for note in headline(rows).headline.notes)
    pairs = [each.comparison for each in claims.beside if each.role == "pair"]
    assert [(each.arm.arm, each.reference.arm) for each in pairs] == [("mod", "mod-lucky")] * 2


def test_the_luckiest_size_of_a_refused_ladder_does_not_win_against_a_minimum() -> None:
    """The lowest of several trials is lower than a fit's minimum by luck alone."""
    rows = study()
    level = law("mod", 1e12, 30_000 * math.sqrt(10 * GAIN) * 1.3)
    falling = [
        trial(Stage.MEASURE, "mod-lucky", 1e12, width=width, loss=level - 0.002 + 0.1 * i)
        for i, width in enumerate((48, 40, 32, 24))
    ]
    arms = {"dense": None, "mod": None, "mod-lucky": None, "mod-random": "mod"}
    claims = headline(rows + falling, arms=arms)
    lucky = {best.arm: best for best in claims.optima if best.budget == 1e12}
    assert lucky["mod-lucky"].loss < lucky["mod"].loss
    assert claims.headline.comparison is not None
    assert claims.headline.comparison.arm.arm == "mod"


def test_only_confirm_rows_on_the_test_part_make_the_headline() -> None:
    rows = study()
    expected = headline(rows).headline
    extra = [
        trial(Stage.CONFIRM, "mod", 1e12, width=48, seed=200 + i, loss=0.1, part="validation",
              name=f"validation-{i}", block="mod")
        for i in range(5)
    ]  # fmt: skip
    explored = [
        changed(row, causal_loss=0.2) if row.stage is Stage.EXPLORE and row.arm == "mod" else row
        for row in rows
    ]
    shifted = [
        changed(row, causal_loss=row.scores.causal_loss - 0.01)
        if row.scores and row.stage is Stage.MEASURE and row.arm == "mod"
        else row
        for row in rows
    ]
    assert expected.comparison is not None
    for other in (rows + extra, explored, shifted):
        found = headline(other).headline
        assert found.comparison is not None
        assert found.comparison.arm.loss == expected.comparison.arm.loss
        assert found.comparison.difference == expected.comparison.difference


def test_confirmed_seeds_of_another_size_are_not_mixed_in() -> None:
    rows = study()
    old = [
        trial(Stage.CONFIRM, "mod", 1e12, width=16, seed=100 + i, loss=1.0 + i / 1e4, block="mod")
        for i in range(9)
    ]
    expected, found = headline(rows).headline, headline(rows + old).headline
    assert expected.comparison is not None
    assert found.comparison is not None
    assert expected.comparison.arm.records == found.comparison.arm.records
    assert expected.comparison.difference == found.comparison.difference


def test_lost_seeds_are_told() -> None:
    rows = study(seeds=4)
    index = next(i for i, row in enumerate(rows) if row.hash.startswith("confirm-mod-1e+12"))
    rows[index] = rows[index].model_copy(update={"state": State.DIVERGED, "scores": None})
    notes = headline(rows).headline.notes
    assert any("1 of 4 runs did not finish" in note for note in notes)


def test_one_budget_has_no_multiplier() -> None:
    claim = headline(study(budgets=(1e11,))).headline
    assert claim.verdict is Verdict.BETTER
    assert claim.multiplier is None
    assert "two budgets" in claim.no_multiplier


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (lambda row: False, "no trials yet"),
        (lambda row: row.stage is Stage.EXPLORE, "nothing is measured"),
        (lambda row: row.stage is not Stage.CONFIRM, "nothing is confirmed"),
        (lambda row: row.arm == "dense", "no trials of a routed arm"),
        (lambda row: row.arm != "dense", "no trials of a dense arm"),
        (
            lambda row: not (row.stage is Stage.CONFIRM and row.arm == "mod"),
            "mod, is not confirmed",
        ),
        (lambda row: row.stage is not Stage.MEASURE, "no routed arm was measured"),
    ],
)
def test_unfinished_studies_say_what_is_missing(
    keep: Callable[[Record], bool], reason: str
) -> None:
    claim = headline([row for row in study() if keep(row)]).headline
    assert claim.verdict is Verdict.NONE
    assert reason in claim.sentence


def test_order_of_records_does_not_matter() -> None:
    rows = study(sd=0.01)
    assert headline(rows).headline == headline(rows[::-1]).headline


def test_numbers() -> None:
    assert [scientific(x) for x in (1.5e11, 1e12, 640.0, 0.0, None, 6.02e23)] == [
        "1.5e11", "1e12", "640", "0", "\N{EN DASH}", "6.02e23",
    ]  # fmt: skip
    assert [count(x) for x in (812, 25_300, 1.2e6, 999_900, 3e9)] == [
        "812", "25.3k", "1.2M", "1M", "3B",
    ]  # fmt: skip
    assert percent(0.0081) == "0.8 %"
    assert [decimal(x, 3) for x in (-0.0004, -0.0006, 0.0)] == ["0.000", "-0.001", "0.000"]
    assert percent_digits([0.008, 0.0004]) == 2
    assert percent_digits([0.008, 0.0]) == 1


def test_one_of_a_kind_has_no_plural_and_a_moment_is_no_fraction_of_an_hour() -> None:
    assert [counted(number, "trial") for number in (0, 1, 2, 1200)] == [
        "0 trials", "1 trial", "2 trials", "1,200 trials",
    ]  # fmt: skip
    seconds = (0, 0.7056, 25, 720, 12_240, 4_320_000)
    assert [duration(each) for each in seconds] == [
        "0 s", "0.7 s", "25 s", "12 min", "3.4 h", "1,200 h",
    ]  # fmt: skip
    assert str(StageBegan(stage=Stage.MEASURE, trials=1)) == "measure: 1 trial to run"
