"""One configuration, and what was trained of it: counted, trained, scored, sampled, exported."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modsearch.api.components import Files, loaded_plugins
from modsearch.api.references import (
    Documents,
    documents_of_winners,
    name_beside,
    refuse_other,
)
from modsearch.api.targets import checkpoint_of, corpus_of, moved
from modsearch.config.answers import Evaluation, Exported, Generation
from modsearch.config.arguments import (
    check_count,
    check_flops,
    check_path,
    check_text,
    check_texts,
)
from modsearch.errors import ModsearchError, unknown

if TYPE_CHECKING:
    from os import PathLike

    from modsearch.config.data import DataConfig
    from modsearch.config.records import Candidate, Record
    from modsearch.config.runtime import Plugin
    from modsearch.evaluation.local_data import LocalData
    from modsearch.evaluation.suites import Suite
    from modsearch.planning.flops import FlopLedger
    from modsearch.store.directory import StudyDirectory
    from modsearch.study.events import OnEvent

    ConfigLike = str | Path | Mapping[str, Any] | Candidate | Record
    """A YAML file with `model`, `optim` and `data`, the same as plain data, a candidate, or the
    record of a trial of it."""


MOST_SEED = 2**41
DTYPES = ("fp32", "bf16")
"""Of matrix products where models are scored."""


def flops(
    config: "ConfigLike", *, overrides: Sequence[str] = (), plugins: Files = ()
) -> "FlopLedger":
    """The FLOP ledger of one configuration: parts, shares, and other conventions."""
    candidate = _candidate(config, overrides, loaded_plugins(plugins))
    from modsearch.planning.flops import ledger

    return ledger(candidate)


def train(
    config: "ConfigLike",
    flops: float,
    *,
    out: str | Path = "runs/train",
    seed: int = 0,
    overrides: Sequence[str] = (),
    plugins: Files = (),
    progress: "OnEvent | None" = None,
) -> "Record":
    """Train one candidate at a budget of training FLOPs; a second run resumes it.

    The trial's directory is `out/trials/HASH`.

    Raises:
        ModsearchError: it can't be trained at that budget, or did not end well.
    """
    flops, seed = check_flops("flops", flops), check_count("seed", seed, 0, MOST_SEED)
    root = check_path("out", out)
    if (root / "manifest.json").exists():
        raise ModsearchError(f"{root} is a study: its trials are its own\nuse another --out")
    loaded = loaded_plugins(plugins)
    candidate = _candidate(config, overrides, loaded)
    from modsearch.config.records import State
    from modsearch.data.corpus import load_corpus
    from modsearch.data.sources import refuse_inside
    from modsearch.planning.vocabularies import unused
    from modsearch.store.directory import StudyDirectory
    from modsearch.study.progress import Progress
    from modsearch.training.trial import run_trial, single_job

    refuse_inside(candidate.data, root)
    job = single_job(candidate, flops, seed, loaded)
    told = Progress(StudyDirectory(root), progress)
    facts = load_corpus(candidate.data, candidate.model.vocab_size, job.fingerprint).facts
    for line in (*facts.without_text, *unused(candidate.model.vocab_size, facts)):
        told.note(line)
    told.begin(job.stage, 1, 0.0)
    told.started(job)
    record = run_trial(root, job, partial(told.logged, job))
    told.ended(job, record)
    if record.state is not State.COMPLETE:
        raise ModsearchError(f"{record.state}: {record.reason}")
    return record


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
        _must_exist(root)
    from modsearch.evaluation.suites import load_suite
    from modsearch.store.directory import StudyDirectory

    loaded = loaded_plugins(plugins)
    plan, _ = load_suite(suite)
    data = corpus_of(corpus, check_text("text", text))
    local = None if data_dir is None else LocalData(check_path("data_dir", data_dir))
    if plan.needs_texts and data is None:
        raise ModsearchError(f"suite `{plan.name}` scores files of yours\nname them with --corpus")
    if beside is not None:
        folder = root if imported else checkpoint_of(_one_model(root), loaded)[0]
        directory = StudyDirectory(beside)
        asked = documents_of_winners(directory, suite, data, local)
        called = name_beside(directory, root, name)
        return _evaluate_beside(directory, asked, called, root, folder, suite, local, dtype)
    if imported:
        return _evaluate_imported(str(root), suite, plan, data, local, dtype)
    if (root / "manifest.json").is_file():
        return _evaluate_study(StudyDirectory(root), suite, plan, data, loaded, local, dtype)
    folder, made = checkpoint_of(root, loaded)
    from modsearch.analysis.scores import averages
    from modsearch.evaluation.evaluate import evaluate_checkpoint
    from modsearch.training.checkpoint import load_model

    load_model(folder)  # a damaged one is told before the text is looked for
    fingerprint = None
    if data is None:
        if made is None:
            raise ModsearchError(f"{root} does not say what it was trained on\nname a --corpus")
        data, fingerprint = made.candidate.data, made.fingerprint
    found = evaluate_checkpoint(
        folder, suite, data, "test", fingerprint=fingerprint, local=local, dtype=dtype
    )
    return Evaluation(
        suite=plan.name,
        corpus=data.name,
        results={str(root): found["results"]},
        averages={str(root): averages(found)},
    )


def _evaluate_imported(
    target: str,
    suite: str,
    plan: "Suite",
    data: "DataConfig | None",
    local: "LocalData | None",
    dtype: str,
) -> Evaluation:
    from modsearch.analysis.scores import averages
    from modsearch.config.data import DataConfig
    from modsearch.evaluation.answers import Answers
    from modsearch.evaluation.evaluate import evaluate as scored
    from modsearch.evaluation.targets import open_model

    if data is None and plan.needs_corpus:
        raise ModsearchError(
            f"suite `{plan.name}` has tasks made of a corpus, and {target} names none of ours\n"
            f"name a --corpus"
        )
    opened = open_model(target)
    used = data or DataConfig()
    found = scored(
        opened.model,
        suite,
        used,
        "test",
        tokenizer=opened.tokenizer,
        answers=Answers.cached(opened.digest),
        local=local,
        dtype=dtype,
    )
    corpus = "" if data is None else data.name
    return Evaluation(
        suite=plan.name,
        corpus=corpus,
        results={target: found["results"]},
        averages={target: averages(found)},
    )


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
    from modsearch.analysis.scores import averages
    from modsearch.config.references import Reference
    from modsearch.evaluation.answers import Answers
    from modsearch.evaluation.evaluate import evaluate as scored
    from modsearch.evaluation.targets import open_model
    from modsearch.store.files import write_text

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
    file = study.reference(name) / f"{found['config']['suite']}.json"
    write_text(file, json.dumps({**found, "reference": made.model_dump()}, indent=2) + "\n")
    return Evaluation(
        suite=found["config"]["suite"],
        corpus=asked.text.name,
        results={str(target): found["results"]},
        averages={str(target): averages(found)},
        file=str(file),
    )


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
    from modsearch.analysis.scores import averages
    from modsearch.config.records import Stage
    from modsearch.data.corpus import load_corpus
    from modsearch.evaluation.evaluate import evaluate_winners
    from modsearch.study.provenance import check_plugins

    trials = study.records()
    claims = study_claims(study.manifest(), trials)
    records = [record for each in claims.confirmed for record in each.all_records]
    records = records or [record for record in trials if record.stage is Stage.CONFIRM]
    models = [record.candidate.model for record in records]
    check_plugins(study.manifest().plugins, plugins, models, study.root)
    if not records:
        raise ModsearchError(
            f"{study.root} has no confirmed trials to score\n"
            f"its search is not that far, or its space has no `confirm`"
        )
    if (
        data is not None and plan.needs_corpus
    ):  # results that are there already are of its own text
        manifest = study.manifest()
        data = moved(records[0].candidate.data, data)
        for record in records:
            model = record.candidate.model
            load_corpus(data, model.vocab_size, manifest.facts_of(model).fingerprint)
    data = data or records[0].candidate.data
    scored = evaluate_winners(study, records, suite, data, local=local, dtype=dtype)
    kept = {name: study.evaluations(name).get(plan.name, {}) for name in scored}
    return Evaluation(
        suite=plan.name,
        corpus=data.name,
        results=scored,
        averages={name: averages(results) for name, results in kept.items()},
    )


def generate(
    checkpoint: "str | PathLike[str]",
    prompts: Sequence[str],
    *,
    tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    plugins: Files = (),
) -> Generation:
    """Sample text from a checkpoint, with a key-value cache.

    Args:
        checkpoint: a trial's folder, or one with weights.
        prompts: texts to go on from.
        tokens: new tokens of each.
        temperature: 0 takes the likeliest token.
        top_k: only the so many likeliest tokens.
        top_p: only the likeliest tokens with this much probability.
        seed: of the draws.
        plugins: the plugin files that the model was trained with.
    """
    prompts = check_texts("prompt", prompts)
    tokens = check_count("tokens", tokens, 1, 1_000_000)
    seed = check_count("seed", seed, 0, MOST_SEED)
    folder = check_path("checkpoint", checkpoint)
    _must_exist(folder)
    from modsearch.data.tokenizers import read_tokenizer
    from modsearch.nn.generate import Sampling
    from modsearch.nn.generate import generate as sample
    from modsearch.training.checkpoint import load_model

    loaded = loaded_plugins(plugins)
    weights, _ = checkpoint_of(folder, loaded)
    sampling = Sampling(temperature, top_k, top_p, seed)
    model, tokenizer = load_model(weights), read_tokenizer(weights)
    try:
        for text in prompts:
            os.fsencode(text)  # bytes that are no UTF-8 may be among them
    except UnicodeEncodeError:
        raise ModsearchError(
            "--prompt holds half of a character, a lone \\ud800 to \\udfff"
        ) from None
    given = tokenizer.encode(prompts)
    found = sample(model, given, tokens, sampling)
    texts = [
        tokenizer.decode([*before, *new]) for before, new in zip(given, found.tokens, strict=True)
    ]
    return Generation(texts=texts, seq_len=model.config.seq_len, **asdict(found))


def export(
    checkpoint: "str | PathLike[str]", out: "str | PathLike[str]", *, plugins: Files = ()
) -> Exported:
    """Write a checkpoint as a folder that `transformers` opens: weights, shape, tokenizer.

    A model in which every token enters every layer becomes a Llama; any other one brings a file
    of code, for `trust_remote_code=True`, and routes as in causal mode.

    Args:
        checkpoint: a trial's folder, or one with weights.
        out: a new folder, or an empty one.
        plugins: the plugin files that the model was trained with.

    Raises:
        ModsearchError: there is no checkpoint, a part of the model has no export, or there is
            something at `out`.
    """
    folder, to = check_path("checkpoint", checkpoint), check_path("out", out)
    _must_exist(folder)
    from modsearch.data.tokenizers import read_tokenizer
    from modsearch.evaluation.export import export as write
    from modsearch.training.checkpoint import load_model

    weights, _ = checkpoint_of(folder, loaded_plugins(plugins))
    return write(load_model(weights), read_tokenizer(weights), to)


def _candidate(
    config: "ConfigLike", overrides: Sequence[str], plugins: "Sequence[Plugin]"
) -> "Candidate":
    from modsearch.config.reading import read_yaml
    from modsearch.config.records import Candidate, Record

    overrides = check_texts("set", overrides)

    if isinstance(config, Record):
        config = config.candidate
    source: Path | Mapping[str, Any]
    if isinstance(config, Candidate):
        source = config.model_dump(mode="json")
    elif isinstance(config, Mapping):
        source = config
    else:
        source = check_path("config", config)
        read_yaml(source, [])  # a missing file is told without torch
    from modsearch.nn.parts import refuse_unnamed
    from modsearch.space.candidates import load_candidate
    from modsearch.space.kinds import OF_PART

    candidate = load_candidate(source, overrides)
    refuse_unnamed(candidate.model.model_dump(), plugins)
    refuse_unnamed(candidate.optim.model_dump(), plugins, OF_PART["optim"])
    return candidate


def _must_exist(path: Path) -> None:
    """Told before anything heavy is imported."""
    if not path.exists():
        raise ModsearchError(f"no folder {path}\nname a study, or a trial with a checkpoint")
