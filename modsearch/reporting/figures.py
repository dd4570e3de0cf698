"""The figures of a report, drawn narrow so that they can be read on a phone.

Matplotlib without pyplot: no global state, no display. The bytes depend on the data alone
(fixed salt for ids, no dates).
"""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Comparison, Confirmed
from modsearch.analysis.curves import Curve, Fit
from modsearch.analysis.numbers import count, percent, scientific
from modsearch.analysis.verdicts import Verdict
from modsearch.config.manifest import Manifest
from modsearch.config.telemetry import RoutingReport

PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933",
)  # fmt: skip
"""Okabe and Ito's colours, told apart by colour-blind readers."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":")
WIDTH = 5.2
"""Inches: 10 pt text stays legible when this is shown at 360 pixels."""


AROUND = "#e8e8e8"
STATES = (
    (AROUND, "route around"),
    ("#D55E00", "causal only"),
    ("#E69F00", "in training only"),
    ("#0072B2", "use block"),
)
"""Colours of causal + 2 * train decisions."""
Array = npt.NDArray[np.float64]


def figures(
    manifest: Manifest, claims: Claims, telemetry: Mapping[str, RoutingReport]
) -> dict[str, tuple[bytes, bytes]]:
    """PNG and SVG of every figure that the records allow, by file name."""
    colours = {arm: PALETTE[i % len(PALETTE)] for i, arm in enumerate(manifest.arms)}
    drawn: dict[str, tuple[bytes, bytes]] = {}
    with mpl.rc_context(), warnings.catch_warnings():
        _style()
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names in any script
        if claims.by_budget and any(claim.comparison for claim in claims.by_budget):
            drawn["differences"] = _render(_differences(claims))
        if claims.curves:
            drawn["isoflop"] = _render(_isoflop(claims, colours))
            drawn["forward"] = _render(_forward(claims, colours))
        if claims.confirmed:
            drawn["confirm"] = _render(_confirm(claims, colours))
        decided = _decided(claims.routed, telemetry)
        if decided:
            drawn["routing_positions"] = _render(_positions(decided))
            drawn["routing_sample"] = _render(_routing_sample(decided))
        weighed = {arm: counts for arm, found in decided.items() if (counts := _weights(found))}
        if weighed:
            drawn["routing_weights"] = _render(_routing_weights(weighed))
    return drawn


def _style() -> None:
    mpl.rcdefaults()  # the user's own style would change the bytes
    mpl.rc("font", size=10)
    mpl.rc("axes", grid=True, axisbelow=True)
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color="#e4e4e4")
    mpl.rc("legend", frameon=False)
    mpl.rc("svg", hashsalt="modsearch")
    mpl.rc("text", parse_math=False)  # an arm's name may hold a dollar sign


def _isoflop(claims: Claims, colours: dict[str, str]) -> Figure:
    """Loss against parameters, one panel a budget, fits as lines and their minima as stars."""
    budgets = sorted({curve.budget for curve in claims.curves})
    depths = sorted({curve.depth for curve in claims.curves})
    arms = [arm for arm in colours if any(curve.arm == arm for curve in claims.curves)]
    rows = (len(arms) + 1) // 2 + (len(depths) + 3) // 2
    figure, axes = _panels(len(budgets), 2.7, 0.24 * rows + 0.2)
    for ax, budget in zip(axes, budgets, strict=True):
        for curve in claims.curves:
            if curve.budget == budget:
                _curve(ax, curve, colours[curve.arm], depths.index(curve.depth))
        ax.set_title(f"{scientific(budget)} training FLOPs", fontsize=10, loc="left")
        ax.set_ylabel("causal loss (nats per token)")
        _log_params(ax)
    axes[-1].set_xlabel("parameters")
    handles = [_line(colours[arm], label=arm) for arm in arms]
    handles += [
        _line("#555555", marker=MARKERS[i % 7], dashes=LINES[i % 3], label=f"depth {depth}")
        for i, depth in enumerate(depths)
    ]
    handles.append(Line2D([], [], ls="", marker="*", ms=11, c="#555555", label="minimum, 95 %"))
    if any(not isinstance(curve, Fit) for curve in claims.curves):
        handles.append(_line("#555555", alpha=0.35, label="pale: no fit (refused)"))
    _legend(figure, handles)
    return figure


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


def _forward(claims: Claims, colours: dict[str, str]) -> Figure:
    """Loss against realised forward FLOPs, both over the optimal dense model's (paper, fig. 4)."""
    dense = {best.budget: best for best in claims.dense_minima}
    curves = [curve for curve in claims.curves if not dense or curve.budget in dense]
    budgets = sorted({curve.budget for curve in curves})
    arms = [arm for arm in colours if any(curve.arm == arm for curve in curves)]
    rows = (len(arms) + 1) // 2 + (len(budgets) + 1) // 2
    figure, axes = _panels(1, 3.4, 0.24 * rows + 0.3)
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
    handles = [_line(colours[arm], label=arm) for arm in arms]
    handles += [
        Line2D(
            [], [], ls="", marker=MARKERS[i % 7], c="#555555", label=f"{scientific(each)} FLOPs"
        )
        for i, each in enumerate(budgets)
    ]
    _legend(figure, handles)
    return figure


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


