"""Parameters as optimisers are given them: decay, roles, rates by width, and what a step costs.

Shapes: B sequences, T positions, D width, V vocabulary.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Plan
from modsearch.errors import ConfigError
from modsearch.nn.contracts import Router
from modsearch.nn.model import Decoder
from modsearch.nn.parts import block_names
from modsearch.optim.contracts import OPTIMIZERS
from modsearch.optim.parts import optimizer_of
from modsearch.optim.rates import Rates
from modsearch.planning.flops import ledger
from modsearch.training.budget import plan
from modsearch.training.weights import optimizer_for, rescaled, update_flops, weights_of

V, T = 128, 16


def model_of(**shape: Any) -> Decoder:
    values = {"vocab_size": V, "seq_len": T, "depth": 2, "width": 16, "every": 1, **shape}
    torch.manual_seed(0)
    return Decoder(ModelConfig.model_validate(values))


def optim_of(**values: Any) -> OptimConfig:
    return OptimConfig.model_validate(values)


def batch(seed: int = 0, num_sequences: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, (num_sequences, T + 1), generator=generator)


def trained(model: Decoder, optim: OptimConfig, steps: int = 3, batches: int = 99) -> Decoder:
    """After the first of ten steps, on so many batches in turns."""
    optimizer, rates = optimizer_for(model, optim), Rates(optim, 10)
    for step in range(steps):
        rates.set(optimizer, step)
        tokens_BT = batch(step % batches)
        loss, trace = model.loss(tokens_BT[:, :-1], tokens_BT[:, 1:], step)
        (loss if trace.aux is None else loss + trace.aux).backward()
        optimizer.step()
        optimizer.zero_grad()
        model.end_step()
    assert all(parameter.grad is None for parameter in model.parameters())
    return model


# What an optimiser is given.


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("block", block_names())
def test_matrices_decay_and_norms_do_not(block: str, tied: bool) -> None:
    model = model_of(block=block, tied=tied)
    decayed, rest = optimizer_for(model, optim_of(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert rest["weight_decay"] == 0.0
    ids = [id(p) for group in (decayed, rest) for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters()), "each exactly once"
    norms = {id(p) for name, p in model.named_parameters() if "norm" in name}
    assert {id(p) for p in rest["params"]} == norms


def test_the_default_step_is_to_the_bit_that_of_torch_on_matrices_and_vectors() -> None:
    """The order of the parameters, too: checkpoints name a state by its place."""
    mine = trained(model_of(block="mod"), OptimConfig())
    model = model_of(block="mod")
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.005, betas=(0.9, 0.99), fused=True)
    for step in range(3):
        fall = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 1) / (10 - 1 - 1)))
        for group in optimizer.param_groups:
            group["lr"] = 0.005 * 64 / 16 * (1 if step == 0 else fall)
        tokens_BT = batch(step)
        loss, trace = model.loss(tokens_BT[:, :-1], tokens_BT[:, 1:], step)
        assert trace.aux is not None
        (loss + trace.aux).backward()
        optimizer.step()
        optimizer.zero_grad()
    for (name, one), other in zip(mine.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other), name
    ours = optimizer_for(model_of(block="mod"), OptimConfig()).param_groups
    shapes = [[p.shape for p in group["params"]] for group in ours]
    assert shapes == [[p.shape for p in group["params"]] for group in optimizer.param_groups]


@pytest.mark.parametrize("tied", [True, False])
def test_roles_go_by_the_dimensions_that_grow_with_the_width(tied: bool) -> None:
    model = model_of(block="mode_staged", router="predictor", tied=tied)
    given = weights_of(model, optim_of(width_rule="mup"))
    roles = {
        name.removeprefix("blocks.0."): each.role
        for (name, _), each in zip(model.named_parameters(), given, strict=True)
    }
    wanted = {
        "embedding.weight": "vocabulary",
        "inner.attention.norm.weight": "vector",
        "inner.attention.attention.qkv.weight": "hidden",
        "inner.attention.attention.out.weight": "hidden",
        "inner.ffn.ffn.weight": "output",
        "inner.ffn.ffn.experts.up": "hidden",
        "inner.ffn.ffn.experts.down": "hidden",
        "router.weight": "output",
        "router.hidden": "output",
        "router.hidden_bias": "vector",
        "router.out": "vector",
        "norm.weight": "last_norm",
    }
    assert {name: roles[name] for name in wanted} == wanted
    assert ("head.weight" in roles) is not tied


def test_a_model_is_not_moved_by_being_looked_at() -> None:
    """Nor is torch's generator."""
    model = model_of(block="mod", router="random")
    state = torch.get_rng_state()
    rescaled(model, OptimConfig())
    weights_of(model, OptimConfig())
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(
        model.parameters(), model_of(block="mod", router="random").parameters(), strict=True
    ):
        assert torch.equal(one, other)


