"""What lm-eval leaves out, from the samples that it logs: continuous metrics, and their errors.

Small models are hardly told apart by accuracy, which moves only where the order of two choices
turns round. Two measures that move with every change of a likelihood stand beside it:

`answer_bits_per_byte` (lower is better): minus the log2-likelihood of the right answer over its
    bytes in UTF-8, as OLMES has it and Heineman et al. 2025 (Signal and Noise, arXiv 2508.13144)
    recommend at small scale: of a multiple choice the right one, of a LAMBADA-like task the
    target. The delimiter before an answer counts as one of its bytes.
`answer_margin` (higher is better): the right answer's probability minus that of the likeliest
    wrong one, given that it is one of the choices; a document without a wrong choice has none, and
    is in no mean of it: the proxy `margin` of DataDecide (Magnusson
    et al. 2025, arXiv 2504.11393) on normalised probabilities, from -1 to 1. Of a minimal pair it
    is positive just where `acc` is 1.

The units of every standard error are documents.
"""

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modsearch.analysis.paired import ratio_error
from modsearch.analysis.samples import text_of
from modsearch.config.samples import TaskSamples

BITS = "answer_bits_per_byte"
MARGIN = "answer_margin"
OWN = {BITS: False, MARGIN: True}
"""Metrics of ours, and whether higher is better."""
BOOTSTRAP_DRAWS = 200
"""For errors of what is no mean over documents."""

Sample = Mapping[str, Any]
"""What lm-eval logs of a document: `arguments`, `filtered_resps`, `target`, metrics, ..."""


@dataclass(frozen=True)
class Column:
    """What the documents of a task scored by one metric."""

    values: list[float]
    weights: list[float] | None = None
    """None where all count the same."""
    left_out: int = 0
    """Documents that have no such score, of which there are no values."""


def own_metrics(task: Any) -> list[str]:
    """Which of ours a task of lm-eval's has."""
    names = {"multiple_choice": [BITS, MARGIN], "loglikelihood": [BITS]}
    own = names.get(task.OUTPUT_TYPE, [])
    return own if not callable(task.config.process_results) else own[:0]


def leading_of(task: Any) -> str:
    """The metric that a task is compared by where its suite does not say."""
    own = own_metrics(task)
    stated = [str(each["metric"]) for each in task.config.metric_list or []]
    if own:
        return own[-1]
    return "bits_per_byte" if "bits_per_byte" in stated else (stated or ["acc"])[0]


def complete(results: dict[str, Any], tasks: Mapping[str, Any]) -> dict[str, TaskSamples]:
    """Add our metrics and the missing errors to lm-eval's results; take the samples out of them.

    Returns:
        What each document scored, by task.
    """
    samples: Mapping[str, Sequence[Sample]] = results.pop("samples")
    found = {}
    for name, rows in samples.items():
        task, scores = tasks[name], results["results"][name]
        kinds = list(dict.fromkeys(str(row["filter"]) for row in rows))
        own = _own_columns(task, [row for row in rows if row["filter"] == kinds[0]])
        for metric, column in own.items():
            scores[f"{metric},{kinds[0]}"] = float(np.mean(column.values))
            scores[f"{metric}_stderr,{kinds[0]}"] = ratio_error(
                np.array(column.values), np.ones(len(column.values))
            )
            results["higher_is_better"].setdefault(name, {})[metric] = OWN[metric]
        for kind in kinds:
            _fill_errors(task, scores, [row for row in rows if row["filter"] == kind], kind)
        first = [row for row in rows if row["filter"] == kinds[0]]
        found[name] = _packed(first, {**_columns(first), **own})
    return found


def _packed(rows: Sequence[Sample], columns: Mapping[str, Column]) -> TaskSamples:
    hashes = " ".join(f"{row['doc_hash']} {row['target_hash']}" for row in rows)
    weights = {name: each.weights for name, each in columns.items() if each.weights is not None}
    return TaskSamples(
        documents=hashlib.sha256(hashes.encode()).hexdigest()[:16],
        values={name: text_of(_rounded(name, each.values)) for name, each in columns.items()},
        weights={name: text_of(each) for name, each in weights.items()},
        left_out={name: each.left_out for name, each in columns.items() if each.left_out},
    )


