"""What every component must keep, one check each, on models that take milliseconds.

A check builds what it needs from a case and raises `Broken` with the reason. Exact bars: fp64
within 1e-10 and the same decisions; where nothing is recomputed, equal to the bit.

Shapes: B sequences, T positions, K chosen rows, D width, V vocabulary.
"""

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import safetensors.torch
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from modsearch.config.model import ModelConfig
from modsearch.errors import ConfigError
from modsearch.nn.cache import LayerCache
from modsearch.nn.contracts import (
    KINDS,
    SCHEDULES,
    Block,
    Context,
    Mode,
    Options,
    Router,
    Update,
    num_selected,
)
from modsearch.nn.model import Decoder, Output, statistics
from modsearch.nn.parts import base_name, component_options
from modsearch.nn.passes import Passes

B, T = 3, 37
CUTS = (1, 18, 36)
BAR = 1e-10
FP32_BAR = 1e-5
FP32_FLIP = 1e-4
"""Farther than this from its fp64 twin is a decision that rounding flipped, not rounding."""
FP32_EXCLUDED = 0.03
MODES: tuple[Mode, ...] = ("train", "causal")


class Broken(AssertionError):
    """A component does not keep what a check asks for."""


@dataclass(frozen=True)
class Case:
    """A component in a model."""

    kind: str
    name: str
    """Of the component under test."""
    config: ModelConfig
    """The model that it is tested in, every option written out."""
    label: str
    """What it is called in tables and test names."""

    def __str__(self) -> str:
        return self.label


def expect(kept: object, why: str) -> None:
    """Raise the reason where something is not kept."""
    if not kept:
        raise Broken(why)


# What checks build and compare.


def _model(case: Case, dtype: torch.dtype = torch.float64) -> Decoder:
    """After two training steps' worth of observations, in evaluation mode.

    Buffers that move between steps have left their initial values then. What is observed is the
    lower half of the vocabulary, and checks use the upper one: in a first layer a cut-off may
    equal the score of a token that was observed, and a tie falls either way.
    """
    model = Decoder(case.config).to(dtype).train()
    with torch.no_grad():
        for step in range(2):
            tokens_BT = _tokens(case) - case.config.vocab_size // 2
            model.loss(tokens_BT, tokens_BT, step)
            model.end_step()
    return model.eval()


def _tokens(case: Case, num_sequences: int = B, num_positions: int = T) -> Tensor:
    half = case.config.vocab_size // 2
    return torch.randint(half, 2 * half, (num_sequences, num_positions))


def _changed(case: Case, tokens: Tensor) -> Tensor:
    """Every token another one."""
    half = case.config.vocab_size // 2
    return half + (tokens - half + torch.randint_like(tokens, 1, half)) % half


def _lengths(*lengths: int) -> Tensor:
    """Which positions are real (B, T)."""
    return torch.arange(T) < torch.tensor(lengths)[:, None]


