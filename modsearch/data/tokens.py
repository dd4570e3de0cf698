"""Shards of tokens as others write them: `.bin` of nanoGPT, litgpt and llm.c, and `.npy`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modsearch.errors import DataError, first_line

if TYPE_CHECKING:
    from modsearch.data.tokenizers import Tokenizer

UNIT_TOKENS = 4 * 1024 * 1024
PIECE_TOKENS = 16 * 1024
"""A document is cut after so many."""
MAGIC, HEADER_BYTES = 20240520, 1024
"""First number, and length, of what stands before the tokens in shards of llm.c."""
MOST_OF_TWO_BYTES = 2**16
LOOKED_AT, FEWEST_TOLD = 2**20, 64
"""Numbers of two bytes by which a file's width is told."""

Tokens = npt.NDArray[np.integer[Any]]


def open_tokens(path: Path, tokenizer: "Tokenizer") -> Tokens:
    """Memory-mapped; a `.bin` has two bytes a token, four where the tokenizer has more tokens or
    every second number of two bytes is 0.

    Raises:
        DataError: it holds no tokens.
    """
    if path.suffix.lower() == ".npy":
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise DataError(f"can't read {path}: {first_line(error)}") from error
        if found.ndim != 1 or found.dtype.kind not in "ui":
            raise DataError(f"{path} has {found.ndim} dimensions of {found.dtype}, not tokens")
        tokens: Tokens = found
        return tokens
    size = path.stat().st_size
    start = HEADER_BYTES if _has_header(path) else 0
    is_wide = tokenizer.vocab_size > MOST_OF_TWO_BYTES or _is_wide(path, start)
    kind = np.uint32 if is_wide else np.uint16
    if (size - start) % np.dtype(kind).itemsize or size <= start:
        raise DataError(f"{path} holds no tokens of {np.dtype(kind).itemsize} bytes each")
    return np.memmap(path, kind, mode="r", offset=start)


def _has_header(path: Path) -> bool:
    with path.open("rb") as file:
        return int.from_bytes(file.read(4), "little") == MAGIC


def _is_wide(path: Path, start: int) -> bool:
    """Whether small numbers have four bytes each."""
    numbers = np.fromfile(path, np.uint16, LOOKED_AT, offset=start)
    return len(numbers) >= FEWEST_TOLD and bool(numbers[::2].any()) and not numbers[1::2].any()


def starts_of(path: Path, tokenizer: "Tokenizer") -> list[int]:
    """Where units begin, and where the last one ends: at ends of documents where there are any
    before long."""
    tokens = open_tokens(path, tokenizer)
    starts = {0, len(tokens)}
    for at in range(UNIT_TOKENS, len(tokens), UNIT_TOKENS):
        ends = np.flatnonzero(tokens[at : at + UNIT_TOKENS // 4] == tokenizer.end)
        starts.add(at + int(ends[0]) if len(ends) else at)
    return sorted(starts)
