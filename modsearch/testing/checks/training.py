"""What reaches parameters and buffers, and when: gradients, steps, what is saved, what repeats."""

import copy

import safetensors.torch
import torch
from torch import Tensor

from modsearch.nn.model import Decoder
from modsearch.nn.passes import Passes
from modsearch.testing.probe import (
    BAR,
    MODES,
    B,
    Case,
    T,
    backward,
    context_of,
    draw_rows,
    draw_tokens,
    expect,
    routers_of,
    seen_by,
    warm_model,
)


def gradients(case: Case) -> None:
    """The loss and the auxiliary loss reach every parameter."""
    model = Decoder(case.config)
    tokens_BT = draw_tokens(case)
    loss, output = model.loss(tokens_BT, tokens_BT, 0)
    backward(loss, output)
    for name, parameter in model.named_parameters():
        expect(parameter.grad is not None, f"{name} has no gradient")
        assert parameter.grad is not None
        expect(parameter.grad.isfinite().all(), f"the gradient of {name} is not finite")
        expect(parameter.grad.any(), f"the gradient of {name} is zero")


def stop_gradient(case: Case) -> None:
    """A membership that is not the score sends no gradient to the residual stream."""
    for router in routers_of(warm_model(case)):
        x_BTD = draw_rows(case).requires_grad_()
        routing = router(x_BTD, context_of("train", x_BTD))
        membership_BT = routing.membership_BT
        if membership_BT is None or membership_BT is routing.scores_BT:
            continue
        expect(membership_BT.requires_grad, "the membership has nothing to learn")
        [found] = torch.autograd.grad(membership_BT.sum(), x_BTD, allow_unused=True)
        expect(found is None or not found.any(), "a gradient flows from membership_BT to x_BTD")


def learns(case: Case) -> None:
    """Eight optimiser steps lower the loss of one batch."""
    model = Decoder(case.config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    tokens_BT = draw_tokens(case)
    losses = []
    for step in range(8):
        loss, output = model.loss(tokens_BT[:, :-1], tokens_BT[:, 1:], step)
        backward(loss, output)
        optimizer.step()
        optimizer.zero_grad()
        model.end_step()
        losses.append(loss.item())
    expect(losses[-1] < losses[0] - 0.1, f"the loss goes from {losses[0]:.3f} to {losses[-1]:.3f}")


def passes(case: Case) -> None:
    """A step in two passes has the gradients of one, and moves buffers as it does."""
    one = warm_model(case).train()
    two = copy.deepcopy(one)
    # Of tokens that differ: equal ones have equal scores, which rounding orders either way.
    tokens_BT = torch.stack([torch.randperm(case.config.vocab_size)[:T] for _ in range(B)])
    backward(*one.loss(tokens_BT, tokens_BT, 0))
    of_step = Passes()
    for swept in (True, False):
        two.train(not swept)
        for part_BT in torch.split(tokens_BT, 2):
            with torch.set_grad_enabled(not swept):
                loss, output = two.loss(part_BT, part_BT, 0, of_step)
            of_step.next_pass(len(part_BT))
            if not swept:
                backward(loss, output, len(part_BT) / B)
        of_step.end_sweep()
    one.end_step()
    two.end_step()
    for (name, mine), other in zip(one.named_parameters(), two.parameters(), strict=True):
        expect((mine.grad is None) == (other.grad is None), f"{name} has a gradient in one only")
        if mine.grad is not None and other.grad is not None:
            gap = (mine.grad - other.grad).abs().max()
            expect(gap <= BAR, f"the gradient of {name} differs by {gap:.1e}")
    for (name, buffer), moved in zip(one.named_buffers(), two.buffers(), strict=True):
        expect(torch.allclose(buffer, moved, rtol=0, atol=BAR), f"buffer {name} moves otherwise")


def saves(case: Case) -> None:
    """`state()`, written and read, makes another model the same one, buffers included."""
    model, tokens_BT = warm_model(case), draw_tokens(case)
    other = Decoder(case.config).double().eval()
    before = seen_by(model, tokens_BT).logits_BTV
    expect(not torch.equal(seen_by(other, tokens_BT).logits_BTV, before), "all models are equal")
    plain = {name: tensor.detach().contiguous() for name, tensor in model.state().items()}
    tensors = safetensors.torch.load(safetensors.torch.save(plain))
    with torch.no_grad():
        for name, tensor in other.state().items():
            tensor.copy_(tensors[name])
    for mode in MODES:
        left, right = (seen_by(each, tokens_BT, mode) for each in (model, other))
        expect(torch.equal(left.logits_BTV, right.logits_BTV), f"{mode}: the output is another")


def repeats(case: Case) -> None:
    """The same seed gives the same values and gradients; no pass takes from torch's generator."""
    tokens_BT = draw_tokens(case)

    def passes(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        model = Decoder(case.config)
        state = torch.get_rng_state()
        causal_BTV = model(tokens_BT, "causal").logits_BTV
        loss, trace = model.loss(tokens_BT, tokens_BT, 5)
        backward(loss, trace)
        model.end_step()
        expect(torch.equal(torch.get_rng_state(), state), "a pass takes random numbers from torch")
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        return [causal_BTV, loss, *grads]

    one, two, three = passes(1), passes(1), passes(2)
    same = all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    expect(same, "the same seed gives another result")
    expect(not torch.equal(one[0], three[0]), "another seed gives the same result")


def evaluation(case: Case) -> None:
    """In evaluation mode passes change no buffer, not at the next end_step() either."""
    model = warm_model(case)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for mode in MODES:
        seen_by(model, draw_tokens(case), mode)
    model.end_step()
    for name, buffer in model.named_buffers():
        expect(torch.equal(buffer, before[name]), f"buffer {name} moved in evaluation")
