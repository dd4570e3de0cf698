"""Trial directories on a storage that every machine reaches: a shared path, or any fsspec URI.

A worker trains in a folder of its own machine and keeps a copy on the storage, checkpoints
included; whoever goes on with the trial starts from that copy.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from modsearch.errors import StudyError, first_line, redacted
from modsearch.store import write_bytes

LAST = "result.json"
"""Written after all others: where it is, the rest is whole."""


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
