"""An optimiser and a schedule in one file: `--plugin my_optimizer.py`, then `optimizer: nadam` and
`schedule: power` in `optim`."""

from collections.abc import Sequence

import torch
from pydantic import Field

from modsearch.config.optim import OptimConfig
from modsearch.optim.contracts import (
    OPTIMIZERS,
    RATE_SCHEDULES,
    Optimizer,
    Options,
    RateSchedule,
    Weight,
)
from modsearch.optim.groups import grouped


@OPTIMIZERS.register("nadam")
class NAdam(Optimizer):
    """Adam with Nesterov momentum (Dozat 2016), and decoupled weight decay."""

    def updates(self, weights: Sequence[Weight], optim: OptimConfig) -> torch.optim.Optimizer:
        betas = (optim.beta1, optim.beta2)
        return torch.optim.NAdam(grouped(weights), betas=betas, decoupled_weight_decay=True)


@RATE_SCHEDULES.register("power")
class Power(RateSchedule):
    """From the peak to `final` by a power of what is left."""

    class Config(Options):
        """Options of the schedule."""

        power: float = Field(2.0, gt=0, le=10)
        """1 is a line."""

    def __init__(self, options: Config, optim: OptimConfig) -> None:
        self.power, self.final = options.power, optim.final

    def share(self, progress: float) -> float:
        return self.final + (1 - self.final) * (1 - progress) ** self.power
