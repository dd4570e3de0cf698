"""What a loss must beat before a model has learned anything: counts of tokens, and of pairs."""

from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.unsignedinteger[Any]]

MOST_COUNTED = 16 * 1024 * 1024
"""Tokens of train that are counted, where pairs don't fit a table: the first ones, which are a
sample, since documents stand in the order of their hashes."""
MOST_IN_TABLE = 2048
"""Tokens of a vocabulary whose pairs do."""
MOST_SCORED = 4 * 1024 * 1024
CHUNK = 4 * 1024 * 1024


def entropies(train: Tokens, held_out: Tokens, vocab_size: int = 256) -> tuple[float, float]:
    """Cross-entropy of held-out tokens under unigram and bigram counts of train, in nats.

    The unigrams are smoothed by one count a token, the bigrams by one count spread as the
    unigrams: what a model must beat to have learned more than pairs of tokens.
    """
    held_out = held_out[:MOST_SCORED]
    unigrams = np.ones(vocab_size)
    for start in range(0, len(train), CHUNK):
        unigrams += np.bincount(train[start : start + CHUNK], minlength=vocab_size)
    unigrams /= unigrams.sum()
    first, second = held_out[:-1].astype(np.int64), held_out[1:].astype(np.int64)
    counts, totals = _pairs(train, first, second, vocab_size)
    bigrams = (counts + unigrams[second]) / (totals + 1.0)
    return float(-np.log(unigrams[held_out]).mean()), float(-np.log(bigrams).mean())


def _pairs(
    train: Tokens, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], vocab_size: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """How often train has each pair, and its first token before any other."""
    if vocab_size <= MOST_IN_TABLE:
        table = np.zeros(vocab_size**2, np.int64)
        for start in range(0, len(train) - 1, CHUNK):
            codes = _codes(train[start : start + CHUNK + 1], vocab_size)
            table += np.bincount(codes, minlength=vocab_size**2)
        counts = table.reshape(vocab_size, vocab_size)
        return counts[first, second], counts.sum(axis=1)[first]
    codes = _codes(train[:MOST_COUNTED], vocab_size)
    totals = np.bincount(codes // vocab_size, minlength=vocab_size)
    known, counts = np.unique(codes, return_counts=True)
    wanted = first * vocab_size + second
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[places] == wanted, counts[places], 0), totals[first]


def _codes(tokens: Tokens, vocab_size: int) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = tokens[:-1].astype(np.int64) * vocab_size + tokens[1:]
    return codes
