"""A ledger on a PostgreSQL server: the same trials, one driver, no credentials, no lost trial."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import optuna
import pytest
from cluster import ROOT, Postgres, postgres, postgres_programs
from commands import Done
from inline import CORPUS, Inline, quietly

from modsearch.config.records import Stage
from modsearch.errors import StudyError, redacted
from modsearch.reporting.page import compile_report
from modsearch.sampling.ledger import Ledger, place, server_url
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.study.runner import Runner

TPE = {
    "name": "shared",
    "data": {"corpus": CORPUS},
    "fixed": {"model": {"seq_len": 64, "num_heads": 1}, "optim": {"min_steps": 20}},
    "arms": {"mod": {"model": {"block": "mod", "capacity": {"float": [0.1, 0.9]}}}},
    "explore": {
        "budgets": [2e8],
        "size": {"depth": 2, "width": 8},
        "sampler": "tpe",
        "trials": 12,
        "windows": 4,
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine (package `postgresql`): its tests need it")
    pytest.importorskip("psycopg", reason="no psycopg: `pip install 'modsearch[postgres]'`")
    with postgres(programs) as server:
        yield server


GRID = {
    **TPE,
    "arms": {"mod": {"model": {"block": "mod", "capacity": {"choice": [0.25, 0.5, 1.0]}}}},
    "explore": {"budgets": [2e8], "size": {"depth": 2, "width": 8}, "windows": 4},
}


@pytest.fixture
def named(request: pytest.FixtureRequest) -> Space:
    """A small space of a test's own name, so that tests can share the database."""
    return Space.model_validate({**GRID, "name": request.node.name})


def tpe(name: str) -> Space:
    return Space.model_validate({**TPE, "name": name})


def study(
    space: Space, out: Path, url: str | None, before: Callable[[int], None] = quietly
) -> Runner:
    made = Runner(space, out, make_engine=partial(Inline, before), ledger=url)
    OPENED.append(made.ledger)
    return made


OPENED: list[Ledger] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def trials(made: Runner) -> list[tuple[object, ...]]:
    [spec] = made.stages.cells(Stage.EXPLORE)
    return [
        (t.number, t.params, t.value, t.state, t.user_attrs.get("hash"))
        for t in made.cell(spec).trials()
    ]


