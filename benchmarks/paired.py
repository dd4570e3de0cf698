"""Coverage of the 95 % interval of a difference over crossed seeds and documents.

    python benchmarks/paired.py [--draws 4000]

Two sides answer the same documents with several seeds each. A score is what a document does to
all models, what it does to one side, how good a seed is, and what both do together:

    y = document + side x document + seed + seed x document

and both sides are equally good, so that an interval should hold zero in 95 of 100 draws, over new
seeds and new documents. Beside the crossed interval stand that over documents alone (seeds taken
as given) and that over seeds alone (documents taken as given), and the crossed one without taking
the residual off. Scores are continuous, or right and wrong by a threshold.

In the last column runs are of three sizes in turn, as confirm trains them. A run's luck is in its
loss, too, which is 0.03 higher at the outer sizes; its scores count with the weight that the loss
has in the lowest one, and the interval is over the scatter of runs of one size.
"""

import argparse
from itertools import product

import numpy as np

from modsearch.analysis.noise import quantile
from modsearch.analysis.paired import Sheet, difference, ratio_error
from modsearch.analysis.runs import Runs
from modsearch.analysis.vertex import NO_CURVATURE, lowest

NAMES = ("crossed", "documents", "seeds", "added", "fixed", "sizes")
PARAMS = (1e4, 1.5e4, 2.3e4)
HIGHER = (0.03, 0.0, 0.03)


def drawn(
    generator: np.random.Generator, seeds: int, documents: int, seed_sd: float, *, binary: bool
) -> tuple[Sheet, Sheet, Sheet]:
    """Both sides and a fixed model, equal in truth."""
    weights_D = generator.uniform(0.5, 1.5, documents)
    document_D = generator.normal(0, 1, documents)
    sides = []
    for num, scatter in ((seeds, seed_sd), (seeds, seed_sd), (1, 0.0)):
        values_SD = (
            document_D
            + generator.normal(0, 0.3, documents)
            + generator.normal(0, scatter, (num, 1))
            + generator.normal(0, 0.5, (num, documents))
        )
        sides.append(Sheet((values_SD > 0).astype(float) if binary else values_SD, weights_D))
    return sides[0], sides[1], sides[2]


def held(ours: Sheet, theirs: Sheet, fixed: Sheet) -> list[bool]:
    """Whether each interval holds zero."""
    beside = difference([ours], [fixed], fixed=True).interval()
    found = difference([ours], [theirs])
    low, high = found.interval()
    gap_D = ours.values_SD.mean(0) - theirs.values_SD.mean(0)
    items = ratio_error(gap_D, ours.weights_D)
    assert found.seeds is not None
    seeds = found.seeds.variance**0.5
    num_seeds, num_documents = ours.values_SD.shape
    value = abs(found.value)
    added = np.hypot(items, seeds)
    freedom = added**4 / (items**4 / (num_documents - 1) + seeds**4 / (2 * (num_seeds - 1)))
    return [
        low <= 0 <= high,
        value <= quantile(num_documents - 1, 0.975) * items,
        value <= quantile(2 * (num_seeds - 1), 0.975) * seeds,
        value <= quantile(float(freedom), 0.975) * added,
        beside[0] <= 0 <= beside[1],
    ]


def of_sizes(
    generator: np.random.Generator, runs: int, documents: int, seed_sd: float, *, binary: bool
) -> tuple[Sheet, Sheet]:
    """Both sides, equal in truth, of three sizes."""
    weights_D = generator.uniform(0.5, 1.5, documents)
    document_D = generator.normal(0, 1, documents)
    sides = []
    for _ in range(2):
        sizes_S = np.arange(runs) % 3
        losses_S = np.array(HIGHER)[sizes_S] + generator.normal(0, seed_sd, runs)
        groups = [losses_S[sizes_S == size] for size in range(3)]
        counts = [len(group) for group in groups]
        factors = lowest(PARAMS, [group.mean() for group in groups], counts, NO_CURVATURE).factors
        shares = tuple(float(factors[size] / counts[size]) for size in sizes_S)
        values_SD = (
            document_D
            + generator.normal(0, 0.3, documents)
            - losses_S[:, None]
            + generator.normal(0, 0.5, (runs, documents))
        )
        values_SD = (values_SD > 0).astype(float) if binary else values_SD
        sides.append(Sheet(values_SD, weights_D, Runs(shares, tuple(sizes_S.tolist()))))
    return sides[0], sides[1]


def held_over_sizes(ours: Sheet, theirs: Sheet) -> bool:
    """Whether the interval holds zero."""
    low, high = difference([ours], [theirs]).interval()
    return low <= 0 <= high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=4000)
    draws = parser.parse_args().draws
    print(f"{'scores':11}{'seeds':>6}{'documents':>11}{'seed sd':>9}", end="")
    print("".join(f"{name:>11}" for name in NAMES))
    generator = np.random.default_rng(0)
    for binary, seeds, documents, seed_sd in product(
        (False, True), (2, 3, 6, 12), (30, 1000), (0.0, 0.03, 0.3)
    ):
        rows = [
            held(*drawn(generator, seeds, documents, seed_sd, binary=binary)) for _ in range(draws)
        ]
        shares = np.mean(rows, axis=0)
        kind = "right/wrong" if binary else "continuous"
        print(f"{kind:11}{seeds:6}{documents:11}{seed_sd:9.2f}", end="")
        print("".join(f"{share:11.1%}" for share in shares), end="")
        if seeds < 6:
            print(f"{'-':>11}", flush=True)
            continue
        pairs = (
            of_sizes(generator, seeds, documents, seed_sd, binary=binary) for _ in range(draws)
        )
        print(f"{np.mean([held_over_sizes(*pair) for pair in pairs]):11.1%}", flush=True)


if __name__ == "__main__":
    main()
