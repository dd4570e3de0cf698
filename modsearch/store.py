"""The study directory: written whole or not at all, readable without this tool.

space.yaml  manifest.json  ledger.db  plugins/*.py
trials/HASH/config.yaml metrics.jsonl routing.json result.json checkpoint/ eval/*.json error.txt
report/
"""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from modsearch.errors import ConfigError, StudyError
from modsearch.registry import unknown
from modsearch.schema import Job, Manifest, Record, RoutingReport, State


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def write_model(path: Path, model: BaseModel) -> None:
    """A frozen model as JSON, floats at full precision."""
    write_text(path, model.model_dump_json(indent=2) + "\n")


def write_yaml(path: Path, value: object) -> None:
    """Plain data as YAML, keys in their own order."""
    write_text(path, yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


class _Dumper(yaml.SafeDumper):
    """Quotes a text that looks like 5e10, which a search space reads as a number."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


class StudyDirectory:
    """Paths and records of one study."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def space(self) -> Path:
        """What was asked, with every default written out."""
        return self.root / "space.yaml"

    @property
    def ledger(self) -> Path:
        """Optuna's storage."""
        return self.root / "ledger.db"

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
        if not path.is_file():
            raise StudyError(
                f"no study in {self.root}: it has no manifest.json\n"
                f"name a directory that `modsearch search` made"
            )
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise StudyError(
                f"can't read {path}: {error.errors()[0]['msg']}\n"
                f"it was written by another version of modsearch, or changed by hand"
            ) from error

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        write_model(self.root / "manifest.json", manifest)

    def record(self, trial_hash: str) -> Record | None:
        """The result of a trial, or None while it has none (or a damaged one)."""
        path = self.trial(trial_hash) / "result.json"
        try:
            return Record.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None

    def finished(self, trial_hash: str) -> Record | None:
        """The result of a trial that need not be trained again: any but a failed one."""
        record = self.record(trial_hash)
        return None if record is None or record.state is State.FAILED else record

    def write_record(self, record: Record) -> None:
        """Write a trial's result."""
        write_model(self.trial(record.hash) / "result.json", record)

    def records(self) -> list[Record]:
        """All results, in order of their hashes."""
        found = (self.record(path.parent.name) for path in self._results())
        return [record for record in found if record is not None]

    def _results(self) -> Iterator[Path]:
        yield from sorted((self.root / "trials").glob("*/result.json"))

    def write_routing(self, trial_hash: str, report: RoutingReport) -> None:
        """Write what a trial's routing did."""
        write_model(self.trial(trial_hash) / "routing.json", report)

    def routing(self, trial_hash: str) -> RoutingReport | None:
        """What a trial's routing did, or None where that was not written (or is damaged)."""
        try:
            return RoutingReport.model_validate_json(
                (self.trial(trial_hash) / "routing.json").read_bytes()
            )
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None

    def evaluations(self, trial_hash: str) -> dict[str, dict[str, object]]:
        """Results of lm-eval by suite, in its own shape."""
        paths = sorted((self.trial(trial_hash) / "eval").glob("*.json"))
        return {path.stem: json.loads(path.read_text()) for path in paths}


def job_config(job: Job) -> dict[str, object]:
    """What is written beside a result: the resolved configuration, as plain data."""
    return job.model_dump(mode="json", exclude={"plan"})


def read_metrics(path: Path) -> Iterator[dict[str, float]]:
    """Rows of a metrics file; a line that was cut short ends it."""
    if not path.is_file():
        return
    with path.open() as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return


def shipped(folder: str, name: str) -> Path:
    """A user's file by its path, or a shipped one of `folder` by its bare name.

    Raises:
        ConfigError: neither exists; the message has the nearest name.
    """
    if Path(name).suffix or os.sep in name:
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"no file {name}\nshipped {folder} go by their bare name")
    package = Path(__file__).parent
    for root in (package / "_data" / folder, package.parent / folder):
        if (root / f"{name}.yaml").is_file():
            return root / f"{name}.yaml"
        if root.is_dir():
            raise unknown(f"name in {folder}", name, [path.stem for path in root.glob("*.yaml")])
    raise ConfigError(f"no {folder} are shipped with this installation; name a file")
