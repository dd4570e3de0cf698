"""Control: tokens are chosen at random and the gate is 1 (Raposo et al. 2024, section 3.3).

What it loses against a learned router is what routing is worth; what remains of the gain
over a dense model is what cheaper blocks are worth.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import math
from statistics import NormalDist
from typing import ClassVar

import torch
from torch import Tensor

from modsearch.nn.contracts import Context, Options, Router, Routing
from modsearch.nn.keys import hashed
from modsearch.nn.selection import chosen_valid, take, top_k


class Random(Router):
    """Gaussian scores from a counter-based hash, so that no pass consumes a random stream."""

    keyed: ClassVar[bool] = True

    def __init__(self, width: int, capacity: float, options: Options) -> None:
        super().__init__(width, capacity, options)
        with torch.random.fork_rng(devices=[]):  # parameters are those of other routers' models
            self.register_buffer("salt", torch.randint(1 << 62, ()))
        self.salt: Tensor

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Top-k of fresh scores in training; in causal mode a fixed cut-off on scores that differ
        by the tokens so far, by layer, and by the model's seed."""
        if context.mode == "causal":
            key_BT = context.positions_BT if context.key_BT is None else context.key_BT
            scores_BT = gaussian(key_BT + self.salt, 0, context.layer)
            cut = NormalDist().inv_cdf(1 - self.capacity) if self.capacity < 1 else -math.inf
            return take(scores_BT > cut, self.slots(x_BTD.shape[1]), context)
        rows_B1 = context.first_row + torch.arange(len(x_BTD), device=x_BTD.device)[:, None]
        scores_BT = gaussian(
            context.positions_BT + rows_B1 * (1 << 32), context.seed, context.layer
        )
        index_BK = top_k(scores_BT, self.slots(x_BTD.shape[1]), context.valid_BT)
        gate_BK = torch.ones_like(index_BK, dtype=torch.float32)
        return Routing(index_BK, gate_BK, chosen_valid(context.valid_BT, index_BK))


def gaussian(counter: Tensor, seed: int, layer: int) -> Tensor:
    """Standard normal values, one a counter: a SplitMix64 hash (Steele et al. 2014) of
    (counter, seed, layer), mapped through the inverse error function."""
    if not -(1 << 63) <= seed < 1 << 63:  # a tensor takes no others, and a seed may be any integer
        seed = (seed + (1 << 63)) % (1 << 64) - (1 << 63)
    drawn: Tensor = _drawn(counter, seed, layer)
    return drawn


# One operation to a compiler: of whole numbers that wrap around at 64 bits it makes other ones on
# a CPU, and nothing that compiles on a GPU.
@torch.library.custom_op("modsearch::gaussian", mutates_args=())
def _drawn(counter: Tensor, seed: int, layer: int) -> Tensor:
    offset = torch.full((), seed, device=counter.device) * 0x9E3779B1
    state = hashed(counter + offset + (layer * 0x85EBCA77 + 0x2545F491))
    uniform = ((state >> 12) & 0xFFFFFFFFFF).double() / (1 << 40)
    return math.sqrt(2) * torch.erfinv(2 * uniform.clamp(1e-12, 1 - 1e-12) - 1)


@_drawn.register_fake
def _(counter: Tensor, seed: int, layer: int) -> Tensor:
    return torch.empty_like(counter, dtype=torch.float64)
