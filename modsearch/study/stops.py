"""By what explore's trials may be stopped, from the curves of those that have ended."""

from collections.abc import Sequence

from modsearch.analysis.stopping import bars_of, smoothed
from modsearch.config.bars import Bars
from modsearch.config.records import Record, State
from modsearch.config.stopping import Stopping
from modsearch.store.directory import StudyDirectory
from modsearch.training.watch import METRICS, curve_of

COUNTED = (State.COMPLETE, State.STOPPED)
"""Ends of trials whose curves are looked at."""


class Stops:
    """Curves of ended trials, each read once."""

    def __init__(self, stopping: Stopping, directory: StudyDirectory) -> None:
        self.stopping = stopping
        self.directory = directory
        self._curves: dict[str, list[tuple[float, float]]] = {}

    def bars(self, ended: Sequence[str]) -> Bars:
        """For the next trial of a cell, by the hashes of those that have ended in it."""
        records = [self.directory.finished(name) for name in ended]
        counted = [each.hash for each in records if each is not None and each.state in COUNTED]
        return bars_of(self.stopping, [self._curve(name) for name in counted])

    def reached(self, record: Record) -> tuple[int, float] | None:
        """Where a stopped trial came to, in hundredths of its steps, and its loss there."""
        curve = self._curve(record.hash) if record.state is State.STOPPED else []
        if not curve:
            return None
        share = curve[-1][0]
        loss = smoothed(curve, share)
        return None if loss is None else (round(100 * share), loss)

    def _curve(self, name: str) -> list[tuple[float, float]]:
        if name not in self._curves:
            self._curves[name] = curve_of(self.directory.trial(name) / METRICS)
        return self._curves[name]
