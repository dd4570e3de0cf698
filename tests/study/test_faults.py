"""What breaks around a study becomes a state or two lines, and the study goes on afterwards."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import fsspec
import pytest
from inline import CORPUS, Inline, quietly

import modsearch.sampling.ledger
import modsearch.store.lock
import modsearch.store.scratch
import modsearch.study.provenance
from modsearch.cli.progress import line
from modsearch.config.records import Job, Record, Stage, State
from modsearch.config.runtime import Share
from modsearch.engines.contract import RunTrial
from modsearch.errors import StudyError
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.store.lock import locked
from modsearch.store.scratch import scratch
from modsearch.study.runner import Runner
from modsearch.study.status import status

SPACE = Space.model_validate(
    {
        "name": "faults",
        "data": {"corpus": CORPUS},
        "fixed": {
            "model": {"seq_len": 64, "num_heads": 1},
            "optim": {"batch_size": 3, "min_steps": 20},
        },
        "arms": {"mod": {"model": {"block": "mod", "capacity": {"choice": [0.25, 0.5, 1.0]}}}},
        "explore": {"budgets": [2e8], "size": {"depth": 2, "width": 8}, "windows": 4},
        "resources": {"checkpoint_seconds": 0.05},
    }
)


def study(
    out: Path, before: Callable[[int], None] = quietly, storage: str | None = None
) -> Runner:
    return Runner(SPACE, out, make_engine=partial(Inline, before), storage=storage, on_event=line)


def end_state(out: Path) -> tuple[object, ...]:
    """The ledger and every loss."""
    made = study(out)
    [spec] = made.stages.cells(Stage.EXPLORE)
    told = [(t.number, t.params, t.value, t.state) for t in made.cell(spec).trials()]
    made.ledger.close()
    records = StudyDirectory(out).records()
    return told, [(r.hash, r.state, r.scores and r.scores.causal_loss) for r in records]


@pytest.fixture(scope="module")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study without faults."""
    out = tmp_path_factory.mktemp("whole") / "study"
    study(out).run()
    return out


@pytest.fixture(scope="module")
def whole(whole_study: Path) -> tuple[object, ...]:
    """What it ends with."""
    return end_state(whole_study)


def test_lost_results_are_trained_again_and_the_ledger_stays(
    tmp_path: Path, whole: tuple[object, ...]
) -> None:
    """A deleted trial directory, and a result that was cut short."""
    out = tmp_path / "study"
    study(out).run()
    first, second, third = sorted((out / "trials").iterdir())
    shutil.rmtree(first)
    (second / "result.json").write_text('{"hash": ')
    kept = (third / "result.json").stat().st_mtime_ns
    trained: list[int] = []
    study(out, trained.append).run()
    assert len(trained) == 2
    assert (third / "result.json").stat().st_mtime_ns == kept
    assert end_state(out) == whole


def test_a_study_without_any_result_is_not_begun_anew_by_mistake(tmp_path: Path) -> None:
    out = tmp_path / "study"
    study(out).run()
    shutil.rmtree(out / "trials")
    with pytest.raises(StudyError, match="has none of their results") as told:
        study(out).run()
    assert len(str(told.value).splitlines()) == 2


def test_a_checkpoint_that_was_cut_short_fails_by_name_and_starts_over(
    tmp_path: Path, whole: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    made = study(out)
    [spec] = made.stages.cells(Stage.EXPLORE)
    cell = made.cell(spec)
    job = made.stages.job(spec, cell.ask().values)
    made.ledger.close()
    broken = out / "trials" / job.hash / "checkpoint" / "resume.safetensors"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"\x10\x00")
    trained: list[int] = []
    study(out, trained.append).run()
    assert "was damaged and has been removed" in " ".join(capsys.readouterr().err.split())
    assert len(trained) == 4, "the failed one is tried once more, the others are not"
    assert end_state(out) == whole


