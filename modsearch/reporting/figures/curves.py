"""IsoFLOP curves, and losses against the price of a forward pass.

A marker is a depth. A line of an isoFLOP curve is a fit: dashed where it goes through three points
exactly, pale where there is none.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from modsearch.analysis.curves import Curve, Fit, Point
from modsearch.analysis.numbers import count, decimal, interval, scientific
from modsearch.config.units import Unit, nats_per
from modsearch.reporting.figures.drawing import (
    INK,
    PAPER,
    SHADE,
    SOFT,
    Drawing,
    line,
    log_params,
    on_hover,
)
from modsearch.reporting.figures.labels import Name
from modsearch.reporting.figures.panels import GREY, Canvas, canvas, titled_axes
from modsearch.reporting.frames import Row, frame_of

if TYPE_CHECKING:
    from modsearch.analysis.claims import Claims
    from modsearch.analysis.optima import Optimum


def isoflop(claims: "Claims", arms: Sequence[str]) -> Drawing | None:
    """Loss against parameters, fits as lines and their minima as stars."""
    if not claims.curves:
        return None
    drawn = canvas(claims, claims.curves, arms, 2.7)
    for panel in drawn.panels:
        for curve in panel.behind:
            x, y = curve_through(curve)
            panel.ax.plot(x, y, c=GREY, lw=1.2, zorder=1)
        for curve in panel.curves:
            _curve(drawn, panel.ax, curve)
        log_params(panel.ax, few=drawn.small)
    titled_axes(drawn, "parameters", f"causal loss ({nats_per(claims.unit)})")
    fits = [curve for curve in claims.curves if isinstance(curve, Fit)]
    extra = [_star(SOFT, "minimum, 95 %")] * any(not fit.exact for fit in fits)
    if any(fit.exact for fit in fits):
        extra.append(line(SOFT, dashes="--", label="dashed: exact fit of 3 points"))
        extra.append(_star(PAPER, "its minimum: no r2, little worth"))
    if len(fits) < len(claims.curves):
        extra.append(line(SOFT, alpha=0.45, label="pale: no fit (refused)"))
    drawn.finish(extra)
    return Drawing(
        "isoflop",
        "IsoFLOP curves: causal validation loss of measured trials against parameters.",
        drawn.figure,
        table_of(claims.curves, per=claims.unit),
        drawn.hovers,
    )


def _star(face: str, label: str) -> Line2D:
    return Line2D([], [], ls="", marker="*", ms=11, mfc=face, mec=SOFT, label=label)


def _curve(drawn: Canvas, ax: Axes, curve: Curve) -> None:
    colour, size = drawn.colours[curve.arm], 3 if drawn.small else 5
    fitted = isinstance(curve, Fit)
    width = 0.9 if not fitted else 1.2 if drawn.small else 1.6
    x, y = curve_through(curve)
    ax.plot(
        x, y, c=colour, lw=width, alpha=1 if fitted else 0.45,
        ls="--" if isinstance(curve, Fit) and curve.exact else "-",
    )  # fmt: skip
    drawn.names.append(Name(ax, drawn.called(curve), colour, x, y))
    [marks] = ax.plot(
        [point.params for point in curve.points], [point.loss for point in curve.points], ls="",
        marker=drawn.marker(curve), ms=size, c=colour, mfc=colour if fitted else PAPER,
    )  # fmt: skip
    on_hover(drawn.hovers, marks, *(told(curve, point) for point in curve.points))
    if isinstance(curve, Fit):
        _minimum(drawn, ax, curve, colour)


def curve_through(curve: Curve) -> tuple[list[float], list[float]]:
    """A fit's parabola, or the means of sizes."""
    if isinstance(curve, Fit):
        x = np.geomspace(min(curve.params), max(curve.params), 80)
        return list(x), [curve.at(size) for size in x]
    sizes = list(_sizes(curve.points))
    return [float(of[0].params) for of in sizes], [fmean(each.loss for each in of) for of in sizes]


def _minimum(drawn: Canvas, ax: Axes, fit: Fit, colour: str) -> None:
    """A star with 95 % of the loss at the vertex; hollow for an exact fit."""
    at = fit.minimum_params
    ends = ""
    if fit.minimum_low is not None and fit.minimum_high is not None:
        below, above = fit.minimum_loss - fit.minimum_low, fit.minimum_high - fit.minimum_loss
        ax.errorbar([at], [fit.minimum_loss], yerr=[[below], [above]], c=colour, lw=1, capsize=2)
        ends = f" {interval(fit.minimum_low, fit.minimum_high, 4)}"
    [star] = ax.plot(
        [at], [fit.minimum_loss], ls="", marker="*", ms=8 if drawn.small else 12, c=colour,
        mfc=PAPER if fit.exact else colour, mec=colour if fit.exact else PAPER,
        mew=0.4 if drawn.small else 0.8, zorder=5,
    )  # fmt: skip
    exact = ", exact fit of three points" if fit.exact else ""
    on_hover(
        drawn.hovers, star,
        f"{fit.arm}, depth {fit.depth}: minimum {decimal(fit.minimum_loss)}{ends} at "
        f"{count(at)} parameters{exact}",
    )  # fmt: skip


def told(curve: Curve, point: Point, rest: str = "") -> str:
    """A measured trial, as the page says it of a mark."""
    return (
        f"{curve.arm}, depth {curve.depth}, width {point.width}: loss {decimal(point.loss)}, "
        f"{count(point.params)} parameters{rest}"
    )


