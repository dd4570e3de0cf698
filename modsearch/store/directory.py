"""The study directory: written whole or not at all, readable without this tool.

space.yaml  manifest.json  ledger.db  plugins/*.py
trials/HASH/config.yaml metrics.jsonl routing.json result.json checkpoint/ eval/*.json error.txt
report/
"""

import json
import os
import re
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

import modsearch
from modsearch.config.reading import read_yaml, yaml_text
from modsearch.config.records import (
    Job,
    Manifest,
    Record,
    RoutingReport,
    State,
    TrialConfig,
    trial_hash,
)
from modsearch.config.wording import first_error
from modsearch.errors import ConfigError, StudyError, printable, shown, unknown

Parsed = TypeVar("Parsed")
Model = TypeVar("Model", bound=BaseModel)

NAMES_SHOWN = 3
"""Of what is not counted for one reason."""

LOCKED_SECONDS = 5.0
"""How long a ledger in use is waited for."""


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
    """Write a file whole or not at all: temporary file, fsync, rename.

    Raises:
        OSError: it can't be written; its path is that of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # No longer than the longest name, and made as any file is: with what the umask allows.
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
            file.flush()
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


@dataclass(frozen=True)
class Results:
    """What lies in a study's `trials/`."""

    records: list[Record]
    """Results of this study, in order of their hashes."""
    left_out: list[str]
    """What does not count, and why: a line for each reason."""


