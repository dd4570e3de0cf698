"""Ask and tell on Optuna studies, one for each cell of a stage.

The driver alone asks and tells. A trial that was asked and never told stays RUNNING and goes
on under its own number; a candidate that is known already is told without training.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from modsearch.axes import Choice, Distribution, grid, is_finite, label, resolve
from modsearch.errors import StudyError
from modsearch.schema import Record, Stage, State
from modsearch.search.samplers import (
    Points,
    draw_seed,
    optuna_distribution,
    qmc_point,
    random_point,
)

ASKS_PER_TRIAL = 5
"""A cell ends at the latest after this many asks for each trial that it wants trained."""

CONSTRAINT = "trainable"


@dataclass(frozen=True)
class CellSpec:
    """One optimisation problem: a tree of values for one arm at one budget in one stage."""

    stage: Stage
    arm: str
    budget: float
    tree: Any
    sampler: Literal["grid", "random", "qmc", "tpe"] = "grid"
    trials: int | None = None
    """Trained trials wanted; None: every point of the grid."""
    points: tuple[dict[str, Any], ...] | None = None
    """The grid in the order it is run; None: its own order."""

    @property
    def name(self) -> str:
        """Name of the cell, and of its Optuna study.

        The digest of the tree keeps apart what an extended study asks with another recipe.
        """
        digest = hashlib.sha256(repr(self.tree).encode()).hexdigest()[:8]
        return f"{self.stage}/{self.arm}/{self.budget!r}/{digest}"


@dataclass(frozen=True)
class Asked:
    """A trial of a cell and its resolved values."""

    number: int
    values: dict[str, Any]


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Optuna's storage at a database URL.

    Raises:
        StudyError: it can't be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.storages.RDBStorage(url)
    except (SQLAlchemyError, RuntimeError, ImportError) as error:
        raise StudyError(f"can't open the ledger {url}: {str(error).splitlines()[0]}") from error


class Cell:
    """Asks and tells of one cell."""

    def __init__(self, storage: optuna.storages.BaseStorage, spec: CellSpec, seed: int) -> None:
        self.spec = spec
        self.seed = seed
        self.study = optuna.create_study(
            storage=storage, study_name=spec.name, load_if_exists=True, direction="minimize"
        )

    @cached_property
    def _grid(self) -> list[dict[str, Any]] | None:
        if not is_finite(self.spec.tree):
            return None
        return list(self.spec.points) if self.spec.points else list(grid(self.spec.tree))

    @property
    def wanted(self) -> int:
        """Trained trials at which the cell is full."""
        size = len(self._grid) if self._grid is not None else None
        if self.spec.trials is None:
            assert size is not None
            return size
        return self.spec.trials if size is None else min(size, self.spec.trials)

    def trials(self) -> list[FrozenTrial]:
        """All trials, in order of their numbers."""
        return self.study.get_trials(deepcopy=False)

    def orphans(self) -> Iterator[Asked]:
        """Trials that were asked and never told, continued under their own numbers."""
        for trial in self.trials():
            if trial.state is TrialState.RUNNING:
                yield self._suggest(self._continued(trial))

    def upcoming(self) -> dict[str, Any] | None:
        """The point that a grid would ask next, or None."""
        if self.spec.sampler != "grid" or self._grid is None:
            return None
        asked = {_key(trial.params) for trial in self.trials()}
        return next((point for point in self._grid if _key(point) not in asked), None)

    def why_done(self) -> str | None:
        """Which rule ended the cell, or None while it may ask.

        Trials in flight count as trained: they will be.
        """
        trials = self.trials()
        trained = sum(not trial.user_attrs.get("untrained", False) for trial in trials)
        if trained >= self.wanted and self.spec.sampler != "grid":
            return f"{trained} trained"
        if self.spec.sampler == "grid":
            return "exhausted" if self.upcoming() is None else None
        if self._grid is not None and len({_key(t.params) for t in trials}) >= len(self._grid):
            return "exhausted"
        asks = ASKS_PER_TRIAL * self.wanted
        return f"{asks} asks" if len(trials) >= asks else None

    def ask(self) -> Asked:
        """A new trial."""
        number = len(self.trials())
        self.study.sampler = self._sampler(number)
        trial = self.study.ask()
        assert trial.number == number, "another driver asks"
        return self._suggest(trial)

    def note_hash(self, number: int, trial_hash: str) -> None:
        """Write down what a trial is, before it is handed out."""
        self._continued(self.trials()[number]).set_user_attr("hash", trial_hash)

    def is_repeat(self, number: int, trial_hash: str) -> bool:
        """Whether an earlier trial of the cell is the same."""
        return any(trial.user_attrs.get("hash") == trial_hash for trial in self.trials()[:number])

    def tell(self, number: int, record: Record, *, repeat: bool = False) -> None:
        """What became of a trial; `repeat`: it was known and cost nothing."""
        trial = self._continued(self.trials()[number])
        trial.set_user_attr("state", str(record.state))
        if record.reason:
            trial.set_user_attr("reason", record.reason)
        if repeat or record.state is State.INFEASIBLE:
            trial.set_user_attr("untrained", True)
        if record.scores is not None:
            trial.set_constraint(CONSTRAINT, 0)
            self.study.tell(number, record.scores.causal_loss)
        else:
            trial.set_constraint(CONSTRAINT, 1)
            self.study.tell(number, state=TrialState.PRUNED)

    def _continued(self, trial: FrozenTrial) -> Trial:
        """A handle on a trial that exists; making it samples again, as its ask did."""
        if trial.state is TrialState.RUNNING:
            self.study.sampler = self._sampler(trial.number)
        return Trial(self.study, trial._trial_id)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        spec = self.spec
        if spec.sampler == "tpe":
            seed = draw_seed(self.seed, spec.name, number)
            return optuna.samplers.TPESampler(seed=seed)
        if spec.sampler == "grid":
            return Points(self.upcoming() or {})
        draw: Callable[..., dict[str, Any]] = (
            random_point if spec.sampler == "random" else qmc_point
        )
        return Points(draw(spec.tree, self.seed, spec.name, number))

    def _suggest(self, trial: Trial) -> Asked:
        """Values of a trial; those that it has already stay as they are."""

        def pick(path: str, axis: Distribution) -> Any:
            value = trial._suggest(path, optuna_distribution(axis))
            if isinstance(axis, Choice):
                return next(choice for choice in axis.values if label(choice) == value)
            return value

        return Asked(trial.number, resolve(self.spec.tree, pick))


def _key(params: dict[str, Any]) -> str:
    return repr(sorted(params.items()))
