"""Every registered component keeps its contract; the random control keeps its statistics.

The registries are the test matrix: a new router, block or ffn is tested by being listed.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import io
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from modsearch.cost import Flops
from modsearch.nn.contracts import (
    BLOCKS,
    FFNS,
    ROUTERS,
    SCHEDULES,
    Block,
    Context,
    Ffn,
    Mode,
    PlainBlock,
    RoutedBlock,
    Router,
    Rows,
    block_names,
)
from modsearch.nn.model import Decoder
from modsearch.nn.routers.random import Random, gaussian
from modsearch.nn.selection import num_selected
from modsearch.schema import ModelConfig

WIDTH = 16
VOCAB = 64
CAPACITIES = [0.125, 0.3, 1.0]
ROUTED = [name for name in BLOCKS.names() if issubclass(BLOCKS.get(name), RoutedBlock)]
PLAIN = [name for name in BLOCKS.names() if issubclass(BLOCKS.get(name), PlainBlock)]
MODES: list[Mode] = ["train", "causal"]

each_pair = pytest.mark.parametrize(
    ("block", "router"), [(block, router) for block in ROUTED for router in ROUTERS.names()]
)
each_ffn = pytest.mark.parametrize("ffn", FFNS.names())
each_block = pytest.mark.parametrize("block", block_names())


def decoder(**changes: Any) -> Decoder:
    """A model of one layer, which is the block under test."""
    shape = {"vocab_size": VOCAB, "depth": 1, "every": 1, "width": WIDTH, "num_heads": 2}
    return Decoder(ModelConfig(**({"capacity": 0.3} | shape | changes)))


def only_block(**changes: Any) -> Block:
    """That block."""
    return decoder(**changes).stack()[0]


def ffn_of(name: str) -> Ffn:
    """An ffn with default options, initialised as torch does."""
    cls = FFNS.get(name)
    return cls(WIDTH, 0.5, cls.Config())


def router_in(block: Block) -> Router:
    """The router of a routed block."""
    return next(module for module in block.modules() if isinstance(module, Router))


def context(mode: Mode, x_BTD: Tensor, layer: int = 0, seed: int = 0) -> Context:
    """Of a batch without padding."""
    B, T = x_BTD.shape[:2]
    return Context(mode, layer, torch.arange(T).expand(B, T), None, seed)


def measured(module: nn.Module, num_positions: int) -> tuple[int, int]:
    """Forward, and forward and backward, FLOPs of one sequence through `module.delta`."""
    x_BTD = torch.randn(1, num_positions, WIDTH, requires_grad=True, device="meta")
    positions_BT = torch.arange(num_positions, device="meta")[None]
    with FlopCounterMode(display=False) as counter:
        update = module.delta(x_BTD, Context("train", 0, positions_BT, None, 0))
        forward = counter.get_total_flops()
        total = update.add_to(x_BTD).sum()
        (total if update.aux is None else total + update.aux).backward()
    return forward, counter.get_total_flops()


def reloaded(module: nn.Module, other: nn.Module) -> None:
    """Copies the weights of one module to another by way of a file."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))


# Routers in routed blocks.


@each_pair
@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("num_positions", [1, 37, 64])
def test_capacity_is_respected(
    block: str, router: str, capacity: float, num_positions: int
) -> None:
    built = only_block(block=block, router=router, capacity=capacity)
    slots = router_in(built).slots(num_positions)
    assert num_selected(capacity, num_positions) <= slots <= num_positions
    x_BTD = torch.randn(3, num_positions, WIDTH)
    update = built.delta(x_BTD, context("train", x_BTD))
    assert update.index_BK is not None
    assert update.index_BK.shape == (3, slots)
    assert update.delta_BKD.shape == (3, slots, WIDTH)
    assert update.add_to(x_BTD).shape == x_BTD.shape
    chosen = slots if update.valid_BK is None else update.valid_BK.sum(dim=1).max()
    assert chosen <= slots


