"""Every table of the report is a data frame of full precision; text is rounded in `display`."""

import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from modsearch.analysis.means import mean_of
from modsearch.analysis.numbers import MISSING, count, decimal, percent, scientific
from modsearch.analysis.runs import Runs

Row = dict[str, object]


def frame_of(rows: Sequence[Row], columns: Sequence[str] = ()) -> pd.DataFrame:
    """Columns in the order in which the rows first have them; numbers where there is any. Without
    rows it has `columns`: a program asks for them by name."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    names = names or list(columns)
    return pd.DataFrame(rows, columns=names)


def key_values(rows: Mapping[str, object]) -> pd.DataFrame:
    """Two columns, a row for each key."""
    return pd.DataFrame({"key": list(rows), "value": pd.Series(list(rows.values()), dtype=object)})


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
BEHIND = ("value", "from", "to", "unit")
"""`x value` and the others are the numbers behind a column `x` of text: in files alone."""


def _shown(frame: pd.DataFrame) -> list[str]:
    names = [str(name) for name in frame.columns]
    hidden = {f"{name} {companion}" for name in names for companion in (*COMPANIONS, *BEHIND)}
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
    "N* low": count,
    "N* high": count,
    "foretold N*": count,
    "foretold N* low": count,
    "foretold N* high": count,
    "fitted N*": count,
    "params": count,
    "training tokens": count,
    "cache bytes per token": lambda value: decimal(value, 0),
    "achieved FLOPs": scientific,
    "deviation %": lambda value: decimal(value, 2),
    "capacity": lambda value: f"{value:g}",
    "realised capacity": lambda value: decimal(value, 3),
    "rate": lambda value: f"{value:g}",
    "step ms": lambda value: decimal(value, 2),
    "GFLOP/s": lambda value: decimal(value, 2),
    "at equal time": lambda value: decimal(value, 2),
    "r2": lambda value: decimal(value, 3),
    "multiplier": lambda value: decimal(value, 2),
    "low": lambda value: decimal(value, 3),
    "high": lambda value: decimal(value, 3),
    "relative": lambda value: percent(value, 2),
    "forward ratio": lambda value: percent(value, 0),
    "loss: routed / dense": lambda value: decimal(value, 3),
    "forward FLOPs: routed / dense": lambda value: decimal(value, 2),
    "head share": percent,
    "MFU, exact": percent,
    "MFU, 6ND": percent,
    "peak GFLOP/s": lambda value: decimal(value, 0),
    "peak MiB": lambda value: decimal(value, 0),
    "bits per byte": lambda value: decimal(value, 3),
    "agreement of modes": lambda value: decimal(value, 3),
    "causal - train loss": decimal,
    **dict.fromkeys(
        (
            "flip rate", "weights over 0.5", "no block", "every block", "dead ids", "always ids",
            "accuracy", "always skip", "precision", "recall", "F1", "calibration error",
            "sd over windows", "overlap", "if independent", "share of layers",
            "loss, raw", "loss, partial", "entropy, raw", "entropy, partial", "data share",
            "forward share", "backward share", "optimizer share", "evaluation share",
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
    if name.startswith(("tokens/s", "bytes/s")):
        return f"{value:,.0f}"
    if "ratio" in name or name.startswith("time at"):
        return decimal(value, 3)
    if "FLOPs" in name:
        return scientific(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:.0f}"
    return decimal(value) if abs(value) >= 1e-3 else f"{value:.2g}"


def interval_cells(
    name: str, values: Sequence[float], shared: float = 0.0, runs: Runs | None = None
) -> Row:
    """A mean over seeds and its 95 % interval; a dash where there is nothing to average."""
    found = mean_of(values, shared, runs) if values else None
    ends = (found.value, found.low, found.high) if found else (None, None, None)
    return dict(zip((name, f"{name} low", f"{name} high"), ends, strict=True))
