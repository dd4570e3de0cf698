"""What would early stopping have saved in studies that were trained whole, and what have lost?

Each rule goes through the trials of a cell one after the other, in orders drawn at random, with
the training curves that they have: a trial that it stops is cut there, and counts among the curves
of later ones as it would. The cells are those of a study's explore and measure, of one arm or of
all arms together at a budget; sizes and seeds are what differs in them, beside axes of explore.

    python benchmarks/search/stopping.py STUDY [STUDY ...] [--orders 200]

A study is a folder or a packed one. Prints a table in Markdown: FLOPs saved, how often the trial
with the lowest causal loss was stopped, and by how much the lowest of the rest lies above it.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from modsearch.analysis.stopping import Curve, bars_of, verdict
from modsearch.config.records import Stage
from modsearch.config.stopping import Stopping
from modsearch.store.directory import StudyDirectory
from modsearch.store.packed import unpacked
from modsearch.training.watch import METRICS, curve_of

RULES = {
    "median": Stopping(rule="median"),
    "asha": Stopping(rule="asha"),
    "extrapolate": Stopping(rule="extrapolate"),
    "extrapolate, from a quarter": Stopping(rule="extrapolate", rungs=[0.25, 0.5]),
}
FEWEST = 10
"""Trials of a cell that is worth a look."""


@dataclass(frozen=True)
class Trained:
    """A trial that was trained to its end."""

    curve: Curve
    loss: float
    """Causal, at its end."""
    flops: float


def cells(path: Path) -> Iterator[tuple[str, list[Trained]]]:
    """The cells of a study with their trials."""
    found: dict[tuple[str, float, str], list[Trained]] = defaultdict(list)
    with unpacked(path) if path.is_file() else nullcontext(path) as folder:
        study = StudyDirectory(folder)
        for record in sorted(study.records(), key=lambda record: record.hash):
            if record.stage is Stage.CONFIRM or record.scores is None or record.plan is None:
                continue
            trained = Trained(
                curve_of(study.trial(record.hash) / METRICS),
                record.scores.causal_loss,
                record.plan.flops,
            )
            for arm in (record.arm, "all arms"):
                found[record.stage, record.budget.flops, arm].append(trained)
    for (stage, budget, arm), trials in sorted(found.items()):
        if len(trials) >= FEWEST:
            yield f"{stage}, {arm}, {budget:.3g}", trials


@dataclass(frozen=True)
class Outcome:
    """What a rule made of a cell in one order."""

    saved: float
    """Share of the FLOPs."""
    lost: bool
    """Whether it stopped the best trial."""
    regret: float
    """Of the best that it kept, as a share of the lowest loss."""


def stopped(rule: Stopping, trials: Sequence[Trained]) -> Outcome:
    """One after the other, in the order given."""
    curves: list[Curve] = []
    spent, kept = 0.0, []
    for trial in trials:
        curve = trial.curve
        for bar in bars_of(rule, curves).bars:
            end = next(place for place, (share, _) in enumerate(curve, 1) if share >= bar.share)
            if verdict(bar, curve[:end]) is not None:
                curve = curve[:end]
                break
        curves.append(curve)
        spent += trial.flops * curve[-1][0]
        if curve is trial.curve:
            kept.append(trial.loss)
    lowest = min(trial.loss for trial in trials)
    whole = sum(trial.flops for trial in trials)
    return Outcome(1 - spent / whole, lowest not in kept, min(kept) / lowest - 1)


def replayed(rule: Stopping, trials: Sequence[Trained], orders: int) -> list[Outcome]:
    """In so many orders, the same for all rules."""
    draws = [np.random.default_rng(seed).permutation(len(trials)) for seed in range(orders)]
    return [stopped(rule, [trials[place] for place in order]) for order in draws]


def line(what: str, called: str, found: Sequence[Outcome]) -> str:
    """A row of the table."""
    regrets = [100 * each.regret for each in found]
    return (
        f"| {what} | `{called}` | {fmean(each.saved for each in found):.0%} "
        f"| {fmean(each.lost for each in found):.0%} "
        f"| {fmean(regrets):.2f} % ({np.percentile(regrets, 95):.2f} %) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--orders", type=int, default=200)
    options = parser.parse_args()
    print("| cell | trials | rule | FLOPs saved | best stopped | regret, mean (95th of 100) |")
    print("| --- | --- | --- | --- | --- | --- |")
    together: dict[str, list[Outcome]] = defaultdict(list)
    for path in options.studies:
        for name, trials in cells(path):
            for called, rule in RULES.items():
                found = replayed(rule, trials, options.orders)
                together[called] += found
                print(line(f"{name} | {len(trials)}", called, found), flush=True)
    for called, found in together.items():
        print(line(f"all {len(found) // options.orders} cells |", called, found))


if __name__ == "__main__":
    main()
