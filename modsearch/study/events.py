"""What happens while a study runs; each event says it in a line, too."""

import time
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from modsearch.analysis.numbers import counted, duration
from modsearch.config.base import Frozen
from modsearch.config.evaluation import Ranked
from modsearch.config.records import Job, Stage, State


class Trial(Frozen):
    """Which trial an event is about."""

    hash: str
    stage: Stage
    arm: str
    budget: float
    depth: int
    width: int

    @classmethod
    def of(cls, job: Job) -> "Trial":
        """The trial of a job."""
        model = job.candidate.model
        return cls(
            hash=job.hash,
            stage=job.stage,
            arm=job.arm,
            budget=job.budget.flops,
            depth=model.depth,
            width=model.width,
        )

    def __str__(self) -> str:
        return f"{self.stage} {self.arm} {self.budget:.3g} d{self.width} L{self.depth}"


class Told(Frozen):
    """What all events have."""

    time: float = Field(default_factory=time.time)
    """Seconds since 1970."""


class StageBegan(Told):
    """A stage with trials left to run."""

    event: Literal["stage"] = "stage"
    stage: Stage
    trials: int
    """Left to run."""

    def __str__(self) -> str:
        return f"{self.stage}: {counted(self.trials, 'trial')} to run"


class TrialBegan(Told):
    """A trial was handed to a worker."""

    event: Literal["began"] = "began"
    trial: Trial
    folder: str
    """Where its log grows, unless it runs on a storage."""

    def __str__(self) -> str:
        return f"running {self.trial}"


class TrialRejected(Told):
    """A candidate can't be trained at its budget."""

    event: Literal["rejected"] = "rejected"
    trial: Trial
    reason: str

    def __str__(self) -> str:
        return f"rejected {self.trial}: {self.reason}"


class TrialLogged(Told):
    """A line of the log of a training in this process."""

    event: Literal["logged"] = "logged"
    trial: Trial
    step: int
    steps: int
    loss: float
    """Training loss since the line before."""

    def __str__(self) -> str:
        return f"{self.trial}: step {self.step:,} of {self.steps:,}, train loss {self.loss:.4f}"


class TrialEnded(Told):
    """A trial came back."""

    event: Literal["ended"] = "ended"
    trial: Trial
    state: State
    causal_loss: float | None
    objective: Ranked | None = None
    """What explore ranks it by, where that is not its loss."""
    reason: str | None
    done: int
    """Trials of the stage that have ended in this run."""
    trials: int
    """Of the stage in this run, by what is known now: a stopped one leaves room for others."""
    seconds_left: float
    """To the end of the stage, from the speed seen so far; 0 where that is not known."""

    def __str__(self) -> str:
        scored = self.causal_loss is not None
        result = f"loss {self.causal_loss:.4f}" if scored else f"{self.state}: {self.reason}"
        if self.objective is not None:
            result += f", {self.objective.name} {self.objective.value:.4g}"
        elif scored and self.reason:
            result += f", {self.reason}"
        left = f", {duration(self.seconds_left)} left in this stage" if self.seconds_left else ""
        return f"[{self.done}/{self.trials}] {self.trial}: {result}{left}"


class TrialsEnded(Told):
    """Nothing is left to train."""

    event: Literal["trials"] = "trials"
    states: dict[State, int]
    """Trials of the study by how they ended."""

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {state}" for state, count in self.states.items())
        return f"trials: {ends or 'none'}"


class Note(Told):
    """Anything else that is worth a line."""

    event: Literal["note"] = "note"
    text: str

    def __str__(self) -> str:
        return self.text


Event = Annotated[
    StageBegan | TrialBegan | TrialRejected | TrialLogged | TrialEnded | TrialsEnded | Note,
    Field(discriminator="event"),
]
OnEvent = Callable[[Event], None]


def unheard(event: Event) -> None:
    """For a study that nobody listens to."""
