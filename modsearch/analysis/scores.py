"""Models compared on the documents of a suite: each task's leading metric, and averages.

Words are by p-values that are adjusted by Holm's method for all tasks and sides; intervals are
Bonferroni's, which all hold at once: intervals that agree with Holm's steps exist, but say nothing
of how large a told difference is (Guilbaud 2008, doi 10.1002/bimj.200710469). So a row whose
interval just holds zero may still be told.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modsearch.analysis.compare import Confirmed
from modsearch.analysis.paired import LEVEL, Difference, Sheet, difference, holm
from modsearch.analysis.runs import Runs
from modsearch.analysis.samples import Scores, left_out, scores_of
from modsearch.config.answers import (
    OF_WEIGHTS,
    Estimate,
    Score,
    ScoreComparison,
    ScoreDifference,
    ScoredTask,
    Side,
)
from modsearch.config.samples import TaskFacts, facts_of
from modsearch.errors import StudyError, shown

AVERAGE = "average"
MARGIN = "answer_margin"
"""The right answer's probability minus that of the likeliest wrong one: 0 of guessing."""
CENTRED = "centred accuracy"
"""(accuracy - chance) / (1 - chance), mean over tasks: 0 of guessing, 1 of being always right."""

Results = Mapping[str, Any]
"""lm-eval's answer with `tasks` and `samples`."""


@dataclass(frozen=True)
class Contender:
    """One side: what each of its seeds scored."""

    name: str
    results: Sequence[Results]
    fixed: bool = False
    """Whether it is somebody else's model, of which there are no other seeds."""
    runs: Runs | None = None
    """What each seed counts for; None: the same."""

    @classmethod
    def of_arm(
        cls, name: str, arm: Confirmed, results: Mapping[str, Results]
    ) -> "Contender | None":
        """A confirmed arm, by what its runs scored; None where none of them was scored.

        Args:
            name: of the side.
            arm: as confirmed.
            results: by the hash of a run.
        """
        found = arm.standing(results)
        if found is None:
            return None
        records, runs = found
        return cls(name, [results[record.hash] for record in records], runs=runs)

    @property
    def num_sizes(self) -> int:
        """Of its seeds."""
        return self.runs.num_sizes if self.runs is not None else 1

    @property
    def told(self) -> Side:
        """To programs."""
        return Side(name=self.name, runs=len(self.results), sizes=self.num_sizes)


@dataclass(frozen=True)
class Line:
    """What is compared in one row: a metric of one task, or of several, with their scales."""

    shown: ScoredTask
    parts: tuple[tuple[str, str, float], ...]
    """Task, metric and factor of each."""


def lines_of(facts: Mapping[str, TaskFacts]) -> list[Line]:
    """Averages over tasks, where there are several, and the leading metric of each task."""
    found = []
    centred = tuple(
        (task, each.accuracy, 1 / (1 - each.chance))
        for task, each in facts.items()
        if each.accuracy is not None and each.chance is not None
    )
    if len(centred) > 1:
        found.append(_line(AVERAGE, CENTRED, centred))
    leading = {(each.leading, each.higher_is_better) for each in facts.values()}
    if len(facts) > 1 and len(leading) == 1:  # of two directions there is no mean
        [(metric, higher)] = leading
        parts = tuple((task, each.leading, 1.0) for task, each in facts.items())
        found.append(_line(AVERAGE, metric, parts, higher=higher))
    for task, each in facts.items():
        parts = ((task, each.leading, 1.0),)
        found.append(
            _line(task, each.leading, parts, higher=each.higher_is_better, note=each.note)
        )
    return found


def line_of(task: str, metric: str) -> Line:
    """Of one task, by any metric."""
    return _line(task, metric, ((task, metric, 1.0),))


def _line(
    task: str,
    metric: str,
    parts: tuple[tuple[str, str, float], ...],
    *,
    higher: bool = True,
    note: str | None = None,
) -> Line:
    shown = ScoredTask(
        task=task, metric=metric, higher_is_better=higher, documents=0, chance=None, note=note
    )
    return Line(shown, parts)


def sheets_of(contender: Contender, line: Line) -> list[Sheet] | None:
    """What the seeds of a side scored, a sheet a task; None where one of them does not say."""
    found = []
    for task, metric, _ in line.parts:
        known = [scores_of(results, task, metric) for results in contender.results]
        rows = [each for each in known if each is not None]
        if not rows or len(rows) < len(known) or not _agree(rows):
            return None
        values_SD = np.stack([row.values_D for row in rows])
        found.append(Sheet(values_SD, rows[0].weights_D, contender.runs))
    return found


def _agree(rows: Sequence[Scores]) -> bool:
    first = rows[0]
    return all(
        row.documents == first.documents and len(row.values_D) == len(first.values_D)
        for row in rows
    )