@each_pair
@pytest.mark.parametrize("mode", MODES)
def test_rows_come_in_order_and_padding_last(block: str, router: str, mode: Mode) -> None:
    built = only_block(block=block, router=router)
    x_BTD = torch.randn(8, 37, WIDTH)
    update = built.delta(x_BTD, context(mode, x_BTD))
    assert update.index_BK is not None
    valid_BK = update.valid_BK
    if valid_BK is None:
        valid_BK = torch.ones_like(update.index_BK).bool()
    assert not (valid_BK[:, 1:] & ~valid_BK[:, :-1]).any()
    for index_K, valid_K in zip(update.index_BK, valid_BK, strict=True):
        assert (index_K[valid_K].diff() > 0).all()
        assert len(index_K.unique()) == len(index_K), "a padded row stands for another one"
    padding_D = update.delta_BKD[~valid_BK]
    assert not padding_D.any()


@each_pair
@pytest.mark.parametrize("mode", MODES)
def test_each_delta_goes_to_its_row(block: str, router: str, mode: Mode) -> None:
    built = only_block(block=block, router=router)
    x_BTD = torch.randn(4, 37, WIDTH)
    with torch.no_grad():
        update = built.delta(x_BTD, context(mode, x_BTD))
        after_BTD = update.add_to(x_BTD)
    assert update.index_BK is not None
    expected_BTD = x_BTD.clone()
    for b in range(4):
        for k, t in enumerate(update.index_BK[b].tolist()):
            expected_BTD[b, t] += update.delta_BKD[b, k]
    assert torch.equal(after_BTD, expected_BTD)


@each_pair
def test_chosen_tokens_are_reported(block: str, router: str) -> None:
    model = decoder(block=block, router=router)
    tokens_BT = torch.randint(VOCAB, (3, 37))
    for mode in MODES:
        output = model(tokens_BT, mode)
        x_BTD = model.embedding(tokens_BT)
        update = model.stack()[0].delta(x_BTD, context(mode, x_BTD))
        moved_BT = (update.add_to(x_BTD) != x_BTD).any(dim=-1)
        chosen_BT = output.chosen[0]
        assert chosen_BT is not None
        assert chosen_BT.dtype == torch.bool
        assert torch.equal(chosen_BT, moved_BT)


@each_pair
def test_gradients_reach_every_parameter(block: str, router: str) -> None:
    model = decoder(block=block, router=router, depth=2)
    tokens_BT = torch.randint(VOCAB, (3, 37))
    loss, output = model.loss(tokens_BT, tokens_BT, 0)
    (loss if output.aux is None else loss + output.aux).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@each_pair
@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("num_positions", [37, 64])
def test_routed_cost_equals_the_counter(
    block: str, router: str, capacity: float, num_positions: int
) -> None:
    built = only_block(block=block, router=router, capacity=capacity).to("meta")
    stated = built.cost(num_positions)
    assert measured(built, num_positions) == (stated.forward.total, stated.training.total)


@pytest.mark.parametrize("router", ROUTERS.names())
@pytest.mark.parametrize("mode", MODES)
def test_router_cost_equals_the_counter(router: str, mode: Mode) -> None:
    built = router_in(only_block(block=ROUTED[0], router=router))
    x_BTD = torch.randn(1, 37, WIDTH)
    with FlopCounterMode(display=False) as counter:
        built(x_BTD, context(mode, x_BTD))
    forward = built.cost(37, mode).forward
    assert counter.get_total_flops() == forward.total == forward.router


@each_pair
def test_causal_choice_ignores_later_tokens(block: str, router: str) -> None:
    built = only_block(block=block, router=router).double()
    x_BTD = torch.randn(3, 37, WIDTH, dtype=torch.float64)
    other_BTD = torch.cat([x_BTD[:, :20], torch.randn_like(x_BTD[:, 20:])], dim=1)
    with torch.no_grad():
        mine, theirs = (
            built.delta(rows, context("causal", rows)).add_to(rows) for rows in (x_BTD, other_BTD)
        )
    torch.testing.assert_close(mine[:, :20], theirs[:, :20], rtol=0, atol=1e-10)
    assert (mine[:, :20] != x_BTD[:, :20]).any()