def _sizes(points: Sequence[Point]) -> Iterator[list[Point]]:
    """The trials of each size, smallest first."""
    ordered = sorted(points, key=lambda point: point.params)
    for _, of in groupby(ordered, key=lambda point: point.params):
        yield list(of)


def forward(claims: "Claims", arms: Sequence[str], minima: "Sequence[Optimum]") -> Drawing | None:
    """Loss against realised forward FLOPs, both over the optimal dense model's, one a budget
    (paper, fig. 4)."""
    if not claims.curves:
        return None
    dense = {best.budget: best for best in minima}
    curves = [curve for curve in claims.curves if not dense or curve.budget in dense]
    if not curves:
        return None
    drawn = canvas(claims, curves, arms, 2.5)
    for panel in drawn.panels:
        units = _units(dense.get(panel.budget))
        for curve in panel.behind:
            panel.ax.plot(*_priced(curve, units), c=GREY, lw=1.2, zorder=1)
        for curve in panel.curves:
            _prices(drawn, panel.ax, curve, units, claims.unit)
        panel.ax.set_xscale("log")
    _price_axes(drawn, bool(dense), claims.unit)
    for panel in drawn.panels if dense else ():
        better_and_cheaper(panel.ax, named=panel is drawn.panels[0] and not drawn.small)
    drawn.finish([])
    return Drawing(
        "forward",
        f"Loss against realised forward FLOPs per {claims.unit}, measured trials.",
        drawn.figure,
        table_of(curves, dense, claims.unit),
        drawn.hovers,
    )


def _units(best: "Optimum | None") -> tuple[float, float]:
    """What forward FLOPs and losses are divided by."""
    return (best.point.forward_flops, best.loss) if best else (1.0, 1.0)


def _priced(curve: Curve, units: tuple[float, float]) -> tuple[list[float], list[float]]:
    """Means of sizes."""
    sizes = list(_sizes(curve.points))
    return (
        [fmean(each.forward_flops for each in of) / units[0] for of in sizes],
        [fmean(each.loss for each in of) / units[1] for of in sizes],
    )


def _prices(drawn: Canvas, ax: Axes, curve: Curve, units: tuple[float, float], per: Unit) -> None:
    colour = drawn.colours[curve.arm]
    x, y = _priced(curve, units)
    ax.plot(x, y, c=colour, lw=0.8 if drawn.small else 1.1)
    drawn.names.append(Name(ax, drawn.called(curve), colour, x, y))
    points = curve.points
    places = [point.forward_flops / units[0] for point in points]
    losses = [point.loss / units[1] for point in points]
    [marks] = ax.plot(places, losses, ls="", marker=drawn.marker(curve), c=colour,
                      ms=3 if drawn.small else 5)  # fmt: skip
    on_hover(
        drawn.hovers, marks,
        *(told(curve, point, f", {scientific(point.forward_flops)} forward FLOPs per {per}")
          for point in points),
    )  # fmt: skip


def _price_axes(drawn: Canvas, relative: bool, per: Unit) -> None:
    for panel in drawn.panels:
        axis = panel.ax.xaxis
        if relative:
            axis.set_major_locator(LogLocator(subs=(1, 3) if drawn.small else (1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        else:
            axis.set_major_formatter(FuncFormatter(lambda x, _: scientific(x)))
        axis.set_minor_locator(NullLocator())
    if relative:
        titled_axes(drawn, f"forward FLOPs per {per} / optimal dense", "loss / optimal dense")
    else:
        y = f"causal loss ({nats_per(per)})"
        titled_axes(drawn, f"realised forward FLOPs per {per}", y)


def better_and_cheaper(ax: Axes, *, named: bool = True) -> None:
    """Shade where a model has a lower loss than the optimal dense one at fewer FLOPs."""
    low_x, low_y = ax.get_xlim()[0], ax.get_ylim()[0]
    ax.axvline(1, c=SOFT, lw=1, ls=":")
    ax.axhline(1, c=SOFT, lw=1, ls=":")
    if low_x < 1 and low_y < 1:
        ax.fill_between([low_x, 1], low_y, 1, color=SHADE, lw=0, zorder=0)
        if named:
            ax.text(0.02, 0.03, "cheaper and better", transform=ax.transAxes, fontsize=8, c=INK)
        ax.set_xlim(left=low_x)
        ax.set_ylim(bottom=low_y)


def table_of(
    curves: Sequence[Curve],
    dense: "Mapping[float, Optimum] | None" = None,
    per: Unit = "token",
) -> pd.DataFrame:
    """Measured trials, over the optimal dense model of their budget where there is one; forward
    FLOPs are for each token or byte."""
    rows: list[Row] = []
    for curve in curves:
        fit = curve if isinstance(curve, Fit) else None
        for point in curve.points:
            row: Row = {
                "budget": curve.budget,
                "arm": curve.arm,
                "depth": curve.depth,
                "width": point.width,
                "params": point.params,
                "causal loss": point.loss,
                "fitted loss": fit.at(point.params) if fit else None,
                f"forward FLOPs per {per}": point.forward_flops,
            }
            if dense is not None and (best := dense.get(curve.budget)):
                row["relative forward FLOPs"] = point.forward_flops / best.point.forward_flops
                row["relative loss"] = point.loss / best.loss
            rows.append(row)
    return frame_of(rows)
