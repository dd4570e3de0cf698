"""Tables of real trials, on which searches are replayed without training anything.

A table has every configuration of a space at `BUDGETS`, a ninth of the last one among them, with
one seed; the better `REPEATED` of them, by that seed at the last budget, have three there.

    python benchmarks/search/tables.py train SPACE --corpus TEXT --out DIR [--workers 2]
    python benchmarks/search/tables.py pack SPACE --corpus TEXT --out DIR

`train` goes on where it was stopped; `pack` writes `SPACE.csv.gz` beside this script, and refuses
a table that is not complete.
"""

import argparse
import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from modsearch.config.data import DataConfig, Validation
from modsearch.config.records import Budget, Job, Plan, Record, Stage, State
from modsearch.config.runtime import Runtime, Signal
from modsearch.data.corpus import load_corpus
from modsearch.engines.local import LocalEngine
from modsearch.space.axes import OpenTree
from modsearch.space.candidates import build
from modsearch.space.points import at_point, grid
from modsearch.store.directory import StudyDirectory
from modsearch.training.budget import plan
from modsearch.training.trial import run_trial

FOLDER = Path(__file__).parent
BUDGETS = {"recipes": (3.4e9, 3.06e10), "rates": (3.4e9, 1.02e10, 3.06e10)}
SEEDS = 3
REPEATED = 0.1
"""Share of the configurations that have so many seeds."""

FIXED = {"vocab_size": 256, "seq_len": 64, "num_heads": 2}
OPTIM = {"batch_size": 4, "min_steps": 20}

SPACES: dict[str, dict[str, Any]] = {
    # Which recipe of Mixture-of-Depths, and which size?
    "recipes": {
        "model": {
            **FIXED,
            "block": "mod",
            "router": {"choice": ["expert_choice", "threshold", "random"]},
            "capacity": {"choice": [0.125, 0.25, 0.5]},
            "every": 2,
        },
        "optim": {**OPTIM, "rate": {"choice": [0.005, 0.01]}},
        "size": {"depth": {"choice": [2, 3]}, "width": {"choice": [16, 20, 24, 28, 32]}},
    },
    # Dense or not, and how is it trained?
    "rates": {
        "model": {**FIXED, "block": {"choice": ["dense", "mod"]}, "capacity": 0.25, "every": 2},
        "optim": {
            **OPTIM,
            "rate": {"choice": [0.0025, 0.005, 0.01, 0.02]},
            "warmup": {"choice": [0.02, 0.1]},
        },
        "size": {"depth": {"choice": [2, 3]}, "width": {"choice": [16, 20, 24, 28, 32]}},
    },
}


@dataclass(frozen=True)
class Row:
    """One trial of a table."""

    point: dict[str, Any]
    """Labels by the path of an axis."""
    budget: float
    """FLOPs that were asked for."""
    seed: int
    loss: float
    """Causal, nats per token."""
    flops: float
    """Training FLOPs that were spent."""
    params: int


def key_of(point: Mapping[str, Any]) -> str:
    """The same for the same values of all axes."""
    return json.dumps(point, sort_keys=True)


def tree_of(space: str) -> OpenTree:
    """The open tree of a space."""
    return OpenTree(SPACES[space])


def read_table(space: str, folder: Path = FOLDER) -> list[Row]:
    """The rows of a packed table, in the order of its space's grid."""
    rows = []
    with gzip.open(folder / f"{space}.csv.gz", "rt", newline="") as file:
        for line in csv.DictReader(file):
            rows.append(
                Row(
                    point=json.loads(line["point"]),
                    budget=float(line["budget"]),
                    seed=int(line["seed"]),
                    loss=float(line["loss"]),
                    flops=float(line["flops"]),
                    params=int(line["params"]),
                )
            )
    return rows