def mean_over(contender: Contender, line: Line) -> Difference | None:
    """The score of a side with its error over documents and seeds; None where that is not
    known."""
    sheets = sheets_of(contender, line)
    if sheets is None:
        return None
    zeros = [Sheet(np.zeros((1, len(each.weights_D))), each.weights_D) for each in sheets]
    found = difference(sheets, zeros, [factor for *_, factor in line.parts], fixed=True)
    if line.shown.metric != CENTRED:
        return found
    facts = facts_of(contender.results[0])
    guesses = [factor * (facts[task].chance or 0.0) for task, _, factor in line.parts]
    value = found.value - sum(guesses) / len(guesses)
    return replace(found, value=value)


def averages(results: Results) -> dict[str, Estimate]:
    """Of one model, by metric: centred accuracy, and what leads in all tasks."""
    model = Contender("", [results])
    found = {}
    for line in lines_of(facts_of(results)):
        mean = mean_over(model, line) if line.shown.task == AVERAGE else None
        if mean is not None and math.isfinite(mean.se):
            low, high = mean.interval()
            found[line.shown.metric] = Estimate(value=mean.value, low=low, high=high)
    return found


def compare_scores(suite: str, contenders: Sequence[Contender]) -> ScoreComparison:
    """Each side against the first, on the same documents.

    Raises:
        StudyError: sides have answered other documents, or what documents scored is not known.
    """
    first, *others = contenders
    facts = facts_of(first.results[0])
    lines = lines_of(facts)
    for other in others:
        _check_same(suite, first, other, facts)
    scores: list[Score] = []
    found: list[tuple[Line, Contender, Difference]] = []
    for line in lines:
        theirs = _sheets(suite, first, line)
        factors = [factor for *_, factor in line.parts]
        for each in contenders:
            _sheets(suite, each, line)
            if (score := _score(each, line)) is not None:
                scores.append(score)
            if each is not first:
                gap = difference(_sheets(suite, each, line), theirs, factors, fixed=True)
                found.append((line, each, gap))
    averages = [row for row in found if row[0].shown.task == AVERAGE]
    tasks = [row for row in found if row[0].shown.task != AVERAGE]
    return ScoreComparison(
        suite=suite,
        sides=[each.told for each in contenders],
        tasks=[_shown(line, facts, first) for line in lines],
        scores=scores,
        differences=_told(tasks, first),
        averages=[
            row
            for metric in dict.fromkeys(line.shown.metric for line, *_ in averages)
            for row in _told([each for each in averages if each[0].shown.metric == metric], first)
        ],
        adjusted_for=len(tasks),
        notes=_notes(contenders, facts),
    )  # fmt: skip


def _sheets(suite: str, contender: Contender, line: Line) -> list[Sheet]:
    sheets = sheets_of(contender, line)
    if sheets is None:
        raise StudyError(
            f"results of {shown(contender.name)} do not say what each document of suite "
            f"`{suite}` scored by {line.shown.metric}\nscore it again with `modsearch eval`"
        )
    return sheets


def _check_same(
    suite: str, first: Contender, other: Contender, facts: Mapping[str, TaskFacts]
) -> None:
    theirs = facts_of(other.results[0])
    for task, each in facts.items():
        one = scores_of(first.results[0], task, each.leading)
        two = scores_of(other.results[0], task, each.leading) if task in theirs else None
        if one is not None and (two is None or one.documents != two.documents):
            raise StudyError(
                f"{shown(first.name)} and {shown(other.name)} have answered other documents of "
                f"task `{task}`\nscore both with the same suite `{suite}`, on the same text"
            )


def scoreboard(
    contenders: Sequence[Contender],
) -> tuple[list[ScoredTask], list[Score], list[str]]:
    """What models scored, without a comparison: averages, and of each task the metric that leads
    and its accuracy; and what a reader should know."""
    tasks: list[ScoredTask] = []
    scores: list[Score] = []
    facts = facts_of(contenders[0].results[0])
    for line in lines_of(facts):
        rows = [line]
        each = facts.get(line.shown.task)
        if each is not None and each.accuracy not in (None, each.leading):
            rows.append(line_of(line.shown.task, str(each.accuracy)))
        for row in rows:
            known = [found for side in contenders if (found := _score(side, row)) is not None]
            if known:
                tasks.append(_shown(row, facts, contenders[0]))
                scores += known
    return tasks, scores, _task_notes(contenders[0], facts)


def _task_notes(first: Contender, facts: Mapping[str, TaskFacts]) -> list[str]:
    """What a reader of the tasks' scores should know."""
    notes = [f"{task}: {each.note}" for task, each in facts.items() if each.note is not None]
    for task, each in facts.items():
        if num := left_out(first.results[0], task, each.leading):
            which = "1 document has" if num == 1 else f"{num} documents have"
            notes.append(f"{task}: {which} no {each.leading}, and no part in its mean")
    return notes


