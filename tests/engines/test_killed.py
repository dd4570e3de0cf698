"""A worker that is killed in the middle of a training, as Linux does where memory runs out."""

import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from inline import CORPUS

from modsearch.config.data import DataConfig, Validation
from modsearch.config.records import Job, Record
from modsearch.config.runtime import Runtime, Signal
from modsearch.engines.local import LocalEngine
from modsearch.space.candidates import build
from modsearch.store import killer
from modsearch.training.trial import run_trial, single_job


def run_in_small_memory(root: Path, counts: Path, given: Job) -> Record:
    """Trains, and is killed in the middle of it where a pass has more than two sequences."""

    def watch(row: Mapping[str, float]) -> None:
        if given.rows > 2 and row["step"] > row["steps"] // 2:
            counts.write_text("oom_kill 1\n")
            os.kill(os.getpid(), signal.SIGKILL)

    return run_trial(root, given, watch)


def test_a_killed_training_ends_with_the_same_loss_in_smaller_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its record says how many sequences the memory held."""
    counts = tmp_path / "counts"
    counts.write_text("oom_kill 0\n")
    monkeypatch.setattr(killer, "COUNTS", counts)
    values = {
        "model": {"depth": 2, "width": 8, "num_heads": 1, "seq_len": 16, "block": "mod"}
        | {"router": "random"},
        "optim": {"batch_size": 4, "min_steps": 1, "max_epochs": 99},
    }
    single = single_job(build(values, DataConfig(corpus=CORPUS)), 1e8, seed=0)
    runtime = Runtime(checkpoint_seconds=0)
    given = single.model_copy(update={"runtime": runtime, "validation": Validation(windows=8)})
    whole = run_trial(tmp_path / "whole", given)
    todo, done = [given], []
    engine = LocalEngine(partial(run_in_small_memory, tmp_path / "parts", counts), 1, threads=1)
    with engine.started():
        engine.run(
            lambda: todo.pop() if todo else Signal.WAIT if not done else Signal.DONE,
            lambda _, found: done.append(found),
        )
    [parts] = done
    assert parts.hash == whole.hash
    assert parts.scores is not None, parts.reason
    assert whole.scores is not None
    assert (whole.scores.micro_batch, parts.scores.micro_batch) == (None, 2)
    assert parts.scores.causal_loss == pytest.approx(whole.scores.causal_loss, abs=1e-5)
    assert parts.scores.train_mode_loss == pytest.approx(whole.scores.train_mode_loss, abs=1e-5)
