"""What do the engines cost beside the training itself?

Runs one measure-only study of 26 trials under each engine and prints wall time / (sum of trial
seconds / workers), from the moment at which every worker has begun its first trial; what came
before is start-up, and is printed beside it. Trial seconds include validation. 1.00 would be an
engine, a ledger and a disk that take no time, and trials that end together.

    python benchmarks/engine_overhead.py [--budget 3e10] [--workers 2] [--engines local ray]
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from modsearch.config.records import Stage
from modsearch.engines.contract import MakeEngine
from modsearch.engines.local import local
from modsearch.engines.ray import RayEngine
from modsearch.space.space import Space
from modsearch.study.runner import Runner

WIDTHS = list(range(12, 64, 4))
ENGINES: dict[str, MakeEngine] = {"local": local, "ray": partial(RayEngine, address=None)}


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


def measure(name: str, budget: float, workers: int, root: Path) -> str:
    """One engine's line."""
    study = Runner(space(budget, workers), root / name, make_engine=ENGINES[name])
    called = time.time()
    with study.ledger.held(study.key), study.engine().started() as engine:
        driver = study.driver(study.stages.cells(Stage.MEASURE))
        engine.run(driver.next_job, driver.on_record)
    spans = []
    for record in study.directory.records():
        if record.scores is not None:
            end = (study.directory.trial(record.hash) / "result.json").stat().st_mtime
            spans.append((end - record.scores.seconds, end))
    began = sorted(start for start, _ in spans)[workers - 1]
    wall = max(end for _, end in spans) - began
    share = sum(end - max(start, began) for start, end in spans) / workers
    return (
        f"{name}: {len(spans)} trials, {workers} workers: wall {wall:.1f} s, trial seconds / "
        f"workers {share:.1f} s, ratio {wall / share:.3f}; start-up {began - called:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=3e10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.engines:
            print(measure(name, options.budget, options.workers, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
