"""One driver a study: a lock that dies with its process, and costs no heavy import."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modsearch.errors import StudyError
from modsearch.store import StudyDirectory


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a study's lock; it is gone with the process, however that ends.

    Raises:
        StudyError: another driver holds it, or the file system has no locks.
    """
    root.mkdir(parents=True, exist_ok=True)
    with StudyDirectory(root).lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StudyError(
                f"another driver runs {root} (process {file.read().strip() or 'unknown'})\n"
                f"wait for it, or watch it with `modsearch status {root}`"
            ) from None
        except OSError as error:
            raise StudyError(
                f"{root} is on a file system without locks: {error.strerror}\n"
                f"put --out on a disk of this machine, and shared trials on --storage"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
