"""What comes from the Hugging Face hub; its libraries are imported when they are asked for."""

from collections.abc import Sequence
from pathlib import Path

from modsearch.errors import DataError, first_line, shown


def tokenizer_folder(name: str, files: Sequence[str]) -> Path:
    """The folder of the hub's cache with files of a tokenizer, fetched where they are not there.

    Raises:
        DataError: they are not to be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(files), local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:  # no name that the hub could have
        raise DataError(f"no tokenizer {shown(name)}: {first_line(error)}") from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except Exception as error:  # of the network, of the hub, of the name
        raise DataError(
            f"tokenizer {shown(name)} can't be had from the hub: {first_line(error)}\n"
            f"name a local tokenizer.json, or a folder with one"
        ) from error
