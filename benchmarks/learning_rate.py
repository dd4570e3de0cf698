"""Does one learning-rate rule fit every arm and size? And one head or two?

Trains 5 rates x 3 sizes x 2 arms at each of quickstart's budgets (three seeds at the middle
size), then 1 head against 2 over three seeds, and prints a table of causal validation losses:
the best rate of each arm and size, and what a misplaced rate costs.

    python benchmarks/learning_rate.py [--out runs/learning-rate] [--workers 2]
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev

from running import trained

from modsearch.config.data import DataConfig, Validation
from modsearch.config.records import Budget, Candidate, Job, Plan, Record, Stage
from modsearch.config.runtime import Runtime
from modsearch.data.corpus import load_corpus
from modsearch.space.candidates import build
from modsearch.training.budget import plan

RATES = (0.00125, 0.0025, 0.005, 0.01, 0.02)
SIZES = {5e10: ((2, 12), (2, 20), (2, 32)), 1.5e11: ((2, 16), (2, 24), (4, 32))}
ARMS = {"dense": {"block": "dense"}, "mod": {"block": "mod", "capacity": 0.125, "every": 2}}
SEEDS = (11, 12, 13)


def job(arm: str, budget: float, size: tuple[int, int], rate: float, seed: int, heads: int) -> Job:
    """One training."""
    model = {**ARMS[arm], "num_heads": heads, "depth": size[0], "width": size[1]}
    candidate: Candidate = build({"model": model, "optim": {"rate": rate}}, DataConfig())
    facts = load_corpus(candidate.data).facts
    spent = plan(candidate, Budget(flops=budget), facts.train_tokens)
    assert isinstance(spent, Plan), spent
    return Job(
        stage=Stage.EXPLORE,
        arm=arm,
        candidate=candidate,
        budget=Budget(flops=budget),
        seed=seed,
        validation=Validation(windows=256),
        fingerprint=facts.fingerprint,
        runtime=Runtime(),
        plan=spent,
    )


def jobs() -> list[Job]:
    """All of them, long ones first."""
    found = []
    for budget, sizes in SIZES.items():
        for arm in ARMS:
            for place, size in enumerate(sizes):
                seeds = SEEDS if place == 1 else SEEDS[:1]
                found += [job(arm, budget, size, r, s, 2) for r in RATES for s in seeds]
            found += [job(arm, budget, sizes[1], 0.005, seed, 1) for seed in SEEDS]
    return sorted(found, key=lambda j: -j.plan.seconds if isinstance(j.plan, Plan) else 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/learning-rate"))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    todo = jobs()
    records = trained(todo, options.out, options.workers)
    print_tables(records)


def print_tables(records: list[Record]) -> None:
    """Losses by rate for each arm and size, then heads."""
    losses: dict[tuple[float, str, int, int, int, float], list[float]] = defaultdict(list)
    for record in records:
        assert record.scores is not None, record.reason
        model, optim = record.candidate.model, record.candidate.optim
        key = (record.budget.flops, record.arm, model.depth, model.width, model.num_heads)
        losses[(*key, optim.rate)].append(record.scores.causal_loss)
    print("causal validation loss by rate (at width 64); mean of three seeds at the middle size")
    print(f"{'budget':>8} {'arm':6} {'size':8}" + "".join(f"{rate:>10}" for rate in RATES), "best")
    for budget, sizes in SIZES.items():
        for arm in ARMS:
            for depth, width in sizes:
                row = [fmean(losses[budget, arm, depth, width, 2, rate]) for rate in RATES]
                best = RATES[row.index(min(row))]
                print(
                    f"{budget:8.3g} {arm:6} L{depth} d{width:<4}"
                    + "".join(f"{value:10.4f}" for value in row),
                    f"{best:g}; at 0.005 {row[2] - min(row):+.4f}",
                )
    print("\nheads at the middle size, rate 0.005: mean and sd over three seeds")
    for budget, sizes in SIZES.items():
        for arm in ARMS:
            one, two = (losses[budget, arm, *sizes[1], heads, 0.005] for heads in (1, 2))
            print(
                f"{budget:8.3g} {arm:6} one {fmean(one):.4f} sd {stdev(one):.4f}, "
                f"two {fmean(two):.4f} sd {stdev(two):.4f}"
            )


if __name__ == "__main__":
    main()
