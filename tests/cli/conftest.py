"""Commands run in the process of the tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small get slower by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan times this machine for a moment only."""
    monkeypatch.setattr("modsearch.planning.speed.SECONDS_PER_SIZE", 0.01)
