"""What can be said without training: the ledger of a configuration, and what a study will cost
and resolve."""

from collections.abc import Sequence
from typing import Any

from modsearch.analysis.curves import MIN_SIZES
from modsearch.analysis.power import detectable_effect
from modsearch.config.base import Frozen
from modsearch.config.records import Candidate, Stage
from modsearch.config.runtime import Runtime
from modsearch.data.corpus import VOCAB_SIZE, Corpus, load_corpus
from modsearch.errors import DataError, StudyError
from modsearch.planning.cells import Cell, planned_cells
from modsearch.planning.flops import head_warning
from modsearch.planning.speed import Speed, memory
from modsearch.space.candidates import unlearned_choices
from modsearch.space.points import open_axes
from modsearch.space.space import Space
from modsearch.training.machine import cores, num_workers, peak_memory, runtime

FEW_STEPS = 500
LONGER = (1.4, 2.3)
"""Times as long as said did real studies take (docs/measurements.md)."""
MANY_EPOCHS = 4
FIRST_TRAINING_BYTES = 70 * 2**20


class Rejection(Frozen):
    """A candidate that can't be trained at its budget."""

    depth: int
    width: int
    recipe: dict[str, Any]
    """What tells it from the others of its cell beside its size."""
    reason: str


class PlannedCell(Frozen):
    """One arm at one budget in one stage."""

    stage: Stage
    arm: str
    budget: float
    trials: int
    points_asked: int
    points_planned: int
    """Those of a large cell stand for the rest."""
    steps: list[int]
    """Of each planned point that can be trained, and so are `params`."""
    params: list[int]
    epochs: float
    """The most."""
    seconds: float
    """Of all trials, one after the other."""
    longest_seconds: float
    """Of one trial."""
    head_share: float
    """The largest share of the LM head in the forward FLOPs."""
    memory_bytes: int
    """The most that a trial takes, its process included."""
    rejected: list[Rejection]


class Forecast(Frozen):
    """What a study will cost and resolve."""

    name: str
    corpus: str
    cells: list[PlannedCell]
    trials: int
    flops: float
    device: str
    threads: int
    worker_seconds: float
    """On one worker."""
    workers: int
    workers_are_auto: bool
    workers_at_full_speed: int
    seconds: float
    """With all workers."""
    flops_per_second: float
    """Of one worker."""
    sizes: int
    """Sizes of the study, of which `sizes_timed` were tried here."""
    sizes_timed: int
    extrapolated: bool
    """Whether a size is larger than all that were timed."""
    process_bytes: int
    memory_bytes: int
    """Of the largest trial."""
    memory_bytes_of_all_workers: int
    confirm_seeds: int
    detectable_difference: float | None
    """Nats that confirm's seeds find with 80 % power; None with fewer than two."""
    warnings: list[str]
    notes: list[str]


def forecast(space: Space) -> Forecast:
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
    cells = planned_cells(space, corpus.facts.train_tokens)
    base = process_memory(constants)
    speed = Speed([sized for cell in cells for sized in cell.planned], constants, corpus)
    if speed.guessed:
        first, *more = speed.guessed
        others = f" and {len(more)} other kinds" if more else ""
        warnings.append(f"hours of {first}{others} are a guess: nothing of it was timed here")
    rows = [_row(space, cell, speed, base) for cell in cells]
    workers = space.resources.workers
    workers = num_workers(constants) if workers == "auto" else workers
    seconds = sum(row.seconds for row in rows)
    flops = sum(row.trials * row.budget for row in rows)
    largest = max((row.memory_bytes for row in rows), default=base)
    seeds = space.confirm.seeds if space.confirm else 0
    return Forecast(
        name=space.name,
        corpus=corpus.facts.name,
        cells=rows,
        trials=sum(row.trials for row in rows),
        flops=flops,
        device=constants.device,
        threads=constants.threads,
        worker_seconds=seconds,
        workers=workers,
        workers_are_auto=space.resources.workers == "auto",
        workers_at_full_speed=(at_once := _at_full_speed(constants, workers)),
        seconds=_elapsed(rows, at_once),
        flops_per_second=flops / seconds if seconds else 0.0,
        sizes=speed.num_sizes,
        sizes_timed=speed.num_timed,
        extrapolated=speed.extrapolated,
        process_bytes=base,
        memory_bytes=largest,
        memory_bytes_of_all_workers=largest * workers,
        confirm_seeds=seeds,
        detectable_difference=detectable_effect(seeds) if seeds > 1 else None,
        warnings=[*warnings, *unlearned_choices(space), *_warnings(space, rows)],
        notes=_notes(space, cells),
    )


