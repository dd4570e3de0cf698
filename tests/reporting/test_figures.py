"""Figures of curves and maps: what is drawn, where names stand, and how many panels there are."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from worlds import BUDGETS, WIDTHS, law, manifest, params_of, study, trial

from modsearch.analysis.claims import Claims, study_claims
from modsearch.analysis.curves import Fit
from modsearch.config.records import Record, Stage
from modsearch.reporting.figures import curves
from modsearch.reporting.figures.drawing import MARKERS, PALETTE, Drawing, line, render, styled
from modsearch.reporting.figures.labels import Name, name_lines, write_names
from modsearch.reporting.figures.panels import MOST_CURVES
from modsearch.reporting.figures.routing import _beyond, _scale
from modsearch.reporting.parts import Table
from modsearch.reporting.study_tables import minima

ARMS = {"dense": None, "mod": None, "token-choice": None, "threshold": None, "mode": None}


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with styled():
        yield


def many(arms: int, depths: tuple[int, ...]) -> tuple[Claims, list[str]]:
    """Each arm at each depth and budget, with a little noise."""
    names = list(ARMS)[:arms]
    noise = np.random.default_rng(0).standard_normal
    rows = [
        trial(
            Stage.MEASURE, arm, budget, depth, width,
            loss=law("dense" if arm == "dense" else "mod", budget, params_of(depth, width))
            + 0.02 * depth + 0.004 * float(noise()),
        )
        for arm in names
        for depth in depths
        for budget in BUDGETS
        for width in WIDTHS[:6]
    ]  # fmt: skip
    return study_claims(manifest({arm: None for arm in names}), rows), names


def panels_of(drawn: Drawing | None) -> list[Axes]:
    assert drawn is not None
    return drawn.figure.axes


def test_few_curves_share_a_panel_for_each_budget_and_are_named_beside() -> None:
    claims, arms = many(2, (2, 4))
    for drawn in (curves.isoflop(claims, arms), curves.forward(claims, arms, claims.dense_minima)):
        axes = panels_of(drawn)
        assert len(axes) == len(BUDGETS)
        for ax in axes:
            names = {text.get_text() for text in ax.texts} - {"cheaper and better"}
            assert names == {
                "dense, depth 2", "dense, depth 4", "mod, depth 2", "mod, depth 4"
            }  # fmt: skip


def test_many_curves_get_a_panel_for_each_arm_and_budget() -> None:
    claims, arms = many(5, (2, 4))
    assert len(claims.curves) / len(BUDGETS) > MOST_CURVES
    for drawn in (curves.isoflop(claims, arms), curves.forward(claims, arms, claims.dense_minima)):
        axes = panels_of(drawn)
        assert len(axes) == 5 * len(BUDGETS)
        titles = [ax.get_title(loc="left") for ax in axes]
        assert [title for title in titles if title] == arms
        for ax in axes:
            coloured = {line.get_color() for line in ax.lines} & set(PALETTE)
            assert len(coloured) == 1


def test_depths_differ_by_marker_in_every_figure_of_curves() -> None:
    claims, arms = many(2, (2, 4))
    for drawn in (curves.isoflop(claims, arms), curves.forward(claims, arms, claims.dense_minima)):
        for ax in panels_of(drawn):
            marks = {
                (line.get_color(), line.get_marker())
                for line in ax.lines
                if line.get_marker() in MARKERS
            }
            assert len(marks) == 4


def test_what_is_drawn_is_what_was_measured() -> None:
    claims, arms = many(2, (2,))
    drawn = curves.isoflop(claims, arms)
    assert drawn is not None
    for ax, budget in zip(drawn.figure.axes, BUDGETS, strict=True):
        there = {
            (float(x), float(y))
            for line in ax.lines
            if line.get_marker() in MARKERS
            for x, y in np.asarray(line.get_xydata())
        }
        rows = drawn.data[drawn.data["budget"] == budget]
        assert there == set(
            zip(rows["params"].astype(float), rows["causal loss"], strict=True)
        )  # fmt: skip


def test_every_mark_says_its_value_on_the_page() -> None:
    claims, arms = many(2, (2,))
    drawn = curves.forward(claims, arms, claims.dense_minima)
    assert drawn is not None
    text = render(drawn).inline
    point = claims.curves[0].points[0]
    assert f"dense, depth 2, width {point.width}: loss {point.loss:.4f}, " in text
    assert text.count("<title>") == len(drawn.data)


def test_an_exact_fit_of_three_points_looks_like_one() -> None:
    """Dashed, with a hollow star, and the legend says so."""
    rows = [
        trial(width=width, loss=loss)
        for width, loss in ((16, 3.0), (32, 2.0), (40, 1.99), (48, 2.01), (96, 3.0))
    ]
    claims = study_claims(manifest({"dense": None}), rows)
    [curve] = claims.curves
    assert isinstance(curve, Fit)
    assert curve.exact
    drawn = curves.isoflop(claims, ["dense"])
    assert drawn is not None
    [ax] = drawn.figure.axes
    assert "--" in {line.get_linestyle() for line in ax.lines}
    [star] = [line for line in ax.lines if line.get_marker() == "*"]
    assert star.get_markerfacecolor() == "#ffffff"
    said = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert any("exact fit of 3 points" in each for each in said)


def test_the_minima_table_does_not_call_an_edge_the_optimum() -> None:
    rows = [trial(width=width, loss=3 - width / 100) for width in WIDTHS]
    claims = study_claims(manifest({"dense": None}), rows)
    [note] = minima(claims)["note"]
    assert note.startswith("no fit (edge minimum: ")
    assert "; the lowest measured size stands for the arm" in note
    assert "optimum" not in note


def test_several_seeds_of_a_size_are_marks_of_one_line() -> None:
    rows: list[Record] = [
        trial(width=width, seed=seed, loss=law("dense", 1e11, params_of(2, width)) + seed / 1000)
        for width in WIDTHS
        for seed in (1, 2)
    ]
    claims = study_claims(manifest({"dense": None}), rows)
    drawn = curves.forward(claims, ["dense"], claims.dense_minima)
    assert drawn is not None
    lines = [line for line in drawn.figure.axes[0].lines if line.get_linestyle() == "-"]
    assert [len(np.asarray(line.get_xydata())) for line in lines] == [len(WIDTHS)]
    assert len(drawn.data) == 2 * len(WIDTHS)


def axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4, 3), layout="constrained")
    return figure, figure.subplots()


def test_names_beside_lines_lie_inside_and_not_on_each_other() -> None:
    figure, ax = axes()
    x = [0.0, 1.0, 2.0]
    lines = [[1.0, 1.1, 1.05], [1.0, 1.2, 1.06], [2.0, 1.5, 1.07]]
    for y in lines:
        ax.plot(x, y, marker="o")
    assert write_names(figure, [Name(ax, f"line {i}", "black", x, y) for i, y in enumerate(lines)])
    boxes = [text.get_window_extent() for text in ax.texts]
    inside = ax.get_window_extent()
    for place, box in enumerate(boxes):
        assert inside.x0 <= box.x0
        assert box.x1 <= inside.x1
        assert not any(box.overlaps(other) for other in boxes[:place])


def test_names_that_do_not_all_fit_are_left_to_the_legend() -> None:
    figure, ax = axes()
    ax.plot([0, 1], [0, 1])
    crowd = [Name(ax, "a name that is rather long", "black", [0, 1], [0, 1]) for _ in range(40)]
    assert not write_names(figure, crowd)
    assert not ax.texts
    name_lines(figure, crowd[:3], [line("black", label="extra")])
    assert len(ax.texts) in (0, 3)
    name_lines(figure, crowd, [line("black", label="extra")])
    said = [text.get_text() for text in figure.legends[-1].get_texts()]
    assert said == [*[name.text for name in crowd], "extra"]


def test_a_control_stretches_no_colours() -> None:
    flat, wild = np.full((1, 4), 0.125), np.array([[0.0, 0.9, 0.1, 0.2]])
    bottom, top = _scale([(flat, flat)])
    assert (bottom, top) == pytest.approx((0.1, 0.15))
    assert _beyond([(flat, flat)], bottom, top) == "neither"
    assert _beyond([(flat, wild)], bottom, top) == "both"
    assert _scale([(wild, flat)]) == (0.0, 0.9)


def test_the_same_curves_give_the_same_bytes() -> None:
    claims = study_claims(manifest(), study(sd=0.004))
    first, second = (curves.isoflop(claims, ["dense", "mod"]) for _ in range(2))
    assert first is not None
    assert second is not None
    assert render(first) == render(second)


def test_a_figure_is_drawn_once_for_each_of_its_files() -> None:
    claims, arms = many(2, (2, 4))
    drawn = curves.isoflop(claims, arms)
    assert drawn is not None
    draws: list[object] = []
    drawn.figure.canvas.mpl_connect("draw_event", draws.append)
    render(drawn)
    assert len(draws) == 4  # PNG, PDF, SVG with outlines, SVG with text


def test_cells_of_a_table_are_rounded_once() -> None:
    claims, _ = many(2, (2, 4))
    table = Table("minima", minima(claims))
    assert table.header is table.header
    assert table.rows is table.rows


@pytest.mark.parametrize("budgets", [BUDGETS[:2], BUDGETS[:3]])
def test_the_name_of_the_axis_lies_inside_of_a_figure_of_panels(
    budgets: tuple[float, ...],
) -> None:
    claims, arms = many(5, (2, 4))
    kept = [curve for curve in claims.curves if curve.budget in budgets]
    minima = [each for each in claims.dense_minima if each.budget in budgets]
    drawn = curves.forward(replace(claims, curves=tuple(kept)), arms, minima)
    assert drawn is not None
    render(drawn)
    [name] = [ax.xaxis.label for ax in drawn.figure.axes if ax.get_xlabel()]
    box, room = name.get_window_extent(), drawn.figure.bbox
    assert room.x0 <= box.x0
    assert box.x1 <= room.x1
    assert (box.x0 + box.x1) / 2 == pytest.approx((room.x0 + room.x1) / 2, rel=0.15)
