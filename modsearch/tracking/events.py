"""Trackers that listen to a study."""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from modsearch.config.records import Record
from modsearch.errors import ModsearchError, first_line
from modsearch.store.directory import StudyDirectory
from modsearch.store.trial import read_metrics
from modsearch.study.events import Event, Note, OnEvent, TrialEnded
from modsearch.tracking.contract import TRACKERS, Tracked, Tracker

FOLDER = "tracking"
"""In the study directory."""


class Tracking:
    """Hands each trial that ends to trackers, and every event on.

    A tracker that fails is told of once, and asked no more.
    """

    def __init__(self, names: Sequence[str], study: str, root: Path, on_event: OnEvent) -> None:
        self.directory = StudyDirectory(root)
        self.on_event = on_event
        self.trackers = {name: _opened(name, study, root / FOLDER / name) for name in names}

    def __call__(self, event: Event) -> None:
        """Listen to an event."""
        self.on_event(event)
        if not isinstance(event, TrialEnded) or not self.trackers:
            return
        record = self.directory.record(event.trial.hash)
        if record is None:
            return
        folder = self.directory.trial(record.hash)
        trial = tracked(record, str(event.trial), list(read_metrics(folder / "metrics.jsonl")))
        for name, tracker in list(self.trackers.items()):
            try:
                with redirect_stdout(io.StringIO()):  # stdout is for results
                    tracker.log(trial)
            except Exception as error:  # whatever a service or its library raises
                del self.trackers[name]
                self.on_event(Note(text=f"tracking by {name} has ended: {first_line(error)}"))


def _opened(name: str, study: str, folder: Path) -> Tracker:
    """A tracker.

    Raises:
        ModsearchError: there is none of that name, its library is not installed, or it can't be
            used as it is set up.
    """
    try:
        with redirect_stdout(io.StringIO()):
            return TRACKERS.get(name)(study, folder)
    except ModsearchError:
        raise
    except ImportError as error:
        raise ModsearchError(
            f"--track {name} needs a library that is not installed: {first_line(error)}\n"
            f"install it with `pip install {name}`"
        ) from error
    except Exception as error:  # whatever a service or its library raises
        raise ModsearchError(f"--track {name}: {first_line(error)}") from error


def tracked(record: Record, name: str, rows: Sequence[Mapping[str, float]]) -> Tracked:
    """A trial as trackers are told it."""
    stated = record.candidate.model_dump(mode="json", include={"model", "optim"})
    config = dict(_flat(stated))
    config |= {"budget": record.budget.flops, "seed": record.seed, "state": str(record.state)}
    scores: dict[str, float] = {}
    if record.plan is not None:
        config |= {"params": record.plan.params, "steps": record.plan.steps}
    if record.scores is not None:
        found = record.scores.model_dump(mode="json", exclude={"block_losses"})
        # What says where a number comes from is a text, which no tracker draws.
        scores = {key: float(value) for key, value in _flat(found) if _is_number(value)}
    return Tracked(record.hash, name, record.stage, record.arm, config, rows, scores)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _flat(value: Any, key: str = "") -> Any:
    """Leaves of plain data by their keys."""
    if not isinstance(value, Mapping):
        yield key, value if isinstance(value, str | int | float | bool | None) else str(value)
        return
    for name, inner in value.items():
        yield from _flat(inner, f"{key}.{name}" if key else str(name))