def losses(out: Path) -> dict[str, float | None]:
    records = StudyDirectory(out).records()
    return {r.hash: r.scores.causal_loss if r.scores else None for r in records}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The study in a file, never interrupted."""
    made = study(tpe("whole"), tmp_path_factory.mktemp("whole") / "study", None)
    made.run()
    return made


def test_file_and_server_give_the_same_trials(
    server: Postgres, whole: Runner, tmp_path: Path
) -> None:
    """And Optuna's own names on the server: one study a cell, under our study's name."""
    made = study(tpe("both"), tmp_path / "study", server.url)
    made.run()
    names = optuna.get_all_study_names(made.ledger.storage)
    assert [name.split("-")[0] for name in names if "/explore/mod/" in name] == ["both"]
    assert trials(made) == trials(whole)
    assert losses(tmp_path / "study") == losses(whole.directory.root)


def test_a_server_that_is_restarted_ends_the_study_in_two_lines_and_it_goes_on(
    server: Postgres, whole: Runner, tmp_path: Path
) -> None:
    named = tpe("restarted")
    out = tmp_path / "study"

    def stop(number: int) -> None:
        if number == 5:
            server.stop()

    made = study(named, out, server.url, stop)
    try:
        with pytest.raises(StudyError, match="does not answer") as told:
            made.run()
        before = losses(out)
        with pytest.raises(StudyError, match="can't open the ledger") as refused:
            study(named, out, server.url)
    finally:
        server.start()
    for error in (told, refused):
        assert len(str(error.value).splitlines()) <= 2
        assert server.password not in str(error.value)
    assert len(before) >= 5, "the trial that was running is lost"

    def restart(number: int) -> None:
        if number == 2:
            server.stop()
            server.start()

    with pytest.raises(StudyError, match="the same command goes on"):
        study(named, out, server.url, restart).run()
    counts: list[int] = []
    made = study(named, out, server.url, counts.append)
    made.run()
    assert trials(made) == trials(whole)
    assert losses(out) == losses(whole.directory.root)
    assert before.items() <= losses(out).items()


def test_a_second_driver_is_refused_and_a_killed_one_leaves_no_lock(
    server: Postgres, named: Space, tmp_path: Path
) -> None:
    """From another study directory, as on another host."""
    made = study(named, tmp_path / "ours", server.url)
    code = (
        "import sys, time\nfrom modsearch.sampling.ledger import Ledger\n"
        "with Ledger(sys.argv[1]).held(sys.argv[2]):\n    print('held', flush=True)\n"
        "    time.sleep(100)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, server_url(server.url), made.key],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StudyError, match=f"process {holder.pid}") as refused:
            made.run()
        assert len(str(refused.value).splitlines()) == 2
        assert server.password not in str(refused.value)
        other = Ledger(server_url(server.url))
        OPENED.append(other)
        with other.held("another-study"):
            other.check()
    finally:
        holder.kill()
        holder.communicate()
    made.run()
    assert len(trials(made)) == 3


def test_two_drivers_at_once_from_two_directories(
    server: Postgres, named: Space, tmp_path: Path
) -> None:
    """While one runs, the other is told which; afterwards it is told where the results are."""
    refused: list[StudyError] = []

    def second(number: int) -> None:
        if number == 2:
            with pytest.raises(StudyError) as told:
                study(named, tmp_path / "second", server.url).run()
            refused.append(told.value)

    study(named, tmp_path / "first", server.url, second).run()
    assert f"process {os.getpid()}" in str(refused[0])
    with pytest.raises(StudyError, match="has none of their results") as told:
        study(named, tmp_path / "second", server.url).run()
    assert len(str(told.value).splitlines()) == 2


def test_credentials_are_in_no_file_and_no_output(
    server: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    modsearch: Callable[..., Done],
) -> None:
    """The command line has them: everything that is written and printed is searched."""
    out = tmp_path / "study"
    monkeypatch.setattr(sys, "argv", ["modsearch", "search", "x.yaml", "--ledger", server.url])
    study(Space.model_validate({**GRID, "name": "secret"}), out, server.url).run()
    compile_report(out)
    (tmp_path / "x.yaml").write_text(json.dumps({**GRID, "name": "secret"}))
    url = server.url.replace(str(server.port), "1")
    said = [capfd.readouterr()]
    for more in (("--ledger", url, "--out", tmp_path / "other"), ("--out", out)):
        done = modsearch("search", tmp_path / "x.yaml", *more)
        assert done.code == 2
        said.append(done)
    assert not (tmp_path / "other" / "manifest.json").exists(), "a wrong address stays"
    first, second, third, fourth = "".join(each.err for each in said[1:]).splitlines()[-4:]
    assert "can't open the ledger postgresql://127.0.0.1:1/postgres" in first + second
    assert "name it with --ledger" in third + fourth
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "index.html" for path in written)
    for path in written:
        assert server.password.encode() not in path.read_bytes(), path
    for each in said:
        assert server.password not in each.out + each.err
    manifest = StudyDirectory(out).manifest()
    assert manifest.ledger == f"postgresql://127.0.0.1:{server.port}/postgres"
    assert "--ledger 'postgresql://***@127.0.0.1" in manifest.command


@pytest.mark.parametrize(
    "url",
    [
        *("mysql://u:hidden@h/d", "sqlite:///a.db", "nonsense"),
        *("postgresql://u:hid@h:den/d", "postgresql://u:p@hid@h/d"),
    ],
)
def test_other_addresses_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(StudyError, match="--ledger takes postgresql://") as refused:
        server_url(url)
    assert len(str(refused.value).splitlines()) == 2
    assert "hid" not in str(refused.value)


def test_braces_in_an_address_are_characters() -> None:
    """Of a password that somebody's generator made; Optuna would fill them in."""
    pytest.importorskip("psycopg", reason="no psycopg: `pip install 'modsearch[postgres]'`")
    with pytest.raises(StudyError, match="can't open the ledger") as no:
        Ledger(server_url("postgresql://me:hid{den}@127.0.0.1:1/d"))
    assert "hid" not in str(no.value)


def test_places_and_texts_have_no_credentials() -> None:
    url = "postgresql+psycopg://me:p%40ss@db.example:6000/runs?sslmode=require"
    assert place(url) == "postgresql://db.example:6000/runs"
    for secret in (
        url,
        "s3://key:secret@bucket/x",
        "postgresql://h/d?user=me&password=secret",
        "postgresql://me:sec ret/@secret@h/d",
    ):
        shown = redacted(f"--ledger={secret}")
        assert "secret" not in shown
        assert "ss@" not in shown
        assert "key" not in shown
        assert shown.startswith(f"--ledger={secret.partition('://')[0]}://")
    assert redacted("--out=b@c") == "--out=b@c"
