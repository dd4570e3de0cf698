"""A search space: loaded and checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modsearch.api.components import Files
from modsearch.config.arguments import (
    check_path,
    check_paths,
    check_texts,
)
from modsearch.errors import ModsearchError

if TYPE_CHECKING:
    from modsearch.space.space import Space

    SpaceLike = str | Path | Mapping[str, Any] | Space
    """A YAML file, the bare name of a shipped space, plain data, or a loaded space."""


def load_space(
    space: "SpaceLike", *, overrides: Sequence[str] = (), plugins: Files = ()
) -> "Space":
    """A validated search space, all of whose candidates can be built.

    Args:
        space: a YAML file, the bare name of a shipped space, plain data, or a loaded space.
        overrides: values to replace, such as `"confirm.runs=12"`.
        plugins: Python files with components.

    Raises:
        ModsearchError: what is wrong, and where.
    """
    return checked_outline(outline(space, overrides), space, plugins)


def outline(space: "SpaceLike", overrides: Sequence[str] = ()) -> "Space":
    """A space whose candidates are not built yet: what is wrong so far is told without torch."""
    from modsearch.evaluation.local_data import LocalData
    from modsearch.evaluation.suites import load_suite
    from modsearch.space.space import Space, read_space

    overrides = check_texts("set", overrides)
    if isinstance(space, Space):
        if overrides:
            raise ModsearchError("a loaded space takes no overrides: load it with them")
        found, where = space, "space"
    else:
        source = _source(space)
        found = read_space(source, overrides)
        where = str(source) if isinstance(source, Path) else "space"
    objective = found.explore.metric if found.explore is not None else None
    suites: list[tuple[str, str, str | None]] = []
    if (asked := found.asked_suite) is not None:
        suites.append(("suite", asked.name, asked.data_dir))
    if objective is not None:
        suites.append(("explore.objective", objective.suite, objective.data_dir))
    for key, suite, folder in suites:
        try:  # what is wrong with it is said now, not after hours of training
            load_suite(suite)
            LocalData.at(folder)
        except ModsearchError as error:
            raise type(error)(f"{where}: {key}: {error}") from error
    return found


def checked_outline(sketch: "Space", space: "SpaceLike", plugins: Files) -> "Space":
    """The outline of a space with its plugins run and its candidates built."""
    from modsearch.space.candidates import checked
    from modsearch.space.space import Space

    source = {} if isinstance(space, Space) else _source(space)
    return checked(sketch, source, check_paths("plugin", plugins))


def _source(space: "str | Path | Mapping[str, Any]") -> "Path | Mapping[str, Any]":
    from modsearch.config.shipped import shipped

    if isinstance(space, Mapping):
        return space
    check_path("space", space)
    # A path is never the name of a shipped one.
    return shipped("search_spaces", space if isinstance(space, str) else str(Path.cwd() / space))
