"""Scores, and comparisons of them, as text for a terminal."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from modsearch.analysis.numbers import MISSING, decimal, interval
from modsearch.cli.text import aligned

if TYPE_CHECKING:
    from modsearch.config.answers import (
        Evaluation,
        Score,
        ScoreComparison,
        ScoreDifference,
        Side,
    )


def evaluation_text(found: "Evaluation") -> str:
    """What was scored as a table: the model, or a column for each arm."""
    of = f" on corpus {found.corpus}" if found.corpus else ""
    lines = [f"suite {found.suite}{of}, with standard errors over documents"]
    if any(side.runs > 1 for side in found.sides):
        lines[0] += " and runs"
    lines += [f"{place}: {side.name}{_runs(side)}" for place, side in enumerate(found.sides, 1)]
    lines += ["", _scores_table(found, _with_error)]
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])


def _scores_table(found: "Evaluation | ScoreComparison", told: "Callable[[Score], str]") -> str:
    """A row for each task and metric, a column for each side by its place."""
    values = {(each.side, each.task, each.metric): each for each in found.scores}
    rows: list[tuple[str, ...]] = [
        ("task", "documents", "metric", "guessing", *map(str, range(1, len(found.sides) + 1)))
    ]
    for task in found.tasks:
        cells = [values.get((side.name, task.task, task.metric)) for side in found.sides]
        better = "higher" if task.higher_is_better else "lower"
        chance = MISSING if task.chance is None else f"{task.chance:g}"
        rows.append(
            (task.task, f"{task.documents:,}", f"{task.metric} ({better} is better)", chance,
             *(MISSING if each is None else told(each) for each in cells))
        )  # fmt: skip
    return aligned(rows)


def _with_error(score: "Score") -> str:
    return f"{decimal(score.value)} \N{PLUS-MINUS SIGN} {decimal(score.se)}"


def _with_interval(score: "Score") -> str:
    return f"{decimal(score.value)} {interval(score.low, score.high, 4)}"


def scores_text(found: "ScoreComparison") -> str:
    """A comparison as two tables: what each side scored, and how it differs from the first."""
    sides = [f"{each.name}{_runs(each)}" for each in found.sides]
    lines = [f"suite {found.suite}: each leading metric, 95 % intervals"]
    lines += [f"{place}: {name}" for place, name in enumerate(sides, 1)]
    lines += ["", _scores_table(found, _with_interval), ""]
    lines.append("difference from 1, positive is better:")
    gaps: list[tuple[str, ...]] = [("task", "metric", "side", "difference", "interval", "p", "")]
    names = [side.name for side in found.sides]
    gaps += [_gap(each, names) for each in (*found.averages, *found.differences)]
    lines += [aligned(gaps), ""]
    if found.differences:
        over = " and ".join(sorted({each.over for each in found.differences}))
        lines.append(
            f"over {over}; intervals of tasks hold together at 95 % (Bonferroni), p is adjusted "
            f"(Holm), both for {found.adjusted_for} comparisons"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes),
                      *(f"figure: {path}" for path in found.files)])  # fmt: skip


def _runs(side: "Side") -> str:
    if side.runs == 1:
        return ""
    sizes = f" of {side.sizes} sizes" if side.sizes > 1 else ""
    return f" ({side.runs} runs{sizes})"


def _gap(each: "ScoreDifference", names: Sequence[str]) -> tuple[str, ...]:
    p = MISSING if each.p is None else f"{each.p:.2g}"
    place = str(names.index(each.side) + 1)
    ends = interval(each.low, each.high, 4)
    return each.task, each.metric, place, f"{each.value:+.4f}", ends, p, each.verdict