def _context(mode: Mode, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Context:
    num_sequences, num_positions = x_BTD.shape[:2]
    positions_BT = torch.arange(num_positions, device=x_BTD.device).expand(num_sequences, -1)
    return Context(mode, 0, positions_BT, valid_BT, 0)


def _rows(case: Case, num_positions: int = T, num_sequences: int = 5) -> Tensor:
    return torch.randn(num_sequences, num_positions, case.config.width, dtype=torch.float64)


def _routers(model: Decoder) -> list[Router]:
    return [module for module in model.modules() if isinstance(module, Router)]


def _backward(loss: Tensor, output: Output, share: float = 1.0) -> None:
    total = loss if output.aux is None else loss + output.aux
    (share * total).backward()  # type: ignore[no-untyped-call]  # untyped in torch


@dataclass(frozen=True)
class _Seen:
    """Logits, and for each layer which tokens entered its routed part (B, T)."""

    logits_BTV: Tensor
    chosen: Sequence[Tensor | None]

    def part(self, rows: slice, positions: slice) -> "_Seen":
        """Some sequences and positions."""
        chosen = [None if c is None else c[rows, positions] for c in self.chosen]
        return _Seen(self.logits_BTV[rows, positions], chosen)


def _seen(
    model: Decoder,
    tokens_BT: Tensor,
    mode: Mode = "causal",
    seed: int = 0,
    valid_BT: Tensor | None = None,
) -> _Seen:
    with torch.no_grad():
        output: Output = model(tokens_BT, mode, seed, valid_BT)
    return _Seen(output.logits_BTV, output.chosen)


def _expect_same(left: _Seen, right: _Seen, what: str, real_BT: Tensor | None = None) -> None:
    """The same decisions and logits, where `real_BT` says so."""
    if real_BT is None:
        real_BT = torch.ones(left.logits_BTV.shape[:2], dtype=torch.bool)
    for layer, (mine, other) in enumerate(zip(left.chosen, right.chosen, strict=True)):
        if mine is None or other is None:
            expect(mine is other, f"{what}: layer {layer} is routed in one pass only")
            continue
        flips = ((mine != other) & real_BT).nonzero().tolist()
        expect(not flips, f"{what}: layer {layer} decides otherwise at {_where(flips)}")
    gap_BT = (left.logits_BTV - right.logits_BTV).abs().amax(dim=-1)
    wrong = ((gap_BT > BAR) & real_BT).nonzero().tolist()
    expect(not wrong, f"{what}: logits differ by {gap_BT[real_BT].max():.1e} at {_where(wrong)}")


def _where(pairs: list[list[int]]) -> str:
    """The first of some (sequence, position) pairs."""
    if not pairs:
        return ""
    sequence, position = pairs[0]
    more = f" and {len(pairs) - 1} more" if len(pairs) > 1 else ""
    return f"sequence {sequence}, position {position}{more}"


# What a component says about itself.


def builds(case: Case) -> None:
    """Builds on the CPU and on the meta device; what writes to the residual stream is its own."""
    model = Decoder(case.config)
    for name, parameter in model.named_parameters():
        expect(parameter.isfinite().all(), f"{name} starts with values that are not finite")
    for layer, block in enumerate(model.stack()):
        own = {id(parameter) for parameter in block.parameters()}
        foreign = {id(weight) for weight in block.output_weights()} - own
        expect(not foreign, f"layer {layer}: output_weights() has a tensor that is no parameter")
    with torch.device("meta"):
        Decoder(case.config)


def options(case: Case) -> None:
    """Every option has a default and a docstring; unknown ones are refused."""
    config = KINDS[case.kind].get(base_name(case.kind, case.name)).Config
    expect(issubclass(config, Options), "Config does not derive from Options")
    required = [name for name, field in config.model_fields.items() if field.is_required()]
    expect(not required, f"options without a default: {', '.join(required)}")
    expect(config.model_config.get("frozen"), "Config is not frozen")
    expect(config.model_config.get("extra") == "forbid", "Config takes unknown options")
    bare = set(config.model_fields) - _documented(config)
    expect(not bare, f"options without a docstring below them: {', '.join(sorted(bare))}")


def _documented(config: type[Options]) -> set[str]:
    """Fields with a string below them; all, where the source can't be read."""
    found: set[str] = set()
    for cls in config.__mro__:
        if not (issubclass(cls, Options) and cls is not Options):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(cls))
        except (OSError, TypeError):
            return set(config.model_fields)
        [node] = ast.parse(source).body
        assert isinstance(node, ast.ClassDef)
        for field, below in pairwise(node.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = below.value if isinstance(below, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found.add(field.target.id)
    return found


def shapes(case: Case) -> None:
    """Logits, decisions and row counts have their shapes, at 1 position too; all is finite."""
    model = _model(case)
    for num_sequences, num_positions in ((B, T), (1, 1)):
        tokens_BT = _tokens(case, num_sequences, num_positions)
        for mode in MODES:
            output: Output = model(tokens_BT, mode)
            where = f"{mode}, {num_sequences} x {num_positions}"
            wanted = (num_sequences, num_positions, case.config.vocab_size)
            expect(output.logits_BTV.shape == wanted, f"{where}: logits {output.logits_BTV.shape}")
            expect(output.logits_BTV.isfinite().all(), f"{where}: logits are not finite")
            counts = (len(output.rows), *(len(rows) for rows in output.rows))
            expect(counts == (num_sequences, *[case.config.depth] * num_sequences), where)
            aux = output.aux
            expect(aux is None or aux.ndim == 0, f"{where}: aux is not a scalar")
            expect(aux is None or aux.isfinite(), f"{where}: aux is not finite")
            for name, value in statistics(output.updates).items():
                expect(value.ndim == 0, f"{where}: statistic {name} is not a scalar")
                expect(not value.requires_grad, f"{where}: statistic {name} is not detached")
                expect(value.isfinite(), f"{where}: statistic {name} is not finite")


def output_weights(case: Case) -> None:
    """With zeros for output_weights() a block adds nothing."""
    for layer, block in enumerate(_model(case).stack()):
        with torch.no_grad():
            for weight in block.output_weights():
                weight.zero_()
        if _update_option(case) == "delta":
            x_BTD = _rows(case)
            delta_BKD = block.delta(x_BTD, _context("train", x_BTD)).delta_BKD
            expect(not delta_BKD.any(), f"layer {layer} adds something beside output_weights()")


def _update_option(case: Case) -> object:
    """How a routed block adds: some ways carry x itself."""
    return case.config.block.options.get("update", "delta")


# Learning.


def gradients(case: Case) -> None:
    """The loss and the auxiliary loss reach every parameter."""
    model = Decoder(case.config)
    tokens_BT = _tokens(case)
    loss, output = model.loss(tokens_BT, tokens_BT, 0)
    _backward(loss, output)
    for name, parameter in model.named_parameters():
        expect(parameter.grad is not None, f"{name} has no gradient")
        assert parameter.grad is not None
        expect(parameter.grad.isfinite().all(), f"the gradient of {name} is not finite")
        expect(parameter.grad.any(), f"the gradient of {name} is zero")


def stop_gradient(case: Case) -> None:
    """A membership that is not the score sends no gradient to the residual stream."""
    for router in _routers(_model(case)):
        x_BTD = _rows(case).requires_grad_()
        routing = router(x_BTD, _context("train", x_BTD))
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
    tokens_BT = _tokens(case)
    losses = []
    for step in range(8):
        loss, output = model.loss(tokens_BT[:, :-1], tokens_BT[:, 1:], step)
        _backward(loss, output)
        optimizer.step()
        optimizer.zero_grad()
        model.end_step()
        losses.append(loss.item())
    expect(losses[-1] < losses[0] - 0.1, f"the loss goes from {losses[0]:.3f} to {losses[-1]:.3f}")


def passes(case: Case) -> None:
    """A step in two passes has the gradients of one, and moves buffers as it does."""
    one = _model(case).train()
    two = copy.deepcopy(one)
    # Of tokens that differ: equal ones have equal scores, which rounding orders either way.
    tokens_BT = torch.stack([torch.randperm(case.config.vocab_size)[:T] for _ in range(B)])
    _backward(*one.loss(tokens_BT, tokens_BT, 0))
    of_step = Passes()
    for swept in (True, False):
        two.train(not swept)
        for part_BT in torch.split(tokens_BT, 2):
            with torch.set_grad_enabled(not swept):
                loss, output = two.loss(part_BT, part_BT, 0, of_step)
            of_step.next_pass(len(part_BT))
            if not swept:
                _backward(loss, output, len(part_BT) / B)
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


# Choosing rows.


def capacity(case: Case) -> None:
    """A router fills `slots` rows, at least k and at most all; a changed capacity counts."""
    for share in (0.125, 0.3, 1.0):
        config = case.config.model_copy(update={"capacity": share})
        router, other = (_routers(Decoder(each))[0].double() for each in (config, case.config))
        other.capacity = share
        for num_positions in (1, T, 64):
            where = f"capacity {share} of {num_positions}"
            slots, k = router.slots(num_positions), num_selected(share, num_positions)
            expect(k <= slots <= num_positions, f"{where}: {slots} slots for k = {k}")
            expect(other.slots(num_positions) == slots, f"{where}: `capacity` is not looked at")
            x_BTD = _rows(case, num_positions)
            for mode in MODES:
                routing = router(x_BTD, _context(mode, x_BTD))
                shape = tuple(routing.index_BK.shape)
                if mode == "train":
                    expect(shape == (5, slots), f"{where}: index {shape} for {slots} slots")
                expect(shape[1] <= num_positions, f"{where}, {mode}: {shape[1]} rows")
                expect(tuple(routing.gate_BK.shape) == shape, f"{where}, {mode}: gate's shape")
                valid_BK = routing.valid_BK
                expect(
                    valid_BK is None
                    or (tuple(valid_BK.shape) == shape and valid_BK.dtype == torch.bool),
                    f"{where}, {mode}: valid_BK is not a bool of the index's shape",
                )


def _updates(case: Case) -> Iterator[tuple[str, Block, Tensor, Tensor | None, Update]]:
    """The first block's updates in both modes, with and without padding."""
    block = _model(case).stack()[0]
    for mode in MODES:
        for valid_BT in (None, _lengths(T, 20, 3, 1, 12)):
            x_BTD = _rows(case)
            with torch.no_grad():
                update = block.delta(x_BTD, _context(mode, x_BTD, valid_BT))
            where = f"{mode}, {'without' if valid_BT is None else 'with'} padding"
            yield where, block, x_BTD, valid_BT, update


def order(case: Case) -> None:
    """Chosen rows ascend and are unique; padding stands last and adds nothing."""
    for where, _, _, _, update in _updates(case):
        if update.routing is None:
            continue
        index_BK, valid_BK = update.routing.index_BK, update.routing.valid_BK
        if valid_BK is None:
            valid_BK = torch.ones_like(index_BK).bool()
        early = (valid_BK[:, 1:] & ~valid_BK[:, :-1]).any()
        expect(not early, f"{where}: padding stands before a chosen row")
        for sequence, (index_K, valid_K) in enumerate(zip(index_BK, valid_BK, strict=True)):
            row = f"{where}, sequence {sequence}"
            expect((index_K[valid_K].diff() > 0).all(), f"{row}: rows do not ascend")
            expect(len(index_K.unique()) == len(index_K), f"{row}: a row stands twice")
        if update.index_BK is not None:
            padding = update.delta_BKD[~valid_BK]
            expect(not padding.any(), f"{where}: padding adds to the residual stream")


def no_token_lost(case: Case) -> None:
    """Each delta goes to its row; rows that are not chosen stay to the bit, chosen ones move."""
    for where, _, x_BTD, valid_BT, update in _updates(case):
        after_BTD = update.add_to(x_BTD)
        expect(after_BTD.shape == x_BTD.shape, f"{where}: shape {tuple(after_BTD.shape)}")
        if update.index_BK is None:
            same = torch.equal(after_BTD, x_BTD + update.delta_BKD)
            expect(same, f"{where}: the result is not x + delta")
            continue
        wanted_BTD = x_BTD.clone()
        for b, index_K in enumerate(update.index_BK.tolist()):
            for k, t in enumerate(index_K):
                wanted_BTD[b, t] += update.delta_BKD[b, k]
        expect(torch.equal(after_BTD, wanted_BTD), f"{where}: a delta went to another row")
        expect(update.routing is not None, f"{where}: chosen rows without a routing")
        assert update.routing is not None
        output = Output(x_BTD, [update])
        [chosen_BT] = output.chosen
        assert chosen_BT is not None
        moved_BT = (after_BTD != x_BTD).any(dim=-1)
        lost = (chosen_BT & ~moved_BT).nonzero().tolist()
        expect(not lost, f"{where}: chosen, but not updated: {_where(lost)}")
        extra = (moved_BT & ~chosen_BT).nonzero().tolist()
        expect(not extra, f"{where}: not chosen, but changed: {_where(extra)}")
        if valid_BT is not None:
            wrong = (chosen_BT & ~valid_BT).nonzero().tolist()
            expect(not wrong, f"{where}: padding is chosen: {_where(wrong)}")


# FLOPs.


def flops(case: Case) -> None:
    """Stated forward and training FLOPs are those that torch counts on the meta device."""
    for share, num_positions in ((case.config.capacity, T), (1.0, 64)):
        with torch.device("meta"):
            model = Decoder(case.config.model_copy(update={"capacity": share}))
            tokens_BT = torch.zeros(2, num_positions, dtype=torch.long)
        stated = model.cost(num_positions)
        with FlopCounterMode(display=False) as counter:
            loss, output = model.loss(tokens_BT, tokens_BT, 0)
            forward = counter.get_total_flops()
            _backward(loss, output)
        where = f"capacity {share} of {num_positions}"
        _expect_flops(f"{where}, forward", 2 * stated.forward.total, forward)
        _expect_flops(f"{where}, training", 2 * stated.training.total, counter.get_total_flops())


def router_flops(case: Case) -> None:
    """The router's stated FLOPs are those that torch counts, in both modes."""
    for router in _routers(_model(case)):
        for mode in MODES:
            x_BTD = _rows(case, num_sequences=1)
            with FlopCounterMode(display=False) as counter:
                router(x_BTD, _context(mode, x_BTD))
            stated = router.cost(T, mode).forward
            _expect_flops(f"router, {mode}", stated.total, counter.get_total_flops())
            expect(stated.total == stated.router, "a router's FLOPs are of the part `router`")


def causal_flops(case: Case) -> None:
    """FLOPs stated for the rows that a causal pass took are those that torch counts."""
    model = _model(case)
    for tokens_BT in _tokens(case)[:, None]:
        # Plain attention, because the counter misses the fused kernel of a CPU.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            output: Output = model(tokens_BT, "causal")
        [rows] = output.rows
        stated = model.causal_forward(T, rows)
        _expect_flops(f"causal, rows {list(rows)}", stated, counter.get_total_flops())


def _expect_flops(where: str, stated: int, counted: int) -> None:
    expect(stated == counted, f"{where}: {stated:,} FLOPs stated, {counted:,} counted")


# Causality.


def later_tokens(case: Case) -> None:
    """In causal mode nothing at t depends on later tokens, nor on there being any."""
    model, tokens_BT = _model(case), _tokens(case)
    full = _seen(model, tokens_BT)
    every = slice(None)
    for cut in CUTS:
        other_BT = torch.cat([tokens_BT[:, :cut], _changed(case, tokens_BT[:, cut:])], dim=1)
        other = _seen(model, other_BT)
        before = full.part(every, slice(cut))
        _expect_same(before, other.part(every, slice(cut)), f"tokens from {cut} on changed")
        _expect_same(before, _seen(model, tokens_BT[:, :cut]), f"no tokens from {cut} on")
        late = (full.logits_BTV - other.logits_BTV)[:, cut:].abs().max()
        expect(late > 1e-6, f"tokens from {cut} on changed, and nothing after did")


def other_rows(case: Case) -> None:
    """In causal mode nothing depends on the other sequences' tokens."""
    model, tokens_BT = _model(case), _tokens(case)
    full = _seen(model, tokens_BT)
    for row in range(B):
        other_BT = _changed(case, tokens_BT)
        other_BT[row] = tokens_BT[row]
        mine = slice(row, row + 1)
        left, right = (seen.part(mine, slice(None)) for seen in (full, _seen(model, other_BT)))
        _expect_same(left, right, "the other sequences changed")


def batch_size(case: Case) -> None:
    """In causal mode nothing depends on how many sequences there are."""
    model, tokens_BT = _model(case), _tokens(case)
    full = _seen(model, tokens_BT)
    for row in range(B):
        mine = slice(row, row + 1)
        alone = _seen(model, tokens_BT[mine])
        _expect_same(alone, full.part(mine, slice(None)), f"sequence {row} alone")
    wide = _seen(model, torch.cat([tokens_BT, _tokens(case), _changed(case, tokens_BT)]))
    _expect_same(full, wide.part(slice(B), slice(None)), f"{3 * B} sequences")


def padding(case: Case) -> None:
    """In causal mode padding changes nothing, whatever it holds, and is never chosen."""
    model, tokens_BT = _model(case), _tokens(case)
    lengths = (T, 13, 1)
    valid_BT = _lengths(*lengths)
    padded = _seen(model, tokens_BT, valid_BT=valid_BT)
    _expect_unchosen(padded, valid_BT)
    refilled_BT = torch.where(valid_BT, tokens_BT, _changed(case, tokens_BT))
    refilled = _seen(model, refilled_BT, valid_BT=valid_BT)
    _expect_same(padded, refilled, "padding holds other tokens", valid_BT)
    for row, length in enumerate(lengths):
        mine = slice(row, row + 1)
        alone = _seen(model, tokens_BT[mine, :length])
        _expect_same(alone, padded.part(mine, slice(length)), f"without padding, row {row}")


def padding_in_training(case: Case) -> None:
    """In training what padding holds changes no output, no auxiliary loss and no statistic."""
    model, tokens_BT = _model(case).train(), _tokens(case)
    valid_BT = _lengths(T, 20, 5)
    refilled_BT = torch.where(valid_BT, tokens_BT, _changed(case, tokens_BT))
    with torch.no_grad():
        one, two = (model(each, "train", 0, valid_BT) for each in (tokens_BT, refilled_BT))
    _expect_unchosen(_Seen(one.logits_BTV, one.chosen), valid_BT)
    left, right = (_Seen(output.logits_BTV, output.chosen) for output in (one, two))
    _expect_same(left, right, "padding holds other tokens", valid_BT)
    for name, value in {"aux": one.aux, **statistics(one.updates)}.items():
        other = two.aux if name == "aux" else statistics(two.updates)[name]
        if value is not None and other is not None:
            expect((value - other).abs() <= BAR, f"padding holds other tokens: {name} changes")


def _expect_unchosen(seen: _Seen, valid_BT: Tensor) -> None:
    for layer, chosen_BT in enumerate(seen.chosen):
        wrong = [] if chosen_BT is None else (chosen_BT & ~valid_BT).nonzero().tolist()
        expect(not wrong, f"layer {layer} chooses padding: {_where(wrong)}")


def step_seed(case: Case) -> None:
    """In causal mode the seed of the step does nothing."""
    model, tokens_BT = _model(case), _tokens(case)
    left, right = (_seen(model, tokens_BT, seed=seed) for seed in (1, 2))
    _expect_same(left, right, "another seed")


def fp32(case: Case) -> None:
    """In fp32 later tokens change nothing but rounding, save where rounding flips a decision."""
    if _update_option(case) == "block_replace":
        # g (x + delta) with a gate near 0 leaves little of x, and a norm that magnifies rounding.
        return
    twin, tokens_BT = _model(case), _tokens(case, 12)
    state = twin.state()
    single = Decoder(case.config).eval()
    with torch.no_grad():
        for name, tensor in single.state().items():
            tensor.copy_(state[name])
        # Rounded weights in both, so that the passes alone round differently.
        for name, tensor in single.state().items():
            state[name].copy_(tensor)
    cut = CUTS[1]
    other_BT = torch.cat([tokens_BT[:, :cut], _changed(case, tokens_BT[:, cut:])], dim=1)
    exact_BTV = _seen(twin, tokens_BT[:, :cut]).logits_BTV
    full_BTV, other_BTV, prefix_BTV = (
        _seen(single, each).logits_BTV[:, :cut]
        for each in (tokens_BT, other_BT, tokens_BT[:, :cut])
    )
    passes = torch.stack([full_BTV, other_BTV, prefix_BTV]).double()
    flipped_BT = ((passes - exact_BTV).abs() > FP32_FLIP).any(dim=-1).any(dim=0)
    kept_BT = ~flipped_BT.cummax(dim=1).values
    excluded = 1 - kept_BT.double().mean().item()
    expect(excluded <= FP32_EXCLUDED, f"fp32 decides otherwise than fp64 at {excluded:.1%}")
    gap = (passes - passes[0]).abs()[:, kept_BT].max().item()
    expect(gap <= FP32_BAR, f"tokens from {cut} on change logits before by {gap:.1e} in fp32")


def decoding(case: Case) -> None:
    """Decoding with caches gives the logits and decisions of the parallel causal pass."""
    model = _model(case)
    for lengths, first in (([20], [20]), ([20], [9]), ([1, 7, 20, 13, 2], [1, 3, 20, 4, 2])):
        num_steps = 6
        tokens_BT = _tokens(case, len(lengths))
        rest = [length - done for length, done in zip(lengths, first, strict=True)]
        calls = [first, *([rest] if any(rest) else []), *[[1] * len(lengths)] * num_steps]
        cached = _decoded(model, tokens_BT, calls)
        real_BT = _lengths(*(length + num_steps for length in lengths))
        what = f"prompts of {lengths} in {len(calls) - num_steps} calls, then {num_steps} steps"
        _expect_same(cached, _seen(model, tokens_BT), what, real_BT)


@torch.no_grad()
def _decoded(model: Decoder, tokens_BT: Tensor, calls: list[list[int]]) -> _Seen:
    """Tokens in several calls, each with its number of new ones for each sequence."""
    num_sequences = len(tokens_BT)
    caches = [LayerCache.empty(num_sequences, tokens_BT.device) for _ in model.stack()]
    done_B = torch.zeros(num_sequences, dtype=torch.long)
    logits_BTV = torch.zeros(*tokens_BT.shape, model.config.vocab_size, dtype=torch.float64)
    chosen: list[Tensor | None] = [None] * len(caches)
    for counts in calls:
        counts_B = torch.tensor(counts)
        new = torch.arange(max(counts))
        valid_BT = new < counts_B[:, None]
        positions_BT = done_B[:, None] + new
        # What stands in padding is any token.
        rows_BT = tokens_BT.gather(1, positions_BT.clamp(max=T - 1))
        mask_BT = None if valid_BT.all() else valid_BT
        output: Output = model(rows_BT, "causal", 0, mask_BT, positions_BT, caches)
        sequences_N, columns_N = valid_BT.nonzero().unbind(-1)
        positions_N = positions_BT[sequences_N, columns_N]
        logits_BTV[sequences_N, positions_N] = output.logits_BTV[sequences_N, columns_N]
        for layer, mine_BT in enumerate(output.chosen):
            if mine_BT is not None:
                total_BT = chosen[layer]
                if total_BT is None:
                    total_BT = torch.zeros_like(tokens_BT).bool()
                total_BT[sequences_N, positions_N] = mine_BT[sequences_N, columns_N]
                chosen[layer] = total_BT
        done_B += counts_B
    return _Seen(logits_BTV, chosen)


# State.


def saves(case: Case) -> None:
    """`state()`, written and read, makes another model the same one, buffers included."""
    model, tokens_BT = _model(case), _tokens(case)
    other = Decoder(case.config).double().eval()
    before = _seen(model, tokens_BT).logits_BTV
    expect(not torch.equal(_seen(other, tokens_BT).logits_BTV, before), "all models are equal")
    plain = {name: tensor.detach().contiguous() for name, tensor in model.state().items()}
    tensors = safetensors.torch.load(safetensors.torch.save(plain))
    with torch.no_grad():
        for name, tensor in other.state().items():
            tensor.copy_(tensors[name])
    for mode in MODES:
        left, right = (_seen(each, tokens_BT, mode) for each in (model, other))
        expect(torch.equal(left.logits_BTV, right.logits_BTV), f"{mode}: the output is another")


def repeats(case: Case) -> None:
    """The same seed gives the same values and gradients; no pass takes from torch's generator."""
    tokens_BT = _tokens(case)

    def passes(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        model = Decoder(case.config)
        state = torch.get_rng_state()
        causal_BTV = model(tokens_BT, "causal").logits_BTV
        loss, output = model.loss(tokens_BT, tokens_BT, 5)
        _backward(loss, output)
        model.end_step()
        expect(torch.equal(torch.get_rng_state(), state), "a pass takes random numbers from torch")
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        return [causal_BTV, output.logits_BTV, *grads]

    one, two, three = passes(1), passes(1), passes(2)
    same = all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    expect(same, "the same seed gives another result")
    expect(not torch.equal(one[0], three[0]), "another seed gives the same result")


def evaluation(case: Case) -> None:
    """In evaluation mode passes change no buffer, not at the next end_step() either."""
    model = _model(case)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for mode in MODES:
        _seen(model, _tokens(case), mode)
    model.end_step()
    for name, buffer in model.named_buffers():
        expect(torch.equal(buffer, before[name]), f"buffer {name} moved in evaluation")


# Schedules.


def capacities(case: Case) -> None:
    """A capacity in (0, 1] or None for each layer, at any depth that the schedule takes."""
    schedule = SCHEDULES.get(case.name)(component_options("schedule", case.config.schedule))
    expect(0 <= schedule.warmup < 1, f"warmup is {schedule.warmup}")
    fits = 0
    for depth in (1, 2, 7):
        for every in (1, 2, 3):
            for share in (0.01, 0.3, 1.0):
                shape = {"depth": depth, "every": every, "capacity": share}
                config = case.config.model_copy(update=shape)
                try:
                    found = schedule.capacities(config)
                except ConfigError:
                    continue
                fits += 1
                expect(len(found) == depth, f"{shape}: {len(found)} capacities")
                wrong = [c for c in found if c is not None and not 0 < c <= 1]
                expect(not wrong, f"{shape}: capacities {wrong}")
                expect(schedule.capacities(config) == found, f"{shape}: another answer next time")
    expect(fits, "no depth fits")


def warms_up(case: Case) -> None:
    """Routers and ffns have the schedule's capacities, at the end of training again."""
    model = Decoder(case.config)
    for progress in (0.0, 0.5, 1.0):
        model.set_progress(progress)
    for layer, (share, block) in enumerate(zip(model.capacities, model.stack(), strict=True)):
        found = [module.capacity for module in block.modules() if isinstance(module, Router)]
        expect(all(each == share for each in found), f"layer {layer}: {found}, and not {share}")


Check = Callable[[Case], None]

COMPONENT_CHECKS: dict[str, Check] = {"options": options}
"""On a component alone."""

MODEL_CHECKS: dict[str, Check] = {
    "builds": builds,
    "shapes": shapes,
    "output_weights": output_weights,
    "gradients": gradients,
    "learns": learns,
    "passes": passes,
    "no_token_lost": no_token_lost,
    "flops": flops,
    "causal_flops": causal_flops,
    "later_tokens": later_tokens,
    "other_rows": other_rows,
    "batch_size": batch_size,
    "padding": padding,
    "padding_in_training": padding_in_training,
    "step_seed": step_seed,
    "fp32": fp32,
    "decoding": decoding,
    "saves": saves,
    "repeats": repeats,
    "evaluation": evaluation,
}
"""On every model."""

ROUTED_CHECKS: dict[str, Check] = {
    "capacity": capacity,
    "order": order,
    "router_flops": router_flops,
    "stop_gradient": stop_gradient,
}
"""On models with a router."""

SCHEDULE_CHECKS: dict[str, Check] = {"capacities": capacities, "warms_up": warms_up}
"""On schedules."""
