"""Decoding with caches is the parallel causal pass."""

import torch
from torch import Tensor

from modsearch.nn.cache import LayerCache
from modsearch.nn.model import Decoder, Output
from modsearch.testing.probe import (
    Case,
    Seen,
    T,
    draw_tokens,
    expect_same,
    real_positions,
    seen_by,
    warm_model,
)


def decoding(case: Case) -> None:
    """Decoding with caches gives the logits and decisions of the parallel causal pass."""
    model = warm_model(case)
    for lengths, first in (([20], [20]), ([20], [9]), ([1, 7, 20, 13, 2], [1, 3, 20, 4, 2])):
        num_steps = 6
        tokens_BT = draw_tokens(case, len(lengths))
        rest = [length - done for length, done in zip(lengths, first, strict=True)]
        calls = [first, *([rest] if any(rest) else []), *[[1] * len(lengths)] * num_steps]
        cached = _decoded(model, tokens_BT, calls)
        real_BT = real_positions(*(length + num_steps for length in lengths))
        what = f"prompts of {lengths} in {len(calls) - num_steps} calls, then {num_steps} steps"
        expect_same(cached, seen_by(model, tokens_BT), what, real_BT)


@torch.no_grad()
def _decoded(model: Decoder, tokens_BT: Tensor, calls: list[list[int]]) -> Seen:
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
    return Seen(logits_BTV, chosen)
