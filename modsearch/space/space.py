"""A search space: arms, stages and resources, from YAML or plain data."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from modsearch.config.base import (
    MOST_LAYERS,
    MOST_SEED,
    MOST_TOKENS,
    MOST_WIDTH,
    Component,
    Stated,
)
from modsearch.config.data import BPE, DataConfig, Validation
from modsearch.config.design import RUNS_PER_LOOK
from modsearch.config.evaluation import AskedSuite
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.reading import Source, Tree, named, read, read_yaml
from modsearch.config.records import Stage
from modsearch.config.rules import OWN, ShortName, once
from modsearch.config.runtime import Resources
from modsearch.config.seeds import MOST_MEASURED
from modsearch.config.units import Unit
from modsearch.config.wording import first_error
from modsearch.errors import ConfigError, unknown
from modsearch.registry.table import GRID
from modsearch.space.axes import OpenTree, is_distribution
from modsearch.space.explore import Budgets, Explore, PositiveFlops, SamplerField
from modsearch.space.points import is_finite, num_points
from modsearch.space.sharing import refuse_uneven
from modsearch.space.vocabularies import NUM_BYTES, sizes_of, vocabularies

WHAT = "space"
"""How errors name one that is no file."""

SIZE = ("depth", "width")


def _keys_of(model: type[BaseModel], *, without: Sequence[str] = ()) -> WithJsonSchema:
    """JSON Schema of a tree with a model's keys, each of which may be open."""
    keys: dict[str, Any] = {name: {} for name in model.model_fields if name not in without}
    return WithJsonSchema({"type": "object", "properties": keys, "additionalProperties": False})


class Section(Stated):
    """Values for model and optimiser, of which each may be open."""

    model: Annotated[OpenTree, _keys_of(ModelConfig, without=SIZE)] = OpenTree({})
    """Keys of `model` below, without depth and width."""
    optim: Annotated[OpenTree, _keys_of(OptimConfig)] = OpenTree({})
    """Keys of `optim` below."""


class Arm(Section):
    """A family of candidates; a control takes recipe and size of the arm that it controls."""

    control_of: str | None = None
    """The learned arm whose recipe and size this one takes, with its own values on top."""


class Rung(Stated):
    """Sizes of one depth at one budget."""

    budget: PositiveFlops
    """Training FLOPs of a trial."""
    depth: int = Field(gt=0, le=MOST_LAYERS)
    """Blocks of the stack."""
    widths: Annotated[
        list[Annotated[int, Field(gt=0, le=MOST_WIDTH)]],
        Field(min_length=1, max_length=64),
        AfterValidator(once),
    ]
    """Of the residual stream; each is one trial an arm."""
    arms: Annotated[list[ShortName], Field(min_length=1), AfterValidator(once)] | None = None
    """Learned arms that have these sizes; default: all of them."""


class Measure(Stated):
    """One recipe per arm on one ladder of sizes: the rows of isoFLOP fits."""

    ladder: list[Rung] = Field(min_length=1, max_length=256)
    """The sizes of every learned arm, by budget and depth."""
    seeds: int = Field(1, gt=0, le=MOST_MEASURED)
    """Trials of each size; the same seeds for all sizes and arms."""
    sampler: SamplerField = Component(name=GRID)
    """How sizes are chosen: `grid` trains the whole ladder; `isoflop` one size after the other, of
    the ladder or beyond its ends, some again, until a minimum is known well enough, in `seeds`
    trials for each size of the ladder at the most."""
    windows: int = Field(64, gt=0, le=MOST_TOKENS)
    """Windows of `seq_len` validation tokens that a trial is scored on."""

    @property
    def is_grid(self) -> bool:
        """Whether the whole ladder is trained."""
        return self.sampler.name == GRID

    @model_validator(mode="after")
    def _rungs_differ(self, info: ValidationInfo) -> "Measure":
        if info.context == OWN:
            return self
        seen: dict[tuple[float, int], int] = {}
        for place, rung in enumerate(self.ladder):
            first = seen.setdefault((rung.budget, rung.depth), place)
            if first != place:
                raise ValueError(
                    f"ladder.{first} and ladder.{place} have the same budget and depth: "
                    f"write all widths of budget {rung.budget:g}, depth {rung.depth} into one"
                )
        return self


