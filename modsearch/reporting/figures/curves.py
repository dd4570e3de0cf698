"""IsoFLOP curves, and losses against the price of a forward pass."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from modsearch.analysis.claims import Claims
from modsearch.analysis.curves import Curve, Fit
from modsearch.analysis.numbers import scientific
from modsearch.analysis.optima import Optimum
from modsearch.reporting.figures.drawing import (
    LINES,
    MARKERS,
    Drawing,
    colours_of,
    legend,
    line,
    log_params,
    panels,
)
from modsearch.reporting.frames import Row, frame_of


def isoflop(claims: Claims, arms: Sequence[str]) -> Drawing | None:
    """Loss against parameters, one panel a budget, fits as lines and their minima as stars."""
    if not claims.curves:
        return None
    colours = colours_of(arms)
    budgets = sorted({curve.budget for curve in claims.curves})
    depths = sorted({curve.depth for curve in claims.curves})
    arms = [arm for arm in colours if any(curve.arm == arm for curve in claims.curves)]
    rows = (len(arms) + 1) // 2 + (len(depths) + 3) // 2
    figure, axes = panels(len(budgets), 2.7, 0.24 * rows + 0.2)
    for ax, budget in zip(axes, budgets, strict=True):
        for curve in claims.curves:
            if curve.budget == budget:
                _curve(ax, curve, colours[curve.arm], depths.index(curve.depth))
        ax.set_title(f"{scientific(budget)} training FLOPs", fontsize=10, loc="left")
        ax.set_ylabel("causal loss (nats per token)")
        log_params(ax)
    axes[-1].set_xlabel("parameters")
    handles = [line(colours[arm], label=arm) for arm in arms]
    handles += [
        line("#555555", marker=MARKERS[i % 7], dashes=LINES[i % 3], label=f"depth {depth}")
        for i, depth in enumerate(depths)
    ]
    handles.append(Line2D([], [], ls="", marker="*", ms=11, c="#555555", label="minimum, 95 %"))
    if any(not isinstance(curve, Fit) for curve in claims.curves):
        handles.append(line("#555555", alpha=0.35, label="pale: no fit (refused)"))
    legend(figure, handles)
    return Drawing(
        "isoflop",
        "IsoFLOP curves: causal validation loss of measured trials against parameters.",
        figure,
        table_of(claims.curves),
    )


def _curve(ax: Axes, curve: Curve, colour: str, style: int) -> None:
    params = [point.params for point in curve.points]
    losses = [point.loss for point in curve.points]
    fitted = isinstance(curve, Fit)
    ax.plot(
        params, losses, ls="", marker=MARKERS[style % 7], ms=5, c=colour,
        mfc=colour if fitted else "white",
    )  # fmt: skip
    if isinstance(curve, Fit):
        x = np.geomspace(min(curve.params), max(curve.params), 80)
        ax.plot(x, [curve.at(size) for size in x], c=colour, lw=1.6, ls=LINES[style % 3])
        ax.plot(
            [curve.minimum_params], [curve.minimum_loss], ls="", marker="*", ms=12, c=colour,
            mec="white", mew=0.8, zorder=5,
        )  # fmt: skip
        _minimum_interval(ax, curve, colour)
    else:
        ax.plot(params, losses, c=colour, lw=0.9, alpha=0.45, ls=LINES[style % 3])


def _minimum_interval(ax: Axes, fit: Fit, colour: str) -> None:
    """95 % of the loss at the vertex."""
    if fit.minimum_low is not None and fit.minimum_high is not None:
        below, above = fit.minimum_loss - fit.minimum_low, fit.minimum_high - fit.minimum_loss
        ax.errorbar(
            [fit.minimum_params], [fit.minimum_loss], yerr=[[below], [above]], c=colour, lw=1,
            capsize=2,
        )  # fmt: skip


def forward(claims: Claims, arms: Sequence[str]) -> Drawing | None:
    """Loss against realised forward FLOPs, both over the optimal dense model's (paper, fig. 4)."""
    if not claims.curves:
        return None
    colours = colours_of(arms)
    dense = {best.budget: best for best in claims.dense_minima}
    curves = [curve for curve in claims.curves if not dense or curve.budget in dense]
    budgets = sorted({curve.budget for curve in curves})
    arms = [arm for arm in colours if any(curve.arm == arm for curve in curves)]
    rows = (len(arms) + 1) // 2 + (len(budgets) + 1) // 2
    figure, axes = panels(1, 3.4, 0.24 * rows + 0.3)
    ax = axes[0]
    for curve in curves:
        best = dense.get(curve.budget)
        unit_x = best.point.forward_flops if best else 1.0
        unit_y = best.loss if best else 1.0
        points = sorted(curve.points, key=lambda point: point.forward_flops)
        ax.plot(
            [point.forward_flops / unit_x for point in points],
            [point.loss / unit_y for point in points],
            marker=MARKERS[budgets.index(curve.budget) % 7], ms=5, lw=0.8, alpha=0.85,
            c=colours[curve.arm],
        )  # fmt: skip
    ax.set_xscale("log")
    if dense:
        _better_and_cheaper(ax)
        ax.set_xlabel("forward FLOPs per token / optimal dense")
        ax.set_ylabel("loss / optimal dense")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    else:
        ax.set_xlabel("realised forward FLOPs per token")
        ax.set_ylabel("causal loss (nats per token)")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: scientific(x)))
    ax.xaxis.set_minor_locator(NullLocator())
    handles = [line(colours[arm], label=arm) for arm in arms]
    handles += [
        Line2D(
            [], [], ls="", marker=MARKERS[i % 7], c="#555555", label=f"{scientific(each)} FLOPs"
        )
        for i, each in enumerate(budgets)
    ]
    legend(figure, handles)
    return Drawing(
        "forward",
        "Loss against realised forward FLOPs per token, measured trials.",
        figure,
        table_of(curves, dense),
    )


def _better_and_cheaper(ax: Axes) -> None:
    low_x, low_y = ax.get_xlim()[0], ax.get_ylim()[0]
    ax.axvline(1, c="#555555", lw=1, ls=":")
    ax.axhline(1, c="#555555", lw=1, ls=":")
    if low_x < 1 and low_y < 1:
        ax.fill_between([low_x, 1], low_y, 1, color="#dddddd", alpha=0.6, lw=0, zorder=0)
        ax.text(
            0.02, 0.03, "cheaper and better", transform=ax.transAxes, fontsize=9, color="#444444"
        )
        ax.set_xlim(left=low_x)
        ax.set_ylim(bottom=low_y)


def table_of(
    curves: Sequence[Curve], dense: Mapping[float, Optimum] | None = None
) -> pd.DataFrame:
    """Measured trials, over the optimal dense model of their budget where there is one."""
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
                "forward FLOPs per token": point.forward_flops,
            }
            if dense is not None and (best := dense.get(curve.budget)):
                row["relative forward FLOPs"] = point.forward_flops / best.point.forward_flops
                row["relative loss"] = point.loss / best.loss
            rows.append(row)
    return frame_of(rows)
