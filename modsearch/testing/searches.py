"""Small searches that samplers are tried in: trees of candidates, and what each would cost.

Nothing is trained: a point's loss is a bowl over its axes, and its record is made up around it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from modsearch.config.base import Component
from modsearch.config.data import Validation
from modsearch.config.evaluation import Price
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.priors import Prior
from modsearch.config.reading import Tree
from modsearch.config.records import Budget, Candidate, Plan, Record, Scores, Stage, State
from modsearch.config.seeds import trial_seed
from modsearch.nn.parts import completed
from modsearch.optim.parts import completed_optim
from modsearch.space.axes import parse_tree
from modsearch.space.points import at_point, grid, open_axes, point_at
from modsearch.space.samplers import SAMPLERS, SEED, SEEDS, Ask, CellSpec, Point, Tried, sampler_of

SIZE = {"depth": 2, "width": 16}
MODEL = {"block": "mod", "router": "expert_choice"}
TREES: dict[str, Any] = {
    "choices": {
        "model": {**MODEL, "capacity": {"choice": [0.125, 0.25, 0.5]}, "every": {"int": [1, 2]}},
        "optim": {"rate": {"choice": [0.0025, 0.005, 0.01]}},
        "size": {**SIZE, "width": {"choice": [16, 24]}},
    },
    "numbers": {
        "model": {**MODEL, "capacity": {"float": [0.1, 0.9]}},
        "optim": {"rate": {"log": [1e-3, 1e-1]}},
        "size": {**SIZE, "width": {"int": [16, 64], "step": 8}},
    },
    "components": {
        "model": {
            "block": "mod",
            "router": {
                "choice": [
                    "random",
                    {"name": "expert_choice", "gate": {"choice": ["identity", "sigmoid"]}},
                    {"name": "token_choice", "z_weight": {"log": [1e-4, 1e-1]}},
                ]
            },
        },
        "optim": {},
        "size": SIZE,
    },
    "two objectives": {
        "model": {**MODEL, "capacity": {"float": [0.1, 0.9]}, "every": {"choice": [1, 2]}},
        "optim": {},
        "size": {**SIZE, "width": {"int": [16, 64], "step": 8}},
    },
    "one point": {"model": MODEL, "optim": {}, "size": SIZE},
}
"""What a space may leave open, in plain data: finite, continuous, conditional, and nothing."""

LADDER = "ladder"
"""The space of a cell of measure, for samplers that choose its sizes."""
LADDER_TREE = {
    "model": MODEL,
    "optim": {},
    "size": {"depth": {"int": [1, 4]}, "width": {"int": [1, 200]}},
}
LADDER_WIDTHS = (16, 24, 32, 48, 64)

BUDGET = 2e11
TRIALS = 15
"""Asked for in a search: more than samplers draw before they learn."""
IN_FLIGHT = 2
"""Trials whose results are not there yet when the next one is asked for."""


class Outcome:
    """What becomes of a trial: every fifth one is rejected, the others have a cost."""

    def __init__(self, spec: CellSpec) -> None:
        self.spec = spec
        self.axes = open_axes(spec.tree)

    def cost(self, number: int, point: Mapping[str, Any]) -> float | None:
        """Of a trial, in nats a token; None of one that can't be trained."""
        if number % 5 == 3:
            return None
        away = [axis.share(point[path]) - 0.3 for path, axis in self.axes.items() if path in point]
        return 2.0 + sum(each**2 for each in away)

    def prices(self, point: Mapping[str, Any]) -> dict[Price, float]:
        """Of each that the cell asks for: the further right on the axes, the higher."""
        places = [axis.share(point[path]) for path, axis in self.axes.items() if path in point]
        return dict.fromkeys(self.spec.prices, 1.0 + sum(places))

    def record(self, number: int, point: Point) -> Record:
        """The record of such a trial."""
        values = at_point(self.spec.tree, point)
        candidate = _built(values)
        loss = self.cost(number, point)
        return Record(
            hash=name_of(number),
            stage=self.spec.stage,
            arm=self.spec.arm,
            candidate=candidate,
            budget=Budget(flops=self.spec.budget),
            seed=trial_seed(0, self.spec.stage, values.get(SEED, 0)),
            validation=Validation(),
            state=State.COMPLETE if loss is not None else State.INFEASIBLE,
            reason=None if loss is not None else "made up",
            plan=_plan(candidate, self.spec.budget) if loss is not None else None,
            scores=None if loss is None else _scores(loss),
            prices=None if loss is None else self.prices(point),
        )


