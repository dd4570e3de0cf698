"""lm-eval's own tasks without the list of all of them, which takes it many seconds."""

import re
from collections.abc import Sequence
from pathlib import Path

import lm_eval.tasks
from lm_eval.tasks import TaskManager

COLLECTION = Path(lm_eval.tasks.__file__).parent
MOST_FOLDERS = 100
"""That are read; a name that stands in more is no name of a task."""


def refuse_unreachable(names: Sequence[str], include: Sequence[str] = ()) -> None:
    """Whether tasks can be loaded where the hub's libraries are offline. What can't be told, or is
    wrong in another way, is left to lm-eval.

    Args:
        names: of tasks, groups or tags.
        include: folders with definitions of the user's, which go before lm-eval's own.

    Raises:
        ConnectionError: one needs data that the hub has, and the cache has not.
    """
    folders = folders_of(names) if names else []
    if not folders or len(folders) > MOST_FOLDERS:
        return
    try:
        TaskManager(include_path=[*folders, *include], include_defaults=False).load(list(names))
    except ConnectionError:
        raise
    except Exception:  # whatever a task says may be wrong in any way
        return


def folders_of(names: Sequence[str]) -> list[Path]:
    """Those of lm-eval's collection with a file that holds one of the names as a word."""
    words = b"|".join(re.escape(name.encode(errors="replace")) for name in names)
    pattern = re.compile(rb"(?<![\w-])(?:" + words + rb")(?![\w-])")
    paths = sorted(COLLECTION.rglob("*.yaml"))
    return list(dict.fromkeys(path.parent for path in paths if pattern.search(path.read_bytes())))
