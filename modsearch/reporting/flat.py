"""Candidates as rows of a table: one value a column, and which columns tell them apart."""

from collections import defaultdict
from collections.abc import Sequence

from modsearch.analysis.arms import is_routed
from modsearch.config.records import Record
from modsearch.reporting.frames import Row

OF_ROUTING = ("capacity", "every", "router")
"""What means nothing to a model that routes nothing."""


def flat_recipe(record: Record) -> Row:
    """Everything of a candidate but its text, one value a name; nothing of routing where no token
    is routed."""
    candidate = record.candidate.model_dump(mode="json", exclude={"data": True})
    if not is_routed(record):
        for name in OF_ROUTING:
            del candidate["model"][name]
    flat: Row = {}
    candidate["optim"]["rate_schedule"] = candidate["optim"].pop("schedule")  # as its kind
    for part in ("model", "optim"):
        for name, value in candidate[part].items():
            if isinstance(value, dict):
                flat[name] = value["name"]
                flat |= {f"{name}.{key}": each for key, each in value.items() if key != "name"}
            else:
                flat[name] = value
    return flat


def varying(recipes: Sequence[tuple[str, Row]]) -> list[str]:
    """What some arm has several values of; what sets arms apart is in their names."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for arm, recipe in recipes:
        for name, value in recipe.items():
            values[arm, name].add(str(value))
    names = dict.fromkeys(name for _, recipe in recipes for name in recipe)
    several = {name for (_, name), found in values.items() if len(found) > 1}
    return [name for name in names if name in several]
