"""Several studies: the difference of each, one row a study."""

from collections.abc import Sequence
from dataclasses import dataclass

from modsearch.analysis.verdicts import Verdict
from modsearch.config.units import Unit, nats_per
from modsearch.reporting.figures.drawing import PALETTE, Drawing, panels, rows_of
from modsearch.reporting.frames import Row, frame_of

PALE = "#b0b0b0"


@dataclass(frozen=True)
class Headline:
    """A row of the figure; all in nats."""

    name: str
    budget: float
    verdict: Verdict | None
    """None: of a mean over studies."""
    difference: float
    low: float | None
    high: float | None


def forest(rows: Sequence[Headline], unit: Unit = "token") -> Drawing | None:
    """Differences, in nats for each token or byte, with their 95 % intervals, the first row on
    top; means over studies are diamonds."""
    if not rows:
        return None
    shown = rows[::-1]
    figure, axes = panels(1, 0.9 + 0.3 * len(shown), 0.1)
    ax = axes[0]
    for y, row in enumerate(shown):
        mean = row.verdict is None
        colour = PALETTE[1] if mean else PALETTE[0]
        colour = PALE if row.verdict is Verdict.UNTRAINED else colour
        error = None
        if row.low is not None and row.high is not None:
            error = [[row.difference - row.low], [row.high - row.difference]]
        ax.errorbar(
            [row.difference], [y], xerr=error, fmt="D" if mean else "o", ms=7 if mean else 5,
            c=colour, capsize=3, lw=2.4 if mean else 1.6,
        )  # fmt: skip
    ax.axvline(0, c="#222222", lw=1)
    rows_of(ax, [row.name for row in shown])
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -0.1 * high), max(high, -0.1 * low))
    ax.set_xlabel(f"difference in loss ({nats_per(unit)})\n\N{LEFTWARDS ARROW} routed worse"
                  "        routed better \N{RIGHTWARDS ARROW}")  # fmt: skip
    data: list[Row] = [
        {
            "study": row.name,
            "budget": row.budget,
            "verdict": "mean over studies" if row.verdict is None else row.verdict.value,
            "difference": row.difference,
            "low": row.low,
            "high": row.high,
        }
        for row in rows
    ]
    caption = (
        "Headlines of all studies: the difference in causal loss with its 95 % interval, right of "
        "zero where routed is better."
    )
    if any(row.verdict is None for row in rows):
        caption += (
            " Diamonds: means over studies that differ by their seeds alone, with 95 % intervals "
            "over studies."
        )
    return Drawing("studies", caption, figure, frame_of(data))
