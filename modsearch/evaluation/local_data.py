"""Data sets of lm-eval's own tasks from local files, in the place of the hub.

    DIR/NAME.jsonl           the documents that are scored
    DIR/NAME/SPLIT.jsonl     a file for each split, by lm-eval's names of them

NAME is the task's (`arc_easy`) or the data set's own (`dataset_name`: `ARC-Easy`, and
`adjunct_island` of BLiMP), rows have the fields that the hub's have, and .parquet does as well.
Each task becomes a YAML file that includes lm-eval's own, so that nothing of it is said again.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modsearch.config.reading import yaml_text
from modsearch.errors import DataError, reason
from modsearch.evaluation.documents import json_rows

ENDINGS = (".jsonl", ".parquet")
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
"""lm-eval's keys that name one."""
READER = "custom_dataset: !function modsearch.evaluation.local_data.dataset\n"


class LocalData:
    """A folder with data sets.

    Raises:
        DataError: it is no folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(
                f"no folder {folder}\n"
                f"--data-dir, or `data_dir` in a search space, names one with data sets"
            )
        self.folder = folder

    @classmethod
    def at(cls, folder: str | None) -> "LocalData | None":
        """The folder that a user names, or none."""
        return None if folder is None else cls(Path(folder))

    def digest(self) -> bytes:
        """Of all files that may be read."""
        found = hashlib.sha256()
        for pattern in ("*", "*/*"):
            for path in sorted(self.folder.glob(pattern)):
                if path.suffix in ENDINGS and path.is_file():
                    found.update(str(path.relative_to(self.folder)).encode() + b"\0")
                    with path.open("rb") as file:
                        found.update(hashlib.file_digest(file, "sha256").digest())
        return found.digest()

    def definition(self, source: Path, task: Mapping[str, Any]) -> str:
        """YAML of a task that reads local files; splits that are not there are left out of it.

        Args:
            source: the task's own YAML file.
            task: what that says, with what it includes.

        Raises:
            DataError: the documents that are to be scored are not there.
        """
        scored = task.get("test_split") or task.get("validation_split")
        names = [task["task"], *([task["dataset_name"]] if task.get("dataset_name") else [])]
        for name in names:
            if (one := self._file(name)) is not None:
                files = {str(scored): one}
                break
            found = {split: self._file(f"{name}/{split}") for key in SPLITS
                     if (split := task.get(key))}  # fmt: skip
            files = {split: path for split, path in found.items() if path is not None}
            if scored in files:
                break
        else:
            wanted = " or ".join(f"{name}/{scored}.jsonl" for name in names)
            raise DataError(
                f"no data in {self.folder}\nit takes {names[-1]}.jsonl, or {wanted} (or .parquet)"
            )
        given = {"data_files": {split: str(path.absolute()) for split, path in files.items()}}
        changed = {
            "include": str(source.absolute()),
            "task": task["task"],
            "dataset_kwargs": given,
            **{key: None for key in SPLITS if task.get(key) and task[key] not in files},
        }
        return yaml_text(changed) + READER

    def _file(self, name: str) -> Path | None:
        paths = [self.folder / f"{name}{ending}" for ending in ENDINGS]
        return next((path for path in paths if path.is_file()), None)


def dataset(data_files: Mapping[str, str], **_: object) -> dict[str, Any]:
    """What lm-eval calls for a task's splits; it gives the task's `metadata`, too.

    Raises:
        DataError: a file can't be read, or its rows do not make a table.
    """
    from datasets import Dataset

    found = {}
    for split, name in data_files.items():
        path = Path(name)
        rows = _parquet(path) if path.suffix == ".parquet" else json_rows(path)
        try:
            found[split] = Dataset.from_list(rows)
        except (ValueError, TypeError) as error:  # of pyarrow, whose own errors are these
            raise DataError(f"{path}: rows make no table: {reason(error)}") from error
    return found


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"can't read {path}: {reason(error)}") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    return rows
