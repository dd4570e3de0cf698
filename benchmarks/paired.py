"""Coverage of the 95 % interval of a difference over crossed seeds and documents.

    python benchmarks/paired.py [--draws 4000]

Two sides answer the same documents with several seeds each. A score is what a document does to
all models, what it does to one side, how good a seed is, and what both do together:

    y = document + side x document + seed + seed x document

and both sides are equally good, so that an interval should hold zero in 95 of 100 draws, over new
seeds and new documents. Beside the crossed interval stand that over documents alone (seeds taken
as given) and that over seeds alone (documents taken as given), and the crossed one without taking
the residual off. Scores are continuous, or right and wrong by a threshold.
"""

import argparse
from itertools import product

import numpy as np

from modsearch.analysis.noise import quantile
from modsearch.analysis.paired import Sheet, difference, ratio_error

NAMES = ("crossed", "documents", "seeds", "added", "fixed")


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
    seeds = found.seeds_se
    assert seeds is not None
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
        print("".join(f"{share:11.1%}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
