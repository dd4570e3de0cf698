"""Seconds of training steps and of decoded tokens, taken in turns.

A ratio of two speeds is right when both were measured at the same time, so all works have a turn
before any has its next, forwards and backwards in every other round; drift of the machine then
hits all alike.

Shapes: B sequences at once, N windows of text, T positions.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from modsearch.config.data import Validation
from modsearch.config.records import Record
from modsearch.config.runtime import Runtime
from modsearch.config.speeds import Decoded, Speeds, Timed
from modsearch.data.corpus import Corpora, Corpus
from modsearch.errors import StudyError
from modsearch.nn.generate import Decoding
from modsearch.nn.model import Decoder
from modsearch.training.checkpoint import load_model
from modsearch.training.machine import wait
from modsearch.training.trainer import Trainer
from modsearch.training.trial import threads

BATCH_SIZES = (1, 16)
"""Of decoding."""
MOST_TOKENS = 32
"""Of a sequence that a pass of decoding times; a quarter of the positions at most."""

Work = Callable[[int], float]
"""Does something so many times, and says how many seconds one of them took."""


@dataclass(frozen=True)
class Winner:
    """What stands for an arm at a budget."""

    record: Record
    weights: Path | None
    """Folder of its checkpoint; None where that was not kept."""


def in_turns(
    works: Sequence[Work], rounds: int, seconds: float, told: Callable[[int], None]
) -> dict[Work, list[float]]:
    """Seconds of each work, one value a round.

    Args:
        works: what is measured, each once.
        rounds: turns of each work.
        seconds: of a turn, about.
        told: is given the number of each round that has ended, from 1.
    """
    repeats = {}
    for work in works:
        work(1)  # the first pays for allocations
        started = time.perf_counter()
        work(1)
        repeats[work] = max(1, round(seconds / max(time.perf_counter() - started, 1e-9)))
    found: dict[Work, list[float]] = {work: [] for work in works}
    for number in range(rounds):
        for work in works[:: -1 if number % 2 else 1]:
            found[work].append(work(repeats[work]))
        told(number + 1)
    return found


class Steps:
    """Training steps of one trial, as they are after any warm-up of capacities."""

    def __init__(self, record: Record, model: Decoder, runtime: Runtime, corpus: Corpus) -> None:
        assert record.plan is not None
        optim, config = record.candidate.optim, record.candidate.model
        self.trainer = Trainer(model.train(), optim, record.plan, runtime, Path())
        self.trainer.step = record.plan.steps - 1
        self.batches = corpus.batches(config.seq_len, optim.batch_size, record.seed)
        self.device = runtime.device
        self.done = 0
        self.peak_memory: int | None = None
        """Of the last turn on CUDA, with what the training holds between steps."""

    def __call__(self, repeats: int) -> float:
        """Seconds of a step."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        wait(self.device)
        started = time.perf_counter()
        for _ in range(repeats):
            self.trainer.train_step(self.batches(self.done), self.done)
            self.done += 1
        wait(self.device)
        spent = time.perf_counter() - started
        if self.device == "cuda":
            rose = torch.cuda.max_memory_allocated() - before
            self.peak_memory = rose + self._held()
        return spent / repeats

    def _held(self) -> int:
        """Bytes of weights, buffers and moments."""
        moments = self.trainer.optimizer.state_dict()["state"].values()
        tensors = [*self.trainer.model.state().values()]
        tensors += [each for state in moments for each in state.values()]
        return sum(each.nbytes for each in tensors if each.is_cuda)


class Passes:
    """Decoding of the last tokens of windows, each after those before it in the window: no
    position is beyond what the model was trained on."""

    def __init__(
        self, model: Decoder, tokens_NT: Tensor, batch_size: int, num_tokens: int
    ) -> None:
        self.model = model
        self.tokens_NT = tokens_NT
        self.batch_size = batch_size
        self.num_tokens = num_tokens
        self.context = tokens_NT.shape[1] - num_tokens
        self.cache_bytes: list[float] = []
        """Of a sequence, at the end of each pass of the last turn."""

    def __call__(self, repeats: int) -> float:
        """Seconds of a token of all sequences; what stands before them is not timed."""
        spent = 0.0
        self.cache_bytes = []
        for number in range(repeats):
            rows_B = torch.arange(self.batch_size) + number * self.batch_size
            tokens_BT = self.tokens_NT[rows_B % len(self.tokens_NT)]
            decoding = Decoding(self.model, self.batch_size)
            decoding.extend(tokens_BT[:, : self.context])
            wait(tokens_BT.device.type)
            started = time.perf_counter()
            for t in range(self.context, tokens_BT.shape[1]):
                decoding.extend(tokens_BT[:, t : t + 1])
            wait(tokens_BT.device.type)
            spent += time.perf_counter() - started
            self.cache_bytes.append(decoding.cache_bytes / self.batch_size)
        return spent / (repeats * self.num_tokens)


