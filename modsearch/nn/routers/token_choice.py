"""Token choice: each token picks to be processed or to skip (Raposo et al. 2024, section 3.3).

Nothing but balancing holds the load: an auxiliary loss, or a bias on the choice that moves
against the load (Wang et al. 2024, arXiv 2408.15664), both with target (c, 1 - c). Tokens beyond
the slots of training are dropped in order of position; causal mode drops none.

Shapes: B sequences, T positions, K chosen rows, D width; 2 paths: process, skip.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from modsearch.nn.contracts import Context, Mode, Router, Routing, total
from modsearch.nn.cost import Cost
from modsearch.nn.passes import step_ratio
from modsearch.nn.selection import (
    Gate,
    ScoreOptions,
    gate,
    load,
    num_real,
    num_slots,
    pack,
    score_cost,
    step_mean,
    token_scores,
    z_loss,
)


class TokenChoice(Router):
    """Two scores a token; the higher one, after its activation, is the token's path."""

    class Config(ScoreOptions):
        """Options of the router."""

        activation: Literal["softmax", "sigmoid"] = "softmax"
        """Of the two scores, before they are compared."""
        gate: Gate = "sigmoid"
        """Factor of a chosen token's update; `sigmoid` is the probability of its path."""
        balance: Literal["bias", "loss", "none"] = "bias"
        """What holds the load at the capacity."""
        balance_weight: float = Field(0.1, ge=0, le=1000)
        """Weight of the balancing loss."""
        bias_rate: float = Field(0.01, gt=0, le=1000)
        """Step of the loss-free bias, per optimiser step."""
        capacity_factor: float = Field(1.0, gt=0, le=1024)
        """Training slots over k: what is chosen beyond is dropped."""

    bias: Tensor

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
        self.options = options
        self.weight = nn.Parameter(torch.empty(2, width).normal_(std=options.init_std))
        self.register_buffer("bias", torch.zeros(()))
        self._wanted: list[tuple[Tensor, Tensor | int]] = []
        """Tokens that chose to be processed, and all, in the passes since the last step."""

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Rows that prefer to be processed; in training the last ones beyond the slots are
        dropped."""
        scores_BT2 = token_scores(x_BTD, self.weight)
        if self.options.activation == "softmax":
            process_BT, skip_BT = scores_BT2.softmax(dim=-1).unbind(-1)
            # sigmoid of the difference is the softmax of the pair
            scores_BT = scores_BT2[..., 0] - scores_BT2[..., 1]
        else:
            process_BT, skip_BT = torch.sigmoid(scores_BT2).unbind(-1)
            scores_BT = scores_BT2[..., 0]
        chosen_BT = process_BT + self.bias > skip_BT
        slots = self.slots(x_BTD.shape[1]) if context.mode == "train" else None
        index_BK, valid_BK = pack(chosen_BT, context.valid_BT, slots)
        gate_BK = gate(self.options.gate, scores_BT, index_BK, valid_BK, context)
        aux = None
        statistics: dict[str, Tensor] = {}
        if context.mode == "train":
            statistics = load(chosen_BT, valid_BK, context.valid_BT)
            real_BT = chosen_BT if context.valid_BT is None else chosen_BT & context.valid_BT
            wanted = (real_BT.sum(), num_real(chosen_BT, context.valid_BT))
            aux = self._aux(wanted, process_BT, skip_BT, scores_BT2, context)
            if self.training:
                self._wanted.append(wanted)
        return Routing(index_BK, gate_BK, valid_BK, aux, statistics, scores_BT)

    def _aux(
        self,
        wanted: tuple[Tensor, Tensor | int],
        process_BT: Tensor,
        skip_BT: Tensor,
        scores_BT2: Tensor,
        context: Context,
    ) -> Tensor | None:
        terms = []
        if self.options.balance == "loss":
            # Fedus et al. 2021 (arXiv 2101.03961, eq. 4), with target (c, 1 - c), not uniform.
            taken = context.over_step(*wanted)
            chance = step_mean(process_BT / (process_BT + skip_BT), context)
            target = min(max(self.capacity, 0.01), 0.99)
            spread = taken * chance / target + (1 - taken) * (1 - chance) / (1 - target)
            terms.append(self.options.balance_weight * spread)
        if self.options.z_weight:
            terms.append(self.options.z_weight * z_loss(scores_BT2, context))
        return total(terms)

    @torch.no_grad()
    def end_step(self) -> None:
        """Raise the bias where too few chose to be processed, lower it where too many did."""
        if self.options.balance == "bias" and self._wanted:
            missing = self.capacity - step_ratio(self._wanted, self.ranks)
            self.bias += self.options.bias_rate * torch.sign(missing)
        self._wanted = []

    def slots(self, num_positions: int) -> int:
        """ceil(capacity_factor * k) rows."""
        return num_slots(self.capacity, num_positions, self.options.capacity_factor)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        """Two dot products a token."""
        learned = self.options.scores_learn or self.options.balance == "loss"
        return score_cost(2 * num_positions * 2 * self.weight.shape[1], learned)
