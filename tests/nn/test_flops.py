"""The ledger equals torch's own counter to the FLOP, for every block and router.

The counter runs on the meta device: on the CPU it misses the fused attention kernel.
"""

import random
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from modsearch.config.model import ModelConfig
from modsearch.nn.contracts import BLOCKS, ROUTERS, RoutedBlock, Rows
from modsearch.nn.cost import Cost, Flops, conventions
from modsearch.nn.model import Decoder
from modsearch.nn.parts import block_names, completed
from modsearch.nn.shapes import shapes_alone
from modsearch.registry.built_in import base_name

BATCH = 2
AXES: dict[str, list[Any]] = {
    "depth": [1, 2, 3, 5],
    "width": [16, 24, 48],
    "num_heads": [1, 2, 4],
    "seq_len": [37, 63, 256],
    "capacity": [0.125, 0.3, 0.5, 1.0],
    "every": [1, 2, 3],
    "tied": [True, False],
    "vocab_size": [17, 256, 1000],
    "ratio": [8 / 3, 4],
}
MIXES = 8
EXPERTS: dict[str, list[Any]] = {
    "num_experts": [1, 3, 4],
    "top_k": [1, 2],
    "selection": ["token_choice", "expert_choice"],
    "balance": ["loss", "bias", "none"],
    "z_weight": [0.0, 0.001],
    "capacity_factor": [1.0, 1.25],
}
"""Options of a mixture of experts."""


def is_routed(block: str) -> bool:
    """Whether a router stands before the block."""
    return issubclass(BLOCKS.get(base_name("block", block)), RoutedBlock)


def ffn_of(block: str, ratio: float, draw: random.Random) -> dict[str, Any]:
    """The ffn that the block's name wants, with options at random."""
    ffn = completed(ModelConfig(block=block)).ffn
    assert ffn is not None
    if "num_experts" not in ffn.options:
        return {"name": ffn.name, "ratio": ratio}
    options = {axis: draw.choice(values) for axis, values in EXPERTS.items()}
    options["top_k"] = min(options["top_k"], options["num_experts"])
    return {"name": ffn.name, "ratio": ratio, **options}


def cases() -> list[ModelConfig]:
    """Mixes of the axes for each block and, where it is routed, each router, the same in every
    run."""
    draw = random.Random(0)
    found = []
    for block in block_names():
        for router in ROUTERS.names() if is_routed(block) else ["expert_choice"]:
            for _ in range(MIXES if is_routed(block) else 3 * MIXES):
                shape = {axis: draw.choice(values) for axis, values in AXES.items()}
                if shape["width"] % (2 * shape["num_heads"]):
                    shape["num_heads"] = 2
                shape["num_kv_heads"] = draw.choice([None, 1])
                ffn = ffn_of(block, shape.pop("ratio"), draw)
                found.append(ModelConfig(block=block, router=router, ffn=ffn, **shape))
    return found


CASES = cases()


def name_of(config: ModelConfig) -> str:
    """What a failing case is called."""
    assert config.ffn is not None
    return (
        f"{config.block.name}-{config.router.name}-L{config.depth}-D{config.width}"
        f"-N{config.num_heads}-{config.num_kv_heads}-T{config.seq_len}-c{config.capacity}"
        f"-e{config.every}-V{config.vocab_size}-{'tied' if config.tied else 'untied'}-"
        + "-".join(str(value) for value in config.ffn.options.values())
    )


def on_meta(config: ModelConfig) -> tuple[Decoder, torch.Tensor]:
    """A model and a batch without storage."""
    with shapes_alone():
        return Decoder(config), torch.zeros(BATCH, config.seq_len, dtype=torch.long)


def test_cases_cover_every_value() -> None:
    assert {config.block.name for config in CASES} == set(block_names())
    for axis, values in {**AXES, **EXPERTS}.items():
        of_model = axis in ModelConfig.model_fields
        seen = {
            str(getattr(config, axis) if of_model else config.ffn.options[axis])
            for config in CASES
            if config.ffn is not None and (of_model or axis in config.ffn.options)
        }
        assert len(seen) == len(values), f"{axis}: only {seen}"
    routed = [config for config in CASES if is_routed(config.block.name)]
    assert sum(config.depth >= config.every for config in routed) > len(routed) / 2


@pytest.mark.parametrize("config", CASES, ids=name_of)
def test_forward_equals_the_counter(config: ModelConfig) -> None:
    model, tokens_BT = on_meta(config)
    with FlopCounterMode(display=False) as counter:
        model(tokens_BT, "train")
    assert counter.get_total_flops() == BATCH * model.cost(config.seq_len).forward.total