class StudyDirectory:
    """Paths and records of one study."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._last_read: tuple[tuple[int, int], Manifest | None] | None = None

    @property
    def space(self) -> Path:
        """What was asked, with every default written out."""
        return self.root / "space.yaml"

    @property
    def ledger(self) -> Path:
        """Optuna's storage."""
        return self.root / "ledger.db"

    def lost_ledger(self) -> bool:
        """Whether there are results, and no ledger that has handed them out."""
        there = self.ledger.is_file() and self.ledger.stat().st_size
        return not there and any((self.root / "trials").glob("[!.]*/result.json"))

    @property
    def plugins(self) -> Path:
        """Copies of the plugin files that were run, for the record; never run from here."""
        return self.root / "plugins"

    @property
    def lock(self) -> Path:
        """Held by the study's one driver while it lives."""
        return self.root / ".lock"

    def trial(self, trial_hash: str) -> Path:
        """Directory of one trial."""
        return self.root / "trials" / trial_hash

    def manifest(self) -> Manifest:
        """What the study was made with.

        Raises:
            StudyError: there is no study here, or its manifest can't be read.
        """
        path = self.root / "manifest.json"
        if not path.exists():
            raise StudyError(f"no study in {self.root}: {self._instead()}")
        return read_model(
            path,
            Manifest,
            "it was written by another version of modsearch, or damaged: bring the file back, or "
            "search into another --out",
        )

    def _instead(self) -> str:
        """What is here, where there is no study."""
        if not self.root.exists():
            return "there is no such folder\nname a directory that `modsearch search` made"
        if not self.root.is_dir():
            return "it is a file\nname a directory that `modsearch search` made"
        below = sorted(path.parent for path in self.root.glob("*/manifest.json"))
        above = [path for path in self.root.resolve().parents if (path / "manifest.json").exists()]
        if above:
            return f"it lies inside of one\nname the study, {above[0]}"
        if below:
            named = ", ".join(map(str, below[:NAMES_SHOWN]))
            return f"it has no manifest.json\nbelow it there are studies: {named}"
        return "it has no manifest.json\nname a directory that `modsearch search` made"

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        write_model(self.root / "manifest.json", manifest)

    def record(self, name: str) -> Record | None:
        """The result of a trial, or None while it has none of its own (or a damaged one)."""
        try:
            return self._record(name, self._made_with())
        except StudyError:
            return None

    def finished(self, name: str) -> Record | None:
        """The result of a trial that need not be trained again: any but a failed one."""
        record = self.record(name)
        return None if record is None or record.state is State.FAILED else record

    def write_record(self, record: Record) -> None:
        """Write a trial's result."""
        write_model(self.trial(record.hash) / "result.json", record)

    def records(self) -> list[Record]:
        """The results that count, in order of their hashes."""
        return self.results().records

    def results(self) -> Results:
        """All results, and what lies among them and is none.

        A result counts when its folder has the name that follows from what it says was trained,
        and when the ledger has handed that out. A ledger that was made anew does not know what
        an earlier one handed out, and is not asked.
        """
        found = []
        left_out: dict[str, list[str]] = defaultdict(list)
        made_with = self._made_with()
        for path in sorted((self.root / "trials").glob("[!.]*")):
            try:
                if (path / "result.json").exists():
                    found.append(self._record(path.name, made_with))
                elif not (path.is_dir() and re.fullmatch("[0-9a-f]{16}", path.name)):
                    raise StudyError("not counted, these are no trials")
            except StudyError as error:
                why, _, remedy = str(error).partition("\n")
                name = printable(path.name)
                left_out[f"{why} ({remedy})" if remedy else why] += [] if remedy else [name]
        known = None
        try:  # after the results: what has ended by then was handed out before
            known = None if made_with and made_with.ledger_remade else self._handed_out()
        except StudyError as error:
            left_out[str(error)] = []
        records = [record for record in found if known is None or record.hash in known]
        if strays := [each.hash for each in found if known is not None and each.hash not in known]:
            left_out["not counted, the ledger does not know them"] = strays
        return Results(records, [_line(why, names) for why, names in left_out.items()])

    def _made_with(self) -> Manifest | None:
        """The manifest; None where trials are of no study, as those of `train`, or of a damaged
        one. It is read again only when it was written again."""
        try:
            found = (self.root / "manifest.json").stat()
        except OSError:
            return None
        state = found.st_ino, found.st_mtime_ns
        if self._last_read is None or self._last_read[0] != state:
            try:
                self._last_read = state, self.manifest()
            except StudyError:
                self._last_read = state, None
        return self._last_read[1]

    def _record(self, name: str, made_with: Manifest | None) -> Record:
        """A trial's own result.

        Raises:
            StudyError: it is missing, damaged, or of something else.
        """
        path = self.trial(name) / "result.json"
        raw, record = read_file(
            path,
            lambda data: (json.loads(data), Record.model_validate_json(data)),
            "the same search trains it again",
        )
        if record.hash != name:
            raise StudyError("not counted, these are copies of other trials")
        if record.scores is None or made_with is None:
            return record
        tokens = made_with.corpus.fingerprint
        with suppress(KeyError):  # a result that lacks what it must have been written with
            if trial_hash(raw, tokens, made_with.plugins.values()) == name:
                return record
            if trial_hash(raw, tokens, self._digests(name)) == name:
                return record
        raise StudyError("not counted, these were changed or are of other studies")

    def _digests(self, name: str) -> list[str]:
        """Of the plugins that a trial was trained with: a study that is mixed has had others."""
        try:
            config = trial_config(self.trial(name) / "config.yaml")
            return [plugin.digest for plugin in config.plugins]
        except ConfigError:
            return []

    def _handed_out(self) -> set[str] | None:
        """Hashes that the ledger knows; None where it is on a server or new.

        Raises:
            StudyError: it is damaged, or in use for long.
        """
        if not self.ledger.is_file():
            return None
        place = f"{self.ledger.resolve().as_uri()}?mode=ro"
        tables = "select 1 from sqlite_master where name = 'trial_user_attributes'"
        query = "select value_json from trial_user_attributes where key = 'hash'"
        try:
            with closing(sqlite3.connect(place, LOCKED_SECONDS, uri=True)) as database:
                if database.execute(tables).fetchone() is None:
                    return None
                return {str(json.loads(value)) for (value,) in database.execute(query)} or None
        except (sqlite3.Error, ValueError) as error:
            raise StudyError(
                f"can't read {self.ledger}: {error}, so results are not held against it"
            ) from error

    def write_routing(self, name: str, report: RoutingReport) -> None:
        """Write what a trial's routing did."""
        write_model(self._routing(name), report)

    def _routing(self, name: str) -> Path:
        return self.trial(name) / "routing.json"

    def routing(self, name: str) -> RoutingReport | None:
        """What a trial's routing did, or None where that was not written (or is damaged)."""
        try:
            return self._read_routing(name)
        except StudyError:
            return None

    def _read_routing(self, name: str) -> RoutingReport | None:
        path = self._routing(name)
        if not path.exists():
            return None
        return read_model(path, RoutingReport, "without the trial's folder it is trained again")

    def evaluations(self, name: str) -> dict[str, dict[str, Any]]:
        """Results of lm-eval by suite, in its own shape; what is damaged is left out."""
        found = {}
        for path in self._evaluations(name):
            with suppress(StudyError):
                found[path.stem] = _read_evaluation(path)
        return found

    def _evaluations(self, name: str) -> list[Path]:
        return sorted((self.trial(name) / "eval").glob("[!.]*.json"))

    def left_out(self, found: Results | None = None) -> list[str]:
        """What of the study does not count or can't be read: a line for each."""
        found = found or self.results()
        lines = list(found.left_out)
        for record in found.records:
            reads: list[Callable[[], object]] = [partial(self._read_routing, record.hash)]
            reads += [partial(_read_evaluation, path) for path in self._evaluations(record.hash)]
            for read in reads:
                try:
                    read()
                except StudyError as error:
                    why, _, remedy = str(error).partition("\n")
                    lines.append(f"{why} ({remedy})")
        return lines


