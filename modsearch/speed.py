"""How long this machine takes: a few of a study's own sizes are trained for a moment, and the
others follow from them.

A step takes a fixed time, a time for each layer and a time for each FLOP; they are fitted to what
was timed, for each kind of candidate. A size that is too large to try is timed as a smaller
stand-in. On one CPU thread it is the processor's time that counts, so that other programs which
run meanwhile do not.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from modsearch.budget import plan
from modsearch.data import Batches, Corpus
from modsearch.errors import DataError
from modsearch.machine import cores
from modsearch.nn.model import Decoder
from modsearch.schema import Budget, Candidate, Plan, Runtime, Validation
from modsearch.train import SCORING_BATCH, Trainer, score

Sized = tuple[Candidate, Plan]

LARGEST_STEP = 2e10
"""FLOPs of the largest step that is tried, about half a second on one core."""
STAND_IN_WIDTH = 256
WARM_STEPS = 3
FEWEST_STEPS = 5
SECONDS_PER_SIZE = 0.4
SECONDS = 12.0
"""After so many no further size is timed."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one training step, and of scoring one window in both modes."""

    depth: int
    flops_per_step: float
    step: float
    window: float


class Speed:
    """Seconds of trainings on this machine, one at a time."""

    def __init__(self, sized: Iterable[Sized], runtime: Runtime, corpus: Corpus) -> None:
        self.runtime = runtime
        self.corpus = corpus
        self.extrapolated = False
        """Whether a size is larger than all that were timed."""
        kinds: dict[str, dict[tuple[int, int], Sized]] = {}
        for candidate, spent in sized:
            sizes = kinds.setdefault(_kind(candidate), {})
            sizes.setdefault((candidate.model.depth, spent.flops_per_step), (candidate, spent))
        self.num_sizes = sum(map(len, kinds.values()))
        self._timed: dict[str, list[Timing]] = {}
        started = time.perf_counter()
        for kind, (candidate, spent) in _representatives(kinds):
            if not self._timed or time.perf_counter() - started < SECONDS:
                timing = timed(candidate, spent, runtime, corpus)
                self._timed.setdefault(kind, []).append(timing)
        self.num_timed = sum(map(len, self._timed.values()))
        self._fits = {kind: _fit(timings) for kind, timings in self._timed.items()}
        self._any_fit = _fit([each for timings in self._timed.values() for each in timings])

    def seconds(self, candidate: Candidate, spent: Plan, windows: int) -> float:
        """Of a whole trial: training, and scoring of so many windows."""
        kind = _kind(candidate)
        timings = self._timed.get(kind, [])
        fit = self._fits.get(kind, self._any_fit)
        depth, flops = candidate.model.depth, spent.flops_per_step
        if flops > 1.01 * max((each.flops_per_step for each in timings), default=0):
            self.extrapolated = True
        known = [e for e in timings if (e.depth, e.flops_per_step) == (depth, flops)]
        step, window = (known[0].step, known[0].window) if known else fit @ (1, depth, flops)
        return float(spent.flops / flops * step + windows * window)


def timed(candidate: Candidate, spent: Plan, runtime: Runtime, corpus: Corpus) -> Timing:
    """Train and score for a moment, as a trial does after its warm-up of capacities."""
    model_config, optim = candidate.model, candidate.optim
    with _threads(runtime.threads):
        model = Decoder(model_config)
        trainer = Trainer(model, optim, spent, runtime, Path())
        trainer.step = spent.steps - 1
        batches = Batches(corpus.parts["train"], model_config.seq_len, optim.batch_size, 0)
        clock = _clock(runtime)
        # Whatever disturbs a step makes it longer: short ones tell more than the median.
        step = float(np.quantile(_durations(trainer, batches, clock), 0.25))
        windows = SCORING_BATCH if step < SECONDS_PER_SIZE / 8 else 1
        window = _window_seconds(model, corpus, windows, runtime.device, clock)
    return Timing(model_config.depth, spent.flops_per_step, step, window)


