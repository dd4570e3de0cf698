"""What a result may depend on: no later token, no other sequence, no padding, no seed."""

import torch
from torch import Tensor

from modsearch.nn.model import Decoder, statistics
from modsearch.testing.probe import (
    BAR,
    B,
    Case,
    Seen,
    T,
    changed_tokens,
    draw_tokens,
    expect,
    expect_same,
    places,
    real_positions,
    seen_by,
    update_option,
    warm_model,
)

CUTS = (1, 18, 36)
FP32_BAR = 1e-5
FP32_FLIP = 1e-4
"""Farther than this from its fp64 twin is a decision that rounding flipped, not rounding."""
FP32_EXCLUDED = 0.03


def later_tokens(case: Case) -> None:
    """In causal mode nothing at t depends on later tokens, nor on there being any."""
    model, tokens_BT = warm_model(case), draw_tokens(case)
    full = seen_by(model, tokens_BT)
    every = slice(None)
    for cut in CUTS:
        other_BT = torch.cat([tokens_BT[:, :cut], changed_tokens(case, tokens_BT[:, cut:])], dim=1)
        other = seen_by(model, other_BT)
        before = full.part(every, slice(cut))
        expect_same(before, other.part(every, slice(cut)), f"tokens from {cut} on changed")
        expect_same(before, seen_by(model, tokens_BT[:, :cut]), f"no tokens from {cut} on")
        late = (full.logits_BTV - other.logits_BTV)[:, cut:].abs().max()
        expect(late > 1e-6, f"tokens from {cut} on changed, and nothing after did")


def other_rows(case: Case) -> None:
    """In causal mode nothing depends on the other sequences' tokens."""
    model, tokens_BT = warm_model(case), draw_tokens(case)
    full = seen_by(model, tokens_BT)
    for row in range(B):
        other_BT = changed_tokens(case, tokens_BT)
        other_BT[row] = tokens_BT[row]
        mine = slice(row, row + 1)
        left, right = (seen.part(mine, slice(None)) for seen in (full, seen_by(model, other_BT)))
        expect_same(left, right, "the other sequences changed")


def batch_size(case: Case) -> None:
    """In causal mode nothing depends on how many sequences there are."""
    model, tokens_BT = warm_model(case), draw_tokens(case)
    full = seen_by(model, tokens_BT)
    for row in range(B):
        mine = slice(row, row + 1)
        alone = seen_by(model, tokens_BT[mine])
        expect_same(alone, full.part(mine, slice(None)), f"sequence {row} alone")
    wide_BT = torch.cat([tokens_BT, draw_tokens(case), changed_tokens(case, tokens_BT)])
    wide = seen_by(model, wide_BT)
    expect_same(full, wide.part(slice(B), slice(None)), f"{3 * B} sequences")


def padding(case: Case) -> None:
    """In causal mode padding changes nothing, whatever it holds, and is never chosen."""
    model, tokens_BT = warm_model(case), draw_tokens(case)
    lengths = (T, 13, 1)
    valid_BT = real_positions(*lengths)
    padded = seen_by(model, tokens_BT, valid_BT=valid_BT)
    _expect_unchosen(padded, valid_BT)
    refilled_BT = torch.where(valid_BT, tokens_BT, changed_tokens(case, tokens_BT))
    refilled = seen_by(model, refilled_BT, valid_BT=valid_BT)
    expect_same(padded, refilled, "padding holds other tokens", valid_BT)
    for row, length in enumerate(lengths):
        mine = slice(row, row + 1)
        alone = seen_by(model, tokens_BT[mine, :length])
        expect_same(alone, padded.part(mine, slice(length)), f"without padding, row {row}")


def padding_in_training(case: Case) -> None:
    """In training what padding holds changes no output, no auxiliary loss and no statistic."""
    model, tokens_BT = warm_model(case).train(), draw_tokens(case)
    valid_BT = real_positions(T, 20, 5)
    refilled_BT = torch.where(valid_BT, tokens_BT, changed_tokens(case, tokens_BT))
    with torch.no_grad():
        one, two = (model(each, "train", 0, valid_BT) for each in (tokens_BT, refilled_BT))
    _expect_unchosen(Seen(one.logits_BTV, one.chosen), valid_BT)
    left, right = (Seen(output.logits_BTV, output.chosen) for output in (one, two))
    expect_same(left, right, "padding holds other tokens", valid_BT)
    for name, value in {"aux": one.aux, **statistics(one.updates)}.items():
        other = two.aux if name == "aux" else statistics(two.updates)[name]
        if value is not None and other is not None:
            expect((value - other).abs() <= BAR, f"padding holds other tokens: {name} changes")


def _expect_unchosen(seen: Seen, valid_BT: Tensor) -> None:
    for layer, chosen_BT in enumerate(seen.chosen):
        wrong = [] if chosen_BT is None else (chosen_BT & ~valid_BT).nonzero().tolist()
        expect(not wrong, f"layer {layer} chooses padding: {places(wrong)}")


def step_seed(case: Case) -> None:
    """In causal mode the seed of the step does nothing."""
    model, tokens_BT = warm_model(case), draw_tokens(case)
    left, right = (seen_by(model, tokens_BT, seed=seed) for seed in (1, 2))
    expect_same(left, right, "another seed")


def fp32(case: Case) -> None:
    """In fp32 later tokens change nothing but rounding, save where rounding flips a decision."""
    if update_option(case) == "block_replace":
        # g (x + delta) with a gate near 0 leaves little of x, and a norm that magnifies rounding.
        return
    twin, tokens_BT = warm_model(case), draw_tokens(case, 12)
    state = twin.state()
    single = Decoder(case.config).eval()
    with torch.no_grad():
        for name, tensor in single.state().items():
            tensor.copy_(state[name])
        # Rounded weights in both, so that the passes alone round differently.
        for name, tensor in single.state().items():
            state[name].copy_(tensor)
    cut = CUTS[1]
    other_BT = torch.cat([tokens_BT[:, :cut], changed_tokens(case, tokens_BT[:, cut:])], dim=1)
    exact_BTV = seen_by(twin, tokens_BT[:, :cut]).logits_BTV
    full_BTV, other_BTV, prefix_BTV = (
        seen_by(single, each).logits_BTV[:, :cut]
        for each in (tokens_BT, other_BT, tokens_BT[:, :cut])
    )
    passes = torch.stack([full_BTV, other_BTV, prefix_BTV]).double()
    flipped_BT = ((passes - exact_BTV).abs() > FP32_FLIP).any(dim=-1).any(dim=0)
    kept_BT = ~flipped_BT.cummax(dim=1).values
    excluded = 1 - kept_BT.double().mean().item()
    expect(excluded <= FP32_EXCLUDED, f"fp32 decides otherwise than fp64 at {excluded:.1%}")
    gap = (passes - passes[0]).abs()[:, kept_BT].max().item()
    expect(gap <= FP32_BAR, f"tokens from {cut} on change logits before by {gap:.1e} in fp32")
