"""One driver a study, one worker a trial: locks that die with their process, and cost no heavy
import."""

import fcntl
import os
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from modsearch.errors import StudyError
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import naming

GLANCE_SECONDS = 0.05
"""Longer than anyone who only looks holds a lock."""


def is_held(path: Path) -> bool | None:
    """Whether a process that lives holds a lock file; None where that can't be told."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:  # a file system without locks, or a file of someone else's
        return None
    return False


def refuse_second(root: Path) -> None:
    """A look before the work of getting ready; whoever goes on takes the lock with `locked`.

    Raises:
        StudyError: another driver holds the study's lock.
    """
    path = StudyDirectory(root).lock
    if is_held(path):
        raise StudyError(_held_by_another(root, path.read_text()))


def _held_by_another(root: Path, holder: str) -> str:
    return (
        f"another driver runs {root} (process {holder.strip() or 'unknown'})\n"
        f"wait for it, or watch it with `modsearch status {shlex.quote(str(root))}`"
    )


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a study's lock; it is gone with the process, however that ends. A folder that was not
    there before, and has nothing in it at the end, is gone too.

    Raises:
        StudyError: another driver holds it, or the file system has no locks.
    """
    new = [folder for folder in (root, *root.parents) if not folder.exists()]
    path = StudyDirectory(root).lock
    root.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            _take(file)
            if not _is_at(file, path):  # whoever held it has taken it away
                raise BlockingIOError
        except BlockingIOError:
            file.seek(0)
            raise StudyError(_held_by_another(root, file.read())) from None
        except OSError as error:
            _take_away(path, new)
            raise StudyError(
                f"{root} is on a file system without locks: {error.strerror}\n"
                f"put --out on a disk of this machine, and shared trials on --storage"
            ) from error
        with naming(path):
            file.truncate(0)
            file.write(f"{os.getpid()} on {socket.gethostname()}")
            file.flush()
        try:
            yield
        finally:
            _take_away(path, new)


def _take_away(lock: Path, folders: Sequence[Path]) -> None:
    """Folders that were made for a study, where nothing but its lock came into them."""
    with suppress(OSError):
        if folders and os.listdir(lock.parent) == [lock.name]:
            lock.unlink()
            for folder in folders:
                folder.rmdir()


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _take(file: IO[str]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(GLANCE_SECONDS)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Wait for another worker that has this trial, and keep others out.

    On a cluster a worker can outlive its driver for a moment, or the network link over which
    it was watched; a second one then finds its result.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / ".lock").open("a")
    except OSError:  # the training will say so, as a state of its record
        yield
        return
    with file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
