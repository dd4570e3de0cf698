"""Panels of curves: where they are few, one for each budget, with names beside the lines; else one
for each arm and budget, with the dense arm's best depth in grey behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from modsearch.analysis.curves import Curve
from modsearch.analysis.numbers import scientific
from modsearch.reporting.figures.drawing import (
    MARKERS,
    SOFT,
    WIDTH,
    colours_of,
    legend,
    line,
    short,
)
from modsearch.reporting.figures.labels import Name, write_names

if TYPE_CHECKING:
    from modsearch.analysis.claims import Claims

MOST_CURVES = 6
"""Of a panel that several arms share."""


BETWEEN = -0.09
"""Middle of the gap to the panel at the left, in widths of a panel."""
GREY = "#a8a8a8"
"""Of the dense arm behind another one."""


@dataclass(frozen=True)
class Panel:
    """Curves that share axes."""

    ax: Axes
    budget: float
    curves: Sequence[Curve]
    behind: Sequence[Curve]
    """Of the dense arm, for comparison; empty where it is among the curves."""


@dataclass
class Canvas:
    """Curves on their panels, and what is said of them."""

    figure: Figure
    panels: Sequence[Panel]
    small: bool
    """Whether arms have panels of their own."""
    colours: Mapping[str, str]
    depths: Sequence[int]
    names: list[Name] = field(default_factory=list)
    hovers: dict[str, Sequence[str]] = field(default_factory=dict)

    @property
    def font(self) -> int:
        """Points, of what stands beside the axes."""
        return 9 if self.small else 10

    def marker(self, curve: Curve) -> str:
        """Of its depth."""
        return MARKERS[self.depths.index(curve.depth) % len(MARKERS)]

    def called(self, curve: Curve) -> str:
        """An arm, and its depth where the study has several."""
        arm = short(curve.arm, 18)
        return arm if len(self.depths) == 1 else f"{arm}, depth {curve.depth}"

    def finish(self, extra: Sequence[Line2D]) -> None:
        """Names beside the lines, where they fit, and otherwise in the legend; `extra` stands
        there always."""
        if not self.small:
            made = legend(self.figure, extra)
            if write_names(self.figure, self.names):
                return
            if made is not None:
                made.remove()
        arms = {curve.arm for panel in self.panels for curve in panel.curves}
        named = [] if self.small else [arm for arm in self.colours if arm in arms]
        handles = [line(self.colours[arm], label=arm) for arm in named]
        handles += [
            line(SOFT, marker=MARKERS[i % len(MARKERS)], dashes="", label=f"depth {depth}")
            for i, depth in enumerate(self.depths)
        ]
        if any(panel.behind for panel in self.panels):
            handles.append(line(GREY, label="grey: dense, its best depth"))
        legend(self.figure, [*handles, *extra])


def canvas(
    claims: "Claims", curves: Sequence[Curve], arms: Sequence[str], height: float
) -> Canvas:
    """Panels for curves; `height` in inches is that of one which arms share."""
    budgets = sorted({curve.budget for curve in curves})
    named = [arm for arm in arms if any(curve.arm == arm for curve in curves)]
    depths = sorted({curve.depth for curve in curves})
    at = {budget: [curve for curve in curves if curve.budget == budget] for budget in budgets}
    if max(map(len, at.values())) <= MOST_CURVES:
        figure, grid = _grid(len(budgets), 1, height, 0.24 * (2 + len(depths) // 2))
        panels = [
            Panel(row[0], budget, at[budget], ())
            for row, budget in zip(grid, budgets, strict=True)
        ]
        for panel in panels:
            panel.ax.set_title(
                f"{scientific(panel.budget)} training FLOPs", fontsize=10, loc="left"
            )
        return Canvas(figure, panels, False, colours_of(arms), depths)
    figure, grid = _grid(len(named), len(budgets), 1.35, 0.24 * (2 + len(depths) // 2))
    panels = [
        Panel(
            ax, budget, [curve for curve in at[budget] if curve.arm == arm],
            _dense_behind(claims, curves, budget, arm),
        )
        for row, arm in zip(grid, named, strict=True)
        for ax, budget in zip(row, budgets, strict=True)
    ]  # fmt: skip
    colours = colours_of(arms)
    for row, arm in zip(grid, named, strict=True):
        row[0].set_title(short(arm), color=colours[arm], fontsize=10, loc="left")
    for ax, budget in zip(grid[0], budgets, strict=True):
        ax.annotate(f"{scientific(budget)} FLOPs", (1, 1.04), xycoords="axes fraction",
                    ha="right", fontsize=8, color=SOFT)  # fmt: skip
    for ax in (ax for row in grid for ax in row):
        ax.tick_params(labelsize=7.5)
        ax.yaxis.set_major_locator(MaxNLocator(4))
    return Canvas(figure, panels, True, colours, depths)


def _grid(rows: int, columns: int, height: float, extra: float) -> tuple[Figure, list[list[Axes]]]:
    """Axes that share x; those of a column share y where there are several columns."""
    width = max(WIDTH, 1.7 * columns)
    figure = Figure(figsize=(width, rows * height + extra + 0.3), layout="constrained")
    grid = figure.subplots(
        rows, columns, sharex=True, sharey="col" if columns > 1 else False, squeeze=False
    )
    return figure, [list(row) for row in grid]


def _dense_behind(
    claims: "Claims", curves: Sequence[Curve], budget: float, arm: str
) -> Sequence[Curve]:
    best = next((each for each in claims.dense_minima if each.budget == budget), None)
    if best is None or best.arm == arm:
        return ()
    return [
        curve
        for curve in curves
        if (curve.arm, curve.budget, curve.depth) == (best.arm, budget, best.depth)
    ]


def titled_axes(drawn: Canvas, x: str, y: str) -> None:
    """Once for all panels, x where a legend below leaves room for it."""
    bottom = drawn.figure.axes[
        -len({panel.budget for panel in drawn.panels}) if drawn.small else -1 :
    ]
    middle = 0.5 if len(bottom) % 2 else BETWEEN
    bottom[len(bottom) // 2].set_xlabel(x, fontsize=drawn.font, x=middle, ha="center")
    drawn.figure.supylabel(y, fontsize=drawn.font)
