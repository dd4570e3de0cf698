"""How long this machine takes: a few of a study's own sizes are trained for a moment, and the
others follow from them.

A step takes a fixed time, a time for each layer and a time for each FLOP; they are fitted to what
was timed, for each kind of candidate. A size that is too large to try is timed as a smaller
stand-in, or not at all where there is none. On one CPU thread it is the processor's time that
counts, so that other programs which run meanwhile do not.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from modsearch.config.data import Validation
from modsearch.config.model import Component
from modsearch.config.records import Budget, Candidate, Plan
from modsearch.config.runtime import Runtime
from modsearch.data.batches import Batches
from modsearch.data.corpus import Corpora, Corpus
from modsearch.errors import ConfigError, DataError
from modsearch.nn.model import Decoder
from modsearch.nn.parts import completed
from modsearch.planning.memory import Sized, rough_memory
from modsearch.training.budget import plan
from modsearch.training.machine import cores, free_memory
from modsearch.training.scoring import (
    OBSERVED_WINDOWS,
    causal_losses,
    score,
    windows_at_once,
)
from modsearch.training.trainer import Trainer

LARGEST_STEP = 2e10
"""FLOPs of the largest step that is tried, about half a second on one core."""
MEMORY_SHARE = 0.5
"""Of the free memory, which what is tried may take."""
STAND_IN_WIDTH = 256
SHORT_VOCABULARY = 256
STAND_IN_TOKENS = 16
"""A stand-in's sequence is not shorter."""
WARM_STEPS = 3
FEWEST_STEPS = 5
SECONDS_PER_SIZE = 0.4
MOST_SECONDS_PER_SIZE = 2.0
"""After so many no further step of a size is timed."""
SECONDS = 12.0
"""No size is timed that would probably end later."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one training step, of scoring one window with what is observed there, and of
    its causal loss alone."""

    depth: int
    flops_per_step: float
    step: float
    window: float
    causal_window: float
    batch_size: int = 1

    @property
    def shape(self) -> tuple[int, float]:
        """What it was timed for: depth and FLOPs of a step."""
        return self.depth, self.flops_per_step


class Speed:
    """Seconds of trainings on this machine, one at a time."""

    def __init__(self, sized: Iterable[Sized], runtime: Runtime, corpora: Corpora) -> None:
        self.runtime = runtime
        self.corpora = corpora
        kinds: dict[str, dict[tuple[int, int], Sized]] = {}
        for candidate, spent in sized:
            sizes = kinds.setdefault(_kind(candidate), {})
            sizes.setdefault((candidate.model.depth, spent.flops_per_step), (candidate, spent))
        self.num_sizes = sum(map(len, kinds.values()))
        small = {kind: _tried(list(sizes.values()), runtime) for kind, sizes in kinds.items()}
        self._timed: dict[str, list[Timing]] = {}
        started = time.perf_counter()
        taken = longest = 0.0
        for kind, (candidate, spent) in _representatives(small):
            if taken + longest < SECONDS:
                timing = timed(candidate, spent, runtime, corpora.of(candidate.model))
                self._timed.setdefault(kind, []).append(timing)
                before, taken = taken, time.perf_counter() - started
                longest = max(longest, taken - before)
        self.num_timed = sum(map(len, self._timed.values()))
        self.guessed = sorted(kinds.keys() - self._timed.keys())
        """Kinds of which nothing was timed."""
        largest = {
            kind: max(each.flops_per_step for each in timings)
            for kind, timings in self._timed.items()
        }
        self.extrapolated = any(
            flops > 1.01 * largest.get(kind, 0)
            for kind, sizes in kinds.items()
            for _, flops in sizes
        )
        """Whether a size is larger than all that were timed of its kind."""
        self._fits = {kind: _fit(timings) for kind, timings in self._timed.items()}
        self._any_fit = _fit([each for timings in self._timed.values() for each in timings])

    def seconds(self, candidate: Candidate, spent: Plan, sample: Validation) -> float:
        """Of a whole trial: training, and scoring of a sample."""
        if not self._timed:
            return spent.seconds
        kind = _kind(candidate)
        fit = self._fits.get(kind, self._any_fit)
        depth, flops = candidate.model.depth, spent.flops_per_step
        known = [e for e in self._timed.get(kind, []) if e.shape == (depth, flops)]
        if known:
            [one] = known
            step, window, causal_window = one.step, one.window, one.causal_window
        else:
            step = float(fit[0] @ (1, depth, flops))
            window, causal_window = fit[1:] @ (1, depth, flops / candidate.optim.batch_size)
        corpus = self.corpora.of(candidate.model)
        num_windows = corpus.num_windows(sample, candidate.model.seq_len)
        observed = min(num_windows, OBSERVED_WINDOWS)
        scoring = observed * window + (num_windows - observed) * causal_window
        return float(spent.flops / flops * step / self.runtime.ranks + scoring)