def _line(why: str, names: list[str]) -> str:
    if not names:
        return why
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{why}: {', '.join(names[:NAMES_SHOWN])}{more}"


def _read_evaluation(path: Path) -> dict[str, Any]:
    return read_file(path, _evaluation, "the same search or `modsearch eval` writes it again")


def _evaluation(data: bytes) -> dict[str, Any]:
    """lm-eval's results.

    Raises:
        ValueError: they are none.
    """
    value = json.loads(data)
    results = value.get("results") if isinstance(value, dict) else None
    if not isinstance(results, dict) or not all(isinstance(row, dict) for row in results.values()):
        raise ValueError("it has no results of tasks")
    return dict(value)


def trial_config(config: Path) -> TrialConfig:
    """What a trial's `config.yaml` says that it was made with.

    Raises:
        ConfigError: it can't be read.
    """
    values = read_yaml(config, [])
    try:
        return TrialConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{config}: {first_error(error, TrialConfig, values)}") from error


def job_config(job: Job) -> dict[str, object]:
    """What is written beside a result: the resolved configuration, as plain data."""
    return job.model_dump(mode="json", exclude={"plan"})


LOGGED = ("step", "steps", "loss")


def read_metrics(path: Path) -> Iterator[dict[str, float]]:
    """Rows of a metrics file; a line that was cut short or is none ends it."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                return
            if not isinstance(row, dict):
                return
            if not all(isinstance(row.get(key), int | float) for key in LOGGED):
                return
            yield row


SHIPPED = {"search_spaces": "search space", "evals": "suite"}
"""What lies in a folder of shipped files."""


def shipped(folder: str, name: str) -> Path:
    """A user's file by its path, or a shipped one of `folder` by its bare name.

    Raises:
        ConfigError: neither exists; the message has the nearest name.
    """
    path = Path(name)
    bare = not path.suffix and os.sep not in name
    roots = [root for root in _data_folders(folder) if root.is_dir()]
    if bare:
        for root in roots:
            if (root / f"{name}.yaml").is_file():
                return root / f"{name}.yaml"
    known = sorted(file.stem for root in roots for file in root.glob("*.yaml"))
    hint = f"shipped {folder}: {', '.join(known)}" if known else "name a YAML file"
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("[!.]*.yaml"))[:8]
        raise ConfigError(
            f"{shown(name)} is a folder, not a YAML file\n"
            + (f"name a file in it: {', '.join(inside)}" if inside else hint)
        )
    if not bare:
        if not path.is_file():
            raise ConfigError(f"no file {name}\n{hint}")
        if path.suffix.lower() not in ("", ".yaml", ".yml", ".json"):
            raise ConfigError(f"{name} does not end in .yaml, so it is not read as one\n{hint}")
        return path
    if path.is_file():
        raise ConfigError(
            f"{shown(name)} has no suffix, so it reads as a shipped name\n"
            f"name the file by its path: ./{name}"
        )
    if Path(f"{name}.yaml").is_file():
        raise ConfigError(f"no shipped name {shown(name)}\ndid you mean the file {name}.yaml?")
    if not known:
        raise ConfigError(f"no {folder} are shipped with this installation; name a file")
    raise unknown(SHIPPED.get(folder, folder), name, known)


def _data_folders(folder: str) -> tuple[Path, Path]:
    """Where shipped files lie: in an installation, and in the repository."""
    package = Path(modsearch.__file__).parent
    return package / "_data" / folder, package.parent / folder
