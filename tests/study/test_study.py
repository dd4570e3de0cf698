"""A whole study through the command line, and what `kill -9` does to it: nothing is lost."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from commands import Done
from inline import CORPUS
from tiny import SPACE

from modsearch.config.data import Mixing
from modsearch.config.model import ModelConfig
from modsearch.config.records import Job, Stage, State
from modsearch.data.corpus import load_corpus
from modsearch.errors import DataError
from modsearch.sampling.ledger import open_storage
from modsearch.space.candidates import load_space
from modsearch.store.directory import StudyDirectory
from modsearch.store.trial import read_metrics
from modsearch.study.runner import Runner

ROOT = Path(__file__).resolve().parents[2]
KILLER = ROOT / "tests" / "kill_driver.py"

GRID = """
name: grid
data: {corpus: CORPUS}
fixed:
  model: {seq_len: 64, num_heads: 1}
  optim: {min_steps: 20}
arms:
  dense: {model: {block: dense}}
  mod: {model: {block: mod, capacity: {choice: [0.25, 0.5]}}}
  mod-random: {control_of: mod, model: {router: random}}
explore: {budgets: [4e8], size: {depth: 2, width: 12}, windows: 4}
measure: {ladder: [{budget: 4e8, depth: 2, widths: [6, 8, 12, 16]}], windows: 4}
confirm: {budgets: [4e8], seeds: 3, windows: 4}
resources: {workers: 2, checkpoint_seconds: 0.02}
""".replace("CORPUS", CORPUS)
TPE = """
name: tpe
data: {corpus: CORPUS}
fixed:
  model: {seq_len: 64, num_heads: 1}
  optim: {min_steps: 20}
axes: {optim: {rate: {log: [0.001, 0.02]}}}
arms:
  mod: {model: {block: mod, capacity: {float: [0.1, 0.9]}}}
explore:
  budgets: [3e8]
  size: {depth: 2, width: {int: [4, 16], step: 2}}
  sampler: tpe
  trials: 14
  windows: 4