def timed(candidate: Candidate, spent: Plan, runtime: Runtime, corpus: Corpus) -> Timing:
    """Train and score for a moment, as a trial does after its warm-up of capacities."""
    model_config, optim = candidate.model, candidate.optim
    with _threads(runtime.threads):
        model = Decoder(model_config)
        trainer = Trainer(model, optim, spent, runtime, Path())
        trainer.step = spent.steps - 1
        batches = corpus.batches(model_config.seq_len, optim.batch_size, 0)
        clock = _clock(runtime)
        # Whatever disturbs a step makes it longer: short ones tell more than the median.
        step = float(np.quantile(_durations(trainer, batches, clock), 0.25))
        at_once = windows_at_once(model_config.seq_len)
        windows = at_once if step < SECONDS_PER_SIZE / 8 else 1
        scoring = _window_seconds(model, corpus, windows, runtime.device, clock)
    return Timing(model_config.depth, spent.flops_per_step, step, *scoring, optim.batch_size)


def _clock(runtime: Runtime) -> Callable[[], float]:
    alone = runtime.device == "cpu" and runtime.threads == 1
    return time.process_time if alone else time.perf_counter


def _durations(trainer: Trainer, batches: Batches, clock: Callable[[], float]) -> list[float]:
    """Of steps, the first ones left out unless steps take too long for more."""
    seconds: list[float] = []
    began = time.perf_counter()
    while True:
        started = clock()
        _, norm = trainer.train_step(batches(len(seconds)), len(seconds))
        norm.item()  # waits for a device
        seconds.append(clock() - started)
        warm = seconds[WARM_STEPS:]
        enough = len(warm) >= FEWEST_STEPS and sum(warm) >= SECONDS_PER_SIZE
        if enough or time.perf_counter() - began > MOST_SECONDS_PER_SIZE:
            return warm or seconds[-1:]


def _window_seconds(
    model: Decoder, corpus: Corpus, windows: int, device: str, clock: Callable[[], float]
) -> tuple[float, float]:
    """Of a window that is observed, and of one whose causal loss is all that is asked."""
    try:
        tokens = corpus.windows(Validation(windows=windows), model.config.seq_len)
    except DataError:  # a stand-in corpus: the plan says so
        return 0.0, 0.0
    started = clock()
    score(model, tokens[:1], device)
    first = clock() - started
    if first > MOST_SECONDS_PER_SIZE / 2:
        return first, first / 2
    started = clock()
    score(model, tokens, device)
    scored = clock()
    causal_losses(model, tokens, device)
    return (scored - started) / windows, (clock() - scored) / windows


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
    parts = [config.block.name, ffn, config.router.name, config.seq_len, optim.batch_size]
    return "/".join(map(str, [*parts, optim.optimizer.name]))


