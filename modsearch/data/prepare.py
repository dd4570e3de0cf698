"""A corpus becomes token shards: read, split, encoded, put together.

All of it runs in units that several processes share, in a folder that a second try goes on from,
and needs no more memory than some units and a line for each piece of text.

Shapes: N pieces in the order of units, K of them kept: all but exact copies.
"""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modsearch.config.data import CorpusFacts, Mixing, SourceFacts
from modsearch.data.division import Division
from modsearch.data.duplicates import copied
from modsearch.data.entropies import Segment, entropies
from modsearch.data.reading import UNIT_BYTES, Unit, pieces_of, units_of
from modsearch.data.scan import is_scanned, rate_of, read_back, scan
from modsearch.data.shards import Tokens, assemble, chunks, encode, is_encoded, token_type
from modsearch.data.split import PARTS, TRAIN
from modsearch.data.text import BLOCK_BYTES, Seen
from modsearch.data.tokenizers import Tokenizer, train_bpe
from modsearch.errors import DataError
from modsearch.store.files import write_text

ALONE_BYTES = 2 * UNIT_BYTES
"""Up to so much text one process is faster than the start of others."""
BPE_BYTES = 64 * 1024 * 1024
"""Text of the train part that a BPE is fitted to: the pieces whose hashes come first, of each of
several sources by its weight, as training reads them."""

Told = Callable[[str, int, int], None]
"""Is told what is done, and how many of how many units."""


@dataclass(frozen=True)
class Source:
    """Files with text, and its share of training."""

    name: str
    files: Sequence[Path]
    field: str
    weight: float


