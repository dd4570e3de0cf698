"""Are the intervals of a report honest? One space, run with ten study seeds.

Prints each headline, how often each verdict came, and the difference's sd over the runs
beside the half-widths of the reports' intervals: intervals that are narrower than what runs
scatter by are wrong, and so are verdicts that flip between better and worse.

    python benchmarks/repeat_study.py [SPACE] [--runs 10] [--out runs/repeat]
"""

import argparse
from collections import Counter
from pathlib import Path
from statistics import fmean, stdev

import modsearch
from modsearch.analysis.verdicts import Verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", nargs="?", default="quickstart")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/repeat"))
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.runs)
    studies = []
    for seed in seeds:
        overrides = [f"seed={seed}", "suite=null"]
        study = modsearch.search(options.space, options.out / str(seed), overrides=overrides)
        print(f"seed {seed}: {study.headline.sentence}", flush=True)
        studies.append(study)
    print_summary(studies)


def print_summary(studies: list[modsearch.Study]) -> None:
    """Verdicts, and the scatter of what they rest on."""
    verdicts: Counter[Verdict] = Counter()
    differences, half_widths, deviations = [], [], []
    for claims in (study.claims for study in studies):
        verdicts[claims.headline.verdict] += 1
        if (comparison := claims.headline.comparison) is not None:
            differences.append(comparison.difference)
            if (found := comparison.interval) is not None:
                half_widths.append((found.high - found.low) / 2)
        deviations += [each.sd for each in claims.confirmed if each.sd is not None]
    pooled = fmean(sd**2 for sd in deviations) ** 0.5
    print("\nverdicts: " + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    print(f"pooled sd over confirm seeds: {pooled:.4f} nats")
    if len(differences) > 1:
        print(
            f"difference (dense - routed): mean {fmean(differences):+.4f}, sd over runs "
            f"{stdev(differences):.4f}, range {min(differences):+.4f} to {max(differences):+.4f}"
        )
        print(f"half-width of the 95 % intervals: mean {fmean(half_widths):.4f}")
        mean = fmean(differences)
        inside = sum(abs(d - mean) <= h for d, h in zip(differences, half_widths, strict=True))
        print(f"intervals that hold the mean of the runs: {inside} of {len(differences)}")


if __name__ == "__main__":
    main()
