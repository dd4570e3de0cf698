"""A mixture of experts over the rows of a block: which expert a row goes to, and grouped products.

Token choice: each row takes its `top_k` outputs of a softmax; outputs beyond the experts are
no-ops, which a row passes unchanged at no cost. In training an expert has a fixed number of slots
a sequence, and rows beyond them are dropped in order of position; causal mode drops none.
Expert choice: each expert takes its best rows of a sequence (Zhou et al. 2022, arXiv 2202.09368);
a binary cross-entropy teaches the causal choice, sigmoid(score) > 0.5, as for a routed block.

Shapes: B sequences, T rows, D width, H hidden width, E experts, O outputs (experts and no-ops),
S slots of an expert, N rows of all sequences together.
"""

import math
from abc import abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from modsearch.errors import ConfigError
from modsearch.nn.contracts import (
    Context,
    Ffn,
    Options,
    Rows,
    Update,
    flat_index,
    num_selected,
    total,
)
from modsearch.nn.cost import Cost, Flops
from modsearch.nn.passes import ratio, step_ratio
from modsearch.nn.selection import (
    chosen_valid,
    membership_loss,
    num_real,
    step_mean,
    token_scores,
    top_k,
    z_loss,
)


class ExpertOptions(Options):
    """Options of every mixture of experts."""

    num_experts: int = Field(4, gt=0, le=1024)
    """Experts, each with the hidden width of an MLP of the same ratio."""
    top_k: int = Field(1, gt=0, le=2048)
    """Outputs that a row takes; under expert choice, experts that it gets on average."""
    selection: Literal["token_choice", "expert_choice"] = "token_choice"
    """Who chooses."""
    balance: Literal["loss", "bias", "none"] = "loss"
    """What spreads the rows under token choice."""
    balance_weight: float = Field(0.01, ge=0, le=1000)
    """Weight of the balancing loss (Fedus et al. 2021, arXiv 2101.03961, eq. 4)."""
    bias_rate: float = Field(0.001, gt=0, le=1000)
    """Step of the loss-free bias (Wang et al. 2024, arXiv 2408.15664)."""
    bce_weight: float = Field(0.01, ge=0, le=1000)
    """Weight of the loss that teaches expert choice its causal rule."""
    z_weight: float = Field(0.0, ge=0, le=1000)
    """Weight of the z-loss on the scores (Zoph et al. 2022, arXiv 2202.08906)."""
    capacity_factor: float = Field(1.0, gt=0, le=1024)
    """Training slots over an even share, under token choice."""
    ratio: float = Field(8 / 3, gt=0, le=64)
    """Hidden width of an expert over width."""


class Experts(nn.Module):
    """E SwiGLU MLPs, computed together."""

    def __init__(self, width: int, num_experts: int, hidden: int) -> None:
        super().__init__()
        up, down = (num_experts, width, 2 * hidden), (num_experts, hidden, width)
        self.up = nn.Parameter(torch.empty(up).normal_(std=width**-0.5))
        self.down = nn.Parameter(torch.empty(down).normal_(std=hidden**-0.5))

    def equal(self, rows_ESD: Tensor) -> Tensor:
        """The same number of rows for each expert."""
        gate_ESH, value_ESH = torch.bmm(rows_ESD, self.up.to(rows_ESD.dtype)).chunk(2, dim=-1)
        return torch.bmm(F.silu(gate_ESH) * value_ESH, self.down.to(rows_ESD.dtype))

    def ragged(self, rows_ND: Tensor, counts: list[int]) -> Tensor:
        """Rows in order of their expert, `counts` of each."""
        parts = []
        for expert, rows in enumerate(torch.split(rows_ND, counts)):
            if len(rows):
                gate, value = (rows @ self.up[expert].to(rows.dtype)).chunk(2, dim=-1)
                parts.append((F.silu(gate) * value) @ self.down[expert].to(rows.dtype))
        return torch.cat(parts) if parts else rows_ND


