"""Documents for tasks that need no network: drawn from held-out text, or made by a generator.

Each kind is a pure function of its options, the held-out tokens and a seed.
"""

import json
import random
import string
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from re import finditer
from typing import Any

import numpy as np
from pydantic import Field

from modsearch.data import END_OF_DOCUMENT, Tokens
from modsearch.errors import DataError
from modsearch.schema import Frozen


@dataclass(frozen=True)
class Origin:
    """What sources draw documents from."""

    held_out: Tokens
    """Of the part that is scored."""
    seed: int
    folder: Path
    """Of the suite's file."""


class Source(Frozen, ABC):
    """Options of one kind of documents, as `dataset_kwargs` states them."""

    @abstractmethod
    def documents(self, origin: Origin) -> list[dict[str, Any]]:
        """Documents as lm-eval takes them; a pure function of the options and the origin.

        Raises:
            DataError: the held-out text is too short.
        """


class Excerpts(Source):
    """Passages of held-out text: `text`."""

    num: int = Field(gt=0)
    size: int = Field(gt=1)
    """Most bytes of each."""

    def documents(self, origin: Origin) -> list[dict[str, Any]]:
        """Passages in random places that don't overlap."""
        passages = _passages(origin, self.size)
        return _first(self.num, ({"text": passage} for passage in passages), origin)


class SwappedWords(Source):
    """Minimal pairs in the manner of BLiMP (Warstadt et al. 2020): a passage, and the same with
    two neighbouring words swapped: `context`, `passages`, and `right`, an index."""

    num: int = Field(gt=0)
    context: int = Field(gt=0)
    """About as many bytes stand before each passage."""
    size: int = Field(gt=15)
    """About as many bytes has a passage."""

    def documents(self, origin: Origin) -> list[dict[str, Any]]:
        """Pairs in random order and places."""
        return _first(self.num, self._pairs(origin), origin)

    def _pairs(self, origin: Origin) -> Iterator[dict[str, Any]]:
        draw = random.Random(origin.seed)
        for text in _passages(origin, self.context + self.size):
            about = len(text) * self.context // (self.context + self.size)
            start = next((m.end() for m in finditer(r"\s+", text) if m.end() >= about), 0)
            passage = text[start:]
            # The last word may be cut.
            words = list(finditer(r"\w+", passage))[:-1]
            pairs = [(a, b) for a, b in pairwise(words) if a[0] != b[0]]
            if start == 0 or not pairs:
                continue
            a, b = draw.choice(pairs)
            between = passage[a.end() : b.start()]
            swapped = passage[: a.start()] + b[0] + between + a[0] + passage[b.end() :]
            # lm-eval takes the first of equal scores, so the right one must not always be first.
            right = draw.randrange(2)
            passages = [passage, swapped] if right == 0 else [swapped, passage]
            yield {"context": text[:start], "passages": passages, "right": right}


class Recall(Source):
    """Names with values, then one of the names: `question`, `values`, and `right`, an index."""

    num: int = Field(gt=0)
    names: int = Field(gt=1, le=20)

    def documents(self, origin: Origin) -> list[dict[str, Any]]:
        """Questions; they don't depend on the text."""
        draw = random.Random(origin.seed)
        return [self._question(draw) for _ in range(self.num)]

    def _question(self, draw: random.Random) -> dict[str, Any]:
        pairs = [a + b for a in string.ascii_lowercase for b in string.ascii_lowercase]
        names = draw.sample(pairs, self.names)
        values = [f" {value}" for value in draw.sample(range(100, 1000), self.names)]
        right = draw.randrange(self.names)
        lines = [f"{name} ={value}\n" for name, value in zip(names, values, strict=True)]
        return {"question": "".join(lines) + f"{names[right]} =", "values": values, "right": right}


class JsonLines(Source):
    """The rows of a JSONL file, as they are."""

    file: str
    """Relative to the suite's file."""

    def documents(self, origin: Origin) -> list[dict[str, Any]]:
        """All rows, in order."""
        path = origin.folder / Path(self.file).expanduser()
        try:
            lines = path.read_text().splitlines()
            return [json.loads(line) for line in lines if line.strip()]
        except (OSError, ValueError) as error:
            raise DataError(f"can't read {path}: {error}") from error


SOURCES: dict[str, type[Source]] = {
    "excerpts": Excerpts,
    "swapped_words": SwappedWords,
    "recall": Recall,
    "jsonl": JsonLines,
}


def _passages(origin: Origin, size: int) -> Iterator[str]:
    """Pieces of held-out text of at most `size` bytes, in random order; none overlap.

    A piece is the longest part of a block that lies in one document, and at least half of it.
    """
    num_blocks = len(origin.held_out) // size
    for block in np.random.default_rng(origin.seed).permutation(num_blocks):
        tokens = origin.held_out[block * size : (block + 1) * size]
        piece = max(tokens.tobytes().split(bytes([END_OF_DOCUMENT])), key=len)
        # A block may cut characters at its ends; anything else that is dropped is not UTF-8.
        text = piece.decode(errors="ignore")
        if len(piece) >= size // 2 and text.strip() and text.encode() in piece:
            yield text


def _first(num: int, rows: Iterator[dict[str, Any]], origin: Origin) -> list[dict[str, Any]]:
    found = [row for _, row in zip(range(num), rows, strict=False)]
    if len(found) < num:
        raise DataError(
            f"the held-out text of {len(origin.held_out):,} bytes gives {len(found)} documents, "
            f"{num} are asked for\nuse a larger corpus, or a suite that asks for less"
        )
    return found
