"""Tables of how confirmed models route: means over seeds at full precision.

A column `x sd` is the deviation over seeds of column `x`; `x low` and `x high` are the ends of
its 95 % interval.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

import pandas as pd

from modsearch.analysis.compare import Confirmed, deviation
from modsearch.analysis.numbers import decimal
from modsearch.analysis.routing import combined
from modsearch.config.records import Record
from modsearch.config.telemetry import (
    Correlation,
    LayerRouting,
    Membership,
    RoutingReport,
    TokenRouting,
)
from modsearch.reporting.frames import Row, frame_of

Telemetry = Mapping[str, RoutingReport]
"""By the hash of a trial."""

BYTES = 256
"""A vocabulary of this size is that of bytes."""


def missing(arms: Sequence[Confirmed], telemetry: Telemetry) -> list[str]:
    """A line for each arm with confirmed trials that have no telemetry."""
    lines = []
    for arm in arms:
        absent = [str(record.seed) for record in arm.records if record.hash not in telemetry]
        if absent:
            lines.append(
                f"{arm.arm}: no routing.json (or a damaged one) of seed {', '.join(absent)}; "
                f"what follows is without {'them' if len(absent) > 1 else 'it'}."
            )
    return lines


def decisions(arms: Sequence[Confirmed], telemetry: Telemetry) -> pd.DataFrame:
    """How much each arm routes, how its modes differ, and what is never or always routed."""
    rows = []
    for arm, pairs in _known(arms, telemetry):
        reports = [report for _, report in pairs]
        row: Row = {"arm": arm.arm, "seeds": len(reports), "capacity": arm.model.capacity}
        row |= _mean("realised capacity", [_realised(report) for report in reports])
        row |= _mean("flip rate", [_of_layers(report, _flips) for report in reports])
        row |= _mean("causal - train loss", [_gap(record) for record, _ in pairs])
        row |= _mean("weights over 0.5", [_of_layers(report, _above_half) for report in reports])
        for name, value in _TOKEN_COLUMNS.items():
            row |= _mean(name, [None if r.tokens is None else value(r.tokens) for r in reports])
        rows.append(row)
    return frame_of(rows)


def membership(arms: Sequence[Confirmed], telemetry: Telemetry) -> pd.DataFrame:
    """The causal decision against training's on the same hidden states, over all layers."""
    rows = []
    for arm, pairs in _known(arms, telemetry):
        found = [report.membership for _, report in pairs if report.membership is not None]
        if found:
            rows.append({"arm": arm.arm, "seeds": len(found)} | _membership(found))
    return frame_of(rows)


def correlations(arms: Sequence[Confirmed], telemetry: Telemetry) -> pd.DataFrame:
    """Of the number of routed blocks that take a token with its loss and its entropy."""
    rows = []
    for arm, pairs in _known(arms, telemetry):
        found = [report.tokens for _, report in pairs if report.tokens is not None]
        if found:
            windows = min(report.windows for _, report in pairs)
            row: Row = {"arm": arm.arm, "seeds": len(found)}
            row |= _correlation("loss", [each.with_loss for each in found], windows)
            row |= _correlation("entropy", [each.with_entropy for each in found], windows)
            rows.append(row)
    return frame_of(rows)


def layers(arms: Sequence[Confirmed], telemetry: Telemetry) -> pd.DataFrame:
    """The same for each layer, means over seeds."""
    rows = []
    for arm, pairs in _known(arms, telemetry):
        for at in zip(*(report.layers for _, report in pairs), strict=True):
            row: Row = {"arm": arm.arm, "layer": at[0].layer, "capacity": at[0].capacity}
            row |= _mean("realised capacity", [each.realised for each in at])
            row |= _mean("sd over windows", [each.realised_sd for each in at], spread=False)
            row |= _mean("flip rate", [_flips(each) for each in at])
            row |= _mean("weights over 0.5", [_above_half(each) for each in at])
            members = [each.decisions.membership for each in at if each.decisions]
            row |= _membership([each for each in members if each is not None])
            rows.append(row)
    return frame_of(rows)


