"""Slow, obvious twins: of the decoder with expert choice, and of a mixture of experts by token
choice. One sequence, one token at a time.

They read the weights of a model and call none of its code, so that a fast path that errs in
values or gradients has something to differ from. Eq. 1 of Raposo et al. 2024 (arXiv
2404.02258), with f read as the block's delta and the identity gate.

Shapes: B sequences, T positions, K chosen rows, D width, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from modsearch.nn.blocks.dense import Dense
from modsearch.nn.blocks.mod import Mod
from modsearch.nn.contracts import Mode
from modsearch.nn.experts import ExpertFfn
from modsearch.nn.ffn.mlp import Mlp
from modsearch.nn.layers import RmsNorm
from modsearch.nn.model import Decoder
from modsearch.nn.routers.expert_choice import ExpertChoice


@dataclass(frozen=True)
class NaiveOutput:
    """Of one forward pass, for comparison with `modsearch.nn.model.Output`."""

    logits_BTV: Tensor
    aux: Tensor | None
    """Sum over the routed blocks; None in causal mode and without routed blocks."""
    chosen: list[list[list[int]]]
    """For each layer and each sequence the positions that entered the block."""


def naive_decoder(model: Decoder, tokens_BT: Tensor, mode: Mode) -> NaiveOutput:
    """The whole model; gradients flow into the parameters of `model`."""
    num_sequences, num_positions = tokens_BT.shape
    logits: list[list[Tensor]] = []
    chosen: list[list[list[int]]] = [[] for _ in model.blocks]
    terms: list[list[Tensor]] = [[] for _ in model.blocks]
    for b in range(num_sequences):
        rows = [model.embedding.weight[int(token)] for token in tokens_BT[b]]
        for layer, block in enumerate(model.blocks):
            if isinstance(block, Mod):
                rows, entered, cross_entropies = naive_mod(block, rows, mode)
                terms[layer] += cross_entropies
            else:
                assert isinstance(block, Dense)
                entered = list(range(num_positions))
                deltas = naive_dense(block, rows, entered)
                rows = [row + delta for row, delta in zip(rows, deltas, strict=True)]
            chosen[layer].append(entered)
        logits.append([model.head.weight @ _normalised(model.norm, row) for row in rows])
    aux: Tensor | None = None
    for block, cross_entropies in zip(model.blocks, terms, strict=True):
        if cross_entropies:
            assert isinstance(block, Mod)
            weight = _expert_choice(block).options.bce_weight
            term = weight * torch.stack(cross_entropies).mean()
            aux = term if aux is None else aux + term
    return NaiveOutput(torch.stack([torch.stack(rows) for rows in logits]), aux, chosen)


def naive_mod(
    block: Mod, rows: list[Tensor], mode: Mode
) -> tuple[list[Tensor], list[int], list[Tensor]]:
    """One sequence through a routed block: its rows, who entered, each row's cross-entropy."""
    router = _expert_choice(block)
    assert router.options.gate == "identity"
    scores = [(router.weight[0] * row).sum() for row in rows]
    if mode == "causal":
        entered = [t for t, score in enumerate(scores) if torch.sigmoid(score) > 0.5]
    else:
        slots = max(1, math.floor(router.capacity * len(rows) + 1e-9))
        by_score = sorted(range(len(rows)), key=lambda t: (-scores[t].item(), t))
        entered = sorted(by_score[:slots])
    assert isinstance(block.inner, Dense)
    deltas = naive_dense(block.inner, [rows[t] for t in entered], entered)
    after = list(rows)
    for t, delta in zip(entered, deltas, strict=True):
        after[t] = rows[t] + scores[t] * delta
    cross_entropies = []
    if mode == "train":
        for t, score in enumerate(scores):
            chance = torch.sigmoid(score)
            cross_entropies.append(-torch.log(chance if t in entered else 1 - chance))
    return after, entered, cross_entropies


