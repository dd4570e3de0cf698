"""Ask and tell on Optuna studies, one for each cell of a stage.

The driver alone asks and tells. A trial that was asked and never told stays RUNNING and goes
on under its own number; a candidate that is known already is told without training.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from modsearch.config.bars import Bars
from modsearch.config.records import Record, State
from modsearch.errors import ConfigError
from modsearch.registry.registry import named
from modsearch.registry.table import GRID
from modsearch.sampling.past import CONSTRAINT, Points, optuna_distribution
from modsearch.space.axes import Distribution
from modsearch.space.explore import ASKS_PER_TRIAL
from modsearch.space.points import at_point, grid, is_finite, misfit, num_points, resolve
from modsearch.space.samplers import Ask, CellSpec, Point, Tried, sampler_of

BARS = "stopping"
"""Attribute of a trial: by what it may be stopped."""

Records = Callable[[], Mapping[str, Record]]


@dataclass(frozen=True)
class Asked:
    """A trial of a cell and its resolved values."""

    number: int
    values: dict[str, Any]


def _no_records() -> Mapping[str, Record]:
    return {}


class Cell:
    """Asks and tells of one cell."""

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        spec: CellSpec,
        seed: int,
        prefix: str = "",
        records: Records = _no_records,
    ) -> None:
        """
        Args:
            storage: of the ledger.
            spec: what is searched.
            seed: of the study.
            prefix: tells studies apart that share a database.
            records: reads the study's results, for samplers that look at more than costs.
        """
        self.spec = spec
        self.seed = seed
        self.records = records
        self.sampler = sampler_of(spec.sampler)
        # Studies that share a database are told apart; draws must not depend on where they are.
        self.study = optuna.create_study(
            storage=storage,
            study_name=prefix + spec.name,
            load_if_exists=True,
            directions=["minimize"] * (1 + len(spec.prices)),
        )
        self._trials: list[FrozenTrial] | None = None
        """As read since the last change: the driver alone changes them."""
        self._keys: dict[int, str] = {}
        """Of finished trials, whose points stay as they are."""

    @cached_property
    def _grid(self) -> list[Point]:
        return list(self.spec.points) if self.spec.points else list(grid(self.spec.tree))

    @cached_property
    def _grid_keys(self) -> list[str]:
        return [_key(point) for point in self._grid]

    @cached_property
    def _size(self) -> float:
        """Points that there are."""
        if self.spec.points:
            return len(self.spec.points)
        return num_points(self.spec.tree) if is_finite(self.spec.tree) else math.inf

    @property
    def wanted(self) -> int:
        """Trained trials at which the cell is full."""
        trials = math.inf if self.spec.trials is None else self.spec.trials
        return int(min(self._size, trials))

    def trials(self) -> list[FrozenTrial]:
        """All trials, in order of their numbers."""
        if self._trials is None:
            self._trials = self.study.get_trials(deepcopy=False)
        return self._trials

    @property
    def num_running(self) -> int:
        """Trials whose results are not there yet."""
        return sum(trial.state is TrialState.RUNNING for trial in self.trials())

    def orphans(self) -> Iterator[Asked]:
        """Trials that were asked and never told, continued under their own numbers.

        One whose values were not written, and which nothing would be proposed for by now, is no
        trial.
        """
        for trial in self.trials():
            if trial.state is not TrialState.RUNNING:
                continue
            point: Point | None = trial.params
            if misfit(self.spec.tree, trial.params) is not None:
                point = self._proposed(trial.number)
            handle = self._handle(trial, point or {})
            if point is not None:
                yield self._suggest(handle)
            else:
                handle.set_user_attr("untrained", True)
                self.study.tell(trial.number, state=TrialState.FAIL)
                self._trials = None

    def told(self) -> Iterator[tuple[str, Asked]]:
        """Finished trials, by the hash of what was trained."""
        for trial in self.trials():
            if trial.state.is_finished() and "hash" in trial.user_attrs:
                values = at_point(self.spec.tree, trial.params)
                yield trial.user_attrs["hash"], Asked(trial.number, values)

    def upcoming(self) -> Point | None:
        """The point that a grid would ask next, or None."""
        return next(self._untried(), None) if self._is_grid else None

    @property
    def _is_grid(self) -> bool:
        return self.spec.sampler.name == GRID

    def _untried(self) -> Iterator[Point]:
        """Points of the grid that were not asked for, in order."""
        asked = self._asked()
        points = zip(self._grid, self._grid_keys, strict=True)
        return (point for point, key in points if key not in asked)

    def _asked(self) -> set[str]:
        """Keys of the points that have been asked for."""
        for trial in self.trials():
            if trial.number not in self._keys and trial.state.is_finished():
                self._keys[trial.number] = _key(trial.params)
        return {self._keys.get(t.number) or _key(t.params) for t in self.trials()}

    def why_done(self) -> str | None:
        """Which rule ended the cell, or None while it may ask.

        Trials in flight count as trained: they will be.
        """
        trials = self.trials()
        if not self._is_grid and _paid(trials) >= self.wanted:
            trained = sum(not trial.user_attrs.get("untrained", False) for trial in trials)
            return f"{trained} trained"
        if self._is_grid:
            # A point that reads back as another one would be asked for ever.
            asked_all = len(trials) >= self.wanted or self.upcoming() is None
            return "exhausted" if asked_all else None
        if len(trials) >= self._size and len(self._asked()) >= self._size:
            return "exhausted"
        asks = ASKS_PER_TRIAL * self.wanted
        return f"{asks} asks" if len(trials) >= asks else None

    @property
    def num_left(self) -> int:
        """Trainings to come by what is known now, those that run among them. A stopped one leaves
        room for others, so it may grow."""
        if self.why_done() is not None:
            return self.num_running
        ended = [trial for trial in self.trials() if trial.state.is_finished()]
        paid = len(ended) if self._is_grid else _paid(ended)
        return max(self.num_running, math.ceil(self.wanted - paid))

    def ask(self) -> Asked | None:
        """A new trial; None where its sampler asks for nothing by what is known now."""
        number = len(self.trials())
        point = self._proposed(number)
        if point is None:
            return None
        self.study.sampler = Points(point)
        trial = self.study.ask()
        assert trial.number == number, "another driver asks"
        return self._suggest(trial)

    def _proposed(self, number: int) -> Point | None:
        """What the sampler proposes for a trial.

        Raises:
            ConfigError: it is no point of the cell.
        """
        ask = Ask(
            spec=self.spec,
            seed=self.seed,
            number=number,
            wanted=self.wanted,
            tried=[_tried(trial) for trial in self.trials()[:number]],
            records=self.records,
            untried=_Lazily(self._untried),
        )
        point = self.sampler.propose(ask)
        if point is None or self._is_grid:
            return point
        if (why := misfit(self.spec.tree, point)) is not None:
            raise ConfigError(f"{named(type(self.sampler))} proposes no point of its cell: {why}")
        return point

    def note_hash(self, number: int, trial_hash: str) -> None:
        """Write down what a trial is, before it is handed out."""
        self._handle(self.trials()[number]).set_user_attr("hash", trial_hash)
        self._trials = None

    def bars(self, number: int, made: Callable[[list[str]], Bars]) -> Bars:
        """By what a trial may be stopped: as it was decided when it was first handed out, by what
        `made` makes of the trials of the cell that had ended then, by their hashes."""
        known = self.trials()[number].user_attrs.get(BARS)
        if known is not None:
            return Bars.model_validate_json(known)
        ended = [name for name, asked in self.told() if asked.number != number]
        bars = made(list(dict.fromkeys(ended)))
        self._handle(self.trials()[number]).set_user_attr(BARS, bars.model_dump_json())
        self._trials = None
        return bars

    def is_repeat(self, number: int, trial_hash: str) -> bool:
        """Whether an earlier trial of the cell is the same."""
        return any(trial.user_attrs.get("hash") == trial_hash for trial in self.trials()[:number])

    def tell(
        self,
        number: int,
        record: Record,
        *,
        repeat: bool = False,
        reached: tuple[int, float] | None = None,
    ) -> None:
        """What became of a trial.

        Args:
            number: of the trial.
            record: of it.
            repeat: it was known and cost nothing.
            reached: of one that was stopped, in hundredths of its steps, and its loss there.
        """
        trial = self._handle(self.trials()[number])
        trial.set_user_attr("state", str(record.state))
        if record.reason:
            trial.set_user_attr("reason", record.reason)
        if repeat or record.state is State.INFEASIBLE:
            trial.set_user_attr("untrained", True)
        if record.state is State.STOPPED:
            if not repeat:
                trial.set_user_attr("charge", record.charge)
            self._constrain(trial, 0)
            if reached is not None:
                trial.report(reached[1], reached[0])
            self.study.tell(number, state=TrialState.PRUNED)
        elif record.scores is not None:
            self._constrain(trial, 0)
            self.study.tell(number, record.costs(self.spec.prices))
        else:
            self._constrain(trial, 1)
            self.study.tell(number, state=TrialState.PRUNED)
        self._trials = None

    def _constrain(self, trial: Trial, value: int) -> None:
        """Say whether the trial could be trained; a driver that was stopped has said it."""
        if CONSTRAINT not in trial.constraints:
            trial.set_constraint(CONSTRAINT, value)

    def _handle(
        self, trial: FrozenTrial, point: Mapping[str, Any] = MappingProxyType({})
    ) -> Trial:
        """On a trial that exists; values that it lacks are those of the point."""
        self.study.sampler = Points(point)
        return Trial(self.study, trial._trial_id)

    def _suggest(self, trial: Trial) -> Asked:
        """Values of a trial; those that it has already stay as they are."""

        def pick(path: str, axis: Distribution) -> Any:
            return axis.labelled(trial._suggest(path, optuna_distribution(axis)))

        values = resolve(self.spec.tree, pick)
        self._trials = None
        return Asked(trial.number, values)


def _paid(trials: Sequence[FrozenTrial]) -> float:
    """How many whole trainings they are. What stopped ones have left of their budgets is there
    for others."""
    trained = sum(not trial.user_attrs.get("untrained", False) for trial in trials)
    left: float = sum(1.0 - trial.user_attrs.get("charge", 1.0) for trial in trials)
    return trained - left


def _key(params: dict[str, Any]) -> str:
    return repr(sorted(params.items()))


def _tried(trial: FrozenTrial) -> Tried:
    costs = trial.values if trial.state is TrialState.COMPLETE else []
    return Tried(
        number=trial.number,
        point=trial.params,
        cost=costs[0] if costs else None,
        running=trial.state is TrialState.RUNNING,
        hash=trial.user_attrs.get("hash"),
        reached=max(trial.intermediate_values.items(), default=None),
        costs=tuple(costs),
    )


@dataclass(frozen=True)
class _Lazily:
    """Points that are listed when they are looked at."""

    points: Callable[[], Iterator[Point]]

    def __iter__(self) -> Iterator[Point]:
        return self.points()
