"""What can be said without training: the ledger of a configuration, and what a study will cost
and resolve."""

import math
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

import torch

from modsearch.analysis.curves import MIN_SIZES
from modsearch.analysis.numbers import count
from modsearch.analysis.power import SEED_SD, detectable_effect
from modsearch.config.data import Validation
from modsearch.config.reading import Tree
from modsearch.config.records import Budget, Candidate, Infeasible, Job, Plan, Stage
from modsearch.config.runtime import Plugin, Runtime
from modsearch.data.corpus import VOCAB_SIZE, Corpus, load_corpus
from modsearch.errors import ConfigError, DataError, StudyError, shown
from modsearch.nn.cost import conventions
from modsearch.nn.model import Decoder
from modsearch.planning.speed import Speed, memory
from modsearch.space.axes import (
    Choice,
    Distribution,
    Float,
    Int,
    grid,
    is_finite,
    num_points,
    open_axes,
    parse_tree,
    resolve,
    unlabelled,
)
from modsearch.space.candidates import build, unlearned_choices
from modsearch.space.space import ASKS_PER_TRIAL, Space, over
from modsearch.training.budget import plan
from modsearch.training.machine import cores, num_workers, peak_memory, runtime

HEAD_WARNING = 0.25
FEW_STEPS = 500
LONGER = (1.4, 2.3)
"""Times as long as said did real studies take (docs/measurements.md)."""
MANY_EPOCHS = 4
MOST_PLANNED = 200
"""Of a cell are planned; those of a larger one stand for the rest."""
MOST_PLANS = 1500
"""Of a stage are planned where it has many cells, but `FEWEST_PLANNED` of each at the least."""
FEWEST_PLANNED = 10
FIRST_TRAINING_BYTES = 70 * 2**20
MOST_REJECTED = 20
"""Rejections that the text lists; the JSON has all that were planned."""


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


@dataclass(frozen=True)
class _Cell:
    """What a cell trains and what it rejects.

    A grid trains what can be trained of the points; a sampler asks on until it has what is wanted.
    """

    stage: Stage
    arm: str
    budget: float
    asked: int
    """Points that the search may try."""
    planned: list[tuple[Candidate, Plan]]
    rejected: list[tuple[Candidate, str]]
    """With reasons."""
    most_asks: int | None = None
    """Of a sampler; None: a grid."""
    whole: bool = False
    """Whether all points there are were planned."""

    @property
    def trials(self) -> int:
        """Trainings: all that are asked for, or their share where some points alone were planned;
        in confirm the seeds of one size."""
        tried = len(self.planned) + len(self.rejected)
        if not tried:
            return 0
        share = len(self.planned) / tried
        if self.most_asks is None:
            return round(self.asked * share)
        able = len(self.planned) if self.whole else round(self.most_asks * share)
        return min(self.asked, able)


def forecast(space: Space) -> dict[str, Any]:
    """Cells, trials, FLOPs, memory, hours and resolution of a study that was not run.

    Hours come from a moment's training of some of the study's own sizes on this machine. What is
    rejected counts for nothing but the list of rejections.
    """
    corpus = load_corpus(space.data)
    warnings = _too_small(space, corpus)
    try:
        constants = runtime(space.resources)
    except StudyError as error:
        why = "; ".join(str(error).splitlines())
        warnings.append(f"search will refuse this on this machine: {why}; hours are its CPU's")
        constants = runtime(space.resources.model_copy(update={"device": "cpu"}))
    cells = _cells(space, corpus.facts.train_tokens)
    base = process_memory(constants)
    speed = Speed([sized for cell in cells for sized in cell.planned], constants, corpus)
    if speed.guessed:
        first, *more = speed.guessed
        others = f" and {len(more)} other kinds" if more else ""
        warnings.append(f"hours of {first}{others} are a guess: nothing of it was timed here")
    rows = [_row(space, cell, speed, base) for cell in cells]
    workers = space.resources.workers
    workers = num_workers(constants) if workers == "auto" else workers
    seconds = sum(row["seconds"] for row in rows)
    flops = sum(row["trials"] * row["budget"] for row in rows)
    largest = max((row["memory_bytes"] for row in rows), default=base)
    seeds = space.confirm.seeds if space.confirm else 0
    return {
        "name": space.name,
        "corpus": corpus.facts.name,
        "cells": rows,
        "trials": sum(row["trials"] for row in rows),
        "flops": flops,
        "device": constants.device,
        "threads": constants.threads,
        "worker_seconds": seconds,
        "workers": workers,
        "workers_are_auto": space.resources.workers == "auto",
        "workers_at_full_speed": (at_once := _at_full_speed(constants, workers)),
        "seconds": _elapsed(rows, at_once),
        "flops_per_second": flops / seconds if seconds else 0.0,
        "sizes": speed.num_sizes,
        "sizes_timed": speed.num_timed,
        "extrapolated": speed.extrapolated,
        "process_bytes": base,
        "memory_bytes": largest,
        "memory_bytes_of_all_workers": largest * workers,
        "confirm_seeds": seeds,
        "detectable_difference": detectable_effect(seeds) if seeds > 1 else None,
        "warnings": [*warnings, *unlearned_choices(space), *_warnings(space, rows)],
        "notes": _notes(space, cells),
    }


