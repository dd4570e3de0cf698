"""Tables of lm-eval's scores: each trial's, means over seeds, and the winners' differences."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from modsearch.analysis.compare import Comparison, Confirmed
from modsearch.analysis.means import FEWEST, runs_note
from modsearch.analysis.runs import Runs
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
from modsearch.analysis.trials import trial_order
from modsearch.config.records import Record, Stage
from modsearch.config.references import FOLDER, Reference, References
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

REFERENCE = "reference"
"""The stage of a model that stands beside the study."""

Evaluations = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""lm-eval's results by trial and suite."""


def evaluations(
    records: Sequence[Record], results: Evaluations, references: References | None = None
) -> pd.DataFrame:
    """lm-eval's values, one row for each trial and metric, and then for each model beside the
    study: where there are any, all rows have the number of parameters."""
    rows: list[Row] = []
    for record in sorted(records, key=trial_order):
        about: Row = {"budget": record.budget.flops, "arm": record.arm,
                      "stage": record.stage.value, "seed": record.seed}  # fmt: skip
        params = record.plan.params if record.plan else None
        behind: Row = {"params": params} if references else {}
        for suite, result in sorted(results.get(record.hash, {}).items()):
            rows += _scores(about, suite, result, {"hash": record.hash, **behind})
    for name, suites in sorted((references or {}).items()):
        about = {"budget": None, "arm": name, "stage": REFERENCE, "seed": None}
        for suite, result in sorted(suites.items()):
            behind = {"hash": _key(name), "params": Reference(**result["reference"]).params}
            rows += _scores(about, suite, result, behind)
    return frame_of(rows, METRIC)


def _key(reference: str) -> str:
    """What stands for a model beside the study where a trial has its hash."""
    return f"{FOLDER}/{reference}"


def _scores(about: Row, suite: str, result: Mapping[str, Any], behind: Row) -> list[Row]:
    topk = TOP_K if is_topk(result) else ""
    rows: list[Row] = []
    for task, metrics in sorted(result.get("results", {}).items()):
        where: Row = {**about, "suite": suite, "task": f"{task}{topk}"}
        rows += _metrics(where, metrics, _chance(result, task), behind)
    return rows


def evaluation_means(
    frame: pd.DataFrame,
    results: Evaluations | None = None,
    references: References | None = None,
    arms: Sequence[Confirmed] = (),
) -> pd.DataFrame:
    """The same over seeds, so that arms stand under each other: of each suite its averages first,
    then what leads in its tasks, then other metrics.

    All seeds answer the same items, so that the items' error does not become smaller with seeds:
    the intervals have it beside the scatter over seeds. Where it is known what each item scored,
    both are told apart; the others add them, and are a little too wide. A model beside the study
    is no sample of seeds: its intervals are over items. What explore ranked its recipes by is in
    no mean: they are the best of many draws. Of confirmed `arms` each run counts as in their
    lowest losses.
    """
    table = [row for row in frame.to_dict("records") if row["stage"] != Stage.EXPLORE.value]
    groups: dict[tuple[str, ...], list[Mapping[Any, Any]]] = defaultdict(list)
    names = ["suite", "task", "metric", "budget", "arm", "stage"]
    for row in table:
        groups[tuple(str(row[name]) for name in names)].append(row)
    known = {**(results or {}), **{_key(name): each for name, each in (references or {}).items()}}
    rows = [_evaluation_mean(names, group, known, arms) for group in groups.values()]
    seeds = {(str(row["hash"]), str(row["suite"])): row for row in table}
    sides: dict[tuple[str, ...], list[Mapping[Any, Any]]] = defaultdict(list)
    for row in seeds.values():
        sides[tuple(str(row[name]) for name in ("suite", "budget", "arm", "stage"))].append(row)
    rows += [row for group in sides.values() for row in _averages(names, group, known, arms)]
    order = {"average": 0, "leads": 1}
    rows.sort(key=lambda row: (str(row["suite"]), order.get(str(row["role"]), 2),
                               str(row["task"]), str(row["metric"])))  # fmt: skip
    return frame_of(rows)


def _standing(
    group: Sequence[Mapping[Any, Any]], arms: Sequence[Confirmed]
) -> tuple[Sequence[Mapping[Any, Any]], Runs]:
    """Rows of the runs that stand for an arm, and what each counts for."""
    place = Stage.CONFIRM.value, group[0]["arm"], group[0]["budget"]
    rows = {str(row["hash"]): row for row in group}
    for arm in arms:
        if place == (group[0]["stage"], arm.arm, arm.budget) and (found := arm.standing(rows)):
            return [rows[record.hash] for record in found[0]], found[1]
    return group, Runs.alike(len(group))


