"""From a model's configuration to its components: names, completed options, instances."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from torch import nn

from modsearch.config.model import Component, ModelConfig
from modsearch.config.runtime import Plugin
from modsearch.errors import ConfigError, unknown
from modsearch.nn.contracts import BLOCKS, FFNS, KINDS, Options, RoutedBlock
from modsearch.registry import table
from modsearch.registry.built_in import base_name
from modsearch.registry.options import made as instance
from modsearch.registry.options import options_of
from modsearch.registry.registry import Registry, named

T = TypeVar("T")


def block_names() -> list[str]:
    """Every name that `block` takes: blocks, and blocks with a certain ffn."""
    return sorted([*BLOCKS.names(), *table.COMPOSITES])


def component_options(kind: str, component: Component) -> Options:
    """The component's options, completed and validated.

    Raises:
        ConfigError: unknown name, unknown option or a value out of range.
    """
    if kind == "block" and component.name not in block_names():
        raise unknown(kind, component.name, block_names())
    return options_of(KINDS[kind], component, base_name(kind, component.name))


def made(cls: type[T], *arguments: object) -> T:
    """An instance of a component.

    Raises:
        ConfigError: its `__init__` does not take what its kind's takes, or leaves out
            `super().__init__`.
    """
    found = instance(cls, *arguments)
    if isinstance(found, nn.Module) and "_modules" not in vars(found):
        raise ConfigError(f"{named(cls)}: __init__ must call super().__init__ with its arguments")
    return found


def completed(config: ModelConfig) -> ModelConfig:
    """The same configuration with every component's defaults written out.

    Raises:
        ConfigError: a component is wrong, or the ffn is not the one of a composite block.
    """
    ffn = config.ffn
    if config.block.name in table.COMPOSITES:
        wanted = table.COMPOSITES[config.block.name]["ffn"]
        ffn = ffn or Component(name=wanted)
        if ffn.name != wanted:
            raise ConfigError(
                f"block `{config.block.name}` has ffn `{wanted}`, but got ffn `{ffn.name}`"
            )
    ffn = ffn or Component(name="mlp")
    if FFNS.get(ffn.name).routes and issubclass(
        BLOCKS.get(base_name("block", config.block.name)), RoutedBlock
    ):
        raise ConfigError(
            f"block `{config.block.name}` and ffn `{ffn.name}` both route\n"
            f"use ffn `{ffn.name}` with block `dense`"
        )
    chosen = {
        "block": config.block,
        "ffn": ffn,
        "router": config.router,
        "schedule": config.schedule,
    }
    parts: dict[str, Any] = {
        kind: Component(name=part.name, **component_options(kind, part).model_dump())
        for kind, part in chosen.items()
    }
    parts["num_kv_heads"] = config.num_kv_heads or config.num_heads
    return config.model_copy(update=parts)


def refuse_unnamed(
    stated: Any, plugins: Iterable[Plugin], kinds: Mapping[str, Registry[Any]] = KINDS
) -> None:
    """What a plugin file of an earlier call registered is not there for this call, as it would
    not be in another process.

    Args:
        stated: plain data in which names of components stand.
        plugins: the files of this call.
        kinds: what may stand there; components of models where nothing is said.

    Raises:
        ConfigError: a name is that of a component of another file.
    """
    files = {plugin.path for plugin in plugins}
    for kind, registry in kinds.items():
        for name in set(words(stated)).intersection(registry.names()):
            origins = [each for each in registry.origins(name) if each.how == "plugin file"]
            for origin in origins:
                file = origin.target.rpartition(":")[0]
                if file not in files:
                    raise ConfigError(
                        f"{kind} `{name}` is of plugin {file}, which was not named this time\n"
                        f"name it by --plugin, or in `plugins` of a space"
                    )


def words(value: Any) -> Iterator[str]:
    """All texts in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from words(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from words(inner)
