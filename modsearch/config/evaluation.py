"""Which suites a study is scored with, and what of them its search goes by."""

import os
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from modsearch.config.base import Frozen, Stated

UNSCORED = "not scored: "
"""How the reason of a record begins whose training stands."""


class AskedSuite(Stated):
    """A suite that a study is scored with."""

    name: str
    """The bare name of a shipped one, or a YAML file; relative to the current folder."""
    data_dir: str | None = None
    """A folder with data sets, in the place of the hub."""
    cells: bool = False
    """Score also the best measured trial of each arm and budget, whose weights are kept then."""

    @property
    def scoring(self) -> "Scoring":
        """Of a trained model, on test text."""
        return Scoring(suite=_located(self.name), data_dir=_absolute(self.data_dir))


class Objective(Stated):
    """A metric of a suite, on the validation part."""

    suite: str
    """The bare name of a shipped one, or a YAML file; relative to the current folder."""
    metric: str = Field(min_length=1)
    """As the suite's results call it, such as `acc` or `answer_margin`."""
    task: str | None = Field(None, min_length=1)
    """One task; default: the mean over the suite's tasks, which must all have the metric."""
    data_dir: str | None = None
    """A folder with data sets, in the place of the hub."""

    @property
    def name(self) -> str:
        """In a line."""
        return " ".join(part for part in (self.suite, self.task, self.metric) if part)

    @property
    def scoring(self) -> "Scoring":
        """Of a trained model, on validation text."""
        return Scoring(
            suite=_located(self.suite),
            data_dir=_absolute(self.data_dir),
            part="validation",
            objective=self,
        )


Price = Literal["forward_flops", "cache_bytes", "decoding"]
"""What a model costs when it is used, of one trial's weights: `forward_flops`, realised, a token;
`cache_bytes`, of the keys and values that a sequence holds at the end of a window; `decoding`,
tokens per second with a cache, one sequence at a time."""
PRICES: tuple[Price, ...] = get_args(Price)
MEASURED: frozenset[Price] = frozenset({"cache_bytes", "decoding"})
"""Those that need the weights; the others are in every record."""


def as_cost(price: Price, value: float) -> float:
    """A price as what is made small: of decoding more is better."""
    return -value if price == "decoding" else value


class Scoring(Frozen):
    """What a trial is scored on once it is trained, where it is."""

    suite: str
    """The bare name of a shipped one, or an absolute path."""
    data_dir: str | None = None
    """Absolute."""
    part: Literal["validation", "test"] = "test"
    """Of the corpus, for tasks that are made of it."""
    objective: Objective | None = None
    """Which metric the trial's cell is searched by; None: none of them."""


class Ranked(Frozen):
    """What explore ranks a trial by, where that is not its loss."""

    name: str
    """Suite, task and metric."""
    value: float
    higher_is_better: bool
    suite_hash: str | None = None
    """Of the suite as it was; None where that was not noted."""

    @property
    def cost(self) -> float:
        """The same, lower is better."""
        return -self.value if self.higher_is_better else self.value


def _located(suite: str) -> str:
    """A suite as a worker finds it, whatever folder that is in."""
    is_shipped = not Path(suite).suffix and os.sep not in suite
    return suite if is_shipped else os.path.abspath(suite)


def _absolute(folder: str | None) -> str | None:
    """A folder's place."""
    return None if folder is None else os.path.abspath(folder)
