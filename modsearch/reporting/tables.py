"""Every table of the report as a data frame: full precision here, rounded in `display`."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

import pandas as pd

from modsearch.analysis.arms import is_routed
from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Comparison, Confirmed, deviation
from modsearch.analysis.curves import Curve, Fit, Refusal
from modsearch.analysis.numbers import MISSING, count, decimal, percent, scientific
from modsearch.analysis.optima import Optimum
from modsearch.analysis.recipes import causal_loss, finished, measured
from modsearch.analysis.verdicts import comparison_verdict
from modsearch.config.manifest import Manifest
from modsearch.config.model import Component, ModelConfig
from modsearch.config.records import Record, Stage, State

Evaluations = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""lm-eval's results by trial and suite."""

Row = dict[str, object]


def minima(claims: Claims) -> pd.DataFrame:
    """The minimum of each isoFLOP curve, or why it has none."""
    best = {(each.budget, each.arm): each for each in claims.optima}
    rows: list[Row] = []
    for curve in claims.curves:
        fit = curve if isinstance(curve, Fit) else None
        lowest = min(curve.points, key=lambda point: point.loss)
        rows.append(
            {
                "budget": curve.budget,
                "arm": curve.arm,
                "depth": curve.depth,
                "N*": fit.minimum_params if fit else None,
                "minimum loss": fit.minimum_loss if fit else None,
                "minimum sd": fit.minimum_sd if fit else None,
                "points": f"{len(fit.params) if fit else 0} of {len(curve.points)}",
                "r2": fit.r2 if fit and not fit.exact else None,
                "lowest measured": lowest.loss,
                "note": _curve_note(curve, best),
            }
        )
    return _frame(rows)


def trials(records: Sequence[Record]) -> pd.DataFrame:
    """Every trial, in order of stage, budget, arm, size and seed."""
    return _frame([_trial(record) for record in sorted(records, key=_trial_order)])


def winners(claims: Claims) -> pd.DataFrame:
    """What confirm trained: one row for each (budget, arm)."""
    return _frame([_winner(each) for each in claims.confirmed])


def comparisons(claims: Claims) -> pd.DataFrame:
    """Headlines of all budgets, and every other confirmed arm against the dense one."""
    rows = [
        _comparison(each, "headline", claim.verdict.value)
        for claim in claims.by_budget
        if (each := claim.comparison) is not None
    ]
    rows += [_comparison(each, "other arm") for each in claims.others]
    return _frame(rows)


def controls(claims: Claims) -> pd.DataFrame:
    """Each learned arm against its control: what routing itself is worth."""
    return _frame([_comparison(each, "control") for each in claims.controls])


def standings(claims: Claims) -> pd.DataFrame:
    """Every routed arm against the dense one and against each control of the study."""
    rows: list[Row] = []
    for each in claims.standings:
        row: Row = {
            "budget": each.arm.budget,
            "arm": each.arm.arm,
            "seeds": len(each.arm.records),
            "causal loss": each.arm.mean,
            "causal loss sd": each.arm.sd,
        }
        row |= _against("dense", each.dense)
        for control in each.controls:
            row |= _against(control.reference.arm, control)
        rows.append(row)
    frame = _frame(rows)
    # Last, whichever controls the budgets have.
    if rows:
        dense = [each.dense for each in claims.standings]
        frame["forward ratio"] = [each.forward_ratio if each else None for each in dense]
        frame["dense arm"] = [each.reference.arm if each else None for each in dense]
        frame["note"] = ["; ".join(each.notes) for each in claims.standings]
    return frame


def multipliers(claims: Claims) -> pd.DataFrame:
    """Compute multipliers of all budgets, plain and in training time."""
    rows: list[Row] = []
    for claim in claims.by_budget:
        found = claim.multiplier
        if found is None:
            continue
        value, low, high = found.adjusted
        rows.append(
            {
                "budget": claim.budget,
                "multiplier": found.value,
                "low": found.low,
                "high": found.high,
                "time ratio": found.time_ratio,
                "speed-adjusted": value,
                "adjusted low": low,
                "adjusted high": high,
                "slope": found.slope.value,
                "slope se": found.slope.se,
                "note": "extrapolated" if found.extrapolated else "",
            }
        )
    return _frame(rows)


def exploration(records: Sequence[Record]) -> pd.DataFrame:
    """Recipes by rank within their (arm, budget); only what varies is shown of them."""
    rows = [record for record in records if record.stage is Stage.EXPLORE and finished(record)]
    flat = {record.hash: _flat_recipe(record) for record in rows}
    varying = _varying([(record.arm, flat[record.hash]) for record in rows])
    rows.sort(key=lambda row: (row.arm, -row.budget.flops, causal_loss(row), row.hash))
    ranks: dict[tuple[str, float], int] = defaultdict(int)
    table: list[Row] = []
    for record in rows:
        ranks[record.arm, record.budget.flops] += 1
        row: Row = {
            "arm": record.arm,
            "budget": record.budget.flops,
            "rank": ranks[record.arm, record.budget.flops],
        }
        row |= {name: flat[record.hash].get(name) for name in varying}
        table.append(row | {"causal loss": causal_loss(record), "hash": record.hash})
    return _frame(table)


