"""What routers share: choosing rows, and the gate.

Shapes: B sequences, T positions, K chosen rows.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Gate = Literal["identity", "sigmoid", "scaled_sigmoid", "tanh"]

GATES: dict[Gate, Callable[[Tensor], Tensor]] = {
    "identity": lambda scores: scores,
    "sigmoid": torch.sigmoid,
    "scaled_sigmoid": lambda scores: 0.1 * torch.sigmoid(scores),
    "tanh": lambda scores: 1 + 0.2 * torch.tanh(scores),
}
"""`identity` is eq. 1 of Raposo et al. 2024 (arXiv 2404.02258); the others are of later work."""


def num_selected(capacity: float, num_positions: int) -> int:
    """Rows that a capacity means: at least one; the small term undoes float error (0.29 * 100)."""
    return max(1, math.floor(capacity * num_positions + 1e-9))


def top_k(scores_BT: Tensor, k: int, valid_BT: Tensor | None) -> Tensor:
    """Ascending indices (B, K) of the k highest scores of each sequence.

    Equal scores go to the lowest index (`torch.topk` gives ties in any order). Padding is
    chosen only where a sequence has fewer than k real rows.
    """
    if valid_BT is not None:
        scores_BT = scores_BT.masked_fill(~valid_BT, -torch.inf)
    order_BT = scores_BT.sort(dim=1, descending=True, stable=True).indices
    return order_BT[:, :k].sort(dim=1).values


def chosen_valid(valid_BT: Tensor | None, index_BK: Tensor) -> Tensor | None:
    """Which chosen rows are real; None where all rows are."""
    return None if valid_BT is None else valid_BT.gather(1, index_BK)


def pack(chosen_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending indices (B, K) of the chosen rows, and which of them are real.

    K is the largest count in the batch; shorter rows are padded with unchosen rows, which
    stand last.
    """
    count_B = chosen_BT.sum(dim=1)
    k = int(count_B.max())
    index_BK = chosen_BT.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :k]
    valid_BK = torch.arange(k, device=chosen_BT.device) < count_B[:, None]
    return index_BK, valid_BK
