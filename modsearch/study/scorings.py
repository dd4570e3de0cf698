"""Finished trials that are scored with the study's suite, by the engine that trained them."""

import time
from collections.abc import Set
from typing import TYPE_CHECKING

from modsearch.analysis.claims import study_claims
from modsearch.analysis.numbers import counted
from modsearch.analysis.recipes import best_of_cells
from modsearch.config.evaluation import UNSCORED
from modsearch.config.manifest import Manifest
from modsearch.config.records import Job, Record, Stage, State
from modsearch.config.runtime import Signal
from modsearch.errors import StudyError
from modsearch.evaluation.asked import Asked
from modsearch.evaluation.local_data import LocalData
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.store.trial import WEIGHTS
from modsearch.study.events import Trial
from modsearch.study.progress import Progress
from modsearch.study.stages import Stages
from modsearch.study.trials import Trials

if TYPE_CHECKING:
    from modsearch.study.work import Scorer

TOLD_SECONDS = 20.0
"""Between lines about how far it is."""


class Scorings:
    """Hands out finished trials that have no results of the suite yet, and takes them back."""

    def __init__(
        self, stages: Stages, trials: Trials, progress: Progress, manifest: Manifest
    ) -> None:
        self.stages = stages
        self.trials = trials
        self.progress = progress
        self.jobs = list(self._unscored(manifest)) if stages.space.suite is not None else []
        self.left = len(self.jobs)
        self._told = time.monotonic()

    def _unscored(self, manifest: Manifest) -> list[Job]:
        suite = self.stages.space.asked_suite
        assert suite is not None
        directory = self.trials.directory
        wanted = _wanted(directory, manifest, cells=suite.cells)
        if not wanted:
            return []
        local = LocalData.at(suite.data_dir)
        asked = Asked.of(suite.name, self.stages.space.data, local)
        found = []
        lost = 0
        for record in wanted:
            job = self.stages.scored(record, suite.scoring)
            results = asked.of_this(directory.evaluations(record.hash))
            if results is not None and asked.is_answered(results, job.fingerprint):
                continue
            # What another version has trained may be named by what this one does not ask for.
            if job.hash != record.hash or not (directory.trial(record.hash) / WEIGHTS).is_file():
                lost += 1
            else:
                found.append(job)
        if lost:
            self.progress.note(
                f"evaluate: {counted(lost, 'trial')} without weights that can be scored"
            )
        return found

    def next_job(self) -> Job | Signal:
        """The next trial to be scored."""
        return self.jobs.pop(0) if self.jobs else Signal.DONE

    def on_record(self, job: Job, record: Record) -> None:
        """A trial came back, with its results in its folder unless its reason says why not."""
        record = self.trials.fetch(job, record)
        self.left -= 1
        if record.state is not State.COMPLETE or record.reason is not None:
            why = (record.reason or "").removeprefix(UNSCORED)
            self.progress.note(f"{Trial.of(job)} is not scored: {why}")
        elif self.left and time.monotonic() - self._told > TOLD_SECONDS:
            self._told = time.monotonic()
            self.progress.note(f"evaluate: {self.left} left")


def check_suites(
    scorer: "Scorer", space: Space, fingerprint: str, begun: Set[Stage] = frozenset()
) -> None:
    """Whether what is to be scored can be scored, before anything of it is trained.

    Args:
        scorer: scores it.
        space: says which suites.
        fingerprint: of its text.
        begun: stages that have trials.

    Raises:
        ConfigError: a suite, a task or the objective's metric is unknown or wrong.
        DataError: a task's data is missing.
    """
    objective = space.explore.metric if space.explore is not None else None
    suite = space.asked_suite if space.confirm is not None else None
    for stage, asked in ((Stage.EXPLORE, objective), (Stage.CONFIRM, suite)):
        if asked is not None and stage not in begun:
            scorer.check(asked.scoring, space.data, space.vocab_sizes[0], fingerprint)


def refuse_other_objective(space: Space, directory: StudyDirectory) -> None:
    """Values of two suites are not ranked together: whether that of explore's objective is as it
    was when trials were scored with it.

    Raises:
        ConfigError: the suite is unknown or wrong.
        DataError: a file can't be read.
        StudyError: it has changed.
    """
    now = _objective(space)
    if now is None:
        return
    before = {each.objective.suite_hash for each in directory.records() if each.objective}
    if before - {None, now.identity}:
        raise StudyError(
            f"suite {now.file} of explore.objective has changed since trials of {directory.root} "
            f"were scored with it\nbring the old suite and its data back, or use another --out"
        )


def ranked_by(space: Space) -> tuple[str, str] | None:
    """Name of what explore ranks recipes by, and what its suite is; None: by the loss.

    Raises:
        ConfigError: the suite is unknown or wrong.
        DataError: a file can't be read.
    """
    objective = space.explore.metric if space.explore is not None else None
    now = _objective(space)
    return (objective.name, now.identity) if objective and now else None


def _objective(space: Space) -> Asked | None:
    """The suite of explore's objective as it is now."""
    objective = space.explore.metric if space.explore is not None else None
    if objective is None:
        return None
    return Asked.of(objective.suite, space.data, LocalData.at(objective.data_dir))


def _wanted(directory: StudyDirectory, manifest: Manifest, *, cells: bool) -> list[Record]:
    """Confirmed trials, of all sizes, and the best ones of measured cells."""
    records = directory.records()
    claims = study_claims(manifest, records)
    found = [record for each in claims.confirmed for record in each.all_records]
    return [*found, *best_of_cells(records).values()] if cells else found
