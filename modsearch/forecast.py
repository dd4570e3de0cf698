"""What can be said without training: the ledger of a configuration, what a study will cost
and resolve, and how far it is."""

import time
from collections import Counter
from dataclasses import asdict
from statistics import median
from typing import Any

import torch

from modsearch.analysis.numbers import count
from modsearch.analysis.power import SEED_SD, detectable_effect
from modsearch.axes import Choice, Distribution, parse_tree, resolve
from modsearch.budget import plan
from modsearch.candidates import build, unlearned_choices
from modsearch.cost import conventions
from modsearch.data import Batches, Corpus, load_corpus
from modsearch.errors import ConfigError, DataError
from modsearch.nn.model import Decoder
from modsearch.provenance import check_windows
from modsearch.schema import (
    Budget,
    Candidate,
    Infeasible,
    Job,
    Plan,
    Plugin,
    Runtime,
    Stage,
    Validation,
)
from modsearch.space import Space, over

HEAD_WARNING = 0.25
FEW_STEPS = 500
MANY_EPOCHS = 4
MEASURED_STEPS = 4
REFERENCE = {"depth": 4, "width": 256}
"""Its speed stands for sizes that are too large to try here."""
MEASURABLE_FLOPS = 2e11
"""Steps above this are not timed but extrapolated from the speed of the largest that were."""


def ledger(candidate: Candidate) -> dict[str, Any]:
    """FLOPs of one configuration by part, per token at the training sequence length."""
    config = candidate.model
    with torch.device("meta"):
        model = Decoder(config)
    cost = model.cost(config.seq_len)
    params = model.num_params
    embedding = config.vocab_size * config.width * (1 if config.tied else 2)
    forward, backward = asdict(cost.forward), asdict(cost.backward)
    parts = {
        part: {
            "forward": flops / config.seq_len,
            "backward": backward[part] / config.seq_len,
            "share_of_forward": flops / cost.forward.total,
        }
        for part, flops in forward.items()
    }
    return {
        "params": params,
        "active_params": model.active_params,
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
        f"active parameters {table['active_params']:,}, those that a token meets",
        f"routed layers     {', '.join(map(str, table['routed_layers'])) or 'none'}",
        "",
        "training FLOPs per token by convention",
    ]
    lines += [f"{name:18}{value:14,.0f}" for name, value in table["conventions"].items()]
    share = table["parts"]["head"]["share_of_forward"]
    if share > HEAD_WARNING:
        lines += ["", f"warning: {_head_warning(share)}"]
    return "\n".join(lines)


def single_job(
    candidate: Candidate, flops: float, seed: int, plugins: tuple[Plugin, ...] = ()
) -> Job:
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
        plugins=plugins,
    )


def forecast(space: Space) -> dict[str, Any]:
    """Cells, trials, FLOPs, memory, hours and resolution of a study that was not run.

    Hours come from a few training steps of every size on this machine, one trial a worker;
    for sizes too large to try here, from the speed of the largest one that was tried.
    """
    corpus = load_corpus(space.data)
    facts = corpus.facts
    workers = space.resources.workers if space.resources.workers != "auto" else 1
    timer = _StepTimer(space)
    cells = []
    for stage in Stage:
        for budget in space.budgets(stage):
            for arm in space.arms if stage is Stage.CONFIRM else space.learned_arms:
                candidates = _cell_candidates(space, stage, arm, budget)
                trials = space.num_trials(stage, arm, budget)
                plans = [
                    plan(candidate, Budget(flops=budget), facts.train_tokens)
                    for candidate in candidates
                ]
                cell = _cell(stage, arm, budget, trials, candidates, plans, timer)
                cells.append(cell | {"memory_bytes": _largest(space, candidates, plans)})
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
        "detectable_difference": detectable_effect(seeds) if seeds > 1 else None,
        "warnings": [
            *_too_small(space, corpus),
            *unlearned_choices(space),
            *_warnings(space, cells),
        ],
    }