# Muon.


def test_muon_makes_steps_of_hidden_matrices_orthogonal_and_adamw_makes_the_others() -> None:
    plain, mine = model_of(block="mode_staged"), model_of(block="mode_staged")
    before = {name: p.detach().clone() for name, p in mine.named_parameters()}
    optim = optim_of(optimizer={"name": "muon", "steps": 20}, weight_decay=0, warmup=0)
    trained(mine, optim, steps=1)
    trained(plain, optim_of(weight_decay=0, warmup=0), steps=1)
    moved = 0
    for (name, after), other in zip(mine.named_parameters(), plain.parameters(), strict=True):
        step = (after - before[name]).detach() / (0.005 * 64 / 16)
        if not any(part in name for part in ("qkv", "out.weight", "experts")):
            assert torch.equal(after, other), name
            continue
        for matrix in step.flatten(0, -3) if step.ndim > 2 else [step]:
            sizes = torch.linalg.svdvals(matrix) / (0.2 * max(matrix.shape) ** 0.5)
            # The iteration makes them some value near 1 and not 1 (its constants are chosen so).
            sizes = sizes[sizes > 0.02]  # an expert of few rows has a gradient of low rank
            moved += len(sizes) > 0
            assert (sizes > 0.5).all(), name
            assert (sizes < 1.3).all(), name
            if "experts" not in name:
                assert 0.1 < matrix.square().mean().sqrt() < 0.3, "as large as AdamW's"
    assert moved > 2 * (2 + 2), "experts are a matrix each"


@pytest.mark.parametrize("block", block_names())
def test_what_a_step_of_muon_multiplies_is_what_torch_counts_and_a_plan_pays(block: str) -> None:
    model = model_of(block=block, width=20)
    optim = optim_of(optimizer={"name": "muon", "steps": 3}, batch_size=4, min_steps=1)
    assert update_flops(model, OptimConfig()) == 0
    update = update_flops(model, optim)
    optimizer = optimizer_for(model, optim)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    with FlopCounterMode(display=False) as counter:
        optimizer.step()
    assert counter.get_total_flops() == update > 0
    candidate = Candidate(model=model.config, optim=optim)
    found = plan(candidate, Budget(flops=1e9), 10**9, V)
    assert isinstance(found, Plan)
    assert found.flops_per_step == 4 * model.cost(T).training.total + update
    assert found.flops == found.steps * found.flops_per_step
    assert found.conventions["exact"] * 4 * T == pytest.approx(found.flops_per_step)
    table = ledger(candidate)
    assert table.training_step == found.flops_per_step
    assert table.update == update


def test_warmed_capacities_pay_for_updates_too() -> None:
    shape = {"block": "mod", "schedule": {"name": "every_nth", "warmup": 0.5}}
    model = model_of(**shape)
    optim = optim_of(optimizer="muon", min_steps=1)
    plans = [
        plan(Candidate(model=model.config, optim=each), Budget(flops=1e9), 10**9, V)
        for each in (optim, optim_of(min_steps=1))
    ]
    muon, adamw = plans
    assert isinstance(muon, Plan)
    assert isinstance(adamw, Plan)
    assert muon.steps < adamw.steps
    assert muon.flops == pytest.approx(1e9, rel=0.01)


