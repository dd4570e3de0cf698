"""What is in the files of a corpus: pieces of its documents, read in units that several processes
can share.

A unit is some small files, or a share of a large one, so that no more than a part of a corpus is
in memory, and what was read before a kill need not be read again.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zstandard

from modsearch.data.sources import form_of
from modsearch.data.tables import NAME_THE_FIELD, batches_of, num_batches
from modsearch.data.text import Form, Seen, cleaned, cut, whole
from modsearch.data.tokens import PIECE_TOKENS, open_tokens, starts_of
from modsearch.errors import DataError, first_line, shown

if TYPE_CHECKING:
    from modsearch.data.tokenizers import Tokenizer

UNIT_BYTES = 16 * 1024 * 1024
READ_BYTES = 1024 * 1024
"""At once."""


@dataclass(frozen=True)
class Unit:
    """What one process reads at once."""

    source: int
    """Place among the sources."""
    form: Form
    paths: tuple[Path, ...]
    field: str
    """That has the text."""
    start: int = 0
    stop: int | None = None
    """Bytes of a text or of lines, batches of a table, or tokens; None: to the end."""


@dataclass(frozen=True)
class Piece:
    """Of a document."""

    text: bytes
    """UTF-8, by the rule."""
    tokens: npt.NDArray[np.integer[Any]] | None = None
    """Where they are made already; without the end of a document."""


def units_of(
    source: int, files: Sequence[Path], field: str, tokenizer: "Tokenizer | None"
) -> list[Unit]:
    """All of a source, in the order of its files.

    Args:
        source: its place.
        files: what it has.
        field: that has the text, in lines and tables.
        tokenizer: of shards of tokens; None where it is trained on this text.

    Raises:
        DataError: a file can't be read.
    """
    found: list[Unit] = []
    small: list[Path] = []
    room = UNIT_BYTES
    for path in files:
        form, packing = form_of(path)
        with _naming(path):
            size = path.stat().st_size
            if form is Form.TEXT and size < UNIT_BYTES:
                if size > room:
                    found.append(Unit(source, form, tuple(small), field))
                    small, room = [], UNIT_BYTES
                small.append(path)
                room -= size
                continue
            ends: Sequence[int | None] = (
                (0, None) if packing else _ends(path, form, size, tokenizer)
            )
        found += [
            Unit(source, form, (path,), field, start or 0, stop) for start, stop in pairwise(ends)
        ]
    if small:
        found.append(Unit(source, Form.TEXT, tuple(small), field))
    return found


def _ends(path: Path, form: Form, size: int, tokenizer: "Tokenizer | None") -> list[int]:
    """Where the units of a file begin, and where the last one ends."""
    if form in (Form.TEXT, Form.LINES):
        with path.open("rb") as file:
            inner = [
                _line_start(file, at, form, size) for at in range(UNIT_BYTES, size, UNIT_BYTES)
            ]
        return sorted({0, size, *inner})
    if form is Form.TOKENS:
        if tokenizer is None:
            raise DataError(
                f"{path} has tokens of a tokenizer that is not named\nname it: data.tokenizer"
            )
        return starts_of(path, tokenizer)
    return list(range(num_batches(path, form) + 1))


def _line_start(file: IO[bytes], at: int, form: Form, size: int) -> int:
    """The first line that begins there or later; in a text without one before long, the first
    character."""
    file.seek(at - 1)
    place = at - 1
    while block := file.read(READ_BYTES):
        line_end = block.find(b"\n")
        if line_end >= 0:
            return place + line_end + 1
        if form is Form.TEXT:
            return place + whole(block, len(block) // 2)
        place += len(block)
    return size


def pieces_of(unit: Unit, tokenizer: "Tokenizer | None", seen: Seen) -> Iterator[Piece]:
    """What a unit has, in order, cleaned and cut; empty texts are left out.

    Raises:
        DataError: a file can't be read, or is not what its name says.
    """
    for path in unit.paths:
        with _naming(path):
            if unit.form is Form.TEXT:
                yield from _of_text(path, unit, seen)
            elif unit.form is Form.TOKENS:
                assert tokenizer is not None
                yield from _of_tokens(path, unit, tokenizer, seen)
            else:
                texts = (
                    _lines(path, unit)
                    if unit.form is Form.LINES
                    else batches_of(path, unit.form, unit.field, unit.start, unit.stop)
                )
                for text in texts:
                    yield from _of_document(text, seen)


def documents_of(path: Path, field: str) -> Iterator[bytes]:
    """The documents of a file, whole and by the rule.

    Raises:
        DataError: it can't be read, or has tokens in the place of text.
    """
    form, _ = form_of(path)
    unit = Unit(0, form, (path,), field)
    with _naming(path):
        if form is Form.TEXT:
            yield cleaned(b"".join(_blocks(path, unit)), Seen())
        elif form is Form.TOKENS:
            raise DataError(f"{path} has tokens\nname text, JSONL or Parquet")
        else:
            texts = (
                _lines(path, unit)
                if form is Form.LINES
                else batches_of(path, form, field, unit.start, unit.stop)
            )
            for text in texts:
                yield cleaned((text or "").encode(errors="replace"), Seen())


def together(pieces: Iterable[Piece], num_bytes: int) -> Iterator[list[Piece]]:
    """Pieces in lists that end when they have so much text."""
    found: list[Piece] = []
    size = 0
    for piece in pieces:
        found.append(piece)
        size += len(piece.text)
        if size >= num_bytes:
            yield found
            found, size = [], 0
    if found:
        yield found


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file is told with its name."""
    try:
        yield
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        raise DataError(f"can't read {path}: {first_line(error)}") from error


