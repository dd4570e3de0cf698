"""The study directory: written whole or not at all, readable without this tool.

space.yaml  manifest.json  ledger.db  plugins/*.py
trials/HASH/config.yaml metrics.jsonl routing.json result.json checkpoint/ eval/*.json error.txt
references/NAME/SUITE.json  speeds.json  report/
"""

import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from modsearch.config.evaluations import labelled, labels_of
from modsearch.config.manifest import Manifest
from modsearch.config.priors import Priors
from modsearch.config.records import Record, State, trial_hash
from modsearch.config.references import FOLDER, Reference, References
from modsearch.config.speeds import Speeds
from modsearch.config.telemetry import RoutingReport
from modsearch.errors import ConfigError, StudyError, printable
from modsearch.store.files import read_file, read_model, write_model, write_text
from modsearch.store.trial import trial_config

NAMES_SHOWN = 3
"""Of what is not counted for one reason."""

LOCKED_SECONDS = 5.0
"""How long a ledger in use is waited for."""


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
            packed = ": a packed study has no weights and no ledger"
            return (
                f"it is a file{packed if self.root.name.endswith('.tar.xz') else ''}\n"
                f"name a directory that `modsearch search` made"
            )
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

    @property
    def _priors(self) -> Path:
        return self.root / "prior.json"

    def write_priors(self, priors: Priors) -> None:
        """Keep what was taken from other studies, before the manifest says that it was."""
        write_model(self._priors, priors)

    def priors(self) -> Priors:
        """What explore's sampler was told of other studies' trials; nothing where the study began
        without.

        Raises:
            StudyError: it was told of some, and they can't be read.
        """
        begun = (self.root / "manifest.json").exists()
        if not begun or not self.manifest().warm:
            return Priors()
        return read_model(
            self._priors,
            Priors,
            "bring the file back: what explore proposes depends on it; or use another --out",
        )

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
        if record.unit != made_with.unit:
            raise StudyError(f"not counted, these have losses for each {record.unit}")
        tokens = made_with.facts_of(record.candidate.model).fingerprint
        with suppress(KeyError):  # a result that lacks what it must have been written with
            # With those of the study, with none, or with those that its own configuration has.
            for plugins in (made_with.plugins.values, list, partial(self.digests, name)):
                if trial_hash(raw, tokens, plugins()) == name:
                    return record
        raise StudyError("not counted, these were changed or are of other studies")

    def digests(self, name: str) -> list[str]:
        """Of the plugins that a trial was trained with: some of the study's, or others where that
        is mixed."""
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

    @property
    def _speeds(self) -> Path:
        return self.root / "speeds.json"

    def write_speeds(self, speeds: Speeds) -> None:
        """Write how fast its winners are, in the place of what was measured before."""
        write_model(self._speeds, speeds)

    def speeds(self) -> Speeds | None:
        """How fast its winners are, or None where that was not measured (or is damaged)."""
        with suppress(StudyError):
            return self._read_speeds()
        return None

    def _read_speeds(self) -> Speeds | None:
        if not self._speeds.exists():
            return None
        return read_model(self._speeds, Speeds, "`modsearch time` measures it again")

    def evaluations(self, name: str) -> dict[str, dict[str, Any]]:
        """Results of lm-eval by file, in its own shape; what is damaged is left out."""
        return evaluations_in(self.trial(name))

    def all_evaluations(
        self, records: Sequence[Record]
    ) -> tuple[dict[str, dict[str, Mapping[str, Any]]], dict[str, dict[str, Mapping[str, Any]]]]:
        """The same of trials, and of models beside the study, by what suites are called: by their
        names, with the hash behind where two suites share one."""
        found = {each.hash: self.evaluations(each.hash) for each in records}
        beside = self.references()
        labels = labels_of((found, beside))
        return labelled(found, labels), labelled(beside, labels)

    def reference(self, name: str) -> Path:
        """Folder of a model that stands beside the study."""
        return self.root / FOLDER / name

    def references(self) -> References:
        """What models beside the study scored, by their names and suite; what is damaged is left
        out."""
        found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for path in _references(self.root):
            with suppress(StudyError):
                found[path.parent.name][path.stem] = _read_reference(path)
        return dict(found)

    def left_out(self, found: Results | None = None) -> list[str]:
        """What of the study does not count or can't be read: a line for each."""
        found = found or self.results()
        lines = list(found.left_out)
        reads: list[Callable[[], object]] = [self._read_speeds]
        for record in found.records:
            reads.append(partial(self._read_routing, record.hash))
            reads += [
                partial(_read_evaluation, path) for path in _evaluations(self.trial(record.hash))
            ]
        reads += [partial(_read_reference, path) for path in _references(self.root)]
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


def evaluations_in(trial: Path) -> dict[str, dict[str, Any]]:
    """The same of a trial's folder, wherever it is."""
    found = {}
    for path in _evaluations(trial):
        with suppress(StudyError):
            found[path.stem] = _read_evaluation(path)
    return found


def write_evaluation(folder: Path, results: Mapping[str, Any]) -> Path:
    """Write results of a suite into a folder, and answer with the file: NAME.json, unless that
    holds another suite of the name, which is kept."""
    config = results["config"]
    name, identity = str(config["suite"]), str(config["suite_hash"])
    path = folder / f"{name}.json"
    with suppress(StudyError):
        held = _read_evaluation(path).get("config") if path.is_file() else None
        if isinstance(held, dict) and held.get("suite_hash") not in (None, identity):
            path = folder / f"{name}-{identity}.json"
    write_text(path, json.dumps(results, indent=2) + "\n")
    return path


def _evaluations(trial: Path) -> list[Path]:
    return sorted((trial / "eval").glob("[!.]*.json"))


def _read_evaluation(path: Path) -> dict[str, Any]:
    return read_file(path, _evaluation, "the same search or `modsearch eval` writes it again")


def _references(root: Path) -> list[Path]:
    return sorted((root / FOLDER).glob("[!.]*/[!.]*.json"))


def _read_reference(path: Path) -> dict[str, Any]:
    return read_file(path, _reference, "`modsearch eval TARGET --study DIR` writes it again")


def _reference(data: bytes) -> dict[str, Any]:
    """The same of a model beside the study, with what it is.

    Raises:
        ValueError: they are none, or do not say what they are of.
    """
    value = _evaluation(data)
    Reference.model_validate(value.get("reference"))
    return value


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
