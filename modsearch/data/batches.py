"""Training batches as a pure function of seed and step."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from modsearch.errors import DataError

CYCLE = 1000
"""Windows after which the order of sources begins anew."""


class Batches:
    """Training batches: (batch_size, seq_len + 1) tokens, a pure function of seed and step.

    An epoch of a source visits every window of it once, in an order and from an offset that depend
    on seed and epoch. Of several sources each has its share of the windows by its weight, to one
    in `CYCLE`, and epochs of its own.

    Raises:
        DataError: a source has too few tokens for a window, or no share of a cycle.
    """

    def __init__(
        self,
        tokens: npt.NDArray[Any],
        seq_len: int,
        batch_size: int,
        seed: int,
        sources: Sequence[tuple[int, float]] = (),
    ) -> None:
        """Tokens and weight of each of `sources`, in the order in which they stand; none: one."""
        self.tokens = tokens
        self.seq_len = seq_len
        self.batch_size = batch_size
        shares = [share for share in sources if share[0]] or [(len(tokens), 1.0)]
        starts = pairwise(accumulate((size for size, _ in shares), initial=0))
        self.streams = [
            _Stream(low, high, seq_len, seed, place) for place, (low, high) in enumerate(starts)
        ]
        self.pattern, self.ranks, self.counts = _pattern([weight for _, weight in shares])
        if not all(self.counts):
            weights = ", ".join(f"{weight:g}" for _, weight in shares)
            raise DataError(
                f"of the weights {weights} one is so small that its text would never be trained "
                f"on\ngive it a {CYCLE}th of all or more, or leave that source out"
            )

    @property
    def per_epoch(self) -> int:
        """Windows of all sources, each once."""
        return sum(stream.per_epoch for stream in self.streams)

    def __call__(self, step: int) -> npt.NDArray[np.int64]:
        """Tokens of one step."""
        first = step * self.batch_size
        starts = [self._start(index) for index in range(first, first + self.batch_size)]
        rows = np.array(starts)[:, None] + np.arange(self.seq_len + 1)
        return self.tokens[rows].astype(np.int64)

    def _start(self, index: int) -> int:
        cycle, place = divmod(index, len(self.pattern))
        source = self.pattern[place]
        return self.streams[source].start(cycle * self.counts[source] + self.ranks[place])


def _pattern(weights: Sequence[float]) -> tuple[list[int], list[int], list[int]]:
    """Sources of the windows of a cycle, how often each was taken in it before, and in all; each
    window goes to the source that is furthest behind its share."""
    if len(weights) == 1:
        return [0], [0], [1]
    shares = np.array(weights) / sum(weights)
    counts = [0] * len(weights)
    sources, ranks = [], []
    for place in range(1, CYCLE + 1):
        source = int(np.argmax(shares * place - counts))
        sources.append(source)
        ranks.append(counts[source])
        counts[source] += 1
    return sources, ranks, counts


class _Stream:
    """Windows of one source."""

    def __init__(self, low: int, high: int, seq_len: int, seed: int, place: int) -> None:
        self.low = low
        self.seq_len = seq_len
        self.seed = seed
        self.place = place
        self.per_epoch = (high - low - seq_len) // (seq_len + 1)
        if self.per_epoch < 1:
            raise DataError(
                f"the train part has {high - low:,} tokens, but a sequence of {seq_len} needs "
                f"{2 * seq_len + 1:,}\nuse a larger corpus, or a shorter seq_len"
            )
        self._epoch = -1
        self._starts: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def start(self, index: int) -> int:
        """Of a window."""
        epoch, place = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            key = [self.seed, epoch, self.place] if self.place else [self.seed, epoch]
            generator = np.random.default_rng(key)
            offset = generator.integers(self.seq_len)
            self._starts = generator.permutation(self.per_epoch) * (self.seq_len + 1) + offset
            self._epoch = epoch
        return self.low + int(self._starts[place])
