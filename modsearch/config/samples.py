"""How the scores of a task are read, and what each of its documents scored."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from modsearch.config.base import Frozen


class TaskFacts(Frozen):
    """How the scores of one task are read."""

    leading: str
    """The metric that models are compared by."""
    higher_is_better: bool
    """Of the leading metric."""
    accuracy: str | None = None
    """The metric that is centred on chance; None where the task has none, or no stated chance."""
    chance: float | None = None
    """Accuracy of guessing."""
    note: str | None = None
    """What a reader should know."""


class TaskSamples(Frozen):
    """What each document of a task scored, as texts: a number and a space for each document, with
    four significant digits (of `answer_margin` three decimals) and no zero before the point;
    where all are 0 or 1, digits without spaces. The means beside them are of unrounded values."""

    documents: str
    """Hash of the documents, in order: equal ones can be paired."""
    values: dict[str, str]
    """By metric."""
    weights: dict[str, str] = {}
    """By metric: what each document counts for in the mean (bytes), where that differs."""
    left_out: dict[str, int] = {}
    """By metric: documents without such a score, where there are any; the same ones for every
    model. They are in neither the values nor the mean."""


def asked_of(results: Mapping[str, Any]) -> tuple[object, ...]:
    """What decides which documents results are of: the suite, the text, its part, the seed."""
    config = results.get("config")
    stated = config if isinstance(config, dict) else {}
    return tuple(stated.get(key) for key in ("suite_hash", "corpus", "part", "seed"))


def dtype_of(results: Mapping[str, Any]) -> str:
    """The precision of matrix products that results were made in: `fp32`, also where none is
    stated, or `bf16`."""
    config = results.get("config")
    stated = config.get("dtype") if isinstance(config, dict) else None
    return "bf16" if stated == "bfloat16" else "fp32"


def facts_of(results: Mapping[str, Any]) -> dict[str, TaskFacts]:
    """How the scores of a suite's tasks are read; empty where results do not say it."""
    try:
        return {
            task: TaskFacts.model_validate(stated)
            for task, stated in dict(results.get("tasks") or {}).items()
        }
    except (ValidationError, TypeError, ValueError):
        return {}
