"""Suites: YAML files that say which tasks are run together."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from modsearch.config.base import Stated
from modsearch.config.reading import read_yaml
from modsearch.config.rules import ShortName
from modsearch.config.shipped import shipped
from modsearch.config.wording import first_error
from modsearch.errors import ConfigError, shown, unknown
from modsearch.evaluation.documents import (
    SOURCES,
    WHOLE_TEXTS,
    Excerpts,
    JsonLines,
    Recall,
    Source,
    SwappedWords,
)
from modsearch.evaluation.local_data import LocalData

OWN_SOURCE = "modsearch:"
TEXTS = {
    "dataset_name",
    "dataset_path",
    "fewshot_split",
    "output_type",
    "test_split",
    "training_split",
    "validation_split",
}
"""Keys of lm-eval's whose values it takes for text without a look."""
READING = ("leading", "chance", "note")
"""Keys of a task that change no score."""


class SuiteTask(Stated):
    """A task (or group) of `include` by its name, or a whole definition with lm-eval's own keys.
    What is stated of a group holds for each of its tasks."""

    model_config = ConfigDict(extra="allow")

    task: str = Field(min_length=1)
    limit: int | None = Field(None, gt=0)
    """Only the first documents are scored."""
    shots: int | None = Field(None, ge=0, le=100)
    """Solved examples before each question; None: as the task itself says."""
    leading: str | None = Field(None, min_length=1)
    """The metric that models are compared by; None: as the suite says."""
    chance: float | None = Field(None, ge=0, lt=1)
    """Accuracy of guessing; None: as the task's `metadata` says."""
    note: str | None = Field(None, min_length=1, max_length=200)
    """What a reader of its scores should know."""

    @model_validator(mode="after")
    def _texts_are_text(self) -> "SuiteTask":
        for key in TEXTS & self.definition.keys():
            value = self.definition[key]
            if not (isinstance(value, str) and value):
                raise ValueError(f"{key} must be text, but got {shown(value)}")
        return self

    @property
    def stated_chance(self) -> float | None:
        """Accuracy of guessing, by the suite or by the task's own `metadata`."""
        metadata = self.definition.get("metadata")
        found = metadata.get("chance") if isinstance(metadata, dict) else None
        if self.chance is None and isinstance(found, int | float) and not isinstance(found, bool):
            return float(found)
        return self.chance

    @property
    def definition(self) -> dict[str, Any]:
        """lm-eval's keys; empty where the task is defined elsewhere."""
        return dict(self.model_extra or {})

    @property
    def own_source(self) -> str | None:
        """The name of a source of ours that the documents come from."""
        path = str(self.definition.get("dataset_path", ""))
        return path.removeprefix(OWN_SOURCE) if path.startswith(OWN_SOURCE) else None

    def source(self) -> Source | None:
        """That source, with its options.

        Raises:
            ConfigError: it is unknown, or its options are wrong.
        """
        name = self.own_source
        if name is None:
            return None
        if name not in SOURCES:
            raise unknown("source of documents", name, SOURCES)
        options = self.definition.get("dataset_kwargs", {})
        if not isinstance(options, dict):
            raise ConfigError(
                f"dataset_kwargs must be a mapping of keys to values, but got {shown(options)}"
            )
        try:
            return SOURCES[name].model_validate(options)
        except ValidationError as error:
            raise ConfigError(
                f"dataset_kwargs: {first_error(error, SOURCES[name], options)}"
            ) from error

    def documents(self, folder: Path) -> int | None:
        """How many it scores at most; None where that is not known without loading its data.

        Raises:
            ConfigError: its source is wrong.
            DataError: a file of it can't be read.
        """
        source, num = self.source(), None
        if isinstance(source, Excerpts | SwappedWords | Recall):
            num = source.num
        elif isinstance(source, JsonLines):
            num = sum(bool(line.strip()) for line in source.content(folder).split(b"\n"))
        return min((each for each in (num, self.limit) if each is not None), default=None)


def _task(value: object) -> object:
    return {"task": value} if isinstance(value, str) else value


class Suite(Stated):
    """Tasks that are run together."""

    name: ShortName
    description: str
    include: list[str] = []
    """Folders of task definitions: beside the suite's file, or of lm-eval's own collection."""
    leading: str | None = Field(None, min_length=1)
    """The metric that models are compared by, of tasks that do not say another one; None: bits
    per byte of a text, `answer_margin` of a multiple choice, or the task's first metric."""
    tasks: list[Annotated[SuiteTask, BeforeValidator(_task)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> "Suite":
        names = [task.task for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"task {shown(name)} stands twice: each has a name of its own")
        return self

    @model_validator(mode="after")
    def _tasks_are_defined(self) -> "Suite":
        for task in self.tasks:
            if not task.definition and not self.include:
                raise ValueError(
                    f"task {shown(task.task)} is a name alone, and `include` names no folder "
                    f"with definitions of tasks"
                )
        return self

    @property
    def needs_corpus(self) -> bool:
        """Whether a task has a source of ours that may draw from held-out text."""
        return any(task.own_source not in (None, WHOLE_TEXTS) for task in self.tasks)

    @property
    def needs_texts(self) -> bool:
        """Whether a task scores the very files that `--corpus` names."""
        return any(task.own_source == WHOLE_TEXTS for task in self.tasks)

    @property
    def is_self_contained(self) -> bool:
        """Whether each task has a source of ours."""
        return all(task.own_source is not None for task in self.tasks)

    def identity(self, folder: Path, data: LocalData | None = None) -> str:
        """Hash of what is asked: the suite, the files beside it that it names, and local data.
        How scores are read (`leading`, `chance`, `note`) is not in it.

        Raises:
            ConfigError: a source's options are wrong.
            DataError: a file can't be read.
        """
        asked = self.model_dump(mode="json", exclude={"leading"})
        for task in asked["tasks"]:
            for key in READING:
                del task[key]
            if task["shots"] is None:  # as before there were shots
                del task["shots"]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
        if data is not None:
            digest.update(data.digest())
        for content in self._contents(folder):
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()[:16]

    def _contents(self, folder: Path) -> Iterator[bytes]:
        for name in self.include:
            for path in sorted((folder / name).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield path.read_bytes()
        for task in self.tasks:
            if isinstance(source := task.source(), JsonLines):
                yield source.content(folder)


def load_suite(suite: str | Path) -> tuple[Suite, Path]:
    """A suite and its file, by the bare name of a shipped one or by a path.

    Raises:
        ConfigError: there is no such suite (with the nearest name), or it is wrong.
    """
    path = shipped("evals", str(suite))
    values = read_yaml(path, [])
    try:
        found = Suite.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_error(error, Suite, values)}") from error
    for task in found.tasks:
        try:
            task.source()
        except ConfigError as error:
            raise ConfigError(f"{path}: task `{task.task}`: {error}") from error
    return found, path
