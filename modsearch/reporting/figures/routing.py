"""How confirmed models route: by position, in one window, and the weights behind it."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from modsearch.analysis.compare import Confirmed
from modsearch.analysis.numbers import count, percent
from modsearch.config.telemetry import RoutingReport
from modsearch.reporting.figures.drawing import WIDTH, Drawing, panels, short
from modsearch.reporting.frames import Row, frame_of
from modsearch.reporting.routing import Telemetry

AROUND = "#e8e8e8"
STATES = (
    (AROUND, "route around"),
    ("#D55E00", "causal only"),
    ("#E69F00", "in training only"),
    ("#0072B2", "use block"),
)
"""Colours of causal + 2 * train decisions."""
Array = npt.NDArray[np.float64]


def _decided(arms: Sequence[Confirmed], telemetry: Telemetry) -> dict[str, list[RoutingReport]]:
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


def positions(
    arms: Sequence[Confirmed], telemetry: Telemetry, controls: Collection[str] = ()
) -> Drawing | None:
    """Layer by position, in both modes; the paper's figure 5, left, but of many windows. The
    colours span what arms take that are no `controls`."""
    decided = _decided(arms, telemetry)
    if not decided:
        return None
    maps = {arm: (_shares(reports, "causal"), _shares(reports, "train"))
            for arm, reports in decided.items()}  # fmt: skip
    learned = [pair for arm, pair in maps.items() if arm not in controls] or list(maps.values())
    bottom, top = _scale(learned)
    beyond = _beyond(maps.values(), bottom, top)
    colours = mpl.colormaps["viridis"]
    figure, axes = _grid([len(pair[0]) for pair in maps.values()], 2)
    image = None
    for row, (arm, pair) in zip(axes, maps.items(), strict=True):
        for ax, shares, mode in zip(row, pair, ("causal", "as in training"), strict=True):
            image = ax.imshow(
                shares, cmap=colours, vmin=bottom, vmax=top, origin="lower", aspect="auto",
                interpolation="nearest", extent=(0, decided[arm][0].positions, -0.5,
                                                 len(shares) - 0.5),
            )  # fmt: skip
            for layer in np.flatnonzero(np.isnan(shares).all(axis=1)):
                ax.axhspan(layer - 0.5, layer + 0.5, color=AROUND, lw=0)  # not in the picture:
                # that would keep its grey in the dark
            _layer_axis(ax, len(shares))
            ax.set_title(f"{short(arm, 18)}, {mode}", fontsize=9, loc="left")
        row[0].set_ylabel("layer", fontsize=9)
        row[1].set_yticklabels([])
    for ax in axes[-1]:
        ax.set_xlabel("position")
    assert image is not None
    figure.colorbar(image, ax=[ax for row in axes for ax in row], location="bottom",
                    label="share of tokens", aspect=40, shrink=0.8, extend=beyond)  # fmt: skip
    data: list[Row] = [
        {"arm": arm, "layer": layer, "mode": mode, "bin": place, "share": float(share)}
        for arm, pair in maps.items()
        for mode, shares in zip(("causal", "train"), pair, strict=True)
        for layer, row in enumerate(shares)
        for place, share in enumerate(row)
        if not math.isnan(share)
    ]
    caption = (
        "Share of tokens that each layer takes, by position, mean over seeds: under causal "
        "routing and as in training. Grey layers take every token. The colours span what learned "
        "arms take; a control may lie beyond them."
    )
    return Drawing("routing_positions", caption, figure, frame_of(data))


def _scale(maps: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """Least and greatest share, at least a fifth of the mean to both sides: noise around a flat
    map should look flat."""
    shares = np.concatenate([each.ravel() for pair in maps for each in pair])
    mean = float(np.nanmean(shares)) or 0.5
    return min(float(np.nanmin(shares)), 0.8 * mean), max(float(np.nanmax(shares)), 1.2 * mean)


def _beyond(
    maps: Iterable[tuple[Array, Array]], bottom: float, top: float
) -> Literal["neither", "both", "min", "max"]:
    """On which sides shares lie beyond the colours."""
    shares = np.concatenate([each.ravel() for pair in maps for each in pair])
    below, above = np.nanmin(shares) < bottom, np.nanmax(shares) > top
    if below and above:
        return "both"
    return "min" if below else "max" if above else "neither"


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


def window(arms: Sequence[Confirmed], telemetry: Telemetry) -> Drawing | None:
    """The paper's figure 1: which layers take the first tokens of one window."""
    decided = _decided(arms, telemetry)
    if not decided:
        return None
    samples = {arm: found[0].sample for arm, found in decided.items() if found[0].sample}
    figure, axes = _grid([len(taken.causal) for taken in samples.values()], 1, 0.35)
    for [ax], (arm, taken) in zip(axes, samples.items(), strict=True):
        states = np.array(taken.causal) + 2 * np.array(taken.train)
        ax.pcolormesh(
            states, cmap=ListedColormap([colour for colour, _ in STATES]), vmin=0, vmax=3,
            edgecolors="white", lw=0.4,
        )  # fmt: skip
        _layer_axis(ax, len(states), 0.5)
        ax.set_title(short(arm), fontsize=9, loc="left")
        ax.set_ylabel("layer", fontsize=9)
    axes[-1][0].set_xlabel("position")
    figure.legend(
        handles=[Patch(color=STATES[i][0], label=STATES[i][1]) for i in (3, 0, 2, 1)],
        loc="outside lower center", ncols=2, fontsize=9,
    )  # fmt: skip
    data: list[Row] = [
        {"arm": arm, "layer": layer, "position": place, "causal": causal, "train": train}
        for arm, found in samples.items()
        for layer, modes in enumerate(zip(found.causal, found.train, strict=True))
        for place, (causal, train) in enumerate(zip(*modes, strict=True))
    ]
    caption = "The first tokens of one window, first seed: which layers take them."
    return Drawing("routing_sample", caption, figure, frame_of(data))


