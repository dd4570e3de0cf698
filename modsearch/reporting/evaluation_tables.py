"""Tables of lm-eval's scores: each trial's, means over seeds, and the winners' differences."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import pandas as pd

from modsearch.analysis.compare import Comparison, deviation
from modsearch.analysis.means import FEWEST, runs_note
from modsearch.analysis.recipes import trial_order
from modsearch.analysis.scores import (
    AVERAGE,
    Contender,
    Line,
    compare_scores,
    is_topk,
    line_of,
    lines_of,
    mean_over,
)
from modsearch.config.records import Record, Stage
from modsearch.config.samples import TaskFacts, facts_of
from modsearch.errors import StudyError
from modsearch.reporting.frames import Row, frame_of, interval_cells

METRIC = (
    "budget", "arm", "stage", "seed", "suite", "task", "metric", "value", "stderr", "chance",
    "hash",
)  # fmt: skip
"""Columns of tables, which those without rows have, too."""


TOP_K = " (top-k: no likelihood)"
"""Behind tasks that were scored with training's routing, which sees later tokens."""

Evaluations = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""lm-eval's results by trial and suite."""


def evaluations(records: Sequence[Record], results: Evaluations) -> pd.DataFrame:
    """lm-eval's values, one row for each trial and metric."""
    rows: list[Row] = []
    for record in sorted(records, key=trial_order):
        for suite, result in sorted(results.get(record.hash, {}).items()):
            for task, metrics in sorted(result.get("results", {}).items()):
                rows += _metrics(record, suite, task, metrics, _chance(result, task))
            if is_topk(result):
                for row in rows:
                    if (row["hash"], row["suite"]) == (record.hash, suite):
                        row["task"] = f"{row['task']}{TOP_K}"
    return frame_of(rows, METRIC)


def evaluation_means(frame: pd.DataFrame, results: Evaluations | None = None) -> pd.DataFrame:
    """The same over seeds, so that arms stand under each other: of each suite its averages first,
    then what leads in its tasks, then other metrics.

    All seeds answer the same items, so that the items' error does not become smaller with seeds:
    the intervals have it beside the scatter over seeds. Where it is known what each item scored,
    both are told apart; the others add them, and are a little too wide. What explore ranked its
    recipes by is in no mean: they are the best of many draws.
    """
    table = [row for row in frame.to_dict("records") if row["stage"] != Stage.EXPLORE.value]
    groups: dict[tuple[str, ...], list[Mapping[Any, Any]]] = defaultdict(list)
    names = ["suite", "task", "metric", "budget", "arm", "stage"]
    for row in table:
        groups[tuple(str(row[name]) for name in names)].append(row)
    known = results or {}
    rows = [_evaluation_mean(names, group, known) for group in groups.values()]
    seeds = {(str(row["hash"]), str(row["suite"])): row for row in table}
    sides: dict[tuple[str, ...], list[Mapping[Any, Any]]] = defaultdict(list)
    for row in seeds.values():
        sides[tuple(str(row[name]) for name in ("suite", "budget", "arm", "stage"))].append(row)
    rows += [row for group in sides.values() for row in _averages(names, group, known)]
    order = {"average": 0, "leads": 1}
    rows.sort(key=lambda row: (str(row["suite"]), order.get(str(row["role"]), 2),
                               str(row["task"]), str(row["metric"])))  # fmt: skip
    return frame_of(rows)


def _contender(group: Sequence[Mapping[Any, Any]], results: Evaluations) -> Contender | None:
    """The seeds of one arm; None where results of one are not there."""
    suite = str(group[0]["suite"])
    found = [results.get(str(row["hash"]), {}).get(suite) for row in group]
    kept = [each for each in found if each is not None]
    return Contender(str(group[0]["arm"]), kept) if len(kept) == len(group) else None


def _averages(
    names: Sequence[str], group: Sequence[Mapping[Any, Any]], results: Evaluations
) -> list[Row]:
    """Over the tasks of a suite: accuracy centred on chance, and a metric that leads in all."""
    side = _contender(group, results)
    lines = lines_of(facts_of(side.results[0])) if side is not None else []
    rows: list[Row] = []
    for line in lines:
        if side is None or line.shown.task != AVERAGE:
            continue
        ends = _crossed(side, line)
        if ends is None:
            continue
        topk = TOP_K if is_topk(side.results[0]) else ""
        which = {"task": f"{AVERAGE}{topk}", "metric": line.shown.metric}
        rows.append(
            {
                **{name: which.get(name, group[0][name]) for name in names},
                "role": "average",
                **ends,
                "chance": None,
                "deviation over seeds": None,
                "items' error": None,
                "seeds": len(group),
                "note": runs_note(len(group)),
            }
        )
    return rows