class Training:
    """The trials of one table, and what has become of them."""

    def __init__(self, space: str, corpus: str, out: Path) -> None:
        self.tree = tree_of(space)
        self.budgets = BUDGETS[space]
        self.data = DataConfig(corpus=corpus)
        self.facts = load_corpus(self.data).facts
        self.study = StudyDirectory(out)
        self.out = out
        self.points = list(grid(self.tree))

    def job(self, point: Mapping[str, Any], budget: float, seed: int) -> Job:
        """One trial."""
        candidate = build(at_point(self.tree, point), self.data)
        spent = plan(candidate, Budget(flops=budget), self.facts.train_tokens)
        assert isinstance(spent, Plan), spent
        return Job(
            stage=Stage.EXPLORE,
            arm="all",
            candidate=candidate,
            budget=Budget(flops=budget),
            seed=seed,
            validation=Validation(windows=256),
            fingerprint=self.facts.fingerprint,
            runtime=Runtime(),
            plan=spent,
        )

    def record(self, job: Job) -> Record | None:
        """What became of a trial; None where it was not trained yet."""
        found = self.study.finished(job.hash)
        assert found is None or found.state is State.COMPLETE, found
        return found

    def loss(self, point: Mapping[str, Any], seed: int) -> float:
        """Of a finished trial at the last budget."""
        found = self.record(self.job(point, self.budgets[-1], seed))
        assert found is not None
        assert found.scores is not None
        return found.scores.causal_loss

    def best(self) -> list[dict[str, Any]]:
        """The configurations that are worth more seeds."""
        ranked = sorted((self.loss(point, 0), place) for place, point in enumerate(self.points))
        return [self.points[place] for _, place in ranked[: round(REPEATED * len(ranked))]]

    def rounds(self) -> Iterator[list[Job]]:
        """What to train, one round after the other: the second one needs the results of the
        first."""
        *small, large = self.budgets
        yield [self.job(point, large, 0) for point in self.points]
        yield [self.job(point, large, seed) for seed in range(1, SEEDS) for point in self.best()]
        for budget in small:
            yield [self.job(point, budget, 0) for point in self.points]

    def train(self, workers: int) -> None:
        """Train what is missing."""
        engine = LocalEngine(partial(run_trial, self.out), workers, 1)
        with engine.started():
            for place, jobs in enumerate(self.rounds()):
                todo = [job for job in jobs if self.record(job) is None]
                waiting = iter(sorted(todo, key=lambda job: -job.seconds))
                ended = []

                def on_record(
                    job: Job, record: Record, place: int = place, ended: list[str] = ended
                ) -> None:
                    ended.append(job.hash)
                    print(f"round {place + 1}: {len(ended)} trained", flush=True)

                engine.run(lambda waiting=waiting: next(waiting, Signal.DONE), on_record)

    def rows(self) -> Iterator[Row]:
        """All of a complete table."""
        for jobs in self.rounds():
            for job in jobs:
                found = self.record(job)
                assert found is not None, "this table is not complete: train it to its end"
        for point in self.points:
            for budget in self.budgets:
                for seed in range(SEEDS):
                    found = self.record(self.job(point, budget, seed))
                    if found is not None:
                        assert found.scores is not None
                        assert found.plan is not None
                        yield Row(
                            point,
                            budget,
                            seed,
                            found.scores.causal_loss,
                            found.plan.flops,
                            found.plan.params,
                        )


def pack(training: Training, path: Path) -> int:
    """Write a complete table, the same bytes for the same records; answers how many rows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["point", "budget", "seed", "loss", "flops", "params"])
    count = 0
    for count, row in enumerate(training.rows(), 1):  # noqa: B007
        loss = f"{row.loss:.6f}"
        writer.writerow([key_of(row.point), row.budget, row.seed, loss, row.flops, row.params])
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "pack"])
    parser.add_argument("space", choices=SPACES)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    training = Training(options.space, options.corpus, options.out)
    if options.what == "train":
        training.train(options.workers)
    else:
        count = pack(training, FOLDER / f"{options.space}.csv.gz")
        print(f"{count} trials of {len(training.points)} configurations")


if __name__ == "__main__":
    main()
