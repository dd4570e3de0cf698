"""What does routing telemetry cost beside the training itself?

Trains one routed candidate at the quickstart's size and prints seconds of training, of scoring
without and with telemetry, and the share of training that telemetry adds. Best of five.

    python benchmarks/telemetry_cost.py [--flops 5e10] [--depth 2] [--width 20] [--windows 64]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from modsearch.config.data import Validation
from modsearch.config.model import ModelConfig
from modsearch.config.records import Budget, Candidate, Plan
from modsearch.config.runtime import Runtime
from modsearch.data.batches import Batches
from modsearch.data.corpus import load_corpus
from modsearch.nn.model import Decoder
from modsearch.nn.parts import completed
from modsearch.store.directory import StudyDirectory
from modsearch.training import scoring
from modsearch.training.budget import plan
from modsearch.training.scoring import Observer, score
from modsearch.training.trainer import Trainer

REPEATS = 5


class Idle(Observer):
    """Gathers nothing."""

    def __init__(self, model: Decoder) -> None:
        super().__init__(model)
        self._routed = False


def best(call: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flops", type=float, default=5e10)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--width", type=int, default=20)
    parser.add_argument("--windows", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = ModelConfig(depth=options.depth, width=options.width, block="mod")
    given = Candidate(model=completed(config))
    corpus = load_corpus(given.data)
    spent = plan(given, Budget(flops=options.flops), corpus.facts.train_tokens)
    assert isinstance(spent, Plan), spent
    model = Decoder(given.model)
    batches = Batches(corpus.parts["train"], given.model.seq_len, given.optim.batch_size, 0)
    windows = corpus.windows(Validation(windows=options.windows), given.model.seq_len)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, given.optim, spent, Runtime(), Path(folder))
        started = time.perf_counter()
        trainer.run(batches, seed=0)
        training = time.perf_counter() - started
        directory = StudyDirectory(Path(folder))

        def observed() -> None:
            routing = score(model, windows, "cpu").routing
            assert routing is not None
            directory.write_routing("trial", routing)

        whole = best(observed)
        scoring.Observer = Idle  # type: ignore[misc]  # the same passes, nothing gathered
        bare = best(lambda: score(model, windows, "cpu"))
    print(f"training {training:.2f} s, scoring {bare:.3f} s, with telemetry {whole:.3f} s")
    print(f"telemetry / training = {(whole - bare) / training:.2%}")


if __name__ == "__main__":
    main()
