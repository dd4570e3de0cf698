"""Muon: momentum whose step is made orthogonal (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon), with the scale of Liu et al. 2025 (arXiv 2502.16982).

torch's own implementation, and AdamW beside it for what is no hidden matrix.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, overload

import torch
from pydantic import Field
from torch import Tensor

from modsearch.config.optim import OptimConfig
from modsearch.errors import ConfigError
from modsearch.optim.contracts import Optimizer, Options, Weight
from modsearch.optim.groups import adamw, grouped


class Muon(Optimizer):
    """Muon for the blocks' matrices, AdamW for embedding, head, norms, routers and the rest.

    A step's elements have the size of AdamW's (0.2 x the rate in the root mean square), so that
    one `rate` serves both. Experts of a stack are matrices each; queries, keys and values are one
    matrix, and so are gate and value of an MLP.
    """

    class Config(Options):
        """Of the momentum, and of how orthogonal a step is made."""

        momentum: float = Field(0.95, ge=0, lt=1)
        """Decay of the mean of gradients, a step."""
        nesterov: bool = True
        """Whether the newest gradient counts once more."""
        steps: int = Field(5, gt=0, lt=100)
        """Newton-Schulz iterations."""

    multiplies = True
    hidden_power = 0.5

    def __init__(self, options: Config) -> None:
        if "Muon" not in dir(torch.optim):
            raise ConfigError(
                f"optimizer `muon` needs torch 2.9 or newer, and this is torch {torch.__version__}"
            )
        super().__init__(options)
        self.options: Muon.Config = options

    def updates(self, weights: Sequence[Weight], optim: OptimConfig) -> torch.optim.Optimizer:
        """One optimiser made of both."""
        hidden = [each for each in weights if each.role == "hidden"]
        rest = adamw([each for each in weights if each.role != "hidden"], optim)
        if not hidden:
            return rest
        stacks = [(each.tensor, _matrices(each.tensor)) for each in hidden if each.tensor.ndim > 2]
        slices = {id(stack): matrices for stack, matrices in stacks}
        muon = torch.optim.Muon(
            grouped(
                [
                    replace(each, tensor=matrix)
                    for each in hidden
                    for matrix in slices.get(id(each.tensor), [each.tensor])
                ]
            ),
            lr=optim.rate,
            momentum=self.options.momentum,
            nesterov=self.options.nesterov,
            ns_steps=self.options.steps,
            adjust_lr_fn="match_rms_adamw",
        )
        return _Both(muon, rest, stacks)

    def flops(self, weights: Sequence[Weight]) -> int:
        """Of the Newton-Schulz iterations, each of which is X X', its square, and that times X:
        4 m^2 n + 2 m^3 for a matrix with m rows and n columns, m the fewer ones. Five of them are
        5 m / (tokens of a step) of a square matrix's training FLOPs, which is much where models
        are small: 20 % at width 20 and 512 tokens, 0.5 % at width 1,024 and a million."""
        total = 0
        for each in weights:
            if each.role == "hidden":
                m, n = sorted(each.tensor.shape[-2:])
                count = each.tensor.numel() // (m * n)
                total += count * self.options.steps * (4 * m * m * n + 2 * m**3)
        return total

    def state_size(self, weights: Sequence[Weight]) -> int:
        """One mean for each element of a hidden matrix, two for each other one."""
        return sum((1 if w.role == "hidden" else 2) * w.tensor.numel() for w in weights)


def _matrices(stack: Tensor) -> list[Tensor]:
    """Matrices of a stack, in its own memory."""
    return list(stack.detach().flatten(0, -3).unbind())


class _Both(torch.optim.Optimizer):
    """Two optimisers with one state and one list of groups, Muon's first."""

    def __init__(
        self,
        muon: torch.optim.Optimizer,
        rest: torch.optim.Optimizer,
        stacks: Sequence[tuple[Tensor, list[Tensor]]],
    ) -> None:
        """`stacks`: parameters, and the matrices that Muon knows in their place."""
        self._parts = (muon, rest)
        self._stacks = stacks
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        first = 0
        for part in self._parts:
            last = first + len(part.param_groups)
            part.param_groups = self.param_groups[first:last]
            part.state = self.state
            first = last

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One of each."""
        assert closure is None, "a step has one gradient"
        for stack, matrices in self._stacks:
            if stack.grad is not None:
                for matrix, grad in zip(matrices, _matrices(stack.grad), strict=True):
                    matrix.grad = grad
        for part in self._parts:
            part.step()
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of the parameters, and of what stands for them."""
        super().zero_grad(set_to_none)
        for stack, _ in self._stacks:
            stack.grad = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of both."""
        super().load_state_dict(state_dict)
        self._share()
