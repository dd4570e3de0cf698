"""Temporary folders that a killed process does not leave behind for good."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GRACE_SECONDS = 60.0
"""A folder younger than this may belong to a process that has yet to lock it."""


@contextmanager
def scratch(prefix: str, longest: int | None = None) -> Iterator[Path]:
    """A folder of this process; those of dead processes with the same prefix are removed first.

    `longest` bounds the length of its parent's path, for what puts sockets into it.
    """
    parent = Path(tempfile.gettempdir())
    if longest is not None and len(str(parent)) > longest:
        parent = Path("/tmp")
    _sweep(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with (folder / ".alive").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path, prefix: str) -> None:
    for lock in parent.glob(f"{prefix}*/.alive"):
        with suppress(OSError):  # someone else's, or just removed
            if time.time() - lock.stat().st_mtime < GRACE_SECONDS:
                continue
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