def spec_of(sampler: Component, space: str) -> CellSpec:
    """The cell of explore that a sampler is tried in; of measure on a ladder."""
    if space == LADDER:
        return _ladder_of(sampler)
    tree = parse_tree(TREES[space])
    if SAMPLERS.get(sampler.name).reseeds:
        tree[SEED] = SEEDS
    prices: tuple[Price, ...] = ("forward_flops",) if space == "two objectives" else ()
    return CellSpec(Stage.EXPLORE, "mod", BUDGET, tree, sampler, TRIALS, prices=prices)


def with_prior(spec: CellSpec) -> CellSpec:
    """The same cell, warm-started from a study at a smaller budget, whose losses are higher."""
    axes = {path: axis for path, axis in open_axes(spec.tree).items() if path != SEED}
    tree = {key: value for key, value in spec.tree.items() if key != SEED}
    draws = Random(0)
    points = [point_at(tree, axes, [draws.random() for _ in axes]) for _ in range(TRIALS)]
    costs = [Outcome(spec).cost(0, point) for point in points]
    prior = tuple(
        Prior(point=point, budget=spec.budget / 3, loss=cost + 0.2, level="another")
        for point, cost in zip(points, costs, strict=True)
        if cost is not None
    )
    return replace(spec, prior=prior)


def _ladder_of(sampler: Component) -> CellSpec:
    tree = {**parse_tree(LADDER_TREE), SEED: SEEDS}
    points: list[Point] = [
        {"size.depth": 2, "size.width": width, SEED: seed}
        for seed in range(TRIALS // len(LADDER_WIDTHS))
        for width in LADDER_WIDTHS
    ]
    return CellSpec(Stage.MEASURE, "mod", BUDGET, tree, sampler, points=tuple(points))


def ask(spec: CellSpec, points: list[Point]) -> Point | None:
    """What a new instance of the cell's sampler proposes after some points.

    Raises:
        ConfigError: it can't search such a space.
    """
    outcome = Outcome(spec)
    tried = [
        _tried(number, point, outcome, running=number >= len(points) - IN_FLIGHT)
        for number, point in enumerate(points)
    ]
    return sampler_of(spec.sampler).propose(
        Ask(
            spec=spec,
            seed=0,
            number=len(points),
            wanted=TRIALS,
            tried=tried,
            records=lambda: {
                each.hash: outcome.record(each.number, dict(each.point))
                for each in tried
                if each.hash is not None and not each.running
            },
            untried=_Untried(spec, points),
        )
    )


def name_of(number: int) -> str:
    """A trial's hash."""
    return f"{number:016x}"


class _Untried:
    def __init__(self, spec: CellSpec, points: list[Point]) -> None:
        self.spec, self.points = spec, points

    def __iter__(self) -> Iterator[Point]:
        there = self.spec.points or grid(self.spec.tree)
        return (point for point in there if point not in self.points)


def _tried(number: int, point: Point, outcome: Outcome, *, running: bool) -> Tried:
    cost = None if running else outcome.cost(number, point)
    costs = () if cost is None else (cost, *outcome.prices(point).values())
    return Tried(number, point, cost, running, name_of(number), costs)


def _built(values: Tree) -> Candidate:
    model = ModelConfig.model_validate({**values["model"], **values["size"]})
    optim = OptimConfig.model_validate(values["optim"])
    return Candidate(model=completed(model), optim=completed_optim(optim))


def _plan(candidate: Candidate, flops: float) -> Plan:
    """About what such a candidate would have: six FLOPs a parameter and token."""
    model, optim = candidate.model, candidate.optim
    embedding = model.vocab_size * model.width
    params = 12 * model.depth * model.width**2 + embedding
    tokens = round(flops / (6 * params))
    per_step = optim.batch_size * model.seq_len
    return Plan(
        steps=max(1, tokens // per_step),
        tokens=tokens,
        epochs=1.0,
        flops_per_step=6 * params * per_step,
        flops=round(flops),
        forward_flops=2.0 * params,
        params=params,
        active_params=params,
        embedding_params=embedding,
        head_share=embedding / params,
        conventions={},
        seconds=1.0,
    )


def _scores(loss: float) -> Scores:
    return Scores(
        causal_loss=loss,
        train_mode_loss=loss,
        bits_per_byte=loss / math.log(2),
        final_train_loss=loss,
        realised_capacity=None,
        realised_forward_flops=1.0,
        agreement=None,
        seconds=1.0,
        step_seconds=1.0,
        peak_memory=1,
    )
