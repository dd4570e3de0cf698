"""The ledger: asks that repeat themselves, duplicates, rejections, ends, and resumption."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from modsearch.config.base import Component
from modsearch.config.data import Validation
from modsearch.config.reading import Tree
from modsearch.config.records import Budget, Candidate, Record, Scores, Stage, State
from modsearch.errors import ConfigError, StudyError
from modsearch.registry.registry import Origin
from modsearch.sampling import cell as cells
from modsearch.sampling.cell import Asked, Cell
from modsearch.sampling.ledger import Ledger, in_memory, open_storage, server_url
from modsearch.sampling.nsga2 import _generations
from modsearch.space.axes import parse_tree
from modsearch.space.explore import ASKS_PER_TRIAL
from modsearch.space.points import grid
from modsearch.space.samplers import (
    SAMPLERS,
    SEED,
    SEEDS,
    Ask,
    CellSpec,
    Point,
    Sampler,
    Tried,
    sampler_of,
)

DISCRETE = parse_tree(
    {
        "model": {
            "capacity": {"choice": [0.125, 0.25, 0.5, 0.75, 1.0]},
            "every": {"int": [1, 4]},
        },
        "optim": {"rate": {"choice": [0.0025, 0.005, 0.01]}},
    }
)
SMALL = parse_tree(
    {
        "model": {"capacity": {"choice": [0.125, 0.5, 1.0]}, "every": {"int": [1, 4]}},
        "optim": {"rate": 0.005},
    }
)
CONTINUOUS = parse_tree(
    {
        "model": {"capacity": {"float": [0.1, 0.9]}, "every": {"int": [1, 4]}},
        "optim": {"rate": {"log": [1e-3, 1e-1]}},
    }
)
RATE = {"optim": {"rate": 0.005}}
OF_THE_CELL = [name for name in SAMPLERS.names() if not SAMPLERS.get(name).reseeds]
"""Samplers that look at no more than points and costs, which is all that is here; the conformance
kit interrupts the others, with whole candidates and results."""


def spec(sampler: str, trials: int | None, tree: Any = DISCRETE) -> CellSpec:
    points = tuple(grid(tree)) if sampler == "grid" else None
    return CellSpec(Stage.EXPLORE, "mod", 1e9, tree, Component(name=sampler), trials, points)


def loss(values: Tree) -> float:
    """A bowl in capacity, every and log rate."""
    model, rate = values["model"], values["optim"]["rate"]
    return (model["capacity"] - 0.4) ** 2 + (model["every"] - 2) ** 2 + math.log(rate / 0.005) ** 2


def record(values: Tree, state: State = State.COMPLETE) -> Record:
    scores = Scores(
        causal_loss=loss(values),
        train_mode_loss=0.0,
        bits_per_byte=0.0,
        final_train_loss=0.0,
        realised_capacity=None,
        realised_forward_flops=1.0,
        agreement=None,
        seconds=1.0,
        step_seconds=1.0,
        peak_memory=1,
    )
    return Record(
        hash=repr(values),
        stage=Stage.EXPLORE,
        arm="mod",
        candidate=Candidate(),
        budget=Budget(flops=1e9),
        seed=0,
        validation=Validation(),
        state=state,
        reason=None if state is State.COMPLETE else "made up",
        scores=scores if state is State.COMPLETE else None,
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def cell(url: str, sampler: str, trials: int | None, tree: Any = DISCRETE) -> Cell:
    return Cell(open_storage(url), spec(sampler, trials, tree), seed=7)


def work(cell: Cell, known: dict[str, Record]) -> Iterator[tuple[Asked, bool]]:
    """Ask and tell to the end of the cell, as a driver does; yields what was trained."""
    while cell.why_done() is None:
        asked = cell.ask()
        key = repr(asked.values)
        cell.note_hash(asked.number, key)
        fresh = key not in known
        known.setdefault(key, record(asked.values))
        cell.tell(asked.number, known[key], repeat=not fresh)
        yield asked, fresh


def table(cell: Cell) -> list[tuple[Any, ...]]:
    return [(t.number, t.params, t.value, t.state) for t in cell.trials()]


@pytest.mark.parametrize("trials", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_tpe_in_a_small_space_trains_nothing_twice_and_ends(url: str, trials: int) -> None:
    ledger = cell(url, "tpe", trials)
    asked = list(work(ledger, {}))
    trained = [repr(found.values) for found, fresh in asked if fresh]
    assert len(trained) == len(set(trained))
    reason = ledger.why_done()
    assert reason in (f"{trials} trained", "exhausted", f"{ASKS_PER_TRIAL * min(trials, 60)} asks")
    assert len(asked) <= ASKS_PER_TRIAL * trials
    if reason == f"{trials} trained":
        assert len(trained) == trials
    if reason == "exhausted":
        assert len(trained) == 60


@pytest.mark.slow
def test_tpe_repeats_itself_in_such_a_space(url: str) -> None:
    """Otherwise the test above proves nothing; and a repeat is told its known value."""
    ledger = cell(url, "tpe", 50)
    assert any(not fresh for _, fresh in work(ledger, {}))
    repeats = [t for t in ledger.trials() if t.user_attrs.get("untrained")]
    assert all(t.state is TrialState.COMPLETE and t.value is not None for t in repeats)


@pytest.mark.parametrize("sampler", OF_THE_CELL)
@pytest.mark.parametrize("stop", [1, 8])
def test_an_interrupted_search_equals_an_uninterrupted_one(
    tmp_path: Path, sampler: str, stop: int
) -> None:
    tree = SMALL if sampler == "grid" else DISCRETE
    trials = None if sampler == "grid" else 12
    whole = cell(f"sqlite:///{tmp_path / 'a.db'}", sampler, trials, tree)
    list(work(whole, {}))
    known: dict[str, Record] = {}
    first = cell(f"sqlite:///{tmp_path / 'b.db'}", sampler, trials, tree)
    for _ in zip(range(stop), work(first, known), strict=False):
        pass
    orphan = first.ask()
    again = cell(f"sqlite:///{tmp_path / 'b.db'}", sampler, trials, tree)
    [continued] = again.orphans()
    assert continued == orphan
    fresh = repr(continued.values) not in known
    known.setdefault(repr(continued.values), record(continued.values))
    again.note_hash(continued.number, repr(continued.values))
    again.tell(continued.number, known[repr(continued.values)], repeat=not fresh)
    list(work(again, known))
    assert table(again) == table(whole)


def test_an_orphan_without_values_gets_those_that_it_would_have_had(tmp_path: Path) -> None:
    """Killed between creating the trial and its first value."""
    for sampler in OF_THE_CELL:
        trials = None if sampler == "grid" else 20
        whole = cell(
            f"sqlite:///{tmp_path / sampler}-a.db",
            sampler,
            trials,
            CONTINUOUS if sampler != "grid" else DISCRETE,
        )
        expected = [found for found, _ in zip(work(whole, {}), range(5), strict=False)]
        other = cell(f"sqlite:///{tmp_path / sampler}-b.db", sampler, trials, whole.spec.tree)
        for _ in zip(range(4), work(other, {}), strict=False):
            pass
        other.study.sampler = optuna.samplers.RandomSampler(seed=0)
        other.study.ask()
        [continued] = other.orphans()
        assert continued == expected[4][0], sampler


def drawn(sampler: str, seed: int, cell: str) -> list[Point]:
    """Sixteen proposals in an arm of that name, of a sampler that does not look at results."""
    draws = sampler_of(Component(name=sampler))
    spec = CellSpec(Stage.EXPLORE, cell, 1e9, CONTINUOUS, Component(name=sampler), 16)
    asks = [Ask(spec, seed, number, 16, (), dict, ()) for number in range(16)]
    return [point for ask in asks if (point := draws.propose(ask)) is not None]


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_random_and_qmc_points_are_functions_of_seed_cell_and_number(sampler: str) -> None:
    points = drawn(sampler, 1, "a")
    assert points == drawn(sampler, 1, "a")
    assert points != drawn(sampler, 2, "a")
    assert points != drawn(sampler, 1, "b")
    assert all(0.1 <= point["model.capacity"] <= 0.9 for point in points)
    assert all(1e-3 <= point["optim.rate"] <= 1e-1 for point in points)
    assert {point["model.every"] for point in points} == {1, 2, 3, 4}


def test_qmc_covers_more_evenly_than_chance() -> None:
    """Each of 16 strips of a 16-point Sobol' sequence holds one point."""
    strips = {int((point["model.capacity"] - 0.1) / 0.8 * 16) for point in drawn("qmc", 1, "a")}
    assert len(strips) == 16


