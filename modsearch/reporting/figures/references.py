"""Winners and models that stand beside the study, by what they scored in suites."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from modsearch.analysis.numbers import decimal, interval
from modsearch.analysis.scores import AVERAGE, Contender, Line, lines_of, mean_over
from modsearch.config.samples import facts_of
from modsearch.reporting.figures.drawing import (
    INK,
    MARKERS,
    Drawing,
    colours_of,
    legend,
    line,
    on_hover,
    panels,
    rows_of,
    short,
)
from modsearch.reporting.frames import Row, frame_of

MOST_TASKS = 12
"""Of a suite that are drawn beside its averages; where it has more, the averages stand alone."""


@dataclass(frozen=True)
class Beside:
    """Who has answered one suite."""

    suite: str
    winners: Sequence[Contender]
    """Of the study."""
    models: Sequence[Contender]
    """Beside it."""


@dataclass(frozen=True)
class _Panel:
    """Tasks of one suite by one metric."""

    beside: Beside
    metric: str
    lines: Sequence[Line]


def references(found: Sequence[Beside], arms: Sequence[str]) -> Drawing | None:
    """A panel for each suite and metric, a row for each task; winners filled, in their colours,
    and models beside the study hollow and black."""
    parts = [part for each in found for part in _panels(each)]
    if not parts:
        return None
    names = list(dict.fromkeys(model.name for each in found for model in each.models))
    markers = {name: MARKERS[place % len(MARKERS)] for place, name in enumerate(names)}
    colours = colours_of(arms)
    heights = [0.75 + 0.3 * len(part.lines) for part in parts]
    figure, axes = panels(len(parts), sum(heights) / len(parts), 0.3, shared=False, ratios=heights)
    hovers: dict[str, Sequence[str]] = {}
    data: list[Row] = []
    for ax, part in zip(axes, parts, strict=True):
        data += _drawn(ax, part, colours, markers, hovers)
        better = "higher" if part.lines[0].shown.higher_is_better else "lower"
        title = f"{part.beside.suite}: {part.metric.replace('_', ' ')} ({better} is better)"
        ax.set_title(title, fontsize=10, loc="left")
    winners = dict.fromkeys(side.name for each in found for side in each.winners)
    handles = [line(colours[name], label=name, marker="o", dashes="") for name in winners]
    for name in names:
        handle = line(INK, label=f"{name} (reference)", marker=markers[name], dashes="")
        handle.set_markerfacecolor("none")
        handles.append(handle)
    legend(figure, handles)
    caption = (
        "Scores of the winners and of models that stand beside the study, on the same documents, "
        "with 95 % intervals: of winners over seeds and documents, of a reference over documents."
    )
    return Drawing("references", caption, figure, frame_of(data), hovers)


def _panels(each: Beside) -> list[_Panel]:
    """Of what all sides have: the averages, and tasks where they are few."""
    sides = [*each.winners, *each.models]
    known = [
        row
        for row in lines_of(facts_of(each.models[0].results[0]))
        if all(mean_over(side, row) is not None for side in sides)
    ]
    averages = [row for row in known if row.shown.task == AVERAGE]
    lines = averages if averages and len(known) - len(averages) > MOST_TASKS else known
    metrics = dict.fromkeys(row.shown.metric for row in lines)
    return [
        _Panel(each, metric, [row for row in lines if row.shown.metric == metric])
        for metric in metrics
    ]


def _drawn(
    ax: Axes,
    part: _Panel,
    colours: dict[str, str],
    markers: dict[str, str],
    hovers: dict[str, Sequence[str]],
) -> list[Row]:
    """The marks of a panel, and the numbers behind them."""
    sides = [*part.beside.winners, *part.beside.models]
    data: list[Row] = []
    for row, task in enumerate(part.lines[::-1]):
        for place, side in enumerate(sides):
            mean = mean_over(side, task)
            assert mean is not None
            low, high = mean.interval()
            known = math.isfinite(mean.se)  # it is not of a single document
            y = row + 0.6 * (0.5 - (place + 0.5) / len(sides))
            bar = ax.errorbar(
                [mean.value], [y], capsize=2, lw=1.4, ms=5,
                xerr=[[mean.value - low], [high - mean.value]] if known else None,
                fmt=markers[side.name] if side.fixed else "o",
                c=INK if side.fixed else colours[side.name],
                mfc="none" if side.fixed else colours[side.name],
            )  # fmt: skip
            said = f"{side.name} on {task.shown.task}: {decimal(mean.value)}"
            ends = f" {interval(low, high, 4)}" if known else ""
            on_hover(hovers, bar[0], f"{said}{ends}")
            data.append(
                {
                    "suite": part.beside.suite,
                    "task": task.shown.task,
                    "metric": part.metric,
                    "model": side.name,
                    "reference": side.fixed,
                    "value": mean.value,
                    "low": low if known else None,
                    "high": high if known else None,
                }
            )
    rows_of(ax, [short(task.shown.task, 28) for task in part.lines[::-1]])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    return data
