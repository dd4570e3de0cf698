"""Tables of trials: each, the confirmed ones, ranks of recipes, what is left out, evaluations."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from modsearch.analysis.arms import is_routed
from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Confirmed
from modsearch.analysis.means import runs_note
from modsearch.analysis.numbers import counted, scientific
from modsearch.analysis.recipes import measured
from modsearch.analysis.trials import causal_loss, finished, size_of, trial_order
from modsearch.config.manifest import Manifest
from modsearch.config.model import Component
from modsearch.config.records import Record, Stage, State
from modsearch.config.telemetry import RoutingReport
from modsearch.config.units import Unit
from modsearch.errors import StudyError
from modsearch.reporting.flat import flat_recipe, varying
from modsearch.reporting.frames import Row, frame_of, interval_cells
from modsearch.reporting.pace import pace
from modsearch.store.directory import StudyDirectory
from modsearch.study.completeness import study_space

BYTES = {"fp32": 4, "bf16": 2}
EVERY_TOKEN = ("dense", "moe", "mode_integrated")
"""Blocks whose attention is for every token."""
TAKEN_TOKENS = ("mod", "mode_staged")
"""Blocks that keep keys and values of the tokens that they take."""


EXPLORE = (
    "Ranks recipes within an arm, by causal validation loss or by the objective whose column "
    "stands before it. Its values are the best of many draws: they enter no fit and no claim. "
    "Columns: what differs between recipes."
)


class Size(NamedTuple):
    """One that an arm is measured at."""

    arm: str
    budget: float
    depth: int
    width: int


VOCABULARY = "vocab_size"
"""Column of studies with several tokenizers alone."""

TRIAL = (
    "stage",
    "budget",
    "arm",
    "depth",
    "width",
    "seed",
    VOCABULARY,
    "capacity",
    "every",
    "router",
    "rate",
    "params",
    "steps",
    "achieved FLOPs",
    "deviation %",
    "causal loss",
    "train-mode loss",
    "bits per byte",
    "realised capacity",
    "forward FLOPs per token, planned",
    "forward FLOPs per token, realised",
    "step ms",
    "tokens/s",
    "GFLOP/s",
    "state",
    "hash",
)
WINNER = (
    "budget",
    "arm",
    "depth",
    "width",
    VOCABULARY,
    "params",
    "capacity",
    "every",
    "router",
    "runs",
    "causal loss",
    "causal loss low",
    "causal loss high",
    "sd of a run",
    "runs of this size",
    *(
        f"{name}{end}"
        for name in (
            "causal loss of this size",
            "train-mode loss",
            "bits per byte",
            "realised capacity",
            "agreement of modes",
            "forward FLOPs per token, realised",
        )
        for end in ("", " low", " high")
    ),
    "forward FLOPs per token, planned",
    "peak MiB",
    "note",
)
MODEL = (
    "arm",
    "depth",
    "width",
    VOCABULARY,
    "params",
    "capacity",
    "every",
    "router",
    "runs",
    *(f"causal loss{end}" for end in ("", " low", " high")),
    "sd of a run",
    "training tokens",
    *(
        f"{name}{end}"
        for name in (
            "causal loss of this size",
            "bits per byte",
            "realised capacity",
            "forward FLOPs per token, realised",
        )
        for end in ("", " low", " high")
    ),
    "forward FLOPs per token, planned",
    "head share",
    "cache bytes per token",
)


def trials(records: Sequence[Record]) -> pd.DataFrame:
    """Every trial, in order of stage, budget, arm, size and seed."""
    ordered = sorted(records, key=trial_order)
    rows = [_trial(record) for record in ordered]
    if any(record.reused_from for record in ordered):
        taken = [{"taken from": record.reused_from} for record in ordered]
        rows = [row | more for row, more in zip(rows, taken, strict=True)]
    return _in(records[0].unit if records else "token", frame_of(rows, TRIAL))


def winners(claims: Claims) -> pd.DataFrame:
    """What confirm trained: one row for each (budget, arm)."""
    return _in(claims.unit, frame_of([_winner(each) for each in claims.confirmed], WINNER))


def _in(unit: Unit, frame: pd.DataFrame) -> pd.DataFrame:
    """The same with columns that say what is for each token, or for each byte."""
    if unit == "token":
        return frame.drop(columns=VOCABULARY)
    per = ("FLOPs per token, realised", f"FLOPs per {unit}, realised")
    return frame.rename(columns=lambda name: name.replace(*per))


def models(claims: Claims, telemetry: Mapping[str, RoutingReport], precision: str) -> pd.DataFrame:
    """The headline's two winners; without rows where there is no headline."""
    found = claims.headline.comparison
    if found is None:
        return frame_of([], MODEL)
    rows = []
    for each in (found.arm, found.reference):
        row = _winner(each) | {
            "training tokens": each.plan.tokens,
            "head share": each.plan.head_share,
            "cache bytes per token": _cache_bytes(each, telemetry, precision),
        }
        rows.append({name: row[name] for name in MODEL})
    return _in(claims.unit, frame_of(rows))


