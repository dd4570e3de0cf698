"""The ledger of the paper's claims as a table."""

from collections.abc import Container, Sequence

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


def only_shown(frame: pd.DataFrame, places: Container[str]) -> pd.DataFrame:
    """The same without names of figures and tables that a report does not have, which are known
    when all of it is made; another table as it is."""
    if SHOWN_BY not in frame:
        return frame
    found = frame.copy()
    found[SHOWN_BY] = [name if name in places else None for name in frame[SHOWN_BY]]
    return found


def _unit(of: Kind, unit: Unit) -> str:
    return nats(unit) if of is Kind.NATS else of.value
