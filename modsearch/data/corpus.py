"""Corpora as cached token shards.

Documents are split into disjoint parts, near duplicates together: training sees `train`, explore
and measure see `validation`, confirm sees `test`. Each ends with the tokenizer's own token.
"""

import errno
import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from modsearch.config.data import BPE, BYTES, CorpusFacts, DataConfig, Mixing, Validation
from modsearch.config.model import ModelConfig
from modsearch.data.batches import Batches
from modsearch.data.cache import cache_folder
from modsearch.data.hub import files_of
from modsearch.data.prepare import Source, Told, Work
from modsearch.data.shards import token_type
from modsearch.data.shares import shared, taken
from modsearch.data.split import HELD_OUT_SHARE, PARTS
from modsearch.data.stamps import Stamps, key_of
from modsearch.data.text import BLOCK_BYTES, END_OF_TEXT
from modsearch.data.tokenizers import (
    NUM_BYTES,
    Tokenizer,
    open_tokenizer,
    read_tokenizer,
)
from modsearch.errors import DataError, shown

LAYOUT = 3
"""Raised where the same texts would be split into other tokens."""
OF_SOURCES = "bytes per token of each source"
"""Noted of several: what was prepared before lacks it, and losses per byte need it."""
PARTS_OF_SOURCES = "parts of each source"
"""Noted where each has its own: what was prepared before has those of the corpus as a whole."""
BPE_OF_SOURCES = "bpe by weight"
"""Noted of one that is trained on each source by its weight."""
MIXINGS = (
    Mixing(by_source=True, by_weight=True),
    Mixing(by_source=True),
    Mixing(),
)
"""What versions made of several sources, the newest first."""
MOST_TEXT = 16 * 1024 * 1024
"""Bytes of a part that suites draw documents from."""
MOST_TRIES = 3

