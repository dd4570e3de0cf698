"""Tables of the laws that a study's curves follow, and of how well they foretell its budgets."""

from collections.abc import Sequence

import pandas as pd

from modsearch.analysis.numbers import counted
from modsearch.analysis.predictions import study_predictions
from modsearch.config.answers import ArmPrediction, Estimate
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage
from modsearch.errors import StudyError
from modsearch.reporting.frames import Row, frame_of

DRAWS = 100
"""Of a surface's bootstrap: a report is compiled after every study."""


def arms_of(manifest: Manifest, records: Sequence[Record]) -> list[ArmPrediction]:
    """The laws of every arm with fitted minima at three budgets, at the largest measured one."""
    budgets = [row.budget.flops for row in records if row.stage is Stage.MEASURE]
    try:
        found = study_predictions(manifest, records, max(budgets, default=1.0), DRAWS)
    except StudyError:
        return []
    return [arm for arm in found.arms if arm.left_out]


def left_out(arms: Sequence[ArmPrediction]) -> pd.DataFrame:
    """Each budget foretold from the others."""
    rows: list[Row] = []
    for arm in arms:
        for each in arm.left_out:
            row: Row = {"budget": each.budget, "arm": arm.arm}
            row |= _columns("foretold N*", each.params)
            row["fitted N*"] = each.fitted_params
            row |= _columns("foretold loss", each.loss)
            row |= {"fitted loss": each.fitted_loss, "error": each.error}
            rows.append(row)
    return frame_of(rows)


def exponents(arms: Sequence[ArmPrediction]) -> pd.DataFrame:
    """Power laws and surfaces."""
    rows: list[Row] = []
    for arm in arms:
        vertices: Row = {
            "arm": arm.arm,
            "fit": f"vertices of {counted(len(arm.budgets), 'budget')}",
        }
        rows.append(vertices | _columns("N* exponent", arm.params_exponent))
        for each in arm.surfaces:
            bias = "; ".join(f"{share - 1:+.1%} at {at}" for at, share in each.vertex_bias.items())
            row: Row = {"arm": arm.arm, "fit": f"surface, N {each.counts}"}
            row |= _columns("N* exponent", each.params_exponent)
            row |= _columns("E", each.irreducible)
            row |= _columns("alpha", each.alpha)
            row |= _columns("beta", each.beta)
            rows.append(row | {"vertex bias of the grid": bias})
    return frame_of(rows)


def _columns(name: str, found: Estimate) -> Row:
    return {name: found.value, f"{name} low": found.low, f"{name} high": found.high}
