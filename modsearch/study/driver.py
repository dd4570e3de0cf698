"""One stage's jobs, handed out and taken back."""

from collections import Counter
from collections.abc import Callable, Sequence

from modsearch.analysis.numbers import counted
from modsearch.config.records import Infeasible, Job, Record, Stage, State
from modsearch.config.runtime import Signal
from modsearch.errors import StudyError
from modsearch.sampling.cell import Asked, Cell
from modsearch.study.events import Trial
from modsearch.study.progress import Progress
from modsearch.study.stages import Stages
from modsearch.study.stops import Stops
from modsearch.study.trials import Trials, is_unscored


class Driver:
    """Hands out the jobs of one stage and takes their records.

    Planning, rejection, duplicates and telling live here, so they are the same under every
    engine.
    """

    def __init__(
        self,
        stages: Stages,
        cells: Sequence[Cell],
        trials: Trials,
        progress: Progress,
        check: Callable[[], None],
    ) -> None:
        self.stages = stages
        self.cells = cells
        self.trials = trials
        self.progress = progress
        self.check = check
        self.in_flight: dict[str, list[tuple[Cell, int]]] = {}
        explore = stages.space.explore
        stopping = explore.stopping if explore is not None else None
        self.stops = Stops(stopping, trials.directory) if stopping is not None else None
        self._idle: list[Cell] = []
        """Cells whose samplers ask for nothing by what is known now."""
        self._orphans = [(cell, asked) for cell in self.cells for asked in cell.orphans()]
        self.lost = self._without_results()
        self.failed = 0
        self._given_up: Counter[str] = Counter()
        """Trials by cell that have failed, and stay asked."""

    def _without_results(self) -> list[Job]:
        """Trainings that the ledger has and the study directory lost.

        Raises:
            StudyError: it lost all: this is another directory.
        """
        told = {
            trial_hash: (cell, asked) for cell in self.cells for trial_hash, asked in cell.told()
        }
        lost = [
            self.stages.job(cell.spec, asked.values)
            for trial_hash, (cell, asked) in told.items()
            if self.trials.directory.finished(trial_hash) is None
        ]
        if lost and self.trials.mirror is None and not self.trials.directory.records():
            raise StudyError(
                f"the ledger has {counted(len(lost), 'finished trial')} of this study, but "
                f"{self.trials.directory.root} has none of their results\n"
                f"name the directory that it was run in with --out, or use another ledger"
            )
        return lost

    def next_job(self) -> Job | Signal:
        """The next training; rejected and known trials are told on the way."""
        self.check()
        while self.lost:
            job = self.lost.pop()
            if isinstance(job.plan, Infeasible):
                self.trials.reject(job, job.plan.reason)
            elif job.hash not in self.in_flight:
                self.progress.note(f"{Trial.of(job)} has no result here: run again")
                self.in_flight[job.hash] = []  # told already
                self.progress.started(job)
                return job
        while True:
            found = self._next_ask()
            if found is None:
                return Signal.WAIT if self.in_flight else Signal.DONE
            cell, asked = found
            job = self._watched(cell, asked, self.stages.job(cell.spec, asked.values))
            cell.note_hash(asked.number, job.hash)
            if isinstance(job.plan, Infeasible):
                self.progress.rejected(job, job.plan.reason)
                self._tell(cell, asked.number, self.trials.reject(job, job.plan.reason))
            elif job.hash in self.in_flight:
                self.in_flight[job.hash].append((cell, asked.number))
            elif (known := self.trials.finished(job)) is not None:
                self.progress.known(job, known)
                repeat = cell.is_repeat(asked.number, job.hash)
                self._tell(cell, asked.number, known, repeat=repeat)
            else:
                self.in_flight[job.hash] = [(cell, asked.number)]
                self.progress.started(job)
                return job

    def _watched(self, cell: Cell, asked: Asked, job: Job) -> Job:
        """A job that may be stopped, where its cell's trials may."""
        if self.stops is None or cell.spec.stage is not Stage.EXPLORE:
            return job
        bars = cell.bars(asked.number, self.stops.bars)
        return job.model_copy(update={"stopping": bars})

    def on_record(self, job: Job, record: Record) -> None:
        """Tell every trial that waited for this training. A failed one stays asked: the same
        command tries it again, under its own number."""
        waiting = self.in_flight.pop(job.hash)
        record = self.trials.fetch(job, record)
        self.check()
        unscored = is_unscored(job, record)
        if not unscored:  # of such a one the weights stay, so that only that is done again
            self.trials.settle(record)
        if unscored or record.state is State.FAILED:
            self.failed += 1
            self._given_up.update(cell.spec.name for cell, _ in waiting)
        else:
            for index, (cell, number) in enumerate(waiting):
                self._tell(cell, number, record, repeat=index > 0)
        self.progress.ended(job, record, self.left())

    def _tell(self, cell: Cell, number: int, record: Record, *, repeat: bool = False) -> None:
        """A result, by which every sampler may have more to ask: it sees those of all cells."""
        reached = self.stops.reached(record) if self.stops is not None else None
        cell.tell(number, record, repeat=repeat, reached=reached)
        self._idle.clear()

    def _next_ask(self) -> tuple[Cell, Asked] | None:
        if self._orphans:
            return self._orphans.pop(0)
        while True:
            open_cells = [
                cell for cell in self.cells if cell not in self._idle and cell.why_done() is None
            ]
            if not open_cells:
                return None
            cell = max(open_cells, key=lambda each: (self._expected(each), -each.num_running))
            if (asked := cell.ask()) is not None:
                return cell, asked
            self._idle.append(cell)

    def _expected(self, cell: Cell) -> float:
        """Seconds of the cell's next trial: long trials start first, so that no worker is left
        with one at the end."""
        point = cell.upcoming()
        return self.stages.seconds(cell.spec, point) if point is not None else float("inf")

    def left(self) -> list[float]:
        """Rough seconds of each training that is left, those that run among them."""
        found: list[float] = []
        for cell in self.cells:
            told = sum(trial.state.is_finished() for trial in cell.trials())
            points = list(cell.spec.points or ())[told:]
            seconds = [self.stages.seconds(cell.spec, point) for point in points] or [0.0]
            found += [sum(seconds) / len(seconds)] * (
                cell.num_left - self._given_up[cell.spec.name]
            )
        found += [0.0 for waiting in self.in_flight.values() if not waiting]  # lost, told already
        return found + [job.seconds for job in self.lost]