def _cells(space: Space, train_tokens: int) -> list[_Cell]:
    """The cells of all stages, in the order in which the file has stages, budgets and arms."""
    cells: list[_Cell] = []
    for budget in space.stated_budgets(Stage.EXPLORE):
        for arm in space.learned_arms:
            cells.append(_explored(space, arm, budget, train_tokens))
    recipes = {arm: _recipe(space, arm, cells) for arm in space.learned_arms}
    for budget in space.stated_budgets(Stage.MEASURE):
        sizes = space.sizes(budget)
        for arm in space.learned_arms:
            candidates = [
                build({**recipes[arm], "size": size}, space.data)
                for size in _spread(sizes, _most_planned(space, Stage.MEASURE))
            ]
            cells.append(
                _planned(Stage.MEASURE, arm, budget, len(sizes), candidates, train_tokens)
            )
    measured = {(cell.arm, cell.budget): cell for cell in cells if cell.stage is Stage.MEASURE}
    for budget in space.stated_budgets(Stage.CONFIRM):
        for arm, settings in space.arms.items():
            base = settings.control_of or arm
            tree = over(recipes[base], settings) if settings.control_of else recipes[base]
            able = measured[base, budget].planned
            sizes = [
                {"depth": each.model.depth, "width": each.model.width} for each, _ in able
            ] or space.sizes(budget)
            middle = build({**tree, "size": sizes[len(sizes) // 2]}, space.data)
            assert space.confirm is not None
            seeds = space.confirm.seeds
            cells.append(_planned(Stage.CONFIRM, arm, budget, seeds, [middle], train_tokens))
    return cells


def _planned(
    stage: Stage,
    arm: str,
    budget: float,
    asked: int,
    candidates: list[Candidate],
    train_tokens: int,
) -> _Cell:
    cell = _Cell(stage, arm, budget, asked, [], [])
    for candidate in candidates:
        spent = plan(candidate, Budget(flops=budget), train_tokens)
        if isinstance(spent, Plan):
            cell.planned.append((candidate, spent))
        else:
            cell.rejected.append((candidate, spent.reason))
    return cell


def _most_planned(space: Space, stage: Stage) -> int:
    """Points of one cell that are planned."""
    cells = len(space.learned_arms) * len(space.stated_budgets(stage))
    return min(MOST_PLANNED, max(FEWEST_PLANNED, MOST_PLANS // cells))


def _explored(space: Space, arm: str, budget: float, train_tokens: int) -> _Cell:
    """A cell of explore: all of its points, or a sample of them where they are many."""
    explore = space.explore
    assert explore is not None
    tree = {**space.recipe(arm), "size": parse_tree(explore.size)}
    asked = space.num_trials(Stage.EXPLORE, arm, budget)
    count = num_points(tree) if is_finite(tree) else None
    most = _most_planned(space, Stage.EXPLORE)
    whole = count is not None and count <= most
    if whole:
        points = [_at(tree, point) for point in grid(tree)]
    else:
        draws = Random(0)
        points = [resolve(tree, lambda _, axis: _draw(axis, draws)) for _ in range(most)]
    asked = min(asked, count) if count is not None else asked
    candidates = [build(point, space.data) for point in points]
    cell = _planned(Stage.EXPLORE, arm, budget, asked, candidates, train_tokens)
    most_asks = None if explore.sampler == "grid" else ASKS_PER_TRIAL * asked
    return replace(cell, most_asks=most_asks, whole=whole)


def _at(tree: Tree, point: dict[str, Any]) -> Any:
    return resolve(tree, lambda path, axis: unlabelled(axis, point[path]))


def _draw(axis: Distribution, draws: Random) -> Any:
    match axis:
        case Choice():
            return draws.choice(axis.values)
        case Int():
            return draws.randrange(axis.low, axis.high + 1, axis.step)
        case Float(log=True):
            return math.exp(draws.uniform(math.log(axis.low), math.log(axis.high)))
    return draws.uniform(axis.low, axis.high)


def _recipe(space: Space, arm: str, explored: list[_Cell]) -> Tree:
    """Explore's first recipe that can be trained stands for the one that it will choose."""
    for cell in explored:
        if cell.arm == arm and cell.planned:
            candidate, _ = cell.planned[0]
            model = candidate.model.model_dump(exclude={"depth", "width"})
            return {"model": model, "optim": candidate.optim.model_dump()}
    recipe = resolve(space.recipe(arm), lambda path, axis: _first(axis))
    assert isinstance(recipe, dict)
    return recipe


def _first(axis: Distribution) -> Any:
    return axis.values[0] if isinstance(axis, Choice) else axis.low


def _spread(values: list[Tree], most: int) -> list[Tree]:
    """All values, or as many as `most`, evenly spaced."""
    if len(values) <= most:
        return values
    return [values[index * (len(values) - 1) // (most - 1)] for index in range(most)]


def _row(space: Space, cell: _Cell, speed: Speed, base: int) -> dict[str, Any]:
    """A cell as plain data."""
    plans = [spent for _, spent in cell.planned]
    windows = space.validation(cell.stage).windows
    seconds = [speed.seconds(candidate, spent, windows) for candidate, spent in cell.planned]
    needs = [memory(candidate, spent, speed.runtime) for candidate, spent in cell.planned]
    tried = len(cell.planned) + len(cell.rejected)
    return {
        "stage": str(cell.stage),
        "arm": cell.arm,
        "budget": cell.budget,
        "trials": cell.trials,
        "points_asked": cell.asked if cell.stage is not Stage.CONFIRM else 1,
        "points_planned": tried,
        "steps": [spent.steps for spent in plans],
        "params": [spent.params for spent in plans],
        "epochs": max((spent.epochs for spent in plans), default=0.0),
        "seconds": cell.trials * sum(seconds) / len(seconds) if seconds else 0.0,
        "longest_seconds": max(seconds, default=0.0),
        "head_share": max((spent.head_share for spent in plans), default=0.0),
        "memory_bytes": base + max(needs, default=0),
        "rejected": [
            {
                "depth": candidate.model.depth,
                "width": candidate.model.width,
                "recipe": _differing(candidate, space, cell.arm),
                "reason": reason,
            }
            for candidate, reason in cell.rejected
        ],
    }


def _differing(candidate: Candidate, space: Space, arm: str) -> dict[str, Any]:
    """What tells a candidate from the others of its cell beside its size: its open values."""
    found: dict[str, Any] = {}
    values = {"model": candidate.model.model_dump(), "optim": candidate.optim.model_dump()}
    for path in open_axes(space.recipe(space.arms[arm].control_of or arm)):
        section, key, *_ = path.split(".")
        found[key] = values[section][key]
    return found


def process_memory(runtime: Runtime) -> int:
    """Bytes of a worker beside its training's: libraries and corpus, as this process has them,
    and what a first training loads. Nothing on a GPU."""
    return peak_memory() + FIRST_TRAINING_BYTES if runtime.device == "cpu" else 0


def _at_full_speed(runtime: Runtime, workers: int) -> int:
    """Workers that do not share cores, or the one GPU that local workers have."""
    if runtime.device == "cuda":
        return 1
    return max(1, min(workers, cores() // runtime.threads))


def _elapsed(rows: list[dict[str, Any]], at_once: int) -> float:
    """Seconds with so many trials at once: one stage after the other, none shorter than its
    longest trial."""
    total = 0.0
    for stage in Stage:
        of_stage = [row for row in rows if row["stage"] == stage]
        work = sum(row["seconds"] for row in of_stage)
        total += max(work / at_once, max((r["longest_seconds"] for r in of_stage), default=0.0))
    return total


def _notes(space: Space, cells: list[_Cell]) -> list[str]:
    """What stands for something else in a forecast."""
    low, high = LONGER
    notes = [
        f"hours are those of training and scoring alone: real studies took {low} to {high} times "
        f"as long, with start-up, workers beside each other and other programs"
    ]
    if space.explore is not None and (space.measure or space.confirm):
        notes.append("measure and confirm are planned with the first recipe of explore")
    for cell in cells:
        tried = len(cell.planned) + len(cell.rejected)
        if tried < cell.asked and cell.stage is not Stage.CONFIRM:
            notes.append(
                f"{cell.stage} {cell.arm} {cell.budget:.3g}: {tried} points of {cell.asked:,} "
                f"were planned, and stand for all"
            )
    return notes


def _unused_vocabulary(space: Space) -> list[str]:
    """Tokens are bytes; the head pays for all others, too."""
    sizes = [space.recipe(arm)["model"].get("vocab_size", 0) for arm in space.learned_arms]
    largest = max((size for size in sizes if isinstance(size, int)), default=0)
    if largest <= VOCAB_SIZE:
        return []
    return [
        f"vocab_size is {largest}, but tokens are bytes: those from {VOCAB_SIZE} on never occur, "
        f"and the LM head pays for them"
    ]


def _too_small(space: Space, corpus: Corpus) -> list[str]:
    """A stand-in corpus serves for a plan, but not for the search."""
    try:
        for sample, seq_len in space.samples():
            corpus.windows(sample, seq_len)
    except DataError as error:
        return ["search will refuse this corpus: " + "; ".join(str(error).splitlines())]
    return []


def _warnings(space: Space, cells: list[dict[str, Any]]) -> list[str]:
    found = _unused_vocabulary(space)
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
    found += _short_ladders(space, cells)
    for cell in cells:
        if not cell["trials"]:
            where = f"{cell['stage']} {cell['arm']} {cell['budget']:.3g}"
            found.append(f"{where} has nothing that can be trained: search will stop there")
    return found


def _short_ladders(space: Space, cells: list[dict[str, Any]]) -> list[str]:
    """A curve is fitted for each arm, budget and depth."""
    found = []
    for rung in space.measure.ladder if space.measure else ():
        left = [
            len(rung.widths) - sum(each["depth"] == rung.depth for each in cell["rejected"])
            for cell in cells
            if (cell["stage"], cell["budget"]) == (Stage.MEASURE, rung.budget)
        ]
        if min(left) < MIN_SIZES:
            found.append(
                f"the ladder at {rung.budget:.3g} FLOPs, depth {rung.depth} has {min(left)} sizes "
                f"that can be trained: the report fits no curve to fewer than {MIN_SIZES}"
            )
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
    lines += ["", *_totals(result)]
    if result["detectable_difference"]:
        lines.append(
            f"{result['confirm_seeds']} seeds an arm find a difference of "
            f"{result['detectable_difference']:.3f} nats with 80 % power, if seeds scatter by "
            f"{SEED_SD} nats"
        )
    lines += [f"note: {note}" for note in result["notes"]]
    lines += _rejections(result["cells"])
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    return "\n".join(lines)


def _totals(result: dict[str, Any]) -> list[str]:
    """Trials, FLOPs, hours for how many workers, and memory for how many."""
    workers, at_once = result["workers"], result["workers_at_full_speed"]
    auto = " (`workers: auto` here)" if result["workers_are_auto"] else ""
    threads = "1 thread" if result["threads"] == 1 else f"{result['threads']} threads"
    shared = f", of which {at_once} at a time run at full speed" if at_once < workers else ""
    how = f"{result['sizes_timed']} of {result['sizes']} sizes were timed"
    if result["extrapolated"]:
        how += ", and some are larger than those"
    lines = [
        f"{result['trials']} trials, {result['flops']:.3g} FLOPs",
        f"{_hours(result['worker_seconds'])} on one worker of {threads}, scoring included: "
        f"{result['flops_per_second'] / 1e9:.3g} GFLOP/s ({how})",
        f"{_hours(result['seconds'])} with {workers} {'worker' if workers == 1 else 'workers'}"
        f"{auto}{shared}, where nothing else runs",
    ]
    whose = (
        f", of which the process itself {_bytes(base)}"
        if (base := result["process_bytes"])
        else ""
    )
    lines.append(
        f"{_bytes(result['memory_bytes'])} of memory for the largest trial{whose}; "
        f"{_bytes(result['memory_bytes_of_all_workers'])} for {workers} at once"
    )
    return lines


def _rejections(cells: list[dict[str, Any]]) -> list[str]:
    """One line a rejected candidate: arm, budget, size, recipe, reason."""
    lines = []
    for cell in cells:
        for row in cell["rejected"]:
            recipe = "".join(f", {key} {shown(value)}" for key, value in row["recipe"].items())
            lines.append(
                f"rejected: {cell['stage']} {cell['arm']} {cell['budget']:.3g} "
                f"depth {row['depth']}, width {row['width']}{recipe}: {row['reason']}"
            )
    more = len(lines) - MOST_REJECTED
    if more > 1:
        return [*lines[:MOST_REJECTED], f"rejected: {more} more, which --json lists"]
    return lines


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g} hours"


def _bytes(count: int) -> str:
    gib = count / 2**30
    return f"{gib:,.0f} GiB" if gib >= 10 else f"{1024 * gib:,.0f} MiB"


def _range(values: list[int]) -> str:
    if not values:
        return "none"
    low, high = min(values), max(values)
    return count(low) if low == high else f"{count(low)} - {count(high)}"
