"""What an engine is: it executes jobs, and knows neither stages nor a ledger."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, Self

from modsearch.config.records import Job, Record
from modsearch.config.runtime import Share, Signal

RunTrial = Callable[[Job], Record]
"""What a trial is, in whatever process."""


class Engine(Protocol):
    """Executes jobs, as many at once as it has workers."""

    num_workers: int

    def started(self) -> AbstractContextManager[Self]:
        """Workers live inside this context."""

    def run(
        self,
        next_job: Callable[[], Job | Signal],
        on_record: Callable[[Job, Record], None],
    ) -> None:
        """Pull jobs and push records until there is nothing left."""


MakeEngine = Callable[[RunTrial, int | None, Share], Engine]
"""An engine from what a trial is, the workers that were asked for, and what a trial takes."""
