"""Whole documents of the files that a corpus names."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from modsearch.config.data import DataConfig
from modsearch.data.hub import files_of
from modsearch.data.reading import documents_of


@dataclass(frozen=True)
class Texts:
    """The texts of files, and a hash of them; without files neither."""

    texts: Sequence[bytes] = ()
    fingerprint: str | None = None


def whole_texts(data: DataConfig) -> Texts:
    """The documents of the files that a corpus names, in order of their names.

    Raises:
        DataError: there is none, or one can't be read.
    """
    texts = [
        text
        for source in data.sources
        for path in files_of(source)
        for text in documents_of(path, source.text)
    ]
    digests = "".join(hashlib.sha256(text).hexdigest() for text in texts)
    return Texts(texts, hashlib.sha256(digests.encode()).hexdigest()[:16])
