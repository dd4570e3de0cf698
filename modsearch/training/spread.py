"""How the processes of a training share its model, and one that has it alone.

Gradients are means over all ranks, of which each has as many sequences. What else is of the whole
step, such as the load in a balancing loss, is the business of `nn.passes`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from modsearch.errors import ConfigError
from modsearch.nn.model import Decoder, Trace
from modsearch.nn.passes import Passes
from modsearch.nn.ranks import ALONE, Ranks

Loss = Callable[[Tensor, Tensor, int, Passes | None], tuple[Tensor, Trace]]

SAME = 1e-6
"""Relative difference of a buffer from its mean over the ranks that rounding explains."""

Found = tuple[Tensor, Tensor, Trace]
"""What a pass makes small, its loss alone, and what its layers said."""


class Objective(nn.Module):
    """Loss and auxiliary losses of a pass. A module, since that is what DDP wraps, and one without
    buffers, since nobody's are sent to the others: all ranks move theirs alike."""

    def __init__(self, model: Decoder, loss: Loss) -> None:
        super().__init__()
        self.weights = nn.ParameterList(model.parameters())
        self._loss = loss

    def forward(
        self, tokens_BT: Tensor, targets_BT: Tensor, seed: int, passes: Passes | None
    ) -> Found:
        """The mean over a pass."""
        loss, trace = self._loss(tokens_BT, targets_BT, seed, passes)
        aux = trace.aux
        return loss if aux is None else loss + aux, loss.detach(), trace


class Spread(ABC):
    """A way to share a model."""

    compiles: ClassVar[bool] = True
    """Whether its loss may be compiled."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    @abstractmethod
    def take(self, model: Decoder) -> None:
        """Take a model, before anything is made of its parameters."""

    def objective(self, model: Decoder, loss: Loss) -> nn.Module:
        """What gives an `Objective` of it, with gradients of all ranks, or outside of autograd."""
        return Objective(model, loss)

    def checked(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """An optimiser that goes with it."""
        return optimizer

    def exchange(self, last: bool) -> AbstractContextManager[None]:
        """Around a pass and its gradients, of which a step may have several."""
        return nullcontext()

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor of the model or its optimiser with the parts of all ranks, which all ask for
        it."""
        return tensor

    def placed(self, tensor: Tensor, like: Tensor) -> Tensor:
        """A whole tensor as one of the model is."""
        return tensor

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors on the first rank, nothing on the others: one after the other, into the
        processor's memory, since the device may have no room."""
        found = {}
        for name, tensor in tensors.items():
            one = self.whole(tensor.detach())
            if self.ranks.is_first:
                found[name] = one.cpu()
        return found

    def clip(self, parameters: Sequence[Tensor], most: float) -> Tensor:
        """Scale gradients down to a norm over all of them, wherever they lie; the norm before."""
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm = self.whole(norm)
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
        return norm


class Alone(Spread):
    """One process, with all of the model."""

    def __init__(self) -> None:
        super().__init__(ALONE)

    def take(self, model: Decoder) -> None:
        """As it is."""


def evaluated(objective: nn.Module, tokens_BT: Tensor, seed: int, passes: Passes | None) -> Found:
    """An objective on sequences of one token more than positions."""
    return cast(Found, objective(tokens_BT[:, :-1], tokens_BT[:, 1:], seed, passes))


def check_buffers(model: Decoder, ranks: Ranks) -> None:
    """Buffers must have moved alike on all ranks.

    Raises:
        ConfigError: a component has moved one by what its own rank has seen.
    """
    if ranks.group is None:
        return
    own = {name: b.double() for name, b in model.named_buffers() if b.numel()}
    for (name, mine), total in zip(own.items(), ranks.sums(list(own.values())), strict=True):
        if not torch.allclose(total / ranks.count, mine, rtol=SAME, atol=SAME, equal_nan=True):
            raise ConfigError(
                f"buffer {name} is not the same on all ranks\nits component must move it by the "
                f"whole step: self.ranks.sum(...) of what end_step() goes by"
            )
