"""Locks of a study and of a trial: seen by others, gone with their process."""

import os
import threading
from pathlib import Path

import pytest

from modsearch.errors import StudyError
from modsearch.store.lock import _is_at, alone, is_held, locked, refuse_second


def test_a_lock_is_seen_while_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "study" / ".lock"
    assert is_held(path) is False, "there is none"
    with locked(tmp_path / "study"):
        assert is_held(path) is True
    assert is_held(path) is False


def test_a_second_driver_is_refused_before_it_gets_ready(tmp_path: Path) -> None:
    root = tmp_path / "study"
    refuse_second(root)
    assert not root.exists(), "a look leaves no trace"
    with locked(root):
        for look in (refuse_second, lambda root: locked(root).__enter__()):
            with pytest.raises(StudyError, match=f"process {os.getpid()}") as caught:
                look(root)
            assert len(str(caught.value).splitlines()) == 2
    refuse_second(root)


def test_a_study_that_was_never_begun_leaves_no_folder(tmp_path: Path) -> None:
    root = tmp_path / "runs" / "study"
    with pytest.raises(KeyError), locked(root):
        raise KeyError
    assert not (tmp_path / "runs").exists()
    root.mkdir(parents=True)
    with locked(root):
        pass
    assert root.is_dir(), "it was there before"
    other = tmp_path / "other"
    with locked(other):
        (other / "manifest.json").touch()
    assert (other / "manifest.json").is_file()


def test_a_lock_that_was_taken_away_is_not_held(tmp_path: Path) -> None:
    root = tmp_path / "study"
    with locked(root):
        (root / ".lock").rename(root / "away")
        (root / ".lock").touch()
        file = (root / "away").open("a+")
    assert not _is_at(file, root / ".lock")
    file.close()


def test_a_second_worker_waits_until_the_trial_is_free(tmp_path: Path) -> None:
    entered = threading.Event()

    def second() -> None:
        with alone(tmp_path / "trial"):
            entered.set()

    with alone(tmp_path / "trial"):
        assert is_held(tmp_path / "trial" / ".lock") is True
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.05)
    thread.join(10)
    assert entered.is_set()
