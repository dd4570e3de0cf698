"""Is the memory that `plan` foretells what a trial takes?

Each shape is trained for some steps in a process of its own, as a worker does, with a checkpoint;
printed are, in MiB, what the process had before (after a first tiny training), what `plan` says
that the trial takes beside that, how far the resident memory rose above it at the most (VmHWM),
and two ratios of said to taken: of the trial, and of the whole process, which is what `plan` tells
and a machine must have. On CUDA all is the device's (`max_memory_allocated`). Ends with exit code
1 where a ratio of a whole process is off by more than `--most`.

    python benchmarks/memory.py [--device cuda] [--steps 8] [--most 0.15]
"""

import argparse
import multiprocessing
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from modsearch.config.data import DataConfig, Validation
from modsearch.config.records import Budget, Job, Plan, Stage
from modsearch.config.runtime import Runtime
from modsearch.data.corpus import load_corpus
from modsearch.planning.memory import memory
from modsearch.planning.room import FIRST_TRAINING_BYTES, own_memory
from modsearch.space.candidates import build
from modsearch.training.budget import plan
from modsearch.training.machine import forget_peak, peak_memory
from modsearch.training.trial import run_trial

MIB = 2**20


class Shape(NamedTuple):
    """What is trained."""

    block: str
    depth: int
    width: int
    seq_len: int
    batch_size: int
    vocab_size: int = 256
    micro_batch: int | None = None
    optimizer: str = "adamw"


TINY = Shape("dense", 1, 16, 64, 2)
SHAPES = (
    Shape("dense", 2, 64, 256, 8),
    Shape("dense", 8, 256, 512, 4),
    Shape("dense", 2, 256, 1024, 4),
    Shape("dense", 4, 512, 256, 2),
    Shape("dense", 4, 512, 256, 2, optimizer="muon"),
    Shape("dense", 8, 256, 512, 8, micro_batch=2),
    Shape("dense", 2, 128, 512, 8, 8_000),
    Shape("dense", 4, 128, 256, 8, 50_000),
    Shape("mod", 4, 128, 512, 8),
    Shape("mod", 8, 256, 512, 4),
    Shape("moe", 4, 128, 512, 8),
    Shape("mode_staged", 4, 128, 512, 8),
    Shape("mode_integrated", 4, 128, 512, 8),
)


class Took(NamedTuple):
    """Bytes."""

    before: int
    said: int
    rose: int


def job(shape: Shape, device: str, steps: int) -> Job:
    """A training of so many steps."""
    model: Mapping[str, Any] = {
        "block": shape.block, "depth": shape.depth, "width": shape.width,
        "seq_len": shape.seq_len, "vocab_size": shape.vocab_size,
    }  # fmt: skip
    optim = {"batch_size": shape.batch_size, "min_steps": 1, "optimizer": shape.optimizer}
    candidate = build({"model": model, "optim": optim}, DataConfig())
    facts = load_corpus(candidate.data).facts
    budget = Budget(flops=1e24)
    spent = plan(candidate, budget, 10**30, facts.vocab_size)
    assert isinstance(spent, Plan), spent
    return Job(
        stage=Stage.MEASURE,
        arm=shape.block,
        candidate=candidate,
        budget=budget,
        seed=0,
        validation=Validation(windows=32),
        fingerprint=facts.fingerprint,
        runtime=Runtime.model_validate(
            {"device": device, "micro_batch": shape.micro_batch, "checkpoint_seconds": 0}
        ),
        plan=spent.model_copy(update={"steps": steps}),
    )


def took(shape: Shape, device: str, steps: int) -> Took:
    """In this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run_trial(Path(folder) / "tiny", job(TINY, device, 2))
        forget_peak("cpu")
        before = peak_memory() if device == "cpu" else torch.cuda.memory_allocated()
        given = job(shape, device, steps)
        record = run_trial(Path(folder) / "study", given)
    assert record.scores is not None, record.reason
    assert record.scores.peak_memory is not None
    said = memory(given.candidate, given.runtime).peak
    return Took(before, said, record.scores.peak_memory - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--most", type=float, default=0.15)
    asked = parser.parse_args()
    if asked.device == "cpu":
        base = (own_memory() + FIRST_TRAINING_BYTES) / MIB
        print(f"a process by itself: {base:.0f} MiB as said here; the first column has what was")
    print(f"{'shape':56}{'before':>8}{'said':>8}{'took':>8}{'ratio':>8}{'whole':>8}")
    worst = 0.0
    for shape in SHAPES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(took, (shape, asked.device, asked.steps))
        ratio = found.said / found.rose
        whole = (found.before + found.said) / (found.before + found.rose)
        worst = max(worst, abs(whole - 1))
        named = " ".join(f"{value}" for value in shape if value is not None)
        print(
            f"{named:56}{found.before / MIB:8.0f}{found.said / MIB:8.0f}{found.rose / MIB:8.0f}"
            f"{ratio:8.2f}{whole:8.2f}",
            flush=True,
        )
    print(f"the largest error is {worst:.1%} of what a process took")
    sys.exit(worst > asked.most)


if __name__ == "__main__":
    main()
