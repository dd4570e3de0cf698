"""Which part a document goes into: near-duplicates together, by what stands in them alone.

Shapes: N documents in the order of their hashes, G groups of near-duplicates, S sources.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from modsearch.config.data import Rule

HELD_OUT = ("validation", "test")
PARTS = ("train", *HELD_OUT)
TRAIN = PARTS.index("train")
HELD_OUT_SHARE = 0.05
"""Of the bytes of a source, for validation and for test each."""
MOST_OFF = 2.0
"""So many times more or less may a held-out part have, where hashes alone decide."""

Integers = npt.NDArray[np.int64]
Parts = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


def split_sources(
    hashes_N: npt.NDArray[np.uint64],
    sizes_N: npt.NDArray[Any],
    roots_N: Integers,
    sources_N: Integers,
    num_sources: int,
) -> tuple[Parts, list[Rule]]:
    """The same for several sources, each of which has held-out text of its own if it has documents
    enough, and how that was found of each.

    Hashes alone decide where that gives a source what it should have, so that more text of another
    one moves none of its documents. Where a source has none but large documents, single ones are
    held out, too, as long as it keeps half of its text for training. Groups are taken apart only
    where otherwise nothing of the corpus were held out.

    Args:
        hashes_N: ascending; the first 64 bits.
        sizes_N: bytes.
        roots_N: the first document of each one's group, which may be of several sources.
        sources_N: the source of each document.
        num_sources: how many there are.
    """
    first_G, group_N = np.unique(roots_N, return_inverse=True)
    places_N = group_N * num_sources + sources_N
    sizes_GS = np.bincount(places_N, sizes_N, len(first_G) * num_sources)
    sizes_GS = sizes_GS.reshape(len(first_G), num_sources)
    targets_S = HELD_OUT_SHARE * sizes_GS.sum(axis=0)
    large_G = (sizes_GS > targets_S).any(axis=1)
    alone_G = np.bincount(group_N) == 1
    parts_G = _by_hash(hashes_N[first_G], large_G)
    held_out_PS = _held_out(parts_G, sizes_GS)
    filled_S = (held_out_PS.min(axis=0) < targets_S / MOST_OFF) | (
        held_out_PS.max(axis=0) > targets_S * MOST_OFF
    )
    free_G = np.full(len(first_G), True)
    for source in np.argsort(targets_S, kind="stable"):  # a group of two is the smaller's
        if filled_S[source]:
            mine = np.flatnonzero(free_G & (sizes_GS[:, source] > 0))
            parts_G[mine] = _of_source(
                sizes_GS[mine, source], large_G[mine], alone_G[mine], float(targets_S[source])
            )
            free_G[mine] = False
    if _held_out(parts_G, sizes_GS).any(axis=1).all():
        return parts_G[group_N], ["filled" if filled else "hash" for filled in filled_S]
    parts_N, rule = split(hashes_N, sizes_N, roots_N)
    return parts_N, [rule] * num_sources


def split(
    hashes_N: npt.NDArray[np.uint64], sizes_N: npt.NDArray[Any], roots_N: Integers
) -> tuple[Parts, Rule]:
    """The part (N,) of each document, as its place in `PARTS`, and how it was found.

    A group goes by the hash of its first document, so that more text moves none that is not near
    to it. Where that leaves a held-out part too small or too large, as it does with few documents,
    parts are filled in the order of hashes. A group that is larger than a held-out part is trained
    on; where the others do not fill those parts, such groups are taken apart: `CorpusFacts` says
    how much then stands in two parts.

    Args:
        hashes_N: ascending; the first 64 bits.
        sizes_N: bytes.
        roots_N: the first document of each one's group.
    """
    first_G, group_N = np.unique(roots_N, return_inverse=True)
    sizes_G = np.bincount(group_N, sizes_N)
    target = HELD_OUT_SHARE * float(sizes_G.sum())
    large_G = sizes_G > target
    parts_G = _by_hash(hashes_N[first_G], large_G)
    held_out = _held_out(parts_G, sizes_G[:, None])
    if held_out.min() >= target / MOST_OFF and held_out.max() <= target * MOST_OFF:
        return parts_G[group_N], "hash"
    parts_G, full = _filled(np.where(large_G, 0, sizes_G), target)
    parts_G[large_G] = TRAIN
    if full:
        return parts_G[group_N], "filled"
    # Each document of a large group alone, all in the order of their hashes.
    alone_N = np.where(large_G[group_N], np.arange(len(roots_N)), roots_N)
    first_G, group_N = np.unique(alone_N, return_inverse=True)
    parts_G, _ = _filled(np.bincount(group_N, sizes_N), target)
    return parts_G[group_N], "filled"


def _by_hash(hashes_G: npt.NDArray[np.uint64], large_G: Flags) -> Parts:
    """Held-out parts take hashes of a range each; what is large is trained on."""
    places_G = hashes_G.astype(np.float64) / 2.0**64
    parts_G = np.full(len(hashes_G), TRAIN, np.uint8)
    for number, part in enumerate(HELD_OUT):
        low = number * HELD_OUT_SHARE
        parts_G[(places_G >= low) & (places_G < low + HELD_OUT_SHARE)] = PARTS.index(part)
    parts_G[large_G] = TRAIN
    return parts_G


def _held_out(parts_G: Parts, sizes_GS: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of each source in each held-out part (parts, S)."""
    return np.stack([sizes_GS[parts_G == PARTS.index(part)].sum(axis=0) for part in HELD_OUT])


def _of_source(sizes_G: npt.NDArray[Any], large_G: Flags, alone_G: Flags, target: float) -> Parts:
    """Parts of one of several sources, filled with what is not large, or else with single
    documents too; all trained on where neither fills them, or little is left."""
    for skipped_G in (large_G, large_G & ~alone_G):
        parts_G, full = _filled(np.where(skipped_G, 0, sizes_G), target)
        parts_G[skipped_G] = TRAIN
        if full and 2 * sizes_G[parts_G == TRAIN].sum() >= sizes_G.sum():
            return parts_G
    return np.full(len(sizes_G), TRAIN, np.uint8)


def _filled(sizes_G: npt.NDArray[Any], target: float) -> tuple[Parts, bool]:
    """Groups to parts in their order, and whether the held-out ones have what they should."""
    parts_G = np.full(len(sizes_G), TRAIN, np.uint8)
    start = 0
    for part in HELD_OUT:
        taken = np.cumsum(sizes_G[start:])
        end = start + int(np.searchsorted(taken, target)) + 1
        parts_G[start:end] = PARTS.index(part)
        if end - start > len(taken):
            return parts_G, False
        start = end
    return parts_G, True
