"""How far a study is, and its winner so far; read from its directory, also while it runs."""

import shlex
import time
from pathlib import Path
from typing import Any

from modsearch.analysis.claims import study_claims
from modsearch.analysis.confirmation import confirmed
from modsearch.analysis.recipes import causal_loss
from modsearch.config.records import Record, Stage
from modsearch.errors import StudyError
from modsearch.store.directory import StudyDirectory
from modsearch.store.lock import is_held
from modsearch.store.trial import read_metrics
from modsearch.study.completeness import cells, lacking, open_stage, study_space


def status(root: Path) -> dict[str, Any]:
    """Trials of each stage and arm, what runs, and of a finished study its verdict."""
    directory = StudyDirectory(root)
    manifest = directory.manifest()
    results = directory.results()
    found = cells(study_space(directory), results.records, manifest.explored)
    stage = open_stage(found)
    page = directory.root / "report" / "index.html"
    headline = study_claims(manifest, results.records).headline if stage is None else None
    return {
        "name": manifest.name,
        "cells": [
            {
                "stage": str(cell.stage),
                "arm": cell.arm,
                "budget": cell.budget,
                "wanted": cell.wanted,
                "states": cell.states,
                "best_causal_loss": cell.best_causal_loss,
            }
            for cell in found
        ],
        "stage": stage and str(stage),
        "driver": is_held(directory.lock),
        "running": _running(directory),
        "verdict": headline and headline.sentence,
        "report": str(page) if page.is_file() else None,
        "missing": list(lacking(found, stage)),
        "left_out": directory.left_out(results),
    }


def _running(directory: StudyDirectory) -> list[dict[str, Any]]:
    """Trials that have begun and have no result, with the last line of their metrics.

    `alive` is whether a process has the trial; one of another machine is seen where the file
    system passes locks on.
    """
    found = []
    for path in sorted((directory.root / "trials").glob("[!.]*/metrics.jsonl")):
        if (path.parent / "result.json").exists():
            continue
        rows = list(read_metrics(path))
        found.append(
            {
                "hash": path.parent.name,
                "alive": is_held(path.parent / ".lock"),
                "written_seconds_ago": max(0.0, time.time() - path.stat().st_mtime),
                **(rows[-1] if rows else {}),
            }
        )
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
    lines += [_trial_text(row) for row in result["running"]]
    if result["stage"] is None:
        lines.append(result["verdict"])
    else:
        driver = "a driver runs" if result["driver"] else "no driver runs here"
        lines.append(f"under way: {result['stage']}; {driver}")
    if result["report"]:
        lines.append(f"report: {result['report']}")
    elif result["stage"] is None:
        lines.append("report: none yet, `modsearch report` compiles it")
    lines += [f"warning: {line}" for line in result["missing"] + result["left_out"]]
    return "\n".join(line.rstrip() for line in lines)


def _trial_text(row: dict[str, Any]) -> str:
    if "step" in row:
        where = f"step {row['step']:,.0f} of {row['steps']:,.0f}"
    else:
        where = "no step yet, or metrics.jsonl can't be read"
    if row["alive"]:
        return f"running {row['hash']}: {where}"
    return (
        f"not running here {row['hash']}: {where}, last written "
        f"{row['written_seconds_ago']:,.0f} s ago"
    )


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
        largest = max((record.budget.flops for record in rows), default=0.0)
        at = largest if budget is None else budget
        rows = [record for record in rows if record.budget.flops == at]
        if stage is Stage.MEASURE and rows:
            return min(rows, key=causal_loss)
        found = [each for arm in arms if (each := confirmed(records, arm, at)) is not None]
        if found:
            best = min(found, key=lambda each: (bool(each.lost), each.mean))
            return best.records[0]
    at_budget = "" if budget is None else f" at {budget:g} FLOPs"
    raise StudyError(
        f"{root} has no finished candidate{at_budget}\n"
        f"look at `modsearch status {shlex.quote(str(root))}`"
    )
