"""Which recipe of an arm counts, by its finished trials, and what that choice may have missed."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev

from modsearch.analysis.curves import LUCK
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


def measured(records: Sequence[Record], arm: str) -> list[Record]:
    """An arm's finished trials of `measure`, all of one recipe.

    A study that was extended may hold a second recipe; the one that explore ranks first
    counts, or else the one with most trials.
    """
    recipes = _measured_recipes(records, arm)
    first = min(recipes, key=lambda key: (-len(recipes[key]), key), default=None)
    return recipes[first] if first is not None else []


def _measured_recipes(records: Sequence[Record], arm: str) -> dict[str, list[Record]]:
    """The same of every recipe that counts, or may with more trials: the one that explore ranks
    first, or else all."""
    recipes: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.hash):
        if record.arm == arm and is_scored(record, Stage.MEASURE):
            recipes[recipe_key(record)].append(record)
    best = best_recipe(records, arm)
    wanted = recipe_key(best) if best is not None else None
    return {wanted: recipes[wanted]} if wanted in recipes else recipes


def best_of_cells(records: Sequence[Record]) -> dict[tuple[str, float], Record]:
    """The measured trial with the lowest loss of each arm and budget, of the arm's one recipe."""
    found: dict[tuple[str, float], Record] = {}
    for arm in sorted({record.arm for record in records}):
        for record in _by_loss(measured(records, arm)):
            found.setdefault((arm, record.budget.flops), record)
    return found


def best_of_recipes(records: Sequence[Record]) -> list[Record]:
    """The same of each recipe of an arm that counts, or may with more trials: what was the best of
    its recipe must be there still when that one has most trials."""
    found: dict[tuple[str, str, float], Record] = {}
    for arm in sorted({record.arm for record in records}):
        for key, rows in _measured_recipes(records, arm).items():
            for record in _by_loss(rows):
                found.setdefault((arm, key, record.budget.flops), record)
    return [*found.values()]


def _by_loss(rows: Sequence[Record]) -> list[Record]:
    return sorted(rows, key=lambda record: (causal_loss(record), record.hash))


def explored(records: Sequence[Record], arm: str) -> list[list[Record]]:
    """An arm's finished trials of `explore` at its largest budget, by recipe, best first.

    Best is the lowest loss, or the best value of the objective where explore has one. A trial is
    as noisy as what recipes differ by, so that where all recipes were tried at the same sizes, as
    in a grid, a recipe counts by its mean; elsewhere by its best trial.
    """
    rows = [record for record in records if record.arm == arm and is_scored(record, Stage.EXPLORE)]
    if any(record.objective is not None for record in rows):
        rows = [record for record in rows if record.objective is not None]
    largest = max((record.budget.flops for record in rows), default=0.0)
    recipes: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(rows, key=lambda record: (record.cost, record.hash)):
        if record.budget.flops == largest:
            recipes[recipe_key(record)].append(record)
    sizes = {tuple(sorted(map(size_of, group))) for group in recipes.values()}

    def rank(group: list[Record]) -> tuple[float, str]:
        costs = [record.cost for record in group]
        return (fmean(costs) if len(sizes) == 1 else costs[0], group[0].hash)

    return sorted(recipes.values(), key=rank)


def best_recipe(records: Sequence[Record], arm: str) -> Record | None:
    """The best trial of the recipe that `explore` ranks first."""
    ranked = explored(records, arm)
    return ranked[0][0] if ranked else None


def missed(records: Sequence[Record], arm: str, chosen: str, sd: float) -> float:
    """How much lower the loss of the arm's best recipe may be than that of the chosen one, in
    nats: the 95 % upper limit, at least 0, by what `explore` saw of the others.

    Explore's few trials of a recipe choose it, and fresh seeds do not undo a wrong choice. The
    error of a difference comes from `sd`, that of one trial, or from the scatter of the
    differences over sizes that both were tried at, if that is larger.
    """
    ranked = explored(records, arm)
    mine = [group for group in ranked if recipe_key(group[0]) == chosen]
    if not mine:
        return 0.0
    own = {size_of(record): causal_loss(record) for record in mine[0]}
    limits = [0.0]
    for group in ranked:
        if group is not mine[0]:
            other = {size_of(record): causal_loss(record) for record in group}
            error = sd * math.sqrt(1 / len(own) + 1 / len(other))
            gaps = [own[size] - other[size] for size in sorted(own.keys() & other.keys())]
            if len(gaps) > 1:
                error = max(error, stdev(gaps) / math.sqrt(len(gaps)))
            limits.append(fmean(own.values()) - fmean(other.values()) + LUCK * error)
    return max(limits)


def trial_order(record: Record) -> tuple[object, ...]:
    """Stage, budget, arm, size, seed."""
    model = record.candidate.model
    stage = list(Stage).index(record.stage)
    size = (model.depth, model.width)
    return stage, record.budget.flops, record.arm, *size, record.seed, record.hash
