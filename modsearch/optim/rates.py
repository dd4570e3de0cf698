"""Learning rates, step by step."""

import torch

from modsearch.config.optim import OptimConfig
from modsearch.optim.parts import schedule_of


class Rates:
    """Those of one training: a warm-up, then the schedule, to `final` at the last step."""

    def __init__(self, optim: OptimConfig, steps: int) -> None:
        self.schedule = schedule_of(optim)
        self.warmup = max(1, round(optim.warmup * steps))
        self.steps = steps

    def at(self, step: int, peak: float) -> float:
        """The rate of a step, from 0."""
        if step < self.warmup:
            return peak * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - 1 - self.warmup)
        return peak * self.schedule.share(progress)

    def set(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Give each of an optimiser's groups its rate of a step."""
        for group in optimizer.param_groups:
            group["lr"] = self.at(step, group["peak"])
