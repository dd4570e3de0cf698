"""What a search is run with: its engine, and the studies whose trials it may take."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modsearch.config.arguments import check_path
from modsearch.errors import ModsearchError

if TYPE_CHECKING:
    from modsearch.config.runtime import EngineName
    from modsearch.engines.contract import MakeEngine


def studies_of(
    name: str, given: "str | Path | Sequence[str | Path]", files: ExitStack
) -> dict[str, Path]:
    """Folders of studies by what they were called; those of packed ones are there as long as
    `files` is open. `name` is that of the option that names them."""
    from modsearch.store.packed import unpacked

    several = [given] if isinstance(given, str | Path) else given
    found = {}
    for each in several:
        path = check_path(name, each)
        found[str(path)] = files.enter_context(unpacked(path)) if path.is_file() else path
    return found


def engine_named(engine: str, address: str | None, storage: str | None) -> "EngineName":
    """What executes trials, by its name.

    Raises:
        ModsearchError: there is no such engine, or it has no use for what is said of a cluster.
    """
    if engine == "ray":
        return "ray"
    if engine != "local":
        raise ModsearchError(f"--engine takes local or ray, but got `{engine}`")
    for option, value in (("--address", address), ("--storage", storage)):
        if value is not None:
            raise ModsearchError(f"{option} is for a Ray cluster\nadd --engine ray")
    return "local"


def engine_of(kind: "EngineName", address: str | None) -> "MakeEngine":
    """What executes trials."""
    if kind == "ray":
        from modsearch.engines.ray import RayEngine

        return partial(RayEngine, address=address)
    from modsearch.engines.local import local

    return local
