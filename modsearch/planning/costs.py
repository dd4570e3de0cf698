"""What a cell costs: steps, memory and hours of its trials on this machine."""

from typing import Any

from modsearch.config.records import Candidate
from modsearch.planning.cells import Draft, PlannedCell, Rejection
from modsearch.planning.room import Memories
from modsearch.planning.speed import Speed
from modsearch.space.points import open_axes
from modsearch.space.space import Space


def costs(space: Space, cell: Draft, speed: Speed, memories: Memories, base: int) -> PlannedCell:
    """Of a cell; `base` is the memory of a process that trains nothing yet."""
    plans = [spent for _, spent in cell.planned]
    sample = space.validation(cell.stage)
    seconds = [speed.seconds(candidate, spent, sample) for candidate, spent in cell.planned]
    needed = memories.largest(cell.planned)[1] if cell.planned else 0
    return PlannedCell(
        stage=cell.stage,
        arm=cell.arm,
        budget=cell.budget,
        trials=cell.trials,
        points_asked=cell.asked,
        points_planned=cell.tried,
        steps=[spent.steps for spent in plans],
        params=[spent.params for spent in plans],
        epochs=max((spent.epochs for spent in plans), default=0.0),
        seconds=cell.trials * sum(seconds) / len(seconds) if seconds else 0.0,
        longest_seconds=max(seconds, default=0.0),
        head_share=max((spent.head_share for spent in plans), default=0.0),
        head_shares=_head_shares(cell),
        memory_bytes=base + needed,
        rejected=[
            Rejection(
                depth=candidate.model.depth,
                width=candidate.model.width,
                recipe=_differing(candidate, space, cell.arm),
                reason=reason,
            )
            for candidate, reason in cell.rejected
        ],
    )


def _head_shares(cell: Draft) -> dict[int, float]:
    found: dict[int, float] = {}
    for candidate, spent in cell.planned:
        size = candidate.model.vocab_size
        found[size] = max(spent.head_share, found.get(size, 0.0))
    return found


def _differing(candidate: Candidate, space: Space, arm: str) -> dict[str, Any]:
    """What tells a candidate from the others of its cell beside its size: its open values."""
    found: dict[str, Any] = {}
    values = {"model": candidate.model.model_dump(), "optim": candidate.optim.model_dump()}
    for path in open_axes(space.recipe(space.arms[arm].control_of or arm)):
        section, key, *_ = path.split(".")
        name = "rate_schedule" if (section, key) == ("optim", "schedule") else key
        found[name] = values[section][key]
    return found
