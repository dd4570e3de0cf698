"""Which components a model is made of, and whether they are modsearch's own; without torch."""

from collections.abc import Iterable

from modsearch.config.model import ModelConfig
from modsearch.registry import table


def base_name(kind: str, name: str) -> str:
    """The component behind a name; a composite block stands for a block with a certain ffn."""
    if kind == "block" and name in table.COMPOSITES:
        return table.COMPOSITES[name]["block"]
    return name


def components_of(models: Iterable[ModelConfig]) -> set[tuple[str, str]]:
    """Kinds and names."""
    found = set()
    for model in models:
        parts = {"block": model.block, "router": model.router, "schedule": model.schedule}
        if model.ffn is not None:
            parts["ffn"] = model.ffn
        found |= {(kind, base_name(kind, part.name)) for kind, part in parts.items()}
    return found


def are_built_in(models: Iterable[ModelConfig]) -> bool:
    """Whether nothing of them can come from a plugin file, which takes no name of ours."""
    return all(name in table.TABLES[kind] for kind, name in components_of(models))
