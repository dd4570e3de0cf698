"""What an engine is: it executes jobs, and knows neither stages nor a ledger."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, Self

from modsearch.config.records import Job, Record, State
from modsearch.config.runtime import Share, Signal

TRIES = 3
"""Of a job whose worker dies."""

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


def given_up(job: Job, why: str = "") -> Record:
    """Of a job whose workers have died so many times; `why` is the last one's own word."""
    passes = f" with micro_batch {job.micro_batch}" if job.micro_batch is not None else ""
    said = f": {why}" if why else ""
    return job.record(State.FAILED, reason=f"its worker died {TRIES} times{passes}{said}")


MakeEngine = Callable[[RunTrial, int | None, Share], Engine]
"""An engine from what a trial is, the workers that were asked for, and what a trial takes."""
