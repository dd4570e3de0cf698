"""A search space: YAML in, arms and candidates out."""

import re
from collections.abc import Sequence
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from modsearch.axes import (
    Choice,
    Distribution,
    Int,
    Tree,
    grid,
    inside,
    int_values,
    open_axes,
    parse_tree,
    resolve,
)
from modsearch.errors import ConfigError
from modsearch.nn.contracts import completed
from modsearch.plugins import load_plugins
from modsearch.registry import unknown
from modsearch.schema import Candidate, DataConfig, Frozen, Stage, Validation

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


def build(resolved: Tree, data: DataConfig) -> Candidate:
    """A candidate from resolved values, every component's defaults written out.

    `resolved` has `model` and `optim`, and may have `size` (depth and width).

    Raises:
        ConfigError: a key or a value is wrong; the message names it.
    """
    model = {**resolved["model"], **resolved.get("size", {})}
    for part, values, known in (
        ("model", model, Candidate().model),
        ("optim", resolved["optim"], Candidate().optim),
    ):
        for key in values:
            if key not in type(known).model_fields:
                raise unknown(f"key in {part}", str(key), type(known).model_fields)
    try:
        candidate = Candidate.model_validate(
            {"model": model, "optim": resolved["optim"], "data": data}
        )
    except ValidationError as error:
        raise ConfigError(first_error(error, Candidate)) from error
    return candidate.model_copy(update={"model": completed(candidate.model)})


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """For the first thing that is wrong in values of `model`: where, and what."""
    # A misspelled key is often a missing one, too; what was written helps more.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    *parents, key = first["loc"] or ("",)
    if first["type"] == "extra_forbidden" and (known := _fields_at(model, parents)):
        kind = f"key in {'.'.join(map(str, parents))}" if parents else "key"
        return str(unknown(kind, str(key), known))
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    shown = f", but got {given!r}" if isinstance(given, str | int | float) else ""
    return f"{where}: {message}{shown}" if where else message


