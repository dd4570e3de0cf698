"""What a tracker is: it is told each trial that has ended, with its curve."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modsearch.registry import table
from modsearch.registry.registry import Registry


@dataclass(frozen=True)
class Tracked:
    """A trial that has ended."""

    hash: str
    name: str
    """In words."""
    stage: str
    arm: str
    config: Mapping[str, str | int | float | bool | None]
    """Of the candidate, by keys such as `model.width`, without the text's place."""
    rows: Sequence[Mapping[str, float]]
    """Of its log, each with its `step`."""
    scores: Mapping[str, float]
    """What it measured in the end; empty where it did not finish."""

    @property
    def curve(self) -> list[tuple[int, dict[str, float]]]:
        """Steps, and what was logged there."""
        return [
            (int(row["step"]), {key: value for key, value in row.items() if key not in PLACES})
            for row in self.rows
        ]


PLACES = ("step", "steps")


class Tracker(ABC):
    """Takes the trials of one study.

    What it raises ends the tracking and not the study.
    """

    @abstractmethod
    def __init__(self, study: str, folder: Path) -> None:
        """
        Args:
            study: its name.
            folder: for files of its own, where the user's environment names no other place.

        Raises:
            ImportError: its library is not installed.
            ModsearchError: it can't be used as it is set up.
        """

    @abstractmethod
    def log(self, trial: Tracked) -> None:
        """A trial; the same one may come again."""


TRACKERS: Registry[Tracker] = Registry("tracker", Tracker, table.TRACKERS, table.GROUPS["tracker"])
