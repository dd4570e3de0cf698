"""An engine in the test's own process: one job after the other, with a hook before each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from modsearch.config.records import Job, Record
from modsearch.config.runtime import Share, Signal
from modsearch.engines.contract import RunTrial

CORPUS = str(Path(__file__).resolve().parent.parent / "modsearch")
"""Small, so that looking for its files takes no time."""


class Inline:
    """Calls `before(n)` ahead of the n-th training, n from 1."""

    def __init__(
        self, before: Callable[[int], None], run_trial: RunTrial, workers: int | None, share: Share
    ) -> None:
        self.before = before
        self.run_trial = run_trial
        self.num_workers = 1
        self.count = 0

    @contextmanager
    def started(self) -> Iterator["Inline"]:
        """Nothing to start."""
        yield self

    def run(
        self,
        next_job: Callable[[], Job | Signal],
        on_record: Callable[[Job, Record], None],
    ) -> None:
        """Until there is nothing left."""
        while not isinstance(job := next_job(), Signal):
            self.count += 1
            self.before(self.count)
            on_record(job, self.run_trial(job))
        assert job is Signal.DONE


def quietly(number: int) -> None:
    """No hook."""


@contextmanager
def without_workers() -> Iterator[None]:
    """A search on this machine trains in this process: one job after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modsearch.engines.local.local", partial(Inline, quietly))
        yield
