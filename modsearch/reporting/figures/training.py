"""What training logs say: losses against the FLOPs spent, and how well the causal choice foretells
the one of training; after the paper's figures 3 and 6, right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from modsearch.analysis.numbers import percent, scientific
from modsearch.config.records import Record
from modsearch.config.units import nats_per
from modsearch.reporting.figures.drawing import SOFT, WIDTH, Drawing, on_hover, panels, short
from modsearch.reporting.figures.labels import Name, name_lines
from modsearch.reporting.frames import Row, frame_of
from modsearch.reporting.named import Named

Log = Sequence[Mapping[str, float]]
"""Rows of a trial's `metrics.jsonl`."""
SMOOTH = 0.05
"""Share of a log over which losses are averaged: each is that of one batch."""
SHOWN_FROM = 0.1
"""Share of training before which losses are off the scale."""
ROOM = 1.4
"""Times what was spent, on the axis: room for names."""
ACCURACY = "membership_accuracy"
AS_TRIALS_SAW = "as trials measured them, which is noise where they shared a machine"


@dataclass(frozen=True)
class Clocked:
    """Steps per second that were measured apart from any trial, all models in turns."""

    steps_per_second: Mapping[int, float]
    """By the number of a model; of those that were timed."""
    how: str
    """What a caption says of it."""


def progress(
    models: Sequence[Named],
    trials: Mapping[str, tuple[Record, Log]],
    colours: Mapping[str, str],
    clocked: Clocked | None = None,
) -> Drawing | None:
    """Training losses of named models against training FLOPs, and what a step costs. `trials` by
    hash. Without a clock, steps per second are those that trials saw of themselves."""
    known = [each for each in models if trials[each.point.hash][1]]
    if not known:
        return None
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    grid = figure.subplot_mosaic([["loss", "loss"], ["flops", "speed"]], height_ratios=(2.4, 1))
    ax, data, names, late = grid["loss"], list[Row](), list[Name](), list[float]()
    for model in known:
        record, log = trials[model.point.hash]
        assert record.plan is not None
        spent = [row["step"] * record.plan.flops_per_step for row in log]
        losses = _smoothed([row["loss"] for row in log])
        dashes = "-" if model.number in (1, 4) else "--"
        ax.plot(spent, losses, c=colours[model.arm], ls=dashes, lw=1.3)
        names.append(Name(ax, model.title, colours[model.arm], spent, losses))
        late += losses[int(SHOWN_FROM * len(losses)) :]
        data += [
            _model_row(model, record, clocked) | {"step": row["step"], "training FLOPs": flops,
                                         "training loss": row["loss"], "smoothed loss": loss}
            for row, flops, loss in zip(log, spent, losses, strict=True)
        ]  # fmt: skip
    room = 0.05 * (max(late) - min(late)) or 0.1
    ax.set_ylim(min(late) - room, max(late) + room)
    spent_most = max(max(name.x) for name in names)
    ax.set_xlim(0, ROOM * spent_most)
    ax.set_xticks([at for at in MaxNLocator(5).tick_values(0, spent_most) if at <= spent_most])
    ax.set_xlabel("training FLOPs")
    unit = trials[known[0].point.hash][0].unit
    ax.set_ylabel(f"training loss ({nats_per(unit)})")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: scientific(x)))
    hovers: dict[str, Sequence[str]] = {}
    records = [trials[each.point.hash][0] for each in known]
    per_step = [float(each.plan.flops_per_step) if each.plan else 0.0 for each in records]
    speeds = [_steps_per_second(*each, clocked) for each in zip(known, records, strict=True)]
    bars = [colours[each.arm] for each in known]
    numbers = [str(each.number) for each in known]
    _bars(grid["flops"], numbers, per_step, bars, "FLOPs per step", hovers)
    kind = "measured" if clocked else "noise"
    _bars(grid["speed"], numbers, speeds, bars, f"steps per second ({kind})", hovers)
    name_lines(figure, names)
    caption = (
        "Training losses of named models against training FLOPs, running means over 5 % of the "
        f"log; FLOPs of a step; steps per second {clocked.how if clocked else AS_TRIALS_SAW}."
    )
    return Drawing("paper_training", caption, figure, frame_of(data), hovers)


