"""Decoding with a key-value cache: a prefill, then one token of each sequence a step.

Each layer's cache holds the rows that the layer processed, so a routed layer's is short and
ragged. Routing is causal: no decision waits for a later token.

Shapes: B sequences, T positions, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modsearch.errors import ConfigError
from modsearch.nn.contracts import Rows
from modsearch.nn.model import Decoder, Output
from modsearch.nn.sampling import Sampling


@dataclass(frozen=True)
class Generated:
    """What was sampled, and what it took."""

    tokens: list[list[int]]
    """New tokens of each sequence."""
    flops: list[int]
    """Forward FLOPs of each sequence, prompt included; attention over the keys that a token
    sees, so about half of what the square counts."""
    cache_bytes: int
    """Held at the end, in all layers."""
    layer_rows: list[list[int]]
    """Rows in each layer's cache, of each sequence."""
    beyond: list[int]
    """New tokens of each sequence that were drawn at positions which training never had."""


class Decoding:
    """A batch of sequences that grow token by token.

    The model must be in evaluation mode.
    """

    def __init__(self, model: Decoder, num_sequences: int) -> None:
        self.model = model
        self.device = model.device
        self.caches = model.empty_caches(num_sequences)
        self.lengths_B = torch.zeros(num_sequences, dtype=torch.long, device=self.device)
        self.routed_LB = torch.zeros(
            model.config.depth, num_sequences, dtype=torch.long, device=self.device
        )
        """Rows that each layer's routed part processed."""
        self.experts_LB = torch.zeros_like(self.routed_LB)
        """Visits to each layer's experts."""

    @torch.no_grad()
    def extend(self, tokens_BT: Tensor, new_B: Tensor | None = None) -> Tensor:
        """Process more tokens, of which each sequence has `new_B`, padding last.

        Returns:
            Logits (B, V) of the token after each sequence's last one.
        """
        B, T = tokens_BT.shape
        steps_T = torch.arange(T, device=self.device)
        positions_BT = self.lengths_B[:, None] + steps_T
        valid_BT = None if new_B is None else steps_T < new_B[:, None]
        output = self.model(
            tokens_BT, "causal", valid_BT=valid_BT, positions_BT=positions_BT, caches=self.caches
        )
        self._count(output)
        if new_B is None:
            self.lengths_B += T
            return output.logits_BTV[:, -1]
        self.lengths_B += new_B
        return output.logits_BTV[torch.arange(B, device=self.device), new_B - 1]

    def _count(self, output: Output) -> None:
        for layer, update in enumerate(output.updates):
            if update.routing is not None:
                index_BK, valid_BK = update.routing.index_BK, update.routing.valid_BK
                self.routed_LB[layer] += (
                    index_BK.shape[1] if valid_BK is None else valid_BK.sum(dim=1)
                )
            if update.expert_rows_B is not None:
                self.experts_LB[layer] += update.expert_rows_B

    def layer_rows(self) -> list[list[int]]:
        """Rows in each layer's cache, of each sequence."""
        return [cache.lengths_A.tolist() for cache in self.caches]

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values that are held."""
        return sum(cache.num_bytes for cache in self.caches)

    def flops(self) -> list[int]:
        """Forward FLOPs that each sequence took, attention over the keys that a token sees."""
        cached = self.layer_rows()
        routed, experts = self.routed_LB.tolist(), self.experts_LB.tolist()
        total = []
        for b, length in enumerate(self.lengths_B.tolist()):
            flops = self.model.head_flops(length)
            for layer, block in enumerate(self.model.stack()):
                parts = block.causal_forward(length, Rows(routed[layer][b], experts[layer][b]))
                keys = cached[layer][b]
                # sum of 1..n in place of the square n * n
                triangle = parts.attention * (keys + 1) // (2 * keys) if keys else 0
                flops += parts.total - parts.attention + triangle
            total.append(flops)
        return total


def generate(
    model: Decoder, prompts: Sequence[Sequence[int]], num_tokens: int, sampling: Sampling
) -> Generated:
    """Sample `num_tokens` after each prompt.

    Every sequence draws from a generator of its own, seeded by its place, so that what it gets
    does not depend on the other ones. Past the length that the model was trained on positions
    go on, and `beyond` counts them: no model here has learned what they mean.

    Raises:
        ConfigError: there is no prompt, or one is empty or has tokens that the model lacks.
    """
    if not prompts or not all(prompts):
        raise ConfigError("a prompt needs at least one token")
    vocab = model.config.vocab_size
    if any(not 0 <= token < vocab for prompt in prompts for token in prompt):
        raise ConfigError(f"a prompt has tokens outside the model's vocabulary of {vocab}")
    device = model.device
    lengths_B = torch.tensor([len(prompt) for prompt in prompts], device=device)
    tokens_BT = torch.zeros(len(prompts), int(lengths_B.max()), dtype=torch.long, device=device)
    for row_T, prompt in zip(tokens_BT, prompts, strict=True):
        row_T[: len(prompt)] = torch.tensor(list(prompt), device=device)
    generators = [torch.Generator().manual_seed(sampling.seed + b) for b in range(len(prompts))]
    decoding = Decoding(model, len(prompts))
    ragged = int(lengths_B.min()) < tokens_BT.shape[1]
    logits_BV = decoding.extend(tokens_BT, lengths_B if ragged else None)
    drawn: list[Tensor] = []
    for step in range(num_tokens):
        drawn.append(draw(logits_BV, sampling, generators))
        if step + 1 < num_tokens:
            logits_BV = decoding.extend(drawn[-1][:, None])
    new_BT = torch.stack(drawn, dim=1) if drawn else tokens_BT[:, :0]
    # The first new token is drawn at the prompt's last position.
    over = [len(prompt) + num_tokens - 1 - model.config.seq_len for prompt in prompts]
    return Generated(
        tokens=new_BT.tolist(),
        flops=decoding.flops(),
        cache_bytes=decoding.cache_bytes,
        layer_rows=decoding.layer_rows(),
        beyond=[min(max(count, 0), num_tokens) for count in over],
    )


def draw(logits_BV: Tensor, sampling: Sampling, generators: list[torch.Generator]) -> Tensor:
    """One token of each sequence (B,), by inverting the distribution at a uniform number."""
    if sampling.temperature == 0:
        return logits_BV.argmax(dim=-1)
    uniform_B = torch.stack(
        [torch.rand((), generator=generator, dtype=torch.float64) for generator in generators]
    ).to(logits_BV.device)
    chances_BV, tokens_BV = (
        (logits_BV.double() / sampling.temperature)
        .softmax(dim=-1)
        .sort(dim=-1, descending=True, stable=True)
    )
    before_BV = chances_BV.cumsum(dim=-1) - chances_BV
    # The likeliest token always stays.
    outside_BV = before_BV >= sampling.top_p
    if sampling.top_k is not None:
        outside_BV[:, sampling.top_k :] = True
    outside_BV[:, 0] = False
    ends_BV = chances_BV.masked_fill(outside_BV, 0.0).cumsum(dim=-1)
    rank_B1 = torch.searchsorted(ends_BV, (uniform_B * ends_BV[:, -1])[:, None], right=True)
    kept_B1 = (~outside_BV).sum(dim=-1, keepdim=True)
    return tokens_BV.gather(1, torch.minimum(rank_B1, kept_B1 - 1)).squeeze(1)
