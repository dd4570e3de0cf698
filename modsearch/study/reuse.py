"""Trials of other studies that are the same training: found by what they are, and copied.

A trial's name follows from what was trained on what; it does not say by which code and torch, on
which kind of device, and in which precision. So a study that was made otherwise is refused as a
whole, and of the others a trial is taken that has the same name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modsearch.analysis.numbers import counted
from modsearch.config.evaluation import MEASURED
from modsearch.config.manifest import Manifest
from modsearch.config.records import Job, Record, State
from modsearch.errors import StudyError, shown
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_bytes
from modsearch.store.trial import WEIGHTS
from modsearch.training.checkpoint import RESUME

TAKEN = (State.COMPLETE, State.DIVERGED)
"""What the same training would come to again; memory is another machine's."""

MOVES = ("device", "threads", "precision", "micro_batch", "compile")
"""Of a runtime what moves a loss."""


@dataclass(frozen=True)
class Source:
    """A study whose trials may be taken."""

    name: str
    """For readers, who have no use for a path of this machine."""
    directory: StudyDirectory
    records: Mapping[str, Record]


class Reuse:
    """Studies that trials are taken from, in their order.

    `objective` is the name of what explore ranks by, and what its suite is; None: by the loss.
    """

    def __init__(self, objective: tuple[str, str] | None) -> None:
        self.sources: list[Source] = []
        self.objective = objective

    def open(
        self, studies: Mapping[str, Path], ours: Manifest, root: Path, *, allow_mixed: bool
    ) -> list[str]:
        """Read studies, and say in what they differ from ours all the same, in lines.

        Args:
            studies: their directories, by what they are called in errors.
            ours: what this study is made with.
            root: its directory.
            allow_mixed: whether other code, torch, packages and devices may differ.

        Raises:
            StudyError: there is none, it is this one, or it was made otherwise.
        """
        mixed = []
        for name, folder in studies.items():
            if folder.resolve() == root.resolve():
                raise StudyError(f"--reuse {name} is the study itself\nname another one")
            directory = StudyDirectory(folder)
            theirs = directory.manifest()
            found = _unlike(ours, theirs)
            if refused := [line for line, may in found if not (may and allow_mixed)]:
                mixable = all(may for _, may in found)
                raise StudyError(
                    f"--reuse {name}: no trial of it is one of {root}: {'; '.join(refused)}\n"
                    f"leave it out" + ", or add --allow-mixed, which the report shows" * mixable
                )
            given = Path(name).name
            origin = theirs.name if given == theirs.name else f"{theirs.name} ({given})"
            mixed += [f"of trials taken from {origin}, {line}" for line, _ in found]
            records = {each.hash: each for each in directory.records() if each.state in TAKEN}
            self.sources.append(Source(origin, directory, records))
        return mixed

    def take(self, job: Job, into: StudyDirectory, *, weights: bool) -> Record | None:
        """Copy the trial that a job means, where one of the studies has it, and answer with its
        result; its origin stands in it. `weights`: only with them."""
        for source in self.sources:
            found = source.records.get(job.hash)
            if found is None:
                continue
            folder = source.directory.trial(job.hash)
            there = (folder / WEIGHTS).is_file()
            record = self._as_asked(found, job, source.name)
            asked = job.scoring is not None and job.scoring.objective is not None
            unscored = asked and record.objective is None
            unpriced = record.prices is None and not MEASURED.isdisjoint(job.prices)
            needed = weights or unscored or unpriced  # that is done here
            if needed and record.state is State.COMPLETE and not there:
                continue
            left_out = {RESUME.as_posix(), "result.json", *(() if needed else (WEIGHTS,))}
            for path in _files(folder, left_out):
                write_bytes(into.trial(job.hash) / path, (folder / path).read_bytes())
            into.write_record(record)  # last: without it nothing was taken
            return record
        return None

    def told(self, records: Sequence[Record]) -> list[str]:
        """How much of each study stands among a study's records, in a line each."""
        lines = []
        for source in self.sources:
            same = [(source.records[r.hash], r) for r in records if r.hash in source.records]
            taken = sum(r.reused_from == (was.reused_from or source.name) for was, r in same)
            of = counted(len(source.records), "trial")
            lines.append(
                f"taken from {source.name}: {taken:,} of its {of}"
                if same
                else f"taken from {source.name}: nothing, none of its {of} is the same training"
            )
        return lines

    def _as_asked(self, found: Record, job: Job, name: str) -> Record:
        """With its origin, and without a score that this search does not go by."""
        scored = found.objective
        asked = job.scoring is not None and job.scoring.objective is not None
        same = asked and scored and (scored.name, scored.suite_hash) == self.objective
        prices = found.prices or {}
        # How fast it decoded elsewhere is not how fast it would here.
        priced = set(prices) == set(job.prices) and "decoding" not in prices
        return found.model_copy(
            update={
                "stage": job.stage,
                "reused_from": found.reused_from or name,
                "objective": scored if same else None,
                "prices": (prices or None) if priced else None,
            }
        )


def _unlike(ours: Manifest, theirs: Manifest) -> list[tuple[str, bool]]:
    """In what another study was made otherwise, and whether that may be mixed."""
    was, now = (each.runtime.model_dump() for each in (theirs, ours))
    places: list[tuple[str, object, object, bool]] = [
        ("losses for each", theirs.unit, ours.unit, False),
        *((name, was[name], now[name], name == "device") for name in MOVES),
        ("code", theirs.code, ours.code, True),
        ("torch", theirs.versions["torch"], ours.versions["torch"], True),
    ]
    for name in sorted(theirs.packages.keys() & ours.packages.keys()):
        places.append((f"package {name}", theirs.packages[name], ours.packages[name], True))
    if not set(ours.fingerprints) & set(theirs.fingerprints):
        there, here = (", ".join(each.fingerprints) for each in (theirs, ours))
        places.append(("corpus", there, here, False))
    found = [
        (f"{what} {shown(there)} there, {shown(here)} here", may)
        for what, there, here, may in places
        if there != here
    ]
    if theirs.mixed:
        found.append((f"it is mixed: {'; '.join(theirs.mixed)}", True))
    return found


def _files(folder: Path, left_out: set[str]) -> Iterator[str]:
    """What belongs to a trial, as seen from its folder."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(".") and name not in left_out:
            yield name
