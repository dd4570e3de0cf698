"""How much each of several sources has of a whole, by their weights."""

from collections.abc import Sequence

import numpy as np


def shared(count: int, weights: Sequence[float]) -> list[int]:
    """A count in whole shares by weight (largest remainders)."""
    exact = count * np.array(weights) / sum(weights)
    found = np.floor(exact).astype(int)
    most = np.argsort(found - exact, kind="stable")[: count - int(found.sum())]
    found[most] += 1
    counts: list[int] = found.tolist()
    return counts


def taken(most: int, sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """How much of each size makes `most` together, by weight: what has less than its share gives
    all, and the others more. Everything where that is not more than `most`."""
    found = [0] * len(sizes)
    left, weight = most, sum(weights)
    for place in sorted(range(len(sizes)), key=lambda each: sizes[each] / weights[each]):
        found[place] = min(sizes[place], int(left * weights[place] / weight))
        left -= found[place]
        weight -= weights[place]
    return list(sizes) if sum(sizes) <= most else found
