"""Models that stand beside a study: which of their scores may be held against its own."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from modsearch.config.references import FOLDER, References
from modsearch.config.samples import asked_of


def comparable(
    references: References, evaluations: Iterable[Mapping[str, Mapping[str, Any]]]
) -> tuple[References, list[str]]:
    """Those on the documents that trials of the study have answered, and a line for each other.

    Args:
        references: all that there are.
        evaluations: results of each trial by suite.
    """
    asked: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    for suites in evaluations:
        for suite, results in suites.items():
            asked[suite].add(asked_of(results))
    found: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    others = []
    for name, suites in references.items():
        for suite, results in suites.items():
            if asked_of(results) in asked[suite]:
                found[name][suite] = results
            else:
                others.append(
                    f"{FOLDER}/{name}/{suite}.json: not shown, no trial has answered the same "
                    f"documents (`modsearch eval TARGET --study DIR` scores it again)"
                )
    return dict(found), others
