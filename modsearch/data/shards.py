"""Token shards: pieces to tokens, in units that processes share, and these to one file a part.

Shapes: N pieces in the order of units, K of them kept.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modsearch.data.reading import Piece, Unit, pieces_of, together
from modsearch.data.split import PARTS
from modsearch.data.text import Seen
from modsearch.store.files import naming

if TYPE_CHECKING:
    from modsearch.data.division import Places
    from modsearch.data.tokenizers import Tokenizer

CHUNK = 2 * 1024 * 1024
ENCODED_TEXT = 1024 * 1024
"""Bytes that are encoded at once."""

Tokens = npt.NDArray[np.unsignedinteger[Any]]


def token_type(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    """The smallest that holds every token."""
    if vocab_size <= 2**8:
        return np.uint8
    return np.uint16 if vocab_size <= 2**16 else np.uint32


def encode(
    unit: Unit, number: int, folder: Path, tokenizer: "Tokenizer", kept: npt.NDArray[np.bool_]
) -> None:
    """Write the tokens of a unit's kept pieces, each with its end, and their lengths; the file of
    lengths says that all is there."""
    kind = token_type(tokenizer.vocab_size)
    lengths: list[int] = []
    draft = _tokens(folder, number).with_suffix(f".{os.getpid()}")
    with naming(draft), draft.open("wb") as file:
        for batch in together(_kept(pieces_of(unit, tokenizer, Seen()), kept), ENCODED_TEXT):
            for tokens in _encoded(batch, tokenizer):
                lengths.append(len(tokens) + 1)
                file.write(np.append(tokens, tokenizer.end).astype(kind).tobytes())
    draft.replace(_tokens(folder, number))
    path = _lengths(folder, number)
    draft = path.with_suffix(f".{os.getpid()}")
    with naming(draft), draft.open("wb") as file:
        np.save(file, np.array(lengths, np.int64), allow_pickle=False)
    draft.replace(path)


def chunks(path: Path, vocab_size: int, start: int, stop: int) -> Iterator[Tokens]:
    """Tokens of a shard from one to another, some at a time, each with the last one before
    them."""
    kind = np.dtype(token_type(vocab_size))
    last = np.empty(0, kind)
    with naming(path), path.open("rb") as file:
        file.seek(start * kind.itemsize)
        while len(found := np.fromfile(file, kind, min(CHUNK, stop - start))):
            start += len(found)
            yield np.concatenate([last, found])
            last = found[-1:]


def is_encoded(folder: Path, number: int) -> bool:
    """Whether a unit's tokens are all there."""
    return _lengths(folder, number).is_file()


def assemble(
    places: "Places", tokens: Path, out: Path, vocab_size: int, num_sources: int
) -> npt.NDArray[np.int64]:
    """Write the shard of each part from the tokens of units: sources one after the other, and
    pieces in their order.

    Returns:
        tokens of each part and source (parts, sources).
    """
    kind = np.dtype(token_type(vocab_size))
    lengths_K = np.concatenate(
        [
            np.empty(0, np.int64),
            *(np.load(_lengths(tokens, number)) for number in range(len(places.counts))),
        ]
    )
    starts_K = np.empty_like(lengths_K)
    sums = np.zeros((len(PARTS), num_sources), np.int64)
    for part in range(len(PARTS)):
        start = 0
        for source in range(num_sources):
            mine = places.order_K[
                (places.parts_K == part)[places.order_K]
                & (places.sources_K == source)[places.order_K]
            ]
            ends = np.cumsum(lengths_K[mine])
            starts_K[mine] = start + ends - lengths_K[mine]
            sums[part, source] = lengths_K[mine].sum()
            start += int(sums[part, source])
    files = [os.open(out / f"{part}.bin", os.O_WRONLY | os.O_CREAT, 0o666) for part in PARTS]
    try:
        first = 0
        for number, count in enumerate(places.counts):
            path = _tokens(tokens, number)
            with naming(path), path.open("rb") as file:
                for piece in range(first, first + count):
                    data = file.read(int(lengths_K[piece]) * kind.itemsize)
                    at = int(starts_K[piece]) * kind.itemsize
                    with naming(out):
                        os.pwrite(files[places.parts_K[piece]], data, at)
            first += count
        for each in files:
            os.fsync(each)
    finally:
        for each in files:
            os.close(each)
    return sums


def _tokens(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.bin"


def _lengths(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.npy"


def _kept(pieces: Iterator[Piece], kept: npt.NDArray[np.bool_]) -> Iterator[Piece]:
    for piece, wanted in zip(pieces, kept.tolist(), strict=True):
        if wanted:
            yield piece


def _encoded(pieces: Sequence[Piece], tokenizer: "Tokenizer") -> Iterator[npt.NDArray[Any]]:
    """Tokens that are there already stay as they are."""
    encoded = iter(tokenizer.arrays([each.text for each in pieces if each.tokens is None]))
    for piece in pieces:
        yield next(encoded) if piece.tokens is None else piece.tokens
