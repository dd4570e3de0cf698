"""The lowest loss of three sizes by fresh seeds."""

import math

import numpy as np
import pytest

from modsearch.analysis.vertex import NO_CURVATURE, Curvature, lowest, measured_curvature

SIZES = [20_000.0, 30_000.0, 45_000.0]
STEP = math.log(1.5)


def parabola(vertex: float, curvature: float = 0.2) -> np.ndarray:
    return 1.9 + curvature * (np.log(SIZES) - vertex) ** 2


def test_three_exact_means_give_the_vertex_of_their_parabola() -> None:
    vertex = math.log(33_000)
    found = lowest(SIZES, parabola(vertex), [4, 4, 4], NO_CURVATURE)
    assert found.place == pytest.approx(vertex)
    assert found.loss == pytest.approx(1.9)
    assert found.factors.sum() == pytest.approx(1.0)


def test_the_vertex_stays_between_the_outer_sizes() -> None:
    high = lowest(SIZES, parabola(math.log(90_000)), [2, 2, 2], NO_CURVATURE)
    assert high.place == pytest.approx(math.log(45_000))
    assert high.loss == pytest.approx(parabola(math.log(90_000))[-1])
    upside_down = lowest(SIZES, -parabola(math.log(31_000)), [2, 2, 2], NO_CURVATURE)
    assert upside_down.place == pytest.approx(math.log(20_000))


def test_one_size_is_its_own_vertex_and_two_have_a_lower_one() -> None:
    one = lowest([1e4], [2.0], [5], NO_CURVATURE)
    assert (one.loss, one.place) == (2.0, pytest.approx(math.log(1e4)))
    assert one.variance(np.array([0.01]), 0.05) == pytest.approx(0.01)
    two = lowest([1e4, 2e4], [2.0, 1.9], [5, 5], NO_CURVATURE)
    assert (two.loss, two.place) == (1.9, pytest.approx(math.log(2e4)))


def test_measure_says_how_curved_a_ladder_is() -> None:
    params = [10_000 * 1.4**i for i in range(6)]
    x = np.log(params)
    losses = 1.9 + 0.2 * (x - x[2]) ** 2
    found = measured_curvature(params, losses)
    assert found.value == pytest.approx(0.2)
    assert found.weight > 0
    assert measured_curvature(params, -losses).value == 0.0
    assert measured_curvature(params[:3], losses[:3]) == NO_CURVATURE
    wide = measured_curvature([*params, 1e9], [*losses, 99.0])
    assert wide.value == pytest.approx(0.2), "a point far off says nothing of the minimum"


def test_its_error_has_the_right_size() -> None:
    """Over many draws the vertex's loss scatters as its standard error says, or a little less:
    part of that stands for curves that are no parabolas."""
    generator = np.random.default_rng(0)
    draws, runs, sd = 20_000, 4, 0.02
    for vertex in (math.log(30_000), math.log(36_000)):
        losses = parabola(vertex) + sd * generator.standard_normal((draws, runs, 3))
        ladder = np.log([13_333.0, *SIZES, 67_500.0])
        design = np.vander(ladder - ladder.mean(), 3)
        variance = np.linalg.inv(design.T @ design)[0, 0]
        bends = 0.2 + sd * math.sqrt(variance) * generator.standard_normal(draws)
        prior = Curvature(np.maximum(bends, 0), 0.25 / variance)
        found = lowest(SIZES, losses.mean(1), [runs] * 3, prior)
        of_run = losses.var(1, ddof=1).mean(-1)
        stated = found.variance(of_run[:, None] / runs * np.ones(3), of_run).mean()
        assert found.loss.var() < stated < 1.35 * found.loss.var()
        assert found.loss.mean() == pytest.approx(1.9, abs=0.0015)
