"""Expert choice: each routed block takes its top-k tokens (Raposo et al. 2024, section 3.4).

Top-k compares a token with later ones. For sampling, an auxiliary binary cross-entropy
pushes sigmoid(score) above 0.5 for the chosen tokens and below it for the others
(section 3.5), so that the causal choice is sigmoid(score) > 0.5. The paper gives neither
the weight of that loss nor the initialisation: both values are ours.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import torch
from torch import Tensor, nn

from modsearch.nn.contracts import Context, Mode, Router, Routing
from modsearch.nn.cost import Cost
from modsearch.nn.selection import TopKOptions, token_scores, top_k_routing


class ExpertChoice(Router):
    """score = w . x, in fp32, without bias, from the residual stream before the norm."""

    class Config(TopKOptions):
        """Options of the router."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
        self.options = options
        self.weight = nn.Parameter(torch.empty(1, width).normal_(std=options.init_std))

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Top-k in training; the sign of the score in causal mode."""
        scores_BT = self.scores(x_BTD)
        k = self.slots(x_BTD.shape[1])
        return top_k_routing(scores_BT, scores_BT, k, self.options, context)

    def scores(self, x_BTD: Tensor) -> Tensor:
        """One logit a token."""
        return token_scores(x_BTD, self.weight).squeeze(-1)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        """One dot product a token."""
        return Cost.product("router", 2 * num_positions * self.weight.shape[1])
