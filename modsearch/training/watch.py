"""A training that is watched: ended where its curve is above a bar.

It is decided by the training's own log and by bars that its job has, so that a training that was
interrupted decides as one that was not.
"""

from collections.abc import Mapping
from pathlib import Path

from modsearch.analysis.stopping import verdict
from modsearch.config.bars import Bar, Bars
from modsearch.errors import Stopped
from modsearch.store.trial import metrics_of
from modsearch.training.outcome import OnLog

METRICS = "metrics.jsonl"
"""Of a training, in its folder."""


class Watch:
    """Is told each row of a training's log, as it is written."""

    def __init__(self, bars: Bars, log: Path, on_log: OnLog | None) -> None:
        self.bars = list(bars.bars)
        self.log = log
        self.on_log = on_log

    def __call__(self, row: Mapping[str, float]) -> None:
        """Pass it on, and look at the curve where it has come to a rung.

        Raises:
            Stopped: it is above the bar.
        """
        if self.on_log is not None:
            self.on_log(row)
        share = row["step"] / row["steps"]
        if not any(bar.share <= share for bar in self.bars):
            return
        curve = curve_of(self.log)
        before = curve[-2][0] if len(curve) > 1 else 0.0
        for bar in [bar for bar in self.bars if before < bar.share <= share]:
            self._judge(bar, curve, int(row["step"]))

    def _judge(self, bar: Bar, curve: list[tuple[float, float]], step: int) -> None:
        if (why := verdict(bar, curve)) is not None:
            raise Stopped(why, step)


def curve_of(log: Path) -> list[tuple[float, float]]:
    """Shares of the steps and mean losses since the row before, of a training's log."""
    return [(row["step"] / row["steps"], row["loss"]) for row in metrics_of(log)]
