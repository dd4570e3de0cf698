"""Which part a document goes into: near-duplicates together, by what stands in them alone.

Shapes: N documents in the order of their hashes, G groups of near-duplicates.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

HELD_OUT = ("validation", "test")
PARTS = ("train", *HELD_OUT)
TRAIN = PARTS.index("train")
HELD_OUT_SHARE = 0.05
"""Of the bytes, for validation and for test each."""
MOST_OFF = 2.0
"""So many times more or less may a held-out part have, where hashes alone decide."""

Integers = npt.NDArray[np.int64]
Parts = npt.NDArray[np.uint8]


def split(
    hashes_N: npt.NDArray[np.uint64], sizes_N: npt.NDArray[Any], roots_N: Integers
) -> tuple[Parts, Literal["hash", "filled"]]:
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
    places_G = hashes_N[first_G].astype(np.float64) / 2.0**64
    parts_G = np.full(len(first_G), TRAIN, np.uint8)
    for number, part in enumerate(HELD_OUT):
        low = number * HELD_OUT_SHARE
        parts_G[(places_G >= low) & (places_G < low + HELD_OUT_SHARE)] = PARTS.index(part)
    parts_G[large_G] = TRAIN
    held_out = np.bincount(parts_G, sizes_G, len(PARTS))[[PARTS.index(part) for part in HELD_OUT]]
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
