"""Explore's trials by several objectives."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from modsearch.analysis.numbers import scientific
from modsearch.analysis.pareto import Front, Point
from modsearch.config.evaluation import Price
from modsearch.config.units import Unit
from modsearch.reporting.figures.drawing import SOFT, Drawing, colours_of, legend, line, panels
from modsearch.reporting.frames import Row, frame_of

PRICE_NAMES: dict[Price, str] = {
    "forward_flops": "forward FLOPs",
    "cache_bytes": "cache bytes",
    "decoding": "tokens/s",
}
"""As tables and figures call them."""
LEAST, MOST = 12.0, 70.0
"""Areas of marks, of a share of 0 and of 1."""


def cost_name(point: Point) -> str:
    """What the first objective is called."""
    objective = point.records[0].objective
    return "causal loss" if objective is None else objective.name


def fronts(found: Sequence[Front], arms: Sequence[str], unit: Unit) -> Drawing | None:
    """The largest budget's trials: the first objective against each price."""
    if not found or not found[0].points:
        return None
    points = found[0].points
    colours = colours_of(arms)
    prices = list(points[0].prices)
    figure, axes = panels(len(prices), 2.6, 0.25 * math.ceil(len(arms) / 2), shared=False)
    for ax, price in zip(axes, prices, strict=True):
        _panel(ax, points, price, colours)
        if len(prices) == 1:
            front = sorted((each.prices[price], each.value) for each in points if each.on_front)
            ax.plot(*zip(*front, strict=True), c="#aaaaaa", lw=1.2, zorder=1)
        of = f" per {unit}" if price == "forward_flops" else ""
        ax.set_xlabel(f"{PRICE_NAMES[price]}{of}")
        ax.set_ylabel(cost_name(points[0]))
    names = list(dict.fromkeys(each.records[0].arm for each in points))
    handles = [line(colours[name], label=name, marker="o", dashes="") for name in names]
    legend(figure, [*handles, _mark(SOFT, "on the front"), _mark("white", "beaten")])
    caption = (
        f"Trials of explore at {scientific(found[0].budget)} FLOPs. Filled: no other trial is as "
        f"good in every objective and better in one. The larger a mark, the more often it is on "
        f"the front when losses are drawn again with the noise of seeds."
    )
    return Drawing("front", caption, figure, frame_of([_data(each) for each in points]))


def _panel(ax: Axes, points: Sequence[Point], price: Price, colours: dict[str, str]) -> None:
    for each in points:
        colour = colours[each.records[0].arm]
        area = LEAST + (MOST - LEAST) * (each.share or 0.0)
        fill = colour if each.on_front else "white"
        ax.scatter([each.prices[price]], [each.value], s=area, c=fill, edgecolors=colour, zorder=3)


def _mark(fill: str, label: str) -> Line2D:
    return Line2D([], [], ls="", marker="o", c=SOFT, mfc=fill, label=label)


def _data(each: Point) -> Row:
    row: Row = {"arm": each.records[0].arm, cost_name(each): each.value}
    row |= {PRICE_NAMES[price]: value for price, value in each.prices.items()}
    return row | {"on the front": each.on_front, "share of draws": each.share}
