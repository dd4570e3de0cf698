"""What a running study shows: a live table on a terminal, plain lines elsewhere."""

import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from modsearch.config.records import Job, Plan, Record, State
from modsearch.store.directory import StudyDirectory
from modsearch.store.trial import read_metrics


def describe(job: Job) -> str:
    """A trial in a few words."""
    model = job.candidate.model
    return f"{job.stage} {job.arm} {job.budget.flops:.3g} d{model.width} L{model.depth}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@dataclass
class Progress:
    """Collects what happens and shows it; writes to stderr, since stdout is for results."""

    directory: StudyDirectory
    workers: int
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def __post_init__(self) -> None:
        self.running: dict[str, tuple[Job, float]] = {}
        self.expected = 0.0
        self.spent = 0.0
        self.spent_guess = 0.0
        self.finished = 0
        self.total = 0
        self.stage = ""
        self._live = (
            Live(get_renderable=self._render, console=self.console, refresh_per_second=2)
            if self.console.is_terminal
            else None
        )

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        if self.console.is_terminal:
            self.console.print(text, markup=False, emoji=False, soft_wrap=True)
        else:  # a file has no width, and a log's lines are read by programs
            print(text, file=self.console.file, flush=True)  # stderr

    def begin(self, stage: str, total: int, expected: float) -> None:
        """A stage with so many trials left, and a guess of their seconds."""
        self.stage, self.total, self.expected, self.finished = stage, total, expected, 0
        self.spent = self.spent_guess = 0.0
        self.say(f"{stage}: {total} trials to run")

    def started(self, job: Job) -> None:
        """A job was handed out."""
        self.running[job.hash] = (job, time.monotonic())

    def ended(self, job: Job, record: Record) -> None:
        """A job came back."""
        _, began = self.running.pop(job.hash)
        self.finished += 1
        self.spent += time.monotonic() - began
        self.spent_guess += _guess(job)
        result = (
            f"loss {record.scores.causal_loss:.4f}"
            if record.scores
            else f"{record.state}: {record.reason}"
        )
        left = self.time_left()
        self.say(
            f"[{self.finished}/{self.total}] {describe(job)}: {result}"
            + (f", {duration(left)} left in this stage" if left else "")
        )

    def time_left(self) -> float:
        """Seconds to the end of the stage, from the speed seen so far."""
        if not self.spent_guess:
            return 0.0
        ratio = self.spent / self.spent_guess
        return max(0.0, self.expected - self.spent_guess) * ratio / self.workers

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for column in ("running", "step", "train loss", "seconds"):
            table.add_column(column, justify="left" if column == "running" else "right")
        for job, began in list(self.running.values()):
            rows = list(read_metrics(self.directory.trial(job.hash) / "metrics.jsonl"))
            last = rows[-1] if rows else None
            step = f"{last['step']:.0f}/{last['steps']:.0f}" if last else "starting"
            loss = f"{last['loss']:.3f}" if last else ""
            table.add_row(describe(job), step, loss, f"{time.monotonic() - began:.0f}")
        left = self.time_left()
        head = f"{self.stage}: {self.finished} of {self.total}"
        return Group(Text(head + (f", {duration(left)} left" if left else "")), table)


def _guess(job: Job) -> float:
    return job.plan.seconds if isinstance(job.plan, Plan) else 0.0


def summary(records: list[Record]) -> str:
    """Counts of how trials ended."""
    counts = {state: sum(record.state is state for record in records) for state in State}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"
