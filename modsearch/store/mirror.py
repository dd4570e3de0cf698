"""Trial directories on a storage that every machine reaches: a shared path, or any fsspec URI.

A worker trains in a folder of its own machine and keeps a copy on the storage, checkpoints
included; whoever goes on with the trial starts from that copy. While it has the trial a lease
lies beside the copy, and others wait.
"""

import os
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError

from modsearch.config.runtime import Lease
from modsearch.errors import StudyError, first_line, redacted
from modsearch.store.files import write_bytes

LAST = "result.json"
"""Written after all others: where it is, the rest is whole."""

LEASE = ".lease.json"
"""Hidden, so that no copy of a trial takes it along."""

BEAT_SECONDS = 10.0
EXPIRY_SECONDS = 60.0
"""A lease that stands still for so long belongs to a worker that is dead or cut off."""


@dataclass(frozen=True)
class Mirror:
    """A folder on a storage, with one folder for each trial."""

    base: str

    @classmethod
    def of(cls, storage: str, study: str) -> "Mirror":
        """The trials of a study on a storage that is there.

        Raises:
            StudyError: it can't be written to.
        """
        base = storage if "://" in storage else str(Path(storage).resolve())
        mirror = cls(f"{base.rstrip('/')}/{study}/trials")
        try:
            files, root = mirror._open()
            files.makedirs(root, exist_ok=True)
        except Exception as error:  # each file system has its own
            raise StudyError(
                f"can't use --storage {redacted(base)}: {first_line(error)}\n"
                f"name a path or an fsspec URI that this machine and every node can write to"
            ) from error
        return mirror

    def _open(self) -> tuple[fsspec.AbstractFileSystem, str]:
        if "://" not in self.base:  # a path, whatever is in its names
            return LocalFileSystem(), self.base
        files, root = fsspec.url_to_fs(self.base)
        return files, str(root)

    def pull(self, trial: str, folder: Path, *, without: tuple[str, ...] = ()) -> None:
        """Copy what the storage has of a trial."""
        files, root = self._open()
        files.invalidate_cache()
        where = f"{root}/{trial}"
        names = [path.removeprefix(where).lstrip("/") for path in files.find(where)]
        for name in sorted(names, key=lambda name: name == LAST):
            if name not in without and not Path(name).name.startswith("."):
                write_bytes(folder / name, files.cat_file(f"{where}/{name}"))

    def push(self, trial: str, folder: Path, seen: dict[str, int]) -> None:
        """Copy what has changed since it was `seen`, and remove what is gone."""
        files, root = self._open()
        now = _files(folder)
        for name in sorted(now, key=lambda name: name == LAST):
            if seen.get(name) != now[name]:
                _write(files, f"{root}/{trial}/{name}", (folder / name).read_bytes())
                seen[name] = now[name]
        for name in set(seen) - set(now):
            with suppress(FileNotFoundError):
                files.rm_file(f"{root}/{trial}/{name}")
            del seen[name]

    def remove(self, trial: str, name: str) -> None:
        """Delete one file of a trial, where it is there."""
        files, root = self._open()
        if files.exists(f"{root}/{trial}/{name}"):
            files.rm_file(f"{root}/{trial}/{name}")

    @contextmanager
    def leased(
        self, trial: str, beat: float = BEAT_SECONDS, expiry: float = EXPIRY_SECONDS
    ) -> Iterator[None]:
        """Wait for another worker that has a trial, and keep others out while this one has it.

        Two that begin in the same moment may both get in. Then, as after a cut, both train the
        same.
        """
        self._wait(trial, beat, expiry)
        mine = Lease(host=_machine(), process=os.getpid(), token=secrets.token_hex(8), beat=0)
        self._write_lease(trial, mine)
        ended = threading.Event()

        def renew() -> None:
            lease = mine
            while not ended.wait(beat):
                lease = lease.model_copy(update={"beat": lease.beat + 1})
                with suppress(Exception):  # the next time, unless it has expired by then
                    if not self._is_held_as(trial, mine):
                        return
                    self._write_lease(trial, lease)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(Exception):  # it expires
                if self._is_held_as(trial, mine):
                    self.remove(trial, LEASE)

    def _wait(self, trial: str, beat: float, expiry: float) -> None:
        """Until nobody has a trial. Only this machine's clock counts: clocks of two differ."""
        seen, since = None, time.monotonic()
        while (found := self._read_lease(trial)) is not None and not _is_dead(found):
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since >= expiry:
                return
            time.sleep(beat / 2)

    def _read_lease(self, trial: str) -> bytes | None:
        files, root = self._open()
        with suppress(FileNotFoundError):
            return bytes(files.cat_file(f"{root}/{trial}/{LEASE}"))
        return None

    def _write_lease(self, trial: str, lease: Lease) -> None:
        files, root = self._open()
        _write(files, f"{root}/{trial}/{LEASE}", lease.model_dump_json().encode())

    def _is_held_as(self, trial: str, mine: Lease) -> bool:
        """Whether the lease is still ours; another worker takes one that has expired."""
        found = self._read_lease(trial)
        return found is not None and Lease.model_validate_json(found).token == mine.token

    @contextmanager
    def following(self, trial: str, folder: Path, seconds: float) -> Iterator[None]:
        """Copy what changes from here on, while a trial runs and when it has ended."""
        seen = _files(folder)
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(max(0.2, seconds)):
                with suppress(Exception):  # the next time, or at the end, where it counts
                    self.push(trial, folder, seen)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        self.push(trial, folder, seen)


BOOT = Path("/proc/sys/kernel/random/boot_id")
PROCESSES = Path("/proc/self/ns/pid")


def _machine() -> str:
    """Where a process number means one process: containers of one name may count their own."""
    try:
        return f"{socket.gethostname()} {BOOT.read_text().strip()} {PROCESSES.readlink()}"
    except OSError:  # it can't be told apart from others of its name
        return f"{socket.gethostname()} {uuid.uuid4()}"


def _is_dead(found: bytes) -> bool:
    """Whether a lease's holder was a process of this machine and has ended."""
    try:
        lease = Lease.model_validate_json(found)
        if lease.host == _machine():
            os.kill(lease.process, 0)
    except ProcessLookupError:
        return True
    except (ValidationError, PermissionError, OverflowError):
        pass
    return False


def _files(folder: Path) -> dict[str, int]:
    """Time stamps of what belongs to a trial: no locks, no files that are being written."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def _write(files: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Whole or not at all, as object stores write anyway."""
    if isinstance(files, LocalFileSystem):
        write_bytes(Path(path), data)
    else:
        files.makedirs(files._parent(path), exist_ok=True)  # nothing on an object store
        files.pipe_file(path, data)
