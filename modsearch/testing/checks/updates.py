"""What an optimiser does to a model's parameters, and how a schedule goes."""

import math
from itertools import pairwise

import safetensors.torch
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from modsearch.nn.model import Decoder
from modsearch.optim.parts import optimizer_of
from modsearch.optim.rates import Rates
from modsearch.testing.probe import Case, backward, draw_tokens, expect
from modsearch.training.weights import optimizer_for, rescaled, update_flops, weights_of

STEPS = 8


class _Training:
    """Steps of a model on one batch."""

    def __init__(self, case: Case, model: Decoder, tokens_BT: Tensor) -> None:
        self.model = model.train()
        self.tokens_BT = tokens_BT
        self.optimizer = optimizer_for(model, case.optim)
        self.rates = Rates(case.optim, STEPS)

    def gradients(self, step: int) -> float:
        """Of the loss, which it tells."""
        self.rates.set(self.optimizer, step)
        loss, trace = self.model.loss(self.tokens_BT[:, :-1], self.tokens_BT[:, 1:], step)
        backward(loss, trace)
        return loss.item()

    def step(self, number: int) -> float:
        """One step, and the loss before it."""
        loss = self.gradients(number)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.model.end_step()
        return loss


def _begun(case: Case) -> _Training:
    model = rescaled(Decoder(case.config), case.optim)
    return _Training(case, model, draw_tokens(case))


def moves(case: Case) -> None:
    """A step moves every parameter to a finite value, and by nothing at a rate of 0."""
    training = _begun(case)
    before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    training.step(0)
    for name, parameter in training.model.named_parameters():
        expect(parameter.isfinite().all(), f"{name} is not finite after a step")
        expect(not torch.equal(parameter, before[name]), f"{name} does not move")
        expect(parameter.grad is None, f"zero_grad() leaves the gradient of {name}")
    groups = training.optimizer.param_groups
    expect(all("peak" in group for group in groups), "a group lacks its `peak`")
    given = sum(parameter.numel() for group in groups for parameter in group["params"])
    expect(given == training.model.num_params, "groups do not hold each parameter once")
    _state_as_said(case, training)
    training.gradients(1)
    for group in groups:
        group["lr"] = 0.0
    still = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    training.optimizer.step()
    for name, parameter in training.model.named_parameters():
        expect(torch.equal(parameter, still[name]), f"{name} moves at a rate of 0")


def _state_as_said(case: Case, training: _Training) -> None:
    """Or `plan` would foresee too little memory."""
    named = optimizer_of(case.optim)
    said = named.state_size(weights_of(training.model, case.optim, named.hidden_power))
    state = training.optimizer.state_dict()["state"].values()
    there = sum(each.numel() for of in state for each in of.values() if each.ndim)
    expect(there <= said, f"its state has {there:,} numbers, and `state_size` says {said:,}")


def lowers(case: Case) -> None:
    """Eight steps lower the loss of one batch."""
    training = _begun(case)
    losses = [training.step(number) for number in range(STEPS)]
    expect(losses[-1] < losses[0] - 0.1, f"the loss goes from {losses[0]:.3f} to {losses[-1]:.3f}")


def update_products(case: Case) -> None:
    """The FLOPs that it states for a step are those that torch counts."""
    training = _begun(case)
    training.gradients(0)
    with FlopCounterMode(display=False) as counter:
        training.optimizer.step()
    stated, counted = update_flops(training.model, case.optim), counter.get_total_flops()
    expect(stated == counted, f"states {stated:,} FLOPs a step, and torch counts {counted:,}")


def resumes(case: Case) -> None:
    """Its state, written as tensors and read, goes on to the bit."""
    whole = _begun(case)
    for number in range(2):
        whole.step(number)
    held = whole.optimizer.state_dict()["state"]
    found = [f"`{key}`" for each in held.values() for key, value in each.items() if _odd(value)]
    expect(not found, f"a state has what is no tensor: {', '.join(found)}")
    named = {f"{index}.{key}": v for index, each in held.items() for key, v in each.items()}
    tensors = safetensors.torch.load(
        safetensors.torch.save({name: v.detach().clone() for name, v in named.items()})
    )
    other = Decoder(case.config)
    with torch.no_grad():
        for name, tensor in whole.model.state().items():
            other.state()[name].copy_(tensor)
    again = _Training(case, other, whole.tokens_BT)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    groups = again.optimizer.state_dict()["param_groups"]
    again.optimizer.load_state_dict({"state": state, "param_groups": groups})
    for number in range(2, 4):
        whole.step(number)
        again.step(number)
    for name, tensor in whole.model.state().items():
        expect(torch.equal(tensor, other.state()[name]), f"{name} differs after it was resumed")


def _odd(value: object) -> bool:
    return not isinstance(value, Tensor)


def warm_up(case: Case) -> None:
    """Rates rise to the peak over the warm-up, and are never above it, nor below 0."""
    for warmup in (0.0, 0.1, 0.5, 0.9):
        optim = case.optim.model_copy(update={"warmup": warmup})
        rates = Rates(optim, 200)
        found = [rates.at(step, 1.0) for step in range(200)]
        wrong = [rate for rate in found if not (math.isfinite(rate) and 0 <= rate <= 1 + 1e-12)]
        expect(not wrong, f"warm-up {warmup}: a rate of {wrong[:1]} times the peak")
        rising = found[: rates.warmup + 1]
        expect(all(a <= b for a, b in pairwise(rising)), f"warm-up {warmup}: it does not rise")
        expect(abs(rising[-1] - 1) < 1e-12, f"warm-up {warmup}: it does not begin at the peak")


def ends(case: Case) -> None:
    """The last step has the share of the peak that `final` says."""
    for final in (0.0, 0.1, 1.0):
        optim = case.optim.model_copy(update={"final": final})
        for steps in (3, 200):
            found = Rates(optim, steps).at(steps - 1, 1.0)
            expect(abs(found - final) < 1e-12, f"ends at {found:g}, and not at {final:g}")


def same_rates(case: Case) -> None:
    """A rate depends on its step alone: resumed or not, asked before or after another one."""
    rates = Rates(case.optim, 50)
    found = [rates.at(step, 1.0) for step in range(50)]
    again = [rates.at(step, 1.0) for step in reversed(range(50))][::-1]
    expect(found == again, "another rate when it is asked in another order")
    late = Rates(case.optim, 50)
    expect([late.at(s, 1.0) for s in range(30, 50)] == found[30:], "another rate when resumed")
