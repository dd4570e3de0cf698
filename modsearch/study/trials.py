"""The trial directories of a running study: what is finished, fetched, or not kept."""

from contextlib import suppress
from typing import Literal

from modsearch.analysis.recipes import best_of_recipes
from modsearch.config.records import Job, Record, Stage, State
from modsearch.errors import first_line
from modsearch.store.directory import StudyDirectory
from modsearch.store.mirror import Mirror
from modsearch.store.trial import WEIGHTS
from modsearch.study.reuse import Reuse


class Trials:
    """Results by job; `mirror` is the storage that workers write to, where there is one, and
    `cells` says whether each measured cell keeps its best weights."""

    def __init__(
        self,
        directory: StudyDirectory,
        mirror: Mirror | None,
        keep: Literal["all", "winners", "none"],
        *,
        cells: bool = False,
        reuse: Reuse | None = None,
    ) -> None:
        self.directory = directory
        self.cells = cells
        self.reuse = reuse
        self.mirror = mirror
        self.keep = keep
        self._known: dict[str, Record] | None = None
        """All records by their hashes; None where no cell keeps its best weights."""
        self._best: set[str] = set()
        """Hashes of those whose weights cells keep."""
        if cells:
            self._known = {record.hash: record for record in directory.records()}
            self._best = {best.hash for best in best_of_recipes([*self._known.values()])}

    def finished(self, job: Job) -> Record | None:
        """The result of a job that need not be run again; without weights that are not kept."""
        record = self.directory.finished(job.hash) or self._taken(job)
        if record is None or is_unscored(job, record):
            return None
        if record.state is State.STOPPED and job.stopping is None:
            return None  # explore has stopped what this stage wants whole
        self._drop_weights(record)
        return record

    def _taken(self, job: Job) -> Record | None:
        """The result of another study, which lies here now; with weights where some of its kind
        are kept."""
        if self.reuse is None:
            return None
        kept = self.keep == "all" or (
            self.keep == "winners"
            and (job.stage is Stage.CONFIRM or (self.cells and job.stage is Stage.MEASURE))
        )
        record = self.reuse.take(job, self.directory, weights=kept)
        if record is not None:
            self._note_best(record)
            if self.mirror is not None:
                self.mirror.push(job.hash, self.directory.trial(job.hash), {})
        return record

    def reject(self, job: Job, reason: str) -> Record:
        """Write down that a job can't be trained."""
        record = job.record(State.INFEASIBLE, reason=reason)
        self.directory.write_record(record)
        return record

    def settle(self, record: Record) -> None:
        """Write a failure down where the disk allows it; drop weights that are not kept."""
        self._note_best(record)
        if record.state is State.FAILED:
            with suppress(OSError):  # the disk may be what failed
                self.directory.write_record(record)
        else:
            self._drop_weights(record)

    def fetch(self, job: Job, record: Record) -> Record:
        """What a worker gave back, with its directory here."""
        if self.mirror is None:
            return record
        self._note_best(record)
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
        if self.keep == "all" or (self.keep == "winners" and record.stage is Stage.CONFIRM):
            return True
        # By name: one that could not be scored comes back with the reason.
        return record.hash in self._best

    def _note_best(self, record: Record) -> None:
        """The one that was the best of its cell before keeps its weights no longer."""
        if self._known is None:
            return
        self._known[record.hash] = record
        before = self._best
        self._best = {best.hash for best in best_of_recipes([*self._known.values()])}
        for name in before - self._best:
            self._drop_weights(self._known[name])


def is_unscored(job: Job, record: Record) -> bool:
    """Whether a trial is trained and lacks what its cell is searched by."""
    if record.state is not State.COMPLETE:
        return False
    searched = job.scoring is not None and job.scoring.objective is not None
    return (searched and record.objective is None) or bool(job.prices and record.prices is None)
