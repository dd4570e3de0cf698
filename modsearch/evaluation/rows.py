"""What is scored, as tokens: cut to windows, and rows that begin alike put together."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from lm_eval.utils import get_rolling_token_windows

Row = tuple[list[int], list[int]]
"""Input tokens, and the targets of the last of them."""

ROW_COST = 32
"""Tokens that must be saved for each row of a family, so that its caches pay: measured on models
of 20 thousand parameters, for which copies and masks of caches weigh most."""

COMPARED = 1024
"""Rows at a time."""
NO_TOKEN = 2**32 - 1


@dataclass(frozen=True)
class Family:
    """Rows whose inputs have their first tokens in common."""

    members: list[int]
    shared: int
    """Tokens in common; of one row alone all of its inputs."""
    rest: int
    """Tokens of its longest row after those."""


def windows(context: list[int], continuation: list[int], max_length: int) -> Iterator[Row]:
    """Rows that score every token of a continuation once, after a context of at least one.

    Context and continuation are cut from the left to `max_length` inputs, as lm-eval's own model
    `hf` cuts them. A continuation that exceeds it alone, which that model refuses, is scored in
    windows as a whole text is: all of the first one, then as many as are left, each time after
    as long a context as fits.
    """
    if len(continuation) <= max_length:
        yield [*context, *continuation[:-1]][-max_length:], continuation
    else:
        yield from rolling(continuation, context[-1], max_length)


def rolling(tokens: list[int], first: int, max_length: int) -> Iterator[Row]:
    """Windows of a whole text after the token `first`; lm-eval's own."""
    yield from get_rolling_token_windows(tokens, first, max_length, 1)


def families(rows: Sequence[Row], most: int) -> list[Family]:
    """Each row in one family of at most so many, so that few tokens are processed twice."""
    # None pays that shares fewer tokens, and most rows share less with any other.
    heads: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, (inputs, _) in enumerate(rows):
        heads[tuple(inputs[: ROW_COST + 1])].append(row)
    found = []
    for alike in heads.values():
        if len(alike) == 1:
            found.append(Family(alike, len(rows[alike[0]][0]), 0))
        else:
            found += _related(rows, alike, most)
    return found


def _related(rows: Sequence[Row], alike: Sequence[int], most: int) -> list[Family]:
    """Families among rows with one head.

    Sorted rows are the leaves of a tree whose nodes are common prefixes; a node becomes a family
    where that saves more than the families below it do together.
    """
    # As bytes whose order is that of the tokens.
    keys = {row: np.array(rows[row][0], ">u4").tobytes() for row in alike}
    order = sorted(alike, key=keys.__getitem__)
    depths = _common([keys[row] for row in order])
    found = []
    for start, stop, depth in _best(depths):
        for first in range(start, stop, most):
            members = order[first : min(first + most, stop)]
            longest = max(len(rows[member][0]) for member in members)
            shared = depth if len(members) > 1 else longest
            found.append(Family(members, shared, longest - shared))
    return found


def _common(keys: Sequence[bytes]) -> list[int]:
    """Tokens that each key and the next one begin with."""
    depths: list[int] = []
    for start in range(0, len(keys) - 1, COMPARED):
        some = keys[start : start + COMPARED + 1]
        longest = max(map(len, some))
        # Beyond a row's end stands what no token is.
        tokens_RT = np.frombuffer(b"".join(key.ljust(longest, b"\xff") for key in some), ">u4")
        tokens_RT = tokens_RT.reshape(len(some), -1)
        same_RT = (tokens_RT[1:] == tokens_RT[:-1]) & (tokens_RT[1:] != NO_TOKEN)
        depths += np.logical_and.accumulate(same_RT, axis=1).sum(axis=1).tolist()
    return depths


@dataclass
class _Node:
    """Sorted rows from `start` on that share `depth` tokens, and the best families below."""

    start: int
    depth: int
    gain: int
    parts: list[tuple[int, int, int]]


def _best(depths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Families as (first row, row after the last, shared tokens), of the tokens that neighbours
    among sorted rows share."""
    roots: list[tuple[int, int, int]] = []
    stack: list[_Node] = []
    for row, depth in enumerate([*depths, 0]):
        node = _Node(row, 0, 0, [(row, row + 1, 0)])
        while stack and stack[-1].depth > depth:
            node = _closed(stack.pop(), node, row + 1)
        if stack and stack[-1].depth == depth:
            stack[-1].gain += node.gain
            stack[-1].parts += node.parts
        elif depth:
            stack.append(_Node(node.start, depth, node.gain, node.parts))
        else:
            roots += node.parts
    return roots


def _closed(node: _Node, last: _Node, stop: int) -> _Node:
    """A node with its last child: one family, or those below it."""
    size = stop - node.start
    own = (size - 1) * node.depth - size * ROW_COST
    below = node.gain + last.gain
    if own > below:
        return _Node(node.start, 0, own, [(node.start, stop, node.depth)])
    return _Node(node.start, 0, below, node.parts + last.parts)
