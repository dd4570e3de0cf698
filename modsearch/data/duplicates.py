"""Near-duplicates among documents, so that they go into one part together.

A shingle is a run of `SHINGLE` bytes. One in `RATE`, chosen by its hash and so the same ones in
every document, stands for all (Broder 1997, "On the resemblance and containment of documents").
Documents that share many are linked: of those with a shingle each to the first one, and to the
one before it, so that work and memory grow with the text and not with its square.

Shingles come in partitions by their hashes: what is the same stands in one of them, and no more
than one is in memory.

Shapes: N sampled shingles of a partition, P pairs of documents.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SHINGLE = 50
RATE = 16
"""A power of two."""
LINKING_SHARE = 0.1
"""Of the smaller document's shingles: so much in common makes two documents near-duplicates."""
FEWEST_SHARED = 2
COMMON_SHARE = 0.25
"""A shingle of more of the documents than this links none: it is of a licence, or of a form."""
FEW_DOCUMENTS = 8
"""In so many of them no shingle is too common."""
CHUNK = 1 << 15
"""Bytes that are hashed at once: as many as a fast cache holds with what is made of them."""

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int32]
Partition = tuple[Hashes, Places]
"""Hashes (N,) and the documents (N,) that have them, each once; ordered by hash."""


def shingles(documents: Sequence[bytes]) -> Partition:
    """A sample of all shingles of documents."""
    stream = np.frombuffer(b"".join(documents), np.uint8)
    ends = np.cumsum([len(text) for text in documents], dtype=np.int64)
    hashes, owners = [], []
    for start in range(0, len(stream) - SHINGLE + 1, CHUNK):
        hashed = _hashes(stream[start : start + CHUNK + SHINGLE - 1])
        places = np.flatnonzero(hashed & np.uint64(RATE - 1) == 0)
        of_place = np.searchsorted(ends, places + start, side="right")
        inside = places + start + SHINGLE <= ends[of_place]
        hashes.append(hashed[places[inside]])
        owners.append(of_place[inside].astype(np.int32))
    hashes_N, documents_N = joined(
        [*hashes, np.empty(0, np.uint64)], [*owners, np.empty(0, np.int32)]
    )
    # The order of documents stays, where hashes are the same: repeats are neighbours.
    new = (hashes_N[1:] != hashes_N[:-1]) | (documents_N[1:] != documents_N[:-1])
    kept = np.append(True, new)[: len(hashes_N)]
    return hashes_N[kept], documents_N[kept]


def joined(hashes: Sequence[Hashes], documents: Sequence[Places]) -> Partition:
    """Several as one; fast where each is in order, since a stable sort finds that."""
    hashes_N, documents_N = np.concatenate(hashes), np.concatenate(documents)
    order_N = np.argsort(hashes_N, kind="stable")
    return hashes_N[order_N], documents_N[order_N]


def labels(partitions: Iterable[Partition], num_documents: int) -> Integers:
    """The first document of each one's group of near-duplicates (num_documents,)."""
    sizes = np.zeros(num_documents, np.int64)
    codes, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for partition in partitions:
        found, without_common = _shared(partition, num_documents)
        sizes += without_common
        codes, places = np.unique(np.concatenate([codes, found[0]]), return_inverse=True)
        counts = np.bincount(
            places, np.concatenate([counts, found[1]]), minlength=len(codes)
        ).astype(np.int64)
    pairs = np.stack(np.divmod(codes, max(1, num_documents)), axis=1)
    wanted = np.maximum(FEWEST_SHARED, LINKING_SHARE * sizes[pairs].min(axis=1, initial=2**62))
    low_P, high_P = pairs[counts >= wanted].T
    graph = coo_array((np.ones(len(low_P), bool), (low_P, high_P)), (num_documents, num_documents))
    _, of = connected_components(graph, directed=False)
    _, first, group = np.unique(of, return_index=True, return_inverse=True)
    roots: Integers = first[group].astype(np.int64)
    return roots


def _shared(
    partition: Partition, num_documents: int
) -> tuple[tuple[Integers, Integers], Integers]:
    """Pairs of documents with how many shingles they share, and each one's own, without common
    ones."""
    hashes_N, documents_N = partition
    sizes = np.bincount(documents_N, minlength=num_documents)
    same = hashes_N[1:] == hashes_N[:-1]
    several_N = np.append(same, False) | np.append(False, same)[: len(hashes_N)]
    hashes_N, documents_N = hashes_N[several_N], documents_N[several_N]
    documents_N = documents_N[np.lexsort((documents_N, hashes_N))]
    starts = np.flatnonzero(np.diff(hashes_N, prepend=hashes_N[:1] + np.uint64(1)))
    counts = np.diff(starts, append=len(hashes_N))
    first_N, count_N = np.repeat(starts, counts), np.repeat(counts, counts)
    common_N = count_N > max(FEW_DOCUMENTS, int(COMMON_SHARE * num_documents))
    sizes -= np.bincount(documents_N[common_N], minlength=num_documents)
    later = np.flatnonzero(~common_N & (np.arange(len(first_N)) > first_N))
    third = later[later - first_N[later] > 1]  # whose neighbour is another than the first
    low = documents_N[np.concatenate([first_N[later], third - 1])].astype(np.int64)
    high = documents_N[np.concatenate([later, third])]
    codes, shared = np.unique(low * num_documents + high, return_counts=True)
    return (codes, shared.astype(np.int64)), sizes


def copied(
    partitions: Iterable[Partition], parts: npt.NDArray[np.uint8], train: int, num_parts: int
) -> list[float]:
    """Share of each part's shingles that stand verbatim in the `train` part; about the share of
    their positions. `parts` has the part of each document."""
    all_P, known_P = np.zeros(num_parts), np.zeros(num_parts)
    for hashes_N, documents_N in partitions:
        part_N = parts[documents_N]
        starts = np.flatnonzero(np.diff(hashes_N, prepend=hashes_N[:1] + np.uint64(1)))
        known = np.logical_or.reduceat(part_N == train, starts) if len(starts) else starts
        in_train = np.repeat(known, np.diff(starts, append=len(hashes_N))).astype(bool)
        all_P += np.bincount(part_N, minlength=num_parts)
        known_P += np.bincount(part_N[in_train], minlength=num_parts)
    found: list[float] = (known_P / np.maximum(all_P, 1)).tolist()
    return found


def _hashes(text: npt.NDArray[np.uint8]) -> Hashes:
    """Of every shingle: a polynomial of what stands in it, modulo 2^64, from sums over all before
    (Karp & Rabin 1987), mixed."""
    powers, inverses = _POWERS[: len(text)], _INVERSES[: len(text) - SHINGLE + 1]
    sums = np.empty(len(text) + 1, np.uint64)
    sums[0] = 0
    np.cumsum(_LETTERS[text] * powers, out=sums[1:])
    hashes = (sums[SHINGLE:] - sums[:-SHINGLE]) * inverses
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(29)
    return hashes


def _powers(base: int, count: int) -> Hashes:
    """Of a base modulo 2^64."""
    found = np.full(count, base, np.uint64)
    found[0] = 1
    return np.multiply.accumulate(found)


_BASE = 0x9E3779B97F4A7C15
_POWERS = _powers(_BASE, CHUNK + SHINGLE)
_INVERSES = _powers(pow(_BASE, -1, 2**64), CHUNK + SHINGLE)
_LETTERS = np.random.Generator(np.random.Philox(0)).integers(2**64, size=256, dtype=np.uint64)