def _confirm(claims: Claims, colours: dict[str, str]) -> Figure:
    """Every confirmed seed, with the mean of each arm and its 95 % interval."""
    budgets = sorted({each.budget for each in claims.confirmed})
    num_arms = max(sum(each.budget == one for each in claims.confirmed) for one in budgets)
    figure, axes = _panels(len(budgets), 0.8 + 0.42 * num_arms, 0.35, shared=False)
    for ax, budget in zip(axes, budgets, strict=True):
        rows = [each for each in claims.confirmed if each.budget == budget][::-1]
        for y, each in enumerate(rows):
            colour = colours[each.arm]
            _confirmed_runs(ax, each, y, colour)
        _rows(ax, [_short(each.arm) for each in rows])
        ax.set_title(f"{scientific(budget)} training FLOPs", fontsize=10, loc="left")
    axes[-1].set_xlabel("causal loss on the test part (nats per token)")
    handles = [
        Line2D([], [], ls="", marker="o", mfc="none", c="#555555", label="one run"),
        Line2D([], [], marker="D", c="#555555", label="lowest loss, 95 % interval"),
    ]
    _legend(figure, handles)
    return figure


def _confirmed_runs(ax: Axes, each: Confirmed, y: int, colour: str) -> None:
    """Runs of an arm, a line a size, smallest at the bottom, and the minimum over sizes."""
    for place, group in enumerate(each.groups):
        line = y - 0.3 + 0.12 * place
        ax.plot(group.losses, [line] * len(group.losses), ls="", marker="o", ms=4,
                mfc="none", c=colour)  # fmt: skip
    ax.errorbar(
        [each.loss], [y + 0.2], xerr=each.half_width, fmt="D", ms=5, c=colour, capsize=3, lw=1.6
    )


def _differences(claims: Claims) -> Figure:
    """How much lower each arm's loss is than its reference's, with 95 % intervals; pale where
    either is untrained and the difference says nothing."""
    rows: list[tuple[str, Comparison, str]] = []
    for claim in claims.by_budget[::-1]:
        if claim.comparison is None:
            continue
        rows.append(_difference(claim.comparison, claim.verdict, PALETTE[0]))
        rows += [
            _difference(each.comparison, each.verdict, "#777777")
            for each in claims.beside
            if each.role == "control" and each.comparison.arm.budget == claim.budget
        ]
    rows = rows[::-1]
    figure, axes = _panels(1, 0.75 + 0.48 * len(rows), 0.1)
    ax = axes[0]
    for y, (_, each, colour) in enumerate(rows):
        error = None
        if (found := each.interval) is not None:
            error = [[each.difference - found.low], [found.high - each.difference]]
        ax.errorbar([each.difference], [y], xerr=error, fmt="D", ms=6, c=colour, capsize=4, lw=2)
    ax.axvline(0, c="#222222", lw=1)
    _rows(ax, [name for name, _, _ in rows])
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -0.1 * high), max(high, -0.1 * low))
    ax.set_xlabel("difference in loss (nats per token)\n\N{LEFTWARDS ARROW} worse"
                  "        first arm        better \N{RIGHTWARDS ARROW}")  # fmt: skip
    return figure


