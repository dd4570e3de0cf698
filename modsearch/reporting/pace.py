"""How fast trials were trained, and where their time went."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import pandas as pd

from modsearch.config.records import PHASES, Record
from modsearch.reporting.frames import Row, frame_of


def pace(record: Record) -> Row:
    """Training tokens and FLOPs a second, by the exact ledger, wherever the trial ran."""
    plan, scores = record.plan, record.scores
    if plan is None or scores is None or not scores.step_seconds:
        return {"tokens/s": None, "GFLOP/s": None}
    return {
        "tokens/s": plan.tokens / plan.steps / scores.step_seconds,
        "GFLOP/s": plan.flops_per_step / scores.step_seconds / 1e9,
    }


def times(records: Sequence[Record]) -> pd.DataFrame:
    """Medians over the trials of an arm's depth at a budget: pace, and shares of the time in
    training's phases and in the evaluation after it; none of trials that did not note them."""
    groups: dict[tuple[float, str, int], list[Record]] = defaultdict(list)
    for record in records:
        if record.scores is not None and record.scores.phase_seconds:
            key = (record.budget.flops, record.arm, record.candidate.model.depth)
            groups[key].append(record)
    rows: list[Row] = []
    for (budget, arm, depth), found in sorted(groups.items()):
        paces, shares = [pace(each) for each in found], [_shares(each) for each in found]
        row: Row = {"budget": budget, "arm": arm, "depth": depth, "trials": len(found)}
        for name in ("tokens/s", "GFLOP/s"):
            known = [value for each in paces if isinstance(value := each[name], float)]
            row[name] = median(known) if known else None
        row |= {f"{name} share": median(each[name] for each in shares) for name in PHASES}
        rows.append(row)
    return frame_of(rows)


def _shares(record: Record) -> dict[str, float]:
    assert record.scores is not None
    assert record.scores.phase_seconds is not None
    seconds = {name: record.scores.phase_seconds.get(name, 0.0) for name in PHASES}
    total = sum(seconds.values())
    return {name: value / total if total else 0.0 for name, value in seconds.items()}