@pytest.mark.parametrize("config", CASES, ids=name_of)
def test_training_equals_the_counter(config: ModelConfig) -> None:
    model, tokens_BT = on_meta(config)
    with FlopCounterMode(display=False) as counter:
        loss, output = model.loss(tokens_BT, tokens_BT, seed=0)
        (loss if output.aux is None else loss + output.aux).backward()
    assert counter.get_total_flops() == BATCH * model.cost(config.seq_len).training.total


@pytest.mark.parametrize("router", ["predictor", "threshold", "token_choice"])
@pytest.mark.parametrize("z_weight", [0.0, 0.1])
def test_scores_that_nothing_learns_from_have_no_backward(router: str, z_weight: float) -> None:
    options: dict[str, Any] = {"name": router, "gate": "one", "z_weight": z_weight}
    if router == "token_choice":
        options["balance"] = "bias"
    model, tokens_BT = on_meta(ModelConfig(block="mod", router=options, every=1, seq_len=37))
    with FlopCounterMode(display=False) as counter:
        loss, output = model.loss(tokens_BT, tokens_BT, seed=0)
        (loss if output.aux is None else loss + output.aux).backward()
    assert counter.get_total_flops() == BATCH * model.cost(37).training.total


@pytest.mark.parametrize("router", ROUTERS.names())
def test_parts_equal_the_counter(router: str) -> None:
    config = ModelConfig(block="mod", router=router, depth=3, every=2, width=24, capacity=0.3)
    model, tokens_BT = on_meta(config)
    with FlopCounterMode(display=False) as counter:
        model(tokens_BT, "train")
    counts = counter.get_flop_counts()
    measured = {module: sum(ops.values()) for module, ops in counts.items()}
    stated = model.cost(config.seq_len).forward
    assert measured["Decoder.head"] == BATCH * stated.head
    assert measured.get("Decoder.blocks.1.router", 0) == BATCH * stated.router
    assert counts["Global"][torch.ops.aten.bmm] == BATCH * stated.attention
    assert stated.experts == 0


@pytest.mark.parametrize(
    ("block", "router"),
    [
        (block, router)
        for block in block_names()
        for router in (ROUTERS.names() if is_routed(block) else ["expert_choice"])
    ],
)
@pytest.mark.parametrize("every", [1, 2])
def test_causal_forward_equals_the_counter(block: str, router: str, every: int) -> None:
    """At the rows that a causal pass really took; plain attention, so that a CPU counts all."""
    config = ModelConfig(
        block=block, router=router, depth=4, every=every, width=24, capacity=0.3, vocab_size=50
    )
    model = Decoder(config)
    tokens_BT = torch.randint(50, (1, 63))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        output = model(tokens_BT, "causal")
    [rows] = output.rows
    if is_routed(block):
        assert any(of_layer.routed not in (None, 0, 63) for of_layer in rows), "nothing varies"
    assert counter.get_total_flops() == model.causal_forward(63, rows)


def test_causal_forward_of_a_block_that_nothing_enters() -> None:
    model, _ = on_meta(ModelConfig(block="mod", depth=2, every=1, width=24, vocab_size=50))
    router_and_head = 2 * 2 * 63 * 24 + 2 * 63 * 24 * 50
    assert model.causal_forward(63, [Rows(routed=0), Rows(routed=0)]) == router_and_head


def test_causal_forward_needs_a_count_for_each_layer() -> None:
    model, _ = on_meta(ModelConfig(block="mod", depth=2))
    with pytest.raises(ValueError, match="zip"):
        model.causal_forward(63, [Rows(routed=3)])


def test_full_capacity_costs_the_dense_model_and_the_router() -> None:
    dense, _ = on_meta(ModelConfig(depth=2))
    routed, _ = on_meta(ModelConfig(depth=2, block="mod", capacity=1.0))
    scores = Cost.product("router", 2 * 63 * 32)
    assert routed.cost(63) == dense.cost(63) + scores


def test_cost_arithmetic() -> None:
    cost = Cost.product("matmul", 10) + Cost.product("head", 3) * 2
    assert cost.forward == Flops(matmul=10, head=6)
    assert cost.backward == Flops(matmul=20, head=12)
    assert cost.training.total == 48


def test_conventions() -> None:
    cost = Cost.product("matmul", 500) + Cost.product("attention", 100)
    found = conventions(cost, seq_len=10, params=70, embedding_params=20)
    assert found == {
        "exact": 180.0,
        "causal_attention": 165.0,
        "6N": 420.0,
        "6N_non_embedding": 300.0,
    }
