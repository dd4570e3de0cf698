"""What each document of a task scored: as text in a file, and as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modsearch.config.samples import TaskSamples

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """What one model scored on the documents of one task (D)."""

    documents: str
    """Hash of the documents."""
    values_D: Array
    weights_D: Array
    """What a document counts for; 1 where all count the same."""


def text_of(values: Sequence[float]) -> str:
    """Numbers as `TaskSamples` has them."""
    if all(value in (0, 1) for value in values):
        return "".join("1" if value else "0" for value in values)
    # A space behind a single one, which might be of the digits 0 and 1 alone.
    return " ".join(_number(value) for value in values) + " " * (len(values) == 1)


def _number(value: float) -> str:
    if float(value).is_integer():
        return str(int(value))
    return f"{value:.4g}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.4g}"


def numbers_of(text: str) -> Array:
    """The other way.

    Raises:
        ValueError: it holds anything else.
    """
    if text and not set(text) - {"0", "1"}:
        return np.array([letter == "1" for letter in text], float)
    found = np.array(text.split(), float)
    if not np.isfinite(found).all():
        raise ValueError("a score is no finite number")
    return found


def left_out(results: Mapping[str, Any], task: str, metric: str) -> int:
    """Documents of a task that have no score by a metric."""
    try:
        return TaskSamples.model_validate(results["samples"][task]).left_out.get(metric, 0)
    except (KeyError, TypeError, ValueError):
        return 0


def scores_of(results: Mapping[str, Any], task: str, metric: str) -> Scores | None:
    """What each document scored; None where results do not say it, or not in this form."""
    try:
        found = TaskSamples.model_validate(results["samples"][task])
        values_D = numbers_of(found.values[metric])
        weights = found.weights.get(metric)
        weights_D = np.ones_like(values_D) if weights is None else numbers_of(weights)
    except (KeyError, TypeError, ValueError):  # ValidationError is a ValueError
        return None
    if len(values_D) != len(weights_D) or not len(values_D) or weights_D.sum() <= 0:
        return None
    return Scores(found.documents, values_D, weights_D)
