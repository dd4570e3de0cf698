"""What can be said without training: the ledger of a configuration, what a study will cost
and resolve, and how far it is."""

import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import torch

from modsearch.analysis.claims import power
from modsearch.analysis.fits import best_recipe
from modsearch.budget import plan
from modsearch.cost import conventions
from modsearch.data import Batches, load_corpus
from modsearch.errors import ConfigError, StudyError
from modsearch.nn.model import Decoder
from modsearch.schema import (
    Budget,
    Candidate,
    Infeasible,
    Job,
    Plan,
    Record,
    Runtime,
    Stage,
    State,
    Validation,
)
from modsearch.search.ledger import CellSpec
from modsearch.space import Space, build, grid, load_space, parse_tree, resolve
from modsearch.store import StudyDirectory, read_metrics

HEAD_WARNING = 0.25
FEW_STEPS = 500
MEASURED_STEPS = 4
MEASURABLE_FLOPS = 2e11
"""Steps above this are not timed but extrapolated from the speed of the largest that were."""


def ledger(candidate: Candidate) -> dict[str, Any]:
    """FLOPs of one configuration by part, per token at the training sequence length."""
    config = candidate.model
    with torch.device("meta"):
        model = Decoder(config)
    cost = model.cost(config.seq_len)
    params = sum(parameter.numel() for parameter in model.parameters())
    embedding = config.vocab_size * config.width * (1 if config.tied else 2)
    parts = {
        part: {
            "forward": getattr(cost.forward, part) / config.seq_len,
            "backward": getattr(cost.backward, part) / config.seq_len,
            "share_of_forward": getattr(cost.forward, part) / cost.forward.total,
        }
        for part in ("matmul", "attention", "router", "experts", "head")
    }
    return {
        "params": params,
        "embedding_params": embedding,
        "routed_layers": model.routed_layers,
        "parts": parts,
        "forward": cost.forward.total / config.seq_len,
        "training": cost.training.total / config.seq_len,
        "training_step": cost.training.total * candidate.optim.batch_size,
        "conventions": conventions(cost, config.seq_len, params, embedding),
    }


def ledger_text(table: dict[str, Any]) -> str:
    """The ledger as a table for a terminal."""
    lines = [f"{'FLOPs per token':18}{'forward':>14}{'backward':>14}{'share':>9}"]
    for part, row in table["parts"].items():
        lines.append(
            f"{part:18}{row['forward']:14,.0f}{row['backward']:14,.0f}"
            f"{row['share_of_forward']:9.1%}"
        )
    backward = table["training"] - table["forward"]
    lines += [
        f"{'total':18}{table['forward']:14,.0f}{backward:14,.0f}{1:9.1%}",
        "",
        f"training step     {table['training_step']:,} FLOPs",
        f"parameters        {table['params']:,}, of the embedding {table['embedding_params']:,}",
        f"routed layers     {', '.join(map(str, table['routed_layers'])) or 'none'}",
        "",
        "training FLOPs per token by convention",
    ]
    lines += [f"{name:18}{value:14,.0f}" for name, value in table["conventions"].items()]
    share = table["parts"]["head"]["share_of_forward"]
    if share > HEAD_WARNING:
        lines += ["", f"warning: the LM head is {share:.0%} of the forward FLOPs, where routing saves nothing"]
    return "\n".join(lines)


def single_job(candidate: Candidate, flops: float, seed: int) -> Job:
    """A job outside any study.

    Raises:
        ConfigError: the candidate can't be trained at that budget.
    """
    facts = load_corpus(candidate.data).facts
    budget = Budget(flops=flops)
    spent = plan(candidate, budget, facts.train_tokens)
    if isinstance(spent, Infeasible):
        raise ConfigError(f"can't train this at {flops:.3g} FLOPs: {spent.reason}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Job(
        stage=Stage.MEASURE,
        arm="single",
        candidate=candidate,
        budget=budget,
        seed=seed,
        validation=Validation(),
        fingerprint=facts.fingerprint,
        runtime=Runtime(device=device, threads=torch.get_num_threads()),
        plan=spent,
    )


def forecast(space: Space) -> dict[str, Any]:
    """Cells, trials, FLOPs, memory, hours and resolution of a study that was not run.

    Hours come from a few training steps of every size on this machine, one trial a worker;
    for sizes too large to try here, from the speed of the largest one that was tried.
    """
    facts = load_corpus(space.data).facts
    workers = space.resources.workers if space.resources.workers != "auto" else 1
    timer = _StepTimer(space)
    cells = []
    for stage in Stage:
        for budget in space.budgets(stage):
            for arm in space.arms if stage is Stage.CONFIRM else space.learned_arms:
                candidates, trials = _cell_candidates(space, stage, arm, budget)
                plans = [plan(candidate, Budget(flops=budget), facts.train_tokens) for candidate in candidates]
                cells.append(_cell(stage, arm, budget, trials, candidates, plans, timer))
    seconds = sum(cell["seconds"] for cell in cells)
    seeds = space.confirm.seeds if space.confirm else 0
    return {
        "name": space.name,
        "corpus": facts.name,
        "cells": cells,
        "trials": sum(cell["trials"] for cell in cells),
        "flops": sum(cell["trials"] * cell["budget"] for cell in cells),
        "worker_seconds": seconds,
        "workers": workers,
        "flops_per_second": timer.flops_per_second,
        "extrapolated": timer.extrapolated,
        "confirm_seeds": seeds,
        "detectable_difference": power(seeds) if seeds > 1 else None,
        "warnings": _warnings(space, cells),
    }


def _cell_candidates(
    space: Space, stage: Stage, arm: str, budget: float
) -> tuple[list[Candidate], int]:
    """Candidates that stand for a cell, and its number of trials."""
    base = space.arms[arm].control_of or arm
    recipe = space.recipe(base)
    if stage is Stage.EXPLORE:
        assert space.explore is not None
        tree = {**recipe, "size": parse_tree(space.explore.size)}
        first = build(resolve(tree, lambda path, axis: _first(axis)), space.data)
        if space.explore.sampler == "grid":
            return [first], len(list(grid(tree)))
        assert space.explore.trials is not None
        return [first], space.explore.trials
    fixed = resolve(recipe, lambda path, axis: _first(axis))
    for part in ("model", "optim"):
        fixed[part] = {**fixed[part], **getattr(space.arms[arm], part)} if base != arm else fixed[part]
    sizes = [build({**fixed, "size": size}, space.data) for size in space.sizes(budget)]
    if stage is Stage.MEASURE:
        return sizes, len(sizes)
    assert space.confirm is not None
    return [sizes[len(sizes) // 2]], space.confirm.seeds


def _first(axis: Any) -> Any:
    return axis.values[0] if hasattr(axis, "values") else axis.low
