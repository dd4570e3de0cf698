"""How often is a verdict wrong, how often is there one, and for how many runs?

Makes studies of two arms (or of one against the best of four) whose losses follow known curves.
Each is measured on a noisy ladder, extended where its minimum lies at an end, chosen from and
confirmed as a study is, by the product's own functions, under three designs:

- looks: 6, 12, 18, 24 runs an arm over three sizes, until the headline is known;
- fixed 3 and fixed 16: so many seeds of the one size that measure chose, and the interval widened
  by how far the arms' minima may lie below their sizes.

A verdict is wrong where it says better or worse of arms whose minima are equal. Also printed: how
often the interval holds the true difference of the minima.

With --repeated, ten studies are made of each world, as one does with ten seeds, and the mean of
their differences gets its interval by Student's t over studies (`modsearch report A B ...`).

    python benchmarks/verdicts.py [--studies 5000] [--seed 0] [--power 2000] [--repeated 1000]
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from modsearch.analysis.choice import at_the_ends, chosen_sizes, next_width
from modsearch.analysis.curves import Curve, Fit, Point, fit_points, with_noise
from modsearch.analysis.means import mean_of
from modsearch.analysis.noise import moderated
from modsearch.analysis.power import Runs, ends_of, reachable_margin
from modsearch.analysis.vertex import NO_CURVATURE, measured_curvature

SD = 0.02
LADDERS = ((12, 16, 20, 24, 32), (16, 20, 24, 32, 40, 48), (12, 16, 20, 24, 32, 40, 48))
DESIGNS = {"looks": (6, 12, 18, 24), "fixed 3": (3,), "fixed 16": (16,)}
MOST_EXTENSIONS = 3
Noise = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Law:
    """Loss at one budget: K [(b e^(-a x) + a e^(b x)) / (a + b) - 1], x = ln(N / N*)."""

    best: float
    """ln N*."""
    bend: float
    """Curvature at the minimum, nats per squared e-fold."""
    left: float
    right: float

    def __call__(self, params: np.ndarray) -> np.ndarray:
        x = np.log(params) - self.best
        a, b = self.left, self.right
        scale = 2 * self.bend / (a * b)
        return scale * ((b * np.exp(-a * x) + a * np.exp(b * x)) / (a + b) - 1)


@dataclass(frozen=True)
class Kind:
    """Worlds of one kind; `steep` is how many of the two arms have a steep right branch."""

    name: str
    same: bool = False
    """Whether both arms follow the same law."""
    steep: int = 0
    ratio: float = 1.0
    """Deviation of a run of the first arm over that of the second."""
    tails: bool = False
    """Noise of Student's t with four degrees of freedom."""
    arms: int = 1
    """Routed ones, of which measure chooses the best."""


KINDS = (
    Kind("one law", same=True),
    Kind("two laws"),
    Kind("deviations 2:1", ratio=2.0),
    Kind("heavy tails", tails=True),
    Kind("steep right branch of one", steep=1),
    Kind("steep right branch of both", steep=2),
    Kind("best of four arms", arms=4),
)


def params_of(width: int) -> int:
    """Of two layers on bytes."""
    return 256 * width + 24 * width * width


def law(rng: np.random.Generator, ladder: Sequence[int], *, steep: bool) -> Law:
    """One whose minimum lies among the sizes of a ladder, most often."""
    inner = np.log([params_of(width) for width in ladder[1:-1]])
    right = rng.uniform(1.0, 1.6) if steep else rng.uniform(0.25, 0.5)
    bend, left = rng.uniform(0.06, 0.3), rng.uniform(0.25, 0.45)
    return Law(rng.uniform(inner[0], inner[-1]), bend, left, right)


@dataclass(frozen=True)
class Arm:
    """What measure says of an arm, and what draws its fresh runs."""

    curve: Curve
    law: Law
    noise: Noise

    def confirmed(self, looks: Sequence[int], sizes: int) -> tuple[Runs, float]:
        """Fresh runs of the chosen sizes; of one size with its regret."""
        chosen = chosen_sizes([self.curve], "arm", 1.0, sizes)
        params = np.array([float(params_of(size.width)) for size in chosen])
        runs = np.resize(params, looks[-1])
        losses = (self.law(runs) + self.noise(looks[-1]))[None, :]
        points = self.curve.points
        if sizes == 1:
            regret = self.curve.regret(params[0]) if isinstance(self.curve, Fit) else 0.0
            return Runs(params, losses, NO_CURVATURE), regret
        prior = measured_curvature([p.params for p in points], [p.loss for p in points])
        return Runs(params, losses, prior), 0.0


def measured(law_of: Law, noise: Noise, ladder: Sequence[int]) -> Curve:
    """One run a size, and more at an end where the minimum lies there."""
    losses = dict(zip(ladder, law_of(np.array([*map(params_of, ladder)])) + noise(len(ladder)),
                      strict=True))  # fmt: skip
    while True:
        points = [
            Point(str(width), 2, width, params_of(width), float(loss), 1.0)
            for width, loss in sorted(losses.items())
        ]
        curve = with_noise(fit_points("arm", 1.0, 2, points), moderated(None))
        ends = at_the_ends([curve], "arm", 1.0)
        width = next_width(sorted(losses), ends[0][1]) if ends else None
        if width is None or len(losses) - len(ladder) >= MOST_EXTENSIONS:
            return curve
        losses[width] = float(law_of(np.array([params_of(width)]))[0] + noise(1)[0])