class Confirm(Stated):
    """Fresh seeds on the test part, until the headline is known: its rows alone."""

    budgets: Budgets
    """Training FLOPs of a trial; budgets of the ladder."""
    runs: int = Field(24, ge=RUNS_PER_LOOK, le=900, multiple_of=RUNS_PER_LOOK)
    """Trials an arm at most, a multiple of six, over the chosen size and its two neighbours on the
    ladder. After every six the headline is looked at, and confirm ends when it is known."""
    margin: float | None = Field(None, gt=0, le=10)
    """Nats per token (per byte where vocabularies differ): arms that differ by less are
    equivalent. Default: what so many runs can tell; `plan` prints it."""
    seeds: int | None = Field(None, gt=0, le=900)
    """Instead of `runs`: so many trials of the chosen size alone, and one look. Fewer than three
    give no interval."""
    windows: int | None = Field(None, gt=0, le=MOST_TOKENS)
    """Windows of `seq_len` test tokens that a trial is scored on; without a number the whole test
    part."""

    @property
    def looks(self) -> tuple[int, ...]:
        """Trials an arm at each look, all before it included."""
        if self.seeds is not None:
            return (self.seeds,)
        return tuple(range(RUNS_PER_LOOK, self.runs + 1, RUNS_PER_LOOK))


