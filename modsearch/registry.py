"""A typed table of names and lazily imported components."""

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from modsearch.errors import ConfigError

T = TypeVar("T")


def unknown(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that nobody knows: says what exists, and the nearest name."""
    names = sorted(known)
    if not names:
        return ConfigError(f"unknown {kind} `{name}`: there are none")
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return ConfigError(f"unknown {kind} `{name}`{hint}\nknown: {', '.join(names)}")


class Registry(Generic[T]):
    """Components of one kind by name.

    `table` maps a name to `"module:attribute"`, imported at the first look-up, so that
    listing names stays cheap. Every component must be a subclass of `base`.
    """

    def __init__(self, kind: str, base: type[T], table: Mapping[str, str]) -> None:
        self.kind = kind
        self.base = base
        self._lazy = dict(table)
        self._loaded: dict[str, type[T]] = {}

    def names(self) -> list[str]:
        """All known names, sorted."""
        return sorted(self._lazy | self._loaded)

    def origin(self, name: str) -> str:
        """Where the component comes from, as `module:attribute`."""
        if name in self._lazy:
            return self._lazy[name]
        component = self.get(name)
        return f"{component.__module__}:{component.__qualname__}"

    def get(self, name: str) -> type[T]:
        """The component of that name.

        Raises:
            ConfigError: nobody knows the name; the message has the nearest one.
        """
        if name not in self._loaded:
            if name not in self._lazy:
                raise unknown(self.kind, name, self.names())
            module, _, attribute = self._lazy[name].partition(":")
            component = getattr(importlib.import_module(module), attribute)
            self._loaded[name] = self._checked(name, component)
        return self._loaded[name]

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that adds a component under `name`.

        Raises:
            ConfigError: the name is taken; the message names both origins.
        """

        def add(component: type[T]) -> type[T]:
            if name in self.names():
                new = f"{component.__module__}:{component.__qualname__}"
                raise ConfigError(
                    f"{self.kind} `{name}` comes from both {self.origin(name)} and {new}\n"
                    f"give one of them another name"
                )
            self._loaded[name] = self._checked(name, component)
            return component

        return add

    def _checked(self, name: str, component: object) -> type[T]:
        if not (isinstance(component, type) and issubclass(component, self.base)):
            raise ConfigError(
                f"{self.kind} `{name}` is not a subclass of {self.base.__name__}: {component!r}"
            )
        return component
