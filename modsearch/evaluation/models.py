"""What the adapter asks of a model; `Decoder` is one, and imported weights may be another.

Shapes: B sequences, T positions, V vocabulary.
"""

from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from modsearch.nn.cache import LayerCache
from modsearch.nn.contracts import Mode


class Sizes(Protocol):
    """What a model's configuration says of its input."""

    @property
    def seq_len(self) -> int:
        """Longest input in tokens."""

    @property
    def vocab_size(self) -> int:
        """Tokens it knows."""


class LanguageModel(Protocol):
    """A `torch.nn.Module` that gives logits of the next token at every position."""

    training: bool

    @property
    def config(self) -> Sizes:
        """Its sizes."""

    @property
    def num_params(self) -> int:
        """All parameters."""

    @property
    def device(self) -> torch.device:
        """Where inputs belong."""

    def train(self, mode: bool = True) -> Self:
        """As of a module."""

    def to(self, device: str) -> Self:
        """As of a module."""

    def logits(
        self,
        tokens_BT: Tensor,
        mode: Mode,
        valid_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of the token after each position, from those up to it.

        Args:
            tokens_BT: token ids.
            mode: routing without a look at later tokens, or as in training; a model that does
                not route need not look at it.
            valid_BT: false for padding, which stands last in each sequence; None: there is none.
            positions_BT: of the tokens; 0, 1, 2, ... where nothing is said.
            caches: of `empty_caches`, with what earlier calls processed; they are extended.
        """

    def empty_caches(self, num_sequences: int) -> list[LayerCache] | None:
        """One a layer; None of a model without: each input is processed whole then."""
