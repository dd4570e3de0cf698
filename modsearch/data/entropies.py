"""What a loss must beat before a model has learned anything: counts of tokens, and of pairs."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.unsignedinteger[Any]]

MOST_COUNTED = 8 * 1024 * 1024
"""Tokens of train that are counted, where pairs don't fit a table: the first ones, which are a
sample, since documents stand in the order of their hashes."""
MOST_IN_TABLE = 2048
"""Tokens of a vocabulary whose pairs do."""
MOST_SCORED = 1024 * 1024

Chunks = Callable[[], Iterable[Tokens]]
"""A part of a corpus, some tokens at a time; each begins with the last one of the one before."""


def entropies(train: Chunks, held_out: Tokens, vocab_size: int = 256) -> tuple[float, float]:
    """Cross-entropy of held-out tokens under unigram and bigram counts of train, in nats.

    The unigrams are smoothed by one count a token, the bigrams by one count spread as the
    unigrams: what a model must beat to have learned more than pairs of tokens.
    """
    held_out = held_out[:MOST_SCORED]
    unigrams = np.ones(vocab_size)
    for number, chunk in enumerate(train()):
        unigrams += np.bincount(chunk[min(number, 1) :], minlength=vocab_size)
    unigrams /= unigrams.sum()
    first, second = held_out[:-1].astype(np.int64), held_out[1:].astype(np.int64)
    counts, totals = _pairs(train, first, second, vocab_size)
    bigrams = (counts + unigrams[second]) / (totals + 1.0)
    return float(-np.log(unigrams[held_out]).mean()), float(-np.log(bigrams).mean())


def _pairs(
    train: Chunks, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], vocab_size: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """How often train has each pair, and its first token before any other."""
    if vocab_size <= MOST_IN_TABLE:
        table = np.zeros(vocab_size**2, np.int64)
        for chunk in train():
            table += np.bincount(_codes(chunk, vocab_size), minlength=vocab_size**2)
        counts = table.reshape(vocab_size, vocab_size)
        return counts[first, second], counts.sum(axis=1)[first]
    codes = np.empty(0, np.int64)
    for chunk in train():
        if len(codes) >= MOST_COUNTED:
            break
        codes = np.concatenate([codes, _codes(chunk, vocab_size)])
    totals = np.bincount(codes // vocab_size, minlength=vocab_size)
    known, counts = np.unique(codes, return_counts=True)
    wanted = first * vocab_size + second
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[places] == wanted, counts[places], 0), totals[first]


def _codes(tokens: Tokens, vocab_size: int) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = tokens[:-1].astype(np.int64) * vocab_size + tokens[1:]
    return codes
