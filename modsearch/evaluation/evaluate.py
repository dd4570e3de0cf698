"""Score models with lm-eval: suites of tasks, and winners of studies."""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from modsearch.config.data import DataConfig
from modsearch.config.records import Record, Stage, State
from modsearch.data.tokenizers import Tokenizer, read_tokenizer
from modsearch.errors import StudyError
from modsearch.evaluation.answers import Answers
from modsearch.evaluation.asked import Asked, Part
from modsearch.evaluation.lm import ModsearchLM
from modsearch.evaluation.local_data import LocalData
from modsearch.evaluation.metrics import complete
from modsearch.evaluation.models import LanguageModel
from modsearch.evaluation.origins import origin_of
from modsearch.evaluation.suites import load_suite
from modsearch.evaluation.tasks import BOOTSTRAP_DRAWS, Results, Tasks, quiet
from modsearch.nn.contracts import Mode
from modsearch.store.directory import StudyDirectory, write_evaluation
from modsearch.store.trial import WEIGHTS
from modsearch.training.checkpoint import load_model


def evaluate(
    model: LanguageModel,
    suite: str | Path,
    data: DataConfig,
    part: Part,
    mode: Mode = "causal",
    seed: int = 0,
    fingerprint: str | None = None,
    tokenizer: Tokenizer | None = None,
    answers: Answers | None = None,
    local: LocalData | None = None,
    dtype: str = "fp32",
    vocab_size: int | None = None,
) -> Results:
    """Score a model on a suite.

    Documents of the suite's own come from one part of the corpus and are the same for every
    model at the same seed. The global random generators are left as they were.

    Args:
        fingerprint: of the tokens that the corpus must have, where that matters.
        tokenizer: what the model was trained with; bytes where nothing is said.
        answers: what the model answered before, and is kept.
        local: data sets that stand in for those of the hub.
        dtype: of matrix products, `fp32` or `bf16`.
        vocab_size: of a BPE that is trained on the corpus; None: the model's.

    Returns:
        lm-eval's results as plain data, with our metrics, and an error of each metric; `config`
        says how they were made, `tasks` how each task is read, and `samples` what each document
        scored.

    Raises:
        ConfigError: the suite is unknown or wrong.
        DataError: a task's data is missing, or the corpus is another one.
    """
    plan, path = load_suite(suite)
    was_training = model.training
    lm = ModsearchLM(model, mode, tokenizer=tokenizer, answers=answers, dtype=dtype)
    try:
        with _untouched(), quiet():
            size = vocab_size or model.config.vocab_size
            origin, text = origin_of(plan, path, data, part, size, fingerprint, seed)
            tasks = Tasks(plan, path, origin, local)
            results = tasks.scored(lm)
    finally:
        model.train(was_training)
    samples = complete(results, tasks.tasks)
    results["tasks"] = {name: each.model_dump() for name, each in tasks.facts.items()}
    results["samples"] = {name: each.model_dump() for name, each in samples.items()}
    for config in results["configs"].values():
        config.pop("custom_dataset", None)
    results["config"] = {
        "model": "modsearch",
        **lm.get_model_info(),
        "suite": plan.name,
        "suite_hash": plan.identity(path.parent, local),
        "part": part,
        "corpus": text,
        "seed": seed,
        "batch_size": lm.batch_size,
        "device": lm.device.type,
        "bootstrap_iters": BOOTSTRAP_DRAWS,
    }
    plain: Results = json.loads(json.dumps(results, default=str))
    return plain


@contextmanager
def _untouched() -> Iterator[None]:
    """Leave the global random generators as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # untyped in torch
    devices = range(torch.cuda.device_count()) if started else ()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def evaluate_checkpoint(
    folder: Path,
    suite: str | Path,
    data: DataConfig,
    part: Part,
    device: str = "cpu",
    fingerprint: str | None = None,
    local: LocalData | None = None,
    dtype: str = "fp32",
) -> Results:
    """Score a checkpoint folder on a suite, in mode `causal`; what it answers is kept by task.

    Raises:
        ConfigError: the suite is unknown or wrong.
        DataError: a task's data is missing, or the corpus has another fingerprint.
        StudyError: there is no checkpoint, or it is damaged.
    """
    model = load_model(folder, device)
    return evaluate(
        model,
        suite,
        data,
        part,
        fingerprint=fingerprint,
        local=local,
        dtype=dtype,
        tokenizer=read_tokenizer(folder),
        answers=Answers.beside(folder),
    )


def checked_metrics(
    suite: str | Path,
    data: DataConfig,
    part: Part,
    vocab_size: int,
    fingerprint: str,
    local: LocalData | None = None,
) -> tuple[dict[str, dict[str, bool]], list[str]]:
    """What scores each task of a suite has, with whether higher is better, and its groups of
    tasks; their data is there then.

    Raises:
        ConfigError: the suite, or a task, is unknown or wrong.
        DataError: a task's data is missing.
    """
    plan, path = load_suite(suite)
    with _untouched(), quiet():
        origin, _ = origin_of(plan, path, data, part, vocab_size, fingerprint)
        tasks = Tasks(plan, path, origin, local)
    return tasks.metrics, list(tasks.groups)


def answered(
    trial: Path,
    asked: Asked,
    data: DataConfig,
    part: Part,
    device: str,
    fingerprint: str,
    local: LocalData | None,
    dtype: str = "fp32",
) -> Results:
    """Score a trial, and write `eval/SUITE.json` into its folder."""
    suite, folder = asked.file, trial / "checkpoint"
    device = device if torch.cuda.is_available() else "cpu"
    results = evaluate_checkpoint(folder, suite, data, part, device, fingerprint, local, dtype)
    write_evaluation(trial / "eval", results)
    return results


def evaluate_winners(
    directory: StudyDirectory,
    records: Sequence[Record],
    suite: str | Path,
    data: DataConfig,
    device: str = "cpu",
    local: LocalData | None = None,
    dtype: str = "fp32",
) -> dict[str, Results]:
    """Score finished confirm trials on the test part, and write `eval/SUITE.json` of each.

    Trials whose weights were not kept are left out. What is there already is kept, unless the
    suite has changed since or it was made of another text or in another `dtype`. `device` is
    what the study was trained on; where it is not there, the CPU scores.

    Returns:
        Results by trial.

    Raises:
        ConfigError: the suite is unknown or wrong.
        DataError: a task's data is missing, or the corpus is not the study's.
        StudyError: no trial has its weights, or a checkpoint is damaged.
    """
    asked = Asked.of(suite, data, local)
    trials = {
        record.hash: directory.trial(record.hash)
        for record in records
        if record.stage is Stage.CONFIRM and record.state is State.COMPLETE
    }
    kept = {name: at for name, at in trials.items() if (at / WEIGHTS).is_file()}
    if not kept:
        raise StudyError(
            f"no weights to score in {directory.root}\n"
            f"confirm trials keep theirs unless the search space says `keep: none`"
        )
    manifest = directory.manifest()
    tokens = {row.hash: manifest.facts_of(row.candidate.model).fingerprint for row in records}
    found = {}
    for name, trial in kept.items():
        results = asked.of_this(directory.evaluations(name))
        if results is None or not asked.is_answered(results, tokens[name], dtype=dtype):
            results = answered(trial, asked, data, "test", device, tokens[name], local, dtype)
        found[name] = dict(results)
    return found