@pytest.mark.parametrize(
    "name", ["what?now=1&a=b", "run%41", "st udy #1 {b} 'é'", "sqlite:...file:x"]
)
def test_a_moved_study_resumes_with_nothing_to_run(
    tmp_path: Path, whole_study: Path, whole: tuple[object, ...], name: str
) -> None:
    """Its ledger moves with it: a name is no part of an address."""
    out = tmp_path / name
    shutil.copytree(whole_study, out)
    trained: list[int] = []
    study(out, trained.append).run()
    assert trained == []
    assert end_state(out) == whole
    assert StudyDirectory(out).left_out() == []
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_a_damaged_ledger_is_told_and_made_anew_from_the_results(
    tmp_path: Path, whole_study: Path, whole: tuple[object, ...], damage: str
) -> None:
    out = tmp_path / "study"
    shutil.copytree(whole_study, out)
    path = out / "ledger.db"
    data = path.read_bytes()
    path.write_bytes(b"garbage " * 999 if damage == "garbage" else data[: len(data) // 2])
    with pytest.raises(StudyError, match="move that file away") as told:
        study(out).run()
    assert str(path) in str(told.value)
    assert len(str(told.value).splitlines()) == 2
    path.rename(tmp_path / "away")
    trained: list[int] = []
    study(out, trained.append).run()
    assert trained == []
    assert end_state(out) == whole


def test_every_result_counts_while_a_lost_ledger_is_made_anew(
    tmp_path: Path, whole_study: Path, whole: tuple[object, ...]
) -> None:
    """By a run that ends after its first trial."""
    out = tmp_path / "study"
    shutil.copytree(whole_study, out)
    (out / "ledger.db").unlink()
    made = study(out)
    [spec] = made.stages.cells(Stage.EXPLORE)
    cell = made.cell(spec)
    asked = cell.ask()
    cell.note_hash(asked.number, made.stages.job(spec, asked.values).hash)
    made.ledger.close()
    assert StudyDirectory(out).left_out() == []
    assert len(StudyDirectory(out).records()) == 3
    study(out).run()
    assert end_state(out) == whole


def test_a_search_whose_points_run_out_is_over(tmp_path: Path) -> None:
    """Of two one can't be trained; while the other one is, more may come."""
    size = {"depth": 2, "width": {"choice": [8, 4000]}}
    explore = {"budgets": [2e8], "size": size, "sampler": "random", "trials": 5, "windows": 4}
    space = {"arms": {"mod": {"model": {"block": "mod"}}}, "explore": explore}
    out = tmp_path / "study"
    stages = []

    def made_up(job: Job) -> Record:
        record = job.record(State.DIVERGED, reason="made up")
        StudyDirectory(out).write_record(record)
        stages.append(status(out).stage)
        return record

    def engine(run_trial: RunTrial, workers: int | None, share: Share) -> Inline:
        return Inline(quietly, made_up, workers, share)

    asked = Space.model_validate({**SPACE.model_dump(), **space})
    Runner(asked, out, make_engine=engine).run()
    assert stages == ["explore"]
    found = status(out)
    assert found.cells[0].states == {"diverged": 1, "infeasible": 1}
    assert found.stage is None


def test_a_copied_trial_is_in_no_choice_of_a_study(
    tmp_path: Path, whole_study: Path, whole: tuple[object, ...]
) -> None:
    out = tmp_path / "study"
    shutil.copytree(whole_study, out)
    first, second, _ = sorted((out / "trials").iterdir())
    shutil.copytree(first, first.with_name("f" * 16))
    shutil.rmtree(second)
    shutil.copytree(first, second)
    trained: list[int] = []
    study(out, trained.append).run()
    assert len(trained) == 1, "a copy was taken for the trial that was lost"
    assert end_state(out) == whole


def test_a_locked_ledger_is_told_in_two_lines(
    tmp_path: Path, whole: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another program that writes: SQLite waits a while, then gives up."""
    out = tmp_path / "study"
    monkeypatch.setattr(modsearch.sampling.ledger, "FILE", {"timeout": 0.2})
    holders: list[sqlite3.Connection] = []

    def lock(number: int) -> None:
        if number == 2:
            holders.append(sqlite3.connect(out / "ledger.db", isolation_level=None))
            holders[0].execute("begin exclusive")

    with pytest.raises(StudyError, match="database is locked") as told:
        study(out, lock).run()
    holders[0].close()
    assert len(str(told.value).splitlines()) == 2
    assert "same command" in str(told.value)
    study(out).run()
    assert end_state(out) == whole


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small file system of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ms-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("not allowed to mount a tmpfs: tests of full and read-only disks need it")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def attempt(out: Path, before: Callable[[int], None]) -> str:
    """Run a study; what it ends with, where that is an error."""
    try:
        study(out, before).run()
    except (StudyError, OSError) as error:
        return str(error)
    return ""


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for block in (2**16, 1):
            try:
                while True:
                    file.write(b"\0" * block)
            except OSError:
                continue
    return path


def test_a_full_disk_and_what_comes_after(disk: Path, whole: tuple[object, ...]) -> None:
    out = disk / "study"

    def full(number: int) -> None:
        if number == 2:
            fill(disk)

    said = attempt(out, full)
    assert len(said.splitlines()) <= 2
    states = {record.state for record in StudyDirectory(out).records()}
    assert states <= {State.COMPLETE, State.FAILED}
    assert State.COMPLETE in states, "what had finished is lost"
    (disk / "filler").unlink()
    study(out).run()
    assert end_state(out) == whole


def test_a_directory_that_turns_read_only_and_back(disk: Path, whole: tuple[object, ...]) -> None:
    """In the middle of a study, and before one is resumed."""
    out = disk / "study"

    def read_only(number: int) -> None:
        if number == 2:
            # A mount over the folder: what is open stays open, as on a disk with errors.
            subprocess.run(["mount", "--bind", str(out), str(out)], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", str(out)], check=True)

    try:
        said = attempt(out, read_only), attempt(out, quietly)
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)
    assert all(len(text.splitlines()) <= 2 for text in said)
    assert any("read" in text.lower() for text in said), said
    study(out).run()
    assert end_state(out) == whole


@pytest.mark.parametrize("kind", ["memory", "path"])
def test_trials_on_a_storage_come_back_whole(
    tmp_path: Path, whole: tuple[object, ...], kind: str
) -> None:
    """An fsspec URI and a shared path; a driver whose directory is gone finds the results."""
    storage = str(tmp_path / "shared") if kind == "path" else f"memory://{tmp_path.name}"
    out = tmp_path / "study"
    study(out, storage=storage).run()
    assert end_state(out) == whole
    files, root = fsspec.url_to_fs(storage)
    names = {path.rpartition("/")[2] for path in files.find(root)}
    assert names == {
        "config.yaml",
        "metrics.jsonl",
        "result.json",
        "routing.json",
        "model.json",
    }, "no weights"
    shutil.rmtree(out / "trials")
    before = {path: files.info(path) for path in files.find(root)}
    study(out, storage=storage).run()
    assert end_state(out) == whole
    assert {path: files.info(path) for path in files.find(root)} == before, "trained again"


def test_a_trial_goes_on_from_the_checkpoint_on_the_storage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On another machine, whose own folder is empty."""
    storage = str(tmp_path / "shared")
    out = tmp_path / "study"
    made = study(out, storage=storage)
    [spec] = made.stages.cells(Stage.EXPLORE)
    job = made.stages.job(spec, made.cell(spec).ask().values)
    made.ledger.close()
    assert made.trials.mirror is not None
    capsys.readouterr()
    trial = tmp_path / "shared" / made.key / "trials" / job.hash
    (trial / "checkpoint").mkdir(parents=True)
    (trial / "checkpoint" / "resume.safetensors").write_bytes(b"cut short")
    study(out, storage=storage).run()
    assert "checkpoint" in capsys.readouterr().err, "the checkpoint was not read"
    assert StudyDirectory(out).finished(job.hash) is not None
    assert not (trial / "checkpoint" / "resume.safetensors").exists()


def test_a_study_of_other_code_does_not_take_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = str(tmp_path / "shared")
    first = study(tmp_path / "first", storage=storage)
    monkeypatch.setattr(modsearch.study.provenance, "code_hash", lambda: "other")
    second = study(tmp_path / "second", storage=storage)
    mixed = Runner(SPACE, tmp_path / "first", allow_mixed=True, storage=storage)
    assert first.trials.mirror == mixed.trials.mirror
    assert first.trials.mirror != second.trials.mirror


def test_a_storage_that_can_not_be_used_is_told_in_two_lines(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for storage in (str(tmp_path / "file" / "below"), "nosuchscheme://key:secret@bucket"):
        with pytest.raises(StudyError, match="can't use --storage") as told:
            study(tmp_path / "study", storage=storage)
        assert len(str(told.value).splitlines()) == 2
        assert "secret" not in str(told.value)


def test_a_file_system_without_locks_is_not_another_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: object, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(modsearch.store.lock.fcntl, "flock", flock)
    with pytest.raises(StudyError, match="without locks: No locks available"), locked(tmp_path):
        pass


def test_folders_of_dead_processes_are_removed_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(modsearch.store.scratch, "GRACE_SECONDS", -1.0)
    (tmp_path / "kind-dead").mkdir()
    (tmp_path / "kind-dead" / ".alive").touch()
    with scratch("kind-") as first, scratch("kind-") as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_studies_survive_what_the_script_does_to_them() -> None:
    """A short run of it; `python tests/faults.py` is the long one."""
    script = Path(__file__).parents[1] / "faults.py"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    paths = [str(script.parent.parent), environment.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, script, "--kills", "3"],
        env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