def test_grid_asks_every_point_once_in_order(url: str) -> None:
    ledger = cell(url, "grid", None, SMALL)
    list(work(ledger, {}))
    assert [trial.params for trial in ledger.trials()] == list(grid(SMALL))
    assert ledger.why_done() == "exhausted"


def test_the_work_for_a_grid_grows_with_its_points(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    key = cells._key
    monkeypatch.setattr(cells, "_key", lambda params: made.append(1) or key(params))
    list(work(cell(url, "grid", None, SMALL), {}))
    assert len(made) <= 10 * len(list(grid(SMALL)))


def test_a_grid_whose_points_read_as_one_ends(url: str) -> None:
    """A ledger gives back 8 for 8.0, so the second point never counts as asked."""
    tree = {"size": {"width": parse_tree({"int": [1, 1000]})}}
    points = ({"size.width": 8}, {"size.width": 8.0})
    ledger = Cell(
        open_storage(url), CellSpec(Stage.MEASURE, "mod", 1e9, tree, points=points), seed=7
    )
    asks = 0
    while ledger.why_done() is None and asks < 10:
        asked = ledger.ask()
        ledger.tell(asked.number, record({"model": {"capacity": 1, "every": 1}, **RATE}))
        asks += 1
    assert asks == 2


def test_a_longer_grid_asks_the_new_points_only(url: str) -> None:
    tree = {"size": {"width": parse_tree({"int": [1, 1000]})}}
    points = [{"size.width": width} for width in (8, 16, 24)]

    def grown(count: int) -> Cell:
        chosen = tuple(points[:count])
        return Cell(
            open_storage(url), CellSpec(Stage.MEASURE, "mod", 1e9, tree, points=chosen), seed=7
        )

    first = grown(2)
    while first.why_done() is None:
        first.tell(
            first.ask().number,
            record({"model": {"capacity": 1, "every": 1}, "optim": {"rate": 1}}),
        )
    second = grown(3)
    assert second.ask().values == {"size": {"width": 24}}
    assert second.why_done() == "exhausted"


@pytest.mark.parametrize("state", [State.INFEASIBLE, State.DIVERGED, State.OUT_OF_MEMORY])
def test_what_has_no_loss_is_pruned_with_its_reason(url: str, state: State) -> None:
    ledger = cell(url, "tpe", 5)
    asked = ledger.ask()
    ledger.tell(asked.number, record(asked.values, state))
    [trial] = ledger.trials()
    assert trial.state is TrialState.PRUNED
    assert trial.value is None
    assert trial.user_attrs["state"] == state
    assert trial.user_attrs["reason"] == "made up"
    assert trial.user_attrs.get("untrained", False) is (state is State.INFEASIBLE)


def test_a_cell_of_rejected_candidates_ends(url: str) -> None:
    ledger = cell(url, "random", 4, CONTINUOUS)
    while ledger.why_done() is None:
        asked = ledger.ask()
        ledger.tell(asked.number, record(asked.values, State.INFEASIBLE))
    assert ledger.why_done() == "20 asks"


class Twice(Sampler):
    """The first point of the grid with two seeds, the second one when a result is there."""

    reseeds = True

    def propose(self, ask: Ask) -> Point | None:
        if any(tried.running for tried in ask.tried) or ask.number == 2:
            return None
        return {"model.capacity": 0.5, "model.every": 1, "seed": ask.number}


def test_a_sampler_waits_repeats_a_candidate_and_ends_its_cell(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAMPLERS._loaded, "twice", Twice)
    monkeypatch.setitem(SAMPLERS._registered, "twice", Origin("registered", "twice"))
    ledger = cell(url, "twice", 9, {**SMALL, SEED: SEEDS})
    first = ledger.ask()
    assert first is not None
    assert ledger.ask() is None, "a trial is in flight"
    ledger.tell(first.number, record(first.values))
    second = ledger.ask()
    assert second is not None
    assert (first.values["seed"], second.values["seed"]) == (0, 1)
    ledger.tell(second.number, record(second.values))
    assert ledger.ask() is None
    assert len(ledger.trials()) == 2


class Elsewhere(Sampler):
    """A point that no cell has."""

    def propose(self, ask: Ask) -> Point:
        return {"model.capacity": 0.3, "model.every": 1}


def test_a_proposal_outside_of_the_space_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAMPLERS._loaded, "elsewhere", Elsewhere)
    monkeypatch.setitem(SAMPLERS._registered, "elsewhere", Origin("registered", "elsewhere"))
    with pytest.raises(
        ConfigError, match=r"`elsewhere` .* no point .*`model.capacity` can't be 0.3"
    ):
        cell(url, "elsewhere", 9, SMALL).ask()