def _crossed(side: Contender, line: Line, value: float | None = None) -> Row | None:
    """A mean with its interval over seeds and items; None where what items scored is unknown.

    `value` is the mean where it is known better than by rounded scores of items.
    """
    found = mean_over(side, line)
    if found is None:
        return None
    found = found if value is None else replace(found, value=value)
    low, high = found.interval() if len(side.results) >= FEWEST else (None, None)
    return {"mean": found.value, "mean low": low, "mean high": high}


def evaluation_differences(comparison: Comparison | None, results: Evaluations) -> pd.DataFrame:
    """The headline's two winners on the same items of each suite: how much better the routed one
    is by what leads in each task, over seeds and items."""
    rows: list[Row] = []
    if comparison is None:
        return frame_of(rows)
    ours, theirs = ([record.hash for record in each.records]
                    for each in (comparison.arm, comparison.reference))  # fmt: skip
    shared = [set(results.get(name, {})) for name in (*ours, *theirs)]
    for suite in sorted(set.intersection(*shared)) if shared else ():
        sides = [
            Contender(each.arm, [results[name][suite] for name in names])
            for each, names in ((comparison.reference, theirs), (comparison.arm, ours))
        ]
        try:
            found = compare_scores(suite, sides)
        except StudyError:  # scored before items were kept, or on other ones
            continue
        rows += [
            {
                "suite": suite,
                "task": row.task,
                "metric": row.metric,
                "arm": row.side,
                "against": row.against,
                "difference": row.value,
                "difference low": row.low,
                "difference high": row.high,
                "p": row.p,
                "verdict": row.verdict,
                "over": row.over,
            }
            for row in (*found.averages, *found.differences)
        ]
    return frame_of(rows)


def _evaluation_mean(
    names: Sequence[str], group: Sequence[Mapping[Any, Any]], results: Evaluations
) -> Row:
    """Of the seeds of one arm."""
    values = [float(row["value"]) for row in group]
    known = (row["stderr"] for row in group)
    errors = [each for each in known if isinstance(each, float) and not math.isnan(each)]
    items = math.hypot(*errors) / math.sqrt(len(errors)) if errors else None
    notes = [runs_note(len(values))] if runs_note(len(values)) else []
    if items is None:
        notes.append("the items' error is not known")
    side = _contender(group, results)
    task, metric = str(group[0]["task"]).removesuffix(TOP_K), str(group[0]["metric"])
    facts = facts_of(side.results[0]) if side is not None else {}
    crossed, leads = None, task in facts and metric == facts[task].leading
    # Of other metrics a packed study does not say what each item scored.
    if side is not None and len(values) >= FEWEST and (leads or _is_accuracy(facts, task, metric)):
        crossed = _crossed(side, line_of(task, metric), fmean(values))
    return {
        **{name: group[0][name] for name in names},
        "role": "leads" if leads else "",
        **(crossed or interval_cells("mean", values, items or 0.0)),
        "chance": group[0]["chance"],
        "deviation over seeds": deviation(values),
        "items' error": items,
        "seeds": len(values),
        "note": "; ".join(notes),
    }


def _is_accuracy(facts: Mapping[str, TaskFacts], task: str, metric: str) -> bool:
    """Whether it is what the task's average centres on chance."""
    return task in facts and metric == facts[task].accuracy


def _chance(result: Mapping[str, Any], task: str) -> float | None:
    """Accuracy of guessing, where the suite states it, or the task's `metadata` does."""
    facts = facts_of(result)
    if task in facts:
        return facts[task].chance
    found: object = result
    for key in ("configs", task, "metadata", "chance"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


def _metrics(
    record: Record, suite: str, task: str, metrics: Mapping[str, Any], chance: float | None
) -> list[Row]:
    """Rows of one task; lm-eval writes `metric,filter` and `metric_stderr,filter`."""
    rows: list[Row] = []
    for key, value in sorted(metrics.items()):
        metric, comma, used_filter = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        stderr = metrics.get(f"{metric}_stderr,{used_filter}")
        rows.append(
            {
                "budget": record.budget.flops,
                "arm": record.arm,
                "stage": record.stage.value,
                "seed": record.seed,
                "suite": suite,
                "task": task,
                "metric": metric if used_filter == "none" else f"{metric} ({used_filter})",
                "value": float(value),
                "stderr": float(stderr) if isinstance(stderr, int | float) else None,
                "chance": chance if metric.startswith("acc") else None,
                "hash": record.hash,
            }
        )
    return rows
