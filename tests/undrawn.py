"""Reports without figures, for tests of what a report says: drawing takes most of its time."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

FIGURES = (
    "comparisons.confirm", "comparisons.differences", "curves.forward", "curves.isoflop",
    "prices.pareto", "routing.positions", "routing.weights", "routing.window",
)  # fmt: skip


@contextmanager
def undrawn() -> Iterator[None]:
    """Reports that are compiled inside of it have no figures."""
    with pytest.MonkeyPatch.context() as patch:
        for figure in FIGURES:
            patch.setattr(f"modsearch.reporting.figures.{figure}", lambda *_: None)
        yield
