"""Near-duplicates among documents, so that they go into one part together.

A shingle is a run of `SHINGLE` bytes. One in `RATE`, chosen by its hash and so the same ones in
every document, stands for all (Broder 1997, "On the resemblance and containment of documents").
Documents that share many are linked: of those with a shingle each to the first one, and to the
one before it, so that work and memory grow with the text and not with its square.

Shapes: N sampled shingles, P pairs of documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHINGLE = 50
RATE = 16
LINKING_SHARE = 0.1
"""Of the smaller document's shingles: so much in common makes two documents near-duplicates."""
FEWEST_SHARED = 2
COMMON_SHARE = 0.25
"""A shingle of more of the documents than this links none: it is of a licence, or of a form."""
FEW_DOCUMENTS = 8
"""In so many of them no shingle is too common."""
CHUNK = 1 << 20
"""Bytes that are hashed at once."""

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Shingles:
    """The sampled shingles of documents, ordered by hash and document."""

    num_documents: int
    hashes_N: Hashes
    documents_N: npt.NDArray[np.int32]

    def groups(self) -> list[list[int]]:
        """All documents, near-duplicates together; groups and their members in order."""
        roots = list(range(self.num_documents))

        def root(document: int) -> int:
            while roots[document] != document:
                roots[document] = roots[roots[document]]
                document = roots[document]
            return document

        for one, other in self._links().tolist():
            low, high = sorted((root(one), root(other)))
            roots[high] = low  # so that a root is its group's first document
        found: dict[int, list[int]] = {}
        for document in range(self.num_documents):
            found.setdefault(root(document), []).append(document)
        return list(found.values())

    def copied(self, documents: Sequence[int], others: Sequence[int]) -> float:
        """Share of some documents' shingles that stand verbatim in the other ones; about the
        share of their positions."""
        mine, theirs = (
            self.hashes_N[np.isin(self.documents_N, chosen)] for chosen in (documents, others)
        )
        return float(np.isin(mine, theirs).mean()) if len(mine) else 0.0

    def _links(self) -> Integers:
        """Pairs (P, 2) of near-duplicates."""
        hashes_N, documents_N = self._once_a_document()
        sizes = np.bincount(documents_N, minlength=self.num_documents)
        same = hashes_N[1:] == hashes_N[:-1]
        several_N = np.append(same, False) | np.append(False, same)[: len(hashes_N)]
        hashes_N, documents_N = hashes_N[several_N], documents_N[several_N]
        starts = np.flatnonzero(np.diff(hashes_N, prepend=hashes_N[:1] + np.uint64(1)))
        counts = np.diff(starts, append=len(hashes_N))
        first_N, count_N = np.repeat(starts, counts), np.repeat(counts, counts)
        common_N = count_N > max(FEW_DOCUMENTS, int(COMMON_SHARE * self.num_documents))
        sizes -= np.bincount(documents_N[common_N], minlength=self.num_documents)
        later = np.flatnonzero(~common_N & (np.arange(len(first_N)) > first_N))
        third = later[later - first_N[later] > 1]  # whose neighbour is another than the first
        low = documents_N[np.concatenate([first_N[later], third - 1])].astype(np.int64)
        high = documents_N[np.concatenate([later, third])]
        codes, shared = np.unique(low * self.num_documents + high, return_counts=True)
        pairs = np.stack(np.divmod(codes, max(1, self.num_documents)), axis=1)
        wanted = np.maximum(FEWEST_SHARED, LINKING_SHARE * sizes[pairs].min(axis=1))
        links: Integers = pairs[shared >= wanted]
        return links

    def _once_a_document(self) -> tuple[Hashes, npt.NDArray[np.int32]]:
        """Shingles and documents, without what a document repeats."""
        new = self.hashes_N[1:] != self.hashes_N[:-1]
        new |= self.documents_N[1:] != self.documents_N[:-1]
        kept = np.append(True, new)[: len(self.hashes_N)]
        return self.hashes_N[kept], self.documents_N[kept]


def shingles(documents: Sequence[bytes]) -> Shingles:
    """A sample of all shingles of documents."""
    stream = np.frombuffer(b"".join(documents), np.uint8)
    ends = np.cumsum([len(text) for text in documents], dtype=np.int64)
    hashes, owners = [], []
    for start in range(0, len(stream) - SHINGLE + 1, CHUNK):
        hashed = _hashes(stream[start : start + CHUNK + SHINGLE - 1])
        places = np.flatnonzero(hashed % np.uint64(RATE) == 0)
        of_place = np.searchsorted(ends, places + start, side="right")
        inside = places + start + SHINGLE <= ends[of_place]
        hashes.append(hashed[places[inside]])
        owners.append(of_place[inside].astype(np.int32))
    hashes_N = np.concatenate([*hashes, np.empty(0, np.uint64)])
    documents_N = np.concatenate([*owners, np.empty(0, np.int32)])
    del hashes, owners, stream  # a large corpus has many
    order_N = np.argsort(hashes_N, kind="stable")
    return Shingles(len(documents), hashes_N[order_N], documents_N[order_N])


def _hashes(text: npt.NDArray[np.uint8]) -> Hashes:
    """Of every shingle: those of 1, 2, 4, ... 32 bytes by twos, and of 50 from two of 32."""
    hashes = text.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hashes ^= hashes >> np.uint64(29)
    length = 1
    while 2 * length <= SHINGLE:
        hashes = _mixed(hashes, length)
        length *= 2
    return _mixed(hashes, SHINGLE - length) if length < SHINGLE else hashes


def _mixed(hashes: Hashes, shift: int) -> Hashes:
    """Of each with the one that stands so much later; wraps around."""
    mixed = hashes[:-shift] * np.uint64(0xBF58476D1CE4E5B9) + hashes[shift:]
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(29)
    return mixed
