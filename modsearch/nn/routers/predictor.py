"""Expert choice whose causal choice is a second, small router's (Raposo et al. 2024, section 3.5).

The second router sees the same rows behind a stop-gradient and learns which of them top-k
takes: the trunk gets no gradient from it. The paper gives neither its size nor the weight of
its loss: both are ours.

Shapes: B sequences, T positions, K chosen rows, D width, H hidden width.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from modsearch.nn.contracts import Context, Mode, Router, Routing
from modsearch.nn.cost import Cost, Flops
from modsearch.nn.selection import TopKOptions, score_cost, token_scores, top_k_routing


class Predictor(Router):
    """Top-k of w . x in training; an MLP's decision in causal mode."""

    class Config(TopKOptions):
        """Options of the router."""

        hidden: int = Field(16, gt=0, le=65_536)
        """Hidden width of the predictor."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
        self.options = options
        self.weight = nn.Parameter(torch.empty(1, width).normal_(std=options.init_std))
        self.hidden = nn.Parameter(torch.empty(options.hidden, width).normal_(std=width**-0.5))
        self.hidden_bias = nn.Parameter(torch.zeros(options.hidden))
        self.out = nn.Parameter(torch.empty(1, options.hidden).normal_(std=options.hidden**-0.5))
        self.out_bias = nn.Parameter(torch.zeros(1))

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Top-k in training; the sign of the predictor's logit in causal mode."""
        scores_BT = token_scores(x_BTD, self.weight).squeeze(-1)
        k = self.slots(x_BTD.shape[1])
        return top_k_routing(scores_BT, self.membership(x_BTD), k, self.options, context)

    def membership(self, x_BTD: Tensor) -> Tensor:
        """Log-odds (B, T) that top-k takes the token; no gradient flows to `x_BTD`."""
        rows_BTD = x_BTD.detach()
        normed_BTD = F.rms_norm(rows_BTD, rows_BTD.shape[-1:], eps=1e-6)
        hidden_BTH = F.silu(token_scores(normed_BTD, self.hidden) + self.hidden_bias)
        return (token_scores(hidden_BTH, self.out) + self.out_bias).squeeze(-1)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        """A dot product a token, and the MLP: its first product has no gradient for its input."""
        width, hidden = self.weight.shape[1], self.options.hidden
        first = 2 * num_positions * width * hidden
        scores = score_cost(2 * num_positions * width, self.options.scores_learn)
        last = Cost.product("router", 2 * num_positions * hidden)
        return scores + last + Cost(Flops(router=first), Flops(router=first))
