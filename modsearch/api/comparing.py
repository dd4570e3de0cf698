"""Models side by side on the documents of a suite."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modsearch.api.components import Files, loaded_plugins
from modsearch.api.targets import Run, Target, corpus_of, open_target
from modsearch.config.answers import ScoreComparison
from modsearch.config.arguments import check_path, check_text
from modsearch.errors import ModsearchError

if TYPE_CHECKING:
    from os import PathLike

    from modsearch.config.data import DataConfig
    from modsearch.evaluation.local_data import LocalData


@dataclass(frozen=True)
class _Asked:
    """What every model is asked."""

    suite: str
    name: str
    identity: str
    """Hash of the suite."""
    data: "DataConfig | None"
    """Where text comes from; None where no task needs any."""
    fingerprint: str | None
    """Of its tokens, or of the texts."""
    tokens: str | None
    """Of the tokens alone, where tasks draw from them."""
    local: "LocalData | None"


def compare(
    targets: "Sequence[str | PathLike[str]]",
    suite: str = "quick",
    *,
    corpus: "str | PathLike[str] | None" = None,
    text: str | None = None,
    data_dir: "str | PathLike[str] | None" = None,
    plugins: Files = (),
    out: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> ScoreComparison:
    """How much better each model is than the first, on the same documents.

    What is scored already is reused, and what a trial has not been scored on is written beside
    it.

    Args:
        targets: studies (both winners of the headline, with their seeds; packed ones where they
            have been scored), trials, folders with a checkpoint.
        suite: a YAML file, or the bare name of a shipped suite.
        corpus: text of the tasks; default: what the first model was trained on.
        text: the field of `corpus` that has it, in JSONL and Parquet.
        data_dir: a folder with data sets, in the place of the hub.
        plugins: the plugin files that models were trained with.
        out: a folder for the figure (SVG, PNG).
        progress: is told what is scored.

    Raises:
        ModsearchError: there are no two models, one can't be scored, or they have answered other
            documents.
    """
    folder = None if out is None else check_path("out", out)
    loaded = loaded_plugins(plugins)
    with ExitStack() as files:
        sides = [side for each in targets for side in open_target(each, loaded, files)]
        found = _compared(
            _checked(sides), suite, corpus_of(corpus, check_text("text", text)), data_dir, progress
        )
    if folder is None:
        return found
    from modsearch.reporting.figures.scores import write

    return found.model_copy(update={"files": [str(path) for path in write(found, folder)]})


def _checked(sides: Sequence[Target]) -> Sequence[Target]:
    """Two at least, each by a name of its own."""
    names = [side.name for side in sides]
    for name in names:
        if names.count(name) > 1:
            raise ModsearchError(f"{name} is named twice")
    if len(sides) < 2:
        raise ModsearchError(
            "a comparison needs two models\nname two, or a study with a routed and a dense winner"
        )
    return sides


def _compared(
    sides: Sequence[Target],
    suite: str,
    data: "DataConfig | None",
    data_dir: "str | PathLike[str] | None",
    progress: Callable[[str], None] | None,
) -> ScoreComparison:
    asked = _asked(sides, suite, data, data_dir)
    from modsearch.analysis.scores import Contender, compare_scores

    contenders = []
    for side in sides:
        results = []
        for run in side.runs:
            kept = _kept(run, asked)
            if kept is None and progress is not None:
                progress(f"evaluate: {run.trial or run.folder} with suite {asked.name}")
            results.append(kept if kept is not None else _scored(run, asked))
        fixed = all(run.imported for run in side.runs)
        contenders.append(Contender(side.name, results, fixed))
    return compare_scores(asked.name, contenders)


def _asked(
    sides: Sequence[Target],
    suite: str,
    data: "DataConfig | None",
    data_dir: "str | PathLike[str] | None",
) -> _Asked:
    from modsearch.evaluation.local_data import LocalData
    from modsearch.evaluation.suites import load_suite

    plan, path = load_suite(suite)
    local = None if data_dir is None else LocalData(check_path("data_dir", data_dir))
    identity = plan.identity(path.parent, local)
    if plan.needs_texts:
        from modsearch.evaluation.texts import whole_texts

        if data is None:
            raise ModsearchError(f"suite `{plan.name}` scores files of yours\n--corpus names them")
        fingerprint = whole_texts(data).fingerprint
        return _Asked(suite, plan.name, identity, data, fingerprint, None, local)
    if not plan.needs_corpus:
        return _Asked(suite, plan.name, identity, None, None, None, local)
    runs = [run for side in sides for run in side.runs]
    trained = [run for run in runs if run.data is not None and run.fingerprint is not None]
    if data is None and trained:
        data = trained[0].data
        if all(run.fingerprint == trained[0].fingerprint for run in runs):
            tokens = trained[0].fingerprint
            return _Asked(suite, plan.name, identity, data, tokens, tokens, local)
    if data is None:
        raise ModsearchError(
            f"suite `{plan.name}` draws from a text, and no model says what it was trained on\n"
            f"name a --corpus"
        )
    from modsearch.data.corpus import load_corpus

    # Models of several texts or tokenizers: the same text for all, whatever its tokens are.
    plain = data.model_copy(update={"tokenizer": "bytes", "end": None})
    tokens = load_corpus(plain).facts.fingerprint
    return _Asked(suite, plan.name, identity, plain, tokens, tokens, local)


def _kept(run: Run, asked: _Asked) -> Mapping[str, Any] | None:
    """Results that a trial has of just this."""
    if run.trial is None:
        return None
    from modsearch.config.samples import dtype_of, facts_of
    from modsearch.store.directory import evaluations_in

    results = evaluations_in(run.trial).get(asked.name)
    config = results.get("config") if results is not None else None
    if results is None or not isinstance(config, dict) or not facts_of(results):
        return None
    made = tuple(config.get(key) for key in ("suite_hash", "corpus", "mode", "part"))
    wanted = (asked.identity, asked.fingerprint, "causal", "test")
    return results if made == wanted and dtype_of(results) == "fp32" else None


def _scored(run: Run, asked: _Asked) -> Mapping[str, Any]:
    if not run.imported and not (run.folder / "model.safetensors").is_file():
        raise ModsearchError(
            f"{run.trial or run.folder} has no weights, and no results of suite `{asked.name}`"
        )
    from modsearch.config.data import DataConfig
    from modsearch.evaluation.answers import Answers
    from modsearch.evaluation.evaluate import evaluate
    from modsearch.evaluation.targets import open_model
    from modsearch.store.files import write_text

    opened = open_model(str(run.folder))
    results = evaluate(
        opened.model,
        asked.suite,
        asked.data or DataConfig(),
        "test",
        fingerprint=asked.tokens,
        local=asked.local,
        tokenizer=opened.tokenizer,
        answers=None if run.imported else Answers.beside(run.folder),
    )
    if run.trial is not None and asked.tokens in (None, run.fingerprint):
        with suppress(OSError):  # a study that one may only read is compared all the same
            write_text(
                run.trial / "eval" / f"{asked.name}.json", json.dumps(results, indent=2) + "\n"
            )
    return results
