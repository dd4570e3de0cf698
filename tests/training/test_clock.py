"""Seconds of a training, by phase."""

import pytest

from modsearch.config.records import TRAINING_PHASES
from modsearch.training import clock as of_clock
from modsearch.training.clock import Clock


def test_time_belongs_to_the_mark_that_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 5.0, 6.0, 6.5, 7.5])
    monkeypatch.setattr(of_clock.time, "perf_counter", lambda: next(moments))
    clock = Clock("cpu")
    clock.start()  # what was before is of no phase
    clock.mark("forward")
    clock.mark("backward")
    clock.mark("forward")
    found = clock.read()
    assert tuple(found) == TRAINING_PHASES
    assert found == {"data": 0, "forward": 2.0, "backward": 0.5, "optimizer": 0}
