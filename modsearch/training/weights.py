"""A model's parameters as optimisers are given them, and their initial values at a width."""

from collections.abc import Iterator

import torch

from modsearch.config.optim import OptimConfig
from modsearch.nn.model import Decoder
from modsearch.nn.shapes import shapes_alone
from modsearch.optim.contracts import Role, Weight
from modsearch.optim.parts import optimizer_of
from modsearch.optim.widths import initial_factor, peak


def optimizer_for(model: Decoder, optim: OptimConfig) -> torch.optim.Optimizer:
    """What trains a model.

    Raises:
        ConfigError: the optimiser can't be made.
    """
    optimizer = optimizer_of(optim)
    return optimizer.updates(weights_of(model, optim, optimizer.hidden_power), optim)


def update_flops(model: Decoder, optim: OptimConfig) -> int:
    """FLOPs of the matrix products of one step's update; those of AdamW are none."""
    optimizer = optimizer_of(optim)
    if not optimizer.multiplies:  # the model needs no second look
        return 0
    return optimizer.flops(weights_of(model, optim, optimizer.hidden_power))


def weights_of(model: Decoder, optim: OptimConfig, hidden_power: float = 1.0) -> list[Weight]:
    """All parameters, each once, in the order of the model: matrices decay, others do not."""
    return [
        Weight(
            parameter,
            role,
            peak(optim, role, model.config.width, hidden_power),
            optim.weight_decay if parameter.ndim >= 2 else 0.0,
        )
        for parameter, role in _roles(model)
    ]


@torch.no_grad()
def rescaled(model: Decoder, optim: OptimConfig) -> Decoder:
    """A fresh model with the initial values that the width rule wants; the same object."""
    if optim.width_rule != "inverse":
        for parameter, role in _roles(model):
            parameter.mul_(initial_factor(optim, role, model.config.width))
    return model


def _roles(model: Decoder) -> Iterator[tuple[torch.nn.Parameter, Role]]:
    """Every parameter, and which of its dimensions grow: those that a model of twice the width
    has more of (as Yang et al. 2022 tell them)."""
    with shapes_alone():
        wider = Decoder(model.config.model_copy(update={"width": 2 * model.config.width}))
    shapes = {name: parameter.shape for name, parameter in wider.named_parameters()}
    for name, parameter in model.named_parameters():
        if parameter is model.embedding.weight or parameter is model.head.weight:
            yield parameter, "vocabulary"
        elif parameter is model.norm.weight:
            yield parameter, "last_norm"
        else:
            yield parameter, _role(parameter.shape, shapes[name])


def _role(shape: torch.Size, wider: torch.Size) -> Role:
    grows = [one != other for one, other in zip(shape, wider, strict=True)][-2:]
    if len(grows) < 2 or not grows[-1]:
        return "vector"
    return "hidden" if all(grows) else "output"