def test_an_orphan_that_nothing_is_proposed_for_is_no_trial(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAMPLERS._loaded, "twice", Twice)
    monkeypatch.setitem(SAMPLERS._registered, "twice", Origin("registered", "twice"))
    ledger = cell(url, "twice", 9, {**SMALL, SEED: SEEDS})
    for _ in range(3):
        ledger.study.sampler = optuna.samplers.RandomSampler(seed=0)
        ledger.study.ask()  # killed before it had values
    again = cell(url, "twice", 9, {**SMALL, SEED: SEEDS})
    found = []
    for orphan in again.orphans():
        found.append(orphan.number)
        again.tell(orphan.number, record(orphan.values))
    assert found == [0, 1]
    assert [trial.state.name for trial in again.trials()] == ["COMPLETE", "COMPLETE", "FAIL"]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_a_sampler_that_learns_finds_lower_losses(sampler: str) -> None:
    ledger = Cell(in_memory(), spec(sampler, 30, CONTINUOUS), seed=7)
    losses = [loss(asked.values) for asked, _ in work(ledger, {})]
    assert sum(losses[20:]) / 10 < sum(losses[:10]) / 10


def test_a_generation_is_whole_when_so_many_have_a_cost() -> None:
    """Of six trials the second and the last have none: two generations of two, and a third."""
    costs = [1.0, None, 2.0, 3.0, 4.0, None]
    tried = [Tried(n, {}, cost, False, None) for n, cost in enumerate(costs)]
    assert _generations(tried, 2) == [0, 0, 0, 1, 1, 2]


def test_a_ledger_that_can_not_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="can't open the ledger"):
        open_storage(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.db'}")


def test_a_space_of_any_size_is_sampled(tmp_path: Path) -> None:
    """A grid of it would have two million points."""
    tree = parse_tree({"a": {"int": [1, 1_000_000]}, "b": {"choice": [1, 2]}})
    large = cell(f"sqlite:///{tmp_path / 'ledger.db'}", "random", 2, tree)
    assert large.wanted == 2
    assert large.why_done() is None
    assert large.ask().values["b"] in (1, 2)


def test_rows_that_are_garbled_are_told_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.in_file(path)
    held = Cell(ledger.storage, spec("random", 2), seed=0)
    held.ask()
    with closing(sqlite3.connect(path)) as database:
        database.execute("update trial_params set distribution_json = '{}'")
        database.commit()
    again = Ledger.in_file(path)
    with pytest.raises(StudyError, match="is damaged\nmove that file away"), again.held("x"):
        Cell(again.storage, spec("random", 2), seed=0).trials()


def test_an_address_that_no_host_can_have_is_told() -> None:
    with pytest.raises(StudyError, match="can't open the ledger"):
        open_storage(server_url(f"postgresql://{'x' * 300}/y"))
