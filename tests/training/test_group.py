"""Ranks as processes: what ends them, who is to blame, and that a trial goes on without loss."""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from modsearch.config.data import DataConfig, Validation
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Job, Plan, Record, Stage, State
from modsearch.config.runtime import Parallel, Plugin, Runtime
from modsearch.data.corpus import Corpus, load_corpus
from modsearch.nn.model import Decoder
from modsearch.nn.parts import completed
from modsearch.registry.plugins import load_plugins
from modsearch.store import killer
from modsearch.training.budget import plan
from modsearch.training.group import TRIES, RankDied, Task, run_ranks, train_together
from modsearch.training.trial import run_trial

STEPS = 100
TWO = Runtime(ranks=2, checkpoint_seconds=0)
"""A checkpoint at each line of the log."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(60):
        text = " ".join(f"{(number * place) % 97} of {place}" for place in range(200))
        (folder / f"{number}.txt").write_text(text)
    return load_corpus(DataConfig(corpus=str(folder)))


def job(corpus: Corpus, runtime: Runtime, *plugins: Plugin, **model: Any) -> Job:
    shape = {"depth": 2, "width": 8, "num_heads": 1, "seq_len": 16, "every": 1, **model}
    candidate = Candidate(
        model=completed(ModelConfig.model_validate(shape)),
        optim=OptimConfig(batch_size=4, min_steps=1, max_epochs=99),
        data=DataConfig(corpus=corpus.facts.name),
    )
    with torch.device("meta"):
        flops = Decoder(candidate.model).cost(16).training.total * 4 * STEPS
    spent = plan(candidate, Budget(flops=flops), 10**9)
    assert isinstance(spent, Plan)
    return Job(
        stage=Stage.MEASURE, arm="arm", candidate=candidate, budget=Budget(flops=flops), seed=3,
        validation=Validation(windows=8), fingerprint=corpus.facts.fingerprint, runtime=runtime,
        plan=spent, plugins=plugins,
    )  # fmt: skip


def task(corpus: Corpus, folder: Path) -> Task:
    given = job(corpus, TWO)
    assert isinstance(given.plan, Plan)
    return Task(given, given.plan, folder, folder / "store")


# --- Who is to blame; the ranks are small programs that train nothing

PROGRAM = """
import os, signal, sys, time
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[-1]))
place = pipe.recv_bytes().count(b"place")  # waits for the task
with open({log!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
mine = len(open({log!r}).readlines())
{body}
time.sleep(100)
"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
FAIL = "time.sleep({}); pipe.send({})"


def ran(task: Task, first: str, second: str) -> list[dict[str, float]]:
    """What two programs tell; the one that starts first does the one, the other the other."""
    log = task.directory / "pids"
    body = f"\nif mine == 1:\n    {first}\nelse:\n    {second}\n"
    program = PROGRAM.format(log=str(log), body=body)
    rows: list[Mapping[str, float]] = []
    began = time.monotonic()
    try:
        run_ranks(task, 2, rows.append, [sys.executable, "-c", program])
    finally:
        assert time.monotonic() - began < 30, "it waits for ranks that do not end"
        assert not any(map(alive, map(int, log.read_text().split()))), "a rank is left"
    return [dict(row) for row in rows]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_rank_that_dies_takes_the_others_along(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(RankDied, match=r"rank [01] died \(signal 9\)"):
        ran(task(corpus, tmp_path), "pass", DIE)


def test_a_death_is_to_blame_for_the_error_that_another_rank_has_of_it(
    corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(RankDied):
        ran(
            task(corpus, tmp_path),
            FAIL.format(0, "RuntimeError('connection closed by peer')"),
            f"time.sleep(0.1); {DIE}",
        )


def test_memory_that_runs_out_is_to_blame_before_other_errors(
    corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(MemoryError):
        ran(
            task(corpus, tmp_path),
            FAIL.format(0, "RuntimeError('connection closed by peer')"),
            FAIL.format(0.1, "MemoryError()"),
        )


def test_of_two_errors_the_first_is_raised(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at first"):
        ran(
            task(corpus, tmp_path),
            FAIL.format(0, "ValueError('at first')"),
            FAIL.format(0.2, "RuntimeError('connection closed by peer')"),
        )


def test_a_program_that_does_not_start_is_a_death(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(RankDied, match="exit code 1"):
        run_ranks(task(corpus, tmp_path), 2, print, [sys.executable, "-c", "raise SystemExit(1)"])


# --- Real ranks


def trained(root: Path, given: Job) -> Record:
    """Complete, with scores."""
    record = run_trial(root, given)
    assert record.state is State.COMPLETE, record.reason
    assert record.scores is not None
    return record


def loss(record: Record) -> float:
    assert record.scores is not None
    return record.scores.causal_loss


@pytest.fixture(scope="module")
def alone(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Record:
    return trained(tmp_path_factory.mktemp("alone"), job(corpus, Runtime()))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_trial_on_two_ranks_is_the_trial(
    parallel: Parallel, alone: Record, corpus: Corpus, tmp_path: Path
) -> None:
    runtime = TWO.model_copy(update={"parallel": parallel})
    record = trained(tmp_path, job(corpus, runtime))
    assert record.hash == alone.hash
    assert loss(record) == pytest.approx(loss(alone), abs=1e-4)
    files = sorted(path.name for path in (tmp_path / "trials" / record.hash).rglob("*.*"))
    assert "model.safetensors" in files
    assert "resume.safetensors" not in files


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "memory"), [(1, False), (1, True), (TRIES, False)])
def test_a_killed_rank_costs_nothing_but_time(
    kills: int,
    memory: bool,
    alone: Record,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the checkpoint, in passes of half as many sequences where Linux has killed it for its
    memory; one that is always killed ends the trial."""
    counts = tmp_path / "counts"
    counts.write_text("oom_kill 0\n")
    monkeypatch.setattr(killer, "COUNTS", counts)
    given = job(corpus, TWO)
    ended: list[int] = []
    rows: list[float] = []

    def watch(row: Mapping[str, float]) -> None:
        rows.append(row["step"])
        if len(ended) < kills and row["step"] > 20 * (len(ended) + 1):
            ended.append(ranks_of(os.getpid())[len(ended) % 2])
            counts.write_text(f"oom_kill {int(memory)}\n")
            os.kill(ended[-1], signal.SIGKILL)

    record = run_trial(tmp_path, given, watch)
    assert len(ended) == kills
    assert not ranks_of(os.getpid())
    if kills == TRIES:
        assert record.state is State.FAILED
        assert str(record.reason).endswith(f"died (signal 9), {TRIES} times")
        # What is there goes on, on one rank.
        record = trained(tmp_path, given.model_copy(update={"runtime": Runtime()}))
    else:
        first = next(place for place, step in enumerate(rows) if step > 20)
        assert min(rows[first:]) > 10, "it began anew"
        assert record.scores is not None
        assert record.scores.micro_batch == (1 if memory else None)
    assert loss(record) == pytest.approx(loss(alone), abs=1e-4)


def ranks_of(parent: int) -> list[int]:
    """Ranks that a process has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"modsearch.training.rank" in words and int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(entry.name))
    return sorted(found)


PLUGIN = """
from torch import Tensor

from modsearch.nn.contracts import FFNS, Context, Update
from modsearch.nn.ffn.mlp import Mlp
from modsearch.nn.contracts import Ffn, Options


@FFNS.register("greedy")
class Greedy(Ffn):
    \"\"\"Has no room for two sequences on the second rank.\"\"\"

    def __init__(self, width: int, capacity: float, options: Options) -> None:
        super().__init__(width, capacity, options)
        self.inner = Mlp(width, capacity, Mlp.Config())

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        if self.ranks.place == 1 and len(x_BTD) > 1:
            raise MemoryError
        return self.inner.delta(x_BTD, context)

    def cost(self, num_positions: int):
        return self.inner.cost(num_positions)

    def output_weights(self) -> list[Tensor]:
        return self.inner.output_weights()
"""


@pytest.mark.slow
def test_where_memory_runs_out_on_one_rank_all_take_smaller_passes(
    alone: Record, corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "greedy.py").write_text(PLUGIN)
    plugins = load_plugins([tmp_path / "greedy.py"])
    record = trained(tmp_path, job(corpus, TWO, *plugins, ffn="greedy"))
    assert record.scores is not None
    assert record.scores.micro_batch == 1
    assert loss(record) == pytest.approx(loss(alone), abs=1e-4)


@pytest.mark.slow
def test_what_a_rank_raises_is_the_trials_reason(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        PLUGIN.replace("greedy", "broken").replace("raise MemoryError", "raise KeyError('oh')")
    )
    plugins = load_plugins([tmp_path / "broken.py"])
    record = run_trial(tmp_path, job(corpus, TWO, *plugins, ffn="broken"))
    assert record.state is State.FAILED
    assert record.reason == "KeyError: 'oh'"
    [error] = tmp_path.rglob("error.txt")
    assert (
        'raise KeyError("oh")' in error.read_text() or "raise KeyError('oh')" in error.read_text()
    )


@pytest.mark.slow
def test_ranks_end_with_the_process_that_watches_them(corpus: Corpus, tmp_path: Path) -> None:
    given = job(corpus, TWO.model_copy(update={"checkpoint_seconds": 60}))
    assert isinstance(given.plan, Plan)
    long = given.plan.model_copy(update={"steps": 10**6})
    child = os.fork()
    if child == 0:  # no threads of torch are needed to wait
        train_together(given, long, tmp_path, lambda row: None)
        os._exit(0)
    wait_for(lambda: (tmp_path / "metrics.jsonl").exists())
    ranks = ranks_of(child)
    assert len(ranks) == 2
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(lambda: not any(map(alive, ranks)))


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.05)
