"""What all configuration and every record is made of: frozen models, strict where a user wrote
them, components by name, and the bounds of numbers."""

from contextlib import suppress
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

MOST_FLOPS = 1e28
"""Ten times and more what any training has taken."""
MOST_LAYERS = 512
MOST_WIDTH = 65_536
MOST_TOKENS = 1_048_576
"""Of a sequence, a vocabulary or a sample."""
MOST_SEED = 2**31 - 1
"""Seeds of trials, batches and draws are made from it in 64 bits."""


class Frozen(BaseModel):
    """Immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stated(Frozen):
    """What a user wrote: a number is a finite number and neither a text nor true or false, but
    2.0 is a count. A list may stand for a tuple or a set, and a text for what has no other form
    in YAML, such as a path."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        return _in_python(cls.model_fields[info.field_name].annotation, value)


def _in_python(kind: Any, value: Any) -> Any:
    """A value of YAML as a strict type of Python's takes it: whole floats are ints, where the type
    has ints and no floats; lists are tuples or sets, and texts members and paths, where it has
    these alone."""
    leaves = _leaves(kind)
    if isinstance(value, list):
        made = [_in_python(kind, each) for each in value]
        for other in (tuple, frozenset, set):
            if other in leaves and list not in leaves:
                return other(made)
        return made
    if isinstance(value, float) and value.is_integer():
        return int(value) if int in leaves and float not in leaves else value
    if isinstance(value, str) and str not in leaves:
        for other in leaves:
            if isinstance(other, type) and issubclass(other, Enum | PurePath):
                with suppress(ValueError):
                    return other(value)
    return value


def _leaves(kind: Any) -> set[Any]:
    """Every type that a type is made of."""
    found = {get_origin(kind) or kind}
    return found.union(*map(_leaves, get_args(kind)))


class Component(BaseModel):
    """A registered component by name, with options of its own beside the name."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The options, without the name."""
        return dict(self.model_extra or {})


def _named(value: object) -> object:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Component | dict) and not (isinstance(value, dict) and not value):
        return value
    raise PydanticCustomError(
        "component", "must be a component's name, or {name: NAME, OPTION: ...}"
    )


ComponentField = Annotated[
    Component,
    BeforeValidator(_named),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"name": {"type": "string"}},
                    "required": ["name"],
                    "additionalProperties": True,
                },
            ]
        }
    ),
]
"""A component; a bare string is its name."""
