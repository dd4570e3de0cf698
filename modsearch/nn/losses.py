"""The cross-entropy of an LM head, which needs not hold all logits at once.

Shapes: N tokens, M of them at once, D width, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOGITS_AT_ONCE = {"cpu": 2**24, "cuda": 2**28}
"""Of a training batch: 64 MiB in fp32, and as much again for each of their copies. A GPU has the
memory, and each turn adds to the gradient of the whole head."""


def head_loss(x_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Mean cross-entropy in nats of the logits `x @ head.T`, in fp32.

    Where all logits are more than `LOGITS_AT_ONCE`, rows are taken in turns, and their gradient
    is found together with their loss, so that nothing is computed twice: the FLOPs are those of
    the plain way. (Liger Kernel, Hsu et al. 2024, arXiv 2410.10989, does so in one kernel.)
    """
    if len(x_ND) * len(head_VD) <= _logits_at_once(x_ND):
        return F.cross_entropy(F.linear(x_ND, head_VD).float(), targets_N)
    loss: Tensor = _HeadLoss.apply(x_ND, head_VD, targets_N)  # type: ignore[no-untyped-call]  # untyped in torch
    return loss


def _logits_at_once(x_ND: Tensor) -> int:
    return LOGITS_AT_ONCE["cuda" if x_ND.is_cuda else "cpu"]


class _HeadLoss(torch.autograd.Function):
    """The mean over rows that come in turns."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
        """The loss; of what needs a gradient, that too."""
        wants_x, wants_head, _ = ctx.needs_input_grad
        rows = max(1, _logits_at_once(x_ND) // len(head_VD))
        total = x_ND.new_zeros((), dtype=torch.float32)
        grad_ND = torch.empty_like(x_ND) if wants_x else None
        grad_VD = torch.zeros_like(head_VD, dtype=torch.float32) if wants_head else None
        for first in range(0, len(x_ND), rows):
            x_MD, targets_M1 = x_ND[first : first + rows], targets_N[first : first + rows, None]
            made_MV = F.linear(x_MD, head_VD)
            logits_MV = made_MV.float()
            log_sum_M1 = logits_MV.logsumexp(dim=1, keepdim=True)
            total += (log_sum_M1 - logits_MV.gather(1, targets_M1)).sum()
            if grad_ND is None and grad_VD is None:
                continue
            grad_MV = (logits_MV - log_sum_M1).exp_()
            grad_MV.scatter_add_(1, targets_M1, -torch.ones_like(log_sum_M1))
            grad_MV = (grad_MV / len(x_ND)).to(made_MV.dtype)
            if grad_ND is not None:
                grad_ND[first : first + rows] = grad_MV @ head_VD
            if grad_VD is not None:
                grad_VD += grad_MV.T @ x_MD
        ctx.save_for_backward(grad_ND, None if grad_VD is None else grad_VD.to(head_VD.dtype))
        return total / len(x_ND)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """What forward has found, times the gradient of the loss."""
        [grad] = grads
        grad_ND, grad_VD = ctx.saved_tensors
        return (
            None if grad_ND is None else grad_ND * grad,
            None if grad_VD is None else grad_VD * grad,
            None,
        )
