"""What a loss must beat before a model has learned anything: counts of tokens, and of pairs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.unsignedinteger[Any]]

MOST_COUNTED = 8 * 1024 * 1024
"""Tokens of train that are counted, where pairs don't fit a table: the first ones of each source,
which are a sample, since documents stand in the order of their hashes."""
MOST_IN_TABLE = 2048
"""Tokens of a vocabulary whose pairs do."""
MOST_SCORED = 1024 * 1024

Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""First and second tokens."""

Chunks = Callable[[], Iterable[Tokens]]
"""A part of a source, some tokens at a time; each begins with the last one of the one before."""


@dataclass(frozen=True)
class Segment:
    """What one source has in the parts of a corpus."""

    train: Chunks
    held_out: Tokens
    weight: float = 1.0
    """Its share of what is trained on, and of what is scored, among those of all."""


def entropies(segments: Sequence[Segment], vocab_size: int = 256) -> tuple[float, float]:
    """Cross-entropy of held-out tokens under unigram and bigram counts of train, in nats.

    The unigrams are smoothed by one count a token, the bigrams by one count spread as the
    unigrams: what a model must beat to have learned more than pairs of tokens. Of several sources
    counts are as if each had its share of as many tokens, and losses are weighted, as training and
    scoring draw them.
    """
    counts = [_unigrams(each, vocab_size) for each in segments]
    shares = _shares(segments, [float(each.sum()) for each in counts])
    unigrams = np.ones(vocab_size)
    for each, share in zip(counts, shares, strict=True):
        unigrams += share * each
    unigrams /= unigrams.sum()
    scored = [segment for segment in segments if len(segment.held_out) > 1]
    weights = [segment.weight for segment in scored]
    most = MOST_SCORED // max(1, len(scored))
    tokens = [segment.held_out[:most].astype(np.int64) for segment in scored]
    pairs = [(held_out[:-1], held_out[1:]) for held_out in tokens]
    by_one = [-np.log(unigrams[held_out]).mean() for held_out in tokens]
    by_two = [
        -np.log((of_pair + unigrams[second]) / (of_first + 1.0)).mean()
        for (_, second), (of_pair, of_first) in zip(
            pairs, _pairs(segments, shares, pairs, vocab_size), strict=True
        )
    ]
    return float(np.average(by_one, weights=weights)), float(np.average(by_two, weights=weights))


def _shares(segments: Sequence[Segment], sizes: Sequence[float]) -> list[float]:
    """By what the counts of each are multiplied, so that all have shares of their sum by weight;
    what has nothing has none."""
    weights = [each.weight if size else 0.0 for each, size in zip(segments, sizes, strict=True)]
    return [
        weight / sum(weights) * sum(sizes) / size if size else 0.0
        for weight, size in zip(weights, sizes, strict=True)
    ]


def _unigrams(segment: Segment, vocab_size: int) -> npt.NDArray[np.int64]:
    found = np.zeros(vocab_size, np.int64)
    for number, chunk in enumerate(segment.train()):
        found += np.bincount(chunk[min(number, 1) :], minlength=vocab_size)
    return found


def _pairs(
    segments: Sequence[Segment], shares: Sequence[float], wanted: Sequence[Pairs], vocab_size: int
) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """How often train has each wanted pair, and its first token before any other, by weight."""
    if vocab_size <= MOST_IN_TABLE:
        table = np.zeros((vocab_size, vocab_size))
        for each, share in zip(segments, shares, strict=True):
            table += share * _table(each, vocab_size)
        totals = table.sum(axis=1)
        return [(table[first, second], totals[first]) for first, second in wanted]
    codes = [_sample(each, MOST_COUNTED // len(segments), vocab_size) for each in segments]
    shares = _shares(segments, [float(len(each)) for each in codes])
    found = [(np.zeros(len(first)), np.zeros(len(first))) for first, _ in wanted]
    for code, share in zip(codes, shares, strict=True):
        if not len(code):
            continue
        totals = np.bincount(code // vocab_size, minlength=vocab_size)
        known, counts = np.unique(code, return_counts=True)
        for (first, second), (of_pair, of_first) in zip(wanted, found, strict=True):
            asked = first * vocab_size + second
            places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
            of_pair += share * np.where(known[places] == asked, counts[places], 0)
            of_first += share * totals[first]
    return found


def _table(segment: Segment, vocab_size: int) -> npt.NDArray[np.int64]:
    table = np.zeros(vocab_size**2, np.int64)
    for chunk in segment.train():
        table += np.bincount(_codes(chunk, vocab_size), minlength=vocab_size**2)
    return table.reshape(vocab_size, vocab_size)


def _sample(segment: Segment, most: int, vocab_size: int) -> npt.NDArray[np.int64]:
    """Pairs of the first tokens."""
    codes = np.empty(0, np.int64)
    for chunk in segment.train():
        if len(codes) >= most:
            break
        codes = np.concatenate([codes, _codes(chunk, vocab_size)])
    return codes


def _codes(tokens: Tokens, vocab_size: int) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = tokens[:-1].astype(np.int64) * vocab_size + tokens[1:]
    return codes