def _difference(each: Comparison, verdict: Verdict, colour: str) -> tuple[str, Comparison, str]:
    if verdict is Verdict.UNTRAINED:
        return f"{_versus(each)}: untrained", each, "#d0d0d0"
    return _versus(each), each, colour


def _decided(
    arms: Sequence[Confirmed], telemetry: Mapping[str, RoutingReport]
) -> dict[str, list[RoutingReport]]:
    """Reports of the arms that have decisions by token."""
    found = {
        arm.arm: [
            telemetry[record.hash]
            for record in arm.records
            if record.hash in telemetry and telemetry[record.hash].sample is not None
        ]
        for arm in arms
    }
    return {arm: reports for arm, reports in found.items() if reports}


def _positions(decided: Mapping[str, Sequence[RoutingReport]]) -> Figure:
    """Layer by position, in both modes; the paper's figure 5, left, but of many windows."""
    maps = {arm: (_shares(reports, "causal"), _shares(reports, "train"))
            for arm, reports in decided.items()}  # fmt: skip
    top = max(float(np.nanmax(each)) for pair in maps.values() for each in pair)
    colours = mpl.colormaps["viridis"].with_extremes(bad=AROUND)
    figure, axes = _grid([len(pair[0]) for pair in maps.values()], 2)
    image = None
    for row, (arm, pair) in zip(axes, maps.items(), strict=True):
        for ax, shares, mode in zip(row, pair, ("causal", "as in training"), strict=True):
            image = ax.imshow(
                shares, cmap=colours, vmin=0, vmax=top or 1, origin="lower", aspect="auto",
                interpolation="nearest", extent=(0, decided[arm][0].positions, -0.5,
                                                 len(shares) - 0.5),
            )  # fmt: skip
            _layer_axis(ax, len(shares))
            ax.set_title(f"{_short(arm, 18)}, {mode}", fontsize=9, loc="left")
        row[0].set_ylabel("layer", fontsize=9)
        row[1].set_yticklabels([])
    for ax in axes[-1]:
        ax.set_xlabel("position")
    assert image is not None
    figure.colorbar(image, ax=[ax for row in axes for ax in row], location="bottom",
                    label="share of tokens", aspect=40, shrink=0.8,
                    extendrect=True)  # fmt: skip
    return figure


def _shares(reports: Sequence[RoutingReport], mode: Literal["causal", "train"]) -> Array:
    """Layers by position bins, mean over seeds; NaN where a layer takes every token."""
    decisions = [
        (layer.layer, layer.decisions)
        for report in reports
        for layer in report.layers
        if layer.decisions is not None
    ]
    total = np.zeros((reports[0].depth, len(decisions[0][1].causal_shares)))
    for layer, found in decisions:
        total[layer] += found.causal_shares if mode == "causal" else found.train_shares
    total /= len(reports)
    routed = sorted({layer for layer, _ in decisions})
    total[[layer for layer in range(len(total)) if layer not in routed]] = np.nan
    return total


def _routing_sample(decided: Mapping[str, Sequence[RoutingReport]]) -> Figure:
    """The paper's figure 1: which layers take the first tokens of one window."""
    samples = {arm: found[0].sample for arm, found in decided.items() if found[0].sample}
    figure, axes = _grid([len(sample.causal) for sample in samples.values()], 1, 0.35)
    for [ax], (arm, sample) in zip(axes, samples.items(), strict=True):
        states = np.array(sample.causal) + 2 * np.array(sample.train)
        ax.pcolormesh(
            states, cmap=ListedColormap([colour for colour, _ in STATES]), vmin=0, vmax=3,
            edgecolors="white", lw=0.4,
        )  # fmt: skip
        _layer_axis(ax, len(states), 0.5)
        ax.set_title(_short(arm), fontsize=9, loc="left")
        ax.set_ylabel("layer", fontsize=9)
    axes[-1][0].set_xlabel("position")
    figure.legend(
        handles=[Patch(color=STATES[i][0], label=STATES[i][1]) for i in (3, 0, 2, 1)],
        loc="outside lower center", ncols=2, fontsize=9,
    )  # fmt: skip
    return figure


