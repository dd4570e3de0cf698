"""Keys of the tokens so far: what a choice is drawn by that must be known at t, differ between
sequences and not depend on the batch.

Shapes: B sequences, T positions.
"""

from torch import Tensor

from modsearch.nn.cache import LayerCache

OFFSET = 0x1E3779B97F4A7C15
"""So that position 0 counts, whose hash would be 0."""


def running_keys(
    tokens_BT: Tensor, positions_BT: Tensor, valid_BT: Tensor | None, cache: LayerCache | None
) -> Tensor:
    """A 64-bit key of each sequence's tokens up to each row (B, T): a sum that wraps around, of
    the tokens with a factor of their positions. A cache continues it from call to call."""
    terms_BT = hashed(positions_BT + OFFSET) * (tokens_BT + 1)
    if valid_BT is not None:
        terms_BT = terms_BT.masked_fill(~valid_BT, 0)
    keys_BT = terms_BT.cumsum(dim=1)
    if cache is not None:
        keys_BT = keys_BT + cache.key_A[:, None]
        cache.set_key(keys_BT[:, -1])
    return keys_BT


def hashed(counter: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele et al. 2014) on signed 64-bit numbers."""
    state = counter
    for shift, multiplier in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        shifted = (state >> shift) & ((1 << (64 - shift)) - 1)
        state = (state ^ shifted) * multiplier
    return state ^ ((state >> 31) & 0x1FFFFFFFF)
