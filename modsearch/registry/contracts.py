"""What components of every kind have: options of their own, and answers that are checked."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from pydantic import ConfigDict, ValidationError

from modsearch.config.base import Stated
from modsearch.config.model import Component
from modsearch.config.wording import first_error
from modsearch.errors import ConfigError, shown, unknown
from modsearch.registry.registry import REGISTRIES, Registry, origin_of

P = ParamSpec("P")
T = TypeVar("T")


class Options(Stated):
    """Base of every component's own options."""

    model_config = ConfigDict(use_attribute_docstrings=True)


def options_of(registry: Registry[Any], component: Component, base: str | None = None) -> Options:
    """A component's options, completed and validated.

    `base` is the name that stands in the registry, where the component has another one.

    Raises:
        ConfigError: unknown name, unknown option or a value out of range.
    """
    kind = registry.kind
    config: type[Options] = registry.get(base or component.name).Config
    for name in component.options:
        if name not in config.model_fields:
            raise unknown(f"option of {kind} `{component.name}`", name, config.model_fields)
    try:
        return config(**component.options)
    except ValidationError as error:
        wrong = first_error(error, config, component.options, "`{}`".format)
        raise ConfigError(f"{kind} `{component.name}`: option {wrong}") from error


def made(cls: type[T], *arguments: object) -> T:
    """An instance of a component.

    Raises:
        ConfigError: its `__init__` does not take what its kind's takes.
    """
    try:
        inspect.signature(cls).bind(*arguments)
    except TypeError as error:
        raise ConfigError(
            f"{named(cls)}: __init__ does not take what it is given: {error}\n"
            f"the class that it derives from has the arguments"
        ) from error
    return cls(*arguments)


def named(cls: type) -> str:
    """Kind, name and origin of a component's class."""
    for registry in REGISTRIES:
        if (name := registry.name_of(cls)) is not None:
            origin = (registry.origins(name) or [origin_of(cls)])[0]
            return f"{registry.kind} `{name}` from {origin}"
    return f"`{cls.__name__}` from {origin_of(cls)}"


def check_answers(cls: type, answers: Mapping[str, type]) -> None:
    """Let the methods that a class defines answer with these types, or with an error that names
    the class: a component of somebody else's may forget a `return`.

    Raises:
        ConfigError: its `Config` is something else than options.
    """
    config = vars(cls).get("Config", Options)
    if not (isinstance(config, type) and issubclass(config, Options)):
        raise ConfigError(
            f"`{cls.__name__}` from {origin_of(cls)}: Config is {shown(config)}\n"
            f"it must be a class that derives from {Options.__module__}:Options"
        )
    for method, wanted in answers.items():
        if method in vars(cls):
            setattr(cls, method, _answering(vars(cls)[method], wanted))


def _answering(method: Callable[P, T], wanted: type) -> Callable[P, T]:
    @wraps(method)
    def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        found = method(*args, **kwargs)
        if not isinstance(found, wanted):
            got = "nothing" if found is None else f"a value of type {type(found).__name__}"
            raise ConfigError(
                f"{named(type(args[0]))}: {method.__name__}() gives {got}\n"
                f"it must return a value of type {wanted.__name__}"
            )
        return found

    return answer
