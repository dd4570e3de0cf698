"""Which tokens each router of a study takes, in the same window; after the paper's figure 2, of
real decisions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from modsearch.analysis.compare import Confirmed
from modsearch.config.telemetry import RoutingReport, RoutingSample
from modsearch.reporting.figures.drawing import INK, WIDTH, Drawing, short
from modsearch.reporting.figures.routing import STATES
from modsearch.reporting.frames import Row, frame_of
from modsearch.reporting.routing import Telemetry

BYTES = 256
"""Vocabulary of a tokenizer that needs none."""
ROW = 0.2
"""Inches."""
ACROSS = 32
"""Tokens side by side: their letters can be read at 360 pixels."""


@dataclass(frozen=True)
class _Strip:
    """One routed layer of an arm."""

    arm: str
    router: str
    layer: int
    causal: Sequence[bool]
    train: Sequence[bool]


def schemes(arms: Sequence[Confirmed], telemetry: Telemetry) -> Drawing | None:
    """A strip for each routed layer of each arm that saw the same window as the first."""
    found = [
        (arm, report, report.sample)
        for arm in arms
        if (report := telemetry.get(arm.records[0].hash)) and report.sample is not None
    ]
    if not found:
        return None
    _, first, shown = found[0]
    strips = [
        strip
        for arm, report, sample in found
        if sample.tokens == shown.tokens
        for strip in _strips(arm, report, sample)
    ]
    if not strips:
        return None
    parts = range(0, len(shown.tokens), ACROSS)
    height = len(parts) * (ROW * len(strips) + 0.4) + 1.0
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(len(parts), 1, squeeze=False)[:, 0]
    for ax, start in zip(axes, parts, strict=True):
        _draw(ax, strips, start)
        for place, token in enumerate(shown.tokens[start : start + ACROSS], start):
            if first.vocab_size == BYTES:
                ax.text(place + 0.5, len(strips) + 0.2, _letter(token), ha="center", fontsize=9,
                        family="monospace", c=INK)  # fmt: skip
    axes[-1].set_xlabel("position")
    figure.legend(
        handles=[Patch(color=STATES[i][0], label=STATES[i][1]) for i in (3, 0, 2, 1)],
        loc="outside lower center", ncols=2, fontsize=9,
    )  # fmt: skip
    data: list[Row] = [
        {
            "arm": strip.arm,
            "router": strip.router,
            "layer": strip.layer,
            "position": place,
            "token": shown.tokens[place],
            "causal": causal,
            "train": train,
        }
        for strip in strips
        for place, (causal, train) in enumerate(zip(strip.causal, strip.train, strict=True))
    ]
    caption = (
        "Which tokens of one window each router takes: a row for each routed layer, counted from "
        "0, of each arm's first confirmed seed."
    )
    return Drawing("routing_schemes", caption, figure, frame_of(data))


def _draw(ax: Axes, strips: Sequence[_Strip], start: int) -> None:
    """Decisions on the tokens from a position on, the first strip at the top."""
    states = np.array([np.array(s.causal) + 2 * np.array(s.train) for s in strips])[::-1]
    shown = states[:, start : start + ACROSS]
    ax.pcolormesh(
        np.arange(start, start + shown.shape[1] + 1), np.arange(len(strips) + 1), shown,
        cmap=ListedColormap([colour for colour, _ in STATES]), vmin=0, vmax=3,
        edgecolors="white", lw=0.4,
    )  # fmt: skip
    names = [f"{short(s.arm, 16)} {s.layer}" for s in strips[::-1]]
    ax.set_yticks([y + 0.5 for y in range(len(strips))], names, fontsize=8.5)
    ends = [y for y in range(1, len(strips)) if strips[-y].arm != strips[-y - 1].arm]
    for y in ends:
        ax.axhline(y, c=INK, lw=0.8)
    ax.set_xlim(start, start + ACROSS)
    ax.xaxis.set_major_locator(MultipleLocator(8))
    ax.grid(visible=False)
    ax.tick_params(axis="x", labelsize=8.5)


def _strips(arm: Confirmed, report: RoutingReport, sample: RoutingSample) -> list[_Strip]:
    return [
        _Strip(
            arm.arm, arm.model.router.name, each.layer, sample.causal[each.layer],
            sample.train[each.layer],
        )
        for each in report.layers
        if each.decisions is not None
    ]  # fmt: skip


def _letter(byte: int) -> str:
    """A printable byte as it is, others as a dot."""
    return chr(byte) if 32 <= byte < 127 else "\N{MIDDLE DOT}"
