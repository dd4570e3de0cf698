"""What a search is run with: its engine, and the studies whose trials it may take."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modsearch.config.arguments import check_path

if TYPE_CHECKING:
    from modsearch.config.runtime import EngineName
    from modsearch.engines.contract import MakeEngine


def studies_of(reuse: "str | Path | Sequence[str | Path]", files: ExitStack) -> dict[str, Path]:
    """Folders of studies by what they were called; those of packed ones are there as long as
    `files` is open."""
    from modsearch.store.packed import unpacked

    several = [reuse] if isinstance(reuse, str | Path) else reuse
    found = {}
    for each in several:
        path = check_path("reuse", each)
        found[str(path)] = files.enter_context(unpacked(path)) if path.is_file() else path
    return found


def engine_of(kind: "EngineName", address: str | None) -> "MakeEngine":
    """What executes trials."""
    if kind == "ray":
        from modsearch.engines.ray import RayEngine

        return partial(RayEngine, address=address)
    from modsearch.engines.local import local

    return local
