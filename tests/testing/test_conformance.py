"""The conformance kit: the registries pass it, and each check catches what it is meant for.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modsearch.config.model import Component, ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.errors import ConfigError
from modsearch.nn.contracts import (
    FFNS,
    ROUTERS,
    SCHEDULES,
    Context,
    Ffn,
    Mode,
    Options,
    Router,
    Routing,
    Schedule,
    Update,
    num_selected,
)
from modsearch.nn.cost import Cost, Flops
from modsearch.nn.parts import block_names
from modsearch.nn.selection import gate, pack, share, token_scores, top_k
from modsearch.optim.contracts import (
    OPTIMIZERS,
    RATE_SCHEDULES,
    Optimizer,
    RateSchedule,
    Weight,
)
from modsearch.optim.groups import grouped
from modsearch.registry.registry import Origin
from modsearch.space.kinds import KINDS
from modsearch.space.points import open_axes, point_at
from modsearch.space.samplers import SAMPLERS, Ask, Point, Sampler
from modsearch.testing import conformance
from modsearch.testing.cases import cases
from modsearch.testing.conformance import (
    CHECKS,
    Finding,
    Trial,
    check,
    conformance_cases,
    examine,
    finding,
    registry_cases,
    run_case,
    table,
    text,
)

EVERYTHING = registry_cases()
MORE = [
    ("block", Component(name="mod", part="attention")),
    ("block", Component(name="mod", part="ffn")),
    ("router", Component(name="expert_choice", gate="softmax_selected")),
    ("router", Component(name="threshold", gate="softmax_selected")),
    ("router", Component(name="token_choice", balance="bias", activation="sigmoid")),
    ("ffn", Component(name="moe", top_k=2, num_experts=3, capacity_factor=2.0)),
    ("ffn", Component(name="mode_integrated", top_k=2, num_noops=2, z_weight=0.1)),
]
"""Options that are not one of a few words."""


@pytest.mark.parametrize("trial", EVERYTHING, ids=str)
def test_what_is_registered_conforms(trial: Trial) -> None:
    run_case(trial)


def first_host(kind: str, component: Component) -> list[Trial]:
    """The checks on one model only."""
    found = conformance_cases(kind, component)
    return [trial for trial in found if trial.case == found[0].case]


@pytest.mark.parametrize("trial", [trial for each in MORE for trial in first_host(*each)], ids=str)
def test_other_options_conform(trial: Trial) -> None:
    run_case(trial)


# What the kit runs.


def test_everything_that_is_registered_is_there() -> None:
    seen = {(trial.case.kind, trial.case.name) for trial in EVERYTHING if trial.check == "options"}
    wanted = {(kind, name) for kind, registry in KINDS.items() for name in registry.names()}
    assert wanted <= seen
    assert {name for kind, name in seen if kind == "block"} == set(block_names())
    assert {trial.check for trial in EVERYTHING} == set(CHECKS)
    assert len({str(trial) for trial in EVERYTHING}) == len(EVERYTHING), "names of tests differ"


def test_every_router_meets_every_routed_block_and_selection() -> None:
    configs = [trial.case.config for trial in EVERYTHING if trial.check == "decoding"]
    mod = {config.router.name for config in configs if config.block.name == "mod"}
    staged = {
        (config.router.name, config.ffn.options["selection"])
        for config in configs
        if config.ffn is not None and config.ffn.name == "moe" and config.block.name != "moe"
    }
    assert mod == set(ROUTERS.names())
    selections = {"token_choice", "expert_choice"}
    assert {(r, s) for r in ROUTERS.names() for s in selections} <= staged
    for block in ("moe", "mode_integrated"):
        of_block = [case.config.ffn for case in cases("block", block)]
        assert {ffn.options["selection"] for ffn in of_block if ffn is not None} == selections


def test_a_router_runs_in_a_dense_block_and_with_experts() -> None:
    found = cases("router", "threshold")
    assert [case.config.block.name for case in found] == ["mod", "mode_staged"]
    assert {case.config.router.name for case in found} == {"threshold"}


def test_cases_take_options() -> None:
    [first, *_] = cases("router", Component(name="expert_choice", gate="sigmoid"))
    assert first.config.router.options["gate"] == "sigmoid"
    assert str(first) == "mod expert_choice(gate=sigmoid)"


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("router", "treshold", "did you mean `threshold`"),
        ("block", "mode_stage", "did you mean `mode_staged`"),
        ("rooter", "threshold", "did you mean `router`"),
    ],
)
def test_unknown_names_are_told(kind: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        cases(kind, name)


def test_a_trial_leaves_the_random_stream_and_does_not_depend_on_it() -> None:
    [trial] = [t for t in conformance_cases("router", "random") if str(t) == "mod random: saves"]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run_case(trial)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_table_counts_and_gives_reasons() -> None:
    findings = [
        Finding("mod mine", "order", True, ""),
        Finding("mode_staged mine", "order", False, "a row stands twice"),
        Finding("mod mine", "saves", True, ""),
    ]
    text = table(findings)
    first, second, _, reason = text.splitlines()
    assert first.startswith("FAIL  order  1/2  Chosen rows ascend")
    assert second.startswith("ok    saves  1/1  ")
    assert reason == "mode_staged mine: order: a row stands twice"


def test_a_report_names_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        conformance, "check", lambda kind, name: [Finding(kind, "order", True, "")]
    )
    found = examine("moe")
    assert all(each.passed for each in found)
    assert text(found).startswith("block `moe` in 1 models")
    assert "\n\nffn `moe` in 1 models" in text(found)
    assert "block" not in text(examine("ffn:moe"))
    with pytest.raises(ConfigError, match="unknown component `mo`"):
        examine("mo")
    with pytest.raises(ConfigError, match="unknown router `moe`"):
        examine("router:moe")
    with pytest.raises(ConfigError, match="unknown kind of component"):
        examine("rooter:threshold")
    bad = [Finding("a", "order", False, "no")]
    monkeypatch.setattr(conformance, "check", lambda kind, name: bad)
    assert not examine("ffn:moe")[0].passed


# Components that are broken on purpose: the check that is meant for it, and no other, catches it.


class Base(Router):
    """A correct router: top-k in training, a positive score in causal mode."""

    class Config(Options):
        """No options."""

    def __init__(self, width: int, capacity: float, options: Options) -> None:
        super().__init__(width, capacity, options)
        self.weight = nn.Parameter(torch.empty(1, width).normal_(std=0.1))

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        scores_BT = token_scores(x_BTD, self.weight).squeeze(-1)
        index_BK: Tensor
        valid_BK: Tensor | None
        if context.mode == "causal":
            index_BK, valid_BK = self.causal(scores_BT, context)
        else:
            index_BK = top_k(scores_BT, self.slots(x_BTD.shape[1]), context.valid_BT)
            valid_BT = context.valid_BT
            valid_BK = None if valid_BT is None else valid_BT.gather(1, index_BK)
        gate_BK = gate("identity", scores_BT, index_BK, valid_BK, context)
        return self.changed(Routing(index_BK, gate_BK, valid_BK, scores_BT=scores_BT), context)

    def causal(self, scores_BT: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Which rows in causal mode."""
        return pack(scores_BT > 0, context.valid_BT)

    def changed(self, routing: Routing, context: Context) -> Routing:
        """What a broken router does to its answer."""
        return routing

    def slots(self, num_positions: int) -> int:
        return num_selected(self.capacity, num_positions)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        return Cost.product("router", 2 * num_positions * self.weight.shape[1])


