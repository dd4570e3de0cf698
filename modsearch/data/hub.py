"""What comes from the Hugging Face hub; its libraries are imported when they are asked for."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zstandard

from modsearch.config.data import HUB, SourceConfig
from modsearch.data.cache import cache_folder
from modsearch.data.network import known_network
from modsearch.data.sources import text_files
from modsearch.errors import DataError, first_line, shown

HUB_NAME = "a name of the hub is NAME or OWNER/NAME"


def is_path(name: str) -> bool:
    """Whether a name is that of a place here, and can be none of the hub."""
    return (
        name.startswith((".", "~", "/"))
        or name.endswith((".json", "/"))
        or "\\" in name
        or name.count("/") > 1
    )


def looked_for(name: str) -> str:
    """Where a place that is not there was looked for."""
    return "" if Path(name).expanduser().is_absolute() else f" in {Path.cwd()}"


def tokenizer_folder(name: str, files: Sequence[str]) -> Path:
    """The folder of the hub's cache with files of a tokenizer, fetched where they are not there.

    Raises:
        DataError: they are not to be had.
    """
    advice = "name a local tokenizer.json, or a folder with one"
    return _snapshot("tokenizer", name, files, files[:1], advice)


def model_folder(name: str, files: Sequence[str]) -> Path:
    """The same of a model, whose first file is always there.

    Raises:
        DataError: they are not to be had.
    """
    advice = "name a local folder with config.json, weights and tokenizer"
    return _snapshot("model", name, files, files[:2], advice)


def _snapshot(
    kind: str, name: str, files: Sequence[str], needed: Sequence[str], advice: str
) -> Path:
    """A folder with all of the files that the hub has; `needed` are patterns without which what
    the cache has is not the whole."""
    if is_path(name):
        raise DataError(f"no {kind} at {shown(name)}{looked_for(name)}\n{advice}; {HUB_NAME}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(name, allow_patterns=list(files), local_files_only=True))
        if all(any(found.glob(pattern)) for pattern in needed):
            return found
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:  # no name that the hub could have
        raise DataError(
            f"no {kind} at {shown(name)}{looked_for(name)}, and {first_line(error)}\n"
            f"{advice}; {HUB_NAME}"
        ) from error
    try:
        with known_network():
            return Path(snapshot_download(name, allow_patterns=list(files)))
    except Exception as error:  # of the network, of the hub, of the name
        raise DataError(
            f"{kind} {shown(name)} can't be had from the hub: {first_line(error)}\n"
            f"nor is there such a folder{looked_for(name)}: {advice}; {HUB_NAME}"
        ) from error


def files_of(source: SourceConfig) -> list[Path]:
    """What a source has, on this machine; a data set of the hub is fetched.

    Raises:
        DataError: nothing is there, or the hub can't be reached.
    """
    if source.path.startswith(HUB):
        return data_files(source, cache_folder())
    return text_files(source.path)


def data_files(source: SourceConfig, cache: Path) -> list[Path]:
    """The files that a data set is kept in, fetched where they are not there.

    The name may be that of a folder: one of `save_to_disk`, or one with files that `datasets`
    reads. What is streamed goes into the folder `cache`.

    Raises:
        DataError: it is not to be had, or has no such split.
    """
    name = source.path.removeprefix(HUB)
    folder = Path(name).expanduser()
    if is_path(name) and not folder.is_dir():
        raise DataError(
            f"no data set at {shown(name)}{looked_for(name)}\n"
            f"name its folder, or a file or a glob of JSONL or Parquet; {HUB_NAME}"
        )
    if "[" in source.split:  # its files would be read whole
        raise DataError(
            f"split {shown(source.split)} of {source.path} is a part of one\n"
            f"name a whole split, such as {shown(source.split.partition('[')[0] or 'train')}"
        )
    import datasets

    if source.streaming:
        return [_streamed(source, cache)]
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            found = datasets.load_from_disk(str(folder))
            if isinstance(found, datasets.DatasetDict):
                found = found[source.split]
        else:
            with known_network():
                found = datasets.load_dataset(name, source.subset, split=source.split)
    except KeyError as error:
        raise DataError(f"{source.path} has no split {shown(source.split)}") from error
    except Exception as error:  # of the network, of the hub, of the name, of the data set
        raise _not_had(name, error) from error
    return [Path(each["filename"]) for each in found.cache_files]


def _streamed(source: SourceConfig, cache: Path) -> Path:
    """The text alone, as compressed lines in the cache; one file a data set, subset and split. Of
    a folder it is another one once that has changed.

    Raises:
        DataError: it is not to be had, or has no such field.
    """
    import datasets

    key: list[Any] = [source.path, source.subset, source.split, source.text]
    if (folder := Path(source.path.removeprefix(HUB)).expanduser()).is_dir():
        key.append(_stamps(folder))
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    path = cache / "hub" / f"{name}.jsonl.zst"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{name}.{os.getpid()}")
    dataset = source.path.removeprefix(HUB)
    try:
        with known_network():
            rows = datasets.load_dataset(
                dataset, source.subset, split=source.split, streaming=True
            ).select_columns([source.text])
        with zstandard.open(draft, "wb") as file:
            for row in rows:
                text = json.dumps({source.text: row[source.text]}, ensure_ascii=False)
                file.write(text.encode(errors="surrogatepass") + b"\n")
        draft.replace(path)
    except Exception as error:  # of the network, of the hub, of the name, of the data set
        raise _not_had(dataset, error) from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """What changes with the files of a folder, and with the folder."""
    files = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(str(path.absolute()), at.st_size, at.st_mtime_ns) for path, at in files]


def _not_had(name: str, error: Exception) -> DataError:
    advice = "name a local copy: hub:FOLDER, or a file or a glob of JSONL or Parquet"
    if Path(name).expanduser().is_dir():
        return DataError(f"can't read data set {shown(name)}: {first_line(error)}\n{advice}")
    return DataError(
        f"data set {shown(name)} can't be had from the hub: {first_line(error)}\n"
        f"nor is there such a folder{looked_for(name)}: {advice}"
    )
