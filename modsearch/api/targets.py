"""What verbs are pointed at: a checkpoint, a trial, a study's winners, other weights, a text."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modsearch.config.arguments import check_path
from modsearch.errors import ModsearchError

if TYPE_CHECKING:
    from os import PathLike

    from modsearch.analysis.compare import Confirmed
    from modsearch.config.data import DataConfig
    from modsearch.config.model import ModelConfig
    from modsearch.config.records import TrialConfig
    from modsearch.config.runtime import Plugin
    from modsearch.store.directory import StudyDirectory


@dataclass(frozen=True)
class Run:
    """One model."""

    folder: Path
    """Its weights, where they were kept; of imported ones their name."""
    trial: Path | None
    """The trial's folder, which keeps results; None of a bare checkpoint."""
    data: "DataConfig | None"
    """What it was trained on, where that is known."""
    fingerprint: str | None
    """Of the tokens."""
    imported: bool = False
    """Whether it is somebody else's model."""
    made: "TrialConfig | None" = None
    """How its trial was trained, where that is known."""


@dataclass(frozen=True)
class Target:
    """One side of a comparison: a model, or seeds of one."""

    name: str
    runs: tuple[Run, ...]
    arm: "Confirmed | None" = None
    """Whose runs these are, all that are finished."""

    @property
    def flops(self) -> float | None:
        """Its training budget, where that is known."""
        if self.arm is not None:
            return self.arm.budget
        made = self.runs[0].made
        return made.budget.flops if made is not None and made.budget is not None else None


def open_target(
    target: "str | PathLike[str]", plugins: "Sequence[Plugin]", files: ExitStack
) -> list[Target]:
    """The sides that a target stands for: of a study both winners of the headline, each with all
    its runs, or every confirmed arm where it has no headline; otherwise the one model.

    Args:
        target: where it is.
        plugins: those that models were trained with.
        files: what holds the files of a packed study as long as it is open.

    Raises:
        ModsearchError: there is nothing to compare, or plugins are other ones.
    """
    root = check_path("target", target)
    from modsearch.evaluation.shapes import is_imported

    if is_imported(str(root)):
        return [Target(str(root), (Run(root, None, None, None, imported=True),))]
    if not root.exists():
        raise ModsearchError(f"no folder {root}\nname studies, trials or checkpoints")
    from modsearch.store.directory import StudyDirectory
    from modsearch.store.packed import unpacked

    if root.is_file():
        return _winners(root, StudyDirectory(files.enter_context(unpacked(root))), None)
    if (root / "manifest.json").is_file():
        return _winners(root, StudyDirectory(root), plugins)
    folder, made = checkpoint_of(root, plugins)
    run = Run(
        folder=folder,
        trial=None if made is None else folder.parent,
        data=None if made is None else made.candidate.data,
        fingerprint=None if made is None else made.fingerprint,
        made=made,
    )
    return [Target(str(root), (run,))]


def _winners(
    root: Path, study: "StudyDirectory", plugins: "Sequence[Plugin] | None"
) -> list[Target]:
    """Of a study; plugins are of no use where there are no weights."""
    from modsearch.analysis.claims import study_claims

    manifest = study.manifest()
    arms = study_claims(manifest, study.records()).winners
    if not arms:
        raise ModsearchError(
            f"{root} has no confirmed trials to compare\n"
            f"its search is not that far, or its space has no `confirm`"
        )
    if plugins is not None:
        models = [record.candidate.model for arm in arms for record in arm.all_records]
        check_made_with(manifest.plugins, plugins, models, root)
    return [
        Target(
            name=f"{root}:{arm.arm}",
            runs=tuple(
                Run(
                    folder=study.trial(record.hash) / "checkpoint",
                    trial=study.trial(record.hash),
                    data=record.candidate.data,
                    fingerprint=manifest.facts_of(record.candidate.model).fingerprint,
                )
                for record in arm.all_records
            ),
            arm=arm,
        )
        for arm in arms
    ]


def checkpoint_of(path: Path, plugins: "Sequence[Plugin]") -> "tuple[Path, TrialConfig | None]":
    """The folder with weights, and what they were made with where that is written there.

    Raises:
        ModsearchError: they were made with other plugins, or it is a study.
    """
    if (path / "manifest.json").is_file():
        raise ModsearchError(
            f"{path} is a study: name one of its trials, {path / 'trials' / 'HASH'}\n"
            f"`modsearch best {path} --json` says the hash of its winner"
        )
    from modsearch.registry.plugins import digests
    from modsearch.store.trial import trial_config, weights_folder

    folder = weights_folder(path)
    config = folder.parent / "config.yaml"
    if not config.is_file():
        return folder, None
    made = trial_config(config)
    check_made_with(digests(made.plugins), plugins, [made.candidate.model], path)
    return folder, made


def check_made_with(
    made_with: "Mapping[str, str]",
    plugins: "Sequence[Plugin]",
    models: "Sequence[ModelConfig]",
    what: Path,
) -> None:
    """`check_plugins`; models of built-in components alone need none, which is known without
    torch."""
    from modsearch.registry.built_in import are_built_in

    if are_built_in(models):
        return
    from modsearch.study.made_with import check_plugins

    check_plugins(made_with, plugins, models, what)


def weights_of(path: Path, plugins: "Sequence[Plugin]") -> "tuple[Path, TrialConfig | None]":
    """The same of `checkpoint_of`, whose weights are there.

    Raises:
        ModsearchError: there is no such folder, or no weights.
    """
    from modsearch.store.trial import check_weights

    must_exist(path)
    folder, made = checkpoint_of(path, plugins)
    check_weights(folder)
    return folder, made


def must_exist(path: Path) -> None:
    """Told before anything heavy is imported."""
    if not path.exists():
        raise ModsearchError(f"no folder {path}\nname a study, or a trial with a checkpoint")


def corpus_of(
    corpus: "str | PathLike[str] | None", text: str | None = None
) -> "DataConfig | None":
    """What `--corpus` names, with the field that has its text; None where it names nothing.

    Raises:
        ModsearchError: it can be no place of text, or a field is named of no text.
    """
    from pydantic import ValidationError

    from modsearch.config.data import DataConfig
    from modsearch.config.wording import first_error

    if corpus is None:
        if text is not None:
            raise ModsearchError("--text is the field of a --corpus that has its text\nname both")
        return None
    path = os.fspath(corpus)
    values = {"corpus": path if text is None else {"path": path, "text": text}}
    try:
        return DataConfig.model_validate(values)
    except ValidationError as error:
        wrong = first_error(error, DataConfig, values)
        raise ModsearchError(f"--{wrong}") from error


def text_at_hand(corpus: "str | PathLike[str] | None", text: str | None) -> "DataConfig | None":
    """The same of `corpus_of`, and whether there are such files, before anything heavy is
    imported.

    Raises:
        ModsearchError: there are none.
    """
    from modsearch.config.data import HUB
    from modsearch.data.sources import text_files

    found = corpus_of(corpus, text)
    for source in () if found is None else found.sources:
        if not source.path.startswith(HUB):
            text_files(source.path)
    return found


def moved(data: "DataConfig", to: "DataConfig") -> "DataConfig":
    """The text of a study at another place. What is not said of that is as it was, where the
    study has one source."""
    [place], known = to.sources, data.sources
    if len(known) == 1:
        stated = place.model_dump(include=place.model_fields_set)
        place = known[0].model_copy(update=stated)
    return data.model_copy(update={"corpus": place})