def _rounded(metric: str, values: list[float]) -> list[float]:
    """Of a margin, which is a share, three decimals are a thousandth of its scatter."""
    return [round(value, 3) for value in values] if metric == MARGIN else values


def _columns(rows: Sequence[Sample]) -> dict[str, Column]:
    """lm-eval's own metrics that are a mean over documents, or a ratio of sums over them."""
    found = {}
    for name in rows[0]["metrics"] if rows else ():
        values: list[Any] = [row.get(name) for row in rows]
        if name == "bits_per_byte" and all(_is_pair(value) and value[1] > 0 for value in values):
            bits = [-nats / size / math.log(2) for nats, size in values]
            found[name] = Column(bits, [float(size) for _, size in values])
        elif name != "perplexity" and all(_is_number(value) for value in values):
            found[name] = Column([float(value) for value in values])
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number | bool) and math.isfinite(value)


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_number, value))


def _own_columns(task: Any, rows: Sequence[Sample]) -> dict[str, Column]:
    names = own_metrics(task)
    if not names or not rows:
        return {}
    if task.OUTPUT_TYPE == "loglikelihood":
        return {
            BITS: Column([_bits(row["filtered_resps"][0], row["arguments"][0]) for row in rows])
        }
    pairs = [_choice(task, row) for row in rows]
    margins = [margin for _, margin in pairs if margin is not None]
    found = {BITS: Column([bits for bits, _ in pairs])}
    if margins:
        found[MARGIN] = Column(margins, left_out=len(pairs) - len(margins))
    return found


def _bits(response: Any, argument: Any) -> float:
    """Bits per byte of a continuation (context, continuation)."""
    nats, size = float(response[0]), len(argument[1].encode(errors="surrogateescape"))
    return -nats / max(1, size) / math.log(2)


def _choice(task: Any, row: Sample) -> tuple[float, float | None]:
    """Bits per byte of the right choice, the best of several, and the margin; without wrong
    choices there is none."""
    num = len(task.doc_to_choice(row["doc"]))
    responses, arguments = row["filtered_resps"][:num], row["arguments"][:num]
    right = _right_places(task, row["doc"])
    nats = np.array([float(response[0]) for response in responses])
    bits = min(_bits(responses[place], arguments[place]) for place in right)
    wrong = [place for place in range(num) if place not in right]
    if not wrong:
        return bits, None
    shares = np.exp(nats - nats.max())
    shares /= shares.sum()
    return bits, float(shares[right].max() - shares[wrong].max())


def _right_places(task: Any, document: Any) -> list[int]:
    """Places of the right choices."""
    stated = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    choices = list(task.doc_to_choice(document))
    each = stated if isinstance(stated, list) else [stated]
    return [one if isinstance(one, int) else choices.index(one) for one in each]


def _fill_errors(task: Any, scores: dict[str, Any], rows: Sequence[Sample], kind: str) -> None:
    """Standard errors that lm-eval has no formula for: of ratios over documents the linearised
    one, of anything else a bootstrap over documents."""
    for key in list(scores):
        metric, comma, used = key.partition(",")
        error = f"{metric}_stderr,{used}"
        if not comma or used != kind or metric.endswith("_stderr") or len(rows) < 2:
            continue
        if isinstance(scores.get(error), int | float) or not _is_number(scores[key]):
            continue
        values = [row.get(metric) for row in rows]
        if metric in RATIOS and all(map(_is_pair, values)):
            nats, sizes = np.array(values, float).T
            slope = 1 / math.log(2) if metric == "bits_per_byte" else float(scores[key])
            scores[error] = slope * ratio_error(nats / sizes, sizes)
        elif metric in task.aggregation() and None not in values:
            scores[error] = _bootstrapped(task.aggregation()[metric], values)


RATIOS = ("bits_per_byte", "byte_perplexity", "word_perplexity")
"""Metrics that are log-likelihood over size, or its exponential."""


def _bootstrapped(aggregation: Any, values: list[Any]) -> float:
    draw = random.Random(0)
    found = [
        float(aggregation(draw.choices(values, k=len(values)))) for _ in range(BOOTSTRAP_DRAWS)
    ]
    return float(np.std(found, ddof=1))
