"""The conformance kit: a component with every partner that it meets, and what must hold there.

In a plugin's tests, once the plugin has registered `mine`:

    @pytest.mark.parametrize("trial", conformance_cases("router", "mine"), ids=str)
    def test_mine(trial):
        run_case(trial)

`modsearch components check mine` prints the same as a table.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import torch

from modsearch.config.model import Component, ModelConfig
from modsearch.errors import unknown
from modsearch.nn.contracts import BLOCKS, FFNS, KINDS, ROUTERS, Options, RoutedBlock
from modsearch.nn.parts import base_name, block_names, completed, component_options
from modsearch.registry.plugins import plugin_frame
from modsearch.testing.checks import (
    COMPONENT_CHECKS,
    MODEL_CHECKS,
    ROUTED_CHECKS,
    SCHEDULE_CHECKS,
    Broken,
    Case,
)

CHECKS: dict[str, Callable[[Case], None]] = {
    **COMPONENT_CHECKS,
    **MODEL_CHECKS,
    **ROUTED_CHECKS,
    **SCHEDULE_CHECKS,
}
"""Every check by name; it raises `Broken` with the reason."""

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


@dataclass(frozen=True)
class Trial:
    """One check on one case."""

    case: Case
    check: str

    @property
    def subject(self) -> str:
        """The model, or the component alone."""
        case = self.case
        return f"{case.kind} {case.name}" if self.check in COMPONENT_CHECKS else case.label

    def __str__(self) -> str:
        return f"{self.subject}: {self.check}"


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    case: str
    check: str
    passed: bool
    why: str
    """What is not kept; empty where it passed."""


def cases(kind: str, component: str | Component) -> list[Case]:
    """The models that a component is tested in.

    A router stands before a dense block and one with experts. A block or an ffn runs with every
    router that may stand before it, and in each of its variants: options that are one of a few
    words take every word once.

    Args:
        kind: `router`, `block`, `ffn` or `schedule`.
        component: its name, with other options than the defaults if wanted.

    Raises:
        ConfigError: nobody knows the component, or an option is wrong.
    """
    if kind not in KINDS:
        raise unknown("kind of component", kind, KINDS)
    if isinstance(component, str):
        component = Component(name=component)
    component_options(kind, component)
    found: dict[str, Case] = {}
    for parts in _PARTS[kind](component):
        config = completed(ModelConfig.model_validate({**SHAPE, **parts}))
        case = Case(kind, component.name, config, _label(parts))
        found.setdefault(case.label, case)
    return list(found.values())


def _router_parts(router: Component) -> Iterator[dict[str, Any]]:
    for host in ROUTED_HOSTS:
        yield {"block": host, "router": router}


def _block_parts(block: Component) -> Iterator[dict[str, Any]]:
    routed = _is_routed(block.name)
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
    options = component_options(kind, component)
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


def _is_routed(block: str) -> bool:
    return issubclass(BLOCKS.get(base_name("block", block)), RoutedBlock)


def _label(parts: dict[str, Any]) -> str:
    """Block, router, ffn and schedule as far as they are said, with options."""
    named = [parts[kind] for kind in ("block", "router", "ffn", "schedule") if kind in parts]
    words = []
    for part in named:
        component = Component(name=part) if isinstance(part, str) else part
        options = [f"{key}={value}" for key, value in component.options.items()]
        words.append(component.name + (f"({', '.join(options)})" if options else ""))
    return " ".join(words)


def checks_of(case: Case) -> dict[str, Callable[[Case], None]]:
    """The checks that have something to look at in a case."""
    if case.kind == "schedule":
        few = {name: MODEL_CHECKS[name] for name in ("builds", "shapes", "flops")}
        return {**COMPONENT_CHECKS, **few, **SCHEDULE_CHECKS}
    routed = ROUTED_CHECKS if _is_routed(case.config.block.name) else {}
    return {**COMPONENT_CHECKS, **MODEL_CHECKS, **routed}


def conformance_cases(kind: str, component: str | Component) -> list[Trial]:
    """Every check on every case of a component, for `pytest.mark.parametrize`.

    Raises:
        ConfigError: nobody knows the component, or an option is wrong.
    """
    found = []
    for number, case in enumerate(cases(kind, component)):
        names = [name for name in checks_of(case) if not (number and name in COMPONENT_CHECKS)]
        found += [Trial(case, name) for name in names]
    return found


def registry_cases() -> list[Trial]:
    """Every check on everything that is registered; a model that two components share, once."""
    found: dict[tuple[str, str], Trial] = {}
    for kind, registry in KINDS.items():
        for name in block_names() if kind == "block" else registry.names():
            for trial in conformance_cases(kind, name):
                config = trial.case.config
                # A composite name and its block with the same ffn are one model.
                base = base_name("block", config.block.name)
                block = Component(name=base, **config.block.options)
                model = config.model_copy(update={"block": block}).model_dump_json()
                subject = trial.subject if trial.check in COMPONENT_CHECKS else model
                found.setdefault((trial.check, subject), trial)
    return list(found.values())


def run_case(trial: Trial) -> None:
    """Run one check with fixed seeds on one thread, and leave torch's generator as it was.

    Raises:
        Broken: the component does not keep what the check asks for.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors are small: a second thread costs more than it brings
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            CHECKS[trial.check](trial.case)
    finally:
        torch.set_num_threads(num_threads)


