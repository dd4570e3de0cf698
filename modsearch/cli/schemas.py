"""The verb that says what a file or an answer looks like, as JSON Schema."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from modsearch.cli.options import app


class What(StrEnum):
    """What has a schema."""

    SPACE = "space"
    CONFIG = "config"
    RECORD = "record"
    OUTCOME = "outcome"
    STATUS = "status"
    EVENT = "event"


@app.command()
def schema(
    what: Annotated[
        What, typer.Argument(help="A file that you write, or what --json and --progress print.")
    ],
) -> None:
    """The JSON Schema of a search space, a configuration, a trial's record, or an answer."""
    from pydantic import TypeAdapter

    from modsearch.config.records import Candidate, Record
    from modsearch.config.results import Outcome
    from modsearch.space.space import Space
    from modsearch.study.events import Event
    from modsearch.study.status import StudyStatus

    adapters: dict[What, TypeAdapter[object]] = {
        What.SPACE: TypeAdapter(Space),
        What.CONFIG: TypeAdapter(Candidate),
        What.RECORD: TypeAdapter(Record),
        What.OUTCOME: TypeAdapter(Outcome),
        What.STATUS: TypeAdapter(StudyStatus),
        What.EVENT: TypeAdapter(Event),
    }
    print(json.dumps(adapters[what].json_schema(), indent=2))
