"""What a report is made of: one study, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from modsearch.analysis.claims import Claims, study_claims
from modsearch.analysis.compare import Comparison
from modsearch.analysis.references import comparable
from modsearch.analysis.speeds import current
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record
from modsearch.config.references import References
from modsearch.config.speeds import Speeds
from modsearch.config.telemetry import RoutingReport
from modsearch.store.directory import StudyDirectory
from modsearch.store.trial import read_metrics

METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Material:
    """A study as its directory has it, and what follows from its records."""

    directory: StudyDirectory
    manifest: Manifest
    records: Sequence[Record]
    claims: Claims
    evaluations: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """lm-eval's results by trial and suite."""
    references: References
    """Of models that stand beside the study, on the same documents."""
    telemetry: Mapping[str, RoutingReport]
    """Of confirmed routed trials, by hash."""
    speeds: Speeds | None
    """Of winners that still stand; None where they were not timed."""
    left_out: Sequence[str]
    """What of the directory does not count, and why."""
    shown: Sequence[str]
    """Arms that are to be shown."""

    @property
    def arms(self) -> list[str]:
        """All arms of the study, in its order: their colours follow it."""
        return list(self.manifest.arms)

    @property
    def controls(self) -> list[str]:
        """Those that are made for another arm."""
        return [arm for arm, base in self.manifest.arms.items() if base is not None]

    @property
    def shown_records(self) -> list[Record]:
        """Of the arms that are to be shown."""
        return [record for record in self.records if record.arm in self.shown]

    def metrics(self, record: Record) -> list[dict[str, float]]:
        """The training log of a trial, read now; empty where it has none."""
        return list(read_metrics(self.directory.trial(record.hash) / METRICS))

    def only(self, arms: Sequence[str]) -> "Material":
        """The same with some arms alone to be shown."""
        return replace(self, shown=list(arms))

    @cached_property
    def shown_claims(self) -> Claims:
        """What is listed and drawn of the arms that are to be shown. What compares arms, or is
        relative to one, takes `claims`: an arm that is not shown was measured all the same."""
        claims, arms = self.claims, self.shown
        return replace(
            claims,
            by_budget=tuple(
                each
                for each in claims.by_budget
                if each.comparison is None or _both(each.comparison, arms)
            ),
            curves=tuple(each for each in claims.curves if each.arm in arms),
            optima=tuple(each for each in claims.optima if each.arm in arms),
            confirmed=tuple(each for each in claims.confirmed if each.arm in arms),
            standings=tuple(each for each in claims.standings if each.arm.arm in arms),
            beside=tuple(each for each in claims.beside if _both(each.comparison, arms)),
        )


def _both(each: Comparison, arms: Sequence[str]) -> bool:
    """Whether both arms of a comparison are to be shown."""
    return {each.arm.arm, each.reference.arm} <= set(arms)


def gather(root: Path) -> Material:
    """Read a study.

    Raises:
        StudyError: there is none in `root`.
    """
    directory = StudyDirectory(root)
    manifest, counted = directory.manifest(), directory.results()
    claims = study_claims(manifest, counted.records)
    telemetry = {
        record.hash: report
        for arm in claims.routed
        for record in arm.records
        if (report := directory.routing(record.hash)) is not None
    }
    speeds = directory.speeds()
    outdated: list[str] = []
    if speeds is not None:
        speeds, outdated = current(speeds, claims.confirmed)
    evaluations, beside = directory.all_evaluations(counted.records)
    references, others = comparable(beside, evaluations.values())
    return Material(
        directory=directory,
        manifest=manifest,
        records=counted.records,
        claims=claims,
        evaluations=evaluations,
        references=references,
        telemetry=telemetry,
        speeds=speeds,
        left_out=[*directory.left_out(counted), *outdated, *others],
        shown=list(manifest.arms),
    )
