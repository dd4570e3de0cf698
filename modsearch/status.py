"""How far a study is, and its winner so far; read from its directory, also while it runs."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from modsearch.analysis.compare import confirmed
from modsearch.analysis.fits import causal_loss
from modsearch.errors import StudyError
from modsearch.schema import Record, Stage
from modsearch.space import read_space
from modsearch.store import StudyDirectory, read_metrics


def status(root: Path) -> dict[str, Any]:
    """Trials of each stage and arm, and what runs."""
    directory = StudyDirectory(root)
    manifest = directory.manifest()
    space = read_space(directory.space, [])
    records = directory.records()
    rows = []
    for stage in Stage:
        for budget in space.budgets(stage):
            for arm in space.arms if stage is Stage.CONFIRM else space.learned_arms:
                found = [
                    r for r in records if (r.stage, r.arm, r.budget.flops) == (stage, arm, budget)
                ]
                losses = [r.scores.causal_loss for r in found if r.scores]
                wanted = space.num_trials(stage, arm, budget)
                states = Counter(str(record.state) for record in found)
                row = {"stage": str(stage), "arm": arm, "budget": budget, "wanted": wanted}
                rows.append(
                    row | {"states": dict(states), "best_causal_loss": min(losses, default=None)}
                )
    return {"name": manifest.name, "cells": rows, "running": _running(directory)}


def _running(directory: StudyDirectory) -> list[dict[str, Any]]:
    """Trials without a result that wrote a metric in the last minute."""
    found = []
    for path in sorted((directory.root / "trials").glob("*/metrics.jsonl")):
        if not (path.parent / "result.json").exists() and time.time() - path.stat().st_mtime < 60:
            rows = list(read_metrics(path))
            found.append({"hash": path.parent.name, **(rows[-1] if rows else {})})
    return found


def status_text(result: dict[str, Any]) -> str:
    """Status as a table for a terminal."""
    lines = [f"{'stage':9}{'arm':18}{'budget':>9}{'done':>10}{'best loss':>12}  other ends"]
    for row in result["cells"]:
        states = dict(row["states"])
        done = f"{states.pop('complete', 0)}/{row['wanted']}"
        best = f"{row['best_causal_loss']:.4f}" if row["best_causal_loss"] is not None else "-"
        other = ", ".join(f"{count} {state}" for state, count in states.items())
        lines.append(
            f"{row['stage']:9}{row['arm']:18}{row['budget']:9.3g}{done:>10}{best:>12}  {other}"
        )
    for row in result["running"]:
        lines.append(
            f"running {row['hash']}: step {row.get('step', 0):,.0f} of {row.get('steps', 0):,.0f}"
        )
    return "\n".join(line.rstrip() for line in lines)


def winner(root: Path, budget: float | None) -> Record:
    """The confirmed candidate with the lowest mean causal loss, by one of its trials.

    Controls are no winners, and arms that lost seeds come last. Without confirmed trials, the
    lowest measured one.

    Raises:
        StudyError: nothing is finished at that budget.
    """
    directory = StudyDirectory(root)
    records = directory.records()
    arms = [name for name, target in directory.manifest().arms.items() if target is None]
    done = [record for record in records if record.scores and record.arm in arms]
    for stage in (Stage.CONFIRM, Stage.MEASURE):
        rows = [record for record in done if record.stage is stage]
        at = budget or max((record.budget.flops for record in rows), default=0.0)
        rows = [record for record in rows if record.budget.flops == at]
        if stage is Stage.MEASURE and rows:
            return min(rows, key=causal_loss)
        found = [each for arm in arms if (each := confirmed(records, arm, at)) is not None]
        if found:
            best = min(found, key=lambda each: (bool(each.lost), each.mean))
            return best.records[0]
    at_budget = f" at {budget:g} FLOPs" if budget else ""
    raise StudyError(
        f"{root} has no finished candidate{at_budget}\nlook at `modsearch status {root}`"
    )
