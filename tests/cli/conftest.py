"""Commands run in the process of the tests."""

import sys
from collections.abc import Iterator

import pytest
import torch
from commands import Done

from modsearch.cli.app import main


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small get slower by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def modsearch(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Runs a command in this process."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["modsearch", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture
def refused(modsearch):
    """Runs a command that must end as a user's mistake does; gives the message."""

    def run(*arguments: object) -> str:
        done = modsearch(*arguments)
        assert done.code == 2, done
        assert done.out == ""
        lines = done.err.strip().splitlines()
        assert 1 <= len(lines) <= 2, done.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in done.err
        return done.err

    return run
