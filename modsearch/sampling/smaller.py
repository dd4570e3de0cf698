"""What an arm's smaller budgets have said of the configurations of a larger one."""

from modsearch.config.priors import Prior
from modsearch.config.records import Candidate
from modsearch.errors import ConfigError
from modsearch.space.matching import match
from modsearch.space.samplers import Ask, Point

MOST_KEPT = 10_000
"""Points that are kept in memory."""

_POINTS: dict[tuple[str, str], Point | None] = {}
"""By tree and configuration: finding them takes longer than an ask."""


def from_smaller(ask: Ask) -> tuple[Prior, ...]:
    """The finished trials of smaller budgets, of the same arm and stage, in the order of their
    names.

    Raises:
        ConfigError: the cell has several objectives.
    """
    spec = ask.spec
    if spec.prices:
        raise ConfigError(
            "smaller_first goes by one objective\n"
            "leave it out of explore.sampler, or the prices out of explore.objective"
        )
    mine = [
        record
        for _, record in sorted(ask.records().items())
        if record.stage is spec.stage and record.arm == spec.arm and record.scores is not None
    ]
    # Where a metric ranks, what has none yet is no trial of the search.
    ranked = [record for record in mine if record.objective is not None] or mine
    below = [record for record in ranked if record.budget.flops < spec.budget]
    points = [_point(ask, record.candidate) for record in below]
    return tuple(
        Prior(point=point, budget=record.budget.flops, loss=record.cost)
        for record, point in zip(below, points, strict=True)
        if point is not None
    )


def _point(ask: Ask, candidate: Candidate) -> Point | None:
    """None where the arm was another one when that was trained."""
    key = repr(ask.spec.tree), candidate.model_dump_json(exclude={"data"})
    if key not in _POINTS:
        if len(_POINTS) >= MOST_KEPT:
            _POINTS.clear()
        found = match(ask.spec.tree, candidate)
        _POINTS[key] = found.point if found is not None and not found.unlike else None
    return _POINTS[key]