def _clock(runtime: Runtime) -> Callable[[], float]:
    alone = runtime.device == "cpu" and runtime.threads == 1
    return time.process_time if alone else time.perf_counter


def _durations(trainer: Trainer, batches: Batches, clock: Callable[[], float]) -> list[float]:
    """Of steps, the first ones left out."""
    seconds: list[float] = []
    step = 0
    while len(seconds) < FEWEST_STEPS or sum(seconds) < SECONDS_PER_SIZE:
        started = clock()
        _, norm = trainer.train_step(batches(step), step)
        norm.item()  # waits for a device
        if step >= WARM_STEPS:
            seconds.append(clock() - started)
        step += 1
    return seconds


def _window_seconds(
    model: Decoder, corpus: Corpus, windows: int, device: str, clock: Callable[[], float]
) -> float:
    try:
        tokens = corpus.windows(Validation(windows=windows), model.config.seq_len)
    except DataError:  # a stand-in corpus: the plan says so
        return 0.0
    score(model, tokens[:1], device)
    started = clock()
    score(model, tokens, device)
    return (clock() - started) / windows


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    """So many threads for torch, but never more than there are cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(wanted, cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _kind(candidate: Candidate) -> str:
    """What a step's time depends on beside depth and FLOPs."""
    config, optim = candidate.model, candidate.optim
    ffn = config.ffn.name if config.ffn else ""
    parts = (config.block.name, ffn, config.router.name, config.seq_len, optim.batch_size)
    return "/".join(map(str, parts))


def _representatives(
    kinds: dict[str, dict[tuple[int, int], Sized]],
) -> Iterator[tuple[str, Sized]]:
    """Of each kind the largest size that can be tried, then the smallest ones, then others
    between."""
    small = {
        kind: sorted(
            (each for each in sizes.values() if each[1].flops_per_step <= LARGEST_STEP),
            key=lambda each: each[1].flops_per_step,
        )
        for kind, sizes in kinds.items()
    }
    for kind, sizes in kinds.items():
        if not small[kind]:
            smallest = min(sizes.values(), key=lambda each: each[1].flops_per_step)
            small[kind] = [_stand_in(*smallest)]
    for place in (1.0, 0.0, 0.5):
        seen = {0.0: 1, 0.5: 2}.get(place, 0)
        for kind, sized in small.items():
            if len(sized) > seen:
                yield kind, sized[round(place * (len(sized) - 1))]


def _stand_in(candidate: Candidate, spent: Plan) -> Sized:
    """A candidate of the same parts, small enough to be tried: one sequence, narrow, shallow."""
    config = candidate.model
    unit = 2 * config.num_heads
    shape = {
        "width": min(config.width, max(unit, STAND_IN_WIDTH // unit * unit)),
        "depth": min(config.depth, max(2, config.every)),
    }
    smaller = candidate.model_copy(
        update={
            "model": config.model_copy(update=shape),
            "optim": candidate.optim.model_copy(
                update={"batch_size": 1, "min_steps": 1, "max_epochs": float("inf")}
            ),
        }
    )
    found = plan(smaller, Budget(flops=1e15), 1)
    return (smaller, found) if isinstance(found, Plan) else (candidate, spent)


def _fit(timings: list[Timing]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Seconds of a step and of a window (rows): fixed, for each layer and for each FLOP (columns);
    relative errors are least."""
    if not timings:
        return np.zeros((2, 3))
    shapes = np.array([(1, each.depth, each.flops_per_step) for each in timings], float)
    rows = []
    for seconds in ([each.step for each in timings], [each.window for each in timings]):
        inverse = 1 / np.maximum(seconds, 1e-9)
        scale = np.array([1.0, 1.0, 1e9])
        found, _ = nnls(shapes / scale * inverse[:, None], np.ones(len(timings)))
        rows.append(found / scale)
    return np.array(rows)
