"""Candidates of a space: built with their components, and checked before any is trained."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modsearch.config.base import Component
from modsearch.config.data import DataConfig
from modsearch.config.reading import Source, Tree, named, override, read
from modsearch.config.records import Candidate, Job
from modsearch.config.runtime import Plugin, Resources
from modsearch.config.wording import first_error
from modsearch.errors import ConfigError, shown, unknown
from modsearch.nn.model import unlearned
from modsearch.nn.parts import completed, refuse_unnamed
from modsearch.optim.parts import completed_optim, optimizer_of
from modsearch.registry.plugins import load_plugins
from modsearch.space.axes import Distribution, spread
from modsearch.space.kinds import OF_PART, OF_SEARCH
from modsearch.space.points import grid, leading_to, open_axes
from modsearch.space.samplers import sampler_of
from modsearch.space.space import SIZE, WHAT, Arm, Section, Space, over, read_space, said

MOST_CHECKED = 64
"""Values of one axis that are tried."""
MOST_PAIRED = 16
"""Values of one axis that are tried with those of another one."""
MOST_BUILDS = 3000
"""Candidates of a space that are built to try values of one axis at its first size, of pairs of
them, and of one axis at its other sizes, each."""

Origin = Callable[[str], str]
"""Where the user wrote a key of a candidate, such as `model.width`; of `model` and `optim`: what
the candidate is."""


def build(resolved: Tree, data: DataConfig | Tree, origin: Origin = str) -> Candidate:
    """A candidate from resolved values, every component's defaults written out.

    `resolved` has `model` and `optim`, and may have `size` (depth and width).

    Raises:
        ConfigError: a key or a value is wrong; the message names it as `origin` does.
    """
    values = {
        "model": {**resolved["model"], **resolved.get("size", {})},
        "optim": resolved["optim"],
        "data": data,
    }
    try:
        candidate = Candidate.model_validate(values)
    except ValidationError as error:
        raise ConfigError(first_error(error, Candidate, values, origin, choices=True)) from error
    part = "model"
    try:
        model = completed(candidate.model)
        part = "optim"
        return candidate.model_copy(
            update={"model": model, "optim": completed_optim(candidate.optim)}
        )
    except ConfigError as error:
        raise ConfigError(f"{origin(part)}: {error}") from error


def load_space(
    source: Source, overrides: Sequence[str] = (), plugins: Sequence[Path] = ()
) -> Space:
    """A validated space, whose candidates can be built, from a file or a mapping.

    The space's plugin files and `plugins` are run, and stand in it with absolute paths; those of
    a mapping are looked for from the current folder.

    Raises:
        ConfigError: what is wrong, and in which file; of a mapping it begins with `space`.
    """
    return checked(read_space(source, overrides), source, plugins)


def checked(space: Space, source: Source, plugins: Sequence[Path] = ()) -> Space:
    """What `load_space` does with a space that was read from a source already.

    Raises:
        ConfigError: a plugin fails, or a candidate can't be built.
    """
    folder = source.parent if isinstance(source, Path) else Path()
    try:
        files = [folder / file for file in space.plugins]
        loaded = load_plugins([*files, *plugins])
        space = space.model_copy(update={"plugins": [plugin.path for plugin in loaded]})
        for section in (space.fixed, space.axes, *space.arms.values()):
            refuse_unnamed(section.model.stated, loaded)
            refuse_unnamed(section.optim.stated, loaded, OF_PART["optim"])
        for where, sampler in space.samplers.items():
            _check_sampler(where, sampler, loaded)
        _check_candidates(space)
    except ConfigError as error:
        raise ConfigError(f"{named(source, WHAT)}: {error}") from error
    return space


def _check_sampler(where: str, sampler: Component, plugins: Sequence[Plugin]) -> None:
    """Raises:
    ConfigError: it is unknown, an option is wrong, it is of a plugin that is not named, or it
        knows no ladders.
    """
    refuse_unnamed(sampler.name, plugins, OF_SEARCH)
    try:
        found = sampler_of(sampler)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if where.startswith("measure") and not found.measures:
        raise ConfigError(
            f"{where}: sampler `{sampler.name}` can't choose among the sizes of a ladder: take "
            f"`grid` or `isoflop`"
        )


def load_candidate(source: Source, overrides: Sequence[str] = ()) -> Candidate:
    """One configuration: `model`, `optim` and `data`, missing values at their defaults.

    A trial's `config.yaml` has them under `candidate`, and is taken, too.

    Raises:
        ConfigError: what is wrong, and in which file; of a mapping it begins with
            `configuration`.
    """
    what = "configuration"
    values = read(source, [], what)
    try:
        if "candidate" in values:
            values = _inner(values)
        for text in overrides:
            override(values, text)
        for key in values:
            if key not in Candidate.model_fields:
                raise unknown("key", key, Candidate.model_fields)
        values = said(values)
        parts = {part: values.get(part, {}) for part in Candidate.model_fields}
        for part, inner in parts.items():
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"{part}: must be a mapping of keys to values, but got {shown(inner)}"
                )
        return build(parts, parts["data"])
    except ConfigError as error:
        raise ConfigError(f"{named(source, what)}: {error}") from error


def _inner(values: Tree) -> Tree:
    """The candidate of a trial's configuration, which has nothing of it beside."""
    for key in values:
        if key not in Job.model_fields:
            raise ConfigError(
                f"`{key}` beside `candidate`: what is not inside `candidate` would be ignored"
            )
    inner = values["candidate"]
    if not isinstance(inner, dict):
        raise ConfigError(
            f"candidate: must be a mapping of keys to values, but got {shown(inner)}"
        )
    return inner


