"""Models on the same documents: differences from the first, with their intervals."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from modsearch.analysis.numbers import decimal, interval
from modsearch.config.answers import ScoreComparison, ScoreDifference
from modsearch.reporting.figures.drawing import (
    Drawing,
    colours_of,
    legend,
    line,
    on_hover,
    panels,
    render,
    rows_of,
    short,
    styled,
)
from modsearch.reporting.frames import Row, frame_of
from modsearch.store.files import write_bytes


def differences(found: ScoreComparison) -> Drawing:
    """A panel for each metric, for their units differ; a row for each task."""
    rows = [*found.averages, *found.differences]
    metrics = list(dict.fromkeys(row.metric for row in rows))
    names = [side.name for side in found.sides[1:]]
    colours = colours_of(names)
    tasks = {
        metric: list(dict.fromkeys(row.task for row in rows if row.metric == metric))[::-1]
        for metric in metrics
    }
    heights = [0.75 + 0.22 * len(each) for each in tasks.values()]
    mean = sum(heights) / len(heights)
    figure, axes = panels(len(metrics), mean, 0.2, shared=False, ratios=heights)
    families = {row.task.partition("_")[0] for row in found.differences}
    prefix = f"{families.pop()}_" if len(families) == 1 else ""  # as of all of BLiMP's
    hovers: dict[str, Sequence[str]] = {}
    for ax, metric in zip(axes, metrics, strict=True):
        for row in (each for each in rows if each.metric == metric):
            place = names.index(row.side) - (len(names) - 1) / 2
            y = tasks[metric].index(row.task) - 0.6 * place / len(names)
            error = None
            if row.low is not None and row.high is not None:
                error = [[row.value - row.low], [row.high - row.value]]
            bar = ax.errorbar([row.value], [y], xerr=error, fmt="D", ms=4, capsize=2, lw=1.4,
                              c=colours[row.side])  # fmt: skip
            on_hover(hovers, bar[0], _said(row))
        ax.axvline(0, c="#222222", lw=1)
        rows_of(ax, [short(task.removeprefix(prefix), 34) for task in tasks[metric]])
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.set_title(metric.replace("_", " "), fontsize=10, loc="left")
    axes[-1].set_xlabel(
        "\N{LEFTWARDS ARROW} worse        difference        better \N{RIGHTWARDS ARROW}"
    )
    legend(figure, [line(colours[name], label=name, marker="D") for name in names])
    data: list[Row] = [row.model_dump() for row in rows]
    caption = (
        f"Suite {found.suite}: differences from {found.sides[0].name}, positive is better; "
        f"intervals of the tasks hold together at 95 %."
    )
    return Drawing("scores", caption, figure, frame_of(data), hovers)


def _said(row: ScoreDifference) -> str:
    ends = interval(row.low, row.high, 4)
    return f"{row.side} on {row.task}: {decimal(row.value)} {ends}, {row.verdict}"


def write(found: ScoreComparison, folder: Path) -> list[Path]:
    """The figure as files in a folder.

    Raises:
        OSError: they can't be written.
    """
    with styled():
        files = render(differences(found))
    paths = [folder / f"scores.{ending}" for ending in ("svg", "png")]
    for path, data in zip(paths, (files.svg, files.png), strict=True):
        write_bytes(path, data)
    return paths
