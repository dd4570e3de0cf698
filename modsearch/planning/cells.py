"""What a study's cells would train, and what they would reject."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from modsearch.analysis.arms import Kind, Roles, kind_of, roles
from modsearch.config.base import Frozen
from modsearch.config.data import CorpusFacts
from modsearch.config.model import ModelConfig
from modsearch.config.reading import Tree
from modsearch.config.records import Budget, Candidate, Plan, Stage
from modsearch.space.axes import spread
from modsearch.space.candidates import build
from modsearch.space.explore import ASKS_PER_TRIAL
from modsearch.space.points import at_point, drawn, grid, is_finite, leading_to, num_points
from modsearch.space.space import Space, over
from modsearch.training.budget import plan

MOST_PLANNED = 200
"""Of a cell are planned; those of a larger one stand for the rest."""
MOST_PLANS = 1500
"""Of a stage are planned where it has many cells, but `FEWEST_PLANNED` of each at the least."""
FEWEST_PLANNED = 10

MANY_EPOCHS = 4
"""Up to so many the same text is worth nearly as much as new text (Muennighoff et al. 2023, arXiv
2305.16264)."""

FactsOf = Callable[[ModelConfig], CorpusFacts]
"""What is known of the tokens of a model."""


@dataclass(frozen=True)
class Draft:
    """What a cell trains and what it rejects, before its costs are known.

    A grid trains what can be trained of the points; a sampler asks on until it has what is wanted.
    """

    stage: Stage
    arm: str
    budget: float
    asked: int
    """Points that the search may try."""
    planned: list[tuple[Candidate, Plan]]
    rejected: list[tuple[Candidate, str]]
    """With reasons."""
    runs: int = 1
    """Trainings of a point: seeds, or in confirm the runs of the last look."""
    most_asks: int | None = None
    """Of a sampler; None: a grid."""
    whole: bool = False
    """Whether all points there are were planned."""

    @property
    def tried(self) -> int:
        """Points that were planned, with success or without."""
        return len(self.planned) + len(self.rejected)

    @property
    def trials(self) -> int:
        """Trainings: all that are asked for, or their share where some points alone were
        planned."""
        if not self.tried:
            return 0
        share = len(self.planned) / self.tried
        if self.most_asks is None:
            return round(self.asked * share) * self.runs
        able = len(self.planned) if self.whole else round(self.most_asks * share)
        return min(self.asked, able)


def planned_cells(space: Space, facts_of: FactsOf) -> list[Draft]:
    """The cells of all stages, in the order in which the file has stages, budgets and arms."""
    cells: list[Draft] = []
    for budget in space.stated_budgets(Stage.EXPLORE):
        for arm in space.learned_arms:
            cells.append(_explored(space, arm, budget, facts_of))
    recipes = {arm: _recipe(space, arm, cells) for arm in space.learned_arms}
    for budget in space.stated_budgets(Stage.MEASURE):
        for arm in space.learned_arms:
            if not (sizes := space.sizes(budget, arm)):
                continue
            candidates = [
                build({**recipes[arm], "size": size}, space.data)
                for size in spread(sizes, _most_planned(space, Stage.MEASURE))
            ]
            assert space.measure is not None
            cell = _planned(Stage.MEASURE, arm, budget, len(sizes), candidates, facts_of)
            cells.append(replace(cell, runs=space.measure.seeds))
    measured = {(cell.arm, cell.budget): cell for cell in cells if cell.stage is Stage.MEASURE}
    for budget in space.stated_budgets(Stage.CONFIRM):
        for arm, settings in space.arms.items():
            base = settings.control_of or arm
            tree = over(recipes[base], settings) if settings.control_of else recipes[base]
            able = measured[base, budget].planned
            sizes = [
                {"depth": each.model.depth, "width": each.model.width} for each, _ in able
            ] or space.sizes(budget, base)
            middle = build({**tree, "size": sizes[len(sizes) // 2]}, space.data)
            assert space.confirm is not None
            cell = _planned(Stage.CONFIRM, arm, budget, 1, [middle], facts_of)
            cells.append(replace(cell, runs=space.confirm.looks[-1]))
    return cells


def _planned(
    stage: Stage,
    arm: str,
    budget: float,
    asked: int,
    candidates: list[Candidate],
    facts_of: FactsOf,
) -> Draft:
    cell = Draft(stage, arm, budget, asked, [], [])
    for candidate in candidates:
        facts = facts_of(candidate.model)
        spent = plan(candidate, Budget(flops=budget), facts.train_tokens, facts.vocab_size)
        if isinstance(spent, Plan):
            cell.planned.append((candidate, spent))
        else:
            cell.rejected.append((candidate, spent.reason))
    return cell


def _most_planned(space: Space, stage: Stage) -> int:
    """Points of one cell that are planned."""
    cells = len(space.learned_arms) * len(space.stated_budgets(stage))
    return min(MOST_PLANNED, max(FEWEST_PLANNED, MOST_PLANS // cells))


def _explored(space: Space, arm: str, budget: float, facts_of: FactsOf) -> Draft:
    """A cell of explore: all of its points, or a sample of them where they are many."""
    explore = space.explore
    assert explore is not None
    tree = space.explored(arm)
    asked = space.num_trials(Stage.EXPLORE, arm, budget)
    count = num_points(tree) if is_finite(tree) else None
    most = _most_planned(space, Stage.EXPLORE)
    whole = count is not None and count <= most
    if whole:
        points = [at_point(tree, point) for point in grid(tree)]
    else:
        draws = Random(0)
        points = [drawn(tree, draws) for _ in range(most)]
    asked = min(asked, count) if count is not None else asked
    candidates = [build(point, space.data) for point in points]
    cell = _planned(Stage.EXPLORE, arm, budget, asked, candidates, facts_of)
    most_asks = None if explore.is_grid else ASKS_PER_TRIAL * asked
    return replace(cell, most_asks=most_asks, whole=whole)


def _recipe(space: Space, arm: str, explored: list[Draft]) -> Tree:
    """Explore's first recipe that can be trained stands for the one that it will choose."""
    for cell in explored:
        if cell.arm == arm and cell.planned:
            candidate, _ = cell.planned[0]
            model = candidate.model.model_dump(exclude={"depth", "width"})
            return {"model": model, "optim": candidate.optim.model_dump()}
    recipe = leading_to(space.recipe(arm), {})
    assert isinstance(recipe, dict)
    return recipe


