"""When a trial is stopped: bars from the curves of earlier trials, and a curve against its bar.

A curve is the mean training loss of each stretch of a training's log, by the share of the steps
at its end. Its smoothed value at a share is the mean over the last 5 % of the steps before it.
Trials of a cell have one budget, so that equal shares are equal FLOPs. Legend: P exponents, N
stretches.
"""

import math
from collections.abc import Sequence
from statistics import fmean, median, stdev

import numpy as np

from modsearch.analysis.noise import quantile
from modsearch.config.bars import Bar, Bars
from modsearch.config.stopping import Stopping

Curve = Sequence[tuple[float, float]]
"""Shares of the steps, rising, and losses."""

WINDOW = 0.05
"""Of the steps, over which a loss is smoothed."""
POWERS = np.linspace(0.05, 2.0, 40)
"""Exponents that a power law is tried with."""
ETA, LEVEL = 3.0, 0.95


def smoothed(curve: Curve, share: float) -> float | None:
    """Mean loss of the stretches that end within the window before a share; None where the curve
    does not reach it."""
    if not curve or curve[-1][0] < share - 1e-9:
        return None
    within = [loss for at, loss in curve if share - WINDOW + 1e-9 < at <= share + 1e-9]
    return fmean(within) if within else None


def foretold(curve: Curve, share: float) -> float | None:
    """Final loss of a power law a + b * share^-c, with b of 0 or more, through a curve up to a
    share (Domhan et al. 2015 have it among others); None of fewer than five stretches."""
    points = [(at, loss) for at, loss in curve if WINDOW < at <= share + 1e-9]
    if len(points) < 5:
        return None
    x, y = np.array(points).T
    z_PN = x ** -POWERS[:, None]
    spread_PN = z_PN - z_PN.mean(axis=1, keepdims=True)
    slope_P = np.maximum(spread_PN @ (y - y.mean()) / (spread_PN**2).sum(axis=1), 0.0)
    level_P = y.mean() - slope_P * z_PN.mean(axis=1)
    error_P = ((y - level_P[:, None] - slope_P[:, None] * z_PN) ** 2).sum(axis=1)
    best = int(np.argmin(error_P))
    return float(level_P[best] + slope_P[best])


def bars_of(stopping: Stopping, curves: Sequence[Curve]) -> Bars:
    """By what the next trial of a cell may be stopped, after trials with these curves, which may
    have been stopped themselves; none before enough were trained to their end."""
    whole = [curve for curve in curves if smoothed(curve, 1.0) is not None]
    if len(whole) < stopping.startup:
        return Bars()
    make = _foretold_bar if stopping.rule == "extrapolate" else _ranked_bar
    of = whole if stopping.rule == "extrapolate" else curves
    found = [make(stopping, of, share) for share in stopping.shares]
    return Bars(bars=[each for each in found if each is not None])


def _ranked_bar(stopping: Stopping, curves: Sequence[Curve], share: float) -> Bar | None:
    """Against the trials that have reached the rung."""
    there = sorted(loss for c in curves if (loss := smoothed(c, share)) is not None)
    if len(there) < stopping.startup:
        return None
    if stopping.rule == "median":
        return Bar(share=share, most=median(there), why=f"the median of {len(there)} trials")
    eta = stopping.eta or ETA
    place = math.ceil((len(there) + 1) / eta)
    why = f"number {place} of {len(there)} trials, of which the best 1 in {eta:g} go on"
    return Bar(share=share, most=there[place - 1], why=why)


def _foretold_bar(stopping: Stopping, curves: Sequence[Curve], share: float) -> Bar | None:
    """Against the lowest final loss, with the error that the same forecast had for trials whose
    end is known: a one-sided prediction interval for one more of them."""
    ends = [(foretold(c, share), smoothed(c, 1.0)) for c in curves]
    off = [end - found for found, end in ends if found is not None and end is not None]
    if len(off) < stopping.startup:
        return None
    level = stopping.level or LEVEL
    wide = quantile(len(off) - 1, level) * stdev(off) * math.sqrt(1 + 1 / len(off))
    return Bar(
        share=share,
        most=min(end for _, end in ends if end is not None),
        added=fmean(off),
        margin=wide,
        foretold=True,
        why=f"the lowest of {len(off)} trials, with an error of {wide:.3f} at {level:.0%}",
    )


def verdict(bar: Bar, curve: Curve) -> str | None:
    """Why a trial is stopped at a rung; None where it goes on."""
    if not bar.foretold:
        loss = smoothed(curve, bar.share)
        if loss is None or loss <= bar.most:
            return None
        return (
            f"at {bar.share:.0%} of its steps its training loss, {loss:.4f}, is above "
            f"{bar.most:.4f}: {bar.why}"
        )
    found = foretold(curve, bar.share)
    if found is None or found + bar.added - bar.margin <= bar.most:
        return None
    return (
        f"at {bar.share:.0%} of its steps a final training loss of {found + bar.added:.4f} is "
        f"foretold, above {bar.most:.4f}: {bar.why}"
    )