def _row(space: Space, cell: Cell, speed: Speed, base: int) -> PlannedCell:
    plans = [spent for _, spent in cell.planned]
    windows = space.validation(cell.stage).windows
    seconds = [speed.seconds(candidate, spent, windows) for candidate, spent in cell.planned]
    needs = [memory(candidate, spent, speed.runtime) for candidate, spent in cell.planned]
    return PlannedCell(
        stage=cell.stage,
        arm=cell.arm,
        budget=cell.budget,
        trials=cell.trials,
        points_asked=cell.asked if cell.stage is not Stage.CONFIRM else 1,
        points_planned=cell.tried,
        steps=[spent.steps for spent in plans],
        params=[spent.params for spent in plans],
        epochs=max((spent.epochs for spent in plans), default=0.0),
        seconds=cell.trials * sum(seconds) / len(seconds) if seconds else 0.0,
        longest_seconds=max(seconds, default=0.0),
        head_share=max((spent.head_share for spent in plans), default=0.0),
        memory_bytes=base + max(needs, default=0),
        rejected=[
            Rejection(
                depth=candidate.model.depth,
                width=candidate.model.width,
                recipe=_differing(candidate, space, cell.arm),
                reason=reason,
            )
            for candidate, reason in cell.rejected
        ],
    )


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


def _elapsed(rows: Sequence[PlannedCell], at_once: int) -> float:
    """Seconds with so many trials at once: one stage after the other, none shorter than its
    longest trial."""
    total = 0.0
    for stage in Stage:
        of_stage = [row for row in rows if row.stage == stage]
        work = sum(row.seconds for row in of_stage)
        total += max(work / at_once, max((r.longest_seconds for r in of_stage), default=0.0))
    return total


def _notes(space: Space, cells: list[Cell]) -> list[str]:
    """What stands for something else in a forecast."""
    low, high = LONGER
    notes = [
        f"hours are those of training and scoring alone: real studies took {low} to {high} times "
        f"as long, with start-up, workers beside each other and other programs"
    ]
    if space.explore is not None and (space.measure or space.confirm):
        notes.append("measure and confirm are planned with the first recipe of explore")
    for cell in cells:
        if cell.tried < cell.asked and cell.stage is not Stage.CONFIRM:
            notes.append(
                f"{cell.stage} {cell.arm} {cell.budget:.3g}: {cell.tried} points of "
                f"{cell.asked:,} were planned, and stand for all"
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


def _warnings(space: Space, cells: Sequence[PlannedCell]) -> list[str]:
    found = _unused_vocabulary(space)
    few = sorted({cell.budget for cell in cells if min(cell.steps, default=FEW_STEPS) < FEW_STEPS})
    if few:
        budgets = ", ".join(f"{budget:.3g}" for budget in few)
        found.append(
            f"some sizes run fewer than {FEW_STEPS} steps at {budgets} FLOPs: "
            f"far up the right branch"
        )
    epochs = max((cell.epochs for cell in cells), default=0.0)
    if epochs > MANY_EPOCHS:
        found.append(f"up to {epochs:,.0f} epochs of the corpus: bring more text")
    share = max((cell.head_share for cell in cells), default=0.0)
    if warning := head_warning(share):
        found.append(warning)
    if space.confirm is None or space.confirm.seeds < 3:
        found.append("fewer than 3 confirm seeds: the report will give no interval and no verdict")
    found += _short_ladders(space, cells)
    for cell in cells:
        if not cell.trials:
            where = f"{cell.stage} {cell.arm} {cell.budget:.3g}"
            found.append(f"{where} has nothing that can be trained: search will stop there")
    return found


def _short_ladders(space: Space, cells: Sequence[PlannedCell]) -> list[str]:
    """A curve is fitted for each arm, budget and depth."""
    found = []
    for rung in space.measure.ladder if space.measure else ():
        left = [
            len(rung.widths) - sum(each.depth == rung.depth for each in cell.rejected)
            for cell in cells
            if (cell.stage, cell.budget) == (Stage.MEASURE, rung.budget)
        ]
        if min(left) < MIN_SIZES:
            found.append(
                f"the ladder at {rung.budget:.3g} FLOPs, depth {rung.depth} has {min(left)} sizes "
                f"that can be trained: the report fits no curve to fewer than {MIN_SIZES}"
            )
    return found