def roles_of(space: Space, cells: list[Draft]) -> Roles:
    """Which arms are compared with which, by what their models do; an arm with nothing that can
    be trained is known by what was rejected."""
    kinds: dict[str, Kind] = {}
    for cell in cells:
        if cell.planned:
            candidate, spent = cell.planned[0]
            kinds[cell.arm] = kind_of(candidate.model, spent)
        elif cell.rejected:
            kinds.setdefault(cell.arm, kind_of(cell.rejected[0][0].model, None))
    return roles(space.learned_arms, kinds)


class Rejection(Frozen):
    """A candidate that can't be trained at its budget."""

    depth: int
    width: int
    recipe: dict[str, Any]
    """What tells it from the others of its cell beside its size."""
    reason: str


class PlannedCell(Frozen):
    """One arm at one budget in one stage."""

    stage: Stage
    arm: str
    budget: float
    trials: int
    points_asked: int
    points_planned: int
    """Those of a large cell stand for the rest."""
    steps: list[int]
    """Of each planned point that can be trained, and so are `params`."""
    params: list[int]
    epochs: float
    """The most."""
    seconds: float
    """Of all trials, one after the other."""
    longest_seconds: float
    """Of one trial."""
    head_share: float
    """The largest share of the LM head in the forward FLOPs."""
    head_shares: dict[int, float]
    """The same of each `vocab_size`."""
    memory_bytes: int
    """The most that a trial takes, its process included."""
    rejected: list[Rejection]
