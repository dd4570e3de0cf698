"""What does the local engine cost beside the training itself?

Runs one measure-only study of at least 24 trials and prints wall time / (sum of trial seconds /
workers), after the workers have started. Trial seconds include validation. 1.00 would be an
engine, a ledger and a disk that take no time, and trials that end together.

    python benchmarks/engine_overhead.py [--budget 3e10] [--workers 2]
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from modsearch.engines.local import LocalEngine
from modsearch.schema import Signal, Stage
from modsearch.space import Space
from modsearch.study import Driver, Study
from modsearch.trial import run_trial

WIDTHS = list(range(12, 64, 4))


def space(budget: float, workers: int) -> Space:
    """Two arms on thirteen sizes."""
    return Space.model_validate(
        {
            "name": "overhead",
            "fixed": {"optim": {"min_steps": 20}},
            "arms": {
                "dense": {"model": {"block": "dense"}},
                "mod": {"model": {"block": "mod", "capacity": 0.125}},
            },
            "measure": {"ladder": [{"budget": budget, "depth": 2, "widths": WIDTHS}]},
            "resources": {"workers": workers},
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=3e10)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Study(space(options.budget, options.workers), Path(folder) / "study")
        driver = Driver(study, study.cell_specs(Stage.MEASURE))
        first = study.job(driver.cells[0].spec, _smallest(study))
        root, threads = study.directory.root, study.manifest.runtime.threads
        engine = LocalEngine(partial(run_trial, root), study.workers, threads)
        with engine.started():
            # One training a worker, of different seeds: imports and first calls are paid here.
            update = {"stage": Stage.EXPLORE}
            jobs = iter(
                [first.model_copy(update={**update, "seed": n}) for n in range(study.workers)]
            )
            engine.run(lambda: next(jobs, Signal.DONE), lambda job, record: None)
            started = time.perf_counter()
            engine.run(driver.next_job, driver.on_record)
            wall = time.perf_counter() - started
        records = study.directory.records()
        trained = [r.scores.seconds for r in records if r.scores and r.stage is Stage.MEASURE]
    share = sum(trained) / study.workers
    print(
        f"{len(trained)} trials, {study.workers} workers: wall {wall:.1f} s, trial seconds / "
        f"workers {share:.1f} s, ratio {wall / share:.3f}"
    )


def _smallest(study: Study) -> dict[str, object]:
    return {**study.recipe("dense"), "size": {"depth": 2, "width": WIDTHS[-1]}}


if __name__ == "__main__":
    main()