def _score(contender: Contender, line: Line) -> Score | None:
    """None where results do not have it."""
    mean = mean_over(contender, line)
    if mean is None:
        return _stated(contender, line)
    low, high = mean.interval()
    return Score(
        side=contender.name,
        task=line.shown.task,
        metric=line.shown.metric,
        value=mean.value,
        low=_finite(low),
        high=_finite(high),
        se=_finite(mean.se),
    )


def _stated(contender: Contender, line: Line) -> Score | None:
    """A score that is no mean over documents, as lm-eval has it."""
    values, error = [], None
    for results in contender.results:
        for key, value in results["results"].get(line.shown.task, {}).items():
            name, comma, kind = key.partition(",")
            if comma and name == line.shown.metric and isinstance(value, int | float):
                values.append(float(value))
                error = results["results"][line.shown.task].get(f"{name}_stderr,{kind}")
                break
    if not values or len(values) < len(contender.results):
        return None
    runs = contender.runs or Runs.alike(len(values))
    known = isinstance(error, int | float) and len(values) == 1
    return Score(
        side=contender.name,
        task=line.shown.task,
        metric=line.shown.metric,
        value=float(runs.mean(values)),
        low=None,
        high=None,
        se=float(error) if known and error is not None else None,
    )


def guessing(metric: str, facts: TaskFacts | None) -> float | None:
    """What guessing scores by a metric; None where that has no meaning or is not stated."""
    if metric in (CENTRED, MARGIN):
        return 0.0
    if facts is None or not metric.startswith("acc"):
        return None
    return facts.chance


def _shown(line: Line, facts: Mapping[str, TaskFacts], first: Contender) -> ScoredTask:
    num = sum(
        len(found.values_D)
        for task, metric, _ in line.parts
        if (found := scores_of(first.results[0], task, metric)) is not None
    )
    chance = guessing(line.shown.metric, facts.get(line.shown.task))
    return line.shown.model_copy(update={"documents": num, "chance": chance})


def _told(
    rows: Sequence[tuple[Line, Contender, Difference]], against: Contender
) -> list[ScoreDifference]:
    """One family of comparisons, adjusted for how many they are."""
    known = [gap for _, _, gap in rows if math.isfinite(gap.se)]
    adjusted = dict(zip(map(id, known), holm([gap.p for gap in known]), strict=True))
    found = []
    for line, side, gap in rows:
        sign = 1 if line.shown.higher_is_better else -1
        p = adjusted.get(id(gap))
        ends = sorted(sign * end for end in gap.interval(LEVEL / len(rows)))
        value = sign * gap.value
        weights = _weights_alone(side, against)
        told = p is not None and p < LEVEL
        found.append(
            ScoreDifference(
                side=side.name,
                against=against.name,
                task=line.shown.task,
                metric=line.shown.metric,
                value=value,
                low=_finite(ends[0]),
                high=_finite(ends[1]),
                p=p,
                verdict=_word(value, of_weights=weights) if told else "inconclusive",
                over="documents" if gap.seeds is None else "seeds and documents",
                weights_alone=weights,
            )
        )
    return found


def _word(value: float, *, of_weights: bool) -> str:
    """Of a told difference."""
    return f"{'better' if value > 0 else 'worse'}{OF_WEIGHTS if of_weights else ''}"


def _weights_alone(one: Contender, other: Contender) -> bool:
    """Whether nothing is said of what they are seeds of, as a single run has no other seeds;
    somebody else's model stands for itself against several."""
    single = [each for each in (one, other) if len(each.results) == 1]
    return len(single) == 2 or any(not each.fixed for each in single)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _notes(contenders: Sequence[Contender], facts: Mapping[str, TaskFacts]) -> list[str]:
    notes = _task_notes(contenders[0], facts)
    single = [each.name for each in contenders if len(each.results) == 1 and not each.fixed]
    if single:
        notes.append(
            f"{', '.join(single)}: a single run: what is said of it is said of these weights, and "
            f"not of its architecture or recipe, of which another seed would score otherwise, too"
        )
    fixed = [each.name for each in contenders if each.fixed]
    if fixed:
        notes.append(f"{', '.join(fixed)}: taken as it is, without other seeds of it")
    several = [each.name for each in contenders if each.num_sizes > 1]
    if several:
        notes.append(
            f"{', '.join(several)}: runs of all confirmed sizes, each with the weight that its "
            f"loss has in the arm's lowest one"
        )
    topk = [each.name for each in contenders if any(map(is_topk, each.results))]
    if topk:
        notes.append(f"{', '.join(topk)}: scored by top-k, which sees the future: no likelihood")
    return notes


def is_topk(results: Results) -> bool:
    """Whether scores are by training's routing, which looks at later tokens."""
    config = results.get("config")
    return isinstance(config, Mapping) and config.get("likelihood") is False
