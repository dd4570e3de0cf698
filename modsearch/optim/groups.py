"""Parameters by what they share, and AdamW on them."""

from collections.abc import Sequence
from typing import Any

import torch

from modsearch.config.optim import OptimConfig
from modsearch.optim.contracts import Weight


def grouped(weights: Sequence[Weight]) -> list[dict[str, Any]]:
    """Groups of one peak and one decay, matrices first, in the order of the model."""
    groups: dict[tuple[bool, float, float], dict[str, Any]] = {}
    for is_vector in (False, True):
        for each in weights:
            if (each.tensor.ndim < 2) is is_vector:
                key = (is_vector, each.peak, each.decay)
                group = {"params": [], "peak": each.peak, "weight_decay": each.decay}
                groups.setdefault(key, group)["params"].append(each.tensor)
    return list(groups.values())


def adamw(weights: Sequence[Weight], optim: OptimConfig) -> torch.optim.AdamW:
    """AdamW with the betas of `optim`."""
    betas = (optim.beta1, optim.beta2)
    return torch.optim.AdamW(grouped(weights), lr=optim.rate, betas=betas, fused=True)
