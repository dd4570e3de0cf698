"""Which pieces of a corpus are kept, and in which part.

Shapes: N pieces in the order of units, K of them kept: all but exact copies; S sources.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modsearch.config.data import Rule
from modsearch.data.duplicates import Partition, labels
from modsearch.data.split import PARTS, TRAIN, Parts, split, split_sources

if TYPE_CHECKING:
    from modsearch.data.reading import Unit
    from modsearch.data.scan import Reading


@dataclass(frozen=True)
class Places:
    """Where each kept piece goes."""

    parts_K: npt.NDArray[np.uint8]
    sources_K: npt.NDArray[np.int64]
    order_K: npt.NDArray[np.int64]
    """Kept pieces, in the order that they have in the shards."""
    counts: Sequence[int]
    """Kept pieces of each unit."""


@dataclass(frozen=True)
class Division:
    """Which pieces are kept, and in which part."""

    reading: "Reading"
    first_K: npt.NDArray[np.int64]
    """Kept pieces, in the order of their hashes."""
    ranks_N: npt.NDArray[np.int32]
    """The place of each piece in that order; -1: a copy."""
    roots_K: npt.NDArray[np.int64]
    parts_K: Parts
    rules: Sequence[Rule]
    """How that was found of each source."""
    sources_N: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls, reading: "Reading", units: "Sequence[Unit]", num_sources: int, *, by_source: bool
    ) -> "Division":
        """Of all that was read, parts of the whole or of each source. Where two pieces are the
        same, the first is kept."""
        digests_N = reading.digests
        order_N = np.lexsort((digests_N[:, 1], digests_N[:, 0]))
        same = (digests_N[order_N[1:]] == digests_N[order_N[:-1]]).all(axis=1)
        first_K = order_N[np.append(True, ~same)[: len(order_N)]]
        ranks_N = np.full(len(digests_N), -1, np.int32)
        ranks_N[first_K] = np.arange(len(first_K))
        roots_K = labels(reading.partitions(ranks_N), len(first_K))
        sources = np.array([unit.source for unit in units] or [0], np.int64)
        sources_N = sources[reading.units]
        hashes_K, sizes_K = digests_N[first_K, 0], reading.sizes[first_K]
        if by_source:
            parts_K, rules = split_sources(
                hashes_K, sizes_K, roots_K, sources_N[first_K], num_sources
            )
        else:
            parts_K, rule = split(hashes_K, sizes_K, roots_K)
            rules = [rule] * num_sources
        return cls(reading, first_K, ranks_N, roots_K, parts_K, rules, sources_N)

    def partitions(self) -> Iterator[Partition]:
        """Shingles of kept pieces."""
        return self.reading.partitions(self.ranks_N)

    @property
    def near_duplicates(self) -> int:
        """Pieces that share text with another one."""
        sizes = np.bincount(self.roots_K)
        return int(sizes[sizes > 1].sum())

    def bytes_of(self, num_sources: int) -> npt.NDArray[np.int64]:
        """Of each part and source (parts, sources); each end of a document is one."""
        sizes_K = self.reading.sizes[self.first_K] + 1
        places_K = self.parts_K.astype(np.int64) * num_sources + self.sources_N[self.first_K]
        found = np.bincount(places_K, sizes_K, len(PARTS) * num_sources)
        return found.reshape(len(PARTS), num_sources).astype(np.int64)

    def times_of_train(
        self, num_bytes: int, weights_S: Sequence[float] | None = None
    ) -> npt.NDArray[np.int64]:
        """How often each piece (N,) is read to have so many bytes of the train part, or as many as
        it has: those that come first once, or, where sources have weights, as many bytes of each
        as are its share, the first pieces of a small one once more than the others."""
        train = self.first_K[self.parts_K == TRAIN]
        sizes = self.reading.sizes[train]
        most = min(num_bytes, int(sizes.sum()))
        sources = self.sources_N[train] if weights_S is not None else np.zeros_like(train)
        weights = dict(enumerate(weights_S or [1.0]))
        present = np.unique(sources).tolist()
        total = sum(weights[source] for source in present)
        times = np.zeros(len(self.ranks_N), np.int64)
        for source in present:
            mine = sources == source
            ends = np.cumsum(sizes[mine])
            passes, rest = divmod(int(most * weights[source] / total), int(ends[-1]))
            times[train[mine]] = passes + (ends <= rest)
        if not times.any():
            times[train[:1]] = 1
        return times

    def kept_by_unit(self, num_units: int) -> list[npt.NDArray[np.bool_]]:
        """Which pieces of each unit are kept."""
        ends = np.cumsum(np.bincount(self.reading.units, minlength=num_units))[:-1]
        return np.split(self.ranks_N >= 0, ends)

    def places(self, counts: Sequence[int]) -> Places:
        """Where kept pieces go; here they stand in the order of units."""
        kept = np.flatnonzero(self.ranks_N >= 0)
        ranks = self.ranks_N[kept]
        return Places(self.parts_K[ranks], self.sources_N[kept], np.argsort(ranks), counts)