def _contender(
    group: Sequence[Mapping[Any, Any]], runs: Runs, results: Evaluations
) -> Contender | None:
    """The seeds of one arm; None where results of one are not there."""
    suite = str(group[0]["suite"])
    found = [results.get(str(row["hash"]), {}).get(suite) for row in group]
    kept = [each for each in found if each is not None]
    fixed = group[0]["stage"] == REFERENCE
    return Contender(str(group[0]["arm"]), kept, fixed, runs) if len(kept) == len(group) else None


def _averages(
    names: Sequence[str],
    group: Sequence[Mapping[Any, Any]],
    results: Evaluations,
    arms: Sequence[Confirmed],
) -> list[Row]:
    """Over the tasks of a suite: accuracy centred on chance, and a metric that leads in all."""
    group, runs = _standing(group, arms)
    side = _contender(group, runs, results)
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
                **_params(group),
                "role": "average",
                **ends,
                "chance": None,
                "deviation over seeds": None,
                "items' error": None,
                "seeds": len(group),
                "note": "" if side.fixed else runs_note(len(group)),
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
    told = side.fixed or len(side.results) >= FEWEST
    low, high = found.interval() if told else (None, None)
    return {"mean": found.value, "mean low": low, "mean high": high}


def evaluation_differences(comparison: Comparison | None, results: Evaluations) -> pd.DataFrame:
    """The headline's two winners on the same items of each suite: how much better the routed one
    is by what leads in each task, over seeds and items."""
    rows: list[Row] = []
    if comparison is None:
        return frame_of(rows)
    winners = [winner(comparison.reference, results), winner(comparison.arm, results)]
    for suite in sorted(set.intersection(*map(set, winners))):
        rows += difference_rows(suite, [each[suite] for each in winners])
    return frame_of(rows)


def winner(arm: Confirmed, results: Evaluations) -> dict[str, Contender]:
    """What a confirmed arm scored, by suites that runs which stand for it have answered."""
    found: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for record in arm.all_records:
        for suite, each in results.get(record.hash, {}).items():
            found[suite][record.hash] = each
    sides = {suite: Contender.of_arm(arm.arm, arm, each) for suite, each in found.items()}
    return {suite: side for suite, side in sides.items() if side is not None}


def difference_rows(suite: str, sides: Sequence[Contender]) -> list[Row]:
    """Of all sides from the first; none where they were scored before items were kept, or on
    other ones."""
    try:
        found = compare_scores(suite, sides)
    except StudyError:
        return []
    return [
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


def _evaluation_mean(
    names: Sequence[str],
    group: Sequence[Mapping[Any, Any]],
    results: Evaluations,
    arms: Sequence[Confirmed],
) -> Row:
    """Of the seeds of one arm."""
    group, runs = _standing(group, arms)
    values = [float(row["value"]) for row in group]
    known = (row["stderr"] for row in group)
    errors = [each for each in known if isinstance(each, float) and not math.isnan(each)]
    items = math.hypot(*errors) / math.sqrt(len(errors)) if errors else None
    fixed = group[0]["stage"] == REFERENCE
    notes = [runs_note(len(values))] if runs_note(len(values)) and not fixed else []
    if items is None:
        notes.append("the items' error is not known")
    side = _contender(group, runs, results)
    task, metric = str(group[0]["task"]).removesuffix(TOP_K), str(group[0]["metric"])
    facts = facts_of(side.results[0]) if side is not None else {}
    crossed, leads = None, task in facts and metric == facts[task].leading
    # Of other metrics a packed study does not say what each item scored.
    if side is not None and (leads or _is_accuracy(facts, task, metric)):
        crossed = _crossed(side, line_of(task, metric), float(runs.mean(values)))
    return {
        **{name: group[0][name] for name in names},
        **_params(group),
        "role": "leads" if leads else "",
        **(crossed or interval_cells("mean", values, items or 0.0, runs)),
        "chance": group[0]["chance"],
        "deviation over seeds": math.sqrt(runs.spread(values)) if runs.freedom else None,
        "items' error": items,
        "seeds": len(values),
        "note": "; ".join(notes),
    }


def _params(group: Sequence[Mapping[Any, Any]]) -> Row:
    """Parameters, where they are told: confirmed runs of an arm may have several sizes."""
    if "params" not in group[0]:
        return {}
    sizes = {row["params"] for row in group}
    return {"params": sizes.pop() if len(sizes) == 1 else None}


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
    where: Row, metrics: Mapping[str, Any], chance: float | None, behind: Row
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
                **where,
                "metric": metric if used_filter == "none" else f"{metric} ({used_filter})",
                "value": float(value),
                "stderr": float(stderr) if isinstance(stderr, int | float) else None,
                "chance": chance if metric.startswith("acc") else None,
                **behind,
            }
        )
    return rows
