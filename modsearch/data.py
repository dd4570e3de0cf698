"""Corpora as cached token shards; batches as a pure function of seed and step.

Tokens are bytes, and byte 0 ends a document. Documents are split into disjoint parts:
training sees `train`, explore and measure see `validation`, confirm sees `test`.
"""

import glob
import gzip
import hashlib
import json
import os
import shutil
import sysconfig
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modsearch.errors import DataError
from modsearch.schema import CorpusFacts, DataConfig, Validation

PARTS = ("train", "validation", "test")
HELD_OUT_SHARE = 0.05
"""Of the bytes, for validation and for test each."""
BLOCK_BYTES = 64 * 1024
"""Texts are cut into blocks of this size where there are too few documents to split."""
MIN_DOCUMENTS = 100
END_OF_DOCUMENT = 0
VOCAB_SIZE = 256

Tokens = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Corpus:
    """Memory-mapped tokens by part."""

    parts: dict[str, Tokens]
    facts: CorpusFacts

    def windows(self, validation: Validation, seq_len: int) -> npt.NDArray[np.int64]:
        """The fixed sample: (windows, seq_len + 1) tokens, evenly spaced over the part.

        Raises:
            DataError: the part has fewer tokens than the windows need without overlap.
        """
        tokens = self.parts[validation.part]
        needed = validation.windows * (seq_len + 1)
        if needed > len(tokens):
            raise DataError(
                f"{validation.part} part of {self.facts.name} has {len(tokens):,} tokens, but "
                f"{validation.windows} windows of {seq_len + 1} need {needed:,}\n"
                f"use a larger corpus, or fewer windows"
            )
        spread = len(tokens) - seq_len - 1
        starts = np.arange(validation.windows) * spread // max(1, validation.windows - 1)
        rows: Tokens = tokens[starts[:, None] + np.arange(seq_len + 1)]
        return rows.astype(np.int64)


class Batches:
    """Training batches: (batch_size, seq_len + 1) tokens, a pure function of seed and step.

    An epoch visits every window of the train part once, in an order and from an offset that
    depend on seed and epoch.
    """

    def __init__(self, tokens: Tokens, seq_len: int, batch_size: int, seed: int) -> None:
        self.tokens = tokens
        self.seq_len = seq_len
        self.batch_size = batch_size
        self.seed = seed
        self.per_epoch = (len(tokens) - seq_len) // (seq_len + 1)
        if self.per_epoch < 1:
            raise DataError(
                f"the train part has {len(tokens):,} tokens, but a sequence of {seq_len} needs "
                f"{2 * seq_len + 1:,}\nuse a larger corpus, or a shorter seq_len"
            )
        self._epoch = -1
        self._starts: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def __call__(self, step: int) -> npt.NDArray[np.int64]:
        """Tokens of one step."""
        first = step * self.batch_size
        starts = [self._start(index) for index in range(first, first + self.batch_size)]
        rows = np.array(starts)[:, None] + np.arange(self.seq_len + 1)
        return self.tokens[rows].astype(np.int64)

    def _start(self, index: int) -> int:
        epoch, place = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            generator = np.random.default_rng([self.seed, epoch])
            offset = generator.integers(self.seq_len)
            self._starts = generator.permutation(self.per_epoch) * (self.seq_len + 1) + offset
            self._epoch = epoch
        return int(self._starts[place])


