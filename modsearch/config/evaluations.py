"""Which suite results are of: by the hash of what was asked, for names may be the same."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Results = Mapping[str, Any]
Evaluations = Mapping[str, Mapping[str, Results]]
"""Results of each trial, or model, by the files that hold them."""


def name_of(file: str, results: Results) -> str:
    """The suite's own name; older results do not say it, and their file does."""
    return str(_stated(results, "suite") or file)


def identity_of(results: Results) -> str | None:
    """Hash of the suite; None where that was not noted."""
    found = _stated(results, "suite_hash")
    return found if isinstance(found, str) else None


def _stated(results: Results, key: str) -> object:
    config = results.get("config")
    return config.get(key) if isinstance(config, Mapping) else None


def of_suite(evaluations: Mapping[str, Results], identity: str, name: str) -> Results | None:
    """A trial's results of a suite, or, where there are none, of another one of its name."""
    same = [each for each in evaluations.values() if identity_of(each) == identity]
    named = [each for file, each in evaluations.items() if name_of(file, each) == name]
    return next(iter([*same, *named]), None)


def labels_of(several: Iterable[Evaluations]) -> dict[tuple[str, str | None], str]:
    """What a reader calls each suite, by name and hash: its name, and where that stands for
    several suites its hash behind it."""
    known: dict[str, set[str | None]] = defaultdict(set)
    for evaluations in several:
        for files in evaluations.values():
            for file, results in files.items():
                known[name_of(file, results)].add(identity_of(results))
    return {
        (name, each): name if len(hashes) == 1 or each is None else f"{name} ({each[:8]})"
        for name, hashes in known.items()
        for each in hashes
    }


def labelled(
    evaluations: Evaluations, labels: Mapping[tuple[str, str | None], str]
) -> dict[str, dict[str, Results]]:
    """The same by what suites are called."""
    return {
        key: {
            labels[name_of(file, results), identity_of(results)]: results
            for file, results in files.items()
        }
        for key, files in evaluations.items()
    }
