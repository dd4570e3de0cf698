"""Whether files are still what was read: by their stamps, or by what is in them."""

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modsearch.data.cache import cache_folder
from modsearch.data.sources import file_digest

if TYPE_CHECKING:
    from modsearch.data.prepare import Source

SETTLED_NS = 2_000_000_000
"""Of files that changed within this time a further change may leave the same stamps: their
content is read again."""


@dataclass(frozen=True)
class Stamps:
    """What changes with files, without reading them, and with what becomes of them."""

    file: Path
    """That says what had these stamps."""
    settled: bool
    """Whether no file has changed just before they were taken."""

    @classmethod
    def of(cls, sources: "Sequence[Source]", how: list[Any]) -> "Stamps":
        """As they are now."""
        started = time.time_ns()
        rows: list[Any] = []
        newest = 0
        for source in sources:
            for path in source.files:
                at = path.stat()
                changed = (at.st_size, at.st_mtime_ns, at.st_ctime_ns)
                newest = max(newest, at.st_ctime_ns)
                rows.append((os.path.abspath(path), at.st_dev, at.st_ino, *changed))
            rows.append(source.name)
        name = hashlib.sha256(json.dumps([how, rows]).encode()).hexdigest()[:32]
        return cls(cache_folder() / "seen" / name, newest < started - SETTLED_NS)

    def content(self) -> str | None:
        """The key of the shards that files with these stamps had; None where that is not known."""
        try:
            key = self.file.read_text()
        except (OSError, UnicodeDecodeError):
            return None
        return key if re.fullmatch("[0-9a-f]{32}", key) else None

    def remember(self, content: str) -> None:
        """Write that key down, if it can be relied on."""
        if not self.settled:
            return
        # It only saves time: a cache that others filled may be read-only.
        draft = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(content)
            draft.replace(self.file)


def key_of(sources: "Sequence[Source]", how: list[Any]) -> str:
    """The name of a corpus's shards: what its files have in them, and what becomes of that.

    Raises:
        DataError: a file can't be read.
    """
    contents = [sorted({file_digest(path).hex() for path in each.files}) for each in sources]
    return hashlib.sha256(json.dumps([how, contents]).encode()).hexdigest()[:32]
