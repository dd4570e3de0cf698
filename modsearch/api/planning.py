"""What a study will cost and resolve, before it is begun."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modsearch.api.components import Files
from modsearch.api.space import load_space
from modsearch.errors import DataError

if TYPE_CHECKING:
    from modsearch.api.space import SpaceLike
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
    return found.model_copy(update={"warnings": [*refused, *found.warnings]})


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
