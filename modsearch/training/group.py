"""Processes of this machine that train one trial together, and the one that watches them.

Each rank is a program of its own, with a pipe to here: its task goes in, the log's lines and how
it ended come out. What watches takes no part in any exchange between ranks, so that nothing can
make it wait: when one of them dies, it ends the others. When it dies itself, so do they, since
their pipes close. (torchrun's agent has children of `multiprocessing`, which a worker, being one
itself, may not have; it opens ports to everybody, and looks every few seconds.)
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from modsearch.config.records import Job, Plan
from modsearch.config.runtime import Runtime
from modsearch.store.killer import has_killed, num_killed
from modsearch.store.scratch import scratch
from modsearch.training.machine import out_of_memory
from modsearch.training.outcome import OnLog, Trained

TRIES = 3
"""Of a training of which a rank dies."""

GRACE_SECONDS = 1.0
"""For the rank that is to blame to be seen, after the first one has failed: the death of one is an
error to the others."""

COMMAND = (sys.executable, "-m", "modsearch.training.rank")


class RankDied(RuntimeError):
    """A rank's process has ended without a word."""


class RankKilled(RankDied):
    """The same by SIGKILL, as Linux does where memory runs out."""


@dataclass(frozen=True)
class Task:
    """What a rank is to do."""

    job: Job
    plan: Plan
    directory: Path
    """Of the trial."""
    store: Path
    """A file by which the ranks find each other."""
    place: int = 0


@dataclass(frozen=True)
class Ended:
    """What a rank says when the training is over; its state is the trial's checkpoint."""

    trained: Trained
    peak_memory: int


@dataclass(frozen=True)
class _Member:
    process: subprocess.Popen[bytes]
    pipe: Connection


def train_together(job: Job, plan: Plan, directory: Path, on_log: OnLog) -> Ended:
    """Train on the runtime's ranks, from the last checkpoint to one of the last step.

    A rank that dies takes the others along, and all go on from the checkpoint, `TRIES` times in
    all.

    Raises:
        RankKilled: by Linux for its memory, and smaller passes may help.
        RankDied: ranks always die.
        Exception: what a rank has raised.
    """
    for count in range(1, TRIES + 1):
        before = num_killed()
        with scratch("modsearch-ranks-") as folder:
            first = Task(job, plan, directory, folder / "store")
            try:
                ended = run_ranks(first, job.runtime.ranks, on_log)
            except RankDied as error:
                if isinstance(error, RankKilled) and has_killed(before) and job.rows > 1:
                    raise
                if count == TRIES:
                    raise RankDied(f"{error}, {TRIES} times") from None
                continue
        return Ended(ended[0].trained, max(each.peak_memory for each in ended))
    raise AssertionError


def run_ranks(
    task: Task, count: int, on_log: OnLog, command: Sequence[str] = COMMAND
) -> list[Ended]:
    """Start ranks with a task, of which each has its place, and wait until all have ended; none
    outlives the call.

    Raises:
        RankDied: one has.
        Exception: what one has raised; memory that ran out before anything else.
    """
    with ExitStack() as stack:
        members = []
        for _ in range(count):
            members.append(_start(command, task.job.runtime))
            stack.callback(_end, members[-1])
        for place, member in enumerate(members):
            with suppress(OSError):  # a dead one is noticed below
                member.pipe.send(_at(task, place))
        return _answers(members, on_log)


def _at(task: Task, place: int) -> Task:
    return Task(task.job, task.plan, task.directory, task.store, place)


def _start(command: Sequence[str], runtime: Runtime) -> _Member:
    ours, theirs = Pipe()
    process = subprocess.Popen(
        [*command, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=_environment(runtime),
    )
    theirs.close()
    return _Member(process, ours)


def _environment(runtime: Runtime) -> dict[str, str]:
    """Of a rank: what this process can import, its threads, and no way out of this machine."""
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR"}
    if loopback and runtime.device == "cpu":
        quiet["GLOO_SOCKET_IFNAME"] = loopback[0]
    found = quiet | dict(os.environ)
    found["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    found["OMP_NUM_THREADS"] = str(runtime.threads)
    return found


def _end(member: _Member) -> None:
    member.process.kill()
    member.process.wait()
    member.pipe.close()


def _answers(members: Sequence[_Member], on_log: OnLog) -> list[Ended]:
    running = {member.pipe: place for place, member in enumerate(members)}
    ended: dict[int, Ended] = {}
    failures: list[Exception] = []
    deadline: float | None = None
    while running and (deadline is None or time.monotonic() < deadline):
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        for pipe in wait(list(running), left):
            assert isinstance(pipe, Connection)
            place = running[pipe]
            said = _said(pipe, members[place], place)
            if isinstance(said, Mapping):
                on_log(said)
                continue
            del running[pipe]
            if isinstance(said, Ended):
                ended[place] = said
            else:
                failures.append(said)
                deadline = deadline or time.monotonic() + GRACE_SECONDS
    if failures:
        raise min(failures, key=_blame)
    return [ended[place] for place in range(len(members))]


def _said(
    pipe: Connection, member: _Member, place: int
) -> Mapping[str, float] | Ended | Exception:
    try:
        said: Mapping[str, float] | Ended | Exception = pipe.recv()
    except (EOFError, OSError):
        code = member.process.wait()
        kind = RankKilled if code == -signal.SIGKILL else RankDied
        return kind(f"rank {place} died ({_how(code)})")
    return said


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _blame(error: Exception) -> int:
    """Which failure is the cause of the others: what comes first, or the first of those alike."""
    if isinstance(error, RankDied):
        return 0
    return 1 if out_of_memory(error) else 2
