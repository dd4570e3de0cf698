"""Expert choice: each routed block takes its top-k tokens (Raposo et al. 2024, section 3.4).

Top-k compares a token with later ones. For sampling, an auxiliary binary cross-entropy
pushes sigmoid(score) above 0.5 for the chosen tokens and below it for the others
(section 3.5), so that the causal choice is sigmoid(score) > 0.5. The paper gives neither
the weight of that loss nor the initialisation: both values are ours.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from modsearch.cost import Cost
from modsearch.nn.contracts import Context, Mode, Options, Router, Routing
from modsearch.nn.selection import GATES, Gate, chosen_valid, num_selected, pack, top_k


class ExpertChoice(Router):
    """score = w . x, in fp32, without bias, from the residual stream before the norm."""

    class Config(Options):
        """Options of the router."""

        gate: Gate = "identity"
        bce_weight: float = Field(0.01, ge=0)
        init_std: float = Field(0.02, gt=0)
        """Zero with the identity gate would be a dead block that takes the first k tokens."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
        self.capacity = capacity
        self.options = options
        self.weight = nn.Parameter(torch.empty(1, width).normal_(std=options.init_std))

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Top-k in training; the sign of the score in causal mode."""
        scores_BT = self.scores(x_BTD)
        gates_BT = GATES[self.options.gate](scores_BT)
        if context.mode == "causal":
            chosen_BT = scores_BT > 0
            if context.valid_BT is not None:
                chosen_BT = chosen_BT & context.valid_BT
            index_BK, valid_BK = pack(chosen_BT)
            return Routing(index_BK, gates_BT.gather(1, index_BK), valid_BK)
        index_BK = top_k(scores_BT, self.slots(x_BTD.shape[1]), context.valid_BT)
        return Routing(
            index_BK,
            gates_BT.gather(1, index_BK),
            chosen_valid(context.valid_BT, index_BK),
            aux=self.options.bce_weight * self._bce(scores_BT, index_BK, context.valid_BT),
        )

    def scores(self, x_BTD: Tensor) -> Tensor:
        """One logit a token."""
        with torch.autocast("cuda" if x_BTD.is_cuda else "cpu", enabled=False):
            wide = torch.promote_types(x_BTD.dtype, torch.float32)
            return F.linear(x_BTD.to(wide), self.weight.to(wide)).squeeze(-1)

    def _bce(self, scores_BT: Tensor, index_BK: Tensor, valid_BT: Tensor | None) -> Tensor:
        target_BT = torch.zeros_like(scores_BT).scatter(1, index_BK, 1.0)
        if valid_BT is None:
            return F.binary_cross_entropy_with_logits(scores_BT, target_BT)
        return F.binary_cross_entropy_with_logits(scores_BT[valid_BT], target_BT[valid_BT])

    def slots(self, num_positions: int) -> int:
        """k rows."""
        return num_selected(self.capacity, num_positions)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        """One dot product a token."""
        return Cost.product("router", 2 * num_positions * self.weight.shape[1])
