"""The models that a component is tested in: every partner that it meets, and each variant."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from modsearch.config.model import Component, ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.errors import unknown
from modsearch.nn.contracts import BLOCKS, FFNS, ROUTERS, Options, RoutedBlock
from modsearch.nn.parts import completed, component_options
from modsearch.optim.parts import completed_optim
from modsearch.registry.built_in import base_name
from modsearch.registry.options import options_of
from modsearch.space.kinds import KINDS, OF_PART, OF_SEARCH
from modsearch.space.samplers import SAMPLERS
from modsearch.testing.probe import Case
from modsearch.testing.searches import LADDER, TREES

SHAPE: dict[str, Any] = {
    "vocab_size": 128,
    "seq_len": 37,
    "depth": 2,
    "width": 16,
    "num_heads": 2,
    "every": 1,
    "capacity": 0.3,
}
"""Of every model here; both layers are routed."""
ROUTED_HOSTS = ("mod", "mode_staged")
FIRST_ROUTER = "expert_choice"


def cases(kind: str, component: str | Component) -> list[Case]:
    """The models that a component is tested in.

    A router stands before a dense block and one with experts. A block or an ffn runs with every
    router that may stand before it, and in each of its variants: options that are one of a few
    words take every word once.

    Args:
        kind: `router`, `block`, `ffn`, `schedule`, `optimizer`, `rate_schedule` or `sampler`.
        component: its name, with other options than the defaults if wanted.

    Raises:
        ConfigError: nobody knows the component, or an option is wrong.
    """
    if kind not in KINDS:
        raise unknown("kind of component", kind, KINDS)
    if isinstance(component, str):
        component = Component(name=component)
    _options(kind, component)
    if kind in OF_PART["optim"]:
        return list(_training_cases(kind, component))
    if kind in OF_SEARCH:
        return list(_search_cases(kind, component))
    found: dict[str, Case] = {}
    for parts in _PARTS[kind](component):
        config = completed(ModelConfig.model_validate({**SHAPE, **parts}))
        case = Case(kind, component.name, config, _label(parts))
        found.setdefault(case.label, case)
    return list(found.values())


def _options(kind: str, component: Component) -> Options:
    if kind in OF_PART["optim"] or kind in OF_SEARCH:
        return options_of(KINDS[kind], component)
    return component_options(kind, component)


def _training_cases(kind: str, component: Component) -> Iterator[Case]:
    """An optimiser on a dense model, and on one with a router and stacks of experts; a schedule
    needs no more than one."""
    key = "optimizer" if kind == "optimizer" else "schedule"
    for block in ("dense", "mode_staged") if kind == "optimizer" else ("dense",):
        config = completed(ModelConfig.model_validate({**SHAPE, "block": block}))
        for variant in _variants(kind, component):
            optim = completed_optim(OptimConfig.model_validate({key: variant, "rate": 0.01}))
            label = f"{_label({key: variant}, (key,))} on {block}"
            yield Case(kind, component.name, config, label, optim)


def _search_cases(kind: str, component: Component) -> Iterator[Case]:
    """A sampler in every space of the kit, and on a ladder where it chooses its sizes."""
    spaces = [*TREES, LADDER] if SAMPLERS.get(component.name).measures else [*TREES]
    config = completed(ModelConfig.model_validate({**SHAPE, "block": "dense"}))
    for variant in _variants(kind, component):
        for space in spaces:
            label = f"{_label({kind: variant}, (kind,))} on {space}"
            yield Case(kind, component.name, config, label, sampler=variant, space=space)


def _router_parts(router: Component) -> Iterator[dict[str, Any]]:
    for host in ROUTED_HOSTS:
        yield {"block": host, "router": router}


def _block_parts(block: Component) -> Iterator[dict[str, Any]]:
    routed = is_routed(block.name)
    ffn = completed(ModelConfig(block=block)).ffn
    assert ffn is not None
    for router in ROUTERS.names() if routed else [None]:
        for variant in _variants("ffn", Component(name=ffn.name), {"selection"}):
            yield _parts(block, router, variant)
    first = FIRST_ROUTER if routed else None
    for variant in _variants("block", block):
        yield _parts(variant, first, Component(name=ffn.name))
    for variant in _variants("ffn", Component(name=ffn.name)):
        yield _parts(block, first, variant)


def _ffn_parts(ffn: Component) -> Iterator[dict[str, Any]]:
    for variant in _variants("ffn", ffn):
        yield _parts(Component(name="dense"), None, variant)
    if not FFNS.get(ffn.name).routes:
        for router in ROUTERS.names():
            for variant in _variants("ffn", ffn, {"selection"}):
                yield _parts(Component(name="mod"), router, variant)


def _parts(block: Component, router: str | None, ffn: Component) -> dict[str, Any]:
    chosen = {"block": block, "ffn": ffn}
    return chosen if router is None else {**chosen, "router": Component(name=router)}


def _schedule_parts(schedule: Component) -> Iterator[dict[str, Any]]:
    for variant in _variants("schedule", schedule):
        yield {"block": "mod", "schedule": variant, "depth": 5, "every": 2}


_PARTS: dict[str, Callable[[Component], Iterator[dict[str, Any]]]] = {
    "router": _router_parts,
    "block": _block_parts,
    "ffn": _ffn_parts,
    "schedule": _schedule_parts,
}


def _variants(
    kind: str, component: Component, among: set[str] | None = None
) -> Iterator[Component]:
    """The component itself, then with each other word for each option that takes words."""
    yield component
    options = _options(kind, component)
    for name, words in _words(type(options)).items():
        for word in words:
            if (among is None or name in among) and word != getattr(options, name):
                yield Component(name=component.name, **{**component.options, name: word})


def _words(config: type[Options]) -> dict[str, tuple[Any, ...]]:
    """Options that are one of a few words."""
    fields = config.model_fields.items()
    return {
        name: get_args(field.annotation)
        for name, field in fields
        if get_origin(field.annotation) is Literal
    }


def is_routed(block: str) -> bool:
    """Whether a block of that name has a router."""
    return issubclass(BLOCKS.get(base_name("block", block)), RoutedBlock)


def _label(
    parts: dict[str, Any], kinds: Sequence[str] = ("block", "router", "ffn", "schedule")
) -> str:
    """Parts as far as they are said, with options."""
    named = [parts[kind] for kind in kinds if kind in parts]
    words = []
    for part in named:
        component = Component(name=part) if isinstance(part, str) else part
        options = [f"{key}={value}" for key, value in component.options.items()]
        words.append(component.name + (f"({', '.join(options)})" if options else ""))
    return " ".join(words)
