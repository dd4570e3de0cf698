"""What routers share: scores, choosing rows, losses on scores, and the gate.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from modsearch.nn.contracts import Context, Options, Routing, num_selected
from modsearch.nn.cost import Cost, Flops

Gate = Literal[
    "identity", "one", "sigmoid", "scaled_sigmoid", "tanh", "one_plus_tanh", "softmax_selected"
]
"""Factor of a chosen token's update, from its score r.

`identity` is r, eq. 1 of Raposo et al. 2024 (arXiv 2404.02258); `scaled_sigmoid` is
0.1 sigmoid(r), of Bae et al. 2025 (arXiv 2507.10524); `one_plus_tanh` is 1 + 0.2 tanh(r), of
Zhang et al. 2024 (arXiv 2412.04449); `softmax_selected` is a softmax over the chosen tokens of
a sequence: in causal mode over those up to now. `one` gives the router no gradient.
"""


class ScoreOptions(Options):
    """Options of every router with learned scores."""

    gate: Gate = "identity"
    """Factor of a chosen token's update."""
    z_weight: float = Field(0.0, ge=0, le=1000)
    """Weight of the z-loss on the scores."""
    init_std: float = Field(0.02, gt=0, le=1000)
    """Of the scores' weights; zero with the identity gate would be a dead block that takes the
    first k tokens."""

    @property
    def scores_learn(self) -> bool:
        """Whether the gate or a loss looks at the scores."""
        return self.gate != "one" or self.z_weight > 0


class TopKOptions(ScoreOptions):
    """Options of routers that take the k best tokens in training."""

    bce_weight: float = Field(0.01, ge=0, le=1000)
    """Weight of the loss that teaches the causal choice. Adam undoes its scale where only the
    predictor of membership learns from it; a small one stays out of the clipped norm."""


def token_scores(x_BTD: Tensor, weight_ED: Tensor) -> Tensor:
    """Linear scores without bias (B, T, E), in fp32 at least, whatever autocast says."""
    with torch.autocast("cuda" if x_BTD.is_cuda else "cpu", enabled=False):
        wide = torch.promote_types(x_BTD.dtype, torch.float32)
        return F.linear(x_BTD.to(wide), weight_ED.to(wide))


def score_cost(flops: int, learned: bool) -> Cost:
    """Of scores that cost `flops` forward; without a loss that looks at them, no gradient goes
    back."""
    return Cost.product("router", flops) if learned else Cost(Flops(router=flops))


def gate(
    name: Gate, scores_BT: Tensor, index_BK: Tensor, valid_BK: Tensor | None, context: Context
) -> Tensor:
    """Factors of the chosen rows (B, K); those of padding are finite and not used."""
    scores_BK = scores_BT.gather(1, index_BK)
    if name == "identity":
        return scores_BK
    if name == "one":
        return torch.ones_like(scores_BK)
    if name == "sigmoid":
        return torch.sigmoid(scores_BK)
    if name == "scaled_sigmoid":
        return 0.1 * torch.sigmoid(scores_BK)
    if name == "tanh":
        return torch.tanh(scores_BK)
    if name == "one_plus_tanh":
        return 1 + 0.2 * torch.tanh(scores_BK)
    return _softmax_selected(scores_BK, valid_BK, context)


def _softmax_selected(scores_BK: Tensor, valid_BK: Tensor | None, context: Context) -> Tensor:
    # A large negative number and not -inf: a row without a valid score must not become NaN.
    masked_BK = scores_BK if valid_BK is None else scores_BK.masked_fill(~valid_BK, -1e30)
    if context.mode == "train":
        return masked_BK.softmax(dim=1)
    if scores_BK.shape[1] == 0:
        return scores_BK
    log_sum_BK = masked_BK.logcumsumexp(dim=1)
    if context.cache is not None:
        before_B1 = context.cache.log_weight_A.to(log_sum_BK.dtype)[:, None]
        log_sum_BK = torch.logaddexp(log_sum_BK, before_B1)
        context.cache.set_log_weight(log_sum_BK[:, -1])
    return (masked_BK - log_sum_BK).exp()


def num_slots(capacity: float, num_positions: int, factor: float) -> int:
    """Slots for a router whose load varies: ceil(factor * k), at most all rows."""
    wanted = math.ceil(factor * num_selected(capacity, num_positions) - 1e-9)
    return max(1, min(num_positions, wanted))


def top_k(scores_BT: Tensor, k: int, valid_BT: Tensor | None) -> Tensor:
    """Ascending indices (B, K) of the k highest scores of each sequence.

    Equal scores go to the lowest index (`torch.topk` gives ties in any order). Padding is
    chosen only where a sequence has fewer than k real rows.
    """
    if valid_BT is not None:
        scores_BT = scores_BT.masked_fill(~valid_BT, -torch.inf)
    order_BT = scores_BT.sort(dim=1, descending=True, stable=True).indices
    return order_BT[:, :k].sort(dim=1).values


