"""The trial directories of a running study: what is finished, fetched, or not kept."""

from contextlib import suppress
from typing import Literal

from modsearch.config.records import Job, Record, Stage, State
from modsearch.errors import first_line
from modsearch.store.directory import StudyDirectory
from modsearch.store.mirror import Mirror

WEIGHTS = "checkpoint/model.safetensors"


class Trials:
    """Results by job; `mirror` is the storage that workers write to, where there is one."""

    def __init__(
        self,
        directory: StudyDirectory,
        mirror: Mirror | None,
        keep: Literal["all", "winners", "none"],
    ) -> None:
        self.directory = directory
        self.mirror = mirror
        self.keep = keep

    def finished(self, trial_hash: str) -> Record | None:
        """The result of a training that need not be run again; without weights that are not
        kept."""
        record = self.directory.finished(trial_hash)
        if record is not None:
            self._drop_weights(record)
        return record

    def reject(self, job: Job, reason: str) -> Record:
        """Write down that a job can't be trained."""
        record = job.record(State.INFEASIBLE, reason=reason)
        self.directory.write_record(record)
        return record

    def settle(self, record: Record) -> None:
        """Write a failure down where the disk allows it; drop weights that are not kept."""
        if record.state is State.FAILED:
            with suppress(OSError):  # the disk may be what failed
                self.directory.write_record(record)
        else:
            self._drop_weights(record)

    def fetch(self, job: Job, record: Record) -> Record:
        """What a worker gave back, with its directory here."""
        if self.mirror is None:
            return record
        weights = () if self._keeps_weights(record) else (WEIGHTS,)
        try:
            folder = self.directory.trial(job.hash)
            self.mirror.pull(job.hash, folder, without=("checkpoint/resume.safetensors", *weights))
            for name in weights:
                self.mirror.remove(job.hash, name)
        except Exception as error:  # each file system has its own
            return job.record(State.FAILED, reason=f"storage: {first_line(error)}")
        return record

    def _drop_weights(self, record: Record) -> None:
        if not self._keeps_weights(record):
            (self.directory.trial(record.hash) / WEIGHTS).unlink(missing_ok=True)

    def _keeps_weights(self, record: Record) -> bool:
        return self.keep == "all" or (self.keep == "winners" and record.stage is Stage.CONFIRM)