def _steps_per_second(model: Named, record: Record, clocked: Clocked | None) -> float | None:
    if clocked is not None:
        return clocked.steps_per_second.get(model.number)
    return 1 / record.scores.step_seconds if record.scores else None


def _model_row(model: Named, record: Record, clocked: Clocked | None) -> Row:
    return {
        "model": model.number,
        "what": model.what,
        "arm": model.arm,
        "depth": model.point.depth,
        "width": model.point.width,
        "FLOPs per step": record.plan.flops_per_step if record.plan else None,
        "steps per second": _steps_per_second(model, record, clocked),
    }


def _bars(
    ax: Axes,
    numbers: Sequence[str],
    values: Sequence[float | None],
    colours: Sequence[str],
    title: str,
    hovers: dict[str, Sequence[str]],
) -> None:
    """One for each model; a word in the place of what is not known."""
    bars = ax.bar(numbers, [value or 0.0 for value in values], color=colours, width=0.6)
    for bar, number, value in zip(bars, numbers, values, strict=True):
        if value is None:
            ax.annotate("not\ntimed", (number, 0), (0, 2), textcoords="offset points", ha="center",
                        va="bottom", fontsize=8, color=SOFT)  # fmt: skip
        else:
            on_hover(hovers, bar, f"{number}: {scientific(value)} {title}")
    ax.set_title(title, fontsize=9, loc="left")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: scientific(y)))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.grid(visible=False, axis="x")
    ax.tick_params(labelsize=8)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Means of the values up to each one."""
    span = max(1, round(SMOOTH * len(values)))
    return [fmean(values[max(0, end - span) : end]) for end in range(1, len(values) + 1)]


def accuracies(trials: Sequence[tuple[Record, Log]], colours: Mapping[str, str]) -> Drawing | None:
    """How well the causal choice foretells that of training, over training steps; dotted: what
    choosing no token would score."""
    known = [
        (record, rows)
        for record, log in trials
        if (rows := [row for row in log if ACCURACY in row])
    ]
    if not known:
        return None
    figure, [ax] = panels(1, 2.7, 0.2)
    hovers: dict[str, Sequence[str]] = {}
    names: dict[str, Name] = {}
    data: list[Row] = []
    for record, rows in known:
        steps, right = [row["step"] for row in rows], [row[ACCURACY] for row in rows]
        colour = colours[record.arm]
        [line] = ax.plot(steps, right, c=colour, lw=1)
        on_hover(hovers, line, f"{record.arm}, seed {record.seed}: {percent(right[-1])} at last")
        names.setdefault(record.arm, Name(ax, short(record.arm, 18), colour, steps, right))
        data += [
            {"arm": record.arm, "seed": record.seed, "depth": record.candidate.model.depth,
             "width": record.candidate.model.width, "step": step, "accuracy": each,
             "always skip": 1 - record.candidate.model.capacity}
            for step, each in zip(steps, right, strict=True)
        ]  # fmt: skip
    for skipped in sorted({1 - record.candidate.model.capacity for record, _ in known}):
        ax.axhline(skipped, c=SOFT, lw=1, ls=":")
        ax.text(0.99, skipped, "no token at all", transform=ax.get_yaxis_transform(), fontsize=8,
                color=SOFT, ha="right", va="bottom")  # fmt: skip
    ax.set_ylim(float(np.quantile([row["accuracy"] for row in data], 0.02)) - 0.02, 1.003)
    ax.set_xlabel("training step")
    ax.set_ylabel("accuracy of the causal choice")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: percent(y, 0)))
    name_lines(figure, list(names.values()))
    caption = (
        "Share of decisions in training on which the causal choice agrees with training's own; "
        "dotted: what choosing no token at all would score."
    )
    return Drawing("paper_accuracy", caption, figure, frame_of(data), hovers)