def _fields_at(model: type[BaseModel], path: list[int | str]) -> list[str]:
    """Keys of the model that lies at a path inside another one; none where no model does."""
    for part in path:
        if part in model.model_fields:  # else an index or a name that the user gave
            annotations = [model.model_fields[str(part)].annotation]
            while annotations:
                found = annotations.pop(0)
                if isinstance(found, type) and issubclass(found, BaseModel):
                    model = found
                    break
                annotations += get_args(found)
            else:
                return []
    return list(model.model_fields)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but 5e10 is a number (YAML 1.1 asks for 5.0e+10)."""


_Loader.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d[\d_]*\.?[\d_]*([eE][-+]?\d+)|\d[\d_]*\.[\d_]*|\.\d+([eE][-+]?\d+)?|\.(inf|nan))$"
    ),
    list("-+0123456789."),
)


def read_yaml(path: Path, overrides: list[str]) -> Tree:
    """A YAML file as plain data, with `a.b=c` overrides applied.

    Raises:
        ConfigError: the file is missing or is not a YAML mapping, or an override is malformed.
    """
    try:
        value = yaml.load(path.read_text(), _Loader)  # derives from SafeLoader
    except FileNotFoundError:
        raise ConfigError(f"no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read {path}: {error}") from error
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML: {line}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must be a mapping of keys to values")
    for override in overrides:
        _override(value, override)
    return value


def _override(tree: Tree, override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set takes key.key=value, but got `{override}`")
    *parents, last = path.split(".")
    for key in parents:
        if tree.get(key) is None:
            tree[key] = {}
        if not isinstance(tree[key], dict):
            raise ConfigError(f"--set {path}: `{key}` is a value, it has no keys")
        tree = tree[key]
    try:
        tree[last] = yaml.load(text, _Loader)  # derives from SafeLoader
    except yaml.YAMLError:
        raise ConfigError(f"--set {path}: `{text}` is not valid YAML") from None


def load_space(path: Path, overrides: list[str], plugins: Sequence[Path] = ()) -> Space:
    """A validated space; every candidate of it can be built.

    The space's plugin files and `plugins` are run, and stand in it with absolute paths.

    Raises:
        ConfigError: what is wrong, and in which file.
    """
    space = read_space(path, overrides)
    try:
        files = [path.parent / file for file in space.plugins]
        loaded = load_plugins([*files, *plugins])
        space = space.model_copy(update={"plugins": [plugin.path for plugin in loaded]})
        _check_candidates(space)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error
    return space


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


def load_candidate(path: Path, overrides: list[str]) -> Candidate:
    """One configuration: `model`, `optim` and `data`, missing values at their defaults.

    A trial's `config.yaml` has them under `candidate`, and is taken, too.

    Raises:
        ConfigError: what is wrong, and in which file.
    """
    values = read_yaml(path, [])
    values = values.get("candidate", values)
    if not isinstance(values, dict):
        raise ConfigError(f"{path.name}: candidate must be a mapping of keys to values")
    for override in overrides:
        _override(values, override)
    for key in values:
        if key not in Candidate.model_fields:
            raise ConfigError(f"{path.name}: {unknown('key', str(key), Candidate.model_fields)}")
    try:
        data = DataConfig.model_validate(values.get("data") or {})
        parts = {part: values.get(part) or {} for part in ("model", "optim")}
        for part, inner in parts.items():
            if not isinstance(inner, dict):
                raise ConfigError(f"{part} must be a mapping of keys to values, got {inner!r}")
        return build(parts, data)
    except ValidationError as error:
        raise ConfigError(f"{path.name}: data: {first_error(error, DataConfig)}") from error
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def _known_keys(values: Tree, path: Path) -> None:
    for key in values:
        if key not in Space.model_fields:
            raise ConfigError(f"{path.name}: {unknown('key', str(key), Space.model_fields)}")


def _check_candidates(space: Space) -> None:
    """Build a candidate for every value of every axis, so that no trial meets a bad one."""
    for arm in space.learned_arms:
        tree = space.recipe(arm)
        sizes = [space.explore.size] if space.explore else []
        sizes += [size for budget in space.budgets(Stage.MEASURE) for size in space.sizes(budget)]
        for size in sizes or [{}]:
            _check_axes({**tree, "size": parse_tree(size)}, space.data)
        if space.explore is None and open_axes(tree):
            axis = next(iter(open_axes(tree)))
            raise ConfigError(f"arm `{arm}` leaves `{axis}` open, but there is no explore stage")
    for name, control in space.arms.items():
        if control.control_of is not None:
            if open_axes(over({"model": {}, "optim": {}}, control)):
                raise ConfigError(f"control arm `{name}` has no axes of its own")
            _check_axes(over(space.recipe(control.control_of), control), space.data)
    if space.explore and space.explore.sampler == "grid":
        for arm in space.learned_arms:
            next(grid({**space.recipe(arm), "size": parse_tree(space.explore.size)}))


def _check_axes(tree: Tree, data: DataConfig) -> None:
    """Vary two axes at a time over their values (their ends, where they are continuous)."""
    axes = open_axes(tree)
    build(resolve(tree, lambda path, axis: _leading_to(path, axis, {})), data)
    for one, other in combinations_with_replacement(axes, 2):
        for values in product(_ends(axes[one]), _ends(axes[other])):
            varied = dict(zip((one, other), values, strict=True))

            def pick(path: str, axis: Distribution, varied: Tree = varied) -> Any:
                return _leading_to(path, axis, varied)

            build(resolve(tree, pick), data)


def _leading_to(path: str, axis: Distribution, varied: Tree) -> Any:
    """The value of a varied axis; of the others the first that brings a varied one along."""
    if path in varied:
        return varied[path]
    values = _ends(axis)
    leading = (value for value in values if varied.keys() & open_axes(value, inside(path, value)))
    return next(leading, values[0])


def _ends(axis: Distribution) -> tuple[Any, ...]:
    if isinstance(axis, Choice):
        return axis.values
    if isinstance(axis, Int):
        values = int_values(axis)
        return values if len(values) <= 64 else (*values[:63], values[-1])
    return (axis.low, axis.high)
