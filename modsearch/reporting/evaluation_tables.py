"""Tables of lm-eval's scores: each trial's, and means over seeds."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from modsearch.analysis.compare import deviation
from modsearch.analysis.means import runs_note
from modsearch.analysis.recipes import trial_order
from modsearch.config.records import Record
from modsearch.reporting.frames import Row, frame_of, interval_cells

METRIC = (
    "budget", "arm", "stage", "seed", "suite", "task", "metric", "value", "stderr", "chance",
    "hash",
)  # fmt: skip
"""Columns of tables, which those without rows have, too."""


Evaluations = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""lm-eval's results by trial and suite."""


def evaluations(records: Sequence[Record], results: Evaluations) -> pd.DataFrame:
    """lm-eval's values, one row for each trial and metric."""
    rows: list[Row] = []
    for record in sorted(records, key=trial_order):
        for suite, result in sorted(results.get(record.hash, {}).items()):
            for task, metrics in sorted(result.get("results", {}).items()):
                rows += _metrics(record, suite, task, metrics, _chance(result, task))
    return frame_of(rows, METRIC)


def evaluation_means(frame: pd.DataFrame) -> pd.DataFrame:
    """The same over seeds, so that arms stand under each other.

    All seeds answer the same items, so that the items' error does not become smaller with seeds:
    the intervals have it beside the scatter over seeds.
    """
    groups: dict[tuple[str, ...], list[Mapping[Any, Any]]] = defaultdict(list)
    names = ["suite", "task", "metric", "budget", "arm", "stage"]
    for row in frame.to_dict("records"):
        groups[tuple(str(row[name]) for name in names)].append(row)
    rows = [_evaluation_mean(names, group) for group in groups.values()]
    rows.sort(key=lambda row: tuple(str(row[name]) for name in names[:3]))
    return frame_of(rows)


def _evaluation_mean(names: Sequence[str], group: Sequence[Mapping[Any, Any]]) -> Row:
    """Of the seeds of one arm."""
    values = [float(row["value"]) for row in group]
    known = (row["stderr"] for row in group)
    errors = [each for each in known if isinstance(each, float) and not math.isnan(each)]
    items = math.hypot(*errors) / math.sqrt(len(errors)) if errors else None
    notes = [runs_note(len(values))] if runs_note(len(values)) else []
    if items is None:
        notes.append("the items' error is not known")
    return {
        **{name: group[0][name] for name in names},
        **interval_cells("mean", values, items or 0.0),
        "chance": group[0]["chance"],
        "deviation over seeds": deviation(values),
        "items' error": items,
        "seeds": len(values),
        "note": "; ".join(notes),
    }


def _chance(result: Mapping[str, Any], task: str) -> float | None:
    """Accuracy of guessing, where the suite states it in the task's `metadata`."""
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