def _cache_bytes(
    each: Confirmed, telemetry: Mapping[str, RoutingReport], precision: str
) -> float | None:
    """Of keys and values in all layers, under causal routing, mean over seeds; None where a
    block is not known to keep what it takes."""
    model = each.model
    heads = model.num_kv_heads or model.num_heads
    row = 2 * heads * model.width // model.num_heads * BYTES[precision]
    part = model.block.options.get("part", "block")
    if model.block.name in EVERY_TOKEN or part not in ("block", "attention"):
        return float(row * model.depth)
    reports = [telemetry[record.hash] for record in each.records if record.hash in telemetry]
    if model.block.name not in TAKEN_TOKENS or not reports:
        return None
    rows = [model.depth - sum(1 - layer.realised for layer in report.layers) for report in reports]
    return row * sum(rows) / len(rows)


def stopped(records: Sequence[Record]) -> list[str]:
    """What trials of explore have spent that were stopped early; nothing where none was."""
    ended = [r for r in records if r.stage is Stage.EXPLORE and r.state is State.STOPPED]
    whole = sum(record.plan.flops for record in ended if record.plan is not None)
    if not ended:
        return []
    spent = sum(record.spent or 0 for record in ended)
    return [
        f"{counted(len(ended), 'trial')} stopped early, after {scientific(spent)} of "
        f"{scientific(whole)} FLOPs: charged to explore, and in no ranking, mean or fit. The "
        f"reasons are below, among what was left out."
    ]


def exploration(records: Sequence[Record]) -> pd.DataFrame:
    """Recipes by rank within their (arm, budget); only what varies is shown of them."""
    rows = [record for record in records if record.stage is Stage.EXPLORE and finished(record)]
    flat = {record.hash: flat_recipe(record) for record in rows}
    names = varying([(record.arm, flat[record.hash]) for record in rows])
    rows.sort(key=lambda row: (row.arm, -row.budget.flops, row.cost, row.hash))
    ranks: dict[tuple[str, float], int] = defaultdict(int)
    table: list[Row] = []
    for record in rows:
        ranks[record.arm, record.budget.flops] += 1
        row: Row = {
            "arm": record.arm,
            "budget": record.budget.flops,
            "rank": ranks[record.arm, record.budget.flops],
        }
        row |= {name: flat[record.hash].get(name) for name in names}
        if record.objective is not None:
            row[record.objective.name] = record.objective.value
        table.append(row | {"causal loss": causal_loss(record), "hash": record.hash})
    return frame_of(table)


def left_out(
    manifest: Manifest, records: Sequence[Record], ladder: Sequence[Size] = ()
) -> pd.DataFrame:
    """Rejected and failed trials with the reason, sizes of the `ladder` without a result once
    measure has begun, and cells that did not beat bigrams."""
    rows = [
        _lost(record, record.state.value, record.reason or "")
        for record in sorted(records, key=trial_order)
        if record.state is not State.COMPLETE
    ]
    recipe = "in no fit: the arm has another now"
    rows += [_lost(record, "other recipe", recipe) for record in _other_recipes(records)]
    rows += _missing(records, ladder)
    for record in _best_of_cells(records):
        bigrams = manifest.bigram_entropy(record.candidate.model)
        if causal_loss(record) >= bigrams:
            reason = (
                f"best loss {causal_loss(record):.3f} does not beat bigrams, {bigrams:.3f}: a "
                f"larger budget would help"
            )
            rows.append(_lost(record, "untrained cell", reason))
    return frame_of(rows)


def _lost(record: Record, state: str, reason: str) -> Row:
    return _place(record) | {"state": state, "reason": reason, "hash": record.hash}


def ladder_of(directory: StudyDirectory) -> list[Size]:
    """Sizes that every learned arm is to be measured at; none where a sampler chooses them, or
    where the space can't be read, which the page says."""
    try:
        space = study_space(directory)
    except StudyError:
        return []
    if space.measure is not None and not space.measure.is_grid:
        return []
    return [
        Size(arm, budget, size["depth"], size["width"])
        for budget in space.budgets(Stage.MEASURE)
        for arm in space.learned_arms
        for size in space.sizes(budget, arm)
    ]


