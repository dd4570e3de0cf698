"""What a worker does with a job: train it, and score it where the job says so."""

from pathlib import Path
from typing import Protocol

from modsearch.config.data import DataConfig
from modsearch.config.evaluation import MEASURED, UNSCORED, Ranked, Scoring
from modsearch.config.records import Job, Record, State
from modsearch.errors import first_line
from modsearch.registry.plugins import load_plugins
from modsearch.store.directory import StudyDirectory
from modsearch.store.lock import alone
from modsearch.store.mirror import Mirror
from modsearch.store.scratch import scratch
from modsearch.store.trial import WEIGHTS
from modsearch.training.pricing import prices_of
from modsearch.training.trial import run_trial, threads


class Scorer(Protocol):
    """Scores trials with suites; it goes to workers, and is lm-eval behind a seam."""

    def check(self, scoring: Scoring, data: DataConfig, vocab_size: int, fingerprint: str) -> None:
        """Raise what is wrong with a suite or its data."""

    def score(self, trial: Path, job: Job) -> Ranked | None:
        """Score the trained trial in a folder, and answer with what its cell is searched by."""


def run_job(root: Path, scorer: Scorer | None, job: Job) -> Record:
    """Train a job in its directory under `root`, and score what it says.

    A training that is there already is scored alone. Where scoring fails, the trial is what it was
    without; the reason of the record that is answered says why, and is not written.
    """
    record = _priced(root, job, run_trial(root, job))
    if job.scoring is None or scorer is None or record.state is not State.COMPLETE:
        return record
    if job.scoring.objective is not None and record.objective is not None:
        return record  # of an earlier run, whose weights may be gone
    study = StudyDirectory(root)
    trial = study.trial(job.hash)
    if job.scoring.objective is not None and not (trial / WEIGHTS).is_file():
        # Stopped before it was scored, and its weights are gone.
        record = _priced(root, job, _again(trial, root, job))
    try:
        load_plugins(job.plugins)
        with alone(trial), threads(job.runtime.threads):
            value = scorer.score(trial, job)
        if value is not None:
            record = record.model_copy(update={"objective": value})
            study.write_record(record)
    except Exception as error:  # whatever it is, it must not end the study
        return record.model_copy(update={"reason": f"{UNSCORED}{first_line(error)}"})
    return record


def _again(trial: Path, root: Path, job: Job) -> Record:
    """A training whose record is there, and whose weights are gone."""
    (trial / "result.json").unlink()
    return run_trial(root, job)


def _priced(root: Path, job: Job, record: Record) -> Record:
    """A record with the prices that its job asks for; without, where it is not finished, and with
    the reason where they can't be told."""
    if record.scores is None or record.prices is not None or not job.prices:
        return record
    study = StudyDirectory(root)
    trial = study.trial(job.hash)
    try:
        if not (trial / WEIGHTS).is_file() and not MEASURED.isdisjoint(job.prices):
            record = _again(trial, root, job)
        if record.scores is None:
            return record
        load_plugins(job.plugins)
        with alone(trial), threads(job.runtime.threads):
            found = prices_of(trial, job, record.scores)
        record = record.model_copy(update={"prices": found})
        study.write_record(record)
    except Exception as error:  # whatever it is, it must not end the study
        return record.model_copy(update={"reason": f"{UNSCORED}{first_line(error)}"})
    return record


def run_mirrored(mirror: Mirror, scorer: Scorer | None, job: Job) -> Record:
    """The same in a folder of this machine, with a copy on a storage that others go on from."""
    with scratch("modsearch-trial-") as root:
        directory = StudyDirectory(root).trial(job.hash)
        try:
            with mirror.leased(job.hash):
                mirror.pull(job.hash, directory)
                with mirror.following(job.hash, directory, job.runtime.checkpoint_seconds):
                    return run_job(root, scorer, job)
        except Exception as error:  # each file system has its own
            return job.record(State.FAILED, reason=f"storage: {first_line(error)}")
