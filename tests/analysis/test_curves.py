"""Curves with a bad trial, and the intervals of their minima."""

import math
from dataclasses import replace

import numpy as np
import pytest
from worlds import WIDTHS, law, params_of

from modsearch.analysis.curves import Fit, Point, Refusal, fit_points, with_noise
from modsearch.analysis.noise import Noise, moderated
from modsearch.analysis.optima import EDGE_BIAS, EXACT_BIAS, FIT_BIAS, optima

BEST = 30_000


def ladder(changes: dict[int, float] | None = None, sd: float = 0.0, draw: int = 0) -> list[Point]:
    """From the law; `changes` are added to the losses of widths."""
    generator = np.random.default_rng(draw)
    return [
        Point(
            hash=str(width), depth=2, width=width, params=params_of(2, width),
            loss=law("dense", 1e11, params_of(2, width)) + (changes or {}).get(width, 0.0)
            + sd * float(generator.standard_normal()),
            forward_flops=1.0,
        )
        for width in WIDTHS
    ]  # fmt: skip


def fitted(points: list[Point]) -> Fit | Refusal:
    return fit_points("dense", 1e11, 2, points)


@pytest.mark.parametrize("width", [24, 32, 40])
@pytest.mark.parametrize("change", [0.4, -0.4])
def test_a_trial_far_off_the_others_is_set_aside_and_told(width: int, change: float) -> None:
    points = ladder({width: change})
    crowded = points + [
        Point(f"{size}", 2, size, size, law("dense", 1e11, size), 1.0)
        for size in (15_000, 18_000, 22_000, 28_000, 37_000, 45_000, 55_000, 65_000)
    ]
    curve = fitted(crowded)
    assert isinstance(curve, Fit)
    assert [point.width for point in curve.set_aside] == [width]
    assert len(curve.points) == len(crowded)
    assert "set aside" in curve.marks[0]
    assert curve.minimum_params == pytest.approx(BEST, rel=1e-6)


def test_the_lowest_size_of_several_seeds_is_that_of_their_mean() -> None:
    """And has the error of a mean: the luckier seed stands for nothing."""
    points = [
        replace(point, hash=f"{point.hash}-{seed}", loss=point.loss + shift)
        for point in ladder()[:3]
        for seed, shift in enumerate((-0.03, 0.01))
    ]
    curve = fitted(points)
    assert isinstance(curve, Refusal)
    size = min(points, key=lambda point: point.loss).params
    losses = [point.loss for point in points if point.params == size]
    assert curve.lowest.loss == pytest.approx(sum(losses) / 2)
    noisy = with_noise(curve, Noise(0.02, 5))
    assert isinstance(noisy, Refusal)
    assert noisy.lowest_sd == pytest.approx(0.02 / math.sqrt(2))


def test_sound_curves_keep_their_points() -> None:
    lost = sum(bool(fitted(ladder(sd=0.018, draw=draw)).set_aside) for draw in range(300))
    assert lost <= 6


def test_an_end_that_is_lowest_by_noise_refuses_no_curve() -> None:
    curve = fitted(ladder()[1:7])
    assert isinstance(curve, Fit)
    first = curve.points[0]
    down = {first.width: curve.minimum_loss - first.loss - 0.002}
    curve = fitted(ladder(down)[1:7])
    assert isinstance(curve, Fit)
    assert any("edge" in mark for mark in curve.marks) or curve.set_aside


def test_a_ladder_that_falls_to_its_end_is_refused() -> None:
    small = [
        Point(f"{n}", 2, n, n, law("dense", 1e11, n), 1.0) for n in range(9_000, 23_000, 2000)
    ]
    for points in (small, ladder()[4:]):
        curve = fitted(points)
        assert isinstance(curve, Refusal)
        assert curve.reason.startswith("edge minimum")


def test_intervals_of_the_vertex_and_its_loss_cover() -> None:
    noise = Noise(0.018, 1e6)
    hits, bounded, count = np.zeros(2), 0, 0
    for draw in range(600):
        curve = fitted(ladder(sd=noise.sd, draw=draw))
        if isinstance(curve, Fit):
            curve = with_noise(curve, noise)
            assert isinstance(curve, Fit)
            assert curve.minimum_low is not None
            assert curve.minimum_high is not None
            assert curve.minimum_params_low is not None
            assert curve.minimum_params_high is not None
            assert curve.minimum_params_low <= curve.minimum_params <= curve.minimum_params_high
            hits += (
                curve.minimum_low <= 1.9 <= curve.minimum_high,
                curve.minimum_params_low <= BEST <= curve.minimum_params_high,
            )
            bounded += curve.minimum_params_high < params_of(2, WIDTHS[-1])
            count += 1
    assert count > 550
    assert bounded > 300
    assert (hits / count > 0.92).all(), hits / count


def test_kinds_of_optima_are_ranked_without_their_luck() -> None:
    edge = fit_points("edge", 1e11, 2, ladder()[4:])
    exact = fit_points(
        "exact", 1e11, 2,
        [
            Point(f"{n}", 2, n, n, law("dense", 1e11, n), 1.0)
            for n in (5_000, 20_000, 30_000, 45_000)
        ],
    )  # fmt: skip
    spare = fit_points("spare", 1e11, 2, ladder())
    found = {best.arm: best for best in optima([edge, exact, spare])}
    sd = moderated(Noise(0.0, len(spare.params) - 3)).sd if isinstance(spare, Fit) else math.nan
    assert isinstance(edge, Refusal)
    assert isinstance(exact, Fit)
    assert exact.exact
    for arm, bias in (("edge", EDGE_BIAS), ("exact", EXACT_BIAS), ("spare", FIT_BIAS)):
        assert found[arm].fair - found[arm].loss == pytest.approx(bias * sd)