def _missing(records: Sequence[Record], ladder: Sequence[Size]) -> list[Row]:
    """Sizes that an arm should have been measured at, and has no result of any kind at."""
    there = {
        Size(record.arm, record.budget.flops, *size_of(record))
        for record in records
        if record.stage is Stage.MEASURE
    }
    return [
        {
            "stage": Stage.MEASURE.value,
            "budget": size.budget,
            "arm": size.arm,
            "depth": size.depth,
            "width": size.width,
            "state": "missing",
            "reason": "no result: `modsearch search` on the study trains it",
            "hash": None,
        }
        for size in ladder
        if there and size not in there
    ]


def _place(record: Record) -> Row:
    model = record.candidate.model
    return {
        "stage": record.stage.value,
        "budget": record.budget.flops,
        "arm": record.arm,
        "depth": model.depth,
        "width": model.width,
        "seed": record.seed,
    }


def _recipe(record: Record) -> Row:
    """What sets a routed model apart; empty for one that no token skips a part of."""
    model, routed = record.candidate.model, is_routed(record)
    return {
        "capacity": model.capacity if routed else None,
        "every": model.every if routed else None,
        "router": _component(model.router) if routed else None,
    }


def _component(component: Component) -> str:
    options = ", ".join(f"{name}={value}" for name, value in sorted(component.options.items()))
    return f"{component.name} ({options})" if options else component.name


def _done(record: Record) -> tuple[int | None, int | None]:
    """Steps and FLOPs that were trained; None where a training broke off, nobody knows where."""
    plan = record.plan
    if plan is not None and record.state is State.COMPLETE:
        return plan.steps, plan.flops
    if plan is not None and record.spent is not None:
        return record.spent // plan.flops_per_step, record.spent
    return None, None


def _trial(record: Record) -> Row:
    plan, scores = record.plan, record.scores
    steps, flops = _done(record)
    row = _place(record) | {VOCABULARY: record.candidate.model.vocab_size} | _recipe(record)
    row |= {
        "rate": record.candidate.optim.rate,
        "params": plan.params if plan else None,
        "steps": steps,
        "achieved FLOPs": flops,
        "deviation %": None if flops is None else 100 * (flops / record.budget.flops - 1),
        "causal loss": scores.causal_loss if scores else None,
        "train-mode loss": scores.train_mode_loss if scores else None,
        "bits per byte": scores.bits_per_byte if scores else None,
        "realised capacity": scores.realised_capacity if scores else None,
        "forward FLOPs per token, planned": plan.forward_flops if plan else None,
        "forward FLOPs per token, realised": scores.realised_forward_flops if scores else None,
        "step ms": 1000 * scores.step_seconds if scores else None,
        **pace(record),
    }
    return row | {"state": record.state.value, "hash": record.hash}


def _winner(each: Confirmed) -> Row:
    row: Row = {
        "budget": each.budget,
        "arm": each.arm,
        "depth": each.model.depth,
        "width": each.model.width,
        VOCABULARY: each.model.vocab_size,
        "params": each.plan.params,
    }
    half = each.half_width
    row |= _recipe(each.records[0])
    row |= {
        "runs": each.num_runs,
        "causal loss": each.loss,
        "causal loss low": None if half is None else each.loss - half,
        "causal loss high": None if half is None else each.loss + half,
        "sd of a run": each.sd,
        "runs of this size": len(each.records),
    }
    measured: dict[str, Sequence[float | None]] = {
        "causal loss of this size": [causal_loss(record) for record in each.records],
        "train-mode loss": [score.train_mode_loss for score in each.scores],
        "bits per byte": [score.bits_per_byte for score in each.scores],
        "realised capacity": [score.realised_capacity for score in each.scores],
        "agreement of modes": [score.agreement for score in each.scores],
        "forward FLOPs per token, realised": [
            score.realised_forward_flops for score in each.scores
        ],
    }
    for name, values in measured.items():
        row |= interval_cells(name, [value for value in values if value is not None])
    return row | {
        "forward FLOPs per token, planned": each.plan.forward_flops,
        "peak MiB": _peak(each),
        "note": runs_note(len(each.records)),
    }


def _peak(each: Confirmed) -> float | None:
    known = [score.peak_memory for score in each.scores if score.peak_memory is not None]
    return max(known) / 2**20 if known else None


def _other_recipes(records: Sequence[Record]) -> list[Record]:
    """Measured trials of a recipe that the arm no longer has."""
    arms = {record.arm for record in records}
    counted = {record.hash for arm in arms for record in measured(records, arm)}
    rows = (row for row in records if row.stage is Stage.MEASURE and finished(row))
    return sorted((row for row in rows if row.hash not in counted), key=trial_order)


def _best_of_cells(records: Sequence[Record]) -> list[Record]:
    best: dict[tuple[Stage, float, str], Record] = {}
    for record in sorted(filter(finished, records), key=trial_order):
        cell = (record.stage, record.budget.flops, record.arm)
        if cell not in best or causal_loss(record) < causal_loss(best[cell]):
            best[cell] = record
    return list(best.values())
