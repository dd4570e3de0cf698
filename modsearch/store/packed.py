"""A study without its weights as one compressed file: what a report needs, to be published.

STUDY/{space.yaml manifest.json speeds.json} plugins/*.py
trials/HASH/{result.json config.yaml routing.json metrics.jsonl eval/*.json}
references/NAME/*.json

Only results that count are in it. Weights, locks, reports and the ledger are not: the ledger
says which results count, and those are the ones that are left, so that what comes out of the
file says the same without it. Logs have the digits that are shown. `tar xJf` unpacks it, too.
"""

import io
import json
import lzma
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from modsearch.config.manifest import Manifest
from modsearch.config.reading import parse_yaml, yaml_text
from modsearch.config.references import FOLDER as REFERENCES
from modsearch.config.runtime import Plugin
from modsearch.config.samples import TaskSamples, facts_of
from modsearch.errors import StudyError, shown
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_bytes
from modsearch.store.scratch import scratch
from modsearch.store.trial import read_metrics

FOLDER = "study"
"""The folder that all files of a packed study are in."""

NAMES = re.compile(
    r"space\.yaml|manifest\.json|speeds\.json|plugins/[^/\0]{1,255}\.py"
    r"|trials/[0-9a-f]{16}/(result\.json|config\.yaml|routing\.json|metrics\.jsonl)"
    r"|trials/[0-9a-f]{16}/eval/(?!\.)[^/\0]{1,255}\.json"
    r"|references/(?!\.)[^/\0]{1,255}/(?!\.)[^/\0]{1,255}\.json"
)
"""What a packed study may hold, and nothing else: no name leads out of its folder."""

EVALUATION = (
    "reference", "results", "versions", "n-shot", "n-samples", "higher_is_better", "config",
    "tasks",
)  # fmt: skip
"""What is kept of lm-eval's answer, beside what items scored by metrics that models are compared
by. Its `configs` say again what the suite says, for each model, and may hold paths: the chance
that it states is kept of them."""

MOST_PACKED = 2**26
MOST_BYTES = 2**29
MOST_FILES = 200_000
"""Bytes and files of one that is read; 600 trials are 1.5 MB, 20 MB unpacked, and 3,000 files."""
MEMORY = 2**27
"""Bytes that a decompressor may use."""

REMEDY = "name a directory that `modsearch search` made, or a file that `modsearch pack` wrote"


def pack(directory: StudyDirectory, out: Path) -> int:
    """Write a study's records to a file, whole or not at all, and answer with its bytes.

    The same study gives the same bytes. Absolute paths of plugin files become those of their
    copies; what the user wrote (the corpus in space.yaml, the command in manifest.json) stays.

    Raises:
        StudyError: there is no study, or a part of it can't be read.
        OSError: the file can't be written.
    """
    found = files_of(directory)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(found.items()):
            member = tarfile.TarInfo(f"{FOLDER}/{name}")  # of nobody, and of no time
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    packed = lzma.compress(plain.getvalue(), preset=9)
    write_bytes(out, packed)
    return len(packed)


def files_of(directory: StudyDirectory) -> dict[str, bytes]:
    """What a packed study holds, by its name there.

    Raises:
        StudyError: there is no study.
    """
    manifest = directory.manifest()
    root = directory.root
    found = {"manifest.json": (root / "manifest.json").read_bytes()}
    if directory.space.is_file():
        found["space.yaml"] = _moved(directory.space.read_bytes(), manifest, root)
    if (root / "speeds.json").is_file():
        found["speeds.json"] = (root / "speeds.json").read_bytes()
    for path in sorted(directory.plugins.glob("[!.]*.py")):
        found[f"plugins/{path.name}"] = path.read_bytes()
    for record in directory.records():
        found |= _trial(directory, record.hash, manifest)
    for name, suites in directory.references().items():
        for suite, answer in suites.items():
            found[f"{REFERENCES}/{name}/{suite}.json"] = _kept(answer)
    return found


def _trial(directory: StudyDirectory, name: str, manifest: Manifest) -> dict[str, bytes]:
    folder, inside = directory.trial(name), f"trials/{name}"
    found = {f"{inside}/result.json": (folder / "result.json").read_bytes()}
    if (folder / "config.yaml").is_file():
        data = (folder / "config.yaml").read_bytes()
        found[f"{inside}/config.yaml"] = _moved(data, manifest, directory.root)
    if directory.routing(name) is not None:
        found[f"{inside}/routing.json"] = (folder / "routing.json").read_bytes()
    if (folder / "metrics.jsonl").is_file():
        rows = read_metrics(folder / "metrics.jsonl")
        found[f"{inside}/metrics.jsonl"] = "".join(map(_line, rows)).encode()
    for suite, answer in directory.evaluations(name).items():
        found[f"{inside}/eval/{suite}.json"] = _kept(answer)
    return found


