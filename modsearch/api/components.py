"""What components there are, and whether they keep the contract."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modsearch.config.arguments import check_paths

if TYPE_CHECKING:
    from modsearch.config.runtime import Plugin
    from modsearch.registry.listing import Description, Listed
    from modsearch.registry.registry import Registry
    from modsearch.testing.conformance import Examined

Files = Sequence[str | Path]


def components(*, plugins: Files = ()) -> "list[Listed]":
    """What is registered: blocks, ffns, routers, schedules, optimisers, rate schedules
    and samplers, and where they come from."""
    from modsearch.registry.listing import listing

    loaded_plugins(plugins)
    return listing(_registries())


def describe(name: str, *, plugins: Files = ()) -> "list[Description]":
    """What a component is, where it comes from, and its options; one for each kind that has the
    name."""
    loaded_plugins(plugins)
    from modsearch.registry.listing import descriptions
    from modsearch.space.kinds import KINDS

    return descriptions(KINDS, name)


def check(name: str, *, plugins: Files = ()) -> "list[Examined]":
    """Run the conformance kit on a component; `KIND:NAME` where kinds share a name."""
    loaded_plugins(plugins)
    from modsearch.testing.conformance import examine

    return examine(name)


def _registries() -> "Mapping[str, Registry[Any]]":
    """The registries, or where torch is not needed yet their names and origins."""
    homes = {f"modsearch.{room}" for room in ("nn.contracts", "optim.contracts", "space.samplers")}
    if homes & sys.modules.keys():
        from modsearch.space.kinds import KINDS

        return KINDS
    from modsearch.registry.registry import Registry
    from modsearch.registry.table import GROUPS, TABLES, TAKEN

    return {
        kind: Registry(kind, object, TABLES[kind], GROUPS[kind], TAKEN if kind == "block" else {})
        for kind in TABLES
    }


def loaded_plugins(files: Files) -> "tuple[Plugin, ...]":
    """Plugin files, run once."""
    paths = check_paths("plugin", files)
    if not paths:
        return ()
    from modsearch.registry.plugins import load_plugins

    return load_plugins(paths)
