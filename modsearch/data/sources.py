"""Which files a corpus means, and what is in them."""

import glob
import hashlib
import os
import stat
import sysconfig
from collections import deque
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from modsearch.config.data import STDLIB, DataConfig
from modsearch.data.text import Form
from modsearch.errors import DataError, shown

STDLIB_SKIPPED = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
)


FORMS = {
    ".jsonl": Form.LINES,
    ".ndjson": Form.LINES,
    ".parquet": Form.PARQUET,
    ".arrow": Form.ARROW,
    ".bin": Form.TOKENS,
    ".npy": Form.TOKENS,
}
"""By ending; what has another one is plain text, unless it is among the `OTHERS`."""
PACKINGS = (".gz", ".zst")
"""Of text and of lines."""
OTHERS = frozenset(
    {
        ".7z",
        ".bz2",
        ".docx",
        ".epub",
        ".feather",
        ".h5",
        ".hdf5",
        ".lz4",
        ".npz",
        ".odt",
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
    }
)
"""Endings of what holds text in a form that is not read, and would be trained on as it stands."""
TAKEN = (
    "a corpus is text or JSONL (plain, .gz or .zst), Parquet, or tokens (.bin, .npy): name "
    "`stdlib`, a file, a folder, a glob or hub:NAME"
)


def form_of(path: Path) -> tuple[Form, str]:
    """The form of a file and how it is packed, by its name.

    Raises:
        DataError: it is one that is not read.
    """
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    packing = endings[-1] if endings and endings[-1] in PACKINGS else ""
    bare = endings[:-1] if packing else endings
    ending = bare[-1] if bare else ""
    form = FORMS.get(ending, Form.TEXT)
    if ending in OTHERS or (packing and form not in (Form.TEXT, Form.LINES)):
        raise DataError(
            f"{path}: {ending}{packing} is a form that is not read\n"
            f"write its text into a file of its own, or leave it out with a glob such as "
            f"{shown('FOLDER/**/*.txt')}"
        )
    return form, packing


def text_files(corpus: str) -> list[Path]:
    """The files that a corpus means, sorted.

    Links are followed. Below a folder, and where a wildcard stands, names that start with a dot
    are left out.

    Raises:
        DataError: there is none, one can't be reached, or one is of another form than text.
    """
    if corpus == STDLIB:
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
        form_of(file)
    return files


def refuse_inside(data: DataConfig, out: Path) -> None:
    """What is written must not become a part of the text.

    Raises:
        DataError: a folder lies inside of a corpus that is one.
    """
    for source in data.sources:
        _refuse_inside(source.path, out)


def _refuse_inside(corpus: str, out: Path) -> None:
    path = Path(os.path.expanduser(corpus))
    if corpus == STDLIB or not os.path.isdir(path):
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


def file_digest(path: Path) -> bytes:
    """Of a file's bytes, and of how they are read.

    Raises:
        DataError: it can't be read.
    """
    form, packing = form_of(path)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error
    return digest + f"{form}{packing}".encode()


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
