"""Control: tokens are chosen at random and the gate is 1 (Raposo et al. 2024, section 3.3).

What it loses against a learned router is what routing is worth; what remains of the gain
over a dense model is what cheaper blocks are worth.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import math
from statistics import NormalDist

import torch
from torch import Tensor

from modsearch.nn.contracts import Context, Router, Routing
from modsearch.nn.selection import chosen_valid, take, top_k


class Random(Router):
    """Gaussian scores from a counter-based hash, so that no random stream is consumed."""

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Top-k of fresh scores in training; in causal mode a fixed cut-off on fixed scores."""
        if context.mode == "causal":
            # Nothing of the batch: the score is a function of layer and position alone.
            scores_BT = gaussian(context.positions_BT, 0, context.layer)
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
    offset = seed * 0x9E3779B1 + layer * 0x85EBCA77 + 0x2545F491
    # A tensor takes signed 64-bit numbers only, and a seed may be any integer.
    state = counter + ((offset + (1 << 63)) % (1 << 64) - (1 << 63))
    for shift, multiplier in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        shifted = (state >> shift) & ((1 << (64 - shift)) - 1)
        state = (state ^ shifted) * multiplier
    state = state ^ ((state >> 31) & 0x1FFFFFFFF)
    uniform = ((state >> 12) & 0xFFFFFFFFFF).double() / (1 << 40)
    return math.sqrt(2) * torch.erfinv(2 * uniform.clamp(1e-12, 1 - 1e-12) - 1)
