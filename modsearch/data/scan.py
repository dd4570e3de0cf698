"""The first reading of a corpus: a line for each piece, and its shingles, in files that a second
try goes on from.

Shapes: N pieces, S shingles.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modsearch.data.duplicates import Hashes, Partition, joined, shingles
from modsearch.data.reading import Unit, pieces_of, together
from modsearch.data.text import Seen
from modsearch.store.files import write_bytes, write_text

if TYPE_CHECKING:
    from modsearch.data.tokenizers import Tokenizer

BLOCK_TEXT = 16 * 1024 * 1024
"""Bytes whose shingles are made and kept together."""
FINEST, FULL_RATE_BYTES = 16, 2**30
"""One shingle in so many, of a corpus of so many bytes; of a larger one fewer, so that what is
kept of them has a bound."""
PARTITION_SHINGLES = 2_000_000


@dataclass(frozen=True)
class Reading:
    """What was read of all units."""

    digests: Hashes
    """(N, 2), in the order of units."""
    sizes: npt.NDArray[np.int64]
    """(N,) bytes."""
    units: npt.NDArray[np.int32]
    """(N,) the unit of each."""
    seen: Seen
    blocks: Sequence[tuple[Path, int]]
    """Files with shingles, each with the first of its pieces."""

    def partitions(self, ranks_N: npt.NDArray[np.int32]) -> Iterator[Partition]:
        """Shingles of pieces under the numbers that `ranks_N` gives them; -1 leaves one out."""
        hashes = [path.with_suffix(".hashes.npy") for path, _ in self.blocks]
        total = sum(len(np.load(path, mmap_mode="r")) for path in hashes)
        count = max(1, -(-total // PARTITION_SHINGLES))
        # An array of bounds is as the hashes are: else numpy compares floats.
        bounds = np.array([number * 2**64 // count for number in range(1, count)], np.uint64)
        ends = [
            [0, *np.searchsorted(found, bounds).tolist(), len(found)]
            for found in (np.load(path, mmap_mode="r") for path in hashes)
        ]
        for number in range(count):
            parts, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int32)]
            for (path, first), end in zip(self.blocks, ends, strict=True):
                low, high = end[number], end[number + 1]
                ranks = ranks_N[first + _slice(path.with_suffix(".places.npy"), low, high)]
                parts.append(_slice(path.with_suffix(".hashes.npy"), low, high)[ranks >= 0])
                owners.append(ranks[ranks >= 0])
            yield joined(parts, owners)


def _slice(path: Path, low: int, high: int) -> npt.NDArray[Any]:
    """Read, and not mapped: what is mapped stays in memory as long as there is room."""
    return np.array(np.load(path, mmap_mode="r")[low:high])


def rate_of(num_bytes: int) -> int:
    """One shingle in how many is kept; a power of two."""
    rate = FINEST
    while num_bytes > FULL_RATE_BYTES:
        rate, num_bytes = 2 * rate, num_bytes // 2
    return rate


def scan(unit: Unit, number: int, folder: Path, tokenizer: "Tokenizer | None", rate: int) -> None:
    """Read a unit, and write what is in it; its last file says that all is there."""
    seen = Seen()
    count = 0
    for block in together(pieces_of(unit, tokenizer, seen), BLOCK_TEXT):
        path = folder / f"{number:06}-{count:04}"
        texts = [piece.text for piece in block]
        hashes, places = _shingles(texts, rate)
        rows = np.array([_row(text) for text in texts], np.uint64).reshape(-1, 3)
        for ending, array in (("hashes", hashes), ("places", places), ("pieces", rows)):
            write_bytes(path.with_suffix(f".{ending}.npy"), _npy(array))
        count += 1
    write_text(_marker(folder, number), json.dumps({"blocks": count, "seen": asdict(seen)}))


def is_scanned(folder: Path, number: int) -> bool:
    """Whether a unit was read whole."""
    return _marker(folder, number).is_file()


def read_back(folder: Path, num_units: int) -> Reading:
    """What `scan` wrote of all units."""
    seen, rows, units, blocks = Seen(), [np.empty((0, 3), np.uint64)], [np.empty(0, np.int32)], []
    first = 0
    for number in range(num_units):
        marker = json.loads(_marker(folder, number).read_text())
        seen += Seen(**marker["seen"])
        for count in range(marker["blocks"]):
            path = folder / f"{number:06}-{count:04}"
            found = np.load(path.with_suffix(".pieces.npy"))
            rows.append(found)
            units.append(np.full(len(found), number, np.int32))
            blocks.append((path, first))
            first += len(found)
    table = np.concatenate(rows)
    return Reading(
        table[:, :2].copy(), table[:, 2].astype(np.int64), np.concatenate(units), seen, blocks
    )


def _marker(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.json"


def _row(text: bytes) -> tuple[int, int, int]:
    """128 bits of a hash, and bytes."""
    digest = hashlib.sha256(text).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big"), len(text)


def _shingles(texts: Sequence[bytes], rate: int) -> Partition:
    """Of some megabytes, ordered by hash."""
    hashes, places = shingles(texts)
    kept = hashes & np.uint64(rate - 1) == 0
    return hashes[kept], places[kept]


def _npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