def unlearned_choices(space: Space) -> list[str]:
    """A line for each arm whose router can't learn what it chooses by, for some value of an
    axis of the model."""
    found: dict[str, None] = {}
    for name, arm in space.arms.items():
        _, size = next(_sizes(space, arm.control_of or name))
        tree = over(space.recipe(arm.control_of or name), arm)
        tree = {**tree, "size": size}
        axes = {path: axis for path, axis in open_axes(tree).items() if path.startswith("model.")}
        trials: list[Tree] = [{}]
        trials += [{path: each} for path in axes for each in axes[path].spread(MOST_PAIRED)]
        for varied in spread(trials, max(1, MOST_BUILDS // len(space.arms))):
            if why := unlearned(build(leading_to(tree, varied), space.data).model):
                found[f"arm `{name}`: {why}"] = None
    return list(found)


def _check_candidates(space: Space) -> None:
    """Build candidates with the values of every axis, so that no trial meets a bad one."""
    checks = _checks(space)
    for first in (True, False):
        of_place = [check for check in checks if check.first is first]
        for check in of_place:
            _check_axes(check, space, max(1, MOST_BUILDS // len(of_place)))
    if space.explore is None:
        for arm in space.learned_arms:
            if axes := open_axes(space.recipe(arm)):
                axis = next(iter(axes))
                raise ConfigError(
                    f"arm `{arm}` leaves `{axis}` open, but there is no explore stage"
                )
    for name, control in space.arms.items():
        if control.control_of is not None:
            for axis in open_axes(over({"model": {}, "optim": {}}, control)):
                raise ConfigError(
                    f"arms.{name}.{axis}: control arm `{name}` has no axes of its own"
                )
    if space.explore and space.explore.is_grid:
        for arm in space.learned_arms:
            next(grid(space.explored(arm)))


@dataclass(frozen=True)
class _Check:
    """A tree whose axes are tried."""

    tree: Tree
    origin: Origin
    first: bool
    """Whether it is at the space's first size, where pairs of axes are tried, too."""


def _checks(space: Space) -> list[_Check]:
    """Of every arm at its sizes, of a control at the first one; what is the same stands once."""
    found: dict[str, _Check] = {}
    for arm, settings in space.arms.items():
        base = settings.control_of
        recipe = over(space.recipe(base), settings) if base else space.recipe(arm)
        for place, (where, size) in enumerate(_sizes(space, base or arm)):
            if place == 0 or base is None:
                tree = {**recipe, "size": size}
                check = _Check(tree, _origin(space, arm, where), place == 0)
                found.setdefault(repr(tree), check)
    return list(found.values())


def _sizes(space: Space, arm: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All sizes of a learned arm, and where they stand."""
    if space.explore:
        yield "explore.size", space.explore.size
    for place, rung in enumerate(space.measure.ladder if space.measure else []):
        for width in rung.widths if arm in (rung.arms or [arm]) else ():
            yield f"measure.ladder.{place}", {"depth": rung.depth, "width": width}


def _origin(space: Space, arm: str, where: str) -> Origin:
    """Of an arm's candidates of the sizes that stand at `where`."""
    base = space.arms[arm].control_of
    sections: dict[str, Section | Arm] = {f"arms.{arm}": space.arms[arm]}
    if base is not None:
        sections[f"arms.{base}"] = space.arms[base]
    sections |= {"axes": space.axes, "fixed": space.fixed}

    def named(key: str) -> str:
        part, *inner = key.split(".")
        if not inner:
            return f"arm `{arm}` at {where}"
        if part == "model" and inner[0] in SIZE:
            plural = "s" if inner[0] == "width" and where.startswith("measure") else ""
            return f"{where}.{inner[0]}{plural}"
        for place, section in sections.items():
            if inner[0] in (section.model if part == "model" else section.optim):
                return f"{place}.{key}"
        return key

    return named


def _check_axes(check: _Check, space: Space, most: int) -> None:
    """Vary each axis over its values, and two axes of the model at a time; so many of both at the
    most, evenly spread."""
    axes = open_axes(check.tree)
    single = [{path: each} for path, axis in axes.items() for each in axis.spread(MOST_CHECKED)]
    found = [{}, *spread(single, most)]
    if check.first:
        found += spread(_pairs(axes, most), most)
    for varied in found:
        made = build(leading_to(check.tree, varied), space.data, check.origin)
        _refuse_parts(made, space.resources, check.origin)


def _refuse_parts(candidate: Candidate, resources: Resources, origin: Origin) -> None:
    """Raises:
    ConfigError: its optimiser steps on whole matrices, and no rank has one.
    """
    in_parts = resources.ranks > 1 and resources.parallel == "fsdp"
    if in_parts and optimizer_of(candidate.optim).multiplies:
        raise ConfigError(
            f"{origin('optim.optimizer')}: `{candidate.optim.optimizer.name}` steps on whole "
            f"matrices, which no rank has with resources.parallel: fsdp\n"
            f"set optimizer: adamw, or parallel: ddp"
        )


def _pairs(axes: dict[str, Distribution], most: int) -> list[Tree]:
    """Values of two axes of the model at a time, fewer of each where there are many pairs."""
    # Settings of the optimiser fit any others.
    of_model = [path for path in axes if not path.startswith("optim.")]
    pairs = list(combinations(of_model, 2))
    each = MOST_PAIRED
    while each > 2 and len(pairs) * each**2 > most:
        each -= 1
    values = {path: axes[path].spread(each) for path in of_model}
    return [
        {one: first, other: second}
        for one, other in pairs
        for first, second in product(values[one], values[other])
    ]