@each_pair
def test_the_same_seed_gives_the_same_result(block: str, router: str) -> None:
    tokens_BT = torch.randint(VOCAB, (3, 37))

    def result(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(seed)
        model = decoder(block=block, router=router, depth=2)
        causal_BTV = model(tokens_BT, "causal").logits_BTV
        train_BTV = model(tokens_BT, "train", seed=5).logits_BTV
        train_BTV[:, :, 0].sum().backward()
        return causal_BTV, train_BTV, model.embedding.weight.grad

    first, second, third = result(1), result(1), result(2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, third, strict=True))


@each_pair
def test_a_pass_consumes_no_random_stream(block: str, router: str) -> None:
    model = decoder(block=block, router=router)
    tokens_BT = torch.randint(VOCAB, (3, 37))
    before = torch.get_rng_state()
    for mode in MODES:
        model(tokens_BT, mode)
    assert torch.equal(torch.get_rng_state(), before)


@each_pair
def test_saves_and_loads(block: str, router: str) -> None:
    shape = {"block": block, "router": router, "depth": 2}
    model, other = decoder(**shape), decoder(**shape)
    tokens_BT = torch.randint(VOCAB, (3, 37))
    before = [model(tokens_BT, mode).logits_BTV for mode in MODES]
    assert not torch.equal(other(tokens_BT, "causal").logits_BTV, before[1])
    reloaded(model, other)
    for mode, logits_BTV in zip(["train", "causal"], before, strict=True):
        assert torch.equal(other(tokens_BT, mode).logits_BTV, logits_BTV)


@each_pair
@pytest.mark.parametrize("ffn", [name for name in FFNS.names() if not FFNS.get(name).routes])
def test_every_combination_trains_a_step(block: str, router: str, ffn: str) -> None:
    model = decoder(block=block, router=router, ffn=ffn, depth=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    tokens_BT = torch.randint(VOCAB, (4, 32))
    losses = []
    for step in range(8):
        loss, output = model.loss(tokens_BT[:, :-1], tokens_BT[:, 1:], step)
        (loss if output.aux is None else loss + output.aux).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


# Plain blocks, ffns, schedules.


@pytest.mark.parametrize("block", PLAIN)
@each_ffn
@pytest.mark.parametrize("num_positions", [1, 37])
def test_plain_block(block: str, ffn: str, num_positions: int) -> None:
    built = only_block(block=block, ffn=ffn)
    x_BTD = torch.randn(3, num_positions, WIDTH)
    update = built.delta(x_BTD, context("train", x_BTD))
    assert update.index_BK is None
    assert update.delta_BKD.shape == x_BTD.shape
    assert torch.equal(update.add_to(x_BTD), x_BTD + update.delta_BKD)
    stated = built.cost(num_positions)
    if update.expert_rows_B is None:
        assert built.causal_forward(num_positions, Rows()) == stated.forward
    built.to("meta")
    assert measured(built, num_positions) == (stated.forward.total, stated.training.total)


@each_ffn
def test_ffn_keeps_its_contract(ffn: str) -> None:
    built = ffn_of(ffn)
    x_BTD = torch.randn(3, 37, WIDTH)
    delta_BTD = built.delta(x_BTD, context("train", x_BTD)).delta_BKD
    assert delta_BTD.shape == x_BTD.shape
    delta_BTD.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in built.parameters())
    other = ffn_of(ffn)
    assert not torch.equal(other.delta(x_BTD, context("train", x_BTD)).delta_BKD, delta_BTD)
    reloaded(built, other)
    assert torch.equal(other.delta(x_BTD, context("train", x_BTD)).delta_BKD, delta_BTD)


