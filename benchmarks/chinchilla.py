"""What do the fits make of Chinchilla's isoFLOP points?

Exponents of approaches 2 and 3 with their intervals beside the published ones, refused curves, and
how well the largest of three budgets is foretold from the two smaller ones. The points were read
off a figure (Epoch AI); the file lies beside a checkout and is not shipped.

    python benchmarks/chinchilla.py [--points ../shared/data/isoflops/chinchilla.csv] [--draws 500]
"""

import argparse
import csv
import sys
from itertools import combinations
from pathlib import Path

import numpy as np

from modsearch.analysis.curves import Curve, Fit, Point, fit_points, with_noise
from modsearch.analysis.fits import noise_of
from modsearch.analysis.laws import Interval, left_out, params_law, predict
from modsearch.analysis.slopes import slope_at
from modsearch.analysis.surfaces import (
    Fitter,
    SurfaceFit,
    Trials,
    by_huber,
    by_projection,
    fit_surface,
    vertex_bias,
)

POINTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "isoflops" / "chinchilla.csv"
Row = tuple[float, float, float, float]
PUBLISHED = (
    ("published, approach 1", "0.50 [0.488, 0.502]"),
    ("published, approach 2", "0.49 [0.462, 0.534]"),
    ("published, approach 3", "0.46 [0.454, 0.455]"),
    ("Besiroglu et al. 2024, approach 3 again", "0.512"),
)
"""a of N* ~ C^a by Hoffmann et al. 2022, table 2, with their intervals of 10 and 90 %."""


def read(path: Path) -> list[Row]:
    """Budget, parameters, tokens, loss."""
    with path.open() as file:
        return sorted(
            (float(row["budget"]), float(row["params"]), float(row["tokens"]), float(row["loss"]))
            for row in csv.DictReader(file)
        )


def curves_of(rows: list[Row]) -> list[Curve]:
    """As a study's."""
    raw = []
    for budget in sorted({row[0] for row in rows}):
        points = [
            Point(str(i), 1, i, int(size), loss, 1.0)
            for i, (at, size, _, loss) in enumerate(rows)
            if at == budget
        ]
        raw.append(fit_points("chinchilla", budget, 1, points))
    # Read off a figure: its errors are those of reading, and no seed's.
    noise = noise_of(raw, None)
    assert noise is not None
    return [with_noise(curve, noise) for curve in raw]


def shown(found: Interval) -> str:
    """A number with its interval."""
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def surface(rows: list[Row], fitter: Fitter, robust: bool, draws: int) -> SurfaceFit:
    """Through all rows."""
    fit = fit_surface(Trials(*np.array(rows).T), fitter, robust=robust, draws=draws)
    assert fit is not None
    return fit


def exponents(rows: list[Row], fits: list[Fit], draws: int) -> None:
    """A table of a, and of the surfaces behind it."""
    print("| fit | trials | a of N* ~ C^a | E | alpha | beta |")
    print("| --- | --- | --- | --- | --- | --- |")
    law = params_law(fits).exponent_interval
    print(f"| approach 2, {len(fits)} vertices | | {shown(law)} | | | |")
    kinds = (
        ("VPNLS", by_projection, False),
        ("VPNLS, outliers set aside", by_projection, True),
        ("Huber on log loss", by_huber, False),
        ("Huber on log loss, outliers set aside", by_huber, True),
    )
    for name, fitter, robust in kinds:
        fit = surface(rows, fitter, robust, draws)
        found = fit.surface
        a = fit.interval(lambda each: each.params_exponent)
        print(
            f"| {name} | {len(rows) - len(fit.set_aside)} | {shown(a)} | {found.e:.2f} | "
            f"{found.alpha:.3f} | {found.beta:.3f} |"
        )
    for name, value in PUBLISHED:
        print(f"| {name} | | {value} | | | |")


def foretold(fits: list[Fit]) -> None:
    """The largest of every three budgets from the two smaller ones, and each from all others."""
    for name, select in (
        ("of three neighbours", list(zip(fits, fits[1:], fits[2:], strict=False))),
        ("of any three", list(combinations(fits, 3))),
    ):
        errors, inside, sizes = [], [], []
        for *smaller, largest in select:
            told = predict(smaller, largest.budget)
            assert told is not None
            assert largest.minimum_low is not None
            assert largest.minimum_high is not None
            own = (largest.minimum_high - largest.minimum_low) / 2
            error = told.loss.value - largest.minimum_loss
            both = float(np.hypot(told.loss.high - told.loss.value, own))
            errors.append(error)
            inside.append((told.loss.holds(largest.minimum_loss), abs(error) <= both))
            sizes.append(told.params.holds(largest.minimum_params))
        held, with_own = np.mean(inside, axis=0)
        print(
            f"the largest {name} ({len(errors)}): mean error {np.mean(errors):+.4f}, root mean "
            f"square {np.sqrt(np.mean(np.square(errors))):.4f} nats; inside of the interval "
            f"{held:.0%}, of that with the fitted minimum's own error {with_own:.0%}; N* "
            f"{np.mean(sizes):.0%}"
        )
    worst = max(left_out(fits), key=lambda each: abs(each.loss_error))
    print(f"left out of all: largest error {worst.loss_error:+.4f} nats")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=Path, default=POINTS)
    parser.add_argument("--draws", type=int, default=500)
    options = parser.parse_args()
    if not options.points.is_file():
        sys.exit(f"{options.points} is not there: name another file with --points")
    rows = read(options.points)
    curves = curves_of(rows)
    fits = [curve for curve in curves if isinstance(curve, Fit)]
    for curve in curves:
        if not isinstance(curve, Fit):
            print(f"refused at {curve.budget:g}: {curve.reason}")
        elif curve.marks:
            print(f"fitted at {curve.budget:g}: {'; '.join(curve.marks)}")
    print(f"{len(curves) - len(fits)} of {len(curves)} curves refused\n")
    exponents(rows, fits, options.draws)
    print()
    foretold(fits)
    for at in (fits[0].budget, fits[-1].budget):
        slope = slope_at(fits, at)
        assert slope is not None
        print(f"slope at {at:g}: {slope.value:.3f} [{slope.low:.3f}, {slope.high:.3f}] nats")
    biases = vertex_bias(surface(rows, by_projection, True, 0).surface, fits, 6.0)
    print("vertex bias of the grids: " + ", ".join(f"{np.expm1(each):+.1%}" for each in biases))


if __name__ == "__main__":
    main()
