"""Models side by side on the documents of a suite."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modsearch.analysis.numbers import scientific
from modsearch.api.components import Files, loaded_plugins
from modsearch.api.targets import Run, Target, open_target, text_at_hand
from modsearch.config.answers import ScoreComparison
from modsearch.config.arguments import check_path, check_text
from modsearch.errors import ModsearchError

if TYPE_CHECKING:
    from os import PathLike

    from modsearch.analysis.scores import Contender
    from modsearch.config.data import DataConfig
    from modsearch.evaluation.asked import Asked
    from modsearch.evaluation.local_data import LocalData


@dataclass(frozen=True)
class _Question:
    """What every model is asked."""

    suite: str
    asked: "Asked"
    data: "DataConfig | None"
    """Where text comes from; None where no task needs any."""
    tokens: str | None
    """Of the tokens of that text, where tasks draw from them."""
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
            _checked(sides),
            suite,
            text_at_hand(corpus, check_text("text", text)),
            data_dir,
            progress,
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
    question = _question(sides, suite, data, data_dir)
    for side in sides:
        if side.arm is None:
            _check_at_hand(side.runs[0], question)
    from modsearch.analysis.scores import compare_scores

    contenders = [_contender(side, question, progress) for side in sides]
    found = compare_scores(question.asked.suite.name, contenders)
    used = [len(each.results) for each in contenders]
    return found.model_copy(update={"notes": [*found.notes, *_notes(sides, used)]})


def _contender(
    side: Target, question: _Question, progress: Callable[[str], None] | None
) -> "Contender":
    """A side with what each of its runs scored, some of which may have to be scored first.

    Raises:
        ModsearchError: none of them can be.
    """
    from modsearch.analysis.scores import Contender

    if side.arm is None:
        [run] = side.runs
        return Contender(side.name, [_results(run, question, progress)], run.imported)
    known = {run.folder.parent.name: run for run in side.runs if _can_be_had(run, question)}
    found = side.arm.standing(known)
    if found is None:
        raise _lacks(side.runs[0], question)
    records, runs = found
    results = [_results(known[record.hash], question, progress) for record in records]
    return Contender(side.name, results, runs=runs)


def _question(
    sides: Sequence[Target],
    suite: str,
    data: "DataConfig | None",
    data_dir: "str | PathLike[str] | None",
) -> _Question:
    from modsearch.config.data import DataConfig
    from modsearch.evaluation.asked import Asked
    from modsearch.evaluation.local_data import LocalData

    local = None if data_dir is None else LocalData(check_path("data_dir", data_dir))
    asked = Asked.of(suite, data or DataConfig(), local)
    plan = asked.suite
    if plan.needs_texts and data is None:
        raise ModsearchError(f"suite `{plan.name}` scores files of yours\n--corpus names them")
    if not plan.needs_corpus:
        return _Question(suite, asked, data if plan.needs_texts else None, None, local)
    runs = [run for side in sides for run in side.runs]
    trained = [run for run in runs if run.data is not None and run.fingerprint is not None]
    if data is None and trained:
        data = trained[0].data
        if all(run.fingerprint == trained[0].fingerprint for run in runs):
            return _Question(suite, asked, data, trained[0].fingerprint, local)
    if data is None:
        raise ModsearchError(
            f"suite `{plan.name}` draws from a text, and no model says what it was trained on\n"
            f"name a --corpus"
        )
    from modsearch.data.corpus import load_corpus

    # Models of several texts or tokenizers: the same text for all, whatever its tokens are.
    plain = data.model_copy(update={"tokenizer": "bytes", "end": None})
    return _Question(suite, asked, plain, load_corpus(plain).facts.fingerprint, local)


def _kept(run: Run, question: _Question) -> Mapping[str, Any] | None:
    """Results that a trial has of just this."""
    if run.trial is None:
        return None
    from modsearch.store.directory import evaluations_in

    results = question.asked.of_this(evaluations_in(run.trial))
    answers = results is not None and question.asked.is_answered(results, question.tokens or "")
    return results if answers else None


def _has_weights(run: Run) -> bool:
    return run.imported or (run.folder / "model.safetensors").is_file()


def _can_be_had(run: Run, question: _Question) -> bool:
    return _has_weights(run) or _kept(run, question) is not None


def _lacks(run: Run, question: _Question) -> ModsearchError:
    name = question.asked.suite.name
    return ModsearchError(
        f"{run.trial or run.folder} has no weights, and no results of suite `{name}`\n"
        f"`resources.keep` of a search space says whose weights are kept"
    )


def _check_at_hand(run: Run, question: _Question) -> None:
    """Whether a model can be scored, before any is."""
    if not _can_be_had(run, question):
        raise _lacks(run, question)
    if run.imported:
        from modsearch.evaluation.imported import imported_folder

        imported_folder(str(run.folder))


def _results(
    run: Run, question: _Question, progress: Callable[[str], None] | None
) -> Mapping[str, Any]:
    """What is kept, or else what the model answers now; that it is asked is told."""
    kept = _kept(run, question)
    if kept is not None:
        return kept
    if not _has_weights(run):
        raise _lacks(run, question)
    from modsearch.config.data import DataConfig
    from modsearch.evaluation.answers import Answers
    from modsearch.evaluation.evaluate import evaluate
    from modsearch.evaluation.targets import open_model
    from modsearch.store.directory import write_evaluation

    def told() -> None:
        if progress is not None:
            name = question.asked.suite.name
            progress(f"evaluate: {run.trial or run.folder} with suite {name}")

    opened = open_model(str(run.folder))
    keeps = (
        Answers.cached(opened.digest, told) if run.imported else Answers.beside(run.folder, told)
    )
    results = evaluate(
        opened.model,
        question.suite,
        question.data or DataConfig(),
        "test",
        fingerprint=question.tokens,
        local=question.local,
        tokenizer=opened.tokenizer,
        answers=keeps,
    )
    if run.trial is not None and question.tokens in (None, run.fingerprint):
        with suppress(OSError):  # a study that one may only read is compared all the same
            write_evaluation(run.trial / "eval", results)
    return results


def _notes(sides: Sequence[Target], used: Sequence[int]) -> list[str]:
    """What a reader should know of how sides were trained, and of runs that are not in it."""
    notes = [
        f"{side.name}: {num} of {len(side.runs)} finished runs have weights or scores"
        for side, num in zip(sides, used, strict=True)
        if side.arm is not None and num < len(side.runs)
    ]
    budgets = {side.name: side.flops for side in sides if side.flops is not None}
    if len(set(budgets.values())) > 1:
        told = ", ".join(f"{name} with {scientific(flops)}" for name, flops in budgets.items())
        notes.append(f"trained with other budgets, which differences are of, too: {told} FLOPs")
    return [*notes, *_seeds_of_one(sides)]


def _seeds_of_one(sides: Sequence[Target]) -> Iterator[str]:
    """Single runs that differ by their seeds alone."""
    found: dict[tuple[str, float, str | None], list[str]] = {}
    for side in sides:
        made = side.runs[0].made
        if made is not None and made.budget is not None:
            key = made.candidate.model_dump_json(), made.budget.flops, made.fingerprint
            found.setdefault(key, []).append(side.name)
    for names in found.values():
        if len(names) > 1:
            yield f"{', '.join(names)}: seeds of one candidate, so that they differ by luck alone"