def left_out(manifest: Manifest, records: Sequence[Record]) -> pd.DataFrame:
    """Rejected and failed trials with the reason, and cells that did not beat bigrams."""
    rows = [
        _place(record) | {"state": record.state.value, "reason": record.reason or ""}
        for record in sorted(records, key=_trial_order)
        if record.state is not State.COMPLETE
    ]
    rows += [
        _place(record) | {"state": "other recipe", "reason": "in no fit: the arm has another now"}
        for record in _other_recipes(records)
    ]
    bigrams = manifest.corpus.bigram_entropy
    for record in _best_of_cells(records):
        if causal_loss(record) >= bigrams:
            reason = f"best loss {causal_loss(record):.3f} does not beat bigrams, {bigrams:.3f}"
            rows.append(_place(record) | {"state": "untrained cell", "reason": reason})
    return _frame(rows)


def evaluations(records: Sequence[Record], results: Evaluations) -> pd.DataFrame:
    """lm-eval's values, one row for each trial and metric."""
    rows: list[Row] = []
    for record in sorted(records, key=_trial_order):
        for suite, result in sorted(results.get(record.hash, {}).items()):
            for task, metrics in sorted(result.get("results", {}).items()):
                rows += _metrics(record, suite, task, metrics)
    return _frame(rows)


def evaluation_means(frame: pd.DataFrame) -> pd.DataFrame:
    """The same over seeds, so that arms stand under each other."""
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    places: dict[tuple[str, ...], Row] = {}
    names = ["suite", "task", "metric", "budget", "arm", "stage"]
    for row in frame.to_dict("records"):
        key = tuple(str(row[name]) for name in names)
        places[key] = {name: row[name] for name in names}
        groups[key].append(float(row["value"]))
    rows = [
        places[key]
        | {"mean": fmean(values), "sd over seeds": deviation(values), "seeds": len(values)}
        for key, values in groups.items()
    ]
    rows.sort(key=lambda row: tuple(str(row[name]) for name in names[:3]))
    return _frame(rows)


def conventions(claims: Claims) -> pd.DataFrame:
    """Training FLOPs per token of the confirmed models as other papers count them."""
    rows: list[Row] = []
    for each in claims.confirmed:
        row: Row = {"budget": each.budget, "arm": each.arm}
        row |= {f"{name} FLOPs per token": value for name, value in each.plan.conventions.items()}
        rows.append(row | {"head share": each.plan.head_share})
    return _frame(rows)


def corpus(manifest: Manifest) -> pd.DataFrame:
    """Facts of the text, with the losses that counting alone reaches."""
    facts = manifest.corpus
    rows = {
        "corpus": facts.name,
        "fingerprint": facts.fingerprint,
        "train tokens": facts.train_tokens,
        "validation tokens": facts.validation_tokens,
        "test tokens": facts.test_tokens,
        "bytes per token": facts.bytes_per_token,
        "unigram entropy (nats per token)": facts.unigram_entropy,
        "bigram entropy (nats per token)": facts.bigram_entropy,
    }
    return _pairs(rows)


def provenance(manifest: Manifest) -> pd.DataFrame:
    """The manifest as keys and values."""
    plain = manifest.model_dump(mode="json", exclude={"corpus", "arms", "explored"})
    rows: Row = {}
    for key, value in plain.items():
        key = "first command" if key == "command" else key
        if isinstance(value, dict):
            rows |= {f"{key}.{name}": each for name, each in sorted(value.items())}
        else:
            rows[key] = "; ".join(value) if isinstance(value, list) else value
    for arm, base in manifest.arms.items():
        rows[f"arm.{arm}"] = f"control of {base}" if base else "compared"
    return _pairs(rows)