Tokens = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class Corpus:
    """Memory-mapped tokens by part."""

    parts: dict[str, Tokens]
    facts: CorpusFacts
    tokenizer: Tokenizer
    folder: Path
    """Of the shards."""

    def text(self, part: str) -> npt.NDArray[np.uint8]:
        """UTF-8 of a part, or some `MOST_TEXT` bytes of it: the first documents of each source by
        its weight, which are a sample, since they stand in the order of their hashes. A zero ends
        each. The same whatever the tokens are, so that models of several tokenizers are asked the
        same."""
        segments, most = self._segments(part), [MOST_TEXT]
        if len(segments) > 1:
            most = taken(MOST_TEXT, self._bytes(part), [weight for _, weight in segments])
        ends = np.cumsum([size for size, _ in segments])[:-1]
        sources = zip(np.split(self.parts[part], ends), most, strict=True)
        return np.concatenate([self._first(tokens, size) for tokens, size in sources if size])

    def _first(self, tokens: Tokens, most: int) -> npt.NDArray[np.uint8]:
        """UTF-8 of the first documents with so many bytes, or of all."""
        if self.tokenizer.name == BYTES:
            tokens = tokens.astype(np.uint8, copy=False)
            last = np.flatnonzero(tokens[most - 1 :] == END_OF_TEXT)[:1]
            return tokens[: most + int(last[0])] if len(last) else tokens
        tokens = tokens[: most + 2 * BLOCK_BYTES]  # enough: none has less than a byte
        documents = np.split(tokens, np.flatnonzero(tokens == self.tokenizer.end) + 1)
        found, size = [], 0
        for document in documents:
            if len(document) and size < most:
                text = self.tokenizer.decode(document.tolist()).encode()
                found.append(text + bytes([END_OF_TEXT]))
                size += len(found[-1])
        return np.frombuffer(b"".join(found), np.uint8)

    def _bytes(self, part: str) -> list[int]:
        """Of each of several sources in a part."""
        known = [
            (each.tokens(part), each.bytes_per_token.get(part))
            for each in self.facts.sources
            if each.tokens(part)
        ]
        mean = self.facts.bytes_per_token_of(part)
        return [round(size * (per_token or mean)) for size, per_token in known]

    def batches(self, seq_len: int, batch_size: int, seed: int) -> Batches:
        """Training batches, sources by their weights."""
        sources = [(each.train_tokens, each.weight) for each in self.facts.sources]
        return Batches(self.parts["train"], seq_len, batch_size, seed, sources)

    def windows(self, validation: Validation, seq_len: int) -> Tokens:
        """The fixed sample: (windows, seq_len + 1) tokens, evenly spaced over what each source has
        in the part, by its weight; of a whole part that is one source's a view.

        Raises:
            DataError: the part has fewer tokens than the windows need without overlap.
        """
        tokens = self.parts[validation.part]
        num_windows = self.num_windows(validation, seq_len)
        segments = self._segments(validation.part)
        counts = shared(num_windows, [weight for _, weight in segments])
        starts, first = [np.empty(0, np.int64)], 0
        for place, ((size, _), count) in enumerate(zip(segments, counts, strict=True)):
            if count * (seq_len + 1) > size:
                raise self._too_few(validation.part, place, count, seq_len + 1)
            if validation.windows is None and len(segments) == 1:
                return tokens[: count * (seq_len + 1)].reshape(count, seq_len + 1)
            spread = size - seq_len - 1
            starts.append(first + np.arange(count) * spread // max(1, count - 1))
            first += size
        rows: Tokens = tokens[np.concatenate(starts)[:, None] + np.arange(seq_len + 1)]
        return rows

    def num_windows(self, validation: Validation, seq_len: int) -> int:
        """Of a sample: as many as are stated, or as a part has without overlap and with the shares
        of its sources, but at least one."""
        if validation.windows is not None:
            return validation.windows
        segments = self._segments(validation.part)
        total = sum(weight for _, weight in segments)
        fits = (size // (seq_len + 1) * total / weight for size, weight in segments)
        return max(1, int(min(fits)))

    def room(self, validation: Validation, seq_len: int) -> int:
        """Windows that the text of all sources has room for, whatever their weights."""
        return sum(size // (seq_len + 1) for size, _ in self._segments(validation.part))

    def scarcest(self, part: str) -> str:
        """The source that has least text of a part for its weight."""
        held = [each for each in self.facts.sources if each.tokens(part)]
        return min(held, key=lambda each: each.tokens(part) / each.weight).name

    def _too_few(self, part: str, place: int, count: int, length: int) -> DataError:
        """Of the tokens of a source in a part."""
        size = self._segments(part)[place][0]
        named = [each.name for each in self.facts.sources if each.tokens(part)]
        whose = f"source {named[place]}" if named else self.facts.name
        less = "more text of it, a smaller weight" if named else "a larger corpus"
        return DataError(
            f"{part} part of {whose} has {size:,} tokens, but {count} windows of {length} need "
            f"{count * length:,}\nuse {less}, or fewer windows"
        )

    def _segments(self, part: str) -> list[tuple[int, float]]:
        """Tokens and weight of each source, as they stand in a part."""
        found = [(each.tokens(part), each.weight) for each in self.facts.sources]
        return [each for each in found if each[0]] or [(len(self.parts[part]), 1.0)]


@dataclass(frozen=True)
class Shards:
    """Where the tokens of some files are kept, by what is in the files and what becomes of it."""

    name: str
    """Of the corpus."""
    sources: Sequence[Source]
    tokenizer: Tokenizer | None
    vocab_size: int
    mixing: Mixing

    @property
    def how(self) -> list[Any]:
        """What shards depend on beside the files."""
        several = len(self.sources) > 1
        fields = [(each.field, each.weight if several else 1.0) for each in self.sources]
        identity = (
            f"{BPE}-{self.vocab_size}" if self.tokenizer is None else self.tokenizer.identity
        )
        noted = [OF_SOURCES] if several else []
        noted += [PARTS_OF_SOURCES] if self.mixing.by_source else []
        noted += [BPE_OF_SOURCES] if self.mixing.by_weight else []
        return [LAYOUT, BLOCK_BYTES, HELD_OUT_SHARE, fields, identity, *noted]

    def found(self) -> tuple[Path, CorpusFacts | None]:
        """Their folder, and what they are; None where they are not made.

        Raises:
            DataError: a file can't be read.
        """
        stamps = Stamps.of(self.sources, self.how)
        content = stamps.content() or key_of(self.sources, self.how)
        folder = cache_folder() / "shards" / content
        facts = _cached_facts(folder)
        if facts is not None:
            stamps.remember(content)
        return folder, facts

    def made(self, told: Told) -> tuple[Path, CorpusFacts]:
        """The same, made where they are not.

        Raises:
            DataError: a file can't be read or changes meanwhile, or there is too little text.
        """
        stamps = Stamps.of(self.sources, self.how)
        folder, facts = self.found()
        tries = 0
        while facts is None:  # another process may move damaged ones away meanwhile
            if tries == MOST_TRIES:
                raise DataError(f"can't keep tokens in {cache_folder()}: what was written is gone")
            tries += 1
            content = key_of(self.sources, self.how)
            folder = cache_folder() / "shards" / content
            work = Work(
                self.name,
                self.sources,
                self.tokenizer,
                self.vocab_size,
                self.mixing,
                cache_folder() / "work" / content,
                told,
            )
            _make_shards(work, folder)
            if key_of(self.sources, self.how) != content:
                raise DataError(f"corpus `{self.name}` has changed while it was read\nstart again")
            facts = _cached_facts(folder)
        stamps.remember(folder.name)
        return folder, facts


@dataclass(frozen=True)
class Corpora:
    """One corpus as the tokens of each tokenizer."""

    by_size: Mapping[int, Corpus]
    """By `model.vocab_size`, where there are several; else one, of models of any size."""

    @property
    def first(self) -> Corpus:
        """The one, or that of the first vocabulary."""
        return next(iter(self.by_size.values()))

    def of(self, model: ModelConfig) -> Corpus:
        """That of a model's tokenizer; of a model of no vocabulary of these, which stands in for
        another to be timed, the tokens of the largest that it has room for."""
        if len(self.by_size) == 1 or model.vocab_size in self.by_size:
            return self.by_size.get(model.vocab_size, self.first)
        fit = [size for size in self.by_size if size < model.vocab_size]
        return self.by_size[max(fit, default=min(self.by_size))]

    def facts_of(self, model: ModelConfig) -> CorpusFacts:
        """Of that."""
        return self.of(model).facts

    @property
    def facts(self) -> dict[int, CorpusFacts]:
        """Of each, where there are several; else none."""
        several = len(self.by_size) > 1
        return {size: each.facts for size, each in self.by_size.items()} if several else {}


def load_corpus(
    config: DataConfig,
    vocab_size: int = 256,
    fingerprint: str | None = None,
    told: Told | None = None,
    *,
    prepare: bool = True,
    mixing: Mixing | None = None,
) -> Corpus:
    """The corpus as memory-mapped shards, made at the first use and cached.

    Shards go by what is in the files. That was read once where no file has changed since.

    Args:
        config: where the texts are, and what their tokens are.
        vocab_size: of a BPE that is trained on them; one of 256 has no merges: it is the bytes.
        fingerprint: of the tokens that they must be, where that matters.
        told: how far the preparation is.
        prepare: make what is not there yet.
        mixing: what several sources have of their own; None: all there is, unless the tokens must
            be those of an earlier version, or no others are there.

    Raises:
        DataError: nothing is there, a file can't be read, it is too small to split, its tokens are
            others than they must be, or it is not prepared and is not to be.
        ConfigError: there is no such tokenizer.
    """
    trained = config.tokenizer == BPE and vocab_size != NUM_BYTES
    plain = BYTES if config.tokenizer == BPE else config.tokenizer
    tokenizer = None if trained else open_tokenizer(plain, config.end)
    sources = [
        Source(each.path, files_of(each), each.text, each.weight) for each in config.sources
    ]
    several = len(sources) > 1
    wanted = MIXINGS if fingerprint is not None or not prepare else MIXINGS[:1]
    mixings = dict.fromkeys(
        Mixing(
            by_source=several and each.by_source, by_weight=several and trained and each.by_weight
        )
        for each in (wanted if mixing is None else [mixing])
    )
    shards = [Shards(config.name, sources, tokenizer, vocab_size, each) for each in mixings]
    if len(shards) > 1 or not prepare:
        for each in shards:
            folder, facts = each.found()
            if facts is not None and fingerprint in (None, facts.fingerprint):
                return _opened(folder, config, facts, tokenizer)
    if not prepare:
        raise DataError(
            f"corpus `{config.name}` is not prepared\n`modsearch data prepare` does that"
        )
    found = []
    for each in shards:
        folder, facts = each.made(told or _untold)
        if fingerprint in (None, facts.fingerprint):
            return _opened(folder, config, facts, tokenizer)
        found.append(facts.fingerprint)
    tokenizer_too = "" if plain == BYTES else f", or tokenizer {shown(config.tokenizer)},"
    raise DataError(
        f"the text of corpus `{config.name}`{tokenizer_too} is not what it was trained on: its "
        f"tokens are {found[0]}, those were {fingerprint}\n"
        f"bring back what it was; a relative path counts from the current folder, and "
        f"another version may have split the same text otherwise"
    )


def load_corpora(
    config: DataConfig,
    sizes: Sequence[int],
    told: Told | None = None,
    *,
    prepare: bool = True,
    mixing: Mixing | None = None,
) -> Corpora:
    """Every set of tokens, made at the first use and cached.

    Args:
        config: where the texts are, and what their tokens are.
        sizes: vocabularies; one where all models have the same tokens.
        told: how far the preparation of each is.
        prepare: make what is not there yet.
        mixing: what several sources have of their own, as `load_corpus` says.

    Raises:
        DataError: one can't be made, as `load_corpus` says.
        ConfigError: there is no such tokenizer.
    """
    return Corpora(
        {
            size: load_corpus(config, size, told=told, prepare=prepare, mixing=mixing)
            for size in sizes
        }
    )


def _opened(
    folder: Path, config: DataConfig, facts: CorpusFacts, tokenizer: Tokenizer | None
) -> Corpus:
    kind = token_type(facts.vocab_size)
    parts = {part: np.memmap(folder / f"{part}.bin", kind, mode="r") for part in PARTS}
    # Whoever made them may have had the same text under other names.
    sources = tuple(
        each.model_copy(update={"name": source.path})
        for each, source in zip(facts.sources, config.sources, strict=False)
    )
    return Corpus(
        {part: np.asarray(tokens) for part, tokens in parts.items()},
        facts.model_copy(update={"name": config.name, "sources": sources}),
        tokenizer or read_tokenizer(folder),
        folder,
    )


def _untold(what: str, done: int, total: int) -> None:
    """Nobody asked."""


def _cached_facts(folder: Path) -> CorpusFacts | None:
    """Facts of shards; None where there are none, or not all that the facts say."""
    try:
        facts = CorpusFacts.model_validate_json((folder / "facts.json").read_bytes())
        width = np.dtype(token_type(facts.vocab_size)).itemsize
        sizes = tuple((folder / f"{part}.bin").stat().st_size // width for part in PARTS)
    except (OSError, ValidationError):
        return None
    stated = (facts.train_tokens, facts.validation_tokens, facts.test_tokens)
    return facts if sizes == stated and all(sizes) else None


def _make_shards(work: Work, folder: Path) -> None:
    """Write shards, or wait for another process that does.

    What a preparation has done stays for the next one, unless the text itself is wrong.
    """
    work.folder.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(work.folder):
        if _cached_facts(folder) is not None:
            return
        draft = work.folder / "out"
        try:
            work.run(draft)
        except DataError:
            shutil.rmtree(work.folder, ignore_errors=True)
            raise
        _put(draft, folder, work.folder / "damaged")
        shutil.rmtree(work.folder, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time; where a file system has no locks, each for itself."""
    with (folder.with_name(f"{folder.name}.lock")).open("a") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        folder.mkdir(parents=True, exist_ok=True)  # whoever was before has taken it away
        yield


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
