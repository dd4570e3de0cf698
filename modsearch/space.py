"""A search space: YAML in, arms and candidates out."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from modsearch.axes import (
    Tree,
    grid,
    parse_tree,
)
from modsearch.errors import ConfigError
from modsearch.reading import first_error, read_yaml
from modsearch.registry import unknown
from modsearch.schema import DataConfig, Frozen, Stage, Validation

PositiveFlops = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Arm(Frozen):
    """A family of candidates; a control takes recipe and size of the arm that it controls."""

    control_of: str | None = None
    model: Tree = {}
    optim: Tree = {}


class Section(Frozen):
    """Values for model and optimiser."""

    model: Tree = {}
    optim: Tree = {}


class Explore(Frozen):
    """Ranks recipes; its values enter no fit."""

    budgets: list[PositiveFlops] = Field(min_length=1)
    size: Tree
    """depth and width, fixed or open."""
    sampler: Literal["grid", "random", "qmc", "tpe"] = "grid"
    trials: int | None = Field(None, gt=0)
    """Trained trials of each cell; a grid has none, it runs whole."""
    windows: int = Field(64, gt=0)

    @model_validator(mode="after")
    def _trials_are_stated(self) -> "Explore":
        if self.sampler != "grid" and self.trials is None:
            raise ValueError(f"sampler `{self.sampler}` needs `trials`")
        if self.sampler == "grid" and self.trials is not None:
            raise ValueError("sampler `grid` runs every point of the grid: leave `trials` out")
        return self


class Rung(Frozen):
    """Sizes of one depth at one budget."""

    budget: PositiveFlops
    depth: int = Field(gt=0)
    widths: list[int] = Field(min_length=1)


class Measure(Frozen):
    """One recipe per arm on one ladder of sizes: the rows of isoFLOP fits."""

    ladder: list[Rung] = Field(min_length=1)
    windows: int = Field(64, gt=0)


class Confirm(Frozen):
    """Fresh seeds on the test part: the rows of the headline."""

    budgets: list[PositiveFlops] = Field(min_length=1)
    seeds: int = Field(3, gt=0)
    windows: int = Field(256, gt=0)


class Resources(Frozen):
    """How trials are executed; `threads`, `device`, `precision` and `micro_batch` are constants
    of the study."""

    workers: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    threads: int = Field(1, gt=0)
    cpus: float | None = Field(None, gt=0)
    """CPUs that engine `ray` reserves for a trial; None: as many as `threads`."""
    gpus: float | None = Field(None, ge=0)
    """GPUs, also a fraction of one; None: one where the device is `cuda`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    micro_batch: int | None = Field(None, gt=0)
    """Sequences in one pass, where a whole batch does not fit the memory."""
    checkpoint_seconds: float = Field(10.0, ge=0)
    keep: Literal["all", "winners", "none"] = "winners"
    """Which final weights stay on disk."""


class Space(Frozen):
    """What a study searches."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    seed: int = Field(0, ge=0)
    plugins: list[str] = []
    """Files with components of one's own, beside the YAML file or absolute."""
    data: DataConfig = DataConfig()
    fixed: Section = Section()
    axes: Section = Section()
    """Open in every arm, with the same values."""
    arms: dict[str, Arm] = Field(min_length=1)
    explore: Explore | None = None
    measure: Measure | None = None
    confirm: Confirm | None = None
    suite: str | None = None
    """lm-eval suite for the winners."""
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _arms_fit(self) -> "Space":
        for name, arm in self.arms.items():
            if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
                raise ValueError(f"arm name `{name}` may have letters, digits and . _ - only")
            target = arm.control_of
            if target is not None and (target not in self.arms or self.arms[target].control_of):
                raise ValueError(f"arm `{name}` is control_of `{target}`, which is no learned arm")
        if self.suite is not None and self.resources.keep == "none":
            raise ValueError("a suite scores kept weights, but resources.keep is `none`")
        if self.explore is None and self.measure is None and self.confirm is None:
            raise ValueError("a space needs at least one of explore, measure, confirm")
        if self.confirm is not None:
            measured = {rung.budget for rung in self.measure.ladder} if self.measure else set()
            for budget in self.confirm.budgets:
                if budget not in measured:
                    known = ", ".join(f"{each:g}" for each in sorted(measured)) or "empty"
                    raise ValueError(
                        f"confirm budget {budget:g} is not in the measure ladder, only {known}: "
                        f"add {{budget: {budget:g}, depth: D, widths: [...]}} to it"
                    )
        return self

    @property
    def learned_arms(self) -> list[str]:
        """Arms that are explored and measured."""
        return [name for name, arm in self.arms.items() if arm.control_of is None]

    def recipe(self, arm: str) -> Tree:
        """The arm's tree of model and optimiser values, size left out."""
        tree: Tree = {"model": {}, "optim": {}}
        for section in (self.fixed, self.axes, self.arms[arm]):
            tree = over(tree, section)
        return tree

    def budgets(self, stage: Stage) -> list[float]:
        """Budgets of a stage, largest first."""
        if stage is Stage.EXPLORE:
            found = self.explore.budgets if self.explore else []
        elif stage is Stage.MEASURE:
            found = [rung.budget for rung in self.measure.ladder] if self.measure else []
        else:
            found = self.confirm.budgets if self.confirm else []
        return sorted(set(found), reverse=True)

    def sizes(self, budget: float) -> list[Tree]:
        """Ladder at a budget: depth and width of each size."""
        rungs = self.measure.ladder if self.measure else []
        return [
            {"depth": rung.depth, "width": width}
            for rung in rungs
            if rung.budget == budget
            for width in rung.widths
        ]

    def num_trials(self, stage: Stage, arm: str, budget: float) -> int:
        """Trials that a cell is asked for; builds nothing, so it needs no plugin."""
        if stage is Stage.EXPLORE:
            assert self.explore is not None
            if self.explore.trials is not None:
                return self.explore.trials
            return len(list(grid({**self.recipe(arm), "size": parse_tree(self.explore.size)})))
        if stage is Stage.MEASURE:
            return len(self.sizes(budget))
        assert self.confirm is not None
        return self.confirm.seeds

    def validation(self, stage: Stage) -> Validation:
        """Test text only in confirm."""
        if stage is Stage.CONFIRM:
            assert self.confirm is not None
            return Validation(part="test", windows=self.confirm.windows)
        settings = self.explore if stage is Stage.EXPLORE else self.measure
        assert settings is not None
        return Validation(part="validation", windows=settings.windows)


def over(base: Tree, section: Section | Arm) -> Tree:
    """A section's values on top of a tree's, key by key."""
    return {
        "model": {**base["model"], **parse_tree(section.model)},
        "optim": {**base["optim"], **parse_tree(section.optim)},
    }


def read_space(path: Path, overrides: list[str]) -> Space:
    """A space whose candidates are not checked, and whose plugins are not run.

    This is how a study's own `space.yaml` is read: no code is run because a folder of results
    says so.

    Raises:
        ConfigError: what is wrong, and in which file.
    """
    values = read_yaml(path, overrides)
    _known_keys(values, path)
    try:
        return Space.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path.name}: {first_error(error, Space)}") from error
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def _known_keys(values: Tree, path: Path) -> None:
    for key in values:
        if key not in Space.model_fields:
            raise ConfigError(f"{path.name}: {unknown('key', str(key), Space.model_fields)}")
