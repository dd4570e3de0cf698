"""Differences on the same documents: what intervals cover, and what they are adjusted for."""

import numpy as np
import pytest

from modsearch.analysis.means import mean_of
from modsearch.analysis.paired import Sheet, difference, holm, ratio_error
from modsearch.analysis.runs import Runs
from modsearch.analysis.samples import numbers_of, scores_of, text_of
from modsearch.analysis.vertex import NO_CURVATURE, lowest
from modsearch.config.samples import facts_of


def test_error_of_a_ratio_agrees_with_repeated_draws() -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(50, 150, (4000, 30)).astype(float)
    rates = 2.0 + generator.normal(0, 5, sizes.shape) / sizes
    spread = float(((rates * sizes).sum(1) / sizes.sum(1)).std())
    stated = [ratio_error(*rows) for rows in zip(rates, sizes, strict=True)]
    assert np.mean(stated) == pytest.approx(spread, rel=0.05)


def crossed(
    generator: np.random.Generator, seeds: int, documents: int, seed_sd: float
) -> list[Sheet]:
    """Two tasks, with documents that are easy or hard for all, and seeds that are good or bad at
    all tasks."""
    skill_S = generator.normal(0, seed_sd, (seeds, 1))
    sheets = []
    for scale in (1.0, 0.5):
        rest_SD = generator.normal(0, 0.3, (seeds, documents))
        sheets.append(Sheet(scale * skill_S + rest_SD, np.ones(documents)))
    return sheets


def shared(
    generator: np.random.Generator, sheets: list[Sheet], kept: list[np.ndarray]
) -> list[Sheet]:
    """What documents do to one side: partly the same for both (`kept`), partly its own."""
    return [
        Sheet(
            sheet.values_SD + common_D + generator.normal(0, 0.2, len(common_D)), sheet.weights_D
        )
        for sheet, common_D in zip(sheets, kept, strict=True)
    ]


