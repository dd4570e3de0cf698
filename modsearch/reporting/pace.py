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
    """Medians over the trials of an arm's depth at a budget: pace, what share of its device's peak
    that is by the exact ledger and by 6 FLOPs a parameter and token, and shares of the time in
    training's phases and in the evaluation after it; none of trials that did not note them."""
    groups: dict[tuple[float, str, int], list[Record]] = defaultdict(list)
    for record in records:
        if record.scores is not None and record.scores.phase_seconds:
            key = (record.budget.flops, record.arm, record.candidate.model.depth)
            groups[key].append(record)
    rows: list[Row] = []
    for (budget, arm, depth), found in sorted(groups.items()):
        scores = [each.scores for each in found if each.scores is not None]
        paces = [pace(each) for each in found]
        shares = [told for each in scores if (told := each.time_shares) is not None]
        used = [each.efficiency for each in scores if each.efficiency is not None]
        row: Row = {"budget": budget, "arm": arm, "depth": depth, "trials": len(found)}
        for name in ("tokens/s", "GFLOP/s"):
            known = [value for each in paces if isinstance(value := each[name], float)]
            row[name] = _median(known)
        row |= {
            "MFU, exact": _median([each.mfu for each in used if each.mfu is not None]),
            "MFU, 6ND": _median([each.mfu_6nd for each in used if each.mfu_6nd is not None]),
            "peak GFLOP/s": _median([each.peak.flops / 1e9 for each in used if each.peak]),
        }
        row |= {f"{name} share": median(each[name] for each in shares) for name in PHASES}
        rows.append(row)
    return frame_of(rows)


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
