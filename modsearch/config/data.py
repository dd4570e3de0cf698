"""The text: where it is, how it becomes tokens, what is scored of it, and what is in it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from modsearch.config.base import MOST_TOKENS, Frozen, Stated
from modsearch.config.units import Unit
from modsearch.errors import has_surrogates

STDLIB = "stdlib"
"""The source text of Python's standard library."""
BYTES = "bytes"
"""The tokenizer that needs no file."""
BPE = "bpe"
"""A tokenizer that is trained on the corpus."""
HUB = "hub:"
"""Before the name of a data set."""


Rule = Literal["hash", "filled"]
"""`hash`: each document's part follows from itself alone, so that more text moves none. `filled`:
the parts were filled in the order of hashes, as few documents need."""


def _place(value: object) -> object:
    if isinstance(value, str) and (not value.strip() or "\0" in value or has_surrogates(value)):
        raise ValueError(
            "must name `stdlib`, or a file, a folder or a glob of text, or `hub:NAME`, in UTF-8"
        )
    return value


Place = Annotated[str, BeforeValidator(_place)]


class SourceConfig(Stated):
    """One of several places that text comes from, or one that needs more than its place."""

    path: Place
    """`stdlib`, a file, a folder, a glob or `hub:NAME`."""
    weight: float = Field(1.0, gt=0, le=1e6)
    """Share of the training tokens, and of the scored windows, among those of all sources."""
    text: str = Field("text", min_length=1)
    """The field with the text, in JSONL, Parquet and data sets."""
    split: str = Field("train", min_length=1)
    """Of a data set of the hub."""
    subset: str | None = None
    """Of a data set of the hub; it calls that a configuration."""
    streaming: bool = False
    """Keep the text of a data set of the hub alone, and not the data set."""


def _several(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    return tuple({"path": each} if isinstance(each, str) else each for each in value)


def _distinct(value: object) -> object:
    if isinstance(value, tuple):
        if not value:
            raise ValueError("must name one place or more")
        paths = [each.path for each in value]
        if len(set(paths)) < len(paths):
            raise ValueError("names a place twice: give it a larger weight instead")
    return value


class DataConfig(Stated):
    """Where text comes from, and what its tokens are."""

    corpus: Annotated[
        Place | SourceConfig | tuple[SourceConfig, ...],
        BeforeValidator(_several),
        AfterValidator(_distinct),
    ] = STDLIB
    """`stdlib` (the source text of Python's standard library), a file, a folder or a glob of text,
    JSONL, Parquet or tokens, or `hub:NAME`; a mapping with more about it, or a list of these.
    Relative to the current folder."""
    tokenizer: Place = "bytes"
    """`bytes`, `bpe` (trained on the corpus, one for each `vocab_size` of the models; of 256 the
    bytes themselves), a `tokenizer.json`, a folder with one, or a name of the hub."""
    end: str | None = Field(None, min_length=1)
    """The token that ends a document, where the tokenizer does not say so itself."""

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """All places, each with what there is to say of it."""
        if isinstance(self.corpus, str):
            return (SourceConfig(path=self.corpus),)
        return (self.corpus,) if isinstance(self.corpus, SourceConfig) else self.corpus

    @property
    def name(self) -> str:
        """The places in a line."""
        return " + ".join(each.path for each in self.sources)


class Validation(Frozen):
    """The fixed sample that a trial is scored on."""

    part: Literal["validation", "test"] = "validation"
    windows: int | None = Field(64, gt=0, le=MOST_TOKENS)
    """Windows of `seq_len` tokens, evenly spaced over the part; None: as many as it has."""


class SourceFacts(Frozen):
    """What one of several sources has in each part; tokens."""

    name: str
    weight: float
    train_tokens: int
    validation_tokens: int
    test_tokens: int
    bytes_per_token: dict[str, float] = {}
    """Of each part with tokens of it; empty where an earlier version did not note it."""
    split: Rule | None = None
    """How its documents came into their parts; None where an earlier version did not note it."""

    def tokens(self, part: str) -> int:
        """Of a part."""
        return {
            "train": self.train_tokens,
            "validation": self.validation_tokens,
            "test": self.test_tokens,
        }[part]


class Mixing(Frozen):
    """What several sources have of their own; earlier versions gave them less."""

    by_source: bool = False
    """Whether each has its own parts, and not the corpus as a whole."""
    by_weight: bool = False
    """Whether a BPE is trained on them by their weights, and not on all text alike."""


class CorpusFacts(Frozen):
    """Of the tokens that a study is trained and scored on; None where an earlier version did not
    note it."""

    name: str
    fingerprint: str
    train_tokens: int
    validation_tokens: int
    test_tokens: int
    bytes_per_token: float
    """Of the train part, the end of a document as one byte."""
    unigram_entropy: float
    """Nats per token of the validation part under train counts."""
    bigram_entropy: float
    near_duplicates: int | None = None
    """Documents that share a tenth of their text with another one, and so are in its part."""
    validation_copied: float | None = None
    """Share of the validation text that stands verbatim, 50 bytes at least, in train."""
    test_copied: float | None = None
    """The same of the test text."""
    validation_bytes_per_token: float | None = None
    test_bytes_per_token: float | None = None
    tokenizer: str = "bytes"
    vocab_size: int = 256
    """Tokens that the tokenizer has."""
    documents: int | None = None
    """As they were read, the empty ones left out."""
    pieces: int | None = None
    """What they were cut into, without exact copies; these are in one part each."""
    copies: int | None = None
    """Exact copies of a piece, which are left out."""
    invalid: int | None = None
    """Places that were no UTF-8, or NUL, and are U+FFFD now."""
    crlf: int | None = None
    """Line ends of two characters that are one now."""
    boms: int | None = None
    """Marks of a byte order that are left out."""
    split: Rule = "filled"
    """Of all sources, `filled` where one is."""
    by_source: bool = False
    """Whether each of several sources has its own parts, and not the corpus as a whole, as earlier
    versions had it."""
    by_weight: bool = False
    """Whether a BPE was trained on several sources by their weights."""
    sources: tuple[SourceFacts, ...] = ()
    """Where there are several."""

    @property
    def without_text(self) -> list[str]:
        """A line for each source that has nothing of its own to train on, or to be scored on."""
        lines = []
        for each in self.sources:
            scored = [part for part in ("validation", "test") if not each.tokens(part)]
            if not each.train_tokens:
                lines.append(
                    f"source {each.name} is not trained on, whatever its weight: its text stands "
                    f"in another source, or is too little"
                )
            elif scored:
                lines.append(
                    f"source {each.name} has no {' and no '.join(scored)} text: losses there are "
                    f"those of the other sources; more documents of it would have some"
                )
        return lines

    def bytes_per_token_of(self, part: str) -> float:
        """Of what is trained on or scored: sources count there by their weights."""
        weighted = [
            (each.weight, each.bytes_per_token.get(part))
            for each in self.sources
            if each.tokens(part)
        ]
        sizes = [weight * size for weight, size in weighted if size is not None]
        if sizes and len(sizes) == len(weighted):
            return sum(sizes) / sum(weight for weight, _ in weighted)
        known = {
            "validation": self.validation_bytes_per_token,
            "test": self.test_bytes_per_token,
        }
        return known.get(part) or self.bytes_per_token

    def size(self, unit: Unit, part: str) -> float:
        """Units of a token of a part, in the mean."""
        return 1.0 if unit == "token" else self.bytes_per_token_of(part)
