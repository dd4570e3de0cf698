"""The conformance kit: a component with every partner that it meets, and what must hold there.

In a plugin's tests, once the plugin has registered `mine`:

    @pytest.mark.parametrize("trial", conformance_cases("router", "mine"), ids=str)
    def test_mine(trial):
        run_case(trial)

`modsearch components check mine` prints the same as a table.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from modsearch.config.base import Frozen
from modsearch.config.model import Component
from modsearch.errors import unknown
from modsearch.nn.parts import block_names
from modsearch.registry.built_in import base_name
from modsearch.registry.plugins import plugin_frame
from modsearch.space.kinds import KINDS, OF_PART, OF_SEARCH
from modsearch.testing.cases import cases, is_routed
from modsearch.testing.checks import (
    causality,
    decoding,
    flops,
    proposals,
    rows,
    statements,
    training,
    updates,
)
from modsearch.testing.probe import Broken, Case

Check = Callable[[Case], None]

COMPONENT_CHECKS: dict[str, Check] = {"options": statements.options}
"""On a component alone."""

MODEL_CHECKS: dict[str, Check] = {
    "builds": statements.builds,
    "shapes": statements.shapes,
    "output_weights": statements.output_weights,
    "gradients": training.gradients,
    "learns": training.learns,
    "passes": training.passes,
    "no_token_lost": rows.no_token_lost,
    "flops": flops.flops,
    "causal_flops": flops.causal_flops,
    "later_tokens": causality.later_tokens,
    "other_rows": causality.other_rows,
    "batch_size": causality.batch_size,
    "padding": causality.padding,
    "padding_in_training": causality.padding_in_training,
    "step_seed": causality.step_seed,
    "fp32": causality.fp32,
    "decoding": decoding.decoding,
    "saves": training.saves,
    "repeats": training.repeats,
    "evaluation": training.evaluation,
}
"""On every model."""

ROUTED_CHECKS: dict[str, Check] = {
    "capacity": rows.capacity,
    "order": rows.order,
    "router_flops": flops.router_flops,
    "stop_gradient": training.stop_gradient,
}
"""On models with a router."""

SCHEDULE_CHECKS: dict[str, Check] = {
    "capacities": statements.capacities,
    "warms_up": statements.warms_up,
}
"""On schedules."""

OPTIMIZER_CHECKS: dict[str, Check] = {
    "moves": updates.moves,
    "lowers": updates.lowers,
    "update_flops": updates.update_products,
    "resumes": updates.resumes,
}
"""On optimisers."""

RATE_CHECKS: dict[str, Check] = {
    "warm_up": updates.warm_up,
    "ends": updates.ends,
    "same_rates": updates.same_rates,
}
"""On schedules of the learning rate."""

SAMPLER_CHECKS: dict[str, Check] = {
    "proposes": proposals.proposes,
    "same_proposals": proposals.same_proposals,
    "takes_prior": proposals.takes_prior,
    "goes_on": proposals.goes_on,
}
"""On samplers."""

CHECKS: dict[str, Check] = {
    **COMPONENT_CHECKS,
    **MODEL_CHECKS,
    **ROUTED_CHECKS,
    **SCHEDULE_CHECKS,
    **OPTIMIZER_CHECKS,
    **RATE_CHECKS,
    **SAMPLER_CHECKS,
}
"""Every check by name; it raises `Broken` with the reason."""


UNLIKE_MODELS = {**OF_PART["optim"], **OF_SEARCH}
"""Kinds that a model alone does not tell apart."""


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


def checks_of(case: Case) -> dict[str, Check]:
    """The checks that have something to look at in a case."""
    if case.kind in OF_PART["optim"]:
        own = OPTIMIZER_CHECKS if case.kind == "optimizer" else RATE_CHECKS
        return {**COMPONENT_CHECKS, **own}
    if case.kind in OF_SEARCH:
        return {**COMPONENT_CHECKS, **SAMPLER_CHECKS}
    if case.kind == "schedule":
        few = {name: MODEL_CHECKS[name] for name in ("builds", "shapes", "flops")}
        return {**COMPONENT_CHECKS, **few, **SCHEDULE_CHECKS}
    routed = ROUTED_CHECKS if is_routed(case.config.block.name) else {}
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
                alone = trial.check in COMPONENT_CHECKS or kind in UNLIKE_MODELS
                subject = trial.subject if alone else model
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


class Examined(Frozen):
    """What the kit found of one component."""

    kind: str
    name: str
    models: int
    """In so many it was tried; a sampler in so many spaces."""
    passed: bool
    findings: list[Finding]


def examine(kind_name: str) -> list[Examined]:
    """Check a component, of each kind that has its name.

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
    found = []
    for each in kinds:
        if name not in known[each]:
            raise unknown(each, name, known[each])
        findings = check(each, name)
        found.append(
            Examined(
                kind=each,
                name=name,
                models=len({f.case for f in findings if f.check not in COMPONENT_CHECKS}),
                passed=all(finding.passed for finding in findings),
                findings=findings,
            )
        )
    return found


def text(found: Iterable[Examined]) -> str:
    """Components, a line for each check."""
    return "\n\n".join(
        f"{each.kind} `{each.name}` in {each.models} {_places(each.kind)}\n{table(each.findings)}"
        for each in found
    )


def _places(kind: str) -> str:
    return "spaces" if kind in OF_SEARCH else "models"
