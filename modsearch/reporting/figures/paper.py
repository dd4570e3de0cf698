"""Losses as the paper's figures 3, 4, 6 and 7 draw them: against parameters, and relative to the
optimal dense model. What was read off the paper's own figures is grey."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from modsearch.analysis.curves import Curve, Fit, Point
from modsearch.analysis.numbers import count, decimal, scientific
from modsearch.config.units import Unit, nats_per
from modsearch.reporting.figures.curves import better_and_cheaper, curve_through, told
from modsearch.reporting.figures.drawing import (
    INK,
    MARKERS,
    PAPER,
    SHADE,
    SOFT,
    Drawing,
    log_params,
    on_hover,
    panels,
    short,
)
from modsearch.reporting.figures.labels import Name, name_lines
from modsearch.reporting.frames import Row, frame_of
from modsearch.reporting.named import Named

READ_OFF = "#8a8a8a"
READ = "paper, read off, approximate"


@dataclass(frozen=True)
class Control:
    """A control beside the curve of its arm: as far above it as confirm has them apart."""

    name: str
    params: int
    loss: float
    half_width: float | None
    """Of the difference."""


def at_one_budget(
    curves: Sequence[Curve],
    controls: Sequence[Control],
    models: Sequence[Named],
    best_dense: float,
    colours: Mapping[str, str],
    unit: Unit = "token",
) -> Drawing:
    """Loss against parameters at one budget; the paper's figure 3, left. `best_dense` is the loss
    of the dense minimum: below it, the ground is shaded."""
    figure, [ax] = panels(1, 3.4, 0.4)
    hovers: dict[str, Sequence[str]] = {}
    names = [_line(ax, curve, colours[curve.arm], "o", short(curve.arm, 18), hovers)
             for curve in curves]  # fmt: skip
    for each in controls:
        bar = ax.errorbar([each.params], [each.loss], yerr=each.half_width, fmt="D", ms=6,
                          c=colours[each.name], capsize=3)  # fmt: skip
        on_hover(hovers, bar[0], f"{each.name}: {decimal(each.loss)}, {count(each.params)}")
        names.append(
            Name(ax, short(each.name, 18), colours[each.name], [each.params], [each.loss])
        )
    low, high = ax.get_ylim()
    bottom = low - 0.08 * (high - low)  # room for numbers below the lowest mark
    ax.axhspan(bottom, best_dense, color=SHADE, lw=0, zorder=0)
    ax.set_ylim(bottom=bottom)
    log_params(ax)
    ax.set_xlabel("parameters")
    ax.set_ylabel(f"causal loss ({nats_per(unit)})")
    for model in models:
        _number(ax, model, colours[model.arm])
    handles = [
        Line2D([], [], marker="s", ls="", ms=9, c=SHADE, label="better than the best dense")
    ]
    if controls:
        handles.append(Line2D([], [], marker="D", ls="", c=SOFT, label="control, from confirm"))
    name_lines(figure, names, [*handles, *_pale(curves)])
    data = [_row(curve, point) for curve in curves for point in curve.points]
    data += [{"budget": curves[0].budget, "arm": each.name, "params": each.params,
              "loss": each.loss, "half width": each.half_width, "what": "control"}
             for each in controls]  # fmt: skip
    data += [{"budget": curves[0].budget, "arm": each.arm, "depth": each.point.depth,
              "width": each.point.width, "params": each.point.params, "loss": each.point.loss,
              "what": each.title} for each in models]  # fmt: skip
    caption = (
        "Loss against parameters at one budget, each arm at its best depth; rings with numbers: "
        "means over seeds of the models whose training is followed beside it."
    )
    return Drawing("paper_loss", caption, figure, frame_of(data), hovers)


def over_budgets(
    curves: Sequence[Curve], colours: Mapping[str, str], unit: Unit = "token"
) -> Drawing:
    """Loss against parameters at all budgets; the paper's figure 4, left."""
    budgets = sorted({curve.budget for curve in curves})
    figure, [ax] = panels(1, 3.6, 0.2)
    hovers: dict[str, Sequence[str]] = {}
    names = [
        _line(ax, curve, colours[curve.arm], MARKERS[budgets.index(curve.budget) % len(MARKERS)],
              f"{short(curve.arm, 14)}, {scientific(curve.budget)}", hovers)
        for curve in curves
    ]  # fmt: skip
    log_params(ax)
    ax.set_xlabel("parameters")
    ax.set_ylabel(f"causal loss ({nats_per(unit)})")
    name_lines(figure, names, _pale(curves))
    data = [_row(curve, point) for curve in curves for point in curve.points]
    caption = "Loss against parameters at every budget, each arm at its best depth."
    return Drawing("paper_isoflop", caption, figure, frame_of(data), hovers)


def _pale(curves: Sequence[Curve]) -> list[Line2D]:
    """What pale lines and hollow marks say, where there are any."""
    if all(isinstance(curve, Fit) for curve in curves):
        return []
    return [
        Line2D([], [], c=SOFT, marker="o", mfc=PAPER, alpha=0.45, label="hollow, pale: no fit")
    ]


