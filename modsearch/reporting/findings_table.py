"""The ledger of the paper's claims as a table."""

from collections.abc import Sequence

import pandas as pd

from modsearch.analysis.numbers import MISSING
from modsearch.analysis.paper import Finding
from modsearch.reporting.frames import Row, frame_of

SHOWN_BY = "shown by"
"""Column whose cells are names of figures and tables, which the page makes links to them."""


def ledger(found: Sequence[Finding]) -> pd.DataFrame:
    """A row for each claim: text to read, and the numbers behind it."""
    rows: list[Row] = []
    for each in found:
        stated, answer = each.stated, each.answer
        effect = answer.effect or stated.unit
        rows.append(
            {
                "claim": stated.claim,
                "paper says": f"{stated.paper} ({stated.where})",
                "here": each.number or MISSING,
                "here value": answer.value,
                "here from": answer.low,
                "here to": answer.high,
                "here unit": stated.unit.value,
                "verdict": answer.word.value,
                "smallest effect": each.reach or MISSING,
                "smallest effect value": answer.smallest,
                "smallest effect unit": effect.value if answer.smallest is not None else None,
                "why": answer.reason,
                SHOWN_BY: stated.shown_by,
            }
        )
    return frame_of(rows)
