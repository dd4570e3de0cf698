"""A model beside a study: what it is asked, so that it answers what the winners have answered, and
where that is kept."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modsearch.api.targets import moved
from modsearch.errors import ModsearchError, StudyError, shown

if TYPE_CHECKING:
    from modsearch.config.data import DataConfig
    from modsearch.config.records import Record
    from modsearch.config.references import Reference
    from modsearch.evaluation.local_data import LocalData
    from modsearch.evaluation.suites import Suite
    from modsearch.store.directory import StudyDirectory


@dataclass(frozen=True)
class Documents:
    """What decides which they are."""

    text: "DataConfig"
    """Where they come from."""
    fingerprint: str | None
    """Of the tokens that they are drawn from; None where they are not."""
    vocab_size: int
    """Of these tokens."""


def documents_of_winners(
    directory: "StudyDirectory",
    suite: str,
    data: "DataConfig | None",
    local: "LocalData | None",
) -> Documents:
    """Those of a suite that the winners of a study have answered.

    Args:
        directory: of the study.
        suite: a YAML file, or a shipped suite's bare name.
        data: the study's text at another place, or the files that suite `bytes` scores.
        local: data sets that stand in for those of the hub.

    Raises:
        StudyError: they were not, or something else than the suite asks now.
    """
    from modsearch.evaluation.suites import load_suite

    plan, path = load_suite(suite)
    identity = plan.identity(path.parent, local)
    winner, answered = _answered(directory, plan, suite, identity)
    _check_same(directory.root, plan, path, data, local, answered)
    text = winner.candidate.data
    if data is not None:  # files that are scored as they are, or the study's own elsewhere
        text = data if plan.needs_texts else moved(text, data)
    return Documents(
        text=text,
        fingerprint=answered["config"]["corpus"] if plan.needs_corpus else None,
        vocab_size=winner.candidate.model.vocab_size,
    )


def _answered(
    directory: "StudyDirectory", plan: "Suite", suite: str, identity: str
) -> "tuple[Record, Mapping[str, Any]]":
    """A winner with its results of a suite."""
    from modsearch.analysis.claims import study_claims
    from modsearch.config.evaluations import of_suite
    from modsearch.config.samples import facts_of

    root = directory.root
    arms = study_claims(directory.manifest(), directory.records()).winners
    if not arms:
        raise StudyError(
            f"{root} has no confirmed trials for a model to stand beside\n"
            f"its search is not that far, or its space has no `confirm`"
        )
    for record in (record for arm in arms for record in arm.all_records):
        results = of_suite(directory.evaluations(record.hash), identity, plan.name)
        if results is not None and facts_of(results):
            return record, results
    raise StudyError(
        f"{root} has no scores of suite `{plan.name}` for a model to stand beside\n"
        f"`modsearch eval {root} --suite {suite}` scores its winners"
    )


def _check_same(
    root: Path,
    plan: "Suite",
    path: Path,
    data: "DataConfig | None",
    local: "LocalData | None",
    answered: Mapping[str, Any],
) -> None:
    from modsearch.config.samples import asked_of

    suite, text, *_ = asked_of(answered)
    again = f"`modsearch eval {root} --suite {path}` scores them again"
    if suite != plan.identity(path.parent, local):
        raise StudyError(
            f"the winners of {root} have answered another suite `{plan.name}` than {path}, or one "
            f"on other data\nname the same --data-dir, or {again}"
        )
    if plan.needs_texts and data is not None:
        from modsearch.evaluation.texts import whole_texts

        if whole_texts(data).fingerprint != text:
            raise StudyError(
                f"the winners of {root} were scored on other texts than corpus `{data.name}`\n"
                f"name the same --corpus, or {again}"
            )


def name_beside(directory: "StudyDirectory", target: Path, name: str | None) -> str:
    """The name of a model in a study: what is asked for, or the last part of its path.

    Raises:
        ModsearchError: no folder can have it, or an arm has.
    """
    from modsearch.config.rules import short_name

    if name is None:
        place = target.absolute()
        last = place.parent.name if place.name == "checkpoint" else place.name
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", last.removeprefix("hf:"))
        name = plain.lstrip(".-")[:100]
    try:
        short_name(name)
    except ValueError as error:
        raise ModsearchError(f"--name {error}") from error
    if name in directory.manifest().arms:
        raise ModsearchError(
            f"`{name}` is an arm of the study\n--name gives the model another name"
        )
    return name


def refuse_other(directory: "StudyDirectory", name: str, made: "Reference") -> None:
    """Whether a name is free, or this very model's.

    Raises:
        StudyError: it is another model's.
    """
    from modsearch.config.references import Reference

    for results in directory.references().get(name, {}).values():
        known = Reference.model_validate(results["reference"])
        if known.digest != made.digest:
            raise StudyError(
                f"`{name}` of {directory.root} is another model already: {shown(known.target)}\n"
                f"--name gives this one another name"
            )
