"""What is asked of one trial's record everywhere."""

import json
import math

from modsearch.config.records import Record, Stage, State


def finished(record: Record) -> bool:
    """Whether a trial has scores that can be used."""
    return (
        record.state is State.COMPLETE
        and record.plan is not None
        and record.scores is not None
        and math.isfinite(record.scores.causal_loss)
    )


def causal_loss(record: Record) -> float:
    """Of a finished trial."""
    assert record.scores is not None
    return record.scores.causal_loss


def is_scored(record: Record, stage: Stage) -> bool:
    """Whether a trial of a stage is finished."""
    return record.stage is stage and finished(record)


def size_of(record: Record) -> tuple[int, int]:
    """Depth and width."""
    return record.candidate.model.depth, record.candidate.model.width


def recipe_key(record: Record) -> str:
    """Identity of everything of a candidate that is not its size."""
    recipe = record.candidate.model_dump(mode="json", exclude={"data": True})
    del recipe["model"]["depth"], recipe["model"]["width"]
    return json.dumps(recipe, sort_keys=True)


def trial_order(record: Record) -> tuple[object, ...]:
    """Stage, budget, arm, size, seed."""
    model = record.candidate.model
    stage = list(Stage).index(record.stage)
    size = (model.depth, model.width)
    return stage, record.budget.flops, record.arm, *size, record.seed, record.hash
