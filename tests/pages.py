"""Study directories made of made-up records, and what their pages have."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from worlds import manifest

from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage, State, trial_hash
from modsearch.store.directory import StudyDirectory


def write(root: Path, records: Sequence[Record], made_with: Manifest | None = None) -> Path:
    """A study directory with an evaluation of each confirmed trial."""
    directory = StudyDirectory(root)
    directory.write_manifest(made_with or manifest())
    for record in map(named, records):
        directory.write_record(record)
        if record.stage is Stage.CONFIRM and record.state is State.COMPLETE:
            folder = directory.trial(record.hash) / "eval"
            folder.mkdir()
            accuracy = 0.6 + record.seed / 1e4
            result = {"alias": "blimp", "acc,none": accuracy, "acc_stderr,none": 0.015}
            bits = {"alias": "bits", "bits_per_byte,none": 2.5, "bits_per_byte_stderr,none": "N/A"}
            text = json.dumps({"results": {"blimp": result, "bits": bits}})
            (folder / "quick.json").write_text(text)
    return root


def named(record: Record) -> Record:
    """Under the name that follows from what was trained, as a result with scores must be."""
    if record.scores is None:
        return record
    name = trial_hash(record.model_dump(mode="json"), manifest().corpus.fingerprint, [])
    return record.model_copy(update={"hash": name})


def tree(root: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def table(page: Path, name: str) -> list[dict[str, str]]:
    with (page.parent / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))