class ExpertFfn(Ffn):
    """Selection, dispatch, computation and combination.

    The capacity is the share of visits that go to experts; the rest goes to no-ops.
    """

    bias_O: Tensor

    @abstractmethod
    def __init__(
        self, width: int, capacity: float, options: ExpertOptions, num_noops: int = 0
    ) -> None:
        """With `num_noops` outputs beside the experts.

        Raises:
            ConfigError: the options ask for more outputs than there are.
        """
        super().__init__(width, capacity, options)
        num_outputs = options.num_experts + num_noops
        if options.top_k > num_outputs:
            raise ConfigError(f"top_k = {options.top_k} of {num_outputs} outputs")
        self.options = options
        self.num_noops = num_noops
        self.hidden = 4 * max(1, round(options.ratio * width / 4))
        self.weight = nn.Parameter(torch.empty(num_outputs, width).normal_(std=0.02))
        self.experts = Experts(width, options.num_experts, self.hidden)
        self.register_buffer("bias_O", torch.zeros(num_outputs))
        self._visits: list[tuple[Tensor, Tensor | int]] = []
        """Of each output (O,) and the number of rows, in the passes since the last step."""

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """The weighted sum of the experts of each row; nothing for padding."""
        logits_BTO = token_scores(x_BTD, self.weight)
        if self.options.selection == "expert_choice":
            return self._expert_choice(x_BTD, logits_BTO, context)
        return self._token_choice(x_BTD, logits_BTO, context)

    def _token_choice(self, x_BTD: Tensor, logits_BTO: Tensor, context: Context) -> Update:
        B, T, _ = x_BTD.shape
        num_experts, top = self.options.num_experts, self.options.top_k
        chances_BTO = logits_BTO.softmax(dim=-1)
        ranked_BTO = (chances_BTO + self.bias_O).sort(dim=-1, descending=True, stable=True).indices
        taken_BTK = ranked_BTO[..., :top]
        weights_BTK = chances_BTO.gather(-1, taken_BTK)
        real_BTK = taken_BTK < num_experts
        if context.valid_BT is not None:
            real_BTK = real_BTK & context.valid_BT[..., None]
        if context.mode == "causal":
            return self._combine_ragged(x_BTD, taken_BTK, weights_BTK, real_BTK, context)

        # Visits of a sequence in order of position; each gets the next slot of its expert.
        expert_BV, real_BV = taken_BTK.flatten(1), real_BTK.flatten(1)
        one_hot_BVE = F.one_hot(expert_BV.clamp(max=num_experts - 1), num_experts)
        one_hot_BVE = one_hot_BVE * real_BV[..., None]
        rank_BV = (one_hot_BVE.cumsum(dim=1) * one_hot_BVE).sum(dim=-1) - 1
        slots = self.slots(T)
        kept_BV = real_BV & (rank_BV < slots)
        row_BV = torch.arange(T, device=x_BTD.device).repeat_interleave(top).expand(B, -1)
        # One address more, for visits that are not kept.
        address_BV = torch.where(kept_BV, expert_BV * slots + rank_BV, num_experts * slots)
        index_BS = row_BV.new_zeros(B, num_experts * slots + 1)
        index_BS = index_BS.scatter(1, address_BV, row_BV)[:, :-1]
        weight_BS = weights_BTK.new_zeros(B, num_experts * slots + 1)
        weight_BS = weight_BS.scatter(1, address_BV, weights_BTK.flatten(1))[:, :-1]
        delta_BTD = self._combine_slots(x_BTD, index_BS, weight_BS)
        visits_O, num_rows = self._observe(taken_BTK, context)
        load_O = ratio(visits_O, num_rows) / self.options.top_k
        visits = real_BV.sum().clamp(min=1)
        statistics = {
            "expert_dropped": 1 - kept_BV.sum() / visits,
            "expert_imbalance": load_O[:num_experts].max()
            / load_O[:num_experts].mean().clamp(min=1e-9),
        }
        aux = self._balance(visits_O, num_rows, chances_BTO, logits_BTO, context)
        return Update(delta_BTD, aux=aux, statistics=statistics, expert_rows_B=kept_BV.sum(dim=1))

    def _expert_choice(self, x_BTD: Tensor, logits_BTE: Tensor, context: Context) -> Update:
        T = x_BTD.shape[1]
        if context.mode == "causal":
            real_BTE = logits_BTE > 0
            if context.valid_BT is not None:
                real_BTE = real_BTE & context.valid_BT[..., None]
            every_BTE = torch.arange(self.options.num_experts, device=x_BTD.device).expand(
                real_BTE.shape
            )
            weights_BTE = torch.sigmoid(logits_BTE)
            return self._combine_ragged(x_BTD, every_BTE, weights_BTE, real_BTE, context)
        slots = self.slots(T)
        columns = []
        weights = []
        loss = x_BTD.new_zeros((), dtype=logits_BTE.dtype)
        for logits_BT in logits_BTE.unbind(-1):
            index_BS = top_k(logits_BT, slots, context.valid_BT)
            weight_BS = torch.sigmoid(logits_BT.gather(1, index_BS))
            valid_BS = chosen_valid(context.valid_BT, index_BS)
            if valid_BS is not None:
                weight_BS = weight_BS * valid_BS
            columns.append(index_BS)
            weights.append(weight_BS)
            loss = loss + membership_loss(logits_BT, index_BS, context)
        aux = self.options.bce_weight * loss / self.options.num_experts
        if self.options.z_weight:
            aux = aux + self.options.z_weight * z_loss(logits_BTE, context)
        weight_BS = torch.cat(weights, dim=1)
        delta_BTD = self._combine_slots(x_BTD, torch.cat(columns, dim=1), weight_BS)
        return Update(delta_BTD, aux=aux, expert_rows_B=(weight_BS > 0).sum(dim=1))

    def _combine_slots(self, x_BTD: Tensor, index_BS: Tensor, weight_BS: Tensor) -> Tensor:
        """Experts on their slots, expert after expert; a slot of weight 0 adds nothing."""
        B, T, D = x_BTD.shape
        num_experts = self.options.num_experts
        flat = flat_index(index_BS, T)
        rows_BESD = x_BTD.flatten(0, 1).index_select(0, flat).view(B, num_experts, -1, D)
        rows_ESD = rows_BESD.transpose(0, 1).flatten(1, 2)
        done_BESD = self.experts.equal(rows_ESD).view(num_experts, B, -1, D).transpose(0, 1)
        weighted_SD = done_BESD.reshape(-1, D) * weight_BS.flatten()[:, None].to(done_BESD.dtype)
        zeros = weighted_SD.new_zeros(B * T, D)
        return zeros.index_add(0, flat, weighted_SD).view(B, T, D)

    def _combine_ragged(
        self,
        x_BTD: Tensor,
        expert_BTK: Tensor,
        weight_BTK: Tensor,
        real_BTK: Tensor,
        context: Context,
    ) -> Update:
        """Experts on the rows that chose them, and nothing else: visits sorted by expert."""
        B, T, D = x_BTD.shape
        row_V, column_V = real_BTK.flatten(0, 1).nonzero().unbind(-1)
        expert_V = expert_BTK.flatten(0, 1)[row_V, column_V]
        order_V = expert_V.argsort(stable=True)
        row_V, column_V = row_V[order_V], column_V[order_V]
        counts = expert_V.bincount(minlength=self.options.num_experts).tolist()
        done_VD = self.experts.ragged(x_BTD.flatten(0, 1)[row_V], counts)
        weighted_VD = done_VD * weight_BTK.flatten(0, 1)[row_V, column_V, None].to(done_VD.dtype)
        delta_BTD = done_VD.new_zeros(B * T, D).index_add(0, row_V, weighted_VD).view(B, T, D)
        return Update(delta_BTD, expert_rows_B=real_BTK.sum(dim=(1, 2)))

    def _observe(self, taken_BTK: Tensor, context: Context) -> tuple[Tensor, Tensor | int]:
        """Visits of each output (O,) and the number of rows; kept for the bias while training."""
        one_hot_BTO = F.one_hot(taken_BTK, len(self.bias_O)).sum(dim=2)
        if context.valid_BT is not None:
            one_hot_BTO = one_hot_BTO * context.valid_BT[..., None]
        found = (one_hot_BTO.sum(dim=(0, 1)), num_real(taken_BTK[..., 0], context.valid_BT))
        if self.training:
            self._visits.append(found)
        return found

    def targets(self) -> list[float]:
        """Share of the visits that each output is to get."""
        if not self.num_noops:
            return [1 / self.options.num_experts] * self.options.num_experts
        target = min(max(self.capacity, 0.01), 0.99)
        return [target / self.options.num_experts] * self.options.num_experts + [
            (1 - target) / self.num_noops
        ] * self.num_noops

    def _balance(
        self,
        visits_O: Tensor,
        num_rows: Tensor | int,
        chances_BTO: Tensor,
        logits_BTO: Tensor,
        context: Context,
    ) -> Tensor | None:
        terms = []
        if self.options.balance == "loss":
            load_O = context.over_step(visits_O, num_rows) / self.options.top_k
            chances = [step_mean(chance_BT, context) for chance_BT in chances_BTO.unbind(-1)]
            target_O = load_O.new_tensor(self.targets())
            spread = (load_O * torch.stack(chances) / target_O).sum()
            terms.append(self.options.balance_weight * spread)
        if self.options.z_weight:
            terms.append(self.options.z_weight * z_loss(logits_BTO, context))
        return total(terms)

    @torch.no_grad()
    def end_step(self) -> None:
        """Raise the bias of outputs with too few visits, lower that of those with too many."""
        if self.options.balance == "bias" and self._visits:
            load_O = step_ratio(self._visits, self.ranks) / self.options.top_k
            target_O = load_O.new_tensor(self.targets())
            step_O = self.options.bias_rate * torch.sign(target_O - load_O)
            self.bias_O += step_O.to(self.bias_O.dtype)
        self._visits = []

    def slots(self, num_positions: int) -> int:
        """Rows of a sequence that one expert computes in training."""
        even = self.capacity * self.options.top_k / self.options.num_experts
        if self.options.selection == "expert_choice":
            return min(num_positions, num_selected(even, num_positions))
        wanted = math.ceil(self.options.capacity_factor * even * num_positions - 1e-9)
        return max(1, min(num_positions, wanted))

    def cost(self, num_positions: int) -> Cost:
        """Scores, and three products on every slot."""
        visits = self.options.num_experts * self.slots(num_positions)
        return Cost.product("router", self._score_flops(num_positions)) + Cost.product(
            "experts", self._visit_flops(visits)
        )

    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """Scores of the rows, and the visits that were made."""
        assert rows.experts is not None
        return Flops(
            router=self._score_flops(num_positions), experts=self._visit_flops(rows.experts)
        )

    def _score_flops(self, num_positions: int) -> int:
        return 2 * num_positions * self.weight.numel()

    def _visit_flops(self, visits: int) -> int:
        return 2 * visits * 3 * self.weight.shape[1] * self.hidden

    def output_weights(self) -> list[Tensor]:
        """The down projections."""
        return [self.experts.down]

    @property
    def idle_params(self) -> int:
        """Parameters of the experts that a row does not take."""
        each = 3 * self.weight.shape[1] * self.hidden
        return each * max(0, self.options.num_experts - self.options.top_k)