def naive_dense(block: Dense, rows: list[Tensor], positions: list[int]) -> list[Tensor]:
    """What the block adds to each of these rows, which see each other and nothing else."""
    attention, mlp = block.attention.attention, block.ffn.ffn
    assert isinstance(mlp, Mlp)
    num_heads = attention.num_heads
    group = num_heads // attention.num_kv_heads
    queries, keys, values = [], [], []
    for row, position in zip(rows, positions, strict=True):
        projected = attention.qkv.weight @ _normalised(block.attention.norm, row)
        heads = list(projected.view(num_heads + 2 * attention.num_kv_heads, -1))
        queries.append([_rotated(head, position) for head in heads[:num_heads]])
        k, v = heads[num_heads:][: attention.num_kv_heads], heads[-attention.num_kv_heads :]
        keys.append([_rotated(head, position) for head in k])
        values.append(v)
    deltas = []
    for t, row in enumerate(rows):
        mixed = []
        for head in range(num_heads):
            shared = head // group
            scale = math.sqrt(attention.head)
            products = [queries[t][head] @ keys[s][shared] for s in range(t + 1)]
            scores = torch.stack(products) / scale
            weights = scores.exp() / scores.exp().sum()
            parts = [w * values[s][shared] for s, w in enumerate(weights)]
            mixed.append(torch.stack(parts).sum(0))
        seen = attention.out.weight @ torch.cat(mixed)
        hidden = mlp.up.weight @ _normalised(block.ffn.norm, row + seen)
        gate, value = hidden.chunk(2)
        deltas.append(seen + mlp.down.weight @ (gate * torch.sigmoid(gate) * value))
    return deltas


def _expert_choice(block: Mod) -> ExpertChoice:
    assert isinstance(block.router, ExpertChoice)
    return block.router


def _normalised(norm: RmsNorm, row: Tensor) -> Tensor:
    return row / (row.square().mean() + 1e-6).sqrt() * norm.weight


def _rotated(head: Tensor, position: int) -> Tensor:
    """Each pair (i, half + i) turned by position / 10,000^(i / half)."""
    half = len(head) // 2
    turned = list(head)
    for i in range(half):
        angle = position * 10_000.0 ** (-i / half)
        cos, sin = math.cos(angle), math.sin(angle)
        turned[i] = head[i] * cos - head[half + i] * sin
        turned[half + i] = head[half + i] * cos + head[i] * sin
    return torch.stack(turned)


@dataclass(frozen=True)
class NaiveExperts:
    """Of one pass, for comparison with `ExpertFfn.delta`."""

    delta_BTD: Tensor
    aux: Tensor
    """The balancing loss, from the choices before any is dropped."""
    visits_B: list[int]
    """Visits to experts that were not dropped."""


def naive_experts(layer: ExpertFfn, x_BTD: Tensor, mode: Mode) -> NaiveExperts:
    """Token choice with dropping: a row's best outputs, while their experts have room."""
    options = layer.options
    assert options.selection == "token_choice"
    num_experts, num_outputs = options.num_experts, len(layer.weight)
    num_sequences, num_positions = x_BTD.shape[:2]
    even = layer.capacity * options.top_k * num_positions / num_experts
    room = max(1, min(num_positions, math.ceil(options.capacity_factor * even - 1e-9)))
    load = [0] * num_outputs
    sums = [x_BTD.new_zeros(()) for _ in range(num_outputs)]
    deltas, visits_B = [], []
    for rows in x_BTD:
        used, visits = [0] * num_experts, 0
        for row in rows:
            logits = torch.stack([(weight * row).sum() for weight in layer.weight])
            chances = logits.exp() / logits.exp().sum()
            wanted = [(chances[o] + layer.bias_O[o]).item() for o in range(num_outputs)]
            # Highest first, and the lowest output first among equals.
            best = [o for _, o in sorted((-value, o) for o, value in enumerate(wanted))]
            delta = torch.zeros_like(row)
            for output in best[: options.top_k]:
                load[output] += 1
                if output >= num_experts:
                    continue
                if mode == "train" and used[output] == room:
                    continue
                used[output] += 1
                visits += 1
                gate, value = (row @ layer.experts.up[output]).chunk(2)
                hidden = gate * torch.sigmoid(gate) * value
                delta = delta + chances[output] * (hidden @ layer.experts.down[output])
            sums = [total + chance for total, chance in zip(sums, chances, strict=True)]
            deltas.append(delta)
        visits_B.append(visits)
    num_rows = num_sequences * num_positions
    target = layer.targets()
    terms = [
        load[o] / (num_rows * options.top_k) * sums[o] / num_rows / target[o]
        for o in range(num_outputs)
    ]
    aux = options.balance_weight * torch.stack(terms).sum()
    return NaiveExperts(torch.stack(deltas).view_as(x_BTD), aux, visits_B)
