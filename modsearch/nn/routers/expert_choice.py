"""Expert choice: each routed block takes its top-k tokens (Raposo et al. 2024, section 3.4).

Top-k compares a token with later ones. For sampling, an auxiliary binary cross-entropy
pushes sigmoid(score) above 0.5 for the chosen tokens and below it for the others
(section 3.5), so that the causal choice is sigmoid(score) > 0.5. The paper gives neither
the weight of that loss nor the initialisation: both values are ours.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from modsearch.cost import Cost
from modsearch.nn.contracts import Context, Mode, Options, Router, Routing
from modsearch.nn.selection import (
    Gate,
    chosen_valid,
    gate,
    membership_loss,
    num_selected,
    pack,
    token_scores,
    top_k,
    z_loss,
)


class ExpertChoice(Router):
    """score = w . x, in fp32, without bias, from the residual stream before the norm."""

    class Config(Options):
        """Options of the router."""

        gate: Gate = "identity"
        """Factor of a chosen token's update."""
        bce_weight: float = Field(0.01, ge=0)
        """Weight of the loss that teaches the causal choice."""
        z_weight: float = Field(0.0, ge=0)
        """Weight of the z-loss on the scores."""
        init_std: float = Field(0.02, gt=0)
        """Zero with the identity gate would be a dead block that takes the first k tokens."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
        self.options = options
        self.weight = nn.Parameter(torch.empty(1, width).normal_(std=options.init_std))

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Top-k in training; the sign of the score in causal mode."""
        scores_BT = self.scores(x_BTD)
        aux: Tensor | None = None
        valid_BK: Tensor | None
        if context.mode == "causal":
            index_BK, valid_BK = pack(scores_BT > 0, context.valid_BT)
        else:
            index_BK = top_k(scores_BT, self.slots(x_BTD.shape[1]), context.valid_BT)
            valid_BK = chosen_valid(context.valid_BT, index_BK)
            aux = self.options.bce_weight * membership_loss(scores_BT, index_BK, context.valid_BT)
            if self.options.z_weight:
                aux = aux + self.options.z_weight * z_loss(scores_BT[..., None], context.valid_BT)
        gate_BK = gate(self.options.gate, scores_BT, index_BK, valid_BK, context)
        return Routing(
            index_BK, gate_BK, valid_BK, aux, scores_BT=scores_BT, membership_BT=scores_BT
        )

    def scores(self, x_BTD: Tensor) -> Tensor:
        """One logit a token."""
        return token_scores(x_BTD, self.weight).squeeze(-1)

    def slots(self, num_positions: int) -> int:
        """k rows."""
        return num_selected(self.capacity, num_positions)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        """One dot product a token."""
        return Cost.product("router", 2 * num_positions * self.weight.shape[1])
