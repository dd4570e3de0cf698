"""Models scored on the documents of a suite: a study's winners, or one model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modsearch.api.components import Files, loaded_plugins
from modsearch.api.references import (
    Documents,
    documents_of_winners,
    name_beside,
    refuse_other,
)
from modsearch.api.targets import check_made_with, moved, must_exist, text_at_hand, weights_of
from modsearch.config.answers import Evaluation
from modsearch.config.arguments import check_path, check_text
from modsearch.errors import ModsearchError, unknown

if TYPE_CHECKING:
    from os import PathLike

    from modsearch.analysis.claims import Claims
    from modsearch.analysis.scores import Contender
    from modsearch.config.data import DataConfig
    from modsearch.config.records import Record, TrialConfig
    from modsearch.config.runtime import Plugin
    from modsearch.evaluation.local_data import LocalData
    from modsearch.evaluation.suites import Suite
    from modsearch.store.directory import StudyDirectory

DTYPES = ("fp32", "bf16")
"""Of matrix products where models are scored."""


def evaluate(
    target: "str | PathLike[str]",
    suite: str = "quick",
    *,
    corpus: "str | PathLike[str] | None" = None,
    text: str | None = None,
    data_dir: "str | PathLike[str] | None" = None,
    plugins: Files = (),
    dtype: str = "fp32",
    study: "str | PathLike[str] | None" = None,
    name: str | None = None,
) -> Evaluation:
    """Score a study's winners or one model with lm-eval, in causal mode, on test text.

    A study's results are written to its trials' folders, too. With `study` one model is scored on
    the documents that the study's winners have answered, and its report shows it beside them.

    Args:
        target: a study, a folder with a checkpoint or with Llama-shaped weights of
            `transformers`, or `hf:NAME` of the hub.
        suite: a YAML file, or the bare name of a shipped suite.
        corpus: text of the tasks; default: what the trial was trained on. Of a study it is that
            text at another place. Suite `bytes` scores all of it.
        text: the field of `corpus` that has it, in JSONL and Parquet; default: `text`, or of a
            study what it was trained with.
        data_dir: a folder with data sets, in the place of the hub: NAME.jsonl, or
            NAME/SPLIT.jsonl, by the name of a task or of its data set.
        plugins: the plugin files that the model was trained with.
        dtype: of matrix products: `fp32`, or `bf16`.
        study: a study that the model stands beside, as a point of reference.
        name: of the model in that study; default: the last part of `target`.

    Raises:
        ModsearchError: there is nothing to score, or the suite or the text is not right.
    """
    root = check_path("target", target)
    if dtype not in DTYPES:
        raise unknown("dtype", str(dtype), DTYPES)
    beside = None if study is None else check_path("study", study)
    if check_text("name", name) is not None and beside is None:
        raise ModsearchError("--name is that of a model beside a study\nadd --study DIR")
    from modsearch.evaluation.local_data import LocalData
    from modsearch.evaluation.shapes import is_imported

    imported = is_imported(str(root))
    if not imported:
        must_exist(root)
    from modsearch.evaluation.suites import load_suite
    from modsearch.store.directory import StudyDirectory

    plan, _ = load_suite(suite)
    data = text_at_hand(corpus, check_text("text", text))
    local = None if data_dir is None else LocalData(check_path("data_dir", data_dir))
    if plan.needs_texts and data is None:
        raise ModsearchError(f"suite `{plan.name}` scores files of yours\nname them with --corpus")
    loaded = loaded_plugins(plugins)
    if beside is not None:
        directory = StudyDirectory(beside)
        directory.manifest()
        folder = root if imported else weights_of(_one_model(root), loaded)[0]
        asked = documents_of_winners(directory, suite, data, local)
        called = name_beside(directory, root, name)
        return _evaluate_beside(directory, asked, called, root, folder, suite, local, dtype)
    if imported:
        return _evaluate_imported(str(root), suite, plan, data, local, dtype)
    if (root / "manifest.json").is_file():
        return _evaluate_study(StudyDirectory(root), suite, plan, data, loaded, local, dtype)
    folder, made = weights_of(root, loaded)
    return _evaluate_checkpoint(root, folder, made, suite, plan, data, local, dtype)


def _answer(
    suite: str,
    corpus: str,
    results: Mapping[str, Mapping[str, Any]],
    sides: "Sequence[Contender]",
    file: Path | None = None,
) -> Evaluation:
    """Full results by model, and what is read of them."""
    from modsearch.analysis.scores import averages, scoreboard

    tasks, scores, notes = scoreboard(sides)
    return Evaluation(
        suite=suite,
        corpus=corpus,
        results={name: each["results"] for name, each in results.items()},
        averages={name: averages(each) for name, each in results.items()},
        file=None if file is None else str(file),
        sides=[side.told for side in sides],
        tasks=tasks,
        scores=scores,
        notes=notes,
    )


def _of_one(
    suite: str, corpus: str, target: str, found: Mapping[str, Any], file: Path | None = None
) -> Evaluation:
    from modsearch.analysis.scores import Contender

    return _answer(suite, corpus, {target: found}, [Contender(target, [found])], file)


def _evaluate_checkpoint(
    root: Path,
    folder: Path,
    made: "TrialConfig | None",
    suite: str,
    plan: "Suite",
    data: "DataConfig | None",
    local: "LocalData | None",
    dtype: str,
) -> Evaluation:
    from modsearch.config.data import DataConfig

    fingerprint = None
    if data is None and made is not None:
        data, fingerprint = made.candidate.data, made.fingerprint
    if data is None and plan.needs_corpus:
        raise ModsearchError(f"{root} does not say what it was trained on\nname a --corpus")
    from modsearch.evaluation.tasks import refuse_unreachable

    refuse_unreachable(suite, local)  # before torch is loaded
    from modsearch.evaluation.evaluate import evaluate_checkpoint
    from modsearch.training.checkpoint import load_model

    load_model(folder)  # a damaged one is told before the text is looked for
    found = evaluate_checkpoint(
        folder,
        suite,
        data or DataConfig(),
        "test",
        fingerprint=fingerprint,
        local=local,
        dtype=dtype,
    )
    return _of_one(plan.name, "" if data is None else data.name, str(root), found)


def _evaluate_imported(
    target: str,
    suite: str,
    plan: "Suite",
    data: "DataConfig | None",
    local: "LocalData | None",
    dtype: str,
) -> Evaluation:
    if data is None and plan.needs_corpus:
        raise ModsearchError(
            f"suite `{plan.name}` has tasks made of a corpus, and {target} names none of ours\n"
            f"name a --corpus"
        )
    from modsearch.evaluation.imported import imported_folder
    from modsearch.evaluation.tasks import refuse_unreachable

    imported_folder(target)
    refuse_unreachable(suite, local)
    from modsearch.config.data import DataConfig
    from modsearch.evaluation.answers import Answers
    from modsearch.evaluation.evaluate import evaluate as scored
    from modsearch.evaluation.targets import open_model

    opened = open_model(target)
    found = scored(
        opened.model,
        suite,
        data or DataConfig(),
        "test",
        tokenizer=opened.tokenizer,
        answers=Answers.cached(opened.digest),
        local=local,
        dtype=dtype,
    )
    return _of_one(plan.name, "" if data is None else data.name, target, found)


def _one_model(target: Path) -> Path:
    if (target / "manifest.json").is_file():
        raise ModsearchError(
            f"{target} is a study, and one model stands beside another study\n"
            f"name one of its trials, or `modsearch compare` both studies"
        )
    return target


def _evaluate_beside(
    study: "StudyDirectory",
    asked: Documents,
    name: str,
    target: Path,
    folder: Path,
    suite: str,
    local: "LocalData | None",
    dtype: str,
) -> Evaluation:
    """Score one model as the winners of a study were, and keep that with the study."""
    from modsearch.config.references import Reference
    from modsearch.evaluation.answers import Answers
    from modsearch.evaluation.evaluate import evaluate as scored
    from modsearch.evaluation.targets import open_model
    from modsearch.store.directory import write_evaluation

    opened = open_model(str(folder))
    made = Reference(target=str(target), params=opened.model.num_params, digest=opened.digest)
    refuse_other(study, name, made)
    found = scored(
        opened.model,
        suite,
        asked.text,
        "test",
        fingerprint=asked.fingerprint,
        tokenizer=opened.tokenizer,
        answers=Answers(study.reference(name) / "answers", made.digest),
        local=local,
        dtype=dtype,
        vocab_size=asked.vocab_size,
    )
    file = write_evaluation(study.reference(name), {**found, "reference": made.model_dump()})
    return _of_one(found["config"]["suite"], asked.text.name, str(target), found, file)


def _evaluate_study(
    study: "StudyDirectory",
    suite: str,
    plan: "Suite",
    data: "DataConfig | None",
    plugins: "Sequence[Plugin]",
    local: "LocalData | None",
    dtype: str,
) -> Evaluation:
    from modsearch.analysis.claims import study_claims
    from modsearch.config.records import Stage

    manifest, trials = study.manifest(), study.records()
    claims = study_claims(manifest, trials)
    records = [record for each in claims.confirmed for record in each.all_records]
    records = records or [record for record in trials if record.stage is Stage.CONFIRM]
    if not records:
        raise ModsearchError(
            f"{study.root} has no confirmed trials to score\n"
            f"its search is not that far, or its space has no `confirm`"
        )
    models = [record.candidate.model for record in records]
    check_made_with(manifest.plugins, plugins, models, study.root)
    from modsearch.data.corpus import load_corpus
    from modsearch.evaluation.evaluate import evaluate_winners

    if data is not None and plan.needs_corpus:
        # Results that are there already are of its own text.
        data = moved(records[0].candidate.data, data)
        for model in models:
            load_corpus(data, model.vocab_size, manifest.facts_of(model).fingerprint)
    data = data or records[0].candidate.data
    found = evaluate_winners(study, records, suite, data, local=local, dtype=dtype)
    return _answer(plan.name, data.name, found, _arms(claims, records, found))


def _arms(
    claims: "Claims", records: "Sequence[Record]", found: Mapping[str, Mapping[str, Any]]
) -> "list[Contender]":
    """What a study has confirmed, each arm with its runs."""
    from modsearch.analysis.numbers import scientific
    from modsearch.analysis.scores import Contender

    if not claims.confirmed:  # nothing that stands for an arm: run by run
        kept = [record for record in records if record.hash in found]
        return [Contender(f"{record.arm} {record.hash}", [found[record.hash]]) for record in kept]
    several = len({each.budget for each in claims.confirmed}) > 1
    sides = []
    for each in claims.confirmed:
        name = f"{each.arm} {scientific(each.budget)}" if several else each.arm
        if (side := Contender.of_arm(name, each, found)) is not None:
            sides.append(side)
    return sides