def finding(trial: Trial) -> Finding:
    """The same as data: a component that raises has not passed."""
    try:
        run_case(trial)
    except Broken as broken:
        why = str(broken)
    except Exception as error:  # whatever a component of somebody else's raises is a finding
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if (at := plugin_frame(error)) is not None:
            why += f" ({at.filename}, line {at.lineno})"
    else:
        return Finding(trial.subject, trial.check, True, "")
    return Finding(trial.subject, trial.check, False, why)


def check(kind: str, component: str | Component) -> list[Finding]:
    """Run every check on every case of a component.

    Raises:
        ConfigError: nobody knows the component, or an option is wrong.
    """
    return [finding(trial) for trial in conformance_cases(kind, component)]


def table(findings: list[Finding]) -> str:
    """A line for each check, then a line for each reason of failures."""
    by_check: dict[str, list[Finding]] = {}
    for each in findings:
        by_check.setdefault(each.check, []).append(each)
    width = max(len(name) for name in by_check)
    lines = []
    for name, of_check in by_check.items():
        passed = sum(each.passed for each in of_check)
        says = (CHECKS[name].__doc__ or "").splitlines()[0]
        state = "ok  " if passed == len(of_check) else "FAIL"
        lines.append(f"{state}  {name:<{width}}  {passed}/{len(of_check)}  {says}")
    by_reason: dict[str, list[Finding]] = {}
    for each in findings:
        if not each.passed:
            by_reason.setdefault(each.why, []).append(each)
    lines += [""] * bool(by_reason)
    for why, (first, *others) in by_reason.items():
        more = f" (and {len(others)} more)" if others else ""
        lines.append(f"{first.case}: {first.check}{more}: {why}")
    return "\n".join(lines)


def report(kind_name: str) -> tuple[str, bool]:
    """Check a component, and say whether all passed.

    Args:
        kind_name: `NAME`, or `KIND:NAME` for one of several kinds that have the name.

    Raises:
        ConfigError: nobody knows the name.
    """
    kind, _, name = kind_name.rpartition(":")
    known = {each: registry.names() for each, registry in KINDS.items()}
    known["block"] = block_names()
    if kind and kind not in known:
        raise unknown("kind of component", kind, known)
    kinds = [kind] if kind else [each for each, names in known.items() if name in names]
    if not kinds:
        raise unknown("component", name, {each for names in known.values() for each in names})
    parts, passed = [], True
    for each in kinds:
        if name not in known[each]:
            raise unknown(each, name, known[each])
        findings = check(each, name)
        num_cases = len({found.case for found in findings if found.check not in COMPONENT_CHECKS})
        passed = passed and all(found.passed for found in findings)
        parts.append(f"{each} `{name}` in {num_cases} models\n{table(findings)}")
    return "\n\n".join(parts), passed