class Space(Stated):
    """What a study searches."""

    name: ShortName
    """Of the study, and of its folder in `runs/`."""
    seed: int = Field(0, ge=0, le=MOST_SEED)
    """Of parameters, data order, routing and samplers."""
    plugins: list[str] = []
    """Files with components of one's own, beside the YAML file or absolute."""
    data: DataConfig = DataConfig()
    """The text that all trials share."""
    fixed: Section = Section()
    """Of every candidate, unless its arm says otherwise."""
    axes: Section = Section()
    """Open in every arm, with the same values."""
    arms: dict[ShortName, Arm] = Field(min_length=1, max_length=64)
    """What is compared, by name."""
    explore: Explore | None = None
    """Ranks recipes; needed where an axis is open."""
    measure: Measure | None = None
    """Measures isoFLOP curves."""
    confirm: Confirm | None = None
    """Trains each arm's best size again: the headline."""
    suite: str | AskedSuite | None = None
    """lm-eval suite for the winners: its name, or a mapping with more about it."""
    resources: Resources = Resources()
    """How trials are executed."""

    @model_validator(mode="after")
    def _values_have_their_place(self, info: ValidationInfo) -> "Space":
        if info.context == OWN:
            return self
        arms = {f"arms.{name}": arm for name, arm in self.arms.items()}
        sections: dict[str, Section] = {"fixed": self.fixed, "axes": self.axes, **arms}
        for where, section in sections.items():
            _check_recipe(section.model, f"{where}.model", ModelConfig)
            _check_recipe(section.optim, f"{where}.optim", OptimConfig)
        if self.explore is not None:
            _check_size(self.explore.size)
        learned = [self.arms[name] for name in self.learned_arms]
        for part, fixed, axes, owns in (
            ("model", self.fixed.model, self.axes.model, [arm.model for arm in learned]),
            ("optim", self.fixed.optim, self.axes.optim, [arm.optim for arm in learned]),
        ):
            for key in axes:
                if key in fixed:
                    raise ValueError(
                        f"`{key}` stands in fixed.{part} and in axes.{part}: keep one of them"
                    )
                if all(key in own for own in owns):
                    raise ValueError(
                        f"axes.{part}.{key} has no effect: every arm has a `{key}` of its own"
                    )
        return self

    @model_validator(mode="after")
    def _arms_fit(self) -> "Space":
        for name, arm in self.arms.items():
            target = arm.control_of
            if target is not None and (target not in self.arms or self.arms[target].control_of):
                raise ValueError(f"arm `{name}` is control_of `{target}`, which is no learned arm")
        rungs = self.measure.ladder if self.measure else []
        for place, rung in enumerate(rungs):
            for name in rung.arms or ():
                if name not in self.learned_arms:
                    why = unknown("arm", name, self.learned_arms)
                    raise ValueError(f"measure.ladder.{place}.arms: {why}")
        for name in self.learned_arms if rungs else ():
            if not any(name in (rung.arms or [name]) for rung in rungs):
                raise ValueError(f"arm `{name}` has no size in the measure ladder")
        if self.suite is not None and self.resources.keep == "none":
            raise ValueError("a suite scores kept weights, but resources.keep is `none`")
        if self.explore is None and self.measure is None and self.confirm is None:
            raise ValueError("a space needs at least one of explore, measure, confirm")
        _ = self.vocab_sizes  # refuses what can't be
        if self.confirm is not None:
            measured = {rung.budget for rung in self.measure.ladder} if self.measure else set()
            for budget in self.confirm.budgets:
                if budget not in measured:
                    known = ", ".join(f"{each:g}" for each in sorted(measured)) or "empty"
                    raise ValueError(
                        f"confirm budget {budget:g} is not in the measure ladder, only {known}: "
                        f"add {{budget: {budget:g}, depth: D, widths: [...]}} to it"
                    )
                for name in self.learned_arms:
                    if not self.sizes(budget, name):
                        raise ValueError(
                            f"confirm budget {budget:g} has no size of arm `{name}` in the "
                            f"measure ladder: name it in `arms` of a rung"
                        )
        return self

    @model_validator(mode="after")
    def _ranks_share_batches(self) -> "Space":
        stops = self.explore is not None and self.explore.stopping is not None
        if stops and self.resources.ranks > 1:
            raise ValueError("explore.stopping watches one process: leave resources.ranks out")
        for name, arm in self.arms.items():
            optim = over(self.recipe(arm.control_of or name), arm)["optim"]
            refuse_uneven(optim.get("batch_size"), self.resources.ranks, name)
        return self

    @property
    def asked_suite(self) -> AskedSuite | None:
        """The suite for the winners, and what else there is to say of it."""
        return AskedSuite(name=self.suite) if isinstance(self.suite, str) else self.suite

    @property
    def samplers(self) -> dict[str, Component]:
        """Those of its stages, by where they stand."""
        stages = {"explore": self.explore, "measure": self.measure}
        return {f"{name}.sampler": stage.sampler for name, stage in stages.items() if stage}

    @property
    def learned_arms(self) -> list[str]:
        """Arms that are explored and measured."""
        return [name for name, arm in self.arms.items() if arm.control_of is None]

    @property
    def unit(self) -> Unit:
        """What losses are counted over: tokens of several tokenizers are not the same."""
        return "byte" if len(self.vocab_sizes) > 1 else "token"

    @property
    def vocab_sizes(self) -> list[int]:
        """Of every tokenizer that is trained on the corpus, smallest first; that of bytes alone
        where none is. A ConfigError says what can't be."""
        if self.data.tokenizer != BPE:
            return [NUM_BYTES]
        return vocabularies(size for arm in self.arms for size in self._vocab_sizes(arm))

    def _vocab_sizes(self, arm: str) -> list[int]:
        """All that the models of an arm may have."""
        settings = self.arms[arm]
        model = over(self.recipe(settings.control_of or arm), settings)["model"]
        own = ModelConfig().vocab_size
        return sizes_of(model.get("vocab_size", own), f"model.vocab_size of arm `{arm}`")

    def recipe(self, arm: str) -> Tree:
        """The arm's tree of model and optimiser values, size left out."""
        tree: Tree = {"model": {}, "optim": {}}
        for section in (self.fixed, self.axes, self.arms[arm]):
            tree = over(tree, section)
        return tree

    def explored(self, arm: str) -> Tree:
        """The arm's tree that explore searches: recipe and size."""
        assert self.explore is not None
        return {**self.recipe(arm), "size": self.explore.size}

    def budgets(self, stage: Stage) -> list[float]:
        """Budgets of a stage, largest first."""
        return sorted(self.stated_budgets(stage), reverse=True)

    def stated_budgets(self, stage: Stage) -> list[float]:
        """Budgets of a stage in the order of the file."""
        if stage is Stage.EXPLORE:
            found = self.explore.budgets if self.explore else []
        elif stage is Stage.MEASURE:
            found = [rung.budget for rung in self.measure.ladder] if self.measure else []
        else:
            found = self.confirm.budgets if self.confirm else []
        return list(dict.fromkeys(found))

    def sizes(self, budget: float, arm: str) -> list[Tree]:
        """Ladder of a learned arm at a budget: depth and width of each size."""
        rungs = self.measure.ladder if self.measure else []
        return [
            {"depth": rung.depth, "width": width}
            for rung in rungs
            if rung.budget == budget and arm in (rung.arms or [arm])
            for width in rung.widths
        ]

    def num_trials(self, stage: Stage, arm: str, budget: float) -> int:
        """Trials that a cell is asked for, no more than it has points; builds nothing, so it
        needs no plugin."""
        if stage is Stage.EXPLORE:
            assert self.explore is not None
            tree = self.explored(arm)
            points = num_points(tree) if is_finite(tree) else None
            asked = [n for n in (self.explore.trials, points) if n is not None]
            return min(asked)
        if stage is Stage.MEASURE:
            assert self.measure is not None
            return len(self.sizes(budget, arm)) * self.measure.seeds
        assert self.confirm is not None
        return self.confirm.looks[-1]

    def validation(self, stage: Stage) -> Validation:
        """Test text only in confirm."""
        if stage is Stage.CONFIRM:
            assert self.confirm is not None
            return Validation(part="test", windows=self.confirm.windows)
        settings = self.explore if stage is Stage.EXPLORE else self.measure
        assert settings is not None
        return Validation(part="validation", windows=settings.windows)

    def samples(self) -> Iterator[tuple[Validation, ModelConfig]]:
        """Every sample that a trial may be scored on, with the window and the vocabulary of the
        models that it is for, where their `seq_len` is not open."""
        for stage in Stage:
            for arm in self.learned_arms if self.budgets(stage) else ():
                seq_len = self.recipe(arm)["model"].get("seq_len", ModelConfig().seq_len)
                sizes = self._vocab_sizes(arm) if self.unit == "byte" else self.vocab_sizes
                for size in sizes if isinstance(seq_len, int) else ():
                    yield self.validation(stage), ModelConfig(seq_len=seq_len, vocab_size=size)


