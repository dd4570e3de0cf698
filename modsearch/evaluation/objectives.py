"""What a search goes by, where that is a metric of a suite and not the loss."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from modsearch.config.evaluation import Objective, Ranked
from modsearch.errors import ConfigError, unknown


def check_objective(
    objective: Objective, metrics: Mapping[str, Mapping[str, bool]], groups: Sequence[str]
) -> None:
    """Whether a suite has an objective.

    Args:
        objective: of explore.
        metrics: of each of the suite's tasks, and whether higher is better.
        groups: tasks that stand for several; lm-eval alone knows their metrics.

    Raises:
        ConfigError: it has no such task or metric, or tasks differ in which way is better.
    """
    where = f"explore.objective: suite {objective.suite}"
    if objective.task is not None and objective.task not in metrics:
        if objective.task in groups:
            return
        raise ConfigError(f"{where}: {unknown('task', objective.task, [*metrics, *groups])}")
    tasks = list(metrics) if objective.task is None else [objective.task]
    for task in tasks:
        if objective.metric not in metrics[task]:
            raise ConfigError(
                f"{where}: task `{task}`: {unknown('metric', objective.metric, metrics[task])}"
            )
    try:
        _direction(objective, {task: metrics[task][objective.metric] for task in tasks})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _direction(objective: Objective, better: Mapping[str, bool]) -> bool:
    """Whether higher is better, by task.

    Raises:
        ConfigError: tasks differ, so that a mean over them is neither.
    """
    if len(set(better.values())) > 1:
        higher, lower = (
            next(task for task, each in better.items() if each is way) for way in (True, False)
        )
        raise ConfigError(
            f"no mean over tasks of {objective.metric}: higher is better in `{higher}`, lower in "
            f"`{lower}`\nname one of them as `task`"
        )
    return all(better.values())


def ranked(results: Mapping[str, Any], objective: Objective) -> Ranked:
    """What results are worth to an objective.

    Raises:
        ConfigError: they lack it, or tasks differ in which way is better.
    """
    tasks = [objective.task] if objective.task is not None else list(results["tasks"])
    values = [_value(results["results"].get(task, {}), objective.metric) for task in tasks]
    if None in values or not values:
        raise ConfigError(f"no {objective.metric} of {', '.join(tasks)} in the suite's results")
    known = results["higher_is_better"]
    better = {task: bool(known.get(task, {}).get(objective.metric, True)) for task in tasks}
    return Ranked(
        name=objective.name,
        value=fmean(value for value in values if value is not None),
        higher_is_better=_direction(objective, better),
        suite_hash=results.get("config", {}).get("suite_hash"),
    )


def _value(scores: Mapping[str, Any], metric: str) -> float | None:
    """Of the first filter that has it."""
    for key, value in scores.items():
        name, comma, _ = key.partition(",")
        if comma and name == metric and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    return None
