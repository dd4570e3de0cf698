"""Do the intervals of speeds hold the truth? Made-up clocks and losses whose ratio and multiplier
are known.

Rows: rounds and the scatter of a turn (standard deviation of ln seconds; with spikes: plus an
exponential of as much, as another program's bursts are). Columns: how often the 95 % interval of a
ratio of two arms holds it, over a clock that drifts; how often that of the multiplier at equal
training time does, with the errors of the difference in loss and of the slope in it; and the
median of either interval's upper end over its lower one.

    python benchmarks/prices.py [--studies 4000]
"""

import argparse
import math
from statistics import median

import numpy as np

from modsearch.analysis.compare import Multiplier, fieller
from modsearch.analysis.noise import NORMAL
from modsearch.analysis.slopes import Slope
from modsearch.analysis.speeds import Ratio, at_equal_time, paired

RATIO, DIFFERENCE, SLOPE = 0.8, 0.03, 0.15
DIFFERENCE_SD, SLOPE_SD = 0.01, 0.015
BUDGETS = (1e11, 1e12)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=4000)
    studies = parser.parse_args().studies
    print(f"{'rounds':>6}{'scatter':>9}{'spikes':>8}{'ratio':>9}{'wide':>7}{'at equal time':>15}"
          f"{'wide':>7}")  # fmt: skip
    for rounds in (3, 5, 9, 20):
        for scatter in (0.01, 0.05, 0.2):
            for spikes in (False, True):
                row = covered(rounds, scatter, spikes=spikes, studies=studies)
                print(
                    f"{rounds:6}{scatter:9}{'yes' if spikes else 'no':>8}{row[0]:9.1%}"
                    f"{row[1]:7.2f}{row[2]:15.1%}{row[3]:7.2f}",
                    flush=True,
                )


def covered(
    rounds: int, scatter: float, *, spikes: bool, studies: int
) -> tuple[float, float, float, float]:
    """Coverage and width of both intervals."""
    draw = np.random.default_rng([rounds, int(1000 * scatter), spikes])
    truth = math.exp(DIFFERENCE / SLOPE) / RATIO
    ratios, priced = [], []
    for _ in range(studies):
        drift = np.cumsum(draw.normal(0, 0.05, rounds))
        noise = draw.normal(0, scatter, (2, rounds))
        if spikes:
            noise += draw.exponential(scatter, (2, rounds))
        ours, theirs = np.exp(drift + noise)
        ratios.append(paired(list(RATIO * ours), list(theirs)))
        priced.append(at_equal_time(multiplier(draw), ratios[-1]))
    return (*held(ratios, RATIO), *held(priced, truth))


def multiplier(draw: np.random.Generator) -> Multiplier:
    """A study's, by its difference and slope."""
    along = Slope(float(draw.normal(SLOPE, SLOPE_SD)), SLOPE_SD, BUDGETS)
    difference = float(draw.normal(DIFFERENCE, DIFFERENCE_SD))
    half = NORMAL * DIFFERENCE_SD
    low, high = fieller(difference, (half, half), along)
    ends = (None if end is None else math.exp(end) for end in (low, high))
    return Multiplier(math.exp(difference / along.value), *ends, along, extrapolated=False)


def held(found: list[Ratio], truth: float) -> tuple[float, float]:
    """Share of intervals that hold the truth, and their median width as a factor."""
    ends = [(each.low, each.high) for each in found]
    known = [(low, high) for low, high in ends if low is not None and high is not None]
    assert len(known) == len(found)
    inside = sum(low <= truth <= high for low, high in known)
    return inside / len(known), median(high / low for low, high in known)


if __name__ == "__main__":
    main()