def over(base: Tree, section: Section | Arm) -> Tree:
    """A section's values on top of a tree's, key by key."""
    return {
        "model": {**base["model"], **section.model},
        "optim": {**base["optim"], **section.optim},
    }


def own_space(path: Path) -> Space:
    """A study's own `space.yaml`, also where a rule that came later would refuse it.

    Raises:
        ConfigError: it is damaged.
    """
    values = read_yaml(path, [])
    try:
        return Space.model_validate(values, context=OWN)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_error(error, Space, values, choices=True)}") from error


def read_space(source: Source, overrides: Sequence[str] = ()) -> Space:
    """A space whose candidates are not checked, and whose plugins are not run.

    Raises:
        ConfigError: what is wrong, and in which file; of a mapping it begins with `space`.
    """
    values = read(source, overrides, WHAT)
    where = named(source, WHAT)
    for key, value in values.items():
        if key in ("model", "optim"):
            inner = list(value)[:1] if isinstance(value, dict) else []
            raise ConfigError(
                f"{where}: unknown key `{key}`: a space has it in fixed, axes and arms\n"
                f"did you mean `{'.'.join(['fixed', key, *inner])}`?"
            )
        if key not in Space.model_fields:
            raise ConfigError(f"{where}: {unknown('key', key, Space.model_fields)}")
    try:
        return Space.model_validate(said(values))
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_error(error, Space, values, choices=True)}") from error


def said(values: Tree) -> Tree:
    """What a document says: a key with nothing behind it says nothing."""
    return {key: value for key, value in values.items() if value is not None}


def _check_recipe(tree: OpenTree, where: str, known: type[BaseModel]) -> None:
    """Keys of a part of a recipe.

    Raises:
        ConfigError: one is unknown or a size.
    """
    if is_distribution(tree) and not set(tree) <= set(known.model_fields):
        raise ConfigError(f"{where}: a distribution goes to one of the keys, not to all of them")
    for key in tree:
        if key not in known.model_fields:
            raise ConfigError(f"{where}: {unknown('key', key, known.model_fields)}")
        if key in SIZE and known is ModelConfig:
            raise ConfigError(
                f"{where}.{key} has no effect: sizes are those of explore.size and measure.ladder"
            )


def _check_size(size: OpenTree) -> None:
    for key in size:
        if key not in SIZE:
            raise ConfigError(
                f"explore.size: {unknown('key', key, SIZE)}; what is no size goes to "
                f"fixed.model, axes.model or an arm"
            )
    for key in SIZE:
        if key not in size:
            raise ConfigError(f"explore.size: {key} is missing")
