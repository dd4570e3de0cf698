"""Fixtures of all tests: fixed seeds, a token cache of their own, real corpora where present."""

import os
import random
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from commands import Done
from undrawn import undrawn

from modsearch.cli.app import main

torch.set_num_threads(1)  # tensors are small: a second thread costs more than it brings

# Ray reads these when it is imported, and tests that drive it share this process.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

ROOT = Path(__file__).resolve().parent.parent

# The same examples in every run, and no limit on an example's time on a busy machine.
hypothesis.settings.register_profile("modsearch", derandomize=True, deadline=None)
hypothesis.settings.load_profile("modsearch")


LONGEST = (
    "test_study.py", "test_plugins.py", "test_ray.py", "test_postgres.py", "test_json.py",
    "test_faults.py", "test_ledger.py", "test_conformance.py", "test_flops.py",
)  # fmt: skip
"""Files that take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They come first, so that no core is left alone with one of them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _token_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the processes that they start, never touch the user's token cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def no_figures() -> Iterator[None]:
    """For tests of what a report says."""
    with undrawn():
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the checkout: the tests on real corpora need it")
    return folder


@pytest.fixture
def modsearch(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
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
def refused(modsearch: Callable[..., Done]) -> Callable[..., str]:
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
