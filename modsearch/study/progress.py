"""How far a running study is, told to a callback event by event."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from modsearch.config.records import Job, Record, Stage, State
from modsearch.store.directory import StudyDirectory
from modsearch.study.events import (
    Note,
    OnEvent,
    StageBegan,
    Trial,
    TrialBegan,
    TrialEnded,
    TrialLogged,
    TrialRejected,
    TrialsEnded,
    unheard,
)

WORTH_TELLING = 5
"""Parts of a text; with fewer it is ready in a moment."""
LOGS_TOLD = 20
"""Events of one training that is followed step by step."""


class Progress:
    """Counts trials of a stage, and extrapolates its end from those that have come back."""

    def __init__(self, directory: StudyDirectory, on_event: OnEvent | None) -> None:
        self.directory = directory
        self.on_event = on_event or unheard
        self.workers = 1
        self._began: dict[str, float] = {}
        self._spent = 0.0
        self._spent_guess = 0.0
        self._done = 0
        self._part = 0
        self._told: set[str] = set()
        self._prepared = "", 0

    def note(self, text: str) -> None:
        """A line of its own."""
        self.on_event(Note(text=text))

    def prepared(self, what: str, done: int, total: int) -> None:
        """So much of the text; a tenth at a time."""
        tenth = 10 * done // total
        if (what, tenth) != self._prepared and total >= WORTH_TELLING:
            self.note(f"corpus: {what}, {done} of {total} parts")
        self._prepared = what, tenth

    def over(self, records: Sequence[Record]) -> None:
        """Nothing is left to train; these are all trials."""
        found = Counter(record.state for record in records)
        states = {state: found[state] for state in State if found[state]}
        self.on_event(TrialsEnded(states=states))

    def begin(self, stage: Stage, trials: int) -> None:
        """A stage with so many trials left."""
        self._done = 0
        self._spent = self._spent_guess = 0.0
        self.on_event(StageBegan(stage=stage, trials=trials))

    def started(self, job: Job) -> None:
        """A job was handed out."""
        self._began[job.hash] = time.monotonic()
        folder = str(self.directory.trial(job.hash))
        self.on_event(TrialBegan(trial=Trial.of(job), folder=folder))

    def logged(self, job: Job, row: Mapping[str, float]) -> None:
        """A line of a training's log; one in each part of the steps is told."""
        step, steps = int(row["step"]), int(row["steps"])
        part = step * LOGS_TOLD // steps
        if part != self._part:
            self._part = part
            trial = Trial.of(job)
            self.on_event(TrialLogged(trial=trial, step=step, steps=steps, loss=row["loss"]))

    def rejected(self, job: Job, reason: str) -> None:
        """A job can't be trained."""
        self.on_event(TrialRejected(trial=Trial.of(job), reason=reason))

    def known(self, job: Job, record: Record) -> None:
        """A job need not be run."""
        if record.reused_from is not None and job.hash not in self._told:
            self._told.add(job.hash)
            self.note(f"{Trial.of(job)}: taken from {record.reused_from}")

    def ended(self, job: Job, record: Record, left: Sequence[float]) -> None:
        """A job came back; a guess of the seconds of each that is left in the stage now."""
        self._done += 1
        self._spent += time.monotonic() - self._began.pop(job.hash)
        self._spent_guess += job.seconds
        self.on_event(
            TrialEnded(
                trial=Trial.of(job),
                state=record.state,
                causal_loss=record.scores.causal_loss if record.scores else None,
                objective=record.objective,
                reason=record.reason,
                done=self._done,
                trials=self._done + len(left),
                seconds_left=self._seconds_left(sum(left)),
            )
        )

    def _seconds_left(self, expected: float) -> float:
        if not self._spent_guess:
            return 0.0
        return expected * self._spent / self._spent_guess / self.workers
