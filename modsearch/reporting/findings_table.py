"""The ledger of the paper's claims as a table."""

from collections.abc import Sequence

import pandas as pd

from modsearch.analysis.numbers import MISSING
from modsearch.analysis.paper import Finding
from modsearch.analysis.paper import Unit as Kind
from modsearch.config.units import Unit, nats
from modsearch.reporting.frames import Row, frame_of

SHOWN_BY = "shown by"
"""Column whose cells are names of figures and tables, which the page makes links to them."""


def ledger(found: Sequence[Finding], unit: Unit = "token") -> pd.DataFrame:
    """A row for each claim: text to read, and the numbers behind it; `unit` is what losses are
    counted over."""
    rows: list[Row] = []
    for each in found:
        stated, answer = each.stated, each.answer
        effect = answer.effect or stated.unit
        rows.append(
            {
                "claim": stated.claim,
                "paper says": f"{stated.paper} ({stated.where})",
                "here": each.number(unit) or MISSING,
                "here value": answer.value,
                "here from": answer.low,
                "here to": answer.high,
                "here unit": _unit(stated.unit, unit),
                "verdict": answer.word.value,
                "smallest effect": each.reach(unit) or MISSING,
                "smallest effect value": answer.smallest,
                "smallest effect unit": None if answer.smallest is None else _unit(effect, unit),
                "why": answer.reason,
                SHOWN_BY: stated.shown_by,
            }
        )
    return frame_of(rows)


def _unit(of: Kind, unit: Unit) -> str:
    return nats(unit) if of is Kind.NATS else of.value
