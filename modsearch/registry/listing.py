"""What is registered: the list of components, and one component with its options."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from modsearch.config.base import Frozen
from modsearch.config.model import Component
from modsearch.errors import unknown
from modsearch.registry.registry import Registry
from modsearch.registry.table import COMPOSITES, TAKEN


class Listed(Frozen):
    """A name that is registered, and where it comes from."""

    kind: str
    name: str
    source: str
    """built-in, entry point of a package, plugin file, or registered."""
    target: str
    """`module:attribute`, or what a composite name stands for."""
    clash: str | None = None
    """Why the name can't be used; None where it can."""


class Option(Frozen):
    """An option of a component."""

    name: str
    type: str
    default: str
    help: str


class Description(Frozen):
    """One component; a composite name has its parts after it."""

    kind: str
    name: str
    text: str
    """First paragraph of the docstring."""
    origin: str | None
    """None of a composite."""
    options: list[Option]


def listing(registries: Mapping[str, Registry[Any]]) -> list[Listed]:
    """Every component, by kind and name.

    Nothing is imported, so a broken package can't break the list.
    """
    found = []
    for kind, registry in registries.items():
        for name in registry.names():
            origins = registry.origins(name)
            clash = None
            if len(origins) > 1:
                both = " and ".join(map(str, origins))
                clash = f"{kind} `{name}` can't be used: it comes from both {both}"
            found += [
                Listed(kind=kind, name=name, source=each.source, target=each.target, clash=clash)
                for each in origins
            ]
    clashing = registries["block"].names()
    found += [
        Listed(kind="block", name=name, source="built-in", target=what)
        for name, what in TAKEN.items()
        if name not in clashing
    ]
    return sorted(found, key=lambda each: (each.kind, each.name))


def descriptions(registries: Mapping[str, Registry[Any]], name: str) -> list[Description]:
    """What a component is, of every kind that has the name; a composite and then its parts.

    Raises:
        ConfigError: nobody knows the name, or the component can't be loaded.
    """
    kinds = [kind for kind, registry in registries.items() if name in registry.names()]
    if name in COMPOSITES:
        parts = COMPOSITES[name]
        text = f"block `{parts['block']}` with ffn `{parts['ffn']}`"
        whole = Description(kind="block", name=name, text=text, origin=None, options=[])
        return [whole, *(_described(kind, parts[kind], registries[kind]) for kind in parts)]
    if not kinds:
        names = set(COMPOSITES) | {
            known for registry in registries.values() for known in registry.names()
        }
        raise unknown("component", name, names)
    return [_described(kind, name, registries[kind]) for kind in kinds]


def _described(kind: str, name: str, registry: Registry[Any]) -> Description:
    component = registry.get(name)
    # Not inspect.getdoc, which falls back on the base class.
    paragraph = inspect.cleandoc(component.__doc__ or "no docstring").partition("\n\n")[0]
    options: type[BaseModel] = component.Config
    return Description(
        kind=kind,
        name=name,
        text=" ".join(paragraph.split()),
        origin=str(registry.origin(name)),
        options=[_option(option, field) for option, field in options.model_fields.items()],
    )


def _option(name: str, field: FieldInfo) -> Option:
    default = (
        "required" if field.is_required() else f"{field.get_default(call_default_factory=True)}"
    )
    help = " ".join((field.description or "").split())
    return Option(name=name, type=kind_of(field), default=default, help=help)


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
    if issubclass(get_origin(annotation) or annotation, BaseModel | Mapping):
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
