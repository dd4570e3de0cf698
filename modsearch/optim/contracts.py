"""The seams of training: what makes a step of gradients, and how its learning rate goes.

An optimiser of a plugin is a class that derives from `Optimizer` under `OPTIMIZERS.register`, a
schedule one from `RateSchedule` under `RATE_SCHEDULES.register`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from modsearch.config.optim import OptimConfig
from modsearch.registry import table
from modsearch.registry.registry import Options as Options
from modsearch.registry.registry import Registry, check_answers

Role = Literal["hidden", "vocabulary", "output", "last_norm", "vector"]
"""What a parameter is, by which of its dimensions grow with the model's width: `hidden`, a matrix
(or a stack of them) of which both do; `vocabulary`, the embedding and the LM head; `output`, a
matrix from the width to a fixed number, such as a router's; `last_norm`, the gain before the head;
`vector`, everything else."""


@dataclass(frozen=True)
class Weight:
    """A parameter as an optimiser is given it."""

    tensor: Tensor
    role: Role
    peak: float
    """Of its learning rate, at the model's width."""
    decay: float
    """Its weight decay: 0 for what is no matrix."""


class Optimizer(ABC):
    """Turns gradients into steps."""

    Config: ClassVar[type[Options]] = Options
    """Its options, each with a default and a docstring; none, where nothing is said."""
    multiplies: ClassVar[bool] = False
    """Whether a step has matrix products of its own, which `flops` counts."""
    hidden_power: ClassVar[float] = 1.0
    """Power of the width by which a step on a `hidden` matrix, at one learning rate, changes what
    the matrix gives: 1 where every element moves by about the rate, as Adam's, and 0.5 where the
    step is orthogonal with elements of that size. `mup` divides by it."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_answers(cls, {"updates": torch.optim.Optimizer, "flops": int, "state_size": int})

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def updates(self, weights: Sequence[Weight], optim: OptimConfig) -> torch.optim.Optimizer:
        """What steps and holds a state, of all weights.

        Its groups are those of `modsearch.optim.groups.grouped`, so that each has its `peak`, by
        which training sets `lr` before a step. Its state is tensors, which checkpoints hold.
        """

    def flops(self, weights: Sequence[Weight]) -> int:
        """FLOPs of a step's matrix products: a part of what a budget pays."""
        return 0

    def state_size(self, weights: Sequence[Weight]) -> int:
        """Numbers that its state holds once it has stepped, for what `plan` says of memory: two
        means for each element, where nothing else is said."""
        return sum(2 * each.tensor.numel() for each in weights)


class RateSchedule(ABC):
    """How the learning rate goes after the warm-up, which all schedules share."""

    Config: ClassVar[type[Options]] = Options
    """Its options, each with a default and a docstring; none, where nothing is said."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_answers(cls, {"share": float})

    @abstractmethod
    def __init__(self, options: Options, optim: OptimConfig) -> None: ...

    @abstractmethod
    def share(self, progress: float) -> float:
        """Learning rate over its peak: 1 at the end of the warm-up, where `progress` is 0, and
        `optim.final` at the last step, where it is 1. It depends on nothing else, so that a
        training that was interrupted goes on as it was."""


GROUPS = table.GROUPS
OPTIMIZERS: Registry[Optimizer] = Registry(
    "optimizer", Optimizer, table.OPTIMIZERS, GROUPS["optimizer"]
)
RATE_SCHEDULES: Registry[RateSchedule] = Registry(
    "rate_schedule", RateSchedule, table.RATE_SCHEDULES, GROUPS["rate_schedule"]
)

KINDS: dict[str, Registry[Any]] = {"optimizer": OPTIMIZERS, "rate_schedule": RATE_SCHEDULES}
