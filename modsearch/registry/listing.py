"""What is registered, as text: the list of components, and one component with its options."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from modsearch.config.model import Component
from modsearch.errors import unknown
from modsearch.registry.registry import Registry
from modsearch.registry.table import COMPOSITES, TAKEN


def listing(registries: Mapping[str, Registry[Any]]) -> tuple[str, list[str]]:
    """Kind, name, source and target of every component, and warnings about clashing names.

    Nothing is imported, so a broken package can't break the list.
    """
    rows: list[tuple[str, ...]] = []
    warnings = []
    for kind, registry in registries.items():
        for name in registry.names():
            origins = registry.origins(name)
            rows += [(kind, name, origin.source, origin.target) for origin in origins]
            if len(origins) > 1:
                both = " and ".join(map(str, origins))
                warnings.append(f"{kind} `{name}` can't be used: it comes from both {both}")
    clashing = registries["block"].names()
    rows += [
        ("block", name, "built-in", what) for name, what in TAKEN.items() if name not in clashing
    ]
    rows.sort(key=lambda row: row[:2])
    return _table(rows), warnings


def description(registries: Mapping[str, Registry[Any]], name: str) -> str:
    """First paragraph of the docstring, origin and options, of every kind that has the name.

    Raises:
        ConfigError: nobody knows the name, or the component can't be loaded.
    """
    kinds = [kind for kind, registry in registries.items() if name in registry.names()]
    if name in COMPOSITES:
        parts = COMPOSITES[name]
        text = f"block `{name}`: block `{parts['block']}` with ffn `{parts['ffn']}`"
        return "\n\n".join(
            [
                text,
                _describe("block", parts["block"], registries["block"]),
                _describe("ffn", parts["ffn"], registries["ffn"]),
            ]
        )
    if not kinds:
        names = set(COMPOSITES) | {
            known for registry in registries.values() for known in registry.names()
        }
        raise unknown("component", name, names)
    return "\n\n".join(_describe(kind, name, registries[kind]) for kind in kinds)


def _describe(kind: str, name: str, registry: Registry[Any]) -> str:
    component = registry.get(name)
    # Not inspect.getdoc, which falls back on the base class.
    paragraph = inspect.cleandoc(component.__doc__ or "no docstring").partition("\n\n")[0]
    options: type[BaseModel] = component.Config
    rows = [_option(option, field) for option, field in options.model_fields.items()]
    return "\n".join(
        [
            f"{kind} `{name}`: {' '.join(paragraph.split())}",
            f"origin: {registry.origin(name)}",
            "options:" if rows else "options: none",
            *(f"  {line}" for line in _table(rows).splitlines()),
        ]
    )


def _option(name: str, field: FieldInfo) -> tuple[str, ...]:
    default = (
        "required" if field.is_required() else f"{field.get_default(call_default_factory=True)}"
    )
    return name, kind_of(field), default, " ".join((field.description or "").split())


def kind_of(field: FieldInfo) -> str:
    """A field's type as one writes it in YAML: the values of a literal, or a type and its
    bounds."""
    return _kind(field.annotation, field.metadata)


def _kind(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = [*more, *metadata]
    inner = get_args(annotation)
    bounds = " ".join(_bounds(metadata))
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, inner))
    if get_origin(annotation) in (Union, UnionType):
        members = [_kind(each) for each in inner if each is not NoneType]
        null = ["null"] if NoneType in inner else []
        return " | ".join([" ".join(filter(None, [*members[:1], bounds])), *members[1:], *null])
    if get_origin(annotation) in (list, tuple):
        word = f"list of {_kind(inner[0])}"
        return f"{word}, {bounds} of them" if bounds else word
    if get_origin(annotation) is dict or issubclass(annotation, BaseModel):
        word = "component" if annotation is Component else "mapping"
        return f"{word}, {bounds} of them" if bounds else word
    return " ".join(filter(None, ["text" if annotation is str else annotation.__name__, bounds]))


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    for bound in metadata:
        match bound:
            case FieldInfo():
                yield from _bounds(bound.metadata)
            case Gt(gt=value):
                yield f"> {_number(value)}"
            case Ge(ge=value) | MinLen(min_length=value):
                yield f">= {_number(value)}"
            case Lt(lt=value):
                yield f"< {_number(value)}"
            case Le(le=value) | MaxLen(max_length=value):
                yield f"<= {_number(value)}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(rows: list[tuple[str, ...]]) -> str:
    """Rows in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
