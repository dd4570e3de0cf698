"""Where tokens, and text that was fetched, are kept for all studies."""

import os
from pathlib import Path

from modsearch.errors import DataError


def cache_folder() -> Path:
    """Where token shards are kept: `$MODSEARCH_CACHE`, or the user's cache folder.

    Raises:
        DataError: neither is known.
    """
    if chosen := os.environ.get("MODSEARCH_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modsearch"
    except RuntimeError as error:
        raise DataError(
            "no folder for tokens: this user has no home folder\nset MODSEARCH_CACHE to a folder"
        ) from error