@dataclass(frozen=True)
class _Works:
    """What is timed of one winner."""

    winner: Winner
    steps: Steps
    passes: Sequence[Passes]
    parameter_bytes: int
    size: float
    """Of a token, in the unit of the study."""


def measure(
    study: str,
    winners: Sequence[Winner],
    runtime: Runtime,
    corpora: Corpora,
    *,
    rounds: int,
    seconds: float,
    told: Callable[[str], None],
) -> Speeds:
    """Time winners, those of one budget together.

    Args:
        study: its name.
        winners: of all arms and budgets.
        runtime: device, precision, threads and passes of a step, as the study has them.
        corpora: the study's.
        rounds: turns of each arm.
        seconds: of a turn, about.
        told: is given a line for each round.

    Raises:
        StudyError: the device is not there, or a checkpoint is damaged.
        DataError: the text is too short.
    """
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise StudyError(
            f"study {study} was trained on `cuda`, but torch sees none here\n"
            f"time it on a machine of that kind"
        )
    load_before = _load()
    arms: list[Timed] = []
    with threads(runtime.threads):
        for budget in sorted({winner.record.budget.flops for winner in winners}):
            here = [each for each in winners if each.record.budget.flops == budget]
            works = [
                _works(winner, runtime, corpora.of(winner.record.candidate.model))
                for winner in here
            ]
            arms += _timed(works, rounds, seconds, told)
    cuda = runtime.device == "cuda"
    return Speeds(
        study=study,
        device=runtime.device,
        machine=torch.cuda.get_device_name() if cuda else processor(),
        precision=runtime.precision,
        threads=runtime.threads,
        cores=os.cpu_count() or 1,
        torch=torch.__version__,
        rounds=rounds,
        seconds=seconds,
        load_before=load_before,
        load_after=_load(),
        arms=arms,
        unit=winners[0].record.unit,
    )


def processor() -> str:
    """Name of this machine's processor."""
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _load() -> float | None:
    with suppress(OSError):
        return os.getloadavg()[0]
    return None


def _works(winner: Winner, runtime: Runtime, corpus: Corpus) -> _Works:
    """Two copies of the model where it decodes, too: training moves the weights."""
    config = winner.record.candidate.model
    passes: list[Passes] = []
    if winner.weights is None:
        model = Decoder(config)
    else:
        model = load_model(winner.weights, runtime.device)
        tokens_NT = _windows(corpus, config.seq_len).to(runtime.device)
        decoder = load_model(winner.weights, runtime.device)
        num_tokens = max(1, min(MOST_TOKENS, config.seq_len // 4))
        passes = [Passes(decoder, tokens_NT, size, num_tokens) for size in BATCH_SIZES]
    held = sum(parameter.nbytes for parameter in model.parameters())
    steps = Steps(winner.record, model, runtime, corpus)
    size = corpus.facts.size(winner.record.unit, "test")
    return _Works(winner, steps, passes, held, size)


def _windows(corpus: Corpus, seq_len: int) -> Tensor:
    """Test text (N, T), as many windows as the largest batch, or all that there are."""
    most = corpus.num_windows(Validation(part="test"), seq_len)
    sample = Validation(part="test", windows=min(max(BATCH_SIZES), most))
    return torch.from_numpy(corpus.windows(sample, seq_len)[:, :seq_len]).long()


def _timed(
    works: Sequence[_Works], rounds: int, seconds: float, told: Callable[[str], None]
) -> list[Timed]:
    """Of one budget: steps of all arms, then decoding of all at one batch size, and so on."""
    turns: list[Work] = [each.steps for each in works]
    for place in range(len(BATCH_SIZES)):
        turns += [each.passes[place] for each in works if each.passes]
    where = f"{works[0].winner.record.budget.flops:.3g} FLOPs, {len(works)} arms"
    found = in_turns(
        turns, rounds, seconds, lambda number: told(f"{where}: round {number} of {rounds}")
    )
    return [_result(each, found) for each in works]


def _result(works: _Works, found: Mapping[Work, list[float]]) -> Timed:
    record = works.winner.record
    assert record.plan is not None
    return Timed(
        arm=record.arm,
        budget=record.budget.flops,
        trial=record.hash,
        depth=record.candidate.model.depth,
        width=record.candidate.model.width,
        parameter_bytes=works.parameter_bytes,
        flops_per_step=record.plan.flops_per_step,
        step_seconds=found[works.steps],
        decoded=[
            Decoded(
                batch_size=each.batch_size,
                context=each.context,
                tokens=each.num_tokens,
                seconds=[seconds / works.size for seconds in found[each]],
                cache_bytes=fmean(each.cache_bytes),
            )
            for each in works.passes
        ],
        missing=None if works.passes else f"weights of trial {record.hash} were not kept",
        peak_memory=works.steps.peak_memory,
    )
