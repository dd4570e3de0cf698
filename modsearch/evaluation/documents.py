"""Documents for tasks that need no network: drawn from held-out text, or made by a generator.

Each kind is a pure function of its options, the held-out tokens and a seed.
"""

import json
import math
import os
import random
import string
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from re import finditer
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from modsearch.config.base import Stated
from modsearch.data.text import END_OF_TEXT
from modsearch.errors import DataError, has_surrogates, shown

MOST_DOCUMENTS = 100_000
MOST_BYTES = 1_000_000
WHOLE_TEXTS = "texts"
"""The source that scores files themselves."""


@dataclass(frozen=True)
class Origin:
    """What sources draw documents from."""

    held_out: npt.NDArray[np.uint8]
    """UTF-8 of the part that is scored; a zero ends each document."""
    seed: int
    folder: Path
    """Of the suite's file."""
    texts: Sequence[bytes] = ()
    """What the files that `--corpus` names have in them."""


class Source(Stated, ABC):
    """Options of one kind of documents, as `dataset_kwargs` states them."""

    @abstractmethod
    def documents(self, origin: Origin) -> list[dict[str, Any]]:
        """Documents as lm-eval takes them; a pure function of the options and the origin.

        Raises:
            DataError: the held-out text is too short.
        """


class Excerpts(Source):
    """Passages of held-out text: `text`."""

    num: int = Field(gt=0, le=MOST_DOCUMENTS)
    size: int = Field(gt=1, le=MOST_BYTES)
    """Most bytes of each."""

    def documents(self, origin: Origin) -> list[dict[str, Any]]:
        """Passages in random places that don't overlap."""
        passages = _passages(origin, self.size)
        return _first(self.num, ({"text": passage} for passage in passages), origin)


class SwappedWords(Source):
    """Minimal pairs in the manner of BLiMP (Warstadt et al. 2020): a passage, and the same with
    two neighbouring words swapped: `context`, `passages`, and `right`, an index."""

    num: int = Field(gt=0, le=MOST_DOCUMENTS)
    context: int = Field(gt=0, le=MOST_BYTES)
    """About as many bytes stand before each passage."""
    size: int = Field(gt=15, le=MOST_BYTES)
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

    num: int = Field(gt=0, le=MOST_DOCUMENTS)
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

    def path(self, folder: Path) -> Path:
        """Where the file is, for a suite in a folder."""
        return folder / os.path.expanduser(self.file)

    def content(self, folder: Path) -> bytes:
        """What is in the file.

        Raises:
            DataError: it can't be read.
        """
        path = self.path(folder)
        try:
            return path.read_bytes()
        except (OSError, ValueError) as error:
            raise DataError(f"can't read {path}: {_reason(error)}") from error

    def documents(self, origin: Origin) -> list[dict[str, Any]]:
        """All rows, in order.

        Rows that differ in keys or types are refused: what reads them next makes one table of
        them, and would fill gaps and change values by what stands first.
        """
        kinds: Any = None
        path, rows = self.path(origin.folder), []
        for number, row in _numbered(path, self.content(origin.folder)):
            try:
                kinds = _agreed(kinds, _kinds(row), where="")
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: {_reason(error)}") from error
            rows.append(row)
        return rows


def json_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file.

    Raises:
        DataError: it can't be read, has none, or one that is no JSON object.
    """
    return [row for _, row in _numbered(path, JsonLines(file=path.name).content(path.parent))]


def _numbered(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with the numbers of their lines; one at least."""
    none = True
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, _row(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: {_reason(error)}") from error
        none = False
    if none:
        raise DataError(f"{path} has no rows\nit takes one JSON object a line")


class WholeTexts(Source):
    """The texts that `--corpus` names, each as a whole: `text`. All of them, not a part that was
    held out: what a model was trained on is for the one who names them to know."""

    def documents(self, origin: Origin) -> list[dict[str, Any]]:
        """Texts that are not empty, each once, in order of their files; what is not UTF-8 becomes
        the replacement character."""
        found = (text.decode(errors="replace") for text in origin.texts)
        rows = [{"text": text} for text in dict.fromkeys(found) if text.strip()]
        if not rows:
            raise DataError("no text to score\nname files with --corpus")
        return rows


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "values are nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)


def _row(line: bytes) -> dict[str, Any]:
    """One line of a JSONL file.

    Raises:
        ValueError: it is no JSON object, or holds what has no one meaning.
    """
    row = json.loads(
        line.decode(), object_pairs_hook=_mapping, parse_constant=_constant, parse_float=_finite
    )
    if not isinstance(row, dict):
        raise ValueError(f"a row is a JSON object, but got {shown(row)}")
    if b"\\u" in line and has_surrogates(json.dumps(row, ensure_ascii=False)):
        raise ValueError("a text holds half of a character, a lone \\ud800 to \\udfff")
    return row


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {shown(twice)} stands twice")
    return found


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{shown(text)} is too large a number")
    return value


def _kinds(value: object, where: str = "") -> Any:
    """A value with kinds in place of what is in it; `[]` where a list is empty.

    Raises:
        ValueError: what is in a list is not all of one kind, or a number has over 64 bits.
    """
    if isinstance(value, dict):
        return {
            key: _kinds(each, f"{where}.{key}" if where else key) for key, each in value.items()
        }
    if isinstance(value, list):
        kinds: Any = None
        for each in value:
            kinds = _agreed(kinds, _kinds(each, f"{where}[]"), f"{where}[]")
        return [] if kinds is None else [kinds]
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{shown(where)} is too large a number")
    return KINDS[type(value)]


def _agreed(before: Any, now: Any, where: str) -> Any:
    """The kinds of two values, which must be the same but for lists that are empty.

    Raises:
        ValueError: they differ in keys or kinds.
    """
    if before is None or before == now or (before == [] and isinstance(now, list)):
        return now
    if now == [] and isinstance(before, list):
        return before
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() ^ now.keys()):
            place = shown(f"{where}.{key}" if where else key)
            raise ValueError(f"key {place} {'is missing' if key in before else 'is new'}: {SAME}")
        return {
            key: _agreed(before[key], now[key], f"{where}.{key}" if where else key)
            for key in before
        }
    if isinstance(before, list) and isinstance(now, list):
        return [_agreed(before[0], now[0], f"{where}[]")]
    raise ValueError(f"{shown(where)} is {_named(now)}, but {_named(before)} before: {SAME}")


SAME = "rows have the same keys and kinds of values"
KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number with a fraction",
    bool: "true or false",
    type(None): "null",
}


def _named(kinds: Any) -> str:
    if isinstance(kinds, str):
        return kinds
    return "a list" if isinstance(kinds, list) else "an object"


SOURCES: dict[str, type[Source]] = {
    "excerpts": Excerpts,
    "swapped_words": SwappedWords,
    "recall": Recall,
    "jsonl": JsonLines,
    WHOLE_TEXTS: WholeTexts,
}


def _passages(origin: Origin, size: int) -> Iterator[str]:
    """Pieces of held-out text of at most `size` bytes, in random order; none overlap.

    A piece is the longest part of a block that lies in one document, and at least half of it.
    """
    num_blocks = len(origin.held_out) // size
    for block in np.random.default_rng(origin.seed).permutation(num_blocks):
        tokens = origin.held_out[block * size : (block + 1) * size]
        piece = max(tokens.tobytes().split(bytes([END_OF_TEXT])), key=len)
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