resources: {workers: 1, checkpoint_seconds: 0.2}
""".replace("CORPUS", CORPUS)

Run = Callable[..., Done]

BETWEEN_ASK_AND_PLAN = "modsearch.sampling.cell:Cell.ask:after"
BETWEEN_RESULT_AND_TELL = "modsearch.sampling.cell:Cell.tell:before"
AFTER_TELL = "modsearch.sampling.cell:Cell.tell:after"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "modsearch.cli", *map(str, arguments)]


def search(space: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("search", space, "--out", out), capture_output=True, text=True, cwd=ROOT
    )


def killed_at(moment: str, count: int, space: Path, out: Path) -> None:
    done = subprocess.run(
        [sys.executable, KILLER, moment, str(count), "search", space, "--out", out],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def started(space: Path, out: Path) -> "subprocess.Popen[str]":
    """A driver in the background, and what it says."""
    return subprocess.Popen(
        command("search", space, "--out", out),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def training(out: Path, stage: Stage, min_steps: int, driver: "subprocess.Popen[str]") -> Path:
    """Directory of a trial of that stage that is being trained and has a checkpoint."""
    while True:
        ended = driver.poll() is not None  # before looking: what it has left is seen, too
        for path in (out / "trials").glob("*/checkpoint/resume.safetensors"):
            trial = path.parent.parent
            rows = list(read_metrics(trial / "metrics.jsonl"))
            text = (trial / "config.yaml").read_text()
            running = not (trial / "result.json").exists()
            if running and f"stage: {stage}" in text and rows and rows[-1]["step"] >= min_steps:
                return trial
        assert not ended, f"no such trial, and the driver has ended:\n{driver.communicate()[0]}"
        time.sleep(0.005)


def killed_in_training(space: Path, out: Path, stage: Stage) -> Path:
    """Kill the driver from outside in the middle of a training; the trial's directory."""
    driver = started(space, out)
    trial = training(out, stage, 10, driver)
    children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 10
    while any(alive(child) for child in children):
        assert time.monotonic() < deadline, "workers outlive their driver"
        time.sleep(0.05)
    driver.communicate()
    return trial


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ledger(out: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every trial of every cell: number, values, loss, state."""
    storage = open_storage(f"sqlite:///{out / 'ledger.db'}")
    tables = {}
    for study in optuna.get_all_study_summaries(storage):
        loaded = optuna.load_study(study_name=study.study_name, storage=storage)
        tables[study.study_name] = [(t.number, t.params, t.value, t.state) for t in loaded.trials]
    return tables


def finished(out: Path) -> dict[str, int]:
    """Time stamp of every result: a trial that ran again would have a new one."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("trials/*/result.json")}


def losses(out: Path) -> dict[str, tuple[float, float, float]]:
    return {
        record.hash: (
            record.scores.causal_loss,
            record.scores.train_mode_loss,
            record.scores.final_train_loss,
        )
        for record in StudyDirectory(out).records()
        if record.scores is not None
    }


@pytest.fixture(scope="module")
def grid_space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "grid.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, grid_space: Path) -> Path:
    """The study, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "study"
    done = search(grid_space, out)
    assert done.returncode == 0, done.stderr
    return out


def test_a_study_runs_all_stages_and_reports(whole: Path) -> None:
    records = StudyDirectory(whole).records()
    counts = {stage: sum(record.stage is stage for record in records) for stage in Stage}
    assert counts == {Stage.EXPLORE: 3, Stage.MEASURE: 8, Stage.CONFIRM: 9}
    assert all(record.state is State.COMPLETE for record in records)
    assert all(r.plan and abs(r.plan.flops / r.budget.flops - 1) <= 0.01 for r in records)
    assert (whole / "report" / "index.html").is_file()


def test_stages_use_their_own_text_and_seeds(whole: Path) -> None:
    records = StudyDirectory(whole).records()
    parts = {record.stage: record.validation.part for record in records}
    assert parts == {
        Stage.EXPLORE: "validation",
        Stage.MEASURE: "validation",
        Stage.CONFIRM: "test",
    }
    seeds = {stage: {r.seed for r in records if r.stage is stage} for stage in Stage}
    assert len(seeds[Stage.EXPLORE]) == len(seeds[Stage.MEASURE]) == 1
    assert len(seeds[Stage.CONFIRM]) == 3
    assert not seeds[Stage.CONFIRM] & (seeds[Stage.EXPLORE] | seeds[Stage.MEASURE])


def test_a_control_has_recipe_and_size_of_its_arm(whole: Path) -> None:
    confirmed = [r for r in StudyDirectory(whole).records() if r.stage is Stage.CONFIRM]
    models = {record.arm: record.candidate.model for record in confirmed}
    mod, control = models["mod"], models["mod-random"]
    assert control.router.name == "random"
    assert control.model_copy(update={"router": mod.router}) == mod


def test_only_winners_keep_their_weights(whole: Path) -> None:
    for record in StudyDirectory(whole).records():
        checkpoint = whole / "trials" / record.hash / "checkpoint"
        kept = (checkpoint / "model.safetensors").exists()
        assert kept is (record.stage is Stage.CONFIRM)
        assert not (checkpoint / "resume.safetensors").exists()


def test_losses_stand_in_results_at_full_precision(whole: Path) -> None:
    for record in StudyDirectory(whole).records():
        raw = json.loads((whole / "trials" / record.hash / "result.json").read_text())
        assert record.scores is not None
        assert raw["scores"]["causal_loss"] == record.scores.causal_loss
        assert len(repr(raw["scores"]["causal_loss"])) > 10


@pytest.mark.usefixtures("no_figures")
def test_running_again_trains_nothing(modsearch: Run, whole: Path, grid_space: Path) -> None:
    before = finished(whole), ledger(whole)
    assert modsearch("search", grid_space, "--out", whole).code == 0
    assert (finished(whole), ledger(whole)) == before


@pytest.mark.usefixtures("no_figures")
def test_a_second_driver_is_refused_and_a_dead_one_leaves_no_lock(
    modsearch: Run, refused: Callable[..., str], whole: Path, grid_space: Path
) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\nfrom pathlib import Path\n"
            "from modsearch.store.lock import locked\n"
            "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)",
            whole,
        ],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    message = refused("search", grid_space, "--out", whole)
    assert len(message.splitlines()) == 2
    assert f"process {holder.pid}" in message
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert modsearch("search", grid_space, "--out", whole).code == 0


def test_a_study_of_other_code_is_refused(
    refused: Callable[..., str], whole: Path, grid_space: Path
) -> None:
    manifest = whole / "manifest.json"
    text = manifest.read_text()
    code = json.loads(text)["code"]
    manifest.write_text(text.replace(code, "0" * 16))
    try:
        message = refused("search", grid_space, "--out", whole)
        assert len(message.splitlines()) == 2
        assert "--allow-mixed" in message
    finally:
        manifest.write_text(text)


def test_a_failed_trial_is_written_down_and_tried_again(tmp_path: Path, grid_space: Path) -> None:
    study = Runner(load_space(grid_space, []), tmp_path / "study")
    specs = study.stages.cells(Stage.EXPLORE)
    driver = study.driver(specs)
    job = driver.next_job()
    assert isinstance(job, Job)
    driver.on_record(job, job.record(State.FAILED, reason="its worker died"))
    written = study.directory.record(job.hash)
    assert written is not None
    assert written.state is State.FAILED
    assert written.reason == "its worker died"
    assert study.driver(specs).next_job() == job


def test_samples_that_do_not_fit_are_refused_before_training(
    tmp_path: Path, grid_space: Path
) -> None:
    space = load_space(grid_space, ["confirm.windows=1000000"])
    with pytest.raises(DataError, match="test part"):
        Runner(space, tmp_path / "study")
    assert not (tmp_path / "study" / "manifest.json").exists()


@pytest.mark.slow
def test_a_study_can_be_extended(whole: Path, grid_space: Path, tmp_path: Path) -> None:
    """More sizes and seeds: only what is new is trained."""
    out = tmp_path / "study"
    assert search(grid_space, out).returncode == 0
    before = finished(out)
    bigger = tmp_path / "bigger.yaml"
    bigger.write_text(
        GRID.replace("[6, 8, 12, 16]", "[6, 8, 10, 12, 16]").replace("seeds: 3", "seeds: 4")
    )
    done = search(bigger, out)
    assert done.returncode == 0, done.stderr
    after = finished(out)
    assert before.items() <= after.items()
    stages = [r.stage for r in StudyDirectory(out).records() if r.hash not in before]
    assert stages.count(Stage.MEASURE) == 2
    assert stages.count(Stage.CONFIRM) >= 3


@pytest.mark.slow
def test_kill_the_driver_at_six_moments(whole: Path, grid_space: Path, tmp_path: Path) -> None:
    """Grid, two workers: the same trials and values as the study that was never interrupted."""
    out = tmp_path / "study"
    kept: dict[str, int] = {}

    def nothing_ran_twice() -> None:
        now = finished(out)
        assert kept.items() <= now.items()
        kept.update(now)

    killed_at(BETWEEN_ASK_AND_PLAN, 2, grid_space, out)
    nothing_ran_twice()
    killed_in_training(grid_space, out, Stage.EXPLORE)
    nothing_ran_twice()
    killed_at(BETWEEN_RESULT_AND_TELL, 2, grid_space, out)
    nothing_ran_twice()
    killed_in_training(grid_space, out, Stage.MEASURE)
    nothing_ran_twice()
    killed_at(AFTER_TELL, 3, grid_space, out)
    nothing_ran_twice()
    killed_in_training(grid_space, out, Stage.CONFIRM)
    nothing_ran_twice()
    done = search(grid_space, out)
    assert done.returncode == 0, done.stderr
    nothing_ran_twice()
    assert ledger(out) == ledger(whole)
    assert losses(out) == losses(whole)


@pytest.mark.slow
def test_kill_the_driver_of_a_tpe_search(tmp_path: Path) -> None:
    """One worker: an adaptive search goes on as it would have."""
    space = tmp_path / "tpe.yaml"
    space.write_text(TPE)
    assert search(space, tmp_path / "whole").returncode == 0
    out = tmp_path / "study"
    for moment, count in (
        (BETWEEN_ASK_AND_PLAN, 3),
        (BETWEEN_RESULT_AND_TELL, 4),
        (AFTER_TELL, 3),
        (BETWEEN_ASK_AND_PLAN, 2),
    ):
        killed_at(moment, count, space, out)
    killed_in_training(space, out, Stage.EXPLORE)
    assert search(space, out).returncode == 0
    assert ledger(out) == ledger(tmp_path / "whole")
    assert losses(out) == losses(tmp_path / "whole")


@pytest.mark.slow
def test_kill_a_worker(whole: Path, grid_space: Path, tmp_path: Path) -> None:
    """Its trial goes on from its checkpoint in a new worker."""
    out = tmp_path / "study"
    driver = started(grid_space, out)
    for stage in (Stage.EXPLORE, Stage.MEASURE):
        training(out, stage, 10, driver)
        children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
        workers = [child for child in children if "spawn_main" in arguments(child)]
        os.kill(int(workers[0]), signal.SIGKILL)
    said, _ = driver.communicate()
    assert driver.returncode == 0, said
    assert ledger(out) == ledger(whole)
    assert losses(out) == losses(whole)


def arguments(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_a_study_goes_on_with_the_parts_that_it_was_begun_with(tmp_path: Path) -> None:
    draw = random.Random(0)
    sources = []
    for name, count in (("large", 300), ("small", 9)):
        (tmp_path / name).mkdir()
        for number in range(count):
            words = " ".join("".join(draw.choices("abcdefgh", k=5)) for _ in range(60))
            (tmp_path / name / f"{number}.txt").write_text(words)
        sources.append(str(tmp_path / name))
    space = load_space({**SPACE, "data": {"corpus": sources}})
    root = tmp_path / "study"
    fresh = Runner(space, root).manifest.corpus
    earlier = load_corpus(space.data, mixing=Mixing()).facts
    assert earlier.fingerprint != fresh.fingerprint
    directory = StudyDirectory(root)
    directory.write_manifest(directory.manifest().model_copy(update={"corpus": earlier}))
    resumed = Runner(space, root)
    assert resumed.manifest.corpus == earlier
    job_facts = resumed.stages.facts_of(ModelConfig())
    assert job_facts.fingerprint == earlier.fingerprint
