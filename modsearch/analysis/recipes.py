"""Which recipe of an arm counts, by its finished trials, and what that choice may have missed."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from modsearch.analysis.believed import MIN_BELIEVED, believed
from modsearch.analysis.curves import LUCK
from modsearch.analysis.trials import causal_loss, is_scored, recipe_key, size_of
from modsearch.config.records import Record, Stage


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
    in a grid, a recipe counts by its mean. Where trials were drawn it counts by its best size: by
    the loss that is believed by all of them (`believed`), or by the lowest one where explore has
    an objective or few trials.
    """
    rows = [record for record in records if record.arm == arm and is_scored(record, Stage.EXPLORE)]
    if any(record.objective is not None for record in rows):
        rows = [record for record in rows if record.objective is not None]
    largest = max((record.budget.flops for record in rows), default=0.0)
    recipes: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(rows, key=lambda record: (record.cost, record.hash)):
        if record.budget.flops == largest:
            recipes[recipe_key(record)].append(record)
    ranks = _ranks(rows, recipes)
    return [recipes[key] for key in sorted(recipes, key=lambda k: (ranks[k], recipes[k][0].hash))]


def _ranks(rows: Sequence[Record], recipes: Mapping[str, Sequence[Record]]) -> dict[str, float]:
    """What a recipe counts by, lower is better, by all trials and those of the largest
    budget."""
    sizes = {tuple(sorted(map(size_of, group))) for group in recipes.values()}
    if len(sizes) == 1:
        return {key: fmean(record.cost for record in group) for key, group in recipes.items()}
    if len(rows) < MIN_BELIEVED or any(record.objective is not None for record in rows):
        return {key: group[0].cost for key, group in recipes.items()}
    found: dict[str, float] = {}
    for loss, group in believed(rows):
        found.setdefault(recipe_key(group[0]), loss)
    return found


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
