"""Tables of a study as a whole: what its claims rest on, its corpus, its manifest."""

from collections.abc import Mapping

import pandas as pd

from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Comparison
from modsearch.analysis.curves import Curve, Fit, Refusal
from modsearch.analysis.optima import Optimum
from modsearch.analysis.verdicts import comparison_verdict
from modsearch.config.manifest import Manifest
from modsearch.reporting.frames import Row, frame_of, key_values


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
    return frame_of(rows)


def comparisons(claims: Claims) -> pd.DataFrame:
    """Headlines of all budgets, and every other confirmed arm against the dense one."""
    rows = [
        _comparison(each, "headline", claim.verdict.value)
        for claim in claims.by_budget
        if (each := claim.comparison) is not None
    ]
    rows += [_comparison(each, "other arm") for each in claims.others]
    return frame_of(rows)


def controls(claims: Claims) -> pd.DataFrame:
    """Each learned arm against its control: what routing itself is worth."""
    return frame_of([_comparison(each, "control") for each in claims.controls])


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
    frame = frame_of(rows)
    # Last, whichever controls the budgets have.
    if rows:
        dense = [each.dense for each in claims.standings]
        frame["forward ratio"] = [each.forward_ratio if each else None for each in dense]
        frame["dense arm"] = [each.reference.arm if each else None for each in dense]
        frame["note"] = ["; ".join(each.notes) for each in claims.standings]
    return frame


def multipliers(claims: Claims) -> pd.DataFrame:
    """Compute multipliers of all budgets."""
    rows: list[Row] = []
    for claim in claims.by_budget:
        found = claim.multiplier
        if found is None:
            continue
        rows.append(
            {
                "budget": claim.budget,
                "multiplier": found.value,
                "low": found.low,
                "high": found.high,
                "slope": found.slope.value,
                "slope se": found.slope.se,
                "note": "extrapolated" if found.extrapolated else "",
            }
        )
    return frame_of(rows)


def conventions(claims: Claims) -> pd.DataFrame:
    """Training FLOPs per token of the confirmed models as other papers count them."""
    rows: list[Row] = []
    for each in claims.confirmed:
        row: Row = {"budget": each.budget, "arm": each.arm}
        row |= {f"{name} FLOPs per token": value for name, value in each.plan.conventions.items()}
        rows.append(row | {"head share": each.plan.head_share})
    return frame_of(rows)


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
    return key_values(rows)


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
    return key_values(rows)


def _curve_note(curve: Curve, best: Mapping[tuple[float, str], Optimum]) -> str:
    notes = [f"refused: {curve.reason}"] if isinstance(curve, Refusal) else []
    if isinstance(curve, Fit) and curve.exact:
        notes.append("exact fit of three points")
    chosen = best[curve.budget, curve.arm]
    if chosen.depth == curve.depth:
        notes.append("the arm's optimum")
        notes += [mark for mark in chosen.marks if "depth" in mark]
    return "; ".join(notes)


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
        "verdict": verdict or comparison_verdict(each).value,
    }


def _against(name: str, each: Comparison | None) -> Row:
    found = each.welch if each else None
    return {
        f"against {name}": each.difference if each else None,
        f"against {name} low": found.low if found else None,
        f"against {name} high": found.high if found else None,
    }
