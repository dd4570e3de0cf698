"""What a study will cost and resolve, said without training it."""

from collections.abc import Sequence

from modsearch.analysis.compare import MIN_SEEDS
from modsearch.analysis.noise import seed_sd
from modsearch.analysis.power import PAPER_EFFECT, Chances, chances, reachable_margin
from modsearch.config.base import Frozen
from modsearch.config.records import Stage
from modsearch.config.runtime import Runtime
from modsearch.config.units import Unit
from modsearch.data.corpus import load_corpora
from modsearch.errors import StudyError
from modsearch.planning.cells import PlannedCell, planned_cells, roles_of
from modsearch.planning.compilation import constants as constants_of
from modsearch.planning.costs import costs
from modsearch.planning.memory import Memory
from modsearch.planning.mixtures import epochs_by_source, mixture_note, mixture_warnings
from modsearch.planning.room import Memories, process_memory, too_large
from modsearch.planning.speed import Speed
from modsearch.planning.warnings import copied_text, notes, unfit, warnings_of, wide_margin
from modsearch.space.candidates import unlearned_choices
from modsearch.space.space import Confirm, Space
from modsearch.training.machine import cores, num_workers, runtime


class Chance(Chances):
    """The same, and what it costs."""

    flops: float
    """Of all confirm trials of all arms, in the mean."""


class Forecast(Frozen):
    """What a study will cost and resolve."""

    name: str
    corpus: str
    cells: list[PlannedCell]
    routed_arms: list[str]
    reference_arms: list[str]
    """What routed arms are compared with: the dense ones, or those with experts where there is
    none."""
    trials: int
    flops: float
    device: str
    threads: int
    ranks: int = 1
    """Processes of one trial."""
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
    memory: Memory | None = None
    """What that is made of, beside what its processes take by themselves."""
    memory_bytes_of_all_workers: int
    confirm_runs: int
    """Of an arm at most."""
    margin: float | None
    """Nats within which arms are equivalent; None without confirm."""
    unit: Unit
    """What nats are counted over: `byte` where the space has several tokenizers."""
    chances: list[Chance]
    """How confirm ends, by the true difference."""
    warnings: list[str]
    notes: list[str]


COMPILED = (
    "training will be compiled: hours are those without that; each shape takes up to a minute "
    "more at its first trial"
)
RANKED = (
    "hours are those of steps that go as much faster as there are ranks: what ranks exchange, and "
    "some seconds in which they start, come on top"
)


def forecast(space: Space) -> Forecast:
    """Cells, trials, FLOPs, memory, hours and resolution of a study that was not run.

    Hours come from a moment's training of some of the study's own sizes on this machine. What is
    rejected counts for nothing but the list of rejections.
    """
    corpora = load_corpora(space.data, space.vocab_sizes)
    warnings = [*unfit(space, corpora), *copied_text(corpora.first)]
    warnings += corpora.first.facts.without_text
    try:
        decided = constants_of(space)
    except StudyError as error:
        why = "; ".join(str(error).splitlines())
        warnings.append(f"search will refuse this on this machine: {why}; hours are its CPU's")
        decided = runtime(space.resources.model_copy(update={"device": "cpu", "compile": "off"}))
    constants = decided.model_copy(update={"compile": False})  # to time a size takes moments
    cells = planned_cells(space, corpora.facts_of)
    base = process_memory(constants)
    planned = [sized for cell in cells for sized in cell.planned]
    speed = Speed(planned, constants, corpora)
    if speed.guessed:
        first, *more = speed.guessed
        others = f" and {len(more)} other kinds" if more else ""
        warnings.append(f"hours of {first}{others} are a guess: nothing of it was timed here")
    found = roles_of(space, cells)
    epochs = epochs_by_source(cells, corpora.facts_of)
    memories = Memories(constants)
    rows = [costs(space, cell, speed, memories, base) for cell in cells]
    workers = space.resources.workers
    workers = num_workers(constants) if workers == "auto" else workers
    seconds = sum(row.seconds for row in rows)
    flops = sum(row.trials * row.budget for row in rows)
    largest = max((row.memory_bytes for row in rows), default=base)
    margin = _margin(space.confirm) if space.confirm else None
    return Forecast(
        name=space.name,
        corpus=corpora.first.facts.name,
        unit=space.unit,
        cells=rows,
        routed_arms=list(found.routed),
        reference_arms=list(found.reference),
        trials=sum(row.trials for row in rows),
        flops=flops,
        device=constants.device,
        threads=constants.threads,
        ranks=constants.ranks,
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
        memory=memories.largest(planned)[2] if planned else None,
        confirm_runs=space.confirm.looks[-1] if space.confirm else 0,
        margin=margin,
        chances=_chances(space.confirm, rows) if space.confirm else [],
        warnings=[
            *warnings,
            *unlearned_choices(space),
            *warnings_of(space, rows, found, corpora),
            *wide_margin(space, margin, corpora),
            *mixture_warnings(space, corpora, epochs),
            *too_large(memories, planned, base, workers),
        ],
        notes=[
            *notes(space, cells),
            *mixture_note(epochs),
            *([COMPILED] if decided.compile else []),
            *([RANKED] if decided.ranks > 1 else []),
        ],
    )


def _margin(confirm: Confirm) -> float:
    return confirm.margin or reachable_margin(confirm.looks, seed_sd(min(confirm.budgets)))


def _chances(confirm: Confirm, rows: Sequence[PlannedCell]) -> list[Chance]:
    """Without a difference, and with the one that the paper reports."""
    looks, curve = confirm.looks, confirm.seeds is None
    if looks[-1] < MIN_SEEDS:
        return []
    arms = len({row.arm for row in rows if row.stage is Stage.CONFIRM})
    price = arms * sum(confirm.budgets)
    found = []
    for effect in (0.0, PAPER_EFFECT):
        sd = seed_sd(min(confirm.budgets))
        each = chances(looks, _margin(confirm), effect, sd, curve=curve)
        found.append(Chance(**each.model_dump(), flops=price * each.runs))
    return found


def _at_full_speed(runtime: Runtime, workers: int) -> int:
    """Workers that do not share cores, or the one GPU that local workers have."""
    if runtime.device == "cuda":
        return 1
    return max(1, min(workers, cores() // (runtime.threads * runtime.ranks)))


def _elapsed(rows: Sequence[PlannedCell], at_once: int) -> float:
    """Seconds with so many trials at once: one stage after the other, none shorter than its
    longest trial."""
    total = 0.0
    for stage in Stage:
        of_stage = [row for row in rows if row.stage == stage]
        work = sum(row.seconds for row in of_stage)
        total += max(work / at_once, max((r.longest_seconds for r in of_stage), default=0.0))
    return total