def _kept(answer: Mapping[str, Any]) -> bytes:
    """Of lm-eval's results of a suite."""
    kept = {key: answer[key] for key in EVALUATION if key in answer}
    kept["configs"] = _chances(answer.get("configs"))
    kept["samples"] = _compared(answer)
    return json.dumps(kept).encode()


def _compared(answer: Mapping[str, Any]) -> dict[str, object]:
    """What items scored by the metrics that models are compared by."""
    found: dict[str, object] = {}
    for task, facts in facts_of(answer).items():
        try:
            samples = TaskSamples.model_validate(answer["samples"][task])
        except (KeyError, TypeError, ValidationError):
            continue
        used = (facts.leading, facts.accuracy)
        found[task] = samples.model_copy(
            update={
                "values": {key: text for key, text in samples.values.items() if key in used},
                "weights": {key: text for key, text in samples.weights.items() if key in used},
            }
        ).model_dump()
    return found


def _chances(configs: object) -> dict[str, object]:
    """Of lm-eval's account of each task what a guess scores, as the suite states it."""
    found: dict[str, object] = {}
    for task, config in configs.items() if isinstance(configs, dict) else ():
        metadata = config.get("metadata") if isinstance(config, dict) else None
        if isinstance(metadata, dict) and isinstance(metadata.get("chance"), int | float):
            found[task] = {"metadata": {"chance": metadata["chance"]}}
    return found


def _line(row: Mapping[str, float]) -> str:
    """Of a log. Times of single steps are noise, and a tenth of all bytes; their median stands in
    the result."""
    kept = {key: value for key, value in row.items() if key != "step_seconds"}
    return json.dumps(kept, separators=(",", ":")) + "\n"


def _moved(data: bytes, manifest: Manifest, root: Path) -> bytes:
    """YAML whose `plugins` are the study's own copies; as it is where it has none."""
    if not manifest.plugins:
        return data
    try:
        values = parse_yaml(data.decode())
    except ValueError:
        return data
    plugins = values.get("plugins") if isinstance(values, dict) else None
    if not isinstance(plugins, list):
        return data
    values["plugins"] = [_copy(plugin, root) for plugin in plugins]
    return yaml_text(values).encode()


def _copy(plugin: Any, root: Path) -> Any:
    """Where the copy of a plugin file is, seen from the study; what names no file stays."""
    if isinstance(plugin, str):
        return f"plugins/{Path(plugin).name}"
    try:
        found = Plugin.model_validate(plugin)
    except ValidationError:
        return plugin
    path = Path(found.path)
    later = f"{path.stem}-{found.digest}.py"  # of a content that came after the study had begun
    there = (root / "plugins" / later).is_file()
    return {"path": f"plugins/{later if there else path.name}", "digest": found.digest}


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The study of a file, in a folder that is removed at the end.

    Nothing is written before all of the file has been read and found right.

    Raises:
        StudyError: it is no packed study, or a damaged one.
    """
    try:
        found = _read(path)
    except OSError as error:
        raise StudyError(f"can't read {path}: {error.strerror or error}\n{REMEDY}") from error
    except (ValueError, lzma.LZMAError, tarfile.TarError) as error:
        raise StudyError(f"{path} is no packed study: {error}\n{REMEDY}") from error
    with scratch("modsearch-study-") as folder:
        for name, data in found.items():
            place = folder / FOLDER / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        yield folder / FOLDER


def _read(path: Path) -> Mapping[str, bytes]:
    """Files by their names in the study.

    Raises:
        ValueError, LZMAError, TarError, OSError: it is not what `pack` writes.
    """
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(_decompressed(path)), mode="r:") as archive:
        for member in archive:
            if member.isdir():
                continue
            place = PurePosixPath(member.name)
            name = str(PurePosixPath(*place.parts[1:]))
            # What is sparse may say that it is of any size.
            plain = member.isreg() and not member.issparse()
            data = archive.extractfile(member) if plain else None
            if data is None or place.parts[:1] != (FOLDER,) or not NAMES.fullmatch(name):
                raise ValueError(f"it holds {shown(member.name)}")
            if name in found:
                raise ValueError(f"it holds {shown(member.name)} twice")
            if len(found) == MOST_FILES:
                raise ValueError(f"it holds more than {MOST_FILES:,} files")
            found[name] = data.read()
    if "manifest.json" not in found:
        raise ValueError("it has no manifest.json")
    return found


def _decompressed(path: Path) -> bytes:
    """The whole archive, within limits.

    Raises:
        ValueError, LZMAError, OSError: it is none, cut short, or too large.
    """
    with path.open("rb") as file:
        data = file.read(MOST_PACKED + 1)
    if not data.startswith(b"\xfd7zXZ\0"):
        raise ValueError("it is not compressed by xz")
    if len(data) > MOST_PACKED:
        raise ValueError(f"it is larger than {MOST_PACKED:,} bytes")
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    plain = decompressor.decompress(data, MOST_BYTES)
    if decompressor.eof:
        return plain
    if decompressor.needs_input:
        raise ValueError("it is cut short")
    raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes")
