"""The application, and the options that several verbs have."""

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
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
PackedOrDir = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY", help="A directory that `search` made, or a file that `pack` wrote."
    ),
]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Python file with components; repeatable."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Data sets in the place of the hub: DIR/NAME.jsonl."
    ),
]
TextField = Annotated[
    str | None,
    typer.Option("--text", metavar="FIELD", help="The field with the text, of JSONL or Parquet."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Progress = Annotated[
    Shown,
    typer.Option(help="On stderr: text, or json (a line for each event), or none."),
]


def as_json(found: "BaseModel | list[Any]", indent: int | None = 2) -> str:
    """An answer, or an array of them: ASCII alone, with null for what is no number in JSON."""
    values = found if isinstance(found, list) else [found]
    plain = [_finite(value.model_dump(mode="json")) for value in values]
    return json.dumps(plain if isinstance(found, list) else plain[0], indent=indent)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list) else value
