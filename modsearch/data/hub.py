"""What comes from the Hugging Face hub; its libraries are imported when they are asked for."""

from collections.abc import Sequence
from pathlib import Path

from modsearch.errors import DataError, first_line, shown


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
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(name, allow_patterns=list(files), local_files_only=True))
        if all(any(found.glob(pattern)) for pattern in needed):
            return found
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:  # no name that the hub could have
        raise DataError(f"no {kind} {shown(name)}: {first_line(error)}") from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except Exception as error:  # of the network, of the hub, of the name
        raise DataError(
            f"{kind} {shown(name)} can't be had from the hub: {first_line(error)}\n{advice}"
        ) from error
