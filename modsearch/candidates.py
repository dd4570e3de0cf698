"""Candidates of a space: built with their components, and all checked before any is trained."""

from collections.abc import Sequence
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

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
from modsearch.reading import first_error, override, read_yaml
from modsearch.registry import unknown
from modsearch.schema import Candidate, DataConfig, Stage
from modsearch.space import Space, over, read_space


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
    for text in overrides:
        override(values, text)
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