@each_ffn
def test_ffn_works_on_each_row_alone(ffn: str) -> None:
    built = ffn_of(ffn).double()
    x_BTD = torch.randn(1, 37, WIDTH, dtype=torch.float64)
    whole_BTD = built.delta(x_BTD, context("causal", x_BTD)).delta_BKD
    for t in (0, 17, 36):
        row_BTD = x_BTD[:, t : t + 1]
        alone_BTD = built.delta(row_BTD, context("causal", row_BTD)).delta_BKD
        torch.testing.assert_close(alone_BTD, whole_BTD[:, t : t + 1], rtol=0, atol=1e-12)


@each_ffn
@pytest.mark.parametrize("num_positions", [1, 37])
def test_ffn_cost_equals_the_counter(ffn: str, num_positions: int) -> None:
    built = ffn_of(ffn).to("meta")
    stated = built.cost(num_positions)
    assert measured(built, num_positions) == (stated.forward.total, stated.training.total)


@each_ffn
def test_ffn_output_weights_silence_it(ffn: str) -> None:
    built = ffn_of(ffn)
    with torch.no_grad():
        for weight in built.output_weights():
            weight.zero_()
    x_BTD = torch.randn(3, 37, WIDTH)
    assert not built.delta(x_BTD, context("train", x_BTD)).delta_BKD.any()


@each_block
def test_block_output_weights_silence_it(block: str) -> None:
    built = only_block(block=block)
    own = {id(parameter) for parameter in built.parameters()}
    assert {id(weight) for weight in built.output_weights()} <= own
    with torch.no_grad():
        for weight in built.output_weights():
            weight.zero_()
    x_BTD = torch.randn(3, 37, WIDTH)
    assert not built.delta(x_BTD, context("train", x_BTD)).delta_BKD.any()


@pytest.mark.parametrize("ratio", [0.01, 1.0, 8 / 3, 4.0])
def test_mlp_hidden_width_is_a_multiple_of_4(ratio: float) -> None:
    cls = FFNS.get("mlp")
    built = cls(WIDTH, 1.0, cls.Config(ratio=ratio))
    hidden = built.get_parameter("down.weight").shape[1]
    assert hidden % 4 == 0
    assert abs(hidden - ratio * WIDTH) <= max(2, 4 - ratio * WIDTH)


@pytest.mark.parametrize("schedule", SCHEDULES.names())
@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_schedule_has_a_capacity_or_none_for_each_layer(
    schedule: str, depth: int, every: int
) -> None:
    config = ModelConfig(schedule=schedule, depth=depth, every=every, capacity=0.25)
    cls = SCHEDULES.get(schedule)
    capacities = cls(cls.Config()).capacities(config)
    assert len(capacities) == depth
    assert all(c is None or 0 < c <= 1 for c in capacities)


# The random control.


def drawn(mode: Mode, x_BTD: Tensor, **where: int) -> Tensor:
    """Which tokens a random router of capacity 0.25 takes (B, T)."""
    routing = Random(WIDTH, 0.25, Random.Config())(x_BTD, context(mode, x_BTD, **where))
    assert (routing.gate_BK == 1).all()
    valid_BK = routing.valid_BK
    chosen_BT = torch.zeros(x_BTD.shape[:2], dtype=torch.long)
    source = torch.ones_like(routing.index_BK) if valid_BK is None else valid_BK.long()
    return chosen_BT.scatter_add(1, routing.index_BK, source).bool()


@pytest.mark.parametrize(("seed", "layer"), [(0, 0), (0, 1), (1, 0), (7_000_021_003, 5)])
def test_gaussian_is_standard_normal(seed: int, layer: int) -> None:
    """Bars are five standard errors of 1e5 independent values."""
    values = gaussian(torch.arange(100_000), seed, layer)
    error = 5 / 100_000**0.5
    assert abs(values.mean()) < error
    assert abs(values.var() - 1) < error * 2**0.5
    assert abs((values**3).mean()) < error * 15**0.5
    assert abs((values**4).mean() - 3) < error * 96**0.5
    for lag in (1, 2, 7, 64):
        assert abs((values[lag:] * values[:-lag]).mean()) < error
    for share in (0.05, 0.125, 0.5, 0.9):
        above = (values > NormalDist().inv_cdf(1 - share)).double().mean()
        assert abs(above - share) < error * (share * (1 - share)) ** 0.5


