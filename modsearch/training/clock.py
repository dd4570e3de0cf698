"""Where a training's time goes: a stop watch whose marks cost nothing that counts."""

import time
from collections.abc import Mapping

import torch

from modsearch.config.records import TRAINING_PHASES


class Clock:
    """Seconds by phase, from one mark to the next.

    On a GPU, which works behind the program that asks it to, marks are events in its queue, and
    their distances are known when they are read.
    """

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"
        self._seconds = dict.fromkeys(TRAINING_PHASES, 0.0)
        self._last = time.perf_counter()
        self._events: list[tuple[str | None, torch.cuda.Event]] = []

    def start(self) -> None:
        """What was since the last mark is of no phase."""
        if self._on_gpu:
            self._record(None)
        else:
            self._last = time.perf_counter()

    def mark(self, phase: str) -> None:
        """What was since the last mark is of this phase."""
        if self._on_gpu:
            self._record(phase)
        else:
            now = time.perf_counter()
            self._seconds[phase] += now - self._last
            self._last = now

    def _record(self, phase: str | None) -> None:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # untyped in torch
        event.record()
        self._events.append((phase, event))

    def read(self) -> Mapping[str, float]:
        """Seconds of each phase until now; waits for the GPU."""
        if self._events:
            self._events[-1][1].synchronize()
            for (_, before), (phase, event) in zip(
                self._events[:-1], self._events[1:], strict=True
            ):
                if phase is not None:
                    self._seconds[phase] += before.elapsed_time(event) / 1000
            del self._events[:-1]
        return dict(self._seconds)
