"""From a name and options to a component: what a user wrote, completed and checked."""

import inspect
from typing import Any, TypeVar

from pydantic import ValidationError

from modsearch.config.base import Component
from modsearch.config.wording import first_error
from modsearch.errors import ConfigError, unknown
from modsearch.registry.registry import Options, Registry, named

T = TypeVar("T")


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