def _weights(reports: Sequence[RoutingReport]) -> list[int]:
    """Counts of router weights over layers and seeds; empty without any."""
    found = [
        layer.decisions.weights
        for report in reports
        for layer in report.layers
        if layer.decisions is not None and layer.decisions.weights is not None
    ]
    return [sum(counts) for counts in zip(*found, strict=True)]


def _routing_weights(weighed: Mapping[str, Sequence[int]]) -> Figure:
    """Router weights with a logarithmic count, split at 0.5; the paper's figure 5, right."""
    figure, axes = _panels(len(weighed), 1.25, 0.5)
    for ax, (arm, counts) in zip(axes, weighed.items(), strict=True):
        edges = np.linspace(0, 1, len(counts) + 1)
        colours = [STATES[3][0] if edge >= 0.5 - 1e-9 else "#999999" for edge in edges[:-1]]
        ax.bar(edges[:-1], counts, width=1 / len(counts), align="edge", color=colours,
               ec="white", lw=0.4)  # fmt: skip
        ax.axvline(0.5, c="#222222", lw=1, ls=":")
        above = sum(counts[len(counts) // 2 :]) / sum(counts)
        ax.set_title(f"{_short(arm)}: {percent(above)} above 0.5", fontsize=9, loc="left")
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.7)
        ax.set_xlim(0, 1)
        ax.yaxis.set_major_locator(LogLocator(numticks=4))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: count(y)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_ylabel("tokens", fontsize=9)
    axes[-1].set_xlabel("router weight, sigmoid(score)")
    figure.legend(
        handles=[Patch(color="#999999", label="below 0.5"),
                 Patch(color=STATES[3][0], label="above 0.5")],
        loc="outside lower center", ncols=2, fontsize=9,
    )  # fmt: skip
    return figure


def _grid(
    depths: Sequence[int], columns: int, extra: float = 0.9
) -> tuple[Figure, list[list[Axes]]]:
    """Rows of panels whose height goes with the number of layers."""
    heights = [0.55 + max(0.5, 0.11 * depth) for depth in depths]
    figure = Figure(figsize=(WIDTH, sum(heights) + extra + 0.3), layout="constrained")
    grid = figure.subplots(len(depths), columns, sharex=True, squeeze=False, height_ratios=heights)
    return figure, [list(row) for row in grid]


def _layer_axis(ax: Axes, depth: int, offset: float = 0.0) -> None:
    step = max(1, math.ceil(depth / 6))
    layers = range(0, depth, step)
    ax.set_yticks([layer + offset for layer in layers], [str(layer) for layer in layers],
                  fontsize=8)  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 1.6, 2, 3.2, 4, 6.4, 8], integer=True))
    ax.tick_params(axis="x", labelsize=8)
    ax.grid(visible=False)


def _versus(each: Comparison) -> str:
    first, second = _short(each.arm.arm), _short(each.reference.arm)
    return f"{first} against\n{second}, {scientific(each.arm.budget)} FLOPs"


def _panels(
    num: int, height: float, extra: float, *, shared: bool = True
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, num * height + extra + 0.3), layout="constrained")
    grid = figure.subplots(num, 1, sharex=shared, squeeze=False)
    return figure, [grid[i, 0] for i in range(num)]


def _rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), list(names), fontsize=9)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(5))


def _log_params(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))
    ax.xaxis.set_minor_locator(NullLocator())


def _line(
    colour: str,
    *,
    label: str,
    marker: str = "",
    dashes: str = "-",
    alpha: float = 1.0,
) -> Line2D:
    width = 2 if alpha == 1 else 1
    return Line2D([], [], c=colour, marker=marker, ls=dashes, lw=width, alpha=alpha, label=label)


def _legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    labels = [_short(str(handle.get_label())) for handle in handles]
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, fontsize=9, handlelength=2.8
    )


def _short(name: str, limit: int = 26) -> str:
    """One line that fits, and not an underscore first, which a legend would leave out."""
    line = name if len(name) <= limit else f"{name[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"
    return f" {line}" if line.startswith("_") else line


def _render(figure: Figure) -> tuple[bytes, bytes]:
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, not again for each file
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return png.getvalue(), svg.getvalue()
