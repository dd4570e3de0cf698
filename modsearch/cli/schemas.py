"""The verb that says what a file or an answer looks like, as JSON Schema."""

import json
from enum import StrEnum
from importlib import import_module
from typing import Annotated, Any, Literal

import typer

from modsearch.cli.options import app


class What(StrEnum):
    """What has a schema."""

    SPACE = "space"
    RECIPE = "recipe"
    CONFIG = "config"
    RECORD = "record"
    PLAN = "plan"
    OUTCOME = "outcome"
    STATUS = "status"
    PREDICTIONS = "predictions"
    SPEEDS = "speeds"
    PACKED = "packed"
    FRONT = "front"
    DATA = "data"
    EVAL = "eval"
    COMPARE = "compare"
    GENERATE = "generate"
    EXPORT = "export"
    FLOPS = "flops"
    EVENT = "event"


HOMES: dict[What, tuple[str, str, Literal["validation", "serialization"]]] = {
    What.SPACE: ("modsearch.space.space", "Space", "validation"),
    What.RECIPE: ("modsearch.reporting.recipe", "Recipe", "validation"),
    What.CONFIG: ("modsearch.config.records", "Candidate", "validation"),
    What.RECORD: ("modsearch.config.records", "Record", "serialization"),
    What.PLAN: ("modsearch.planning.forecast", "Forecast", "serialization"),
    What.OUTCOME: ("modsearch.config.answers", "Outcome", "serialization"),
    What.PREDICTIONS: ("modsearch.config.answers", "Predictions", "serialization"),
    What.SPEEDS: ("modsearch.config.speeds", "Speeds", "serialization"),
    What.PACKED: ("modsearch.config.answers", "Packed", "serialization"),
    What.FRONT: ("modsearch.config.answers", "Frontier", "serialization"),
    What.STATUS: ("modsearch.study.status", "StudyStatus", "serialization"),
    What.DATA: ("modsearch.config.answers", "Prepared", "serialization"),
    What.EVAL: ("modsearch.config.answers", "Evaluation", "serialization"),
    What.COMPARE: ("modsearch.config.answers", "ScoreComparison", "serialization"),
    What.GENERATE: ("modsearch.config.answers", "Generation", "serialization"),
    What.EXPORT: ("modsearch.config.answers", "Exported", "serialization"),
    What.FLOPS: ("modsearch.planning.flops", "FlopLedger", "serialization"),
    What.EVENT: ("modsearch.study.events", "Event", "serialization"),
}
"""Module and name of each, and whether it is read or written."""


@app.command()
def schema(
    what: Annotated[
        What, typer.Argument(help="A file that you write, or what --json and --progress print.")
    ],
) -> None:
    """The JSON Schema of a space, a recipe, a configuration, a trial's record, or an answer."""
    print(json.dumps(schema_of(what), indent=2))


def schema_of(what: What) -> dict[str, Any]:
    """A JSON Schema, by draft 2020-12."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    module, name, mode = HOMES[what]
    adapter: TypeAdapter[object] = TypeAdapter(getattr(import_module(module), name))
    dialect = {"$schema": GenerateJsonSchema.schema_dialect}
    return {**dialect, **adapter.json_schema(mode=mode)}