@dataclass(frozen=True)
class Work:
    """One preparation."""

    name: str
    """Of the corpus."""
    sources: Sequence[Source]
    tokenizer: Tokenizer | None
    """None: a BPE is trained."""
    vocab_size: int
    """Of that BPE."""
    mixing: Mixing
    folder: Path
    """Where it goes on from."""
    told: Told

    @cached_property
    def units(self) -> list[Unit]:
        """All of them."""
        return [
            unit
            for place, source in enumerate(self.sources)
            for unit in units_of(place, source.files, source.field, self.tokenizer)
        ]

    @cached_property
    def num_bytes(self) -> int:
        """Of all files, as they are."""
        return sum(path.stat().st_size for source in self.sources for path in source.files)

    def run(self, out: Path) -> None:
        """Write the shards, the facts and the tokenizer into a folder.

        Raises:
            DataError: a file can't be read, or there is too little text.
        """
        scans, tokens = self.folder / "scan", self.folder / "tokens"
        for each in (scans, tokens, out):
            each.mkdir(parents=True, exist_ok=True)
        rate = rate_of(self.num_bytes)
        units = list(enumerate(self.units))
        self._each(
            "reading", scan, is_scanned, scans,
            [(unit, number, scans, self.tokenizer, rate) for number, unit in units],
        )  # fmt: skip
        found = Division.of(
            read_back(scans, len(self.units)),
            self.units,
            len(self.sources),
            by_source=self.mixing.by_source,
        )
        self._check(found)
        tokenizer = self.tokenizer or self._bpe(found)
        kept = found.kept_by_unit(len(self.units))
        self._each(
            "encoding", encode, is_encoded, tokens,
            [(unit, number, tokens, tokenizer, kept[number]) for number, unit in units],
        )  # fmt: skip
        self.told("writing", 0, 1)
        places = found.places([int(each.sum()) for each in kept])
        sums = assemble(places, tokens, out, tokenizer.vocab_size, len(self.sources))
        tokenizer.save(out)
        facts = self._facts(found, tokenizer, sums, out)
        write_text(out / "facts.json", facts.model_dump_json(indent=2))
        self.told("writing", 1, 1)

    def _each(
        self,
        what: str,
        make: Callable[..., None],
        is_done: Callable[[Path, int], bool],
        folder: Path,
        arguments: Sequence[tuple[Any, ...]],
    ) -> None:
        """Run what is not done yet, in this process or in several."""
        todo = [each for number, each in enumerate(arguments) if not is_done(folder, number)]
        done = len(arguments) - len(todo)
        self.told(what, done, len(arguments))
        for _ in _finished(make, todo, self.num_bytes):
            done += 1
            self.told(what, done, len(arguments))

    def _check(self, found: "Division") -> None:
        if len(np.unique(found.parts_K)) < len(PARTS):
            size = int(found.reading.sizes[found.first_K].sum())
            raise DataError(
                f"corpus `{self.name}` is too small: {size:,} bytes in {len(found.first_K)} "
                f"documents\nthree parts need at least three texts, or {3 * BLOCK_BYTES:,} bytes"
            )

    def _bpe(self, found: "Division") -> Tokenizer:
        """Fitted to text of the train part."""
        path = self.folder / "tokenizer"
        self.told("training the tokenizer", 0, 1)
        weights = [each.weight for each in self.sources] if self.mixing.by_weight else None
        times = found.times_of_train(BPE_BYTES, weights)

        def texts() -> Iterator[str]:
            first = 0
            for unit in self.units:
                pieces = list(pieces_of(unit, None, Seen()))
                mine = times[first : first + len(pieces)].tolist()
                for piece, count in zip(pieces, mine, strict=True):
                    yield from repeat(piece.text.decode(), count) if count else ()
                first += len(pieces)

        tokenizer = train_bpe(texts(), self.vocab_size)
        tokenizer.save(path)
        self.told("training the tokenizer", 1, 1)
        return tokenizer

    def _facts(
        self, found: "Division", tokenizer: Tokenizer, sums: npt.NDArray[np.int64], out: Path
    ) -> CorpusFacts:
        kind = token_type(tokenizer.vocab_size)
        parts = {part: np.memmap(out / f"{part}.bin", kind, mode="r") for part in PARTS}
        digest = hashlib.sha256()
        for part in PARTS:
            digest.update(len(parts[part]).to_bytes(8, "little"))
            with (out / f"{part}.bin").open("rb") as file:
                while block := file.read(UNIT_BYTES):
                    digest.update(block)
        unigram, bigram = entropies(
            _segments(
                self.sources, sums, out / "train.bin", parts["validation"], tokenizer.vocab_size
            ),
            tokenizer.vocab_size,
        )
        share = copied(found.partitions(), found.parts_K, TRAIN, len(PARTS))
        sizes = found.bytes_of(len(self.sources))
        per_token = sizes.sum(axis=1) / np.maximum(1, sums.sum(axis=1))
        by_part = dict(zip(PARTS, per_token.tolist(), strict=True))
        return CorpusFacts(
            name=self.name,
            fingerprint=digest.hexdigest()[:16],
            **{f"{part}_tokens": len(parts[part]) for part in PARTS},
            bytes_per_token=by_part["train"],
            validation_bytes_per_token=by_part["validation"],
            test_bytes_per_token=by_part["test"],
            unigram_entropy=unigram,
            bigram_entropy=bigram,
            near_duplicates=found.near_duplicates,
            validation_copied=share[PARTS.index("validation")],
            test_copied=share[PARTS.index("test")],
            tokenizer=tokenizer.name,
            vocab_size=tokenizer.vocab_size,
            documents=found.reading.seen.documents,
            pieces=len(found.first_K),
            copies=len(found.reading.sizes) - len(found.first_K),
            invalid=found.reading.seen.invalid,
            crlf=found.reading.seen.crlf,
            boms=found.reading.seen.boms,
            split="filled" if "filled" in found.rules else "hash",
            by_source=self.mixing.by_source,
            by_weight=self.mixing.by_weight,
            sources=self._source_facts(sums, sizes, found),
        )

    def _source_facts(
        self, sums: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], found: "Division"
    ) -> tuple[SourceFacts, ...]:
        if len(self.sources) == 1:
            return ()
        return tuple(
            SourceFacts(
                name=source.name,
                weight=source.weight,
                **{f"{part}_tokens": int(sums[row, place]) for row, part in enumerate(PARTS)},
                bytes_per_token={
                    part: float(sizes[row, place] / sums[row, place])
                    for row, part in enumerate(PARTS)
                    if sums[row, place]
                },
                split=found.rules[place],
            )
            for place, source in enumerate(self.sources)
        )


def _segments(
    sources: Sequence[Source],
    sums: npt.NDArray[np.int64],
    train: Path,
    validation: Tokens,
    vocab_size: int,
) -> list[Segment]:
    """What each source has in shards, by how many tokens (parts, sources) it has there."""
    rows = [PARTS.index("train"), PARTS.index("validation")]
    stops = np.cumsum(sums, axis=1)[rows].T.tolist()
    starts = (np.cumsum(sums, axis=1) - sums)[rows].T.tolist()
    return [
        Segment(
            partial(chunks, train, vocab_size, start[0], stop[0]),
            validation[start[1] : stop[1]],
            source.weight,
        )
        for source, start, stop in zip(sources, starts, stops, strict=True)
    ]


def _finished(
    make: Callable[..., None], arguments: Sequence[tuple[Any, ...]], num_bytes: int
) -> Iterator[None]:
    """Calls, one after the other where there is little to do or processes may have none."""
    workers = min(len(arguments), os.cpu_count() or 1)
    if num_bytes <= ALONE_BYTES or workers < 2 or multiprocessing.current_process().daemon:
        for each in arguments:
            make(*each)
            yield
        return
    context = multiprocessing.get_context("spawn")
    with _one_thread(), ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            for future in as_completed([pool.submit(make, *each) for each in arguments]):
                future.result()
                yield
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that begin inside encode with one thread each."""
    before = os.environ.get("RAYON_NUM_THREADS")
    os.environ["RAYON_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["RAYON_NUM_THREADS"]
        else:
            os.environ["RAYON_NUM_THREADS"] = before
