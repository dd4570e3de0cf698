"""One configuration, and what was trained of it: counted, trained, sampled, exported."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modsearch.api.components import Files, loaded_plugins
from modsearch.api.targets import weights_of
from modsearch.config.answers import Exported, Generation
from modsearch.config.arguments import (
    check_count,
    check_flops,
    check_path,
    check_texts,
)
from modsearch.errors import ModsearchError

if TYPE_CHECKING:
    from os import PathLike

    from modsearch.config.records import Candidate, Record
    from modsearch.config.runtime import Plugin
    from modsearch.planning.flops import FlopLedger
    from modsearch.study.events import OnEvent

    ConfigLike = str | Path | Mapping[str, Any] | Candidate | Record
    """A YAML file with `model`, `optim` and `data`, the same as plain data, a candidate, or the
    record of a trial of it."""


MOST_SEED = 2**41


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
    told.begin(job.stage, 1)
    told.started(job)
    record = run_trial(root, job, partial(told.logged, job))
    told.ended(job, record, [])
    if record.state is not State.COMPLETE:
        raise ModsearchError(f"{record.state}: {record.reason}")
    return record


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
    from modsearch.nn.sampling import Sampling

    sampling = Sampling(temperature, top_k, top_p, seed)
    weights, _ = weights_of(folder, loaded_plugins(plugins))
    from modsearch.data.tokenizers import read_tokenizer
    from modsearch.nn.generate import generate as sample
    from modsearch.training.checkpoint import load_model

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
    weights, _ = weights_of(folder, loaded_plugins(plugins))
    from modsearch.store.files import refuse_taken

    refuse_taken(to)
    from modsearch.data.tokenizers import read_tokenizer
    from modsearch.evaluation.export import export as write
    from modsearch.training.checkpoint import load_model

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
