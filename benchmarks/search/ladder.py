"""Does `isoflop` in measure find minima for fewer trials, and do their intervals still hold?

Makes studies of one dense arm at three budgets, whose losses follow a law that is known, with the
noise of seeds that `plan` takes. Each is measured as a study is, by the product's own functions:
by the whole ladder, which is extended where its minimum lies at an end, and by `isoflop`, which
proposes one trial after the other. Printed for each: trials a cell, the share of cells with a fit,
the median distance of the minimum's loss from the true one (without a fit the lowest measured
size's, as a report takes it), how often the 95 % interval of a fit holds the truth, and the median
half of it.

    python benchmarks/search/ladder.py [--studies 60] [--seed 0] [--kinds centred ...]

A law is L = E + A / N^alpha + B / D^beta with exponents between 0.25 and 0.5.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median

import numpy as np

from modsearch.analysis.believed import log_size
from modsearch.analysis.choice import MOST_EXTENSIONS, at_the_ends, next_width
from modsearch.analysis.curves import Curve, Fit
from modsearch.analysis.fits import fit_curves
from modsearch.analysis.noise import seed_sd
from modsearch.analysis.optima import optimum
from modsearch.config.base import Component
from modsearch.config.data import DataConfig
from modsearch.config.records import Budget, Candidate, Plan, Record, Scores, Stage, State
from modsearch.space.axes import Int
from modsearch.space.candidates import build
from modsearch.space.samplers import SEED, SEEDS, Ask, CellSpec, Point, Tried, sampler_of

MIDDLE = 1e12
LADDERS = {3e11: (12, 16, 20, 24, 32, 40), 1e12: (16, 20, 24, 32, 40, 48, 64),
           3e12: (24, 32, 40, 48, 64, 80)}  # fmt: skip
BEST = 32
"""Width of the best size at `MIDDLE` FLOPs, where a ladder is centred."""
ANY = Int(1, 1_000_000, 1)
MODEL = {"block": "dense", "num_heads": 1}


@dataclass(frozen=True)
class World:
    """A law, in units of its own optimum at `MIDDLE` FLOPs."""

    alpha: float
    beta: float
    floor: float
    excess: float
    """L* - E at `MIDDLE`."""
    best: float
    """ln N* at `MIDDLE`."""
    steep: float
    """Nats per cubed e-fold of N / N* above 1."""

    def loss(self, log_params: float, budget: float) -> float:
        """Of a size at a budget."""
        n = log_params - self.best
        d = math.log(budget / MIDDLE) - n
        terms = self.beta * math.exp(-self.alpha * n) + self.alpha * math.exp(-self.beta * d)
        away = n - self.beta / (self.alpha + self.beta) * math.log(budget / MIDDLE)
        return (
            self.floor
            + self.excess * terms / (self.alpha + self.beta)
            + self.steep * max(away, 0.0) ** 3
        )

    def least(self, budget: float) -> float:
        """L*."""
        at = self.best + self.beta / (self.alpha + self.beta) * math.log(budget / MIDDLE)
        return self.loss(at, budget)


@dataclass(frozen=True)
class Kind:
    """Worlds of one kind."""

    name: str
    off: float = 0.15
    """How far minima lie from the middle of the ladders at the most, in e-folds of size."""
    steep: float = 0.0
    sd: float = 1.0
    """Deviation of a run, over that which `plan` takes."""


KINDS = (
    Kind("centred"),
    Kind("off-centre", off=0.9),
    Kind("steep right branch", steep=0.15),
    Kind("noise halved", sd=0.5),
)


@cache
def candidate_of(width: int) -> Candidate:
    """Of two layers on bytes."""
    return build({"model": MODEL, "optim": {}, "size": {"depth": 2, "width": width}}, DataConfig())


class Study:
    """What has been trained in a world: the noise of a size's seed is the same in all designs."""

    def __init__(self, kind: Kind, number: int, seed: int) -> None:
        rng = np.random.default_rng([seed, KINDS.index(kind), number])
        alpha, beta = rng.uniform(0.25, 0.5, 2)
        floor, excess = rng.uniform(0.6, 1.2, 2)
        best = log_size(candidate_of(BEST)) + rng.uniform(-kind.off, kind.off)
        self.world = World(alpha, beta, floor, excess, best, kind.steep)
        self.kind = kind
        self.place = seed, KINDS.index(kind), number
        self.records: dict[str, Record] = {}

    def train(self, budget: float, width: int, seed: int) -> Record:
        """One trial."""
        draws = np.random.default_rng([*self.place, int(budget), width, seed])
        candidate = candidate_of(width)
        loss = self.world.loss(log_size(candidate), budget)
        loss += self.kind.sd * seed_sd(budget) * float(draws.standard_normal())
        record = Record.model_construct(
            hash=f"{budget!r} {width} {seed}",
            stage=Stage.MEASURE,
            arm="dense",
            candidate=candidate,
            budget=Budget(flops=budget),
            seed=seed,
            state=State.COMPLETE,
            objective=None,
            plan=Plan.model_construct(params=round(math.exp(log_size(candidate)))),
            scores=Scores.model_construct(causal_loss=loss, realised_forward_flops=1.0),
        )
        self.records[record.hash] = record
        return record

    def curves(self) -> list[Curve]:
        return fit_curves([*self.records.values()])


