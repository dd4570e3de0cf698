"""The text: where it is, which sample of it is scored, and what is in it."""

from typing import Literal

from pydantic import Field, field_validator

from modsearch.config.base import MOST_TOKENS, Frozen, Stated
from modsearch.errors import has_surrogates


class DataConfig(Stated):
    """Where text comes from: `stdlib`, or a file, a folder or a glob of text (plain or .gz)."""

    corpus: str = "stdlib"
    """`stdlib` (the source text of Python's standard library), or a file, a folder or a glob of
    plain text or .gz; relative to the current folder."""

    @field_validator("corpus", mode="before")
    @classmethod
    def _can_be_a_path(cls, value: object) -> object:
        if isinstance(value, str) and (
            not value.strip() or "\0" in value or has_surrogates(value)
        ):
            raise ValueError("must name `stdlib`, or a file, a folder or a glob of text, in UTF-8")
        return value


class Validation(Frozen):
    """The fixed sample that a trial is scored on."""

    part: Literal["validation", "test"] = "validation"
    windows: int | None = Field(64, gt=0, le=MOST_TOKENS)
    """Windows of `seq_len` tokens, evenly spaced over the part; None: as many as it has."""


class CorpusFacts(Frozen):
    """Of the tokens that a study is trained and scored on."""

    name: str
    fingerprint: str
    train_tokens: int
    validation_tokens: int
    test_tokens: int
    bytes_per_token: float
    unigram_entropy: float
    """Nats per token of the validation part under train counts."""
    bigram_entropy: float
    near_duplicates: int | None = None
    """Documents that share a tenth of their text with another one, and so are in its part."""
    validation_copied: float | None = None
    """Share of the validation text that stands verbatim, 50 bytes at least, in train."""
    test_copied: float | None = None
    """The same of the test text."""
