"""The application, and the options that several verbs have."""

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

app = typer.Typer(
    help="Architecture search for Mixture-of-Depths transformers at equal training FLOPs.",
    epilog="Exit codes: 0 done, 1 a check failed, 2 a mistake that the message names, "
    "130 interrupted (the same command goes on).",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Shown(StrEnum):
    """How a running study or training is shown, on stderr."""

    TEXT = "text"
    JSON = "json"
    NONE = "none"


Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value: a.b=c; repeatable."),
]
SpaceName = Annotated[str, typer.Argument(help="A YAML file, or a shipped space's bare name.")]
ConfigName = Annotated[Path, typer.Argument(help="A YAML file with model, optim and data.")]
StudyDir = Annotated[Path, typer.Argument(help="A directory that `modsearch search` made.")]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Python file with components; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Progress = Annotated[
    Shown,
    typer.Option(help="On stderr: text, or json (a line for each event), or none."),
]


def warn(lines: Iterable[str]) -> None:
    """Warnings go to stderr: stdout is for results."""
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def as_array(found: Iterable[BaseModel]) -> str:
    """Models as one JSON array."""
    return json.dumps([each.model_dump(mode="json") for each in found], indent=2)
