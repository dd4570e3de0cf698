"""Corpora as cached token shards.

Tokens are bytes, and byte 0 ends a document. Documents are split into disjoint parts, near
duplicates together: training sees `train`, explore and measure see `validation`, confirm sees
`test`.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from modsearch.config.data import CorpusFacts, DataConfig, Validation
from modsearch.data.duplicates import Shingles, shingles
from modsearch.data.sources import file_digest, read_file, text_files
from modsearch.errors import DataError

HELD_OUT = ("validation", "test")
PARTS = ("train", *HELD_OUT)
HELD_OUT_SHARE = 0.05
"""Of the bytes, for validation and for test each."""
BLOCK_BYTES = 64 * 1024
"""Texts are cut into blocks of this size where there are too few documents to split."""
MIN_DOCUMENTS = 100
END_OF_DOCUMENT = 0
VOCAB_SIZE = 256
LAYOUT = 2
"""Raised where the same texts would be split into other tokens."""
MOST_TRIES = 3
SETTLED_NS = 2_000_000_000
"""Of files that changed within this time a further change may leave the same stamps: their
content is read again."""

Tokens = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Corpus:
    """Memory-mapped tokens by part."""

    parts: dict[str, Tokens]
    facts: CorpusFacts

    def windows(self, validation: Validation, seq_len: int) -> Tokens:
        """The fixed sample: (windows, seq_len + 1) tokens, evenly spaced over the part; of a
        whole part a view.

        Raises:
            DataError: the part has fewer tokens than the windows need without overlap.
        """
        tokens = self.parts[validation.part]
        num_windows = self.num_windows(validation, seq_len)
        needed = num_windows * (seq_len + 1)
        if needed > len(tokens):
            raise DataError(
                f"{validation.part} part of {self.facts.name} has {len(tokens):,} tokens, but "
                f"{num_windows} windows of {seq_len + 1} need {needed:,}\n"
                f"use a larger corpus, or fewer windows"
            )
        if validation.windows is None:
            return tokens[:needed].reshape(num_windows, seq_len + 1)
        spread = len(tokens) - seq_len - 1
        starts = np.arange(num_windows) * spread // max(1, num_windows - 1)
        rows: Tokens = tokens[starts[:, None] + np.arange(seq_len + 1)]
        return rows

    def num_windows(self, validation: Validation, seq_len: int) -> int:
        """Of a sample: as many as are stated, or as a part has without overlap, but at least
        one."""
        if validation.windows is not None:
            return validation.windows
        return max(1, len(self.parts[validation.part]) // (seq_len + 1))


def cache_folder() -> Path:
    """Where token shards are kept: `$MODSEARCH_CACHE`, or the user's cache folder.

    Raises:
        DataError: neither is known.
    """
    if chosen := os.environ.get("MODSEARCH_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modsearch"
    except RuntimeError as error:
        raise DataError(
            "no folder for tokens: this user has no home folder\nset MODSEARCH_CACHE to a folder"
        ) from error


def load_corpus(config: DataConfig, fingerprint: str | None = None) -> Corpus:
    """The corpus as memory-mapped shards, made at the first use and cached.

    Shards go by what is in the files. That was read once where no file has changed since.

    Args:
        config: where the texts are.
        fingerprint: of the tokens that they must be, where that matters.

    Raises:
        DataError: nothing is there, a file can't be read, it is too small to split, or its
            tokens are others than they must be.
    """
    files = text_files(config.corpus)
    cache = cache_folder()
    started = time.time_ns()
    stamps, newest = _stamps(files)
    seen = cache / "seen" / stamps
    content = _seen_content(seen) or _key(map(file_digest, files))
    facts = _cached_facts(cache / "shards" / content)
    tries = 0
    while facts is None:  # another process may move damaged ones away meanwhile
        if tries == MOST_TRIES:
            raise DataError(f"can't keep tokens in {cache}: what was written is gone")
        tries += 1
        content = _make_shards(config.corpus, files, cache / "shards")
        facts = _cached_facts(cache / "shards" / content)
    if newest < started - SETTLED_NS:
        _remember(seen, content)
    if fingerprint not in (None, facts.fingerprint):
        raise DataError(
            f"the text of corpus `{config.corpus}` is not what it was trained on: its tokens are "
            f"{facts.fingerprint}, those were {fingerprint}\n"
            f"bring the old text back; a relative path counts from the current folder, and "
            f"another version may have split the same text otherwise"
        )
    folder = cache / "shards" / content
    parts = {part: np.memmap(folder / f"{part}.bin", np.uint8, mode="r") for part in PARTS}
    return Corpus(
        {part: np.asarray(tokens) for part, tokens in parts.items()},
        facts.model_copy(update={"name": config.corpus}),
    )


def _stamps(files: list[Path]) -> tuple[str, int]:
    """What changes with the files, without reading them, and with how they are split; and the
    newest change of one, in ns."""
    rows = []
    for path in files:
        at = path.stat()
        changed = (at.st_size, at.st_mtime_ns, at.st_ctime_ns)
        rows.append((os.path.abspath(path), at.st_dev, at.st_ino, *changed))
    newest = max(row[-1] for row in rows)
    return hashlib.sha256(json.dumps([_layout(), rows]).encode()).hexdigest()[:32], newest


def _seen_content(seen: Path) -> str | None:
    """The key of the shards that files with these stamps had; None where that is not known."""
    try:
        key = seen.read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return key if re.fullmatch("[0-9a-f]{32}", key) else None


def _remember(seen: Path, content: str) -> None:
    # It only saves time: a cache that others filled may be read-only.
    draft = seen.with_name(f".{seen.name}.{os.getpid()}")
    with suppress(OSError):
        seen.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(content)
        draft.replace(seen)


def _key(digests: Iterable[bytes]) -> str:
    """The name of a corpus's shards: what its files have in them, and how that is split."""
    contents = sorted({digest.hex() for digest in digests})
    return hashlib.sha256(json.dumps([_layout(), contents]).encode()).hexdigest()[:32]


