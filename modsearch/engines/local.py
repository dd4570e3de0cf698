"""Worker processes on this machine, spawned once and reused by every stage of a study.

Spawned, not forked: a forked child of a process with threads or CUDA is not safe.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType

from modsearch.config.records import Job, Record
from modsearch.config.runtime import Share, Signal
from modsearch.engines.contract import TRIES, RunTrial, given_up
from modsearch.store.killer import has_killed, num_killed

ENDING_SECONDS = 5.0
"""For an idle worker to end."""

STARTING = threading.Lock()
"""Held while a worker starts: what it inherits is the whole process's."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None
    killed_before: int | None = None
    """By Linux for their memory, when it was given the job."""


class LocalEngine:
    """Executes jobs in `workers` processes of `threads` threads each."""

    def __init__(self, run_trial: RunTrial, workers: int, threads: int) -> None:
        self.run_trial = run_trial
        self.num_workers = workers
        self.threads = threads
        self._workers: list[_Worker] = []
        self._tries: dict[str, int] = {}

    @contextmanager
    def started(self) -> Iterator["LocalEngine"]:
        """Workers live inside this context, and end with it. Each starts with its first job: a
        study that has nothing left to train starts none."""
        self._workers = []
        try:
            yield self
        finally:
            for worker in self._workers:
                if worker.job is None:  # it ends by itself, and tidies up what libraries made
                    worker.pipe.close()
                else:
                    worker.process.kill()
            for worker in self._workers:
                worker.process.join(ENDING_SECONDS)
                worker.process.kill()
                worker.process.join()
                worker.pipe.close()

    def run(
        self,
        next_job: Callable[[], Job | Signal],
        on_record: Callable[[Job, Record], None],
    ) -> None:
        """Pull jobs and push records until there is nothing left.

        A worker that dies is replaced, and its job tried again, at most `TRIES` times. One that
        Linux has killed for its memory is no try as long as passes can be halved.
        """
        self._tries.clear()
        while True:
            done = self._hand_out(next_job)
            busy = [worker for worker in self._workers if worker.job is not None]
            if not busy:
                if done:
                    return
                raise AssertionError("the driver waits for a record, but nothing runs")
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(worker for worker in busy if worker.pipe is pipe)
                self._collect(worker, on_record)

    def _hand_out(self, next_job: Callable[[], Job | Signal]) -> bool:
        """Give every idle worker a job; whether the driver said that there are no more."""
        while True:
            idle = next((worker for worker in self._workers if worker.job is None), None)
            if idle is None and len(self._workers) == self.num_workers:
                return False
            answer = next_job()
            if isinstance(answer, Signal):
                return answer is Signal.DONE
            if idle is None:
                idle = self._spawn()
                self._workers.append(idle)
            self._give(idle, answer)

    def _give(self, worker: _Worker, job: Job) -> None:
        worker.job = job
        worker.killed_before = num_killed()
        with suppress(OSError):  # a dead worker is noticed by `_collect`
            worker.pipe.send(job)

    def _collect(self, worker: _Worker, on_record: Callable[[Job, Record], None]) -> None:
        job = worker.job
        assert job is not None
        try:
            record = worker.pipe.recv()
        except (EOFError, OSError):
            died = worker.process
            self._replace(worker)
            killed = died.exitcode == -signal.SIGKILL and has_killed(worker.killed_before)
            if killed and job.rows > 1:
                self._give(worker, job.halved())
                return
            tries = self._tries[job.hash] = self._tries.get(job.hash, 0) + 1
            if tries < TRIES:
                self._give(worker, job)
                return
            record = given_up(job)
        worker.job = None
        on_record(job, record)

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        fresh = self._spawn()
        worker.process, worker.pipe = fresh.process, fresh.pipe

    def _spawn(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.run_trial), daemon=True)
        with STARTING, _without_main(), _num_threads(self.threads):
            process.start()
        theirs.close()
        return _Worker(process, ours)


@contextmanager
def _without_main() -> Iterator[None]:
    """Spawning takes the main script along and runs it in the worker, which needs nothing of it:
    a script that calls `search` at its top level would start itself again."""
    main = sys.modules["__main__"]
    try:
        sys.modules["__main__"] = ModuleType("__main__")
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _num_threads(count: int) -> Iterator[None]:
    """Read by the numeric libraries when a worker imports them."""
    before = os.environ.get("OMP_NUM_THREADS")
    try:
        os.environ["OMP_NUM_THREADS"] = str(count)
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def local(run_trial: RunTrial, workers: int | None, share: Share) -> LocalEngine:
    """Worker processes on this machine."""
    return LocalEngine(run_trial, workers or 1, share.threads)


def _work(pipe: Connection, run_trial: RunTrial) -> None:
    """A worker's whole life: jobs in, records out, until the driver's end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    threading.Thread(target=_end_with_driver, daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(run_trial(job))


def _end_with_driver() -> None:
    """A killed driver closes nothing, so its process is watched, also during a training."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