def top_k_routing(
    scores_BT: Tensor, membership_BT: Tensor, k: int, options: TopKOptions, context: Context
) -> Routing:
    """The k best scores of each sequence in training; in causal mode, where the log-odds of
    being one of them are positive (Raposo et al. 2024, sections 3.4 and 3.5). How often those
    foretell membership is a statistic of training (figure 6)."""
    aux: Tensor | None = None
    statistics: dict[str, Tensor] = {}
    valid_BK: Tensor | None
    if context.mode == "causal":
        index_BK, valid_BK = pack(membership_BT > 0, context.valid_BT)
    else:
        index_BK = top_k(scores_BT, k, context.valid_BT)
        valid_BK = chosen_valid(context.valid_BT, index_BK)
        aux = options.bce_weight * membership_loss(membership_BT, index_BK, context)
        if options.z_weight:
            aux = aux + options.z_weight * z_loss(scores_BT[..., None], context)
        right_BT = chosen_mask(index_BK, valid_BK, scores_BT.shape[1]) == (membership_BT > 0)
        statistics["membership_accuracy"] = share(right_BT, context.valid_BT)
    gate_BK = gate(options.gate, scores_BT, index_BK, valid_BK, context)
    return Routing(index_BK, gate_BK, valid_BK, aux, statistics, scores_BT, membership_BT)


def chosen_valid(valid_BT: Tensor | None, index_BK: Tensor) -> Tensor | None:
    """Which chosen rows are real; None where all rows are."""
    return None if valid_BT is None else valid_BT.gather(1, index_BK)


def pack(
    chosen_BT: Tensor, valid_BT: Tensor | None, num_rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """Ascending indices (B, K) of the chosen rows, and which of them are real.

    K is `num_rows`, beyond which the last chosen rows are dropped, or else the largest count in
    the batch. Shorter rows are padded with unchosen ones, which stand last. Rows that are not
    valid are never chosen.
    """
    if valid_BT is not None:
        chosen_BT = chosen_BT & valid_BT
    count_B = chosen_BT.sum(dim=1)
    k = int(count_B.max()) if num_rows is None else num_rows
    index_BK = chosen_BT.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :k]
    valid_BK = torch.arange(k, device=chosen_BT.device) < count_B[:, None]
    return index_BK, valid_BK


def take(chosen_BT: Tensor, slots: int, context: Context) -> Routing:
    """The routing of a choice without a gate: in training `slots` rows a sequence, of which the
    last chosen ones are dropped or padding fills up; in causal mode all chosen rows."""
    num_rows = slots if context.mode == "train" else None
    index_BK, valid_BK = pack(chosen_BT, context.valid_BT, num_rows)
    return Routing(index_BK, torch.ones_like(index_BK, dtype=torch.float32), valid_BK)


def share(values_BT: Tensor, valid_BT: Tensor | None) -> Tensor:
    """Mean over the real rows of a batch, in fp32 at least; 0 where no row is real."""
    values_BT = values_BT.to(torch.promote_types(values_BT.dtype, torch.float32))
    if valid_BT is None:
        return values_BT.mean()
    # A mask and not an index: shapes stay static, on the meta device too.
    return values_BT.masked_fill(~valid_BT, 0.0).sum() / valid_BT.sum().clamp(min=1)


def step_mean(values_BT: Tensor, context: Context) -> Tensor:
    """A mean for auxiliary losses: the batch's part of the mean over the step's real rows.

    `share` where the step is one pass. Of several, which may have more real rows or fewer, the
    mean by their numbers of sequences is the mean over all rows.
    """
    mean = share(values_BT, context.valid_BT)
    if context.passes is None or context.valid_BT is None:
        return mean
    num_rows = context.valid_BT.sum()
    of_step = context.over_step(num_rows.double(), len(values_BT)).clamp(min=1e-9)
    return mean * (num_rows / len(values_BT) / of_step).to(mean.dtype)


def num_real(values_BT: Tensor, valid_BT: Tensor | None) -> Tensor | int:
    """How many rows of a batch are real."""
    return values_BT.numel() if valid_BT is None else valid_BT.sum()


def load(chosen_BT: Tensor, valid_BK: Tensor, valid_BT: Tensor | None) -> dict[str, Tensor]:
    """Statistics of a choice with slots: the shares of tokens that were wanted and dropped."""
    wanted = share(chosen_BT, valid_BT)
    dropped = wanted - valid_BK.sum() / num_real(chosen_BT, valid_BT)
    return {"wanted": wanted, "dropped": dropped}


def membership_loss(scores_BT: Tensor, index_BK: Tensor, context: Context) -> Tensor:
    """Mean binary cross-entropy of sigmoid(score) against top-k membership (section 3.5)."""
    target_BT = torch.zeros_like(scores_BT).scatter(1, index_BK, 1.0)
    losses_BT = F.binary_cross_entropy_with_logits(scores_BT, target_BT, reduction="none")
    return step_mean(losses_BT, context)


def z_loss(scores_BTE: Tensor, context: Context) -> Tensor:
    """Mean squared log-sum-exp of the scores of a token (Zoph et al. 2022, arXiv 2202.08906);
    with one score a token it is the score's square."""
    return step_mean(scores_BTE.logsumexp(dim=-1).square(), context)


def chosen_mask(index_BK: Tensor, valid_BK: Tensor | None, num_positions: int) -> Tensor:
    """Which of the rows (B, T) are among the chosen ones."""
    ones_BK = torch.ones_like(index_BK) if valid_BK is None else valid_BK.long()
    counts_BT = index_BK.new_zeros(index_BK.shape[0], num_positions)
    return counts_BT.scatter_add(1, index_BK, ones_BK) > 0
