"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101)."""

from collections.abc import Sequence

import torch

from modsearch.config.optim import OptimConfig
from modsearch.optim.contracts import Optimizer, Weight
from modsearch.optim.groups import adamw


class AdamW(Optimizer):
    """Adam with decoupled weight decay; `beta1`, `beta2` and `weight_decay` stand in `optim`."""

    def updates(self, weights: Sequence[Weight], optim: OptimConfig) -> torch.optim.Optimizer:
        """Of all weights alike."""
        return adamw(weights, optim)
