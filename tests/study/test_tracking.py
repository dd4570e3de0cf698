"""Trackers are told the trials of a study, and can fail none of them."""

import os
import sqlite3
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from inline import Inline, quietly
from tiny import SPACE

import modsearch
from modsearch.config.records import Record
from modsearch.errors import ModsearchError, StudyError
from modsearch.space.candidates import load_space
from modsearch.store import lock
from modsearch.store.directory import StudyDirectory
from modsearch.store.trial import read_metrics
from modsearch.study.events import Event, unheard
from modsearch.study.runner import Runner
from modsearch.tracking.contract import TRACKERS, Tracked, Tracker
from modsearch.tracking.events import Tracking

SECRET = "0123456789abcdef0123456789abcdef01234567"
LOCAL = {key: value for key, value in SPACE.items() if key != "confirm"}


def tracked_study(root: Path, *names: str) -> list[str]:
    """A study whose trials are told to trackers; the lines that it said."""
    lines: list[str] = []

    def heard(event: Event) -> None:
        lines.append(str(event))

    tracking = Tracking(names, "small", root, heard)
    made = Runner(load_space(LOCAL), root, make_engine=partial(Inline, quietly), on_event=tracking)
    made.run()
    return lines


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No service of the user's; a key that must stay where it is."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    yield
    monkeypatch.undo()


def losses(root: Path, record: Record) -> list[float]:
    return [row["loss"] for row in read_metrics(StudyDirectory(root).trial(record.hash) /
                                                "metrics.jsonl")]  # fmt: skip


def test_tensorboard_has_each_trials_curve_and_scores(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert not [line for line in tracked_study(tmp_path, "tensorboard") if "ended" in line]
    for record in StudyDirectory(tmp_path).records():
        [place] = tmp_path.glob(f"tracking/tensorboard/measure/{record.arm}/{record.hash}")
        events = EventAccumulator(str(place)).Reload()
        curve = [each.value for each in events.Scalars("loss")]
        assert curve == pytest.approx(losses(tmp_path, record), rel=1e-6)
        assert record.scores is not None
        [score] = events.Scalars("scores/causal_loss")
        assert score.value == pytest.approx(record.scores.causal_loss, rel=1e-6)


def test_wandb_keeps_runs_for_later_and_no_key(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    assert not [line for line in tracked_study(tmp_path, "wandb") if "ended" in line]
    records = StudyDirectory(tmp_path).records()
    runs = {
        path.name.rpartition("-")[2] for path in tmp_path.glob("tracking/wandb/wandb/offline-*")
    }
    assert runs == {record.hash for record in records}
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_wandb_without_a_login_is_told_in_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(
        ModsearchError, match="needs a login, but there is none\nrun `wandb login`"
    ):
        Tracking(["wandb"], "small", tmp_path, unheard)


@pytest.mark.filterwarnings("default")  # its SQL is older than its library
def test_mlflow_has_each_trial_once(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    for _ in range(2):  # the second time each trial comes again
        Tracking(["mlflow"], "small", tmp_path, unheard)
    assert not [line for line in tracked_study(tmp_path, "mlflow") if "ended" in line]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'tracking/mlflow/mlflow.db'}")
    experiment = client.get_experiment_by_name("small").experiment_id
    runs = {run.data.tags["trial"]: run for run in client.search_runs([experiment])}
    records = StudyDirectory(tmp_path).records()
    assert runs.keys() == {record.hash for record in records}
    for record in records:
        run = runs[record.hash]
        assert record.scores is not None
        assert run.data.metrics["causal_loss"] == pytest.approx(record.scores.causal_loss)
        assert run.data.params["model.width"] == str(record.candidate.model.width)
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [each.value for each in history] == pytest.approx(losses(tmp_path, record))


def test_trackio_has_each_trials_curve(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    assert not [line for line in tracked_study(tmp_path, "trackio") if "ended" in line]
    # Its folder is fixed at the first import of a process.
    from trackio.utils import TRACKIO_DIR

    [place] = Path(TRACKIO_DIR).glob("small.db")
    with sqlite3.connect(place) as database:
        runs = {name for (name,) in database.execute("select distinct run_name from metrics")}
    assert {record.hash for record in StudyDirectory(tmp_path).records()} <= runs


class Broken(Tracker):
    """Fails at its second trial."""

    def __init__(self, study: str, folder: Path) -> None:
        self.trials: list[Tracked] = []

    def log(self, trial: Tracked) -> None:
        sys.stdout.write("chatter")
        self.trials.append(trial)
        if len(self.trials) > 1:
            raise OSError("the service is away\nand more")


@pytest.fixture
def _broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TRACKERS, "_registered", {})
    monkeypatch.setattr(TRACKERS, "_loaded", {})
    TRACKERS.register("broken")(Broken)


@pytest.mark.usefixtures("_broken")
def test_a_tracker_that_fails_is_told_of_once_and_fails_no_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tracked_study(tmp_path, "broken")
    assert sum("tracking by broken has ended: the service is away" in line for line in lines) == 1
    assert len(StudyDirectory(tmp_path).records()) == 4
    assert capsys.readouterr().out == "", "stdout is for results"


@pytest.mark.usefixtures("_broken")
def test_a_tracker_is_told_the_configuration_without_the_place_of_the_text(tmp_path: Path) -> None:
    tracking = Tracking(["broken"], "small", tmp_path, unheard)
    made = Runner(
        load_space(LOCAL), tmp_path, make_engine=partial(Inline, quietly), on_event=tracking
    )
    broken = tracking.trackers["broken"]
    assert isinstance(broken, Broken)
    made.run()
    first = broken.trials[0]
    assert first.config["model.block.name"] in ("dense", "mod")
    assert not [key for key in first.config if key.startswith("data")]
    assert str(SPACE["data"]) not in repr(first)
    record = StudyDirectory(tmp_path).record(first.hash)
    assert record is not None
    assert record.scores is not None
    assert first.scores["causal_loss"] == record.scores.causal_loss
    assert [step for step, _ in first.curve][-1] == first.config["steps"]


class Filing(Broken):
    """Has a folder of its own from the beginning."""

    def __init__(self, study: str, folder: Path) -> None:
        super().__init__(study, folder)
        folder.mkdir(parents=True)


@pytest.mark.usefixtures("_broken")
def test_a_second_driver_with_a_tracker_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TRACKERS.register("filing")(Filing)
    monkeypatch.setattr(lock, "refuse_second", lambda root: None)  # it came in between
    with lock.locked(tmp_path / "study"):
        before = sorted((tmp_path / "study").rglob("*"))
        with pytest.raises(StudyError, match="another driver runs"):
            modsearch.search(LOCAL, tmp_path / "study", track=["filing"])
        assert sorted((tmp_path / "study").rglob("*")) == before
    with pytest.raises(ModsearchError, match="unknown tracker"):
        modsearch.search(LOCAL, tmp_path / "another", track=["filling"])
    assert not (tmp_path / "another").exists()


def test_a_tracker_that_is_not_there_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModsearchError, match="unknown tracker `tensorbord`"):
        modsearch.search(LOCAL, tmp_path / "study", track=["tensorbord"])
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(TRACKERS, "_loaded", {})
    monkeypatch.delitem(sys.modules, "modsearch.tracking.wandb", raising=False)
    with pytest.raises(ModsearchError, match=r"not installed: .*\ninstall it with `pip install"):
        modsearch.search(LOCAL, tmp_path / "study", track=["wandb"])
    assert not (tmp_path / "study" / "trials").exists()