def _weights(reports: Sequence[RoutingReport]) -> list[int]:
    """Counts of router weights over layers and seeds; empty without any."""
    found = [
        layer.decisions.weights
        for report in reports
        for layer in report.layers
        if layer.decisions is not None and layer.decisions.weights is not None
    ]
    return [sum(counts) for counts in zip(*found, strict=True)]


def weights(arms: Sequence[Confirmed], telemetry: Telemetry) -> Drawing | None:
    """Router weights with a logarithmic count, split at 0.5; the paper's figure 5, right."""
    decided = _decided(arms, telemetry)
    weighed = {arm: counts for arm, found in decided.items() if (counts := _weights(found))}
    if not weighed:
        return None
    figure, axes = panels(len(weighed), 1.25, 0.5)
    for ax, (arm, counts) in zip(axes, weighed.items(), strict=True):
        edges = np.linspace(0, 1, len(counts) + 1)
        colours = [STATES[3][0] if edge >= 0.5 - 1e-9 else "#999999" for edge in edges[:-1]]
        ax.bar(edges[:-1], counts, width=1 / len(counts), align="edge", color=colours,
               ec="white", lw=0.4)  # fmt: skip
        ax.axvline(0.5, c="#222222", lw=1, ls=":")
        above = sum(counts[len(counts) // 2 :]) / sum(counts)
        ax.set_title(f"{short(arm)}: {percent(above)} above 0.5", fontsize=9, loc="left")
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
    data: list[Row] = [
        {"arm": arm, "from": i / len(counts), "to": (i + 1) / len(counts), "tokens": each}
        for arm, counts in weighed.items()
        for i, each in enumerate(counts)
    ]
    caption = (
        "Router weights, sigmoid(score), of all layers and seeds. Where the score alone decides, "
        "causal routing takes what is above 0.5; a predictor, a bias or a cut-off moves that."
    )
    return Drawing("routing_weights", caption, figure, frame_of(data))


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