def display(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as rounded text, a dash for what is missing.

    Deviations and ends of intervals stand in the cell of what they belong to.
    """
    shown = {name: _cells(frame, name) for name in _shown(frame)}
    return pd.DataFrame(shown, columns=list(shown), dtype=object)


def numeric(frame: pd.DataFrame) -> list[bool]:
    """For each column of `display` whether it holds numbers, which stand to the right."""
    return [pd.api.types.is_numeric_dtype(frame[name]) for name in _shown(frame)]


COMPANIONS = ("sd", "low", "high")
"""`x sd`, `x low` and `x high` belong to a column `x`."""


def _shown(frame: pd.DataFrame) -> list[str]:
    names = [str(name) for name in frame.columns]
    hidden = {f"{name} {companion}" for name in names for companion in COMPANIONS}
    return [name for name in names if name not in hidden]


def _cells(frame: pd.DataFrame, name: str) -> list[str]:
    cells = [_text(name, value) for value in frame[name]]
    if f"{name} sd" in frame:
        spreads = [_text(name, value) for value in frame[f"{name} sd"]]
        cells = [
            cell if spread == MISSING else f"{cell} \N{PLUS-MINUS SIGN} {spread}"
            for cell, spread in zip(cells, spreads, strict=True)
        ]
    if f"{name} low" in frame and f"{name} high" in frame:
        ends = zip(frame[f"{name} low"], frame[f"{name} high"], strict=True)
        brackets = [[_text(name, end) for end in pair] for pair in ends]
        cells = [
            cell if MISSING in pair else f"{cell} [{', '.join(pair)}]"
            for cell, pair in zip(cells, brackets, strict=True)
        ]
    return cells


_FORMATS: dict[str, Callable[[float], str]] = {
    "budget": scientific,
    "N*": count,
    "params": count,
    "achieved FLOPs": scientific,
    "deviation %": lambda value: decimal(value, 2),
    "capacity": lambda value: f"{value:g}",
    "realised capacity": lambda value: decimal(value, 3),
    "rate": lambda value: f"{value:g}",
    "step ms": lambda value: decimal(value, 2),
    "r2": lambda value: decimal(value, 3),
    "time ratio": lambda value: decimal(value, 2),
    "multiplier": lambda value: decimal(value, 2),
    "low": lambda value: decimal(value, 3),
    "high": lambda value: decimal(value, 3),
    "speed-adjusted": lambda value: decimal(value, 2),
    "adjusted low": lambda value: decimal(value, 3),
    "adjusted high": lambda value: decimal(value, 3),
    "relative": lambda value: percent(value, 2),
    "forward ratio": lambda value: percent(value, 0),
    "head share": percent,
    "training seconds": lambda value: decimal(value, 1),
    "peak MiB": lambda value: decimal(value, 0),
    "bits per byte": lambda value: decimal(value, 3),
    "agreement of modes": lambda value: decimal(value, 3),
    "causal - train loss": decimal,
    **dict.fromkeys(
        (
            "flip rate", "weights over 0.5", "no block", "every block", "dead ids", "always ids",
            "accuracy", "always skip", "precision", "recall", "F1", "calibration error",
            "sd over windows", "overlap", "if independent", "share of layers",
            "loss, raw", "loss, partial", "entropy, raw", "entropy, partial",
        ),
        lambda value: decimal(value, 3),
    ),
}  # fmt: skip


def _text(name: str, value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if name in _FORMATS:
        return _FORMATS[name](value)
    if name.startswith("against "):
        return decimal(value, 3)
    if "FLOPs" in name:
        return scientific(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:.0f}"
    return decimal(value) if abs(value) >= 1e-3 else f"{value:.2g}"


def _frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Columns in the order in which the rows first have them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame(rows, columns=names)


def _pairs(rows: Mapping[str, object]) -> pd.DataFrame:
    return pd.DataFrame({"key": list(rows), "value": pd.Series(list(rows.values()), dtype=object)})


def _curve_note(curve: Curve, best: Mapping[tuple[float, str], Optimum]) -> str:
    notes = [f"refused: {curve.reason}"] if isinstance(curve, Refusal) else []
    if isinstance(curve, Fit) and curve.exact:
        notes.append("exact fit of three points")
    chosen = best[curve.budget, curve.arm]
    if chosen.depth == curve.depth:
        notes.append("the arm's optimum")
        notes += [mark for mark in chosen.marks if "depth" in mark]
    return "; ".join(notes)


def _trial_order(record: Record) -> tuple[object, ...]:
    model = record.candidate.model
    stage = list(Stage).index(record.stage)
    size = (model.depth, model.width)
    return stage, record.budget.flops, record.arm, *size, record.seed, record.hash


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


def _recipe(model: ModelConfig) -> Row:
    """What sets a routed model apart; empty for one that no token skips a part of."""
    routed = is_routed(model)
    return {
        "capacity": model.capacity if routed else None,
        "every": model.every if routed else None,
        "router": _component(model.router) if routed else None,
    }


def _component(component: Component) -> str:
    options = ", ".join(f"{name}={value}" for name, value in sorted(component.options.items()))
    return f"{component.name} ({options})" if options else component.name


def _trial(record: Record) -> Row:
    plan, scores = record.plan, record.scores
    row = _place(record) | _recipe(record.candidate.model)
    row |= {
        "rate": record.candidate.optim.rate,
        "params": plan.params if plan else None,
        "steps": plan.steps if plan else None,
        "achieved FLOPs": plan.flops if plan else None,
        "deviation %": 100 * (plan.flops / record.budget.flops - 1) if plan else None,
        "causal loss": scores.causal_loss if scores else None,
        "train-mode loss": scores.train_mode_loss if scores else None,
        "bits per byte": scores.bits_per_byte if scores else None,
        "realised capacity": scores.realised_capacity if scores else None,
        "forward FLOPs per token, planned": plan.forward_flops if plan else None,
        "forward FLOPs per token, realised": scores.realised_forward_flops if scores else None,
        "step ms": 1000 * scores.step_seconds if scores else None,
    }
    return row | {"state": record.state.value, "hash": record.hash}


def _winner(each: Confirmed) -> Row:
    train = [score.train_mode_loss for score in each.scores]
    agreements = [score.agreement for score in each.scores if score.agreement is not None]
    row: Row = {
        "budget": each.budget,
        "arm": each.arm,
        "depth": each.model.depth,
        "width": each.model.width,
        "params": each.plan.params,
    }
    row |= _recipe(each.model)
    return row | {
        "seeds": len(each.records),
        "causal loss": each.mean,
        "causal sd": each.sd,
        "train-mode loss": fmean(train),
        "train-mode sd": deviation(train),
        "bits per byte": fmean(score.bits_per_byte for score in each.scores),
        "realised capacity": each.realised_capacity,
        "agreement of modes": fmean(agreements) if agreements else None,
        "forward FLOPs per token, planned": each.plan.forward_flops,
        "forward FLOPs per token, realised": each.forward_flops,
        "step ms": 1000 * median(score.step_seconds for score in each.scores),
        "training seconds": each.training_seconds,
        "peak MiB": max(score.peak_memory for score in each.scores) / 2**20,
    }


def _comparison(each: Comparison, role: str, verdict: str | None = None) -> Row:
    found = each.welch
    relative = each.relative_interval or (None, None)
    return {
        "budget": each.arm.budget,
        "role": role,
        "arm": each.arm.arm,
        "against": each.reference.arm,
        "seeds": f"{len(each.arm.records)} and {len(each.reference.records)}",
        "difference": each.difference,
        "low": found.low if found else None,
        "high": found.high if found else None,
        "relative": each.relative,
        "relative low": relative[0],
        "relative high": relative[1],
        "forward ratio": each.forward_ratio,
        "time ratio": each.time_ratio,
        "verdict": verdict or comparison_verdict(each).value,
    }


def _against(name: str, each: Comparison | None) -> Row:
    found = each.welch if each else None
    return {
        f"against {name}": each.difference if each else None,
        f"against {name} low": found.low if found else None,
        f"against {name} high": found.high if found else None,
    }


def _flat_recipe(record: Record) -> Row:
    candidate = record.candidate.model_dump(mode="json", exclude={"data": True})
    if not is_routed(record.candidate.model):
        for name in _recipe(record.candidate.model):
            del candidate["model"][name]
    flat: Row = {}
    for part in ("model", "optim"):
        for name, value in candidate[part].items():
            if isinstance(value, dict):
                flat[name] = value["name"]
                flat |= {f"{name}.{key}": each for key, each in value.items() if key != "name"}
            else:
                flat[name] = value
    return flat


def _varying(recipes: Sequence[tuple[str, Row]]) -> list[str]:
    """What some arm has several values of; what sets arms apart is in their names."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for arm, recipe in recipes:
        for name, value in recipe.items():
            values[arm, name].add(str(value))
    names = dict.fromkeys(name for _, recipe in recipes for name in recipe)
    several = {name for (_, name), found in values.items() if len(found) > 1}
    return [name for name in names if name in several]


def _other_recipes(records: Sequence[Record]) -> list[Record]:
    """Measured trials of a recipe that the arm no longer has."""
    arms = {record.arm for record in records}
    counted = {record.hash for arm in arms for record in measured(records, arm)}
    rows = (row for row in records if row.stage is Stage.MEASURE and finished(row))
    return sorted((row for row in rows if row.hash not in counted), key=_trial_order)


def _best_of_cells(records: Sequence[Record]) -> list[Record]:
    best: dict[tuple[Stage, float, str], Record] = {}
    for record in sorted(filter(finished, records), key=_trial_order):
        cell = (record.stage, record.budget.flops, record.arm)
        if cell not in best or causal_loss(record) < causal_loss(best[cell]):
            best[cell] = record
    return list(best.values())


def _metrics(record: Record, suite: str, task: str, metrics: Mapping[str, Any]) -> list[Row]:
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
                "hash": record.hash,
            }
        )
    return rows
