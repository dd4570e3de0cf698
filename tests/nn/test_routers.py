"""Routers, schedules and routed updates, by hand: what the conformance kit can't know.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Plan
from modsearch.errors import ConfigError
from modsearch.nn.blocks.mod import Mod
from modsearch.nn.cache import LayerCache
from modsearch.nn.contracts import ROUTERS, SCHEDULES, Context, Mode, Router, num_selected
from modsearch.nn.layers import Attention
from modsearch.nn.model import Decoder, warmed_stair
from modsearch.nn.parts import completed
from modsearch.nn.routers.threshold import Threshold
from modsearch.nn.routers.token_choice import TokenChoice
from modsearch.nn.selection import gate
from modsearch.training.budget import plan

WIDTH = 16


def context(mode: Mode, x_BTD: Tensor, **changes: Any) -> Context:
    """Of a first layer without padding."""
    B, T = x_BTD.shape[:2]
    where = {"layer": 0, "positions_BT": torch.arange(T).expand(B, T), "valid_BT": None, "seed": 0}
    return Context(mode, **{**where, **changes})


def decoder(**changes: Any) -> Decoder:
    """A small model in fp64, with scores that differ."""
    shape = {"vocab_size": 64, "depth": 2, "every": 1, "width": WIDTH, "capacity": 0.3}
    router = {"name": "expert_choice", "init_std": 0.3}
    return Decoder(ModelConfig(**{**shape, "router": router, **changes})).double()


def first(model: Decoder) -> Mod:
    """The first block."""
    block = model.stack()[0]
    assert isinstance(block, Mod)
    return block


# Loads.


def first_channel(router: Router) -> Router:
    """Scores are the first channel."""
    with torch.no_grad():
        for parameter in router.parameters():
            parameter.zero_()
            parameter[0, 0] = 1.0
    return router


@pytest.mark.parametrize("name", ["threshold", "token_choice"])
def test_rows_over_the_slots_are_dropped_last_by_position_and_counted(name: str) -> None:
    cls = ROUTERS.get(name)
    router = first_channel(cls(WIDTH, 0.25, cls.Config(capacity_factor=1.0)))
    x_BTD = torch.full((2, 32, WIDTH), -1.0)
    x_BTD[0, ::2] = 1.0  # 16 rows want in, for 8 slots
    x_BTD[1, 30:] = 1.0
    routing = router(x_BTD, context("train", x_BTD))
    assert routing.valid_BK is not None
    assert routing.index_BK[0].tolist() == list(range(0, 16, 2))
    assert routing.valid_BK.sum(dim=1).tolist() == [8, 2]
    assert routing.index_BK[1, :2].tolist() == [30, 31]
    assert routing.statistics["wanted"].item() == pytest.approx(18 / 64)
    causal = router(x_BTD, context("causal", x_BTD))
    assert causal.valid_BK is not None
    assert causal.valid_BK.sum(dim=1).tolist() == [16, 2], "causal mode drops none"


@pytest.mark.parametrize("balance", ["loss", "bias"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("capacity", [0.125, 0.5])
def test_token_choice_reaches_its_share(balance: str, activation: str, capacity: float) -> None:
    """On rows that nearly all want to be processed."""
    options = TokenChoice.Config.model_validate({"balance": balance, "activation": activation})
    router = TokenChoice(WIDTH, capacity, options).train()
    with torch.no_grad():
        router.weight.normal_(std=0.3)
        router.weight[0, 0] = 1.0
    optimizer = torch.optim.Adam(router.parameters(), lr=0.01)
    wanted = []
    for _ in range(600):
        x_BTD = torch.randn(8, 64, WIDTH)
        x_BTD[..., 0] = 1.0
        routing = router(x_BTD, context("train", x_BTD))
        wanted.append(routing.statistics["wanted"].item())
        if routing.aux is not None:
            optimizer.zero_grad()
            routing.aux.backward()
            optimizer.step()
        router.end_step()
    assert wanted[0] > capacity + 0.15
    assert sum(wanted[-50:]) / 50 == pytest.approx(capacity, abs=0.04)


@pytest.mark.parametrize("capacity", [0.125, 0.5, 1.0])
def test_the_threshold_reaches_its_quantile(capacity: float) -> None:
    router = first_channel(Threshold(WIDTH, capacity, Threshold.Config())).train()
    for _ in range(100):
        x_BTD = 3.0 + 2.0 * torch.randn(8, 64, WIDTH)
        router(x_BTD, context("train", x_BTD))
        router.end_step()
    if capacity < 1:
        wanted = 3 + 2 * torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - capacity))
        assert router.cutoff.item() == pytest.approx(wanted.item(), abs=0.15)
    x_BTD = 3.0 + 2.0 * torch.randn(64, 64, WIDTH)
    share = router(x_BTD, context("train", x_BTD)).statistics["wanted"].item()
    assert share == pytest.approx(capacity, abs=0.03)


def test_the_threshold_takes_its_first_quantile_whole_and_then_a_mean() -> None:
    router = first_channel(Threshold(WIDTH, 0.5, Threshold.Config(momentum=0.75))).train()
    cutoffs = []
    for level in (4.0, 8.0, 0.0, 0.0, 0.0):
        x_BTD = torch.full((1, 8, WIDTH), level)
        router(x_BTD, context("train", x_BTD))
        router.end_step()
        cutoffs.append(router.cutoff.item())
    # Means of 1, 2, 3, 4 values, then a rate of 1/4.
    assert cutoffs == pytest.approx([4.0, 6.0, 4.0, 3.0, 2.25])


def test_the_threshold_is_frozen_in_evaluation() -> None:
    router = Threshold(WIDTH, 0.5, Threshold.Config()).eval()
    x_BTD = torch.randn(4, 32, WIDTH) + 5
    for mode in ("train", "causal"):
        router(x_BTD, context(mode, x_BTD))
        router.end_step()
    assert router.cutoff == 0
    assert router.updates == 0


@pytest.mark.parametrize(
    ("capacity", "num_positions", "positions"),
    [(0.25, 16, [3, 7, 11, 15]), (0.5, 6, [1, 3, 5]), (1.0, 3, [0, 1, 2]), (0.3, 10, [3, 6, 9])],
)
def test_static_takes_every_nth_position(
    capacity: float, num_positions: int, positions: list[int]
) -> None:
    cls = ROUTERS.get("static")
    router = cls(WIDTH, capacity, cls.Config())
    x_BTD = torch.randn(2, num_positions, WIDTH)
    for mode in ("train", "causal"):
        routing = router(x_BTD, context(mode, x_BTD))
        assert routing.valid_BK is not None
        assert routing.valid_BK.all()
        assert routing.index_BK.tolist() == [positions, positions]
        assert (routing.gate_BK == 1).all()


@pytest.mark.parametrize("percent", range(1, 101, 3))
def test_static_takes_its_share_of_every_prefix(percent: int) -> None:
    cls = ROUTERS.get("static")
    capacity = percent / 100
    router = cls(WIDTH, capacity, cls.Config())
    for num_positions in (1, 37, 64, 256):
        x_BTD = torch.zeros(1, num_positions, WIDTH)
        count = router(x_BTD, context("causal", x_BTD)).index_BK.shape[1]
        assert max(1, count) == num_selected(capacity, num_positions)


def test_the_predictor_teaches_the_trunk_nothing() -> None:
    def gradient(weight: float) -> Tensor:
        torch.manual_seed(0)
        model = decoder(block="mod", router={"name": "predictor", "bce_weight": weight})
        tokens_BT = torch.randint(64, (3, 37))
        loss, output = model.loss(tokens_BT, tokens_BT, 0)
        assert output.aux is not None
        (loss + output.aux).backward()
        assert model.embedding.weight.grad is not None
        return model.embedding.weight.grad

    assert torch.equal(gradient(0.0), gradient(1.0))


def test_the_predictor_learns_top_k() -> None:
    cls = ROUTERS.get("predictor")
    router = cls(WIDTH, 0.25, cls.Config(bce_weight=1.0))
    x_BTD = torch.randn(16, 64, WIDTH)
    optimizer = torch.optim.Adam(router.parameters(), lr=0.02)
    for _ in range(200):
        routing = router(x_BTD, context("train", x_BTD))
        assert routing.aux is not None
        optimizer.zero_grad()
        routing.aux.backward()
        optimizer.step()
    assert routing.membership_BT is not None
    top_BT = torch.zeros(16, 64, dtype=torch.bool).scatter(1, routing.index_BK, True)
    assert ((routing.membership_BT > 0) == top_BT).double().mean() > 0.93


# Gates.


def test_softmax_selected_is_a_share_of_what_was_chosen_so_far() -> None:
    scores_BT = torch.randn(2, 9, dtype=torch.float64)
    index_BK = torch.tensor([[0, 2, 3, 7], [1, 4, 5, 8]])
    valid_BK = torch.tensor([[True] * 4, [True, True, False, False]])
    x_BTD = torch.zeros(2, 9, WIDTH)
    picked = scores_BT.gather(1, index_BK).exp()
    train = gate("softmax_selected", scores_BT, index_BK, valid_BK, context("train", x_BTD))
    causal = gate("softmax_selected", scores_BT, index_BK, valid_BK, context("causal", x_BTD))
    for b, count in enumerate((4, 2)):
        for k in range(count):
            expected = picked[b, k] / picked[b, :count].sum()
            assert train[b, k].item() == pytest.approx(expected.item())
            expected = picked[b, k] / picked[b, : k + 1].sum()
            assert causal[b, k].item() == pytest.approx(expected.item())
    assert train.isfinite().all()
    assert causal.isfinite().all()


def test_softmax_selected_is_carried_in_the_cache() -> None:
    scores_BT = torch.randn(2, 9, dtype=torch.float64)
    every_BT = torch.arange(9).expand(2, 9)
    x_BTD = torch.zeros(2, 9, WIDTH)
    whole = gate("softmax_selected", scores_BT, every_BT, None, context("causal", x_BTD))
    cache = LayerCache.empty(2, torch.device("cpu"))
    parts = []
    for start, stop in ((0, 4), (4, 5), (5, 9)):
        part = scores_BT[:, start:stop]
        where = context("causal", x_BTD[:, start:stop], cache=cache)
        index_BK = torch.arange(stop - start).expand(2, -1)
        parts.append(gate("softmax_selected", part, index_BK, None, where))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


# What a routed block adds.


@pytest.mark.parametrize("update", ["delta", "block_add", "block_replace"])
@pytest.mark.parametrize("positions", ["original", "renumbered"])
def test_updates_by_hand(update: str, positions: str) -> None:
    block = first(decoder(block={"name": "mod", "update": update, "positions": positions}))
    x_BTD = torch.randn(2, 37, WIDTH, dtype=torch.float64)
    routed = block.delta(x_BTD, context("train", x_BTD))
    after_BTD = routed.add_to(x_BTD)
    assert routed.index_BK is not None
    weight_D = block.router.get_parameter("weight")[0]
    expected_BTD = x_BTD.clone()
    for b, index_K in enumerate(routed.index_BK):
        rows_KD = x_BTD[b, index_K]
        where_K = index_K if positions == "original" else torch.arange(len(index_K))
        inside = context("train", rows_KD[None], positions_BT=where_K[None])
        delta_KD = block.inner.delta(rows_KD[None], inside).delta_BKD[0]
        r_K1 = (rows_KD @ weight_D)[:, None]
        expected_BTD[b, index_K] = {
            "delta": rows_KD + r_K1 * delta_KD,
            "block_add": rows_KD + r_K1 * (rows_KD + delta_KD),
            "block_replace": r_K1 * (rows_KD + delta_KD),
        }[update]
    torch.testing.assert_close(after_BTD, expected_BTD, rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", ["attention", "ffn"])
def test_a_routed_part_by_hand(part: str) -> None:
    block = first(decoder(block={"name": "mod", "part": part}))
    x_BTD = torch.randn(2, 37, WIDTH, dtype=torch.float64)
    update = block.delta(x_BTD, context("train", x_BTD))
    weight_D = block.router.get_parameter("weight")[0]
    k = num_selected(0.3, 37)

    def routed(name: str, rows_TD: Tensor) -> Tensor:
        scores_T = rows_TD @ weight_D
        index_K = scores_T.topk(k).indices.sort().values
        inside = context("train", rows_TD[None, index_K], positions_BT=index_K[None])
        delta_KD = block.inner.sublayers()[name].delta(rows_TD[None, index_K], inside).delta_BKD
        after_TD = rows_TD.clone()
        after_TD[index_K] += scores_T[index_K, None] * delta_KD[0]
        return after_TD

    def entered(name: str, rows_TD: Tensor) -> Tensor:
        inside = context("train", rows_TD[None])
        return rows_TD + block.inner.sublayers()[name].delta(rows_TD[None], inside).delta_BKD[0]

    for rows_TD, after_TD in zip(x_BTD, update.add_to(x_BTD), strict=True):
        expected_TD = rows_TD
        for name in ("attention", "ffn"):
            expected_TD = (routed if name == part else entered)(name, expected_TD)
        torch.testing.assert_close(after_TD, expected_TD, rtol=0, atol=1e-12)
    costs = {name: sub.cost for name, sub in block.inner.sublayers().items()}
    other = "ffn" if part == "attention" else "attention"
    scores = block.router.cost(37, "train")
    assert block.cost(37) == scores + costs[part](k) + costs[other](37)


def test_an_unknown_part_lists_the_parts() -> None:
    with pytest.raises(ConfigError, match=r"(?s)part `mlp`.*parts: block, attention, ffn"):
        decoder(block={"name": "mod", "part": "mlp"})


def test_grouped_queries_equal_repeated_heads() -> None:
    few, many = Attention(WIDTH, 4, 2).double(), Attention(WIDTH, 4, 4).double()
    x_BTD = torch.randn(2, 37, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        queries, keys, values = few.qkv.weight.split([16, 8, 8])
        repeated = [
            part.view(2, 4, WIDTH).repeat_interleave(2, dim=0).reshape(16, WIDTH)
            for part in (keys, values)
        ]
        many.qkv.weight.copy_(torch.cat([queries, *repeated]))
        many.out.weight.copy_(few.out.weight)
    where = context("train", x_BTD)
    torch.testing.assert_close(few(x_BTD, where), many(x_BTD, where), rtol=0, atol=1e-12)
    saved = many.cost(37).forward.total - few.cost(37).forward.total
    assert saved == 2 * 37 * WIDTH * 2 * 2 * 4


# Schedules.


def capacities(schedule: Any, **shape: Any) -> list[float | None]:
    """Of a routed model."""
    config = completed(ModelConfig(**{"block": "mod", "schedule": schedule, **shape}))
    cls = SCHEDULES.get(config.schedule.name)
    return cls(cls.Config(**config.schedule.options)).capacities(config)


def test_linear_and_cosine_decays_by_hand() -> None:
    shape = {"depth": 10, "every": 2, "capacity": 0.4}
    linear = capacities({"name": "every_nth", "decay": "linear", "spread": 0.5}, **shape)
    assert linear[::2] == [None] * 5
    assert linear[1::2] == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2])
    cosine = capacities({"name": "every_nth", "decay": "cosine", "spread": 0.25}, **shape)
    turn = 0.1 / math.sqrt(2)
    assert cosine[1::2] == pytest.approx([0.5, 0.4 + turn, 0.4, 0.4 - turn, 0.3])
    whole = capacities({"name": "every_nth", "decay": "linear", "spread": 1.0}, **shape)
    assert whole[1::2] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.01])
    assert capacities("every_nth", **shape)[1::2] == [0.4] * 5
    assert capacities({"name": "every_nth", "decay": "linear"}, depth=2, every=2) == [None, 0.125]


def test_explicit_layers() -> None:
    two = {"name": "explicit", "layers": [3, 0], "capacities": [0.5, 0.25]}
    assert capacities(two, depth=4) == [0.25, None, None, 0.5]
    alike = {"name": "explicit", "layers": [1]}
    assert capacities(alike, depth=3, capacity=0.3) == [None, 0.3, None]
    assert capacities("explicit", depth=2) == [None, None]
    for wrong in (
        {"layers": [0], "capacities": [0.1, 0.2]},
        {"layers": [0, 0]},
        {"layers": [4]},
        {"layers": [-1]},
        {"layers": [0], "capacities": [0.0]},
        {"layers": [0], "capacities": [1.1]},
    ):
        with pytest.raises(ConfigError):
            capacities({"name": "explicit", **wrong}, depth=4)


@pytest.mark.parametrize("block", ["mod", "mode_integrated", "mode_staged"])
@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "every_nth", "decay": "linear"},
        {"name": "every_nth", "decay": "cosine"},
        {"name": "every_nth", "warmup": 0.3},
        {"name": "explicit", "layers": [0, 2], "capacities": [0.5, 0.2], "warmup": 0.5},
    ],
    ids=str,
)
def test_a_budget_is_met_by_the_sum_over_steps(block: str, schedule: dict[str, Any]) -> None:
    config = ModelConfig(
        block=block, schedule=schedule, depth=4, width=16, seq_len=32, capacity=0.3
    )
    given = Candidate(model=completed(config), optim=OptimConfig(min_steps=1))
    found = plan(given, Budget(flops=4e9), 10**12)
    assert isinstance(found, Plan)
    assert abs(found.flops - 4e9) <= 0.01 * 4e9
    with torch.device("meta"):
        model = Decoder(given.model)
    total = 0
    for step in range(found.steps):
        model.set_progress(step / found.steps)
        total += given.optim.batch_size * model.cost(32).training.total
    assert found.flops == total
    model.set_progress(1.0)
    assert found.flops_per_step == given.optim.batch_size * model.cost(32).training.total


def test_warm_up_falls_from_1_to_the_capacity() -> None:
    model = decoder(block="mod", schedule={"name": "every_nth", "warmup": 0.5})
    seen = []
    for step in range(11):
        model.set_progress(step / 10)
        seen.append(first(model).router.capacity)
    assert seen[0] == 1.0
    assert seen[5:] == [0.3] * 6
    assert all(a > b for a, b in pairwise(seen[:6]))
    for step in range(5):
        assert seen[step] == pytest.approx(1 - 0.7 * step / 5, abs=0.7 / 64)
    assert warmed_stair(0.0, 0.0) == 1.0


# Composite names.


@pytest.mark.parametrize(
    ("block", "ffn", "said"),
    [
        ("moe", "mlp", "block `moe` has ffn `moe`, but got ffn `mlp`"),
        ("mode_staged", "mlp", "block `mode_staged` has ffn `moe`"),
        ("mode_integrated", "moe", "block `mode_integrated` has ffn `mode_integrated`"),
        ("mod", "mode_integrated", "both route"),
    ],
)
def test_composites_that_do_not_fit_are_told(block: str, ffn: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        completed(ModelConfig(block=block, ffn=ffn))


def test_composites_take_options_of_their_ffn() -> None:
    full = completed(ModelConfig(block="mode_staged", ffn={"name": "moe", "num_experts": 2}))
    assert full.ffn is not None
    assert full.ffn.options["num_experts"] == 2
    assert completed(ModelConfig(block="moe")).ffn is not None
    with pytest.raises(ConfigError, match="top_k = 5 of 4 outputs"):
        Decoder(ModelConfig(block="moe", ffn={"name": "moe", "top_k": 5}))
