"""Stated FLOPs are those that torch counts."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from modsearch.nn.model import Decoder, Output
from modsearch.nn.shapes import shapes_alone
from modsearch.testing.probe import (
    MODES,
    Case,
    T,
    backward,
    context_of,
    draw_rows,
    draw_tokens,
    expect,
    routers_of,
    warm_model,
)


def flops(case: Case) -> None:
    """Stated forward and training FLOPs are those that torch counts on the meta device."""
    for share, num_positions in ((case.config.capacity, T), (1.0, 64)):
        with shapes_alone():
            model = Decoder(case.config.model_copy(update={"capacity": share}))
            tokens_BT = torch.zeros(2, num_positions, dtype=torch.long)
        stated = model.cost(num_positions)
        with FlopCounterMode(display=False) as counter:
            loss, output = model.loss(tokens_BT, tokens_BT, 0)
            forward = counter.get_total_flops()
            backward(loss, output)
        where = f"capacity {share} of {num_positions}"
        _expect_flops(f"{where}, forward", 2 * stated.forward.total, forward)
        _expect_flops(f"{where}, training", 2 * stated.training.total, counter.get_total_flops())


def router_flops(case: Case) -> None:
    """The router's stated FLOPs are those that torch counts, in both modes."""
    for router in routers_of(warm_model(case)):
        for mode in MODES:
            x_BTD = draw_rows(case, num_sequences=1)
            with FlopCounterMode(display=False) as counter:
                router(x_BTD, context_of(mode, x_BTD))
            stated = router.cost(T, mode).forward
            _expect_flops(f"router, {mode}", stated.total, counter.get_total_flops())
            expect(stated.total == stated.router, "a router's FLOPs are of the part `router`")


def causal_flops(case: Case) -> None:
    """FLOPs stated for the rows that a causal pass took are those that torch counts."""
    model = warm_model(case)
    for tokens_BT in draw_tokens(case)[:, None]:
        # Plain attention, because the counter misses the fused kernel of a CPU.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            output: Output = model(tokens_BT, "causal")
        [rows] = output.rows
        stated = model.causal_forward(T, rows)
        _expect_flops(f"causal, rows {list(rows)}", stated, counter.get_total_flops())


def _expect_flops(where: str, stated: int, counted: int) -> None:
    expect(stated == counted, f"{where}: {stated:,} FLOPs stated, {counted:,} counted")
