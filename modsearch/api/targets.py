"""What is compared: a study's winners, a trial, a folder with a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modsearch.api.model import checkpoint_of
from modsearch.api.study import open_study
from modsearch.config.arguments import check_path
from modsearch.errors import ModsearchError

if TYPE_CHECKING:
    from os import PathLike

    from modsearch.api.study import Study
    from modsearch.config.data import DataConfig
    from modsearch.config.runtime import Plugin


@dataclass(frozen=True)
class Run:
    """One model."""

    folder: Path
    """Its weights, where they were kept."""
    trial: Path | None
    """The trial's folder, which keeps results; None of a bare checkpoint."""
    data: "DataConfig | None"
    """What it was trained on, where that is known."""
    fingerprint: str | None
    """Of the tokens."""


@dataclass(frozen=True)
class Target:
    """One side of a comparison: a model, or seeds of one."""

    name: str
    runs: tuple[Run, ...]
    study: "Study | None" = None
    """Whose runs they are: files of a packed one are there as long as it is."""


def open_target(
    target: "str | PathLike[str] | Study", plugins: "Sequence[Plugin]" = ()
) -> list[Target]:
    """The sides that a target stands for: of a study both winners of the headline, each with all
    its seeds, or every confirmed arm where it has no headline; otherwise the one model.

    Raises:
        ModsearchError: there is nothing to compare, or plugins are other ones.
    """
    root = check_path("target", target)
    if not root.exists():
        raise ModsearchError(f"no folder {root}\nname studies, trials or checkpoints")
    if root.is_file() or (root / "manifest.json").is_file():
        return _winners(open_study(root), plugins)
    folder, made = checkpoint_of(root, plugins)
    run = Run(
        folder=folder,
        trial=None if made is None else folder.parent,
        data=None if made is None else made.candidate.data,
        fingerprint=None if made is None else made.fingerprint,
    )
    return [Target(str(root), (run,))]


def _winners(study: "Study", plugins: "Sequence[Plugin]") -> list[Target]:
    from modsearch.study.provenance import check_plugins

    claims, manifest = study.claims, study.manifest
    headline = claims.headline.comparison
    if headline is not None:
        arms = [headline.reference, headline.arm]
    else:
        largest = max((each.budget for each in claims.confirmed), default=None)
        arms = [each for each in claims.confirmed if each.budget == largest]
    if not arms:
        raise ModsearchError(
            f"{study.root} has no confirmed trials to compare\n"
            f"its search is not that far, or its space has no `confirm`"
        )
    models = [record.candidate.model for arm in arms for record in arm.records]
    if not study.packed:
        check_plugins(manifest.plugins, plugins, models, study.root)
    return [
        Target(
            name=f"{study.root}:{arm.arm}",
            runs=tuple(
                Run(
                    folder=study.directory.trial(record.hash) / "checkpoint",
                    trial=study.directory.trial(record.hash),
                    data=record.candidate.data,
                    fingerprint=manifest.corpus.fingerprint,
                )
                for record in arm.records
            ),
            study=study,
        )
        for arm in arms
    ]
