"""Files that are written whole or not at all, and read with a remedy for what is damaged."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from modsearch.config.reading import yaml_text
from modsearch.config.wording import first_error
from modsearch.errors import ModsearchError, StudyError

Parsed = TypeVar("Parsed")
Model = TypeVar("Model", bound=BaseModel)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the operating system inside have a path; those on an open file have none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """The same of bytes.

    Raises:
        OSError: it can't be written; its path is that of the file.
    """
    with whole(path) as part:
        part.write_bytes(data)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside a file, to write there what comes to the file at the end: whole, or not at
    all.

    Raises:
        OSError: it can't be written; its path is that of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # No longer than the longest name.
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise


def write_model(path: Path, model: BaseModel) -> None:
    """A frozen model as JSON, floats at full precision."""
    write_text(path, model.model_dump_json(indent=2) + "\n")


def write_yaml(path: Path, value: object) -> None:
    """Plain data as YAML, keys in their own order."""
    write_text(path, yaml_text(value))


def refuse_taken(folder: Path) -> None:
    """Whether a folder may be written as a whole.

    Raises:
        ModsearchError: there is something in its place.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ModsearchError(
            f"there is something in {folder} already\n"
            f"name a new or an empty folder: nothing is written over"
        )


def read_file(path: Path, parse: Callable[[bytes], Parsed], remedy: str) -> Parsed:
    """What a file of a study holds that is neither YAML nor a log.

    Raises:
        StudyError: it is missing or damaged; names it, and says what to do.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        why = error.strerror or str(error)
    except ValidationError as error:
        why = first_error(error, BaseModel)
    except UnicodeDecodeError:
        why = "it is not UTF-8 text"
    except RecursionError:
        why = "it is nested too deep"
    except ValueError as error:
        why = str(error)
    raise StudyError(f"can't read {path}: {why}\n{remedy}")


def read_model(path: Path, kind: type[Model], remedy: str) -> Model:
    """The same of JSON that holds a frozen model."""
    return read_file(path, kind.model_validate_json, remedy)