def _layout() -> list[float]:
    """How texts are split."""
    return [LAYOUT, BLOCK_BYTES, MIN_DOCUMENTS, HELD_OUT_SHARE]


def _cached_facts(folder: Path) -> CorpusFacts | None:
    """Facts of shards; None where there are none, or not all that the facts say."""
    try:
        facts = CorpusFacts.model_validate_json((folder / "facts.json").read_bytes())
        sizes = tuple((folder / f"{part}.bin").stat().st_size for part in PARTS)
    except (OSError, ValidationError):
        return None
    stated = (facts.train_tokens, facts.validation_tokens, facts.test_tokens)
    return facts if sizes == stated and all(sizes) else None


def _documents(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Texts without duplicates and empty ones, cut into blocks where they are few."""
    texts = list(dict.fromkeys(text for text in texts if text.strip()))
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


Group = list[int]
"""Places of documents that go into one part."""


def _split(documents: list[bytes], groups: list[Group]) -> dict[str, Group]:
    """Whole groups to parts, in their order.

    A group that is larger than a held-out part is trained on. Where the others do not fill those
    parts, such groups are taken apart: `CorpusFacts` says how much then stands in two parts.
    """
    sizes = [sum(len(documents[place]) for place in group) for group in groups]
    target = HELD_OUT_SHARE * sum(sizes)
    large = [group for group, size in zip(groups, sizes, strict=True) if size > target]
    parts, full = _filled(documents, [each for each in groups if each not in large], target)
    if full:
        parts["train"] += [place for group in large for place in group]
        return parts
    alone = [[place] for group in large for place in group]
    whole = [each for each in groups if each not in large]
    return _filled(documents, sorted(whole + alone), target)[0]


def _filled(
    documents: list[bytes], groups: list[Group], target: float
) -> tuple[dict[str, Group], bool]:
    """Groups to parts in their order, and whether the held-out ones have what they should."""
    parts: dict[str, Group] = {part: [] for part in PARTS}
    sizes = dict.fromkeys(PARTS, 0)
    for group in groups:
        part = next((p for p in HELD_OUT if sizes[p] < target), "train")
        parts[part] += group
        sizes[part] += sum(len(documents[place]) for place in group)
    return parts, all(sizes[part] >= target for part in HELD_OUT)


def _make_shards(corpus: str, files: list[Path], folder: Path) -> str:
    """Write the shards of what is in the files now, below a folder; gives their key."""
    digests, texts = zip(*map(read_file, files), strict=True)
    # In the order of their hashes: stable and without a seed.
    documents = sorted(set(_documents(texts)), key=lambda text: hashlib.sha256(text).digest())
    sampled = shingles(documents)
    groups = sampled.groups()
    parts = _split(documents, groups)
    if not parts["train"]:
        size = sum(map(len, documents))
        raise DataError(
            f"corpus `{corpus}` is too small: {size:,} bytes in {len(documents)} documents\n"
            f"three parts need at least three texts, or {3 * BLOCK_BYTES:,} bytes"
        )
    end = bytes([END_OF_DOCUMENT])
    shards = {
        part: b"".join(documents[place] + end for place in places)
        for part, places in parts.items()
    }
    facts = _facts(corpus, {part: np.frombuffer(s, np.uint8) for part, s in shards.items()})
    facts = facts.model_copy(update=_duplicates(sampled, groups, parts))
    key = _key(digests)
    folder.mkdir(parents=True, exist_ok=True)
    # A temporary folder is closed to others; what is made in it is as open as the umask says.
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".draft-"))
    try:
        draft = scratch / key
        draft.mkdir()
        for part, shard in shards.items():
            _write(draft / f"{part}.bin", shard)
        _write(draft / "facts.json", facts.model_dump_json(indent=2).encode())
        _put(draft, folder / key, scratch / "damaged")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return key


def _duplicates(
    sampled: Shingles, groups: list[Group], parts: dict[str, Group]
) -> dict[str, float]:
    """What the facts say of near-duplicates and of text that is in two parts."""
    copied = {f"{part}_copied": sampled.copied(parts[part], parts["train"]) for part in HELD_OUT}
    return {"near_duplicates": sum(len(each) for each in groups if len(each) > 1), **copied}


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:  # of a disk that is full, without the name
        raise OSError(error.errno, error.strerror, str(path)) from error


def _put(draft: Path, folder: Path, damaged: Path) -> None:
    """Move shards to their place. What another process put there meanwhile stays, if whole."""
    if _moved(draft, folder) or _cached_facts(folder) is not None:
        return
    with suppress(FileNotFoundError):
        folder.rename(damaged)
    if not _moved(draft, folder) and _cached_facts(folder) is None:
        raise DataError(f"can't write {folder}: another process writes to it, too")


def _moved(draft: Path, folder: Path) -> bool:
    """Whether a folder could take a place where nothing was."""
    try:
        draft.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


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