def test_an_older_torch_is_refused_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError) as caught:
        optimizer_of(optim_of(optimizer="muon"))
    assert str(caught.value).startswith("optimizer `muon` needs torch 2.9 or newer, and this is ")


# A state that is kept.


@pytest.mark.parametrize("name", OPTIMIZERS.names())
@pytest.mark.parametrize("rule", ["inverse", "mup"])
def test_a_state_that_was_written_and_read_goes_on_to_the_bit(name: str, rule: str) -> None:
    optim = optim_of(optimizer=name, width_rule=rule)
    whole = trained(model_of(block="mode_staged"), optim, steps=4)
    one = model_of(block="mode_staged")
    optimizer, rates = optimizer_for(one, optim), Rates(optim, 10)

    def step(number: int) -> None:
        rates.set(optimizer, number)
        tokens_BT = batch(number)
        loss, trace = one.loss(tokens_BT[:, :-1], tokens_BT[:, 1:], number)
        assert trace.aux is not None
        (loss + trace.aux).backward()
        optimizer.step()
        optimizer.zero_grad()
        one.end_step()

    for number in range(2):
        step(number)
    held = optimizer.state_dict()
    state = {
        index: {key: value.clone() for key, value in values.items()}
        for index, values in held["state"].items()
    }
    optimizer = optimizer_for(one, optim)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for number in range(2, 4):
        step(number)
    for (which, mine), other in zip(one.named_parameters(), whole.named_parameters(), strict=True):
        assert torch.equal(mine, other[1]), which


# The coordinate check of Yang et al. 2022 (appendix D.1).


WIDTHS = (64, 128, 256, 512)


def slopes(block: str = "dense", **values: Any) -> dict[str, float]:
    """Powers of the width by which what three steps change goes, on the way to the logits."""
    optim = optim_of(rate=0.01, warmup=0, final=1, weight_decay=0, **values)
    rows = []
    for width in WIDTHS:
        model = rescaled(model_of(block=block, width=width), optim)
        before = seen(model)
        after = seen(trained(model, optim, batches=1))
        rows.append([float((after[key] - before[key]).square().mean()) ** 0.5 for key in before])
    powers = np.polyfit(np.log(WIDTHS), np.log(rows), 1)[0]
    return dict(zip(before, map(float, powers), strict=True))


@torch.no_grad()
def seen(model: Decoder) -> dict[str, Tensor]:
    """What each layer gives to one batch, and the logits of the right tokens; of a routed layer,
    whose rows differ, its scores."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _given: object, gave: Any) -> None:
            found[name] = gave if isinstance(gave, Tensor) else gave.scores_BT

        return hook

    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Embedding | Router)
        and name != "head"
        and "inner" not in name
    ]
    tokens_BT = batch()
    logits_BTV = model.logits(tokens_BT[:, :-1], "train")
    found["logits"] = logits_BTV.gather(-1, tokens_BT[:, 1:, None])
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("block", ["dense", "mod"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_under_mup_all_that_layers_give_changes_as_much_at_every_width(
    optimizer: str, block: str
) -> None:
    found = slopes(block, optimizer=optimizer, width_rule="mup")
    assert len(found) == (10 if block == "dense" else 4)
    for key, power in found.items():
        # Scores are few, and which rows they choose changes between steps.
        assert abs(power) < (0.3 if "router" in key else 0.15), found


@pytest.mark.slow
def test_the_check_sees_that_under_the_inverse_rule_it_does_not() -> None:
    """The embedding stands still in wide models, and logits go with the root of the width."""
    found = slopes()
    assert found["embedding"] == pytest.approx(-1, abs=0.1)
    assert found["logits"] > 0.25