def _tried(sizes: list[Sized], runtime: Runtime) -> list[Sized]:
    """Sizes of one kind that are small enough to be tried, in order, or a stand-in for them; none
    where there is neither."""
    small = [each for each in sizes if _is_small(*each, runtime)]
    if small:
        return sorted(small, key=lambda each: each[1].flops_per_step)
    candidate, _ = min(sizes, key=lambda each: each[1].flops_per_step)
    found = _stand_in(candidate, runtime)
    return [found] if found else []


def _is_small(candidate: Candidate, spent: Plan, runtime: Runtime) -> bool:
    """Whether it can be tried in a moment, in the memory that is free."""
    room = MEMORY_SHARE * free_memory(runtime.device)
    needed = rough_memory(candidate, spent.params, runtime)
    return spent.flops_per_step <= LARGEST_STEP and needed <= room


def _representatives(small: dict[str, list[Sized]]) -> Iterator[tuple[str, Sized]]:
    """Of each kind the largest of the sizes that are tried, then the smallest ones, then others
    between."""
    for place, fewest in ((1.0, 1), (0.0, 2), (0.5, 3)):
        for kind, sized in small.items():
            if len(sized) >= fewest:
                yield kind, sized[round(place * (len(sized) - 1))]


def _stand_in(candidate: Candidate, runtime: Runtime) -> Sized | None:
    """A candidate of the same parts, small enough to be tried: one sequence, narrow, shallow, and
    as much shorter or of fewer tokens as it takes. None where there is none."""
    config = candidate.model
    unit = 2 * config.num_heads
    model = config.model_copy(
        update={
            "width": min(config.width, max(unit, STAND_IN_WIDTH // unit * unit)),
            "depth": min(config.depth, 2),
            "every": min(config.every, 2),
            # Another schedule may need the layers that are left out.
            "schedule": Component(name="every_nth"),
        }
    )
    one = {"batch_size": 1, "min_steps": 1, "max_epochs": float("inf")}
    optim = candidate.optim.model_copy(update=one)
    while True:
        try:
            smaller = candidate.model_copy(update={"model": completed(model), "optim": optim})
        except ConfigError:
            return None
        found = plan(smaller, Budget(flops=1e20), 1, 1)
        if not isinstance(found, Plan):
            return None
        if _is_small(smaller, found, runtime):
            return smaller, found
        if model.vocab_size > max(SHORT_VOCABULARY, model.seq_len):
            shorter = {"vocab_size": max(SHORT_VOCABULARY, model.vocab_size // 2)}
        elif model.seq_len > STAND_IN_TOKENS:
            shorter = {"seq_len": max(STAND_IN_TOKENS, model.seq_len // 2)}
        else:
            return None
        model = model.model_copy(update=shorter)


def _fit(timings: list[Timing]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Seconds of a step, of a window and of its causal loss alone (rows): fixed, for each layer
    and for each FLOP of its sequences' training (columns); relative errors are least."""
    if not timings:
        return np.zeros((3, 3))
    if len(timings) == 1:  # which can not tell them apart: what is larger takes as much longer
        [one] = timings
        of_windows = (one.window * one.batch_size, one.causal_window * one.batch_size)
        per_flop = np.array([one.step, *of_windows]) / one.flops_per_step
        return np.outer(per_flop, [0.0, 0.0, 1.0])
    rows = []
    for values in (
        [(each.depth, each.flops_per_step, each.step) for each in timings],
        [(each.depth, each.flops_per_step / each.batch_size, each.window) for each in timings],
        [
            (each.depth, each.flops_per_step / each.batch_size, each.causal_window)
            for each in timings
        ],
    ):
        depths, flops, seconds = np.array(values, float).T
        shapes = np.stack([np.ones_like(depths), depths, flops / 1e9], axis=1)
        inverse = 1 / np.maximum(seconds, 1e-9)
        found, _ = nnls(shapes * inverse[:, None], np.ones(len(timings)))
        rows.append(found / (1.0, 1.0, 1e9))
    return np.array(rows)
