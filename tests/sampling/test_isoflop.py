"""The sampler that knows how losses behave: what it asks for in a world whose law is known."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from worlds import trial

from modsearch.config.base import Component
from modsearch.config.data import DataConfig
from modsearch.config.evaluation import Ranked
from modsearch.config.priors import Prior
from modsearch.config.records import Record, Stage, State
from modsearch.errors import ConfigError
from modsearch.sampling.cell import Cell
from modsearch.space.axes import parse_tree
from modsearch.space.candidates import build
from modsearch.space.points import at_point
from modsearch.space.samplers import SEED, SEEDS, CellSpec

BUDGETS = (3e9, 2.7e10)
TREE = {
    **parse_tree(
        {
            "model": {"block": "mod", "capacity": {"choice": [0.125, 0.25, 0.5]}},
            "optim": {"rate": {"choice": [0.0025, 0.005, 0.01, 0.02]}},
            "size": {"depth": 2, "width": {"choice": [8, 12, 16, 20, 24, 32]}},
        }
    ),
    SEED: SEEDS,
}


def law(record: Record) -> float:
    """A bowl in size that moves with the budget, and one in the logarithm of the rate."""
    model, rate = record.candidate.model, record.candidate.optim.rate
    late = math.log(record.budget.flops / BUDGETS[-1])
    size = math.log(model.width * (24 * model.width + 256) / (18 * (24 * 18 + 256)))
    return (
        1.9
        - 0.15 * late
        + 0.06 * (size - 0.5 * late) ** 2
        + 0.05 * math.log(rate / 0.009) ** 2
        + 0.02 * math.log(model.capacity / 0.25) ** 2
    )


class World:
    """A study's cells, asked and told as its driver does."""

    def __init__(self, sd: float, seed: int = 0, **options: Any) -> None:
        self.draws = np.random.default_rng(seed)
        self.sd = sd
        self.records: dict[str, Record] = {}
        self.points: dict[str, Mapping[str, Any]] = {}
        storage = optuna.storages.InMemoryStorage()
        sampler = Component.model_validate({"name": "isoflop", **options})
        self.cells = [
            Cell(
                storage,
                CellSpec(Stage.EXPLORE, "mod", budget, TREE, sampler, 60, budgets=BUDGETS),
                seed,
                records=lambda: self.records,
            )
            for budget in BUDGETS
        ]

    def record(self, budget: float, point: Mapping[str, Any]) -> Record:
        values = at_point(TREE, point)
        made = trial(
            Stage.EXPLORE, "mod", budget, seed=values[SEED], loss=1.0, name=repr((budget, point))
        )
        made = made.model_copy(update={"candidate": build(values, DataConfig())})
        assert made.scores is not None
        loss = law(made) + self.sd * self.draws.standard_normal()
        return made.model_copy(
            update={"scores": made.scores.model_copy(update={"causal_loss": loss})}
        )

    def step(self, *, fails: bool = False) -> Record | None:
        """One trial of the first cell that asks for one."""
        for cell in self.cells:
            if cell.why_done() is None and (asked := cell.ask()) is not None:
                record = self.record(cell.spec.budget, cell.trials()[asked.number].params)
                if fails:
                    record = record.model_copy(update={"state": State.DIVERGED, "scores": None})
                self.records[record.hash] = record
                self.points[record.hash] = cell.trials()[asked.number].params
                cell.note_hash(asked.number, record.hash)
                cell.tell(asked.number, record)
                return record
        return None

    def run(self, most: int = 80) -> list[Record]:
        found: list[Record] = []
        while len(found) < most and (record := self.step()) is not None:
            found.append(record)
        return found


def test_it_ends_at_the_best_for_few_trials_of_the_largest_budget() -> None:
    found = World(sd=0.008, resolution=0.003).run()
    spent = Counter(record.budget.flops for record in found)
    assert spent[BUDGETS[0]] >= 8
    assert 1 <= spent[BUDGETS[1]] <= 20  # of 72 candidates
    at_largest = [record for record in found if record.budget.flops == BUDGETS[1]]
    assert min(map(law, at_largest)) - 1.9 < 0.004
    assert len(found) < 80  # by itself
    assert len(World(sd=0.008, resolution=0.01).run()) < len(found)


def test_what_noise_hides_is_trained_again() -> None:
    found = World(sd=0.06, resolution=0.0).run(60)
    assert max(Counter(_point(record) for record in found).values()) > 1


def test_what_could_not_be_trained_is_not_asked_for_again() -> None:
    world = World(sd=0.008)
    found = [world.step(fails=True) for _ in range(3)] + world.run(30)
    assert all(record is not None for record in found)
    lost = {_point(record) for record in found[:3] if record is not None}
    assert not lost & {_point(record) for record in found[8:] if record is not None}


def test_nothing_is_asked_of_a_larger_budget_before_the_smallest_has_begun() -> None:
    world = World(sd=0.008)
    assert world.cells[1].ask() is None
    first = [world.step() for _ in range(8)]
    assert {record.budget.flops for record in first if record is not None} == {BUDGETS[0]}


def test_an_objective_is_refused() -> None:
    world = World(sd=0.008)
    record = world.step()
    assert record is not None
    ranked = Ranked(name="acc", value=0.5, higher_is_better=True)
    world.records[record.hash] = record.model_copy(update={"objective": ranked})
    with pytest.raises(ConfigError, match="not what an objective is"):
        world.step()


def _point(record: Record) -> tuple[float, str]:
    return record.budget.flops, record.candidate.model_dump_json()


def test_a_warm_start_is_believed_and_stands_for_the_first_trials() -> None:
    other = World(sd=0.008, seed=5)
    prior = tuple(
        Prior(
            point={
                path: label for path, label in other.points[record.hash].items() if path != SEED
            },
            budget=record.budget.flops,
            loss=record.scores.causal_loss + 0.4,
            level="of another text",
        )
        for record in other.run(24)
        if record.scores is not None
    )
    world = World(sd=0.008, resolution=0.003)
    for cell in world.cells:
        cell.spec = replace(cell.spec, prior=prior)
    found = world.run()
    assert found[0].budget.flops == BUDGETS[1], "the first ones of the smallest are left out"
    at_largest = [record for record in found if record.budget.flops == BUDGETS[1]]
    assert len(found) <= 20
    assert min(map(law, at_largest)) - 1.9 < 0.004
