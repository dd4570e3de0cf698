"""The local engine with real workers: every job once, dead workers, a killed driver."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from modsearch.config.data import Validation
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Infeasible, Job, Record, Stage, State
from modsearch.config.runtime import Runtime, Signal
from modsearch.engines.contract import TRIES
from modsearch.engines.local import LocalEngine
from modsearch.store import killer

GONE_WITHIN = 10.0
"""Seconds until a killed driver's workers must have ended, on a busy machine."""


def job(number: int, batch_size: int = 1) -> Job:
    return Job(
        stage=Stage.MEASURE,
        arm="arm",
        candidate=Candidate(optim=OptimConfig(batch_size=batch_size)),
        budget=Budget(flops=1e9),
        seed=number,
        validation=Validation(),
        fingerprint="",
        runtime=Runtime(),
        plan=Infeasible(reason="nothing is trained here"),
    )


def record(done: Job, reason: str) -> Record:
    return Record(
        hash=done.hash,
        stage=done.stage,
        arm=done.arm,
        candidate=done.candidate,
        budget=done.budget,
        seed=done.seed,
        validation=done.validation,
        state=State.COMPLETE,
        reason=reason,
    )


# What workers run; they import this module by its name.


def run_and_note(folder: Path, given: Job) -> Record:
    """Writes down every start."""
    with (folder / str(given.seed)).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return record(given, str(os.getpid()))


def run_and_die(folder: Path, deaths: dict[int, int], given: Job) -> Record:
    """Kills its own process in the middle of some jobs, so many times each."""
    done = run_and_note(folder, given)
    if starts(folder, given.seed) <= deaths.get(given.seed, 0):
        os.kill(os.getpid(), signal.SIGKILL)
    return done


def run_and_note_passes(folder: Path, counts: Path, number: int, given: Job) -> Record:
    """Is killed as Linux does for memory, which it counts, unless so many have gone before."""
    with (folder / str(given.seed)).open("a") as file:
        file.write(f"{given.rows}\n")
    if starts(folder, given.seed) <= number:
        counts.write_text(f"oom_kill {time.monotonic_ns()}\n")  # more each time
        os.kill(os.getpid(), signal.SIGKILL)
    return record(given, str(given.micro_batch))


def run_forever(folder: Path, given: Job) -> Record:
    """Holds a lock as long as its process lives."""
    with (folder / f"{given.seed}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (folder / f"{given.seed}.started").touch()
        time.sleep(600)
    return record(given, "")


def run_where(given: Job) -> Record:
    """Says how many threads its libraries were given."""
    return record(given, os.environ["OMP_NUM_THREADS"])


def starts(folder: Path, number: int) -> int:
    return len((folder / str(number)).read_text().splitlines())


class Driver:
    """Hands out jobs in order; waits where it is told to until everything is back."""

    def __init__(
        self, numbers: list[int], wait_after: tuple[int, ...] = (), batch_size: int = 1
    ) -> None:
        self.todo = list(numbers)
        self.wait_after = wait_after
        self.batch_size = batch_size
        self.handed: list[int] = []
        self.back: list[tuple[int, Record]] = []
        self.in_flight_when_asked: list[int] = []

    def next_job(self) -> Job | Signal:
        in_flight = len(self.handed) - len(self.back)
        self.in_flight_when_asked.append(in_flight)
        if self.handed and self.handed[-1] in self.wait_after and in_flight:
            return Signal.WAIT
        if not self.todo:
            return Signal.WAIT if in_flight else Signal.DONE
        self.handed.append(self.todo.pop(0))
        return job(self.handed[-1], self.batch_size)

    def on_record(self, given: Job, done: Record) -> None:
        assert done.hash == given.hash
        self.back.append((given.seed, done))

    @property
    def reasons(self) -> dict[int, str | None]:
        return {number: done.reason for number, done in self.back}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LocalEngine]:
    """Two workers that every test of this module may use with numbers of its own."""
    deaths = {100: 1, 102: TRIES - 1, 200: TRIES, 201: 99}
    with LocalEngine(partial(run_and_die, folder, deaths), 2, threads=1).started() as started:
        yield started


