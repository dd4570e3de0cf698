"""Suites in the loop of a study: trials are scored where they are trained.

A study and its workers have this at hand from the start; lm-eval, which takes seconds to import,
comes with the first trial that is scored.
"""

from pathlib import Path

from modsearch.config.data import DataConfig
from modsearch.config.evaluation import Ranked, Scoring
from modsearch.config.records import Job
from modsearch.config.shipped import is_shipped
from modsearch.errors import DataError
from modsearch.evaluation.asked import Asked, Part
from modsearch.evaluation.local_data import LocalData
from modsearch.evaluation.objectives import check_objective, ranked
from modsearch.evaluation.origins import origin_of
from modsearch.evaluation.suites import Suite, load_suite
from modsearch.store.directory import evaluations_in


class Scorer:
    """lm-eval, behind the seam that a study has for it."""

    def check(self, scoring: Scoring, data: DataConfig, vocab_size: int, fingerprint: str) -> None:
        """Whether models can be scored as a study wants them to be: what is wrong with a suite or
        its data is said before anything is trained.

        Raises:
            ConfigError: the suite, a task or the objective's metric is unknown or wrong.
            DataError: a task's data is missing.
        """
        plan, path = load_suite(scoring.suite)
        if scoring.objective is None and plan.is_self_contained and is_shipped("evals", path):
            _check_text(plan, path, data, scoring.part, vocab_size, fingerprint)
            return  # nothing else can be wrong
        from modsearch.evaluation.evaluate import checked_metrics

        suite, part, local = scoring.suite, scoring.part, LocalData.at(scoring.data_dir)
        metrics, groups = checked_metrics(suite, data, part, vocab_size, fingerprint, local)
        if scoring.objective is not None:
            check_objective(scoring.objective, metrics, groups)

    def score(self, trial: Path, job: Job) -> Ranked | None:
        """Score a trained trial as its job says, and write `eval/SUITE.json`; what is there
        already is kept.

        Args:
            trial: its folder.
            job: with a scoring.

        Returns:
            What the trial's cell is searched by; None where that is its loss.

        Raises:
            ConfigError: the suite is unknown or wrong.
            DataError: a task's data is missing, or the corpus is another one.
            StudyError: there are no weights, or they are damaged.
        """
        scoring, data = job.scoring, job.candidate.data
        assert scoring is not None
        local = LocalData.at(scoring.data_dir)
        asked = Asked.of(scoring.suite, data, local)
        found = asked.of_this(evaluations_in(trial))
        if found is None or not asked.is_answered(found, job.fingerprint, scoring.part):
            from modsearch.evaluation.evaluate import answered

            device, part = job.runtime.device, scoring.part
            found = answered(trial, asked, data, part, device, job.fingerprint, local)
        return None if scoring.objective is None else ranked(found, scoring.objective)


def _check_text(
    plan: Suite, path: Path, data: DataConfig, part: Part, vocab_size: int, fingerprint: str
) -> None:
    """Whether there is text enough for a suite's documents.

    Raises:
        DataError: there is too little.
    """
    origin, _ = origin_of(plan, path, data, part, vocab_size, fingerprint)
    for task in plan.tasks:
        source = task.source()
        try:
            if source is not None:
                source.documents(origin)
        except DataError as error:
            raise DataError(f"{path}: task `{task.task}`: {error}") from error
