"""A cut-off at the running (1 - c) quantile of the scores: the same rule in both modes.

With one path and no path, quantile balancing of experts comes down to one threshold a block
(compare the expert thresholds of arXiv 2603.11535). It looks at earlier steps only, so what is
trained is what samples. The cut-off moves once an optimiser step, and is frozen in evaluation.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from modsearch.nn.contracts import Context, Mode, Router, Routing
from modsearch.nn.cost import Cost
from modsearch.nn.selection import (
    ScoreOptions,
    gate,
    load,
    num_slots,
    pack,
    score_cost,
    token_scores,
    z_loss,
)


class Threshold(Router):
    """score = w . x; chosen where it is above the cut-off."""

    class Config(ScoreOptions):
        """Options of the router."""

        momentum: float = Field(0.9, ge=0, lt=1)
        """Of the running quantile, per optimiser step."""
        capacity_factor: float = Field(1.25, gt=0, le=1024)
        """Training slots over k: room for a load that varies."""

    cutoff: Tensor
    updates: Tensor

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
        self.options = options
        self.weight = nn.Parameter(torch.empty(1, width).normal_(std=options.init_std))
        self.register_buffer("cutoff", torch.zeros(()))
        self.register_buffer("updates", torch.zeros(()))
        self._scores: list[Tensor] = []
        """Those of real rows (N,) in the passes since the last step."""

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Rows above the cut-off; in training the last ones beyond the slots are dropped."""
        scores_BT = token_scores(x_BTD, self.weight).squeeze(-1)
        chosen_BT = scores_BT > self.cutoff
        slots = self.slots(x_BTD.shape[1]) if context.mode == "train" else None
        index_BK, valid_BK = pack(chosen_BT, context.valid_BT, slots)
        gate_BK = gate(self.options.gate, scores_BT, index_BK, valid_BK, context)
        aux = None
        statistics: dict[str, Tensor] = {}
        if context.mode == "train":
            if self.options.z_weight:
                aux = self.options.z_weight * z_loss(scores_BT[..., None], context)
            statistics = load(chosen_BT, valid_BK, context.valid_BT)
            if self.training:
                real_BT = scores_BT.detach()
                valid_BT = context.valid_BT
                self._scores.append(real_BT.flatten() if valid_BT is None else real_BT[valid_BT])
        return Routing(index_BK, gate_BK, valid_BK, aux, statistics, scores_BT)

    @torch.no_grad()
    def end_step(self) -> None:
        """Move the cut-off towards the quantile of this step; the first one is taken whole."""
        if not self._scores:
            return
        scores_N = self.ranks.together(torch.cat(self._scores))
        # The lowest score itself passes the cut-off when all are wanted.
        below = 1e-6 * scores_N.abs().amax() if self.capacity == 1 else 0.0
        quantile = _quantile(scores_N, 1 - self.capacity) - below
        rate = torch.clamp(1 / (self.updates + 1), min=1 - self.options.momentum)
        self.cutoff.lerp_(quantile.to(self.cutoff.dtype), rate.to(self.cutoff.dtype))
        self.updates += 1
        self._scores = []

    def slots(self, num_positions: int) -> int:
        """ceil(capacity_factor * k) rows."""
        return num_slots(self.capacity, num_positions, self.options.capacity_factor)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        """One dot product a token."""
        return score_cost(2 * num_positions * self.weight.shape[1], self.options.scores_learn)


def _quantile(values_N: Tensor, share: float) -> Tensor:
    """Linearly interpolated; torch's own refuses more than 16 million values."""
    if values_N.numel() <= 1 << 24:
        return values_N.quantile(share)
    place = share * (values_N.numel() - 1)
    below = int(place)
    sorted_N = values_N.sort().values
    return torch.lerp(sorted_N[below], sorted_N[min(below + 1, len(sorted_N) - 1)], place - below)