def test_every_job_is_done_once_by_workers_that_are_reused(
    engine: LocalEngine, folder: Path
) -> None:
    driver = Driver(list(range(20)))
    engine.run(driver.next_job, driver.on_record)
    assert driver.handed == list(range(20))
    assert sorted(number for number, _ in driver.back) == list(range(20))
    assert all(starts(folder, number) == 1 for number in range(20))
    assert len(set(driver.reasons.values())) <= 2, "new processes were spawned"
    assert str(os.getpid()) not in driver.reasons.values()
    assert max(driver.in_flight_when_asked) == 1, "more jobs at once than workers"


def test_a_second_stage_uses_the_same_workers(engine: LocalEngine) -> None:
    pids = set()
    for numbers in ([20, 21, 22, 23], [24, 25, 26, 27]):
        driver = Driver(numbers)
        engine.run(driver.next_job, driver.on_record)
        pids |= set(driver.reasons.values())
    assert len(pids) <= 2


def test_wait_holds_jobs_back_until_records_come(engine: LocalEngine) -> None:
    driver = Driver([30, 31, 32, 33], wait_after=(30, 32))
    engine.run(driver.next_job, driver.on_record)
    order = [number for number, _ in driver.back]
    assert sorted(order) == [30, 31, 32, 33]
    assert order.index(30) < order.index(31)
    assert order.index(32) < order.index(33)


def test_nothing_to_do_ends_at_once(engine: LocalEngine) -> None:
    driver = Driver([])
    engine.run(driver.next_job, driver.on_record)
    assert driver.back == []
    assert len(driver.in_flight_when_asked) == 1


def test_a_driver_that_waits_for_nothing_is_a_mistake(engine: LocalEngine) -> None:
    with pytest.raises(AssertionError, match="nothing runs"):
        engine.run(lambda: Signal.WAIT, lambda given, done: None)


def test_a_killed_worker_is_replaced_and_its_job_tried_again(
    engine: LocalEngine, folder: Path
) -> None:
    driver = Driver([100, 101, 102, 103])
    engine.run(driver.next_job, driver.on_record)
    assert sorted(number for number, _ in driver.back) == [100, 101, 102, 103]
    assert all(done.state is State.COMPLETE for _, done in driver.back)
    assert [starts(folder, number) for number in driver.handed] == [2, 1, TRIES, 1]
    assert driver.handed == [100, 101, 102, 103], "a second try is not asked for"


def test_a_job_whose_workers_always_die_fails_and_the_others_go_on(
    engine: LocalEngine, folder: Path
) -> None:
    driver = Driver([200, 201, 202])
    engine.run(driver.next_job, driver.on_record)
    states = {number: done.state for number, done in driver.back}
    assert states == {200: State.FAILED, 201: State.FAILED, 202: State.COMPLETE}
    assert starts(folder, 200) == starts(folder, 201) == TRIES
    assert driver.reasons[200] == f"its worker died {TRIES} times"
    assert dict(driver.back)[200].scores is None
    again = Driver([201])
    engine.run(again.next_job, again.on_record)
    assert starts(folder, 201) == 2 * TRIES, "a later run does not begin anew"


