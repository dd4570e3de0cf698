"""Is `plan` right about time? (About memory: benchmarks/memory.py.)

Trains some candidates for a moment, each in a process of its own as a worker does, and prints what
`plan` says beside what the trial took, in seconds.

    python benchmarks/plan.py [--steps 10]
"""

import argparse
import multiprocessing
import tempfile
from pathlib import Path

import torch

from modsearch.config.data import DataConfig, Validation
from modsearch.config.records import Budget, Candidate, Job, Plan, Record, Stage
from modsearch.config.runtime import Runtime
from modsearch.data.corpus import load_corpora, load_corpus
from modsearch.nn.model import Decoder
from modsearch.planning.speed import Speed
from modsearch.space.candidates import build
from modsearch.training.budget import plan
from modsearch.training.trial import run_trial

SHAPES: tuple[tuple[str, int, int, int, int], ...] = (
    ("dense", 2, 16, 256, 2),
    ("mod", 2, 32, 256, 2),
    ("dense", 4, 256, 256, 2),
    ("dense", 8, 512, 256, 2),
    ("dense", 4, 256, 1024, 8),
    ("mod", 4, 128, 512, 8),
    ("moe", 4, 128, 512, 8),
)
"""Block, depth, width, sequence length, sequences a step."""


def job(shape: tuple[str, int, int, int, int], steps: int) -> Job:
    """A training of so many steps."""
    block, depth, width, seq_len, batch_size = shape
    model = {"block": block, "depth": depth, "width": width, "seq_len": seq_len}
    optim = {"batch_size": batch_size, "min_steps": 1}
    candidate = build({"model": model, "optim": optim}, DataConfig())
    with torch.device("meta"):
        cost = Decoder(candidate.model).cost(seq_len)
    budget = Budget(flops=steps * batch_size * cost.training.total)
    facts = load_corpus(candidate.data).facts
    spent = plan(candidate, budget, facts.train_tokens)
    assert isinstance(spent, Plan), spent
    return Job(
        stage=Stage.MEASURE,
        arm=block,
        candidate=candidate,
        budget=budget,
        seed=0,
        validation=Validation(),
        fingerprint=facts.fingerprint,
        runtime=Runtime(checkpoint_seconds=0.5),
        plan=spent,
    )


def trained(job: Job) -> Record:
    """In this process."""
    with tempfile.TemporaryDirectory() as folder:
        return run_trial(Path(folder), job)


def said(job: Job) -> float:
    """Seconds of `plan`."""
    candidate: Candidate = job.candidate
    assert isinstance(job.plan, Plan)
    speed = Speed([(candidate, job.plan)], job.runtime, load_corpora(candidate.data, [256]))
    return speed.seconds(candidate, job.plan, job.validation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    steps = parser.parse_args().steps
    jobs = [job(shape, steps) for shape in SHAPES]
    print(f"{'block  L  width  T  B':24}{'s said':>10}{'took':>8}")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for shape, each in zip(SHAPES, jobs, strict=True):
            record = pool.apply(trained, (each,))
            assert record.scores is not None, record.reason
            named = " ".join(map(str, shape))
            print(f"{named:24}{said(each):10.2f}{record.scores.seconds:8.2f}", flush=True)


if __name__ == "__main__":
    main()