def _of_text(path: Path, unit: Unit, seen: Seen) -> Iterator[Piece]:
    """A file is a document."""
    found = False
    for number, raw in enumerate(cut(_blocks(path, unit))):
        if b"\0" in raw:
            raise DataError(f"{path} is not text: it has NUL bytes\nwrite it as UTF-8")
        text = cleaned(raw, seen, first=number == 0 and unit.start == 0)
        if text.strip():
            found = True
            yield Piece(text)
    seen.documents += found and unit.start == 0


def _blocks(path: Path, unit: Unit) -> Iterator[bytes]:
    """The bytes of a unit's share of a file."""
    with _opened(path) as file:
        if unit.start:
            file.seek(unit.start)
        left = None if unit.stop is None else unit.stop - unit.start
        while block := file.read(READ_BYTES if left is None else min(READ_BYTES, left)):
            left = None if left is None else left - len(block)
            yield block


def _opened(path: Path) -> io.BufferedIOBase:
    _, packing = form_of(path)
    if packing == ".gz":
        return gzip.open(path, "rb")
    if packing == ".zst":
        return io.BufferedReader(
            zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True)
        )
    return path.open("rb")


def _lines(path: Path, unit: Unit) -> Iterator[str | None]:
    """The text of each JSON object; a line ends with a line feed and with nothing else."""
    with _opened(path) as file:
        if unit.start:
            file.seek(unit.start)
        place = unit.start
        for number, line in enumerate(file, 1):
            if unit.stop is not None and place >= unit.stop:
                return
            place += len(line)
            if line.strip():
                try:
                    yield _field(json.loads(line), unit.field)
                except (ValueError, RecursionError) as error:
                    before = _lines_before(path, unit.start)
                    hint = f"\n{NAME_THE_FIELD}" if isinstance(error, _NoField) else ""
                    raise DataError(
                        f"{path}, line {before + number}: {first_line(error)}{hint}"
                    ) from error


class _NoField(ValueError):
    """A row has others."""


def _field(row: object, field: str) -> str | None:
    if not isinstance(row, dict):
        raise ValueError(f"a line is a JSON object, but got {shown(row)}")
    if field not in row:
        raise _NoField(f"no field {shown(field)}: it has {', '.join(map(shown, row))}")
    value = row[field]
    if value is not None and not isinstance(value, str):
        raise ValueError(f"field {shown(field)} is no text, but {shown(value)}")
    return value


def _lines_before(path: Path, at: int) -> int:
    if at == 0:
        return 0
    with path.open("rb") as file:
        blocks = iter(partial(file.read, READ_BYTES), b"")
        count, place = 0, 0
        for block in blocks:
            count += block[: max(0, at - place)].count(b"\n")
            place += len(block)
            if place >= at:
                break
    return count


def _of_document(text: str | None, seen: Seen) -> Iterator[Piece]:
    """Of a text that is whole in memory."""
    if text is None or not text.strip():
        return
    seen.documents += 1
    try:
        raw = text.encode()
    except UnicodeEncodeError:  # halves of characters
        known = text.encode(errors="ignore").decode()
        seen.invalid += len(text) - len(known)
        raw = text.encode(errors="replace")
    for number, piece in enumerate(cut([raw])):
        cleaned_piece = cleaned(piece, seen, first=number == 0)
        if cleaned_piece.strip():
            yield Piece(cleaned_piece)


def _of_tokens(path: Path, unit: Unit, tokenizer: "Tokenizer", seen: Seen) -> Iterator[Piece]:
    """Documents of a shard, without their ends."""
    tokens = open_tokens(path, tokenizer)[unit.start : unit.stop]
    ends = (int(tokens.min()), int(tokens.max())) if len(tokens) else (0, 0)
    if ends[0] < 0 or ends[1] >= tokenizer.vocab_size:
        raise DataError(
            f"{path} has token {min(ends[0], 0) or ends[1]}, but tokenizer "
            f"{shown(tokenizer.name)} has {tokenizer.vocab_size}\n"
            f"name the one that it was made with: data.tokenizer"
        )
    for document in np.split(tokens, np.flatnonzero(tokens == tokenizer.end)):
        body = document[document != tokenizer.end]
        seen.documents += bool(len(body))
        for start in range(0, len(body), PIECE_TOKENS):
            piece = body[start : start + PIECE_TOKENS]
            yield Piece(tokenizer.decode(piece.tolist()).encode(errors="replace"), piece)
