"""Does another optimiser, schedule or rule for widths make a lower loss at equal FLOPs?

Trains a dense and a routed model with each recipe, over the same seeds: a seed has the same
initial values and the same text, so that differences to the default recipe are paired. What Muon
multiplies in a step is paid from the same budget, as in a study. Prints the mean difference of
causal validation losses in nats with its 95 % interval, and the steps that the budget made.

    python benchmarks/optimizers.py [--seeds 6] [--flops 2.5e10] [--width 16] [--workers 2]
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from running import trained

from modsearch.analysis.noise import quantile
from modsearch.config.data import CorpusFacts, DataConfig, Validation
from modsearch.config.records import Budget, Job, Plan, Record, Stage
from modsearch.config.runtime import Runtime
from modsearch.data.corpus import load_corpus
from modsearch.space.candidates import build
from modsearch.training.budget import plan

RECIPES: dict[str, dict[str, Any]] = {
    "adamw cosine": {},
    "adamw linear": {"schedule": "linear"},
    "adamw linear to 0": {"schedule": "linear", "final": 0.0},
    "adamw wsd": {"schedule": "wsd"},
    "muon cosine": {"optimizer": "muon"},
    "muon wsd": {"optimizer": "muon", "schedule": "wsd"},
    "muon cosine, twice the rate": {"optimizer": "muon", "rate": 0.01},
}
"""The first is the default, which others are compared with."""
BLOCKS = ("dense", "mod")


def job(block: str, recipe: str, seed: int, flops: float, width: int, facts: CorpusFacts) -> Job:
    """One training."""
    model = {"block": block, "depth": 2, "width": width, "num_heads": 2}
    candidate = build({"model": model, "optim": RECIPES[recipe]}, DataConfig())
    spent = plan(candidate, Budget(flops=flops), facts.train_tokens)
    assert isinstance(spent, Plan), spent
    return Job(
        stage=Stage.EXPLORE,
        arm=f"{block}: {recipe}",
        candidate=candidate,
        budget=Budget(flops=flops),
        seed=seed,
        validation=Validation(windows=256),
        fingerprint=facts.fingerprint,
        runtime=Runtime(),
        plan=spent,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/optimizers"))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--flops", type=float, default=2.5e10)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    facts = load_corpus(DataConfig()).facts
    todo = [
        job(block, recipe, seed, options.flops, options.width, facts)
        for seed in range(11, 11 + options.seeds)
        for block in BLOCKS
        for recipe in RECIPES
    ]
    records = trained(todo, options.out, options.workers)
    print_table(records, options.flops, options.width)


def print_table(records: list[Record], flops: float, width: int) -> None:
    """A line for each block and recipe."""
    losses: dict[str, dict[int, float]] = defaultdict(dict)
    steps: dict[str, int] = {}
    for record in records:
        assert record.scores is not None, record.reason
        assert record.plan is not None
        losses[record.arm][record.seed] = record.scores.causal_loss
        steps[record.arm] = record.plan.steps
    print(f"{flops:.3g} FLOPs, depth 2, width {width}; nats, paired over seeds")
    first, *others = RECIPES
    for block in BLOCKS:
        base = losses[f"{block}: {first}"]
        print(f"{block:6} {first:28} {steps[f'{block}: {first}']:6} {fmean(base.values()):.4f}")
        for recipe in others:
            arm = f"{block}: {recipe}"
            gaps = [losses[arm][seed] - base[seed] for seed in sorted(base)]
            half = quantile(len(gaps) - 1, 0.975) * stdev(gaps) / len(gaps) ** 0.5
            mean = fmean(gaps)
            print(
                f"{block:6} {recipe:28} {steps[arm]:6} {mean:+.4f} "
                f"[{mean - half:+.4f}, {mean + half:+.4f}]"
            )


if __name__ == "__main__":
    main()