def test_gaussian_is_a_function_of_its_arguments() -> None:
    counter = torch.tensor([5, 0, 17, (1 << 40) + 3])
    values = gaussian(counter, 3, 2)
    assert torch.equal(values, gaussian(counter, 3, 2))
    assert torch.equal(values[2:3], gaussian(torch.tensor([17]), 3, 2))
    for other in (gaussian(counter + 1, 3, 2), gaussian(counter, 4, 2), gaussian(counter, 3, 3)):
        assert (values != other).all()


@pytest.mark.parametrize("seed", [2**31, 2**33, 7_000_021_003, 2**63, 2**80, -5])
def test_gaussian_takes_any_seed(seed: int) -> None:
    values = gaussian(torch.arange(1000), seed, 3)
    assert values.isfinite().all()
    assert abs(values.mean()) < 0.2


@pytest.mark.parametrize("change", ["seed", "layer"])
def test_gaussian_is_uncorrelated_between_steps_and_layers(change: str) -> None:
    counter = torch.arange(100_000)
    here, there = gaussian(counter, 10, 1), gaussian(counter, 10, 1)
    assert torch.equal(here, there)
    there = gaussian(counter, 11, 1) if change == "seed" else gaussian(counter, 10, 2)
    assert abs((here * there).mean()) < 5 / 100_000**0.5


def test_random_training_choice_differs_by_step_layer_and_row() -> None:
    x_BTD = torch.zeros(4, 64, WIDTH)
    chosen_BT = drawn("train", x_BTD)
    assert (chosen_BT.sum(dim=1) == 16).all()
    assert torch.equal(chosen_BT, drawn("train", torch.randn_like(x_BTD)))
    assert len(chosen_BT.unique(dim=0)) == 4
    for other_BT in (drawn("train", x_BTD, seed=1), drawn("train", x_BTD, layer=1)):
        # Two independent choices of a quarter agree on 10 of 16 cells, and never on all.
        assert 0.4 < (chosen_BT == other_BT).double().mean() < 0.85


def test_random_training_choice_favours_no_position() -> None:
    x_BTD = torch.zeros(64, 32, WIDTH)
    counts_T = sum(drawn("train", x_BTD, seed=seed).sum(dim=0) for seed in range(50))
    share_T = counts_T / (64 * 50)
    assert (share_T - 0.25).abs().max() < 5 * (0.25 * 0.75 / (64 * 50)) ** 0.5


def test_random_causal_choice_depends_on_position_and_layer_only() -> None:
    x_BTD = torch.zeros(4, 512, WIDTH)
    chosen_BT = drawn("causal", x_BTD)
    assert len(chosen_BT.unique(dim=0)) == 1
    assert torch.equal(chosen_BT, drawn("causal", torch.randn_like(x_BTD), seed=9))
    assert torch.equal(chosen_BT[:1, :37], drawn("causal", x_BTD[:1, :37]))
    other_BT = drawn("causal", x_BTD, layer=1)
    assert 0.5 < (chosen_BT == other_BT).double().mean() < 0.75


@pytest.mark.parametrize("layer", [0, 1, 2, 11])
def test_random_causal_share_is_near_the_capacity(layer: int) -> None:
    share = drawn("causal", torch.zeros(1, 20_000, WIDTH), layer=layer).double().mean()
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / 20_000) ** 0.5


def test_random_is_free() -> None:
    router = Random(WIDTH, 0.25, Random.Config())
    assert not list(router.parameters())
    assert router.cost(64, "train").training == Flops()
    assert router.cost(64, "causal").forward == Flops()
