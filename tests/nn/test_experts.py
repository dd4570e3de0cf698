"""Mixtures of experts: against a slow twin, by hand, and in what they cost.

Shapes: B sequences, T rows, D width, E experts, O outputs.
"""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from modsearch.config.model import ModelConfig
from modsearch.nn.contracts import FFNS, Context, Mode, Rows
from modsearch.nn.experts import ExpertFfn
from modsearch.nn.model import Decoder
from modsearch.testing.naive import naive_experts

WIDTH, T = 12, 37


def context(mode: Mode, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Context:
    """Of the first layer."""
    B, num_rows = x_BTD.shape[:2]
    return Context(mode, 0, torch.arange(num_rows).expand(B, num_rows), valid_BT, 0)


def layer_of(num_noops: int = 0, capacity: float = 1.0, **options: Any) -> ExpertFfn:
    """In fp64, with scores that tell rows apart."""
    noops = {"num_noops": num_noops} if num_noops else {}
    layer = ffn_of("mode_integrated" if num_noops else "moe", capacity, **noops, **options)
    with torch.no_grad():
        layer.weight.normal_(std=0.5)
    return layer


def rows(num_sequences: int = 2) -> Tensor:
    """Random input."""
    return torch.randn(num_sequences, T, WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("mode", ["train", "causal"])
@pytest.mark.parametrize(
    ("num_noops", "capacity", "options"),
    [
        (0, 1.0, {}),
        (0, 1.0, {"top_k": 2, "num_experts": 3}),
        (0, 1.0, {"capacity_factor": 0.5}),
        (0, 1.0, {"capacity_factor": 4.0, "top_k": 4}),
        (1, 0.3, {}),
        (2, 0.5, {"top_k": 2, "capacity_factor": 1.25}),
    ],
)
def test_values_and_gradients_equal_the_slow_twin(
    mode: Mode, num_noops: int, capacity: float, options: dict[str, Any]
) -> None:
    layer, x_BTD = layer_of(num_noops, capacity, **options), rows()
    layer.bias_O.copy_(torch.randn_like(layer.bias_O) * 0.1)
    upstream_BTD = torch.randn_like(x_BTD)
    found = []
    for fast in (True, False):
        layer.zero_grad()
        leaf_BTD = x_BTD.clone().requires_grad_()
        if fast:
            update = layer.delta(leaf_BTD, context(mode, x_BTD))
            assert update.expert_rows_B is not None
            delta_BTD, aux = update.delta_BKD, update.aux
            visits = update.expert_rows_B.tolist()
        else:
            slow = naive_experts(layer, leaf_BTD, mode)
            delta_BTD, aux, visits = slow.delta_BTD, slow.aux, slow.visits_B
        total = (delta_BTD * upstream_BTD).sum()
        (total if mode == "causal" or aux is None else total + 100 * aux).backward()
        grads = [leaf_BTD.grad, *(parameter.grad for parameter in layer.parameters())]
        found.append((delta_BTD, aux, visits, grads))
    (mine, my_aux, my_visits, my_grads), (theirs, their_aux, their_visits, their_grads) = found
    assert my_visits == their_visits
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    if mode == "train":
        torch.testing.assert_close(my_aux, their_aux, rtol=0, atol=1e-7)  # the load is fp32
    for one, other in zip(my_grads, their_grads, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
    if options.get("capacity_factor") == 0.5 and mode == "train":
        assert sum(my_visits) < 2 * T, "nothing was dropped"


def test_rows_that_are_dropped_are_the_last_by_position() -> None:
    layer, x_BTD = layer_of(num_experts=1, capacity_factor=0.5), rows()
    update = layer.delta(x_BTD, context("train", x_BTD))
    entered_BT = (update.delta_BKD != 0).any(dim=-1)
    slots = layer.slots(T)
    assert slots == 19
    assert entered_BT.tolist() == [[True] * slots + [False] * (T - slots)] * 2
    assert update.statistics["expert_dropped"].item() == pytest.approx(1 - slots / T)


def test_expert_choice_is_top_k_of_each_expert() -> None:
    layer, x_BTD = layer_of(selection="expert_choice", num_experts=3), rows()
    slots = layer.slots(T)
    assert slots == T // 3
    expected_BTD = torch.zeros_like(x_BTD)
    for b, sequence in enumerate(x_BTD):
        for expert in range(3):
            scores = sequence @ layer.weight[expert]
            for t in sorted(range(T), key=lambda t, s=scores: -s[t].item())[:slots]:
                gate, value = (sequence[t] @ layer.experts.up[expert]).chunk(2)
                done = (torch.nn.functional.silu(gate) * value) @ layer.experts.down[expert]
                expected_BTD[b, t] += torch.sigmoid(scores[t]) * done
    found_BTD = layer.delta(x_BTD, context("train", x_BTD)).delta_BKD
    torch.testing.assert_close(found_BTD, expected_BTD, rtol=0, atol=1e-12)


def test_the_causal_rule_of_expert_choice_is_a_positive_score() -> None:
    layer, x_BTD = layer_of(selection="expert_choice"), rows()
    update = layer.delta(x_BTD, context("causal", x_BTD))
    assert update.expert_rows_B is not None
    wanted = (x_BTD @ layer.weight.T > 0).sum(dim=(1, 2))
    assert torch.equal(update.expert_rows_B, wanted)
    for t in (0, 17, T - 1):
        expected = torch.zeros(WIDTH, dtype=torch.float64)
        for expert in range(4):
            score = x_BTD[0, t] @ layer.weight[expert]
            if score > 0:
                gate, value = (x_BTD[0, t] @ layer.experts.up[expert]).chunk(2)
                done = (torch.nn.functional.silu(gate) * value) @ layer.experts.down[expert]
                expected = expected + torch.sigmoid(score) * done
        torch.testing.assert_close(update.delta_BKD[0, t], expected, rtol=0, atol=1e-12)


def ffn_of(name: str, capacity: float, **options: Any) -> ExpertFfn:
    """An ffn in fp64."""
    cls = FFNS.get(name)
    ffn = cls(WIDTH, capacity, cls.Config(**options)).double()
    assert isinstance(ffn, ExpertFfn)
    return ffn


@pytest.mark.parametrize("mode", ["train", "causal"])
def test_a_no_op_adds_nothing_and_costs_nothing(mode: Mode) -> None:
    ffn, x_BTD = ffn_of("mode_integrated", 0.3), rows()
    ffn.bias_O[:-1] = -10.0  # all choose the no-op
    update = ffn.delta(x_BTD, context(mode, x_BTD))
    assert not update.delta_BKD.any()
    assert update.expert_rows_B is not None
    assert not update.expert_rows_B.any()
    assert update.statistics["load"] == 0
    scores = 2 * T * WIDTH * (4 + 1)
    assert ffn.causal_forward(T, Rows(experts=0)).total == scores
    slots = ffn.slots(T)
    expected = scores + 4 * slots * 2 * 3 * WIDTH * ffn.hidden
    assert ffn.cost(T).forward.total == expected, "training is charged slots"


def test_a_layer_that_is_not_routed_has_no_no_ops() -> None:
    full, routed = ffn_of("mode_integrated", 1.0), ffn_of("mode_integrated", 0.5, num_noops=3)
    assert full.bias_O.shape == (4,)
    assert routed.bias_O.shape == (7,)
    assert full.cost(T) == ffn_of("moe", 1.0).cost(T)


@pytest.mark.parametrize("balance", ["loss", "bias"])
@pytest.mark.parametrize(("num_noops", "capacity"), [(0, 1.0), (1, 0.3)])
def test_balance_reaches_the_target_shares(balance: str, num_noops: int, capacity: float) -> None:
    """On rows that all lean to the first expert."""
    options = {"balance": balance, "balance_weight": 1.0, "bias_rate": 0.01}
    layer = layer_of(num_noops, capacity, **options).float()
    draw = torch.randn(4000, WIDTH)
    draw[:, 0] = 1.0
    with torch.no_grad():
        layer.weight.normal_(std=0.3)
        layer.weight[0, 0] += 1.5
    before_O = shares(layer, draw)
    optimizer = torch.optim.Adam([layer.weight], lr=0.02)
    for _ in range(300):
        x_BTD = draw[torch.randint(len(draw), (4, 64))]
        update = layer.delta(x_BTD, context("train", x_BTD))
        if update.aux is not None:
            optimizer.zero_grad()
            update.aux.backward()
            optimizer.step()
        layer.end_step()
    target_O = torch.tensor(layer.targets())
    assert (before_O - target_O).abs().max() > 0.25
    assert (shares(layer, draw) - target_O).abs().max() < 0.08


def shares(layer: ExpertFfn, rows_ND: Tensor) -> Tensor:
    """Share of the rows whose first choice each output is."""
    best_N = ((rows_ND @ layer.weight.T).softmax(-1) + layer.bias_O).argmax(dim=-1)
    counts = Counter(best_N.tolist())
    return torch.tensor([counts[o] / len(rows_ND) for o in range(len(layer.weight))])


@pytest.mark.parametrize("block", ["moe", "mode_staged"])
def test_active_params_by_hand(block: str) -> None:
    config = ModelConfig(
        block=block,
        ffn={"name": "moe", "num_experts": 4, "top_k": 1, "ratio": 2},
        depth=2,
        width=16,
        vocab_size=50,
        every=1,
    )
    model = Decoder(config)
    attention, norms, experts = 4 * 16 * 16, 2 * 16, 3 * 16 * 32
    routers = 4 * 16 + (16 if block == "mode_staged" else 0)
    layer = attention + norms + routers + 4 * experts
    assert model.num_params == 50 * 16 + 16 + 2 * layer
    assert model.active_params == model.num_params - 2 * 3 * experts


def test_a_dense_model_is_active_in_whole() -> None:
    model = Decoder(ModelConfig())
    assert model.active_params == model.num_params
