"""Do the intervals of the claims about two isoFLOP curves hold the truth in 95 %?

Makes pairs of arms whose curves are known, fits their ladders as a study does, and prints how
often each interval holds: the ratio of the sizes at both minima, that of their forward FLOPs, the
forward FLOPs with which the routed arm is as good as the dense minimum over those of that minimum,
and the difference of losses at the smallest size that both fits have. Beside them, how often
parity has an upper end, and how often the interval lies on the wrong side of a half.

    python benchmarks/parity.py [--studies 2000] [--seed 0]
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from modsearch.analysis.curves import Fit, Point, fit_points, with_noise
from modsearch.analysis.fits import noise_of
from modsearch.analysis.noise import pooled
from modsearch.analysis.parity import forward_at_parity, forward_ratio, gap, size_ratio

SD = 0.018
STEP = 0.4
ROUTED_COST = 0.6
"""Forward FLOPs of a routed model over those of a dense one with as many parameters."""


@dataclass(frozen=True)
class Kind:
    """Pairs of one kind."""

    name: str
    gain: float
    """Nats by which the routed minimum lies lower."""
    right: float
    """ln(N*) of the routed arm less that of the dense one."""
    sizes: int = 7
    bend: float = 0.15
    """Nats per squared e-fold."""
    skew: float = 0.0
    """Nats per cubed e-fold on the right."""


KINDS = (
    Kind("parabolas", 0.035, 0.4),
    Kind("no gain", 0.0, 0.4),
    Kind("large gain", 0.08, 0.5),
    Kind("ladders of five", 0.035, 0.4, sizes=5),
    Kind("flat curves", 0.035, 0.4, bend=0.08),
    Kind("steep curves", 0.035, 0.4, bend=0.3),
    Kind("skew right branch", 0.035, 0.4, skew=0.05),
)


@dataclass(frozen=True)
class Arm:
    """A law."""

    best: float
    """ln(N*)."""
    least: float
    bend: float
    skew: float
    cost: float
    """Forward FLOPs per token over 2 N."""

    def loss(self, x: float) -> float:
        """At ln(parameters)."""
        away = x - self.best
        return self.least + self.bend * away**2 + self.skew * max(0.0, away) ** 3

    def forward(self, x: float) -> float:
        """FLOPs per token."""
        return self.cost * 2 * math.exp(x)

    def reaches(self, level: float) -> float | None:
        """The smallest ln(parameters) with that loss."""
        drop = (level - self.least) / self.bend
        return self.best - math.sqrt(drop) if drop >= 0 else None


def study(kind: Kind, rng: np.random.Generator, tally: dict[str, list[float]]) -> None:
    """One pair of ladders, and five fresh runs of either arm, which tell the noise."""
    middle = 10.0
    off = rng.uniform(-STEP / 2, STEP / 2, 2)
    arms = (
        Arm(middle + kind.right + off[0], 2.0 - kind.gain, kind.bend, kind.skew, ROUTED_COST),
        Arm(middle + off[1], 2.0, kind.bend, kind.skew, 1.0),
    )
    raw = []
    for number, arm in enumerate(arms):
        centre = middle + kind.right * (number == 0)
        x = centre + STEP * (np.arange(kind.sizes) - kind.sizes // 2)
        points = [
            Point(
                str(i), 2, i, round(math.exp(each)),
                arm.loss(each) + SD * rng.standard_normal(), arm.forward(each),
            )
            for i, each in enumerate(x.tolist())
        ]  # fmt: skip
        raw.append(fit_points("dense" if number else "mod", 1.0, 2, points))
    seeds = SD * rng.standard_normal((2, 5))
    over = pooled((float(((row - row.mean()) ** 2).sum()), 4) for row in seeds)
    noise = noise_of(raw, over)
    assert noise is not None
    fits = [with_noise(curve, noise) for curve in raw]
    tally["refused"].append(not all(isinstance(fit, Fit) for fit in fits))
    routed, dense = fits
    if not isinstance(routed, Fit) or not isinstance(dense, Fit):
        return
    truth = arms[0].best - arms[1].best
    tally["size"].append(size_ratio(routed, dense).holds(math.exp(truth)))
    level = arms[1].forward(arms[1].best)
    tally["forward"].append(
        forward_ratio(routed, dense).holds(arms[0].forward(arms[0].best) / level)
    )
    size = max(min(routed.params), min(dense.params))
    true_gap = arms[1].loss(math.log(size)) - arms[0].loss(math.log(size))
    tally["gap"].append(gap(routed, size, dense, size, noise).holds(true_gap))
    found = forward_at_parity(routed, dense, noise)
    tally["bounded"].append(found.high is not None)
    crossing = arms[0].reaches(2.0)
    assert crossing is not None
    ratio = arms[0].forward(crossing) / level
    if math.exp(crossing) >= min(routed.params):
        tally["parity"].append(found.holds(ratio))
    wrong = (
        found.low is not None and found.low > 0.5
        if ratio <= 0.5
        else found.high is not None and found.high <= 0.5
    )
    tally["wrong"].append(wrong)


def run(kind: Kind, count: int, seed: int = 0) -> dict[str, float]:
    """Shares by name."""
    tally: dict[str, list[float]] = defaultdict(list)
    for number in range(count):
        study(kind, np.random.default_rng([seed, KINDS.index(kind), number]), tally)
    return {name: float(np.mean(seen)) for name, seen in tally.items()}


COLUMNS = {
    "ratio of sizes": "size", "of forward FLOPs": "forward", "parity": "parity",
    "losses at the smallest size": "gap", "parity has an upper end": "bounded",
    "wrong side of a half": "wrong", "refused": "refused",
}  # fmt: skip


def row(name: str, found: Mapping[str, float]) -> str:
    """Of a table in Markdown, in per cent."""
    cells = [f"{100 * found[key]:.1f}" if key in found else "" for key in COLUMNS.values()]
    return "| " + " | ".join([name, *cells]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| pairs | " + " | ".join(COLUMNS) + " |")
    print("| --- " * (len(COLUMNS) + 1) + "|")
    for kind in KINDS:
        print(row(kind.name, run(kind, options.studies, options.seed)), flush=True)


if __name__ == "__main__":
    main()