class SeesTheFuture(Base):
    """Its cut-off is the mean score of the whole sequence."""

    def causal(self, scores_BT: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        seen_BT = scores_BT
        if context.valid_BT is not None:
            seen_BT = scores_BT.masked_fill(~context.valid_BT, math.nan)
        return pack(scores_BT > seen_BT.nanmean(dim=1, keepdim=True), context.valid_BT)


class SeesOtherRows(Base):
    """Its cut-off is the first score of the whole batch."""

    def causal(self, scores_BT: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return pack(scores_BT > scores_BT[:, 0].mean() - 1e-3, context.valid_BT)


class SeesPadding(Base):
    """It chooses padding too."""

    def causal(self, scores_BT: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return pack(scores_BT > 0, None)


class SaysTooFewFlops(Base):
    """Its cost forgets the scores."""

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        return Cost()


class SaysWrongCausalFlops(Base):
    """Its cost is right for training alone."""

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        cost = super().cost(num_positions, mode)
        return cost if mode == "train" else Cost(Flops(router=1))


class Unsorted(Base):
    """Best first."""

    def changed(self, routing: Routing, context: Context) -> Routing:
        if context.mode == "causal" or routing.valid_BK is not None:
            return routing
        order_BK = routing.gate_BK.argsort(dim=1, descending=True)
        index_BK, gate_BK = (
            each.gather(1, order_BK) for each in (routing.index_BK, routing.gate_BK)
        )
        return replace(routing, index_BK=index_BK, gate_BK=gate_BK)


class LosesAToken(Base):
    """The first chosen token's gate is 0: it enters and nothing comes out."""

    def changed(self, routing: Routing, context: Context) -> Routing:
        if context.mode == "causal":
            return routing
        keep_K = torch.ones_like(routing.gate_BK[0])
        keep_K[0] = 0
        return replace(routing, gate_BK=routing.gate_BK * keep_K)


class TakesTooMany(Base):
    """One row over its slots."""

    def slots(self, num_positions: int) -> int:
        return max(1, super().slots(num_positions) - 1)

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        slots = self.capacity
        self.capacity = min(1.0, slots + 1 / x_BTD.shape[1])
        routing = super().forward(x_BTD, context)
        self.capacity = slots
        return routing


class ForgetsItsState(Base):
    """A cut-off that moves with training and that no checkpoint holds."""

    cutoff = 0.0

    def causal(self, scores_BT: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return pack(scores_BT > self.cutoff, context.valid_BT)

    def end_step(self) -> None:
        self.cutoff += 0.05


class MovesInEvaluation(Base):
    """A buffer counts passes, in evaluation too."""

    count: Tensor

    def __init__(self, width: int, capacity: float, options: Options) -> None:
        super().__init__(width, capacity, options)
        self.register_buffer("count", torch.zeros(()))

    def changed(self, routing: Routing, context: Context) -> Routing:
        if not self.count.is_meta:
            self.count += 1
        return routing


class BalancesAPass(Base):
    """Its loss takes the load of a pass for that of the step."""

    def changed(self, routing: Routing, context: Context) -> Routing:
        if context.mode == "causal":
            return routing
        assert routing.scores_BT is not None
        load = share(routing.scores_BT > 0, context.valid_BT)
        aux = 0.01 * load * share(routing.scores_BT.sigmoid(), context.valid_BT)
        return replace(routing, aux=aux)


class Draws(Base):
    """It takes from torch's generator, and does nothing with it."""

    def changed(self, routing: Routing, context: Context) -> Routing:
        torch.rand(1)
        return routing


class ForgetsTheCache(Base):
    """It chooses every other row of what it is given, wherever that lies in the sequence."""

    def causal(self, scores_BT: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return pack(
            (torch.arange(scores_BT.shape[1]) % 2 == 0).expand_as(scores_BT), context.valid_BT
        )


class NeverLearns(Base):
    """A parameter that nothing uses."""

    def __init__(self, width: int, capacity: float, options: Options) -> None:
        super().__init__(width, capacity, options)
        self.unused = nn.Parameter(torch.zeros(1))


class TeachesTheTrunk(Base):
    """Its membership lets a gradient flow to the residual stream."""

    def changed(self, routing: Routing, context: Context) -> Routing:
        assert routing.scores_BT is not None
        return replace(routing, membership_BT=2 * routing.scores_BT)


class Undocumented(Base):
    """An option without a docstring."""

    class Config(Options):
        """One option."""

        undocumented: int = 3


BROKEN: dict[str, tuple[type[Router], set[str], set[str]]] = {
    # The checks that must catch it, and others that can't but see it too.
    "sees_the_future": (SeesTheFuture, {"later_tokens"}, {"fp32", "decoding"}),
    "sees_other_rows": (SeesOtherRows, {"other_rows"}, {"batch_size", "padding", "decoding"}),
    "sees_padding": (SeesPadding, {"padding"}, {"no_token_lost", "decoding"}),
    "says_too_few_flops": (SaysTooFewFlops, {"flops", "router_flops"}, {"causal_flops"}),
    "says_wrong_causal_flops": (SaysWrongCausalFlops, {"router_flops", "causal_flops"}, set()),
    "unsorted": (Unsorted, {"order"}, set()),
    "loses_a_token": (LosesAToken, {"no_token_lost"}, set()),
    "takes_too_many": (TakesTooMany, {"capacity", "flops"}, set()),
    "forgets_its_state": (ForgetsItsState, {"saves"}, {"fp32"}),
    "moves_in_evaluation": (MovesInEvaluation, {"evaluation"}, {"passes"}),
    "balances_a_pass": (BalancesAPass, {"passes"}, set()),
    "draws": (Draws, {"repeats"}, set()),
    "forgets_the_cache": (ForgetsTheCache, {"decoding"}, set()),
    "never_learns": (NeverLearns, {"gradients"}, set()),
    "teaches_the_trunk": (TeachesTheTrunk, {"stop_gradient"}, set()),
    "undocumented": (Undocumented, {"options"}, set()),
}


@pytest.mark.parametrize("name", ["correct", *BROKEN])
def test_a_broken_router_is_caught_by_the_check_meant_for_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    router, meant, others = BROKEN.get(name, (Base, set(), set()))
    monkeypatch.setitem(ROUTERS._loaded, name, router)
    findings = [
        conformance.finding(trial)
        for trial in conformance_cases("router", name)
        if trial.case.config.block.name == "mod"
    ]
    failed = {found.check: found.why for found in findings if not found.passed}
    assert meant <= set(failed), failed
    assert set(failed) <= meant | others, failed
    assert all(failed.values()), "a reason is given"


class MixesRows(Ffn):
    """Adds the mean of all rows to each."""

    class Config(Options):
        """No options."""

    def __init__(self, width: int, capacity: float, options: Options) -> None:
        super().__init__(width, capacity, options)
        self.down = nn.Linear(width, width, bias=False)

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        return Update(self.down(x_BTD + x_BTD.mean(dim=1, keepdim=True)))

    def cost(self, num_positions: int) -> Cost:
        return Cost.product("matmul", 2 * num_positions * self.down.weight.numel())

    def output_weights(self) -> list[Tensor]:
        return [self.down.weight]


class CostsLess(MixesRows):
    """Right, but for its cost and its output weights."""

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        return Update(self.down(x_BTD))

    def cost(self, num_positions: int) -> Cost:
        return Cost.product("matmul", num_positions * self.down.weight.numel())

    def output_weights(self) -> list[Tensor]:
        return []


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (MixesRows, {"later_tokens", "padding", "padding_in_training", "decoding", "fp32"}),
        (CostsLess, {"flops", "causal_flops", "output_weights"}),
    ],
)
def test_a_broken_ffn_is_caught(
    broken: type[Ffn], checks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FFNS._loaded, "broken", broken)
    trials = [
        each for each in conformance_cases("ffn", "broken") if each.case.label == "dense broken"
    ]
    assert {each.check for each in map(finding, trials) if not each.passed} == checks


class TooShort(Schedule):
    """One capacity too few, and one over 1."""

    class Config(Options):
        """No options."""

    def __init__(self, options: Options) -> None:
        self.warmup = 0.0

    def capacities(self, config: ModelConfig) -> list[float | None]:
        return [1.5] * (config.depth - 1)


def test_a_broken_schedule_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES._loaded, "too_short", TooShort)
    failed = {f.check: f.why for f in check("schedule", "too_short") if not f.passed}
    assert "0 capacities" in failed["capacities"]


class _Averaged(torch.optim.Optimizer):
    """Steps along a mean of gradients that is no part of its state, by way of a product."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.01})
        self.means: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                assert parameter.grad is not None
                mean = self.means.setdefault(parameter, torch.zeros_like(parameter))
                mean.lerp_(parameter.grad.sign(), 0.5)
                if parameter.ndim == 2:
                    mean = torch.eye(len(mean)) @ mean
                parameter.add_(mean, alpha=-group["lr"] / 4)


class Unsaved(Optimizer):
    """It keeps its mean to itself, and says nothing of its products."""

    def updates(self, weights: Sequence[Weight], optim: OptimConfig) -> torch.optim.Optimizer:
        return _Averaged(grouped(weights))


class Partial(Optimizer):
    """It leaves vectors where they are."""

    def updates(self, weights: Sequence[Weight], optim: OptimConfig) -> torch.optim.Optimizer:
        return torch.optim.Adam(grouped([each for each in weights if each.decay]))


class Ascends(Optimizer):
    """It goes the other way."""

    def updates(self, weights: Sequence[Weight], optim: OptimConfig) -> torch.optim.Optimizer:
        return torch.optim.Adam(grouped(weights), maximize=True)


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (Unsaved, {"update_flops", "resumes"}),
        (Partial, {"moves"}),
        (Ascends, {"lowers"}),
    ],
)
def test_a_broken_optimizer_is_caught(
    broken: type[Optimizer], checks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIMIZERS._loaded, "broken", broken)
    found = [each for each in check("optimizer", "broken") if each.case.endswith("on dense")]
    assert {each.check for each in found if not each.passed} == checks


class Rate(RateSchedule):
    """Wrong by its way."""

    def __init__(self, options: Options, optim: OptimConfig) -> None:
        self.asked = 0

    def share(self, progress: float) -> float:
        """Down to zero, whatever `final` is."""
        return 1 - progress


class Higher(Rate):
    """It goes on rising."""

    def share(self, progress: float) -> float:
        return 1 + progress


class Counting(Rate):
    """It falls with each question."""

    def share(self, progress: float) -> float:
        self.asked += 1
        return float(0.99**self.asked)


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (Rate, {"ends"}),
        (Higher, {"warm_up", "ends"}),
        (Counting, {"warm_up", "ends", "same_rates"}),
    ],
)
def test_a_broken_rate_schedule_is_caught(
    broken: type[RateSchedule], checks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RATE_SCHEDULES._loaded, "broken", broken)
    found = check("rate_schedule", "broken")
    assert {each.check for each in found if not each.passed} == checks


class Outside(Sampler):
    """It proposes what the space does not have."""

    def propose(self, ask: Ask) -> Point:
        return {"optim.rate": -1.0}


class Drawing(Sampler):
    """It draws from the generator that everybody draws from."""

    def propose(self, ask: Ask) -> Point:
        axes = open_axes(ask.spec.tree)
        return point_at(ask.spec.tree, axes, [random.random() for _ in axes])


class Remembering(Sampler):
    """What it proposes depends on how often this instance was asked."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.asked = 0

    def propose(self, ask: Ask) -> Point:
        axes = open_axes(ask.spec.tree)
        self.asked += 1
        return point_at(ask.spec.tree, axes, [(0.37 * self.asked) % 1.0 for _ in axes])


class Secretive(Sampler):
    """It learns from other studies, and does not say that it can."""

    def propose(self, ask: Ask) -> Point:
        axes = open_axes(ask.spec.tree)
        share = 0.9 if ask.spec.prior else 0.1
        return point_at(ask.spec.tree, axes, [share for _ in axes])


class Deaf(Sampler):
    """It says that it learns from other studies, and does not."""

    warms = True

    def propose(self, ask: Ask) -> Point:
        axes = open_axes(ask.spec.tree)
        return point_at(ask.spec.tree, axes, [0.1 for _ in axes])


class Silent(Sampler):
    """It never asks for anything."""

    def propose(self, ask: Ask) -> None:
        return None


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (Outside, {"proposes", "same_proposals", "takes_prior", "goes_on"}),
        (Drawing, {"same_proposals", "takes_prior", "goes_on"}),
        (Remembering, {"goes_on"}),
        (Silent, {"proposes"}),
        (Secretive, {"takes_prior"}),
        (Deaf, {"takes_prior"}),
    ],
)
def test_a_broken_sampler_is_caught(
    broken: type[Sampler], checks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAMPLERS._loaded, "broken", broken)
    found = check("sampler", "broken")
    assert {each.check for each in found if not each.passed} == checks


def test_a_component_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raises(Base):
        """It fails in causal mode."""

        def causal(self, scores_BT: Tensor, context: Context) -> tuple[Tensor, Tensor]:
            raise KeyError("no such row")

    monkeypatch.setitem(ROUTERS._loaded, "raises", Raises)
    monkeypatch.setitem(ROUTERS._registered, "raises", Origin("plugin file", "raises"))
    found = examine("raises")
    assert not found[0].passed
    assert "mod raises: shapes (and 31 more): KeyError: 'no such row'" in text(found)
    with pytest.raises(KeyError):
        run_case(next(t for t in conformance_cases("router", "raises") if t.check == "shapes"))