@pytest.mark.parametrize("seed_sd", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("seeds", [3, 6])
def test_an_interval_over_seeds_and_documents_covers(seeds: int, seed_sd: float) -> None:
    """The long version is `benchmarks/paired.py`."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        kept = [generator.normal(0, 1, 60) for _ in range(2)]
        ours, theirs = (
            shared(generator, crossed(generator, seeds, 60, seed_sd), kept) for _ in range(2)
        )
        low, high = difference(ours, theirs).interval()
        held += low <= 0 <= high
    assert held / 400 >= 0.925


def test_an_interval_over_documents_alone_is_too_short_for_seeds() -> None:
    """Why seeds stand in it."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        kept = [generator.normal(0, 1, 60) for _ in range(2)]
        ours, theirs = (shared(generator, crossed(generator, 1, 60, 0.2), kept) for _ in range(2))
        found = difference(ours, theirs)
        assert found.seeds is None
        low, high = found.interval()
        held += low <= 0 <= high
    assert held / 300 < 0.6


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("seed_sd", [0.0, 0.05, 0.2])
def test_an_interval_against_a_fixed_model_is_over_the_seeds_of_the_other_side(
    seeds: int, seed_sd: float
) -> None:
    generator = np.random.default_rng(0)
    held = alone = 0
    for _ in range(400):
        kept = [generator.normal(0, 1, 60) for _ in range(2)]
        ours = shared(generator, crossed(generator, seeds, 60, seed_sd), kept)
        fixed = shared(generator, crossed(generator, 1, 60, 0.0), kept)
        found = difference(ours, fixed, fixed=True)
        assert found.seeds is not None
        held += found.interval()[0] <= 0 <= found.interval()[1]
        low, high = difference(ours, fixed).interval()
        alone += low <= 0 <= high
    assert held / 400 >= 0.94
    assert alone / 400 > 0.9 or seed_sd > 0, "over documents alone it is right without seeds"
    assert alone / 400 < 0.75 or seed_sd < 0.2
    single = [Sheet(sheet.values_SD[:1], sheet.weights_D) for sheet in ours]
    assert difference(single, fixed, fixed=True) == difference(single, fixed)


def test_a_p_value_is_the_level_at_which_the_interval_ends_at_zero() -> None:
    generator = np.random.default_rng(0)
    for seed_sd in (0.0, 0.05, 0.2):
        ours, theirs = (crossed(generator, 2, 60, seed_sd) for _ in range(2))
        for found in (difference(ours, theirs), difference(ours[:1], theirs[:1])):
            assert found.seeds is not None
            assert 0 < found.p < 1
            ends = found.interval(found.p)
            assert min(map(abs, ends)) == pytest.approx(0, abs=1e-9)
    far = difference([Sheet(sheet.values_SD + 9.0, sheet.weights_D) for sheet in ours], theirs)
    assert far.p < 0.02


SIZES = (1e4, 1.5e4, 2.3e4)


def of_sizes(generator: np.random.Generator, runs: int, seed_sd: float) -> tuple[np.ndarray, Runs]:
    """What runs of three sizes in turn are good for, whose losses make a bowl, with the weights
    that these losses have in its lowest one."""
    sizes = np.arange(runs) % 3
    luck_S = generator.normal(0, seed_sd, runs)
    losses_S = np.array([0.03, 0.0, 0.03])[sizes] + luck_S
    counts = [int((sizes == size).sum()) for size in range(3)]
    means = [losses_S[sizes == size].mean() for size in range(3)]
    factors = lowest(SIZES, means, counts, NO_CURVATURE).factors
    shares = [factors[size] / counts[size] for size in sizes]
    return -losses_S[:, None], Runs(tuple(shares), tuple(sizes.tolist()))


@pytest.mark.parametrize("seed_sd", [0.02, 0.1])
@pytest.mark.parametrize("runs", [6, 18])
def test_an_interval_over_runs_of_several_sizes_covers_and_is_shorter(
    runs: int, seed_sd: float
) -> None:
    """As confirm trains them: against those of one size alone."""
    generator = np.random.default_rng(0)
    held, widths = 0, []
    for _ in range(400):
        hard_D = generator.normal(0, 1, 60)
        sides = []
        for _ in range(2):
            skill_S1, weights = of_sizes(generator, runs, seed_sd)
            own_D = hard_D + generator.normal(0, 0.1, 60)
            values_SD = skill_S1 + own_D + generator.normal(0, 0.1, (runs, 60))
            sides.append(Sheet(values_SD, np.ones(60), weights))
        found = difference(sides[:1], sides[1:])
        low, high = found.interval()
        held += low <= 0 <= high
        middle = [Sheet(side.values_SD[1::3], side.weights_D) for side in sides]
        few = difference(middle[:1], middle[1:]).interval()
        widths.append((high - low) / (few[1] - few[0]))

    assert held / 400 >= 0.925
    assert np.median(widths) < {(6, 0.02): 0.9, (6, 0.1): 0.6}.get((runs, seed_sd), 1.0)


def test_sizes_are_no_scatter_of_seeds() -> None:
    runs = Runs((0.25,) * 4, (0, 0, 1, 1))
    assert runs.freedom == 2
    assert runs.spread([1.0, 3.0, 11.0, 13.0]) == pytest.approx(2.0)
    assert Runs.alike(4).spread([1.0, 3.0, 11.0, 13.0]) > 30
    single = Runs((0.5, 0.2, 0.3), (0, 1, 2))
    assert single.freedom == 2, "where no size has two runs, sizes are in the scatter"
    assert single.mean([1.0, 2.0, 3.0]) == pytest.approx(1.8)
    assert mean_of([1.0, 3.0, 11.0, 13.0], runs=runs).value == 7.0


def test_pairing_takes_out_what_documents_do_to_both() -> None:
    generator = np.random.default_rng(0)
    hard_D = generator.normal(0, 1, 500)
    ours = Sheet((hard_D + 0.1 + generator.normal(0, 0.1, 500))[None], np.ones(500))
    theirs = Sheet(hard_D[None], np.ones(500))
    found = difference([ours], [theirs])
    assert found.value == pytest.approx(0.1, abs=0.02)
    assert found.se < ratio_error(ours.values_SD[0], ours.weights_D) / 5
    assert found.p < 1e-6
    same = difference([ours], [ours])
    assert (same.value, same.se, same.p) == (0, 0, 1)


def test_tasks_are_strata_and_scales_are_of_each() -> None:
    """One task of twice the scatter, at half of the mean's weight and scaled by two."""
    generator = np.random.default_rng(1)
    rows = [generator.normal(size=(1, 40)) for _ in range(4)]
    ones = np.ones(40)
    ours, theirs = [Sheet(rows[0], ones), Sheet(rows[1], ones)], [Sheet(r, ones) for r in rows[2:]]
    found = difference(ours, theirs, [1.0, 2.0])
    errors = [
        ratio_error((one - other)[0], ones) for one, other in zip(rows[:2], rows[2:], strict=True)
    ]
    assert found.se == pytest.approx(np.hypot(errors[0], 2 * errors[1]) / 2)
    means = [one.mean - other.mean for one, other in zip(ours, theirs, strict=True)]
    assert found.value == pytest.approx((means[0] + 2 * means[1]) / 2)


def test_holm_adjusts_as_published() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([]) == []


def test_scores_of_documents_survive_their_text() -> None:
    generator = np.random.default_rng(0)
    values = [*generator.normal(0, 1, 500), 0.0, 12.0, -0.00001234, 1e6 / 3]
    assert numbers_of(text_of(values)) == pytest.approx(values, rel=6e-4)
    for values in ([0, 1, 1, 0], [1], [10], [101.0], [0.5]):
        assert numbers_of(text_of(values)).tolist() == values
    assert text_of([0.123456, -0.5]) == ".1235 -.5"
    with pytest.raises(ValueError, match="no finite number"):
        numbers_of("1.5 nan")


@pytest.mark.parametrize(
    "results",
    [
        {},
        {"tasks": 3, "samples": 3},
        {"tasks": {"t": {"leading": 3}}, "samples": {"t": {"documents": "a", "values": {}}}},
        {"tasks": [], "samples": {"t": {"documents": "a", "values": {"m": "x"}}}},
        {"samples": {"t": {"documents": "a", "values": {"m": "1.5 2"}, "weights": {"m": "3.5 "}}}},
        {"samples": {"t": {"documents": "a", "values": {"m": ""}}}},
    ],
)
def test_what_results_do_not_say_is_not_there(results: dict[str, object]) -> None:
    assert facts_of(results) == {}
    assert scores_of(results, "t", "m") is None