def test_a_job_whose_worker_is_killed_for_memory_goes_on_in_passes_of_half_the_sequences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where a pass has one are the tries counted."""
    counts = tmp_path / "counts"
    counts.write_text("oom_kill 0\n")
    monkeypatch.setattr(killer, "COUNTS", counts)
    engine = LocalEngine(partial(run_and_note_passes, tmp_path, counts, 2), 1, threads=1)
    driver = Driver([0], batch_size=5)
    with engine.started():
        engine.run(driver.next_job, driver.on_record)
    assert (tmp_path / "0").read_text().split() == ["5", "3", "2"]
    assert driver.reasons == {0: "2"}
    always = LocalEngine(partial(run_and_note_passes, tmp_path, counts, 99), 1, threads=1)
    driver = Driver([1], batch_size=2)
    with always.started():
        always.run(driver.next_job, driver.on_record)
    assert (tmp_path / "1").read_text().split() == ["2"] + ["1"] * TRIES
    assert driver.reasons == {1: f"its worker died {TRIES} times with micro_batch 1"}


def test_a_job_whose_worker_somebody_kills_goes_on_as_it_was(tmp_path: Path) -> None:
    """What Linux counts does not change, so nothing of the numbers does."""
    if killer.num_killed() is None:
        pytest.skip("this system does not say whom it has killed for memory")
    unread = tmp_path / "unread"
    engine = LocalEngine(partial(run_and_note_passes, tmp_path, unread, 1), 1, threads=1)
    driver = Driver([0], batch_size=4)
    with engine.started():
        engine.run(driver.next_job, driver.on_record)
    assert (tmp_path / "0").read_text().split() == ["4", "4"]
    assert driver.reasons == {0: "None"}


def test_a_worker_that_dies_while_idle_costs_no_job(engine: LocalEngine, folder: Path) -> None:
    for worker in engine._workers:
        pid = worker.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        worker.process.join()
    driver = Driver([300, 301, 302])
    engine.run(driver.next_job, driver.on_record)
    assert [starts(folder, number) for number in (300, 301, 302)] == [1, 1, 1]
    assert all(done.state is State.COMPLETE for _, done in driver.back)


def test_workers_end_with_the_engine_and_have_their_number_of_threads() -> None:
    with LocalEngine(run_where, 1, threads=3).started() as started:
        driver = Driver([0])
        started.run(driver.next_job, driver.on_record)
        [process] = [worker.process for worker in started._workers]
        assert process.is_alive()
    assert not process.is_alive()
    assert driver.reasons[0] == "3"


def test_workers_end_when_the_stage_is_interrupted(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    jobs = iter([job(0)])

    def one() -> Job | Signal:
        for each in jobs:
            return each
        raise Stopped

    engine = LocalEngine(partial(run_and_note, tmp_path), 1, threads=1)
    with pytest.raises(Stopped), engine.started():
        engine.run(one, lambda given, done: None)
    assert len(engine._workers) == 1
    assert not any(worker.process.is_alive() for worker in engine._workers)


def test_no_more_workers_start_than_there_are_jobs(tmp_path: Path) -> None:
    engine = LocalEngine(partial(run_and_note, tmp_path), 3, threads=1)
    with engine.started() as started:
        for numbers, workers in (([], 0), ([0], 1)):
            driver = Driver(numbers)
            started.run(driver.next_job, driver.on_record)
            assert len(started._workers) == workers


def drive_forever(folder: Path) -> None:
    """A driver of its own process, with two workers that never come back."""
    driver = Driver([0, 1])
    with LocalEngine(partial(run_forever, folder), 2, threads=1).started() as started:
        started.run(driver.next_job, driver.on_record)


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def environment() -> dict[str, str]:
    """For programs that import this module."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


UNGUARDED = """
from functools import partial
from pathlib import Path
from modsearch.engines.local import LocalEngine
from test_local import Driver, run_and_note

print("started", flush=True)
driver = Driver([0])
with LocalEngine(partial(run_and_note, Path()), 1, threads=1).started() as engine:
    engine.run(driver.next_job, driver.on_record)
print(len(driver.back), "back")
"""


def test_a_script_that_is_not_guarded_does_not_start_itself_again(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    command = [sys.executable, "script.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "started\n1 back\n"), done.stderr


def test_workers_end_when_their_driver_is_killed(tmp_path: Path) -> None:
    code = f"import test_local, pathlib; test_local.drive_forever(pathlib.Path({str(tmp_path)!r}))"
    driver = subprocess.Popen([sys.executable, "-c", code], env=environment())
    locks = [tmp_path / f"{number}.lock" for number in (0, 1)]
    try:
        both = [tmp_path / f"{number}.started" for number in (0, 1)]
        assert wait_until(lambda: all(path.exists() for path in both), 60)
        assert all(is_locked(path) for path in locks)
    finally:
        with suppress(ProcessLookupError):
            driver.kill()
        driver.wait()
    assert wait_until(lambda: not any(is_locked(path) for path in locks), GONE_WITHIN), (
        "a killed driver left a worker behind, still training"
    )
