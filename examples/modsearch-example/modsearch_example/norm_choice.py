"""Route the tokens whose residual stream is longest.

Training takes the top-k of each sequence, which compares a token with later ones. For causal
mode a threshold learns the (1 - capacity) quantile of the scores by the pinball loss (Koenker
and Bassett 1978): a token enters if it exceeds the threshold, whatever comes after it.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from modsearch.nn.contracts import Context, Mode, Options, Router, Routing
from modsearch.nn.cost import Cost
from modsearch.nn.selection import chosen_valid, pack, share, top_k


class NormChoice(Router):
    """Score: the logarithm of the norm of the residual stream. The gate is 1."""

    class Config(Options):
        """Options of the router."""

        order: float = Field(2.0, ge=1)
        """Of the norm: 2 is the Euclidean one."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
        self.order = options.order
        self.threshold = nn.Parameter(torch.zeros(1))

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """The longest k in training; those above the threshold in causal mode."""
        wide_BTD = x_BTD.detach().to(torch.promote_types(x_BTD.dtype, torch.float32))
        norm_BT = torch.linalg.vector_norm(wide_BTD, ord=self.order, dim=-1)
        over_BT = norm_BT.clamp_min(1e-30).log() - self.threshold
        aux: Tensor | None = None
        valid_BK: Tensor | None
        if context.mode == "causal":
            index_BK, valid_BK = pack(over_BT > 0, context.valid_BT)
        else:
            index_BK = top_k(over_BT, self.slots(x_BTD.shape[1]), context.valid_BT)
            valid_BK = chosen_valid(context.valid_BT, index_BK)
            pinball_BT = torch.maximum((1 - self.capacity) * over_BT, -self.capacity * over_BT)
            aux = share(pinball_BT, context.valid_BT)
        gate_BK = x_BTD.new_ones(index_BK.shape)
        return Routing(index_BK, gate_BK, valid_BK, aux, scores_BT=over_BT, membership_BT=over_BT)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        """A norm is no matrix product."""
        return Cost()
