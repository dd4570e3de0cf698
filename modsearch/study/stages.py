"""The cells of each stage, and the training that a point of one means.

Measure builds on explore's results and confirm on measure's; they are read from the records.
"""

from modsearch.analysis.fits import confirm_choice
from modsearch.analysis.recipes import best_recipe
from modsearch.config.data import CorpusFacts
from modsearch.config.reading import Tree
from modsearch.config.records import Budget, Job, Stage
from modsearch.config.runtime import Plugin, Runtime
from modsearch.errors import StudyError
from modsearch.sampling.ledger import CellSpec
from modsearch.space.axes import Int
from modsearch.space.candidates import build
from modsearch.space.points import at_point, grid
from modsearch.space.space import Space, over
from modsearch.store.directory import StudyDirectory
from modsearch.training.budget import plan

ANY_SIZE = Int(1, 1_000_000, 1)
SEEDS_PER_STUDY = 1000


def trial_seed(study_seed: int, stage: Stage, index: int = 0) -> int:
    """Seed of a trial: one in explore, another in measure, fresh ones in confirm."""
    start = {Stage.EXPLORE: 0, Stage.MEASURE: 1, Stage.CONFIRM: 100}[stage]
    return study_seed * SEEDS_PER_STUDY + start + index


class Stages:
    """What a study trains, by what was asked and what has come back."""

    def __init__(
        self,
        space: Space,
        directory: StudyDirectory,
        corpus: CorpusFacts,
        runtime: Runtime,
        plugins: tuple[Plugin, ...],
    ) -> None:
        self.space = space
        self.directory = directory
        self.corpus = corpus
        self.runtime = runtime
        self.plugins = plugins
        self._seconds: dict[tuple[str, str], float] = {}

    @property
    def wanted(self) -> list[Stage]:
        """Stages that the space asks for, in their order."""
        return [stage for stage in Stage if self.space.budgets(stage)]

    def cells(self, stage: Stage) -> list[CellSpec]:
        """The cells of a stage.

        Raises:
            StudyError: an earlier stage has not what this one needs.
        """
        make = {
            Stage.EXPLORE: self._explore_cell,
            Stage.MEASURE: self._measure_cell,
            Stage.CONFIRM: self._confirm_cell,
        }[stage]
        arms = list(self.space.arms) if stage is Stage.CONFIRM else self.space.learned_arms
        return [make(arm, budget) for budget in self.space.budgets(stage) for arm in arms]

    def _explore_cell(self, arm: str, budget: float) -> CellSpec:
        explore = self.space.explore
        assert explore is not None
        tree = self.space.explored(arm)
        spec = CellSpec(Stage.EXPLORE, arm, budget, tree, explore.sampler, explore.trials)
        return self._ordered(spec, list(grid(tree))) if explore.sampler == "grid" else spec

    def _measure_cell(self, arm: str, budget: float) -> CellSpec:
        tree = {**self.recipe(arm), "size": {"depth": ANY_SIZE, "width": ANY_SIZE}}
        points: list[dict[str, object]] = [
            {"size.depth": size["depth"], "size.width": size["width"]}
            for size in self.space.sizes(budget)
        ]
        return self._ordered(CellSpec(Stage.MEASURE, arm, budget, tree), points)

    def _confirm_cell(self, arm: str, budget: float) -> CellSpec:
        assert self.space.confirm is not None
        measured = self.space.arms[arm].control_of or arm
        choice = confirm_choice(self.directory.records(), measured, budget)
        if choice is None:
            raise StudyError(
                f"nothing to confirm: measure has no finished trial of arm `{measured}` at "
                f"{budget:g} FLOPs\nrun stage `measure` if it was not run yet; `modsearch status` "
                f"has what was rejected or failed"
            )
        size = {"depth": choice.depth, "width": choice.width}
        tree = {**self.recipe(arm), "size": size, "seed": Int(0, 1_000_000, 1)}
        points: list[dict[str, object]] = [
            {"seed": index} for index in range(self.space.confirm.seeds)
        ]
        return self._ordered(CellSpec(Stage.CONFIRM, arm, budget, tree), points)

    def _ordered(self, spec: CellSpec, points: list[dict[str, object]]) -> CellSpec:
        points.sort(key=lambda point: -self.seconds(spec, point))
        return CellSpec(
            spec.stage, spec.arm, spec.budget, spec.tree, spec.sampler, spec.trials, tuple(points)
        )

    def recipe(self, arm: str) -> Tree:
        """The arm's one recipe: fixed by the space, or the best of explore.

        Raises:
            StudyError: explore has no finished trial of the arm.
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
            model = best.candidate.model.model_dump(exclude={"depth", "width"})
            tree = {"model": model, "optim": best.candidate.optim.model_dump()}
        return tree if settings.control_of is None else over(tree, settings)

    def job(self, spec: CellSpec, values: Tree) -> Job:
        """The training that a trial of a cell means."""
        candidate = build(values, self.space.data)
        budget = Budget(flops=spec.budget)
        return Job(
            stage=spec.stage,
            arm=spec.arm,
            candidate=candidate,
            budget=budget,
            seed=trial_seed(self.space.seed, spec.stage, values.get("seed", 0)),
            validation=self.space.validation(spec.stage),
            fingerprint=self.corpus.fingerprint,
            runtime=self.runtime,
            plan=plan(candidate, budget, self.corpus.train_tokens),
            plugins=self.plugins,
        )

    def seconds(self, spec: CellSpec, point: dict[str, object]) -> float:
        """Rough seconds of a point of a cell."""
        key = spec.name, repr(point)
        if key not in self._seconds:  # asked for again and again while a worker waits
            self._seconds[key] = self.job(spec, at_point(spec.tree, point)).seconds
        return self._seconds[key]
