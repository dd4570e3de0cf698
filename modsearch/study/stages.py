"""The cells of each stage, and the training that a point of one means.

Measure builds on explore's results and confirm on measure's; they are read from the records. Both
go on in rounds: a ladder whose minimum lies at its end is extended, and confirm's runs are added
until the headline is known.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from modsearch.analysis.choice import MOST_EXTENSIONS, at_the_ends, next_width
from modsearch.analysis.fits import fit_curves
from modsearch.analysis.recipes import best_recipe
from modsearch.analysis.trials import recipe_key, size_of
from modsearch.config.data import CorpusFacts
from modsearch.config.design import Chosen, Size
from modsearch.config.evaluation import Scoring
from modsearch.config.model import ModelConfig
from modsearch.config.reading import Tree
from modsearch.config.records import Budget, Job, Record, Stage, State
from modsearch.config.runtime import Plugin, Runtime
from modsearch.config.seeds import run_index, trial_seed
from modsearch.errors import StudyError
from modsearch.space.axes import Int
from modsearch.space.candidates import build
from modsearch.space.points import at_point, grid
from modsearch.space.samplers import SAMPLERS, SEED, SEEDS, CellSpec, sampler_of
from modsearch.space.space import Space, over
from modsearch.store.directory import StudyDirectory
from modsearch.study.made_with import used_by
from modsearch.training.budget import plan

ANY_SIZE = Int(1, 1_000_000, 1)


class Stages:
    """What a study trains, by what was asked and what has come back."""

    def __init__(
        self,
        space: Space,
        directory: StudyDirectory,
        facts_of: Callable[[ModelConfig], CorpusFacts],
        runtime: Runtime,
        plugins: tuple[Plugin, ...],
    ) -> None:
        self.space = space
        self.directory = directory
        self.facts_of = facts_of
        self.runtime = runtime
        self.plugins = plugins
        self._seconds: dict[tuple[str, str], float] = {}

    @property
    def wanted(self) -> list[Stage]:
        """Stages that the space asks for, in their order."""
        return [stage for stage in Stage if self.space.budgets(stage)]

    def cells(self, stage: Stage) -> list[CellSpec]:
        """The cells of explore or measure, as the space has them.

        Raises:
            StudyError: an earlier stage has not what this one needs.
        """
        explore = self.space.explore if stage is Stage.EXPLORE else None
        make = self._explore_cell if explore else self._measure_cell
        # Of cells whose samplers draw, the driver asks the first one that is open.
        upwards = explore is not None and sampler_of(explore.sampler).smaller_first
        return [
            make(arm, budget)
            for budget in sorted(self.space.budgets(stage), reverse=not upwards)
            for arm in self.space.learned_arms
            if stage is Stage.EXPLORE or self.space.sizes(budget, arm)
        ]

    def rounds(self, stage: Stage) -> list[list[CellSpec]]:
        """The same, in the rounds in which they are trained: a sampler that chooses the sizes of
        measure has those of smaller budgets to go by."""
        cells = self.cells(stage)
        if stage is Stage.EXPLORE or self.measures_all:
            return [cells]
        budgets = reversed(self.space.budgets(stage))
        return [[cell for cell in cells if cell.budget == budget] for budget in budgets]

    @property
    def measures_all(self) -> bool:
        """Whether every size of the ladder is trained."""
        return self.space.measure is None or self.space.measure.is_grid

    def extended(self) -> list[CellSpec]:
        """Cells of measure whose minimum lies at an end of a ladder, at budgets that confirm is
        about, each with one more size there.

        A minimum at an end has no neighbour to be confirmed with. A size that could not be
        trained, and a ladder that has grown by `MOST_EXTENSIONS`, end it. None where a sampler
        has chosen the sizes.
        """
        confirm = self.space.confirm
        if confirm is None or confirm.seeds is not None or not self.measures_all:
            return []
        found = []
        records = self.directory.records()
        curves = fit_curves(records)
        for budget in self.space.budgets(Stage.CONFIRM):
            for arm in self.space.learned_arms:
                ends = at_the_ends(curves, arm, budget)
                if more := self._beyond(records, arm, budget, ends):
                    found.append(self._measure_cell(arm, budget, more))
        return found

    def _beyond(
        self,
        records: Sequence[Record],
        arm: str,
        budget: float,
        ends: Sequence[tuple[Size, int]],
    ) -> list[Size]:
        """Sizes that are not the space's: those that were tried, and one more beyond each end;
        none where those were tried, too."""
        asked = {(size["depth"], size["width"]) for size in self.space.sizes(budget, arm)}
        tried = asked | {
            size_of(record)
            for record in records
            if (record.stage, record.arm, record.budget.flops) == (Stage.MEASURE, arm, budget)
            and record.state is not State.FAILED
        }
        more = []
        for size, direction in ends:
            widths = sorted(width for depth, width in tried if depth == size.depth)
            grown = sum(depth == size.depth for depth, _ in tried - asked)
            width = next_width(widths, direction)
            if width is None or grown >= MOST_EXTENSIONS:
                continue
            if not any((each - size.width) * direction > 0 for each in widths):
                more.append((size.depth, width))
        sizes = [*sorted(tried - asked), *more] if more else []
        return [Size(depth=depth, width=width) for depth, width in sizes]

    def looked(self, chosen: Chosen, count: int) -> list[CellSpec]:
        """Cells of confirm at one budget: the first `count` runs of every arm.

        Raises:
            StudyError: an arm has nothing to confirm.
        """
        return [self._confirm_cell(arm, chosen, count) for arm in self.space.arms]

    def _explore_cell(self, arm: str, budget: float) -> CellSpec:
        explore = self.space.explore
        assert explore is not None
        tree = self.space.explored(arm)
        if SAMPLERS.get(explore.sampler.name).reseeds:
            tree[SEED] = SEEDS
        spec = CellSpec(
            Stage.EXPLORE,
            arm,
            budget,
            tree,
            explore.sampler,
            explore.trials,
            prices=explore.prices,
            budgets=tuple(sorted(explore.budgets)),
            prior=self.directory.priors().arms.get(arm, ()),
        )
        return self._ordered(spec, list(grid(tree))) if explore.is_grid else spec

    def _measure_cell(self, arm: str, budget: float, more: Sequence[Size] = ()) -> CellSpec:
        tree = {**self.recipe(arm), "size": {"depth": ANY_SIZE, "width": ANY_SIZE}}
        sizes = [*self.space.sizes(budget, arm), *(size.model_dump() for size in more)]
        points: list[dict[str, object]] = [
            {"size.depth": size["depth"], "size.width": size["width"]} for size in sizes
        ]
        measure = self.space.measure
        assert measure is not None
        reseeds = SAMPLERS.get(measure.sampler.name).reseeds
        if measure.seeds > 1 or reseeds:  # a tree names its cell in the ledger: one seed, no axis
            tree[SEED] = SEEDS
            seeds = range(measure.seeds)
            points = [{**point, SEED: seed} for seed in seeds for point in points]
        spec = CellSpec(Stage.MEASURE, arm, budget, tree, measure.sampler)
        return self._ordered(spec, points)

    def _confirm_cell(self, arm: str, chosen: Chosen, count: int) -> CellSpec:
        sizes = chosen.sizes.get(arm)
        if not sizes:
            measured = self.space.arms[arm].control_of or arm
            raise StudyError(
                f"nothing to confirm: measure has no finished trial of arm `{measured}` at "
                f"{chosen.budget:g} FLOPs\nrun stage `measure` if it was not run yet; `modsearch "
                f"status` has what was rejected or failed"
            )
        tree = {
            **self._confirmed_recipe(arm, chosen.budget),
            "size": {"depth": ANY_SIZE, "width": ANY_SIZE},
            SEED: SEEDS,
        }
        points: list[dict[str, object]] = []
        for index in range(count):
            size = sizes[index % len(sizes)]
            points.append({"size.depth": size.depth, "size.width": size.width, SEED: index})
        return self._ordered(CellSpec(Stage.CONFIRM, arm, chosen.budget, tree), points)

    def _confirmed_recipe(self, arm: str, budget: float) -> Tree:
        """That of the runs which are there, of a control those of its arm: explore may have found
        another one since."""
        begun = [
            record
            for record in self.directory.records()
            if (record.stage, record.arm, record.budget.flops) == (Stage.CONFIRM, arm, budget)
        ]
        base = self.space.arms[arm].control_of
        if base is not None and not begun:
            return over(self._confirmed_recipe(base, budget), self.space.arms[arm])
        tree = self.recipe(arm)
        if not begun:
            return tree
        first = min(begun, key=lambda r: (run_index(r.seed, self.space.seed), recipe_key(r)))
        model = first.candidate.model
        size = {"depth": model.depth, "width": model.width}
        now = build({**tree, "size": size}, self.space.data)
        same = (now.model, now.optim) == (model, first.candidate.optim)
        return tree if same else _recipe_of(first)  # a tree names its cell in the ledger

    def _ordered(self, spec: CellSpec, points: list[dict[str, object]]) -> CellSpec:
        points.sort(key=lambda point: -self.seconds(spec, point))
        return replace(spec, points=tuple(points))

    def recipe(self, arm: str) -> Tree:
        """The arm's one recipe: fixed by the space, or the best of explore.

        Raises:
            StudyError: explore has no finished trial of the arm, or none that was scored.
        """
        settings = self.space.arms[arm]
        base = settings.control_of or arm
        if self.space.explore is None:
            tree = self.space.recipe(base)
        else:
            best = best_recipe(self.directory.records(), base)
            if best is None:
                raise StudyError(
                    f"no recipe for arm `{base}`: explore has no finished trial of it\n"
                    f"run the stage `explore` first, and look at `modsearch status`"
                )
            objective = self.space.explore.metric
            if objective is not None and best.objective is None:
                raise StudyError(
                    f"no recipe for arm `{base}`: none of its trials in explore has been scored "
                    f"with {objective.name}\nthe same command scores them; what was said of them "
                    f"above is in the way"
                )
            tree = _recipe_of(best)
        return tree if settings.control_of is None else over(tree, settings)

    def job(self, spec: CellSpec, values: Tree) -> Job:
        """The training that a trial of a cell means."""
        explore = self.space.explore if spec.stage is Stage.EXPLORE else None
        objective = explore.metric if explore is not None else None
        candidate = build(values, self.space.data)
        budget = Budget(flops=spec.budget)
        tokens = self.facts_of(candidate.model)
        return Job(
            stage=spec.stage,
            arm=spec.arm,
            candidate=candidate,
            budget=budget,
            seed=trial_seed(self.space.seed, spec.stage, values.get(SEED, 0)),
            validation=self.space.validation(spec.stage),
            fingerprint=tokens.fingerprint,
            runtime=self.runtime,
            plan=plan(candidate, budget, tokens.train_tokens, tokens.vocab_size),
            plugins=used_by(candidate, self.plugins),
            unit=self.space.unit,
            scoring=objective.scoring if objective is not None else None,
            prices=explore.prices if explore is not None else (),
        )

    def scored(self, record: Record, scoring: Scoring) -> Job:
        """A finished training as a job that is scored."""
        assert record.plan is not None
        job = Job(
            stage=record.stage,
            arm=record.arm,
            candidate=record.candidate,
            budget=record.budget,
            seed=record.seed,
            validation=record.validation,
            fingerprint=self.facts_of(record.candidate.model).fingerprint,
            runtime=self.runtime,
            plan=record.plan,
            plugins=used_by(record.candidate, self.plugins),
            unit=record.unit,
            scoring=scoring,
        )
        if job.hash == record.hash:
            return job
        # A trial of before was named by all plugins of its study.
        return job.model_copy(update={"plugins": self.plugins})

    def seconds(self, spec: CellSpec, point: dict[str, object]) -> float:
        """Rough seconds of a point of a cell."""
        key = spec.name, repr(point)
        if key not in self._seconds:  # asked for again and again while a worker waits
            self._seconds[key] = self.job(spec, at_point(spec.tree, point)).seconds
        return self._seconds[key]


def _recipe_of(record: Record) -> Tree:
    model = record.candidate.model.model_dump(exclude={"depth", "width"})
    return {"model": model, "optim": record.candidate.optim.model_dump()}