@dataclass(frozen=True)
class End:
    word: str
    runs: float
    holds: bool
    difference: float


@dataclass(frozen=True)
class World:
    """What is true of the arms of a study: their ladder and their laws, the reference's last."""

    ladder: tuple[int, ...]
    laws: tuple[Law, ...]


def world(rng: np.random.Generator, kind: Kind) -> World:
    ladder = LADDERS[rng.integers(len(LADDERS))]
    first = law(rng, ladder, steep=kind.steep > 0)
    second = first if kind.same else law(rng, ladder, steep=kind.steep > 1)
    others = [law(rng, ladder, steep=False) for _ in range(1, kind.arms)]
    return World(ladder, (first, *others, second))


def study(
    rng: np.random.Generator, kind: Kind, effect: float, design: str, true: World | None = None
) -> End:
    """One study; `effect` is how much lower the first arm's minimum is, in nats. In a world of
    its own, or in a given one, of which it is a repetition."""
    true = true or world(rng, kind)
    ladder = true.ladder

    def noise(sd: float) -> Noise:
        def draw(count: int) -> np.ndarray:
            if kind.tails:
                return sd * rng.standard_t(4, count) / math.sqrt(2)
            return sd * rng.standard_normal(count)

        return draw

    *laws, second = true.laws
    ours = [Arm(measured(each, noise(SD), ladder), each, noise(SD)) for each in laws]
    arm = min(ours, key=_lowest)
    other = noise(SD / kind.ratio)
    reference = Arm(measured(second, other, ladder), second, other)
    looks = DESIGNS[design]
    sizes = 3 if design == "looks" else 1
    (left, regret), (right, other_regret) = (
        side.confirmed(looks, sizes) for side in (arm, reference)
    )
    margin = reachable_margin(looks, SD)
    found = ends_of((left.shifted(-effect), right), looks, margin, (regret, other_regret))
    d, half = float(found.difference[0]), float(found.half[0])
    return End(str(found.words[0]), float(found.runs[0]), abs(d - effect) <= half, d)


def _lowest(arm: Arm) -> float:
    curve = arm.curve
    return curve.minimum_loss if isinstance(curve, Fit) else curve.lowest.loss


def repeated(
    rng: np.random.Generator, kind: Kind, effect: float, repeats: int
) -> tuple[float, bool, float]:
    """The mean difference of so many studies of one world, less the true one; whether its 95 %
    interval over studies holds the truth; and the share of the studies whose own one does."""
    true = world(rng, kind)
    ends = [study(rng, kind, effect, "looks", true) for _ in range(repeats)]
    mean = mean_of([end.difference for end in ends])
    assert mean.low is not None
    assert mean.high is not None
    own = np.mean([end.holds for end in ends])
    return mean.value - effect, mean.low <= effect <= mean.high, float(own)


def repeated_rows(worlds: int, seed: int, repeats: int = 10) -> Iterator[list[str]]:
    """Of the table of repetitions."""
    for kind in KINDS:
        for sds in (0.0, 1.0) if kind.name == "two laws" else (0.0,):
            rng = np.random.default_rng(seed)
            found = [repeated(rng, kind, sds * SD, repeats) for _ in range(worlds)]
            biases, holds, own = zip(*found, strict=True)
            yield [
                kind.name, f"{sds:g}", f"{np.mean(biases) / SD:+.3f}",
                f"{np.std(biases) / SD:.3f}", f"{np.mean(holds):.1%}", f"{np.mean(own):.1%}",
                str(worlds),
            ]  # fmt: skip


def rows(studies: int, power: int, seed: int) -> Iterator[list[str]]:
    """Of the table."""
    for kind in KINDS:
        for design in DESIGNS:
            yield _row(kind, 0.0, design, studies, seed)
    for sds in (0.5, 1.0, 1.5, 2.0):
        for design in DESIGNS:
            yield _row(KINDS[1], sds, design, power, seed + 1)


def _row(kind: Kind, sds: float, design: str, studies: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    ends = [study(rng, kind, sds * SD, design) for _ in range(studies)]

    def share(word: str) -> str:
        return f"{np.mean([end.word == word for end in ends]):.1%}"

    told = np.mean([end.word in ("better", "worse") for end in ends])
    return [
        kind.name, f"{sds:g}", design, f"{told:.1%}", share("better"), share("worse"),
        share("equivalent"), share("inconclusive"), f"{np.mean([e.runs for e in ends]):.1f}",
        f"{np.mean([end.holds for end in ends]):.1%}", str(studies),
    ]  # fmt: skip


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> None:
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=5000, help="equal arms, of each kind")
    parser.add_argument("--power", type=int, default=2000, help="arms that differ")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--repeated", type=int, default=0, help="instead: worlds, each with ten studies"
    )
    options = parser.parse_args()
    if options.repeated:
        header = [
            "worlds", "effect (sd)", "mean less truth (sd)", "its deviation (sd)",
            "interval over studies holds the truth", "a study's own does", "number",
        ]  # fmt: skip
        _table(header, repeated_rows(options.repeated, options.seed))
        return
    header = [
        "worlds", "effect (sd)", "design", "better or worse", "better", "worse", "equivalent",
        "inconclusive", "runs an arm", "interval holds", "studies",
    ]  # fmt: skip
    _table(header, rows(options.studies, options.power, options.seed))


if __name__ == "__main__":
    main()