def cache_folder() -> Path:
    """Where token shards are kept: `$MODSEARCH_CACHE`, or the user's cache folder."""
    if chosen := os.environ.get("MODSEARCH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modsearch"


def load_corpus(config: DataConfig) -> Corpus:
    """The corpus as memory-mapped shards, made at the first use and cached.

    Raises:
        DataError: nothing is there, a file can't be read, or it is too small to split.
    """
    files = _files(config.corpus)
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    layout = [config.corpus, BLOCK_BYTES, MIN_DOCUMENTS, HELD_OUT_SHARE, stamps]
    key = hashlib.sha256(json.dumps(layout).encode()).hexdigest()[:16]
    folder = cache_folder() / key
    if not (folder / "facts.json").is_file():
        _make_shards(config.corpus, files, folder)
    facts = CorpusFacts.model_validate_json((folder / "facts.json").read_text())
    parts = {part: np.memmap(folder / f"{part}.bin", np.uint8, mode="r") for part in PARTS}
    return Corpus({part: np.asarray(tokens) for part, tokens in parts.items()}, facts)


def _files(corpus: str) -> list[Path]:
    """The files that a corpus means, sorted."""
    if corpus == "stdlib":
        root = Path(sysconfig.get_paths()["stdlib"])
        skipped = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
        return sorted(
            path for path in root.rglob("*.py") if not skipped & set(path.relative_to(root).parts)
        )
    path = Path(corpus).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = path.rglob("*")
    else:
        found = (Path(name) for name in glob.glob(str(path), recursive=True))
    files = sorted(file for file in found if file.is_file() and not file.name.startswith("."))
    if not files:
        raise DataError(
            f"no text at `{corpus}`\n"
            f"corpus takes `stdlib`, or a file, a folder or a glob of text (plain or .gz)"
        )
    return files


def _read(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            text = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"can't read {path}: {error}") from error
    if bytes([END_OF_DOCUMENT]) in text:
        raise DataError(f"{path} is not text: it has NUL bytes\na corpus is plain text or .gz")
    return text


def _documents(files: list[Path]) -> Iterator[bytes]:
    """Texts without duplicates and empty ones, cut into blocks where they are few."""
    texts = list(dict.fromkeys(text for text in map(_read, files) if text.strip()))
    if len(texts) >= MIN_DOCUMENTS:
        yield from texts
        return
    for text in texts:
        start = 0
        while start < len(text):
            line_end = text.find(b"\n", start + BLOCK_BYTES - 1, start + 2 * BLOCK_BYTES)
            end = start + BLOCK_BYTES if line_end < 0 else line_end + 1
            yield text[start:end]
            start = end


def _split(documents: list[bytes]) -> dict[str, list[bytes]]:
    """Whole documents to parts, in the order of their hashes: stable and without a seed."""
    ordered = sorted(documents, key=lambda text: hashlib.sha256(text).digest())
    target = HELD_OUT_SHARE * sum(map(len, ordered))
    parts: dict[str, list[bytes]] = {part: [] for part in PARTS}
    sizes = dict.fromkeys(PARTS, 0)
    for text in ordered:
        part = next((p for p in ("validation", "test") if sizes[p] < target), "train")
        parts[part].append(text)
        sizes[part] += len(text)
    return parts


def _make_shards(corpus: str, files: list[Path], folder: Path) -> None:
    documents = list(dict.fromkeys(_documents(files)))
    parts = _split(documents)
    if not parts["train"]:
        size = sum(map(len, documents))
        raise DataError(
            f"corpus `{corpus}` is too small: {size:,} bytes in {len(documents)} documents\n"
            f"three parts need at least three texts, or {3 * BLOCK_BYTES:,} bytes"
        )
    end = bytes([END_OF_DOCUMENT])
    shards = {part: b"".join(text + end for text in texts) for part, texts in parts.items()}
    facts = _facts(corpus, {part: np.frombuffer(s, np.uint8) for part, s in shards.items()})
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".draft-"))
    try:
        for part, shard in shards.items():
            (draft / f"{part}.bin").write_bytes(shard)
        (draft / "facts.json").write_text(facts.model_dump_json(indent=2))
        # Another process may have made the same shards meanwhile: either copy will do.
        with suppress(OSError):
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _facts(name: str, parts: dict[str, Tokens]) -> CorpusFacts:
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(len(parts[part]).to_bytes(8, "little"))
        digest.update(parts[part].tobytes())
    unigram, bigram = entropies(parts["train"], parts["validation"])
    return CorpusFacts(
        name=name,
        fingerprint=digest.hexdigest()[:16],
        train_tokens=len(parts["train"]),
        validation_tokens=len(parts["validation"]),
        test_tokens=len(parts["test"]),
        bytes_per_token=1.0,
        unigram_entropy=unigram,
        bigram_entropy=bigram,
    )


def entropies(train: Tokens, held_out: Tokens) -> tuple[float, float]:
    """Cross-entropy of held-out tokens under unigram and bigram counts of train, in nats.

    The unigrams are smoothed by one count a token, the bigrams by one count spread as the
    unigrams: what a model must beat to have learned more than pairs of bytes.
    """
    unigrams = np.bincount(train, minlength=VOCAB_SIZE) + 1.0
    unigrams /= unigrams.sum()
    codes = train[:-1].astype(np.int64) * VOCAB_SIZE + train[1:]
    counts = np.bincount(codes, minlength=VOCAB_SIZE**2).reshape(VOCAB_SIZE, VOCAB_SIZE)
    bigrams = (counts + unigrams) / (counts.sum(axis=1, keepdims=True) + 1.0)
    first, second = held_out[:-1], held_out[1:]
    return (
        float(-np.log(unigrams[held_out]).mean()),
        float(-np.log(bigrams[first, second]).mean()),
    )
