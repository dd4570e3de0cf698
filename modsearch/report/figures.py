"""The figures of a report, drawn narrow so that they can be read on a phone.

Matplotlib without pyplot: no global state, no display. The bytes depend on the data alone
(fixed salt for ids, no dates).
"""

import io
import warnings
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Comparison
from modsearch.analysis.fits import Curve, Fit
from modsearch.analysis.numbers import count, scientific
from modsearch.schema import Manifest

PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933",
)  # fmt: skip
"""Okabe and Ito's colours, told apart by colour-blind readers."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":")
WIDTH = 5.2
"""Inches: 10 pt text stays legible when this is shown at 360 pixels."""


def figures(manifest: Manifest, claims: Claims) -> dict[str, tuple[bytes, bytes]]:
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
    handles.append(Line2D([], [], ls="", marker="*", ms=11, c="#555555", label="fitted minimum"))
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
        if curve.minimum_sd is not None:
            ax.errorbar(
                [curve.minimum_params], [curve.minimum_loss], yerr=[curve.minimum_sd],
                c=colour, lw=1, capsize=2,
            )  # fmt: skip
    else:
        ax.plot(params, losses, c=colour, lw=0.9, alpha=0.45, ls=LINES[style % 3])


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
            ax.plot(each.losses, [y - 0.16] * len(each.losses), ls="", marker="o", ms=4,
                    mfc="none", c=colour)  # fmt: skip
            ax.errorbar([each.mean], [y + 0.12], xerr=each.half_width, fmt="D", ms=5, c=colour,
                        capsize=3, lw=1.6)  # fmt: skip
        _rows(ax, [_short(each.arm) for each in rows])
        ax.set_title(f"{scientific(budget)} training FLOPs", fontsize=10, loc="left")
    axes[-1].set_xlabel("causal loss on the test part (nats per token)")
    handles = [
        Line2D([], [], ls="", marker="o", mfc="none", c="#555555", label="one seed"),
        Line2D([], [], marker="D", c="#555555", label="mean, 95 % interval"),
    ]
    _legend(figure, handles)
    return figure


def _differences(claims: Claims) -> Figure:
    """How much lower each arm's loss is than its reference's, with 95 % intervals."""
    rows: list[tuple[str, Comparison, str]] = []
    for claim in claims.by_budget[::-1]:
        if claim.comparison is None:
            continue
        rows.append((_versus(claim.comparison), claim.comparison, PALETTE[0]))
        for each in claims.controls:
            if each.arm.budget == claim.budget:
                rows.append((_versus(each), each, "#777777"))
    rows = rows[::-1]
    figure, axes = _panels(1, 0.75 + 0.48 * len(rows), 0.1)
    ax = axes[0]
    for y, (_, each, colour) in enumerate(rows):
        error = [[each.difference - each.welch.low]] if each.welch else None
        ax.errorbar([each.difference], [y], xerr=error, fmt="D", ms=6, c=colour, capsize=4, lw=2)
    ax.axvline(0, c="#222222", lw=1)
    _rows(ax, [name for name, _, _ in rows])
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -0.1 * high), max(high, -0.1 * low))
    ax.set_xlabel("difference in loss (nats per token)\n\N{LEFTWARDS ARROW} worse"
                  "        first arm        better \N{RIGHTWARDS ARROW}")  # fmt: skip
    return figure


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
