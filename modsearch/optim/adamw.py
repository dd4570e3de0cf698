"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101)."""

from collections.abc import Iterable
from typing import Any

import torch

from modsearch.config.optim import OptimConfig


def adamw(groups: Iterable[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    """Of a model's parameter groups, which say their own weight decay."""
    betas = (optim.beta1, optim.beta2)
    return torch.optim.AdamW(groups, lr=optim.rate, betas=betas, fused=True)