Design = Callable[[Study], None]


def whole(seeds: int) -> Design:
    """Every size with so many seeds, and ladders that are extended at their ends."""

    def measure(study: Study) -> None:
        widths = {budget: list(ladder) for budget, ladder in LADDERS.items()}
        new = dict(widths)
        for _ in range(MOST_EXTENSIONS + 1):
            for budget, more in new.items():
                for width in more:
                    for seed in range(seeds):
                        study.train(budget, width, seed)
            curves, new = study.curves(), {}
            for budget in LADDERS:
                for size, direction in at_the_ends(curves, "dense", budget):
                    width = next_width(widths[budget], direction)
                    ended = [
                        each for each in widths[budget] if (each - size.width) * direction > 0
                    ]
                    if width is not None and not ended:
                        new[budget] = [width]
                        widths[budget].append(width)

    return measure


def chosen(seeds: int, **options: float) -> Design:
    """By `isoflop`, in as many trials at the most."""
    component = Component.model_validate({"name": "isoflop", **options})

    def measure(study: Study) -> None:
        for budget, ladder in sorted(LADDERS.items()):
            points: tuple[Point, ...] = tuple(
                {"size.depth": 2, "size.width": width, SEED: seed}
                for seed in range(seeds)
                for width in ladder
            )
            tree = {
                "model": MODEL, "optim": {}, "size": {"depth": ANY, "width": ANY}, SEED: SEEDS
            }  # fmt: skip
            spec = CellSpec(Stage.MEASURE, "dense", budget, tree, component, points=points)
            tried: list[Tried] = []
            while len(tried) < len(points):
                ask = Ask(spec, study.place[0], len(tried), len(points), tried,
                          lambda: study.records, ())  # fmt: skip
                point = sampler_of(component).propose(ask)
                if point is None:
                    break
                record = study.train(budget, point["size.width"], point[SEED])
                tried.append(Tried(len(tried), point, 0.0, running=False, hash=record.hash))

    return measure


DESIGNS: Mapping[str, Design] = {
    "whole ladder, 1 seed": whole(1),
    "isoflop, 1": chosen(1),
    "whole ladder, 2 seeds": whole(2),
    "isoflop to its last trial, 2": chosen(2, resolution=0.0),
    "isoflop, 2": chosen(2),
}


def measured(kind: Kind, design: Design, studies: int, seed: int) -> dict[str, list[float]]:
    """What came of each cell of so many studies."""
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(studies):
        study = Study(kind, number, seed)
        design(study)
        curves = study.curves()
        found["trials"].append(len(study.records) / len(LADDERS))
        for budget in LADDERS:
            best, least = optimum(curves, "dense", budget), study.world.least(budget)
            assert best is not None
            found["error"].append(abs(best.loss - least))
            found["fits"].append(isinstance(best.fit, Fit))
            if best.fit is not None:
                low, high = best.fit.minimum_low, best.fit.minimum_high
                assert low is not None
                assert high is not None
                found["bias"].append(best.loss - least)
                found["holds"].append(low <= least <= high)
                found["half"].append((high - low) / 2)
    return found


def row(name: str, found: Mapping[str, Sequence[float]]) -> str:
    """Of the table."""
    cells = [
        f"{fmean(found['trials']):.1f}",
        f"{fmean(found['fits']):.0%}",
        f"{median(found['error']):.4f}",
        f"{fmean(found['bias']):+.4f}",
        f"{fmean(found['holds']):.1%}",
        f"{median(found['half']):.4f}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=[kind.name for kind in KINDS])
    options = parser.parse_args()
    columns = ["trials a cell", "with a fit", "error", "bias", "interval holds", "half of it"]
    for kind in (each for each in KINDS if each.name in options.kinds):
        print(f"\n{kind.name}, {options.studies} studies of {len(LADDERS)} cells\n")
        print("| design | " + " | ".join(columns) + " |\n" + "| --- " * (len(columns) + 1) + "|")
        for name, design in DESIGNS.items():
            print(row(name, measured(kind, design, options.studies, options.seed)), flush=True)


if __name__ == "__main__":
    main()
