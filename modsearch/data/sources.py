"""Which files a corpus means, and what is in them."""

import glob
import gzip
import hashlib
import os
import stat
import sysconfig
import zlib
from collections import deque
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from modsearch.errors import DataError, shown

STDLIB_SKIPPED = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
)
NOT_TEXT = frozenset(
    {
        ".7z",
        ".arrow",
        ".bin",
        ".bz2",
        ".docx",
        ".epub",
        ".feather",
        ".h5",
        ".hdf5",
        ".jsonl",
        ".lz4",
        ".ndjson",
        ".npy",
        ".npz",
        ".parquet",
        ".pdf",
        ".pickle",
        ".pkl",
        ".pt",
        ".pth",
        ".rar",
        ".safetensors",
        ".tar",
        ".tgz",
        ".tfrecord",
        ".xz",
        ".zip",
        ".zst",
    }
)
"""Endings of what holds text in another form, which would be trained on as it stands."""
TAKEN = "a corpus is plain text or .gz: name `stdlib`, a file, a folder or a glob"


def text_files(corpus: str) -> list[Path]:
    """The files that a corpus means, sorted.

    Links are followed. Below a folder, and where a wildcard stands, names that start with a dot
    are left out.

    Raises:
        DataError: there is none, one can't be reached, or one is of another form than text.
    """
    if corpus == "stdlib":
        root = Path(sysconfig.get_paths()["stdlib"])
        found = root.rglob("*.py")
        return sorted(p for p in found if not STDLIB_SKIPPED & set(p.relative_to(root).parts))
    # Unlike pathlib's, it leaves a `~` that no home folder is known for as it stands.
    path = Path(os.path.expanduser(corpus))
    if os.path.isdir(path):
        files = _regular(_matches(path, ("**", "*")))
    elif os.path.isfile(path):
        files = [path]
    elif glob.has_magic(str(path)):
        anchor = Path(path.anchor)
        files = _regular(_matches(anchor, path.relative_to(anchor).parts))
    else:
        files = []
    if not files:
        here = "" if path.is_absolute() else f", looked for from {Path.cwd()}"
        raise DataError(f"no text at {shown(corpus, 300)}{here}\n{TAKEN}")
    for file in files:
        _check_form(file)
    return files


def refuse_inside(corpus: str, out: Path) -> None:
    """What is written must not become a part of the text.

    Raises:
        DataError: a folder lies inside of a corpus that is one.
    """
    path = Path(os.path.expanduser(corpus))
    if corpus == "stdlib" or not os.path.isdir(path):
        return
    root, out = path.resolve(), out.resolve()
    hidden = out.is_relative_to(root) and any(
        part.startswith(".") for part in out.relative_to(root).parts
    )
    if out.is_relative_to(root) and not hidden:
        instead = shown(f"{corpus.rstrip('/')}/*.txt", 300)
        raise DataError(
            f"{out} lies inside of the corpus {shown(corpus, 300)}, and would change it\n"
            f"use an --out elsewhere, or a glob such as {instead}"
        )


def read_file(path: Path) -> tuple[bytes, bytes]:
    """A file's digest, and its text.

    Raises:
        DataError: it can't be read, or it is no text.
    """
    try:
        content = path.read_bytes()
        text = gzip.decompress(content) if _packed(path) else content
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"can't read {path}: {error}") from error
    if b"\0" in text:
        raise DataError(f"{path} is not text: it has NUL bytes\n{TAKEN}")
    return _with_form(path, hashlib.sha256(content).digest()), text


def file_digest(path: Path) -> bytes:
    """The digest alone: of a file's bytes, and of how they are read.

    Raises:
        DataError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return _with_form(path, hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error


def _with_form(path: Path, digest: bytes) -> bytes:
    return digest + (b"gz" if _packed(path) else b"")


def _packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _check_form(path: Path) -> None:
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    ending = endings[-2] if len(endings) > 1 and endings[-1] == ".gz" else (endings or [""])[-1]
    if ending in NOT_TEXT:
        raise DataError(
            f"{path} is no plain text: {ending} holds it in another form\n"
            f"write its text into a file of its own, or leave it out with a glob such as "
            f"{shown('FOLDER/**/*.txt')}"
        )


def _regular(paths: Iterator[Path]) -> list[Path]:
    """The files among paths, each once, sorted; a link to nothing is an error."""
    found = set()
    for path in paths:
        try:
            if stat.S_ISREG(path.stat().st_mode):
                found.add(path)
        except OSError as error:
            raise DataError(f"can't read {path}: {error.strerror or error}") from error
    return sorted(found)


def _matches(root: Path, pattern: tuple[str, ...]) -> Iterator[Path]:
    """Paths below a folder that the parts of a glob name, through links, too.

    A real folder is searched once for each part of the pattern, by the shortest way to it, so
    that folders which link to each other have an end.
    """
    if pattern[-1] == "**":
        pattern = (*pattern, "*")
    seen: set[tuple[int, int, int]] = set()
    todo = deque([(root, 0)])
    while todo:
        folder, place = todo.popleft()
        at = folder.stat()
        if (at.st_dev, at.st_ino, place) in seen:
            continue
        seen.add((at.st_dev, at.st_ino, place))
        if pattern[place] == "**":
            todo.append((folder, place + 1))
            todo += [(path, place) for path in _inside(folder, "*") if os.path.isdir(path)]
            continue
        fitting = _inside(folder, pattern[place])
        if place + 1 == len(pattern):
            yield from fitting
        else:
            todo += [(path, place + 1) for path in fitting if os.path.isdir(path)]


def _inside(folder: Path, pattern: str) -> list[Path]:
    """What a folder has under a name or a wildcard, sorted; `*` is no leading dot."""
    if not glob.has_magic(pattern):
        path = folder / pattern
        return [path] if os.path.lexists(path) else []
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"can't list {folder}: {error.strerror or error}") from error
    hidden = pattern.startswith(".")
    return [
        folder / name
        for name in names
        if (hidden or not name.startswith(".")) and fnmatchcase(name, pattern)
    ]
