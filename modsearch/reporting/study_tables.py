"""Tables of a study as a whole: what its claims rest on, its corpus, its manifest."""

from collections.abc import Mapping

import pandas as pd

from modsearch.analysis.additions import growth_lines
from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Comparison
from modsearch.analysis.curves import Curve, Fit, Refusal
from modsearch.analysis.numbers import percent
from modsearch.analysis.optima import Optimum
from modsearch.analysis.verdicts import Verdict
from modsearch.config.data import CorpusFacts
from modsearch.config.manifest import Manifest
from modsearch.config.units import nats
from modsearch.reporting.frames import Row, frame_of, key_values

LOWEST = "the lowest measured size stands for the arm"


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
                "N* low": fit.minimum_params_low if fit else None,
                "N* high": fit.minimum_params_high if fit else None,
                "minimum loss": fit.minimum_loss if fit else None,
                "minimum loss low": fit.minimum_low if fit else None,
                "minimum loss high": fit.minimum_high if fit else None,
                "points": f"{len(fit.params) if fit else 0} of {len(curve.points)}",
                "r2": fit.r2 if fit and not fit.exact else None,
                "lowest measured": lowest.loss,
                "note": _curve_note(curve, best),
            }
        )
    return frame_of(rows)


def comparisons(claims: Claims) -> pd.DataFrame:
    """Headlines of all budgets, every other confirmed arm against the dense one, and all pairs of
    routed arms."""
    rows = [
        _comparison(each, "headline", claim.verdict, None)
        for claim in claims.by_budget
        if (each := claim.comparison) is not None
    ]
    return frame_of([*rows, *_beside(claims, "other arm", "pair")])


def margin(manifest: Manifest, claims: Claims) -> list[str]:
    """What is called equivalent; nothing where that was not stated before the first run."""
    design, found = manifest.confirm, claims.headline.comparison
    if design is None:
        return []
    share = f", {percent(design.margin / found.reference.loss)} of the dense loss" if found else ""
    return [
        f"Equivalent: the 90 % interval lies within the margin, {design.margin:g} "
        f"{nats(claims.unit)} on either side of zero{share}."
    ]


def controls(claims: Claims) -> pd.DataFrame:
    """Each learned arm against its control: what routing itself is worth."""
    return frame_of(_beside(claims, "control"))


def standings(claims: Claims) -> pd.DataFrame:
    """Every routed arm against the dense one and against each control of the study."""
    rows: list[Row] = []
    for each in claims.standings:
        row: Row = {
            "budget": each.arm.budget,
            "arm": each.arm.arm,
            "runs": each.arm.num_runs,
            "causal loss": each.arm.loss,
            "sd of a run": each.arm.sd,
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
                "slope low": found.slope.low,
                "slope high": found.slope.high,
                "note": "; ".join(["extrapolated"] * found.extrapolated + [found.slope.kind]),
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
    """Facts of the text, with the losses that counting alone reaches; of several tokenizers a
    column for each vocabulary."""
    if not manifest.corpora:
        return key_values(_facts(manifest.corpus))
    frames = {str(size): _facts(each) for size, each in sorted(manifest.corpora.items())}
    keys = dict.fromkeys(key for rows in frames.values() for key in rows)
    columns = {size: [rows.get(key) for key in keys] for size, rows in frames.items()}
    return pd.DataFrame({"vocab_size": list(keys), **columns}, dtype=object)


def _facts(facts: CorpusFacts) -> Row:
    rows: Row = {
        "corpus": facts.name,
        "fingerprint": facts.fingerprint,
        "train tokens": facts.train_tokens,
        "validation tokens": facts.validation_tokens,
        "test tokens": facts.test_tokens,
        "bytes per token": facts.bytes_per_token,
        "unigram entropy (nats per token)": facts.unigram_entropy,
        "bigram entropy (nats per token)": facts.bigram_entropy,
        "near-duplicates (documents, each group in one part)": facts.near_duplicates,
        "validation text that stands in train": facts.validation_copied,
        "test text that stands in train": facts.test_copied,
    }
    return {key: value for key, value in rows.items() if value is not None}


def provenance(manifest: Manifest) -> pd.DataFrame:
    """The manifest as keys and values."""
    plain = manifest.model_dump(
        mode="json",
        exclude={
            "corpus", "corpora", "arms", "explored", "confirm", "grown", "removed", "key", "warm"
        },
    )  # fmt: skip
    plain |= {f"grown {number}": line for number, line in enumerate(growth_lines(manifest), 1)}
    plain |= {f"warm start {number}": each.told for number, each in enumerate(manifest.warm, 1)}
    if manifest.confirm is not None:
        plain["confirm"] = manifest.confirm.model_dump(mode="json", exclude={"chosen"})
    rows: Row = {}
    for key, value in plain.items():
        key = "first command" if key == "command" else key
        if isinstance(value, dict):
            rows |= {f"{key}.{name}": each for name, each in sorted(value.items())}
        else:
            rows[key] = "; ".join(value) if isinstance(value, list) else value
    for arm, base in manifest.arms.items():
        rows[f"arm.{arm}"] = f"control of {base}" if base else "compared"
        if arm in manifest.removed:
            rows[f"arm.{arm}"] = "out of the space"
    return key_values(rows)


def _curve_note(curve: Curve, best: Mapping[tuple[float, str], Optimum]) -> str:
    notes = [f"no fit ({curve.reason})"] if isinstance(curve, Refusal) else []
    if isinstance(curve, Fit):
        notes += ["exact fit of three points"] * curve.exact
        notes += curve.marks
    chosen = best[curve.budget, curve.arm]
    if chosen.depth == curve.depth:
        notes.append("the arm's optimum" if isinstance(curve, Fit) else LOWEST)
        notes += [mark for mark in chosen.marks if "depth" in mark]
    return "; ".join(notes)


def _beside(claims: Claims, *roles: str) -> list[Row]:
    return [
        _comparison(each.comparison, each.role, each.verdict, each.p)
        for each in claims.beside
        if each.role in roles
    ]


def _comparison(each: Comparison, role: str, verdict: Verdict, p: float | None) -> Row:
    found = each.interval
    relative = each.relative_interval or (None, None)
    return {
        "budget": each.arm.budget,
        "role": role,
        "arm": each.arm.arm,
        "against": each.reference.arm,
        "sizes": _sizes(each),
        "runs": f"{each.arm.num_runs} and {each.reference.num_runs}",
        "difference": each.difference,
        "low": found.low if found else None,
        "high": found.high if found else None,
        "relative": each.relative,
        "relative low": relative[0],
        "relative high": relative[1],
        "forward ratio": each.forward_ratio,
        "p (Holm)": p,
        "verdict": verdict.value,
    }


def _sizes(each: Comparison) -> str:
    """Of the two arms, once where they have the same."""
    found = [f"d{arm.model.width} L{arm.model.depth}" for arm in (each.arm, each.reference)]
    return " and ".join(dict.fromkeys(found))


def _against(name: str, each: Comparison | None) -> Row:
    found = each.interval if each else None
    return {
        f"against {name}": each.difference if each else None,
        f"against {name} low": found.low if found else None,
        f"against {name} high": found.high if found else None,
    }
