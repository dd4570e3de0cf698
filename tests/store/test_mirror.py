"""Leases of trials on a storage: one worker at a time, and none waits for a dead one for long."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest

import modsearch.store.mirror
from modsearch.config.runtime import Lease
from modsearch.store.mirror import LEASE, Mirror, _machine

BEAT, EXPIRY = 0.02, 0.3


@pytest.fixture(params=["path", "memory"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> Mirror:
    storage = str(tmp_path) if request.param == "path" else f"memory://{tmp_path.name}"
    return Mirror.of(storage, "study")


def left_by(mirror: Mirror, host: str, process: int) -> None:
    """A lease whose holder says nothing any more."""
    mirror._write_lease("a", Lease(host=host, process=process, token="other", beat=7))


def test_a_path_is_a_path_whatever_is_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a::b {c} what?now 100%41 [x]*é"
    mirror = Mirror.of(str(folder), "study")
    (tmp_path / "from" / "checkpoint").mkdir(parents=True)
    (tmp_path / "from" / "checkpoint" / "a.txt").write_text("text")
    mirror.push("a", tmp_path / "from", {})
    assert (folder / "study" / "trials" / "a" / "checkpoint" / "a.txt").read_text() == "text"
    mirror.pull("a", tmp_path / "to")
    assert (tmp_path / "to" / "checkpoint" / "a.txt").read_text() == "text"
    assert {path.name for path in tmp_path.iterdir()} == {"from", "to", folder.name}


def test_a_lease_is_there_while_a_worker_has_the_trial(mirror: Mirror, tmp_path: Path) -> None:
    with mirror.leased("a", BEAT, EXPIRY):
        found = mirror._read_lease("a")
        assert found is not None
        lease = Lease.model_validate_json(found)
        assert (lease.host, lease.process) == (_machine(), os.getpid())
        mirror.pull("a", tmp_path / "copy")
        assert not (tmp_path / "copy" / LEASE).exists(), "a copy took it along"
    assert mirror._read_lease("a") is None


def test_another_worker_waits_for_as_long_as_the_holder_lives(mirror: Mirror) -> None:
    """Much longer than a lease lasts that is not renewed."""
    events = []

    def second() -> None:
        with mirror.leased("a", BEAT, EXPIRY):
            events.append("second")

    with mirror.leased("a", BEAT, EXPIRY):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(2 * EXPIRY)
        assert thread.is_alive()
        events.append("first")
    thread.join()
    assert events == ["first", "second"]
    with mirror.leased("b", BEAT, EXPIRY), mirror.leased("c", BEAT, EXPIRY):
        pass  # other trials, at once


def test_a_lease_that_stands_still_expires(mirror: Mirror) -> None:
    """Whatever the clock of its holder said."""
    left_by(mirror, "another machine", 1)
    started = time.monotonic()
    with mirror.leased("a", BEAT, EXPIRY):
        assert time.monotonic() - started >= EXPIRY


def test_a_dead_process_of_the_same_machine_is_not_waited_for(mirror: Mirror) -> None:
    left_by(mirror, _machine(), 2**30)  # more than any system has
    with mirror.leased("a", BEAT, expiry=600):
        pass


@pytest.mark.parametrize("differs", ["BOOT", "PROCESSES"])
def test_a_container_of_the_same_name_keeps_its_lease(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, differs: str
) -> None:
    """Its processes have numbers of their own: that one of them is not here says nothing."""
    (tmp_path / "BOOT").write_text("another boot")
    (tmp_path / "PROCESSES").symlink_to("pid:[1]")
    with monkeypatch.context() as inside:
        inside.setattr(modsearch.store.mirror, differs, tmp_path / differs)
        there = _machine()
    assert there.split()[0] == _machine().split()[0] == socket.gethostname()
    left_by(mirror, there, 2**30)
    started = time.monotonic()
    with mirror.leased("a", BEAT, EXPIRY):
        assert time.monotonic() - started >= EXPIRY


def test_where_machines_can_not_be_told_apart_leases_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modsearch.store.mirror, "BOOT", tmp_path / "none")
    assert _machine() != _machine()


def test_a_damaged_lease_expires(mirror: Mirror) -> None:
    left_by(mirror, "another machine", 1)
    files, root = mirror._open()
    files.pipe_file(f"{root}/a/{LEASE}", b"\xff")
    with mirror.leased("a", BEAT, EXPIRY):
        pass


def test_a_worker_that_was_cut_off_does_not_take_its_lease_back(mirror: Mirror) -> None:
    with mirror.leased("a", BEAT, EXPIRY):
        left_by(mirror, "another machine", 1)
        time.sleep(5 * BEAT)
        found = mirror._read_lease("a")
        assert found is not None
        assert Lease.model_validate_json(found).token == "other"
    assert mirror._read_lease("a") is not None, "the other worker's lease was removed"
