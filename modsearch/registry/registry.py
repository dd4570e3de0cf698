"""A typed table of names and lazily imported components.

They come from a literal table (built in), from entry points of installed packages, or from
code that registers them, such as a plugin file. No origin takes precedence: a name of two
origins is an error when it is asked for, and the other names go on working.
"""

import importlib
import inspect
from abc import ABCMeta
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from importlib.metadata import entry_points
from typing import Any, Generic, Literal, ParamSpec, TypeVar

from pydantic import ConfigDict

from modsearch.config.base import Stated
from modsearch.errors import ConfigError, ModsearchError, reason, shown, unknown

P = ParamSpec("P")
T = TypeVar("T")

FILES: dict[str, str] = {}
"""Of the modules of plugin files, which fill it; by name of the module."""


@dataclass(frozen=True)
class Origin:
    """Where a component comes from."""

    how: Literal["built-in", "entry point", "plugin file", "registered"]
    target: str
    """`module:attribute`, or `file:attribute` of a plugin file."""
    distribution: str = ""
    """Name and version of the package that has the entry point."""

    @property
    def source(self) -> str:
        """How it came, in words."""
        return f"{self.how} of {self.distribution}" if self.distribution else self.how

    def __str__(self) -> str:
        return f"{self.target} ({self.source})"


class Options(Stated):
    """Base of every component's own options."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Registry(Generic[T]):
    """Components of one kind by name.

    `table` maps a name to `"module:attribute"`, and so do the entry points of `group`; both are
    imported at the first look-up, so that listing names stays cheap. Every component must be a
    subclass of `base`, and define what `base` leaves open. Names in `taken` are no components,
    but nobody else may have them.
    """

    def __init__(
        self,
        kind: str,
        base: type[T],
        table: Mapping[str, str],
        group: str | None = None,
        taken: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.base = base
        self.group = group
        self._table = dict(table)
        self._taken = dict(taken or {})
        self._registered: dict[str, Origin] = {}
        self._loaded: dict[str, type[T]] = {}
        REGISTRIES.append(self)

    @cached_property
    def _entries(self) -> dict[str, list[Origin]]:
        """Entry points by name, read when the first name is looked up."""
        found: dict[str, list[Origin]] = {}
        for entry in entry_points(group=self.group) if self.group else ():
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "no package"
            origin = Origin("entry point", entry.value, package)
            if origin not in found.setdefault(entry.name, []):
                found[entry.name].append(origin)
        return found

    def names(self) -> list[str]:
        """All known names, sorted."""
        return sorted({*self._table, *self._entries, *self._registered})

    def origins(self, name: str) -> list[Origin]:
        """All places that a name comes from: none if it is unknown, several if it clashes."""
        found = [Origin("built-in", self._table[name])] if name in self._table else []
        found += self._entries.get(name, [])
        if name in self._registered and self._registered[name].target not in {
            origin.target for origin in found
        }:
            found.append(self._registered[name])
        return self._in_the_way(name) + found if found else []

    def _in_the_way(self, name: str) -> list[Origin]:
        return [Origin("built-in", self._taken[name])] if name in self._taken else []

    def origin(self, name: str) -> Origin:
        """The one place that a name comes from.

        Raises:
            ConfigError: nobody knows the name, or it has several origins.
        """
        found = self.origins(name)
        if not found:
            error = unknown(self.kind, name, self.names())
            if self.group is None:
                raise error
            raise ConfigError(f"{error}; a file of yours is named by --plugin")
        if len(found) > 1:
            raise self._clash(name, found[0], found[1])
        return found[0]

    def get(self, name: str) -> type[T]:
        """The component of that name.

        Raises:
            ConfigError: nobody knows the name (the message has the nearest one), it has several
                origins, or it is a third party's and can't be loaded.
        """
        if name not in self._loaded:
            origin = self.origin(name)
            self._loaded[name] = self._checked(name, self._import(name, origin), origin)
        return self._loaded[name]

    def name_of(self, component: type) -> str | None:
        """The name under which a component was asked for or registered; None for others."""
        return next((name for name, each in self._loaded.items() if each is component), None)

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that adds a component under `name`.

        Raises:
            ConfigError: the name is taken; the message names both origins.
        """

        def add(component: type[T]) -> type[T]:
            new = origin_of(component)
            for origin in self.origins(name) or self._in_the_way(name):
                # The same again is no clash: a package may register what its entry point names.
                if origin.target != new.target:
                    raise self._clash(name, origin, new)
            self._loaded[name] = self._checked(name, component, new)
            self._registered[name] = new
            return component

        return add

    def _clash(self, name: str, one: Origin, other: Origin) -> ConfigError:
        return ConfigError(
            f"{self.kind} `{name}` comes from both {one} and {other}\n"
            f"give one of them another name, or leave it out"
        )

    def _import(self, name: str, origin: Origin) -> object:
        module, _, attribute = origin.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModsearchError:
            raise
        except (Exception, SystemExit) as error:  # whatever a stranger's module raises
            if origin.how == "built-in":
                raise
            raise ConfigError(
                f"{self.kind} `{name}` can't be loaded from {origin}: {reason(error)}\n"
                f"mend or uninstall that package; everything else goes on working"
            ) from error

    def _checked(self, name: str, component: object, origin: Origin) -> type[T]:
        what = f"{self.kind} `{name}` from {origin}"
        if not (isinstance(component, type) and issubclass(component, self.base)):
            raise ConfigError(
                f"{what} is not a subclass of {self.base.__name__}: {component!r}\n"
                f"a {self.kind} derives from {self.base.__module__}:{self.base.__name__}"
            )
        annotations = inspect.get_annotations(self.base)
        declared = [name for name, kind in annotations.items() if "ClassVar" in str(kind)]
        missing = [attribute for attribute in declared if attribute not in dir(component)]
        if isinstance(component, ABCMeta):
            missing += sorted(component.__abstractmethods__)
        if missing:
            raise ConfigError(
                f"{what} lacks {', '.join(missing)}\n"
                f"{self.base.__module__}:{self.base.__name__} says what each of them is"
            )
        return component


REGISTRIES: list[Registry[Any]] = []
"""All that there are, so that an error can say what a class is registered as."""


def origin_of(component: type) -> Origin:
    """Of a class, by where it is defined."""
    if (file := FILES.get(component.__module__)) is not None:
        return Origin("plugin file", f"{file}:{component.__qualname__}")
    return Origin("registered", f"{component.__module__}:{component.__qualname__}")


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
