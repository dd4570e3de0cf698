"""How far a study is, and its winner so far; read from its directory, also while it runs."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict

from modsearch.analysis.additions import growth_lines
from modsearch.analysis.claims import study_claims
from modsearch.analysis.spending import taken
from modsearch.analysis.trials import causal_loss
from modsearch.config.base import Frozen
from modsearch.config.records import PHASES, Record, Stage
from modsearch.config.units import Unit
from modsearch.errors import StudyError
from modsearch.store.directory import StudyDirectory
from modsearch.store.lock import is_held
from modsearch.store.trial import read_metrics
from modsearch.study.completeness import cells, lacking, open_stage, study_space


class CellStatus(Frozen):
    """One arm at one budget in one stage."""

    stage: Stage
    arm: str
    budget: float
    wanted: int
    """Trials that the space asks for; where explore has stopped some, all that it comes to."""
    states: dict[str, int]
    """Trials by how they ended."""
    best_causal_loss: float | None


class RunningTrial(BaseModel):
    """A trial that has begun and has no result, with the last line of its log."""

    model_config = ConfigDict(frozen=True, extra="allow")

    hash: str
    alive: bool | None
    """Whether a process has it; None where that can't be told. One of another machine is seen
    where the file system passes locks on."""
    written_seconds_ago: float
    step: float | None = None
    steps: float | None = None
    tokens: float | None = None
    step_seconds: float | None = None

    @property
    def tokens_a_second(self) -> float | None:
        """In the steps that its last line tells of."""
        if not (self.step and self.tokens and self.step_seconds):
            return None
        return self.tokens / self.step / self.step_seconds


class Pace(Frozen):
    """How fast trials were trained, and where their time went: medians over those that are
    finished and noted it."""

    trials: int
    tokens_per_second: float
    flops_per_second: float
    """By the exact ledger."""
    mfu: float | None
    """Share of the device's peak, by the exact ledger; None where no peak is known."""
    mfu_6nd: float | None
    """The same by 6 FLOPs a parameter and token."""
    time_shares: dict[str, float]
    """By phase of training, and evaluation."""


class StudyStatus(Frozen):
    """How far a study is."""

    name: str
    cells: list[CellStatus]
    stage: Stage | None
    """The one that is under way; None: all are done."""
    driver: bool | None
    """Whether one runs; None where that can't be told."""
    running: list[RunningTrial]
    pace: Pace | None
    """None where no finished trial has noted it."""
    verdict: str | None
    """The headline of a finished study."""
    report: str | None
    """Where its page is."""
    missing: list[str]
    """Results that a stage which is over does not have."""
    left_out: list[str]
    """What lies in the study and does not count."""
    grown: list[str]
    """What came, or went, when there were results already."""
    reused: dict[str, int]
    """Trials that other studies have trained, by study."""
    unit: Unit
    """What its losses are counted over: `byte` where it has several tokenizers."""


def status(root: Path) -> StudyStatus:
    """Trials of each stage and arm, what runs, and of a finished study its verdict."""
    directory = StudyDirectory(root)
    manifest = directory.manifest()
    results = directory.results()
    claims = study_claims(manifest, results.records)
    found = cells(study_space(directory), results.records, manifest.explored, claims.settled)
    stage = open_stage(found)
    page = directory.root / "report" / "index.html"
    headline = claims.headline if stage is None else None
    return StudyStatus(
        name=manifest.name,
        cells=[
            CellStatus(
                stage=cell.stage,
                arm=cell.arm,
                budget=cell.budget,
                wanted=cell.total,
                states=cell.states,
                best_causal_loss=cell.best_causal_loss,
            )
            for cell in found
        ],
        stage=stage,
        driver=is_held(directory.lock),
        running=_running(directory),
        pace=_pace(results.records),
        verdict=headline and headline.sentence,
        report=str(page) if page.is_file() else None,
        missing=list(lacking(found, stage)),
        left_out=directory.left_out(results),
        grown=growth_lines(manifest),
        reused=taken(results.records),
        unit=manifest.unit,
    )


def _pace(records: Sequence[Record]) -> Pace | None:
    scores = [each.scores for each in records if each.scores is not None]
    used = [each.efficiency for each in scores if each.efficiency is not None]
    shares = [known for each in scores if (known := each.time_shares) is not None]
    if not used or not shares:
        return None
    exact = [each.mfu for each in used if each.mfu is not None]
    by_6nd = [each.mfu_6nd for each in used if each.mfu_6nd is not None]
    return Pace(
        trials=len(used),
        tokens_per_second=median(each.tokens_per_second for each in used),
        flops_per_second=median(each.flops_per_second for each in used),
        mfu=median(exact) if exact else None,
        mfu_6nd=median(by_6nd) if by_6nd else None,
        time_shares={name: median(each[name] for each in shares) for name in PHASES},
    )


def _running(directory: StudyDirectory) -> list[RunningTrial]:
    found = []
    for path in sorted((directory.root / "trials").glob("[!.]*/metrics.jsonl")):
        if (path.parent / "result.json").exists():
            continue
        rows = list(read_metrics(path))
        found.append(
            RunningTrial.model_validate(
                {
                    **(rows[-1] if rows else {}),
                    "hash": path.parent.name,
                    "alive": is_held(path.parent / ".lock"),
                    "written_seconds_ago": max(0.0, time.time() - path.stat().st_mtime),
                }
            )
        )
    return found


def winner(root: Path, budget: float | None) -> Record:
    """The confirmed candidate with the lowest causal loss, by one of its trials.

    Controls are no winners, and arms that lost seeds come last. Without confirmed trials, the
    lowest measured one.

    Raises:
        StudyError: nothing is finished at that budget.
    """
    directory = StudyDirectory(root)
    records, manifest = directory.records(), directory.manifest()
    arms = [name for name, target in manifest.asked.items() if target is None]
    done = [record for record in records if record.scores and record.arm in arms]
    for stage in (Stage.CONFIRM, Stage.MEASURE):
        rows = [record for record in done if record.stage is stage]
        largest = max((record.budget.flops for record in rows), default=0.0)
        at = largest if budget is None else budget
        rows = [record for record in rows if record.budget.flops == at]
        if stage is Stage.MEASURE and rows:
            return min(rows, key=causal_loss)
        found = [
            each
            for each in study_claims(manifest, records).confirmed
            if each.arm in arms and each.budget == at
        ]
        if found:
            best = min(found, key=lambda each: (bool(each.lost), each.loss))
            return best.records[0]
    at_budget = "" if budget is None else f" at {budget:g} FLOPs"
    if any(record.stage is Stage.EXPLORE for record in done):
        raise StudyError(
            f"{root} has nothing measured or confirmed{at_budget}, only explore's trials\n"
            f"`modsearch report` ranks these"
        )
    raise StudyError(
        f"{root} has no finished candidate{at_budget}\n"
        f"look at `modsearch status {shlex.quote(str(root))}`"
    )
