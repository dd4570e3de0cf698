"""Which seed a trial has: a function of the study's seed, the stage, and the run's number."""

from modsearch.config.records import Stage

PER_STUDY = 1000
STARTS = {Stage.EXPLORE: 0, Stage.MEASURE: 1, Stage.CONFIRM: 100}
MOST_MEASURED = STARTS[Stage.CONFIRM] - STARTS[Stage.MEASURE]
"""Seeds of measure, none of which is one of confirm."""


def trial_seed(study_seed: int, stage: Stage, index: int = 0) -> int:
    """Seed of a trial: one in explore, others in measure, fresh ones in confirm.

    What explore trains again has the seeds that measure would come to last.
    """
    first = study_seed * PER_STUDY
    if stage is Stage.EXPLORE and index:
        assert index < MOST_MEASURED
        return first + STARTS[Stage.CONFIRM] - index
    return first + STARTS[stage] + index


def run_index(seed: int, study_seed: int) -> int:
    """Which of confirm's runs of an arm has a seed."""
    return seed - trial_seed(study_seed, Stage.CONFIRM)