def _line(
    ax: Axes, curve: Curve, colour: str, marker: str, name: str, hovers: dict[str, Sequence[str]]
) -> Name:
    x, y = curve_through(curve)
    dashes = "--" if isinstance(curve, Fit) and curve.exact else "-"
    pale = not isinstance(curve, Fit)
    ax.plot(x, y, c=colour, ls=dashes, lw=0.9 if pale else 1.6, alpha=0.45 if pale else 1)
    [marks] = ax.plot([point.params for point in curve.points],
                      [point.loss for point in curve.points], ls="", marker=marker, ms=5,
                      c=colour, mfc=PAPER if pale else colour)  # fmt: skip
    on_hover(hovers, marks, *(told(curve, point) for point in curve.points))
    return Name(ax, name, colour, x, y)


def _row(curve: Curve, point: Point) -> Row:
    return {"budget": curve.budget, "arm": curve.arm, "depth": curve.depth, "width": point.width,
            "params": point.params, "loss": point.loss, "what": "measured"}  # fmt: skip


def _number(ax: Axes, model: Named, colour: str) -> None:
    """In a circle below a ring at its loss, a mean over seeds: its depth may not be drawn."""
    ax.plot([model.point.params], [model.point.loss], ls="", marker="o", ms=6, mfc="none",
            mec=INK, mew=1, zorder=3)  # fmt: skip
    ax.annotate(
        str(model.number), (model.point.params, model.point.loss), (0, -15), ha="center",
        va="center", textcoords="offset points", fontsize=8, color=INK,
        bbox={"boxstyle": "circle,pad=0.25", "fc": PAPER, "ec": colour, "lw": 1},
    )  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A measured trial over the optimal dense model of its budget."""

    params: int
    forward: float
    loss: float
    told: str
    """What the page says of it."""


@dataclass(frozen=True)
class Series:
    """An arm at one budget, in one mode."""

    name: str
    arm: str
    budget: float
    places: Sequence[Place]
    dashed: bool = False


@dataclass(frozen=True)
class Reading:
    """What was read off a figure of the paper's."""

    what: str
    forward: float
    loss: float


def relative(
    name: str,
    caption: str,
    series: Sequence[Series],
    colours: Mapping[str, str],
    readings: Sequence[Reading] = (),
    unit: Unit = "token",
) -> Drawing:
    """Loss against forward FLOPs, both over the optimal dense model's; areas of marks go with
    parameters. The paper's figures 4, right, 6, left, and 7."""
    budgets = sorted({each.budget for each in series})
    figure, [ax] = panels(1, 3.6, 0.5)
    hovers: dict[str, Sequence[str]] = {}
    names = []
    largest = max(place.params for each in series for place in each.places)
    for each in series:
        places = sorted(each.places, key=lambda place: place.forward)
        sizes = [list(of) for _, of in groupby(places, key=lambda place: place.params)]
        x = [fmean(place.forward for place in of) for of in sizes]
        y = [fmean(place.loss for place in of) for of in sizes]
        colour, dashes = colours[each.arm], "--" if each.dashed else "-"
        ax.plot(x, y, c=colour, lw=1.1, ls=dashes)
        for place in places:
            [mark] = ax.plot(
                [place.forward], [place.loss], ls="", c=colour, zorder=3,
                marker=MARKERS[budgets.index(each.budget) % len(MARKERS)],
                ms=3 + 6 * (place.params / largest) ** 0.5, mfc=PAPER if each.dashed else colour,
            )  # fmt: skip
            on_hover(hovers, mark, place.told)
        names.append(Name(ax, each.name, colour, x, y))
    for reading in readings:
        [mark] = ax.plot([reading.forward], [reading.loss], ls="", marker="x", ms=7, mew=1.6,
                         c=READ_OFF)  # fmt: skip
        on_hover(hovers, mark, f"{reading.what}: {READ}")
        names.append(Name(ax, reading.what, READ_OFF, [reading.forward], [reading.loss]))
    ax.set_xscale("log")
    better_and_cheaper(ax)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(f"forward FLOPs per {unit} / optimal dense")
    ax.set_ylabel("loss / optimal dense")
    handles = [
        Line2D([], [], ls="", marker=MARKERS[i % len(MARKERS)], c=SOFT,
               label=f"{scientific(budget)} FLOPs")
        for i, budget in enumerate(budgets)
    ]  # fmt: skip
    if readings:
        handles.append(Line2D([], [], ls="", marker="x", mew=1.6, c=READ_OFF, label=READ))
    name_lines(figure, names, handles)
    data: list[Row] = [
        {"budget": each.budget, "arm": each.arm, "series": each.name, "params": place.params,
         "relative forward FLOPs": place.forward, "relative loss": place.loss}
        for each in series for place in each.places
    ]  # fmt: skip
    data += [{"series": f"{READ}: {place.what}", "relative forward FLOPs": place.forward,
              "relative loss": place.loss} for place in readings]  # fmt: skip
    return Drawing(name, caption, figure, frame_of(data), hovers)