def overlaps(arms: Sequence[Confirmed], telemetry: Telemetry) -> pd.DataFrame:
    """Jaccard's index of pairs of layers, and what independent choices would give."""
    rows = []
    for arm, pairs in _known(arms, telemetry):
        found = [report.tokens.overlaps for _, report in pairs if report.tokens is not None]
        for at in zip(*found, strict=True):
            row: Row = {"arm": arm.arm, "layers": "{} and {}".format(*at[0].layers)}
            row |= _mean("overlap", [each.jaccard for each in at])
            row |= _mean("if independent", [each.independent for each in at])
            rows.append(row)
    return frame_of(rows)


def tokens(arms: Sequence[Confirmed], telemetry: Telemetry) -> pd.DataFrame:
    """Vocabulary ids that the first seed of each arm chooses most and least."""
    rows: list[Row] = []
    for arm, pairs in _known(arms, telemetry):
        record, report = pairs[0]
        if report.tokens is None:
            continue
        for kind, found in (("most", report.tokens.most), ("least", report.tokens.least)):
            rows += [
                {
                    "arm": arm.arm,
                    "seed": record.seed,
                    "chosen": kind,
                    "rank": rank,
                    "id": str(each.token),
                    "text": _text(each.token, report),
                    "seen": each.seen,
                    "share of layers": each.share,
                }
                for rank, each in enumerate(found, start=1)
            ]
    return frame_of(rows)


def calibration(arms: Sequence[Confirmed], telemetry: Telemetry) -> pd.DataFrame:
    """Predicted chance against how often it came true, for each seed."""
    rows: list[Row] = []
    for arm, pairs in _known(arms, telemetry):
        for record, report in pairs:
            if report.membership is not None:
                rows += [
                    {"arm": arm.arm, "seed": record.seed} | each.model_dump()
                    for each in report.membership.bins
                ]
    return frame_of(rows)


def _known(
    arms: Sequence[Confirmed], telemetry: Telemetry
) -> Iterable[tuple[Confirmed, list[tuple[Record, RoutingReport]]]]:
    for arm in arms:
        pairs = [(each, telemetry[each.hash]) for each in arm.records if each.hash in telemetry]
        if pairs:
            yield arm, pairs


def _realised(report: RoutingReport) -> float:
    return fmean(layer.realised for layer in report.layers)


def _gap(record: Record) -> float | None:
    scores = record.scores
    return None if scores is None else scores.causal_loss - scores.train_mode_loss


def _flips(layer: LayerRouting) -> float | None:
    return None if layer.decisions is None else layer.decisions.flip_rate


def _above_half(layer: LayerRouting) -> float | None:
    return None if layer.decisions is None else layer.decisions.weights_above_half


def _of_layers(
    report: RoutingReport, value: Callable[[LayerRouting], float | None]
) -> float | None:
    known = [found for layer in report.layers if (found := value(layer)) is not None]
    return fmean(known) if known else None


_TOKEN_COLUMNS: dict[str, Callable[[TokenRouting], float | None]] = {
    "no block": lambda tokens: tokens.no_block,
    "every block": lambda tokens: tokens.every_block,
    "dead ids": lambda tokens: tokens.dead,
    "always ids": lambda tokens: tokens.always,
}


def _membership(found: Sequence[Membership]) -> Row:
    return (
        _mean("accuracy", [each.accuracy for each in found])
        | _mean("always skip", [each.always_skip for each in found], spread=False)
        | _mean("precision", [each.precision for each in found])
        | _mean("recall", [each.recall for each in found])
        | _mean("F1", [each.f1 for each in found])
        | _mean("calibration error", [each.calibration_error for each in found])
    )


def _correlation(name: str, found: Sequence[Correlation], windows: int) -> Row:
    over_seeds = combined(found, windows)
    return _mean(f"{name}, raw", [each.raw for each in found]) | {
        f"{name}, partial": over_seeds.partial if over_seeds else None,
        f"{name}, partial low": over_seeds.low if over_seeds else None,
        f"{name}, partial high": over_seeds.high if over_seeds else None,
    }


def _mean(name: str, values: Sequence[float | None], *, spread: bool = True) -> Row:
    known = [value for value in values if value is not None]
    row: Row = {name: fmean(known) if known else None}
    return row | {f"{name} sd": deviation(known)} if spread else row


def _text(token: int, report: RoutingReport) -> str:
    """In quotes, as Python writes it; a dash where it is not known."""
    if token in report.texts:
        return repr(report.texts[token])
    return repr(bytes([token]))[1:] if report.vocab_size == BYTES else decimal(None)
