"""A running study on a terminal: its lines, and below them a table of what runs."""

import time
from pathlib import Path
from typing import Self

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from modsearch.analysis.numbers import duration
from modsearch.store.trial import read_metrics
from modsearch.study.events import (
    Event,
    StageBegan,
    Trial,
    TrialBegan,
    TrialEnded,
    TrialsEnded,
)


class Live:
    """Takes events while it is entered."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._running: dict[str, tuple[Trial, Path, float]] = {}
        self._stage = ""
        self._done = self._trials = 0
        self._seconds_left = 0.0
        self._live = RichLive(
            get_renderable=self._render,
            console=self.console,
            refresh_per_second=2,
            transient=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrialBegan):
            began = event.trial, Path(event.folder), time.monotonic()
            self._running[event.trial.hash] = began
            return
        if isinstance(event, StageBegan):
            self._live.start()  # nothing is shown before there is something to show
            self._stage, self._trials, self._done = event.stage, event.trials, 0
            self._seconds_left = 0.0
        if isinstance(event, TrialEnded):
            self._running.pop(event.trial.hash, None)
            self._done, self._trials = event.done, event.trials
            self._seconds_left = event.seconds_left
        if isinstance(event, TrialsEnded):
            self._live.stop()
        self.say(str(event))

    def say(self, text: str) -> None:
        """A line of its own, wrapped by the terminal alone."""
        self.console.print(text, markup=False, emoji=False, soft_wrap=True)

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for column in ("running", "step", "train loss", "seconds"):
            table.add_column(column, justify="left" if column == "running" else "right")
        for trial, folder, began in list(self._running.values()):
            rows = list(read_metrics(folder / "metrics.jsonl"))
            last = rows[-1] if rows else None
            step = f"{last['step']:.0f}/{last['steps']:.0f}" if last else "starting"
            loss = f"{last['loss']:.3f}" if last else ""
            table.add_row(str(trial), step, loss, f"{time.monotonic() - began:.0f}")
        head = f"{self._stage}: {self._done} of {self._trials}"
        if self._seconds_left:
            head += f", {duration(self._seconds_left)} left"
        return Group(Text(head), table)
