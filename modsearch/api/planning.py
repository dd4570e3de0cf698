"""What a study will cost and resolve, before it is begun."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modsearch.analysis.numbers import counted
from modsearch.api.components import Files
from modsearch.api.space import load_space
from modsearch.errors import DataError

if TYPE_CHECKING:
    from modsearch.api.space import SpaceLike
    from modsearch.config.evaluation import Objective
    from modsearch.planning.forecast import Forecast
    from modsearch.space.space import Space


def plan(space: "SpaceLike", *, overrides: Sequence[str] = (), plugins: Files = ()) -> "Forecast":
    """Cells, trials, FLOPs, memory, hours and what the study can resolve; nothing is trained but
    some sizes for a moment, to time them.

    Raises:
        ModsearchError: the space is wrong, or there is no text.
    """
    wanted = load_space(space, overrides=overrides, plugins=plugins)
    from modsearch.planning.forecast import forecast

    refused = _refused(wanted)
    found = forecast(wanted)
    objective = wanted.explore.metric if wanted.explore is not None else None
    noise = [] if objective is None else [_noise(objective)]
    return found.model_copy(
        update={"notes": [*found.notes, *noise], "warnings": [*refused, *found.warnings]}
    )


def _refused(space: "Space") -> list[str]:
    """A line where a suite's text or data is not there for the search; a plan does without.

    What only the hub has of a suite for the winners is left to the search.

    Raises:
        ConfigError: a task or a metric is unknown or wrong.
    """
    from modsearch.data.corpus import load_corpora
    from modsearch.evaluation.scorer import Scorer
    from modsearch.evaluation.suites import load_suite
    from modsearch.study.scorings import check_suites

    suite = space.asked_suite
    local = suite is None or suite.data_dir or load_suite(suite.name)[0].is_self_contained
    if not local:
        space = space.model_copy(update={"suite": None})
    facts = load_corpora(space.data, space.vocab_sizes).first.facts
    try:
        check_suites(Scorer(), space, facts.fingerprint)
    except DataError as error:
        return ["search will refuse this: " + "; ".join(str(error).splitlines())]
    return []


def _noise(objective: "Objective") -> str:
    """How much the objective scatters over documents: what the number of them tells."""
    from modsearch.evaluation.suites import load_suite

    suite, path = load_suite(objective.suite)
    tasks = [task for task in suite.tasks if objective.task in (None, task.task)]
    counts = [task.documents(path.parent) for task in tasks]
    known = [count for count in counts if count is not None]
    where = f"explore.objective {objective.name}"
    again = "recipes that differ by less are ranked by luck"
    if not known or len(known) < len(counts):
        return (
            f"{where}: its standard error over documents is not known before a trial is scored; "
            f"{again}"
        )
    total = counted(sum(known), "document")
    if not objective.metric.startswith("acc"):
        return f"{where}: {total}; `eval` says the standard error of such a metric, and {again}"
    error = 0.5 * sum(1 / count for count in known) ** 0.5 / len(known)
    return (
        f"{where}: over {total} an accuracy has a standard error of up to {error:.2g}, beside "
        f"that of seeds; {again}"
    )