def _cell_candidates(space: Space, stage: Stage, arm: str, budget: float) -> list[Candidate]:
    """Candidates that stand for a cell."""
    base = space.arms[arm].control_of or arm
    recipe = space.recipe(base)
    if stage is Stage.EXPLORE:
        assert space.explore is not None
        tree = {**recipe, "size": parse_tree(space.explore.size)}
        return [build(resolve(tree, lambda path, axis: _first(axis)), space.data)]
    fixed = resolve(recipe, lambda path, axis: _first(axis))
    if base != arm:
        fixed = over(fixed, space.arms[arm])
    sizes = [build({**fixed, "size": size}, space.data) for size in space.sizes(budget)]
    return sizes if stage is Stage.MEASURE else [sizes[len(sizes) // 2]]


def _first(axis: Distribution) -> Any:
    return axis.values[0] if isinstance(axis, Choice) else axis.low


def _cell(
    stage: Stage,
    arm: str,
    budget: float,
    trials: int,
    candidates: list[Candidate],
    plans: list[Plan | Infeasible],
    timer: "_StepTimer",
) -> dict[str, Any]:
    pairs = list(zip(candidates, plans, strict=True))
    feasible = [(candidate, spent) for candidate, spent in pairs if isinstance(spent, Plan)]
    seconds = [timer.seconds(candidate, spent) for candidate, spent in feasible] or [0.0]
    return {
        "stage": str(stage),
        "arm": arm,
        "budget": budget,
        "trials": trials,
        "steps": [spent.steps for _, spent in feasible],
        "params": [spent.params for _, spent in feasible],
        "epochs": max((spent.epochs for _, spent in feasible), default=0.0),
        "seconds": trials * sum(seconds) / len(seconds),
        "head_share": max((spent.head_share for _, spent in feasible), default=0.0),
        "rejected": [
            {"depth": c.model.depth, "width": c.model.width, "reason": spent.reason}
            for c, spent in pairs
            if isinstance(spent, Infeasible)
        ],
    }


def _largest(space: Space, candidates: list[Candidate], plans: list[Plan | Infeasible]) -> int:
    """Bytes of the largest training of a cell."""
    pairs = zip(candidates, plans, strict=True)
    micro_batch = space.resources.micro_batch
    needs = [memory(c, spent, micro_batch) for c, spent in pairs if isinstance(spent, Plan)]
    return max(needs, default=0)


def memory(candidate: Candidate, spent: Plan, micro_batch: int | None) -> int:
    """Bytes of a training, roughly: weights, gradients and two moments in fp32, and what the
    backward of a pass keeps (some 20 values a token, layer and width; the logits three times)."""
    model, batch_size = candidate.model, candidate.optim.batch_size
    tokens = min(batch_size, micro_batch or batch_size) * model.seq_len
    kept = tokens * (20 * model.depth * model.width + 3 * model.vocab_size)
    return 4 * (4 * spent.params + kept)


class _StepTimer:
    """Seconds of a training step, measured on this machine."""

    def __init__(self, space: Space) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.corpus = load_corpus(space.data)
        self.threads = space.resources.threads
        self.extrapolated = False
        self._known: dict[str, float] = {}
        reference = build({"model": REFERENCE, "optim": {}}, space.data)
        with torch.device("meta"):
            cost = Decoder(reference.model).cost(reference.model.seq_len)
        self._largest = cost.training.total * reference.optim.batch_size
        self.flops_per_second = self._largest / self._measure(reference)

    def seconds(self, candidate: Candidate, spent: Plan) -> float:
        """Of the whole training."""
        key = candidate.model_dump_json(exclude={"optim": {"rate"}})
        if key not in self._known:
            if spent.flops_per_step > MEASURABLE_FLOPS:
                self.extrapolated = True
                return spent.flops / self.flops_per_second
            self._known[key] = self._measure(candidate)
            if spent.flops_per_step > self._largest:
                self._largest = spent.flops_per_step
                self.flops_per_second = spent.flops_per_step / self._known[key]
        return spent.steps * self._known[key]

    def _measure(self, candidate: Candidate) -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        model = Decoder(candidate.model).to(self.device)
        optimizer = torch.optim.AdamW(model.parameter_groups(0.1), lr=0.0, fused=True)
        batches = Batches(
            self.corpus.parts["train"], candidate.model.seq_len, candidate.optim.batch_size, 0
        )
        times = []
        for step in range(MEASURED_STEPS):
            started = time.perf_counter()
            tokens_BT = torch.from_numpy(batches(step)).to(self.device)
            loss, output = model.loss(tokens_BT[:, :-1], tokens_BT[:, 1:], step)
            (loss if output.aux is None else loss + output.aux).backward()  # type: ignore[no-untyped-call]  # untyped in torch
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter() - started)
        torch.set_num_threads(threads)
        return median(times[1:])


def _too_small(space: Space, corpus: Corpus) -> list[str]:
    """A stand-in corpus serves for a plan, but not for the search."""
    try:
        check_windows(space, corpus)
    except DataError as error:
        return ["search will refuse this corpus: " + "; ".join(str(error).splitlines())]
    return []


def _warnings(space: Space, cells: list[dict[str, Any]]) -> list[str]:
    found = []
    few = sorted(
        {cell["budget"] for cell in cells if min(cell["steps"], default=FEW_STEPS) < FEW_STEPS}
    )
    if few:
        budgets = ", ".join(f"{budget:.3g}" for budget in few)
        found.append(
            f"some sizes run fewer than {FEW_STEPS} steps at {budgets} FLOPs: "
            f"far up the right branch"
        )
    epochs = max((cell["epochs"] for cell in cells), default=0.0)
    if epochs > MANY_EPOCHS:
        found.append(f"up to {epochs:,.0f} epochs of the corpus: bring more text")
    share = max((cell["head_share"] for cell in cells), default=0.0)
    if share > HEAD_WARNING:
        found.append(_head_warning(share))
    if space.confirm is None or space.confirm.seeds < 3:
        found.append("fewer than 3 confirm seeds: the report will give no interval and no verdict")
    rejected = Counter(
        row["reason"]
        for cell in cells
        if cell["stage"] != Stage.CONFIRM  # stands for a size that measure will choose
        for row in cell["rejected"]
    )
    found += [f"{count} rejected: {reason}" for reason, count in rejected.items()]
    return found


def _head_warning(share: float) -> str:
    return (
        f"the LM head is {share:.0%} of the forward FLOPs of a size: routing saves nothing there"
    )


def forecast_text(result: dict[str, Any]) -> str:
    """The forecast as a table for a terminal."""
    lines = [
        f"{'stage':9}{'arm':18}{'budget':>9}{'trials':>8}{'steps':>16}{'params':>16}"
        f"{'memory':>12}{'hours':>10}"
    ]
    for cell in result["cells"]:
        lines.append(
            f"{cell['stage']:9}{cell['arm']:18}{cell['budget']:9.3g}{cell['trials']:8}"
            f"{_range(cell['steps']):>16}{_range(cell['params']):>16}"
            f"{_bytes(cell['memory_bytes']):>12}{cell['seconds'] / 3600:10.3g}"
        )
    hours = result["worker_seconds"] / 3600
    how = "extrapolated from" if result["extrapolated"] else "at"
    lines += [
        "",
        f"{result['trials']} trials, {result['flops']:.3g} FLOPs, {hours:.3g} hours on one worker "
        f"({how} {result['flops_per_second'] / 1e9:.3g} GFLOP/s measured here)",
    ]
    if result["detectable_difference"]:
        lines.append(
            f"{result['confirm_seeds']} seeds an arm find a difference of "
            f"{result['detectable_difference']:.3f} nats with 80 % power, if seeds scatter by "
            f"{SEED_SD} nats"
        )
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    return "\n".join(lines)


def _bytes(count: int) -> str:
    gib = count / 2**30
    return f"{gib:,.0f} GiB" if gib >= 10 else f"{1024 * gib:,.0f} MiB"


def _range(values: list[int]) -> str:
    if not values:
        return "none"
    low, high = min(values), max(values)
    return count(low) if low == high else f"{count(low)} - {count(high)}"
