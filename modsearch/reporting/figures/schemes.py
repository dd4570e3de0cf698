"""Which tokens each router of a study takes, in the same window; after the paper's figure 2, of
real decisions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

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
    figure = Figure(figsize=(WIDTH, ROW * len(strips) + 1.5), layout="constrained")
    ax = figure.subplots()
    states = np.array([np.array(s.causal) + 2 * np.array(s.train) for s in strips])[::-1]
    ax.pcolormesh(
        states, cmap=ListedColormap([colour for colour, _ in STATES]), vmin=0, vmax=3,
        edgecolors="white", lw=0.4,
    )  # fmt: skip
    names = [f"{short(s.arm, 16)} {s.layer}" for s in strips[::-1]]
    ax.set_yticks([y + 0.5 for y in range(len(strips))], names, fontsize=8)
    ends = [y for y in range(1, len(strips)) if strips[-y].arm != strips[-y - 1].arm]
    for y in ends:
        ax.axhline(y, c=INK, lw=0.8)
    ax.grid(visible=False)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlabel("position")
    if first.vocab_size == BYTES:
        for place, token in enumerate(shown.tokens):
            ax.text(place + 0.5, len(strips) + 0.15, _letter(token), ha="center", fontsize=5.5,
                    family="monospace", c=INK)  # fmt: skip
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
