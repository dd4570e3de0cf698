"""What a study's laws foretell of a budget: size, tokens and loss of every measured arm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modsearch.analysis.arms import is_routed
from modsearch.analysis.curves import Curve, Fit, Refusal
from modsearch.analysis.fits import fit_curves, noise
from modsearch.analysis.laws import Interval, LeftOut, left_out, params_law, predict
from modsearch.analysis.numbers import counted, scientific
from modsearch.analysis.optima import optima
from modsearch.analysis.recipes import measured
from modsearch.analysis.slopes import EXPONENT, EXPONENT_SD
from modsearch.analysis.surfaces import DRAWS, Trials, fit_surface, vertex_bias
from modsearch.config.answers import (
    ArmPrediction,
    Estimate,
    LeftOutBudget,
    Predictions,
    SurfaceAnswer,
)
from modsearch.config.manifest import Manifest
from modsearch.config.records import Plan, Record
from modsearch.errors import StudyError

MIN_SURFACE_BUDGETS = 3
"""Of a surface: with two, what bends with C is the same as what bends with N."""


@dataclass(frozen=True)
class _Bootstrap:
    """How often surfaces are fitted again, and the noise that each draw has."""

    draws: int
    sd: float | None


def study_predictions(
    manifest: Manifest, records: Sequence[Record], flops: float, draws: int = DRAWS
) -> Predictions:
    """Every measured arm at a budget.

    Args:
        draws: of the bootstrap of the surfaces.

    Raises:
        StudyError: no arm has fitted minima at two budgets.
    """
    curves = fit_curves(records)
    scatter = noise(records, curves)
    sd = scatter.sd if scatter else None
    arms, without = [], {}
    for arm in manifest.arms:
        mine = [curve for curve in curves if curve.arm == arm]
        fits = [best.fit for best in optima(mine) if best.fit is not None]
        found = _arm(arm, measured(records, arm), fits, flops, _Bootstrap(draws, sd))
        if found is not None:
            arms.append(found)
        elif mine:
            without[arm] = _why_not(mine)
    if not arms:
        reasons = "; ".join(f"{arm}: {why}" for arm, why in without.items())
        raise StudyError(
            f"no arm has fitted minima at two budgets, which a law of them needs: "
            f"{reasons or 'nothing is measured yet'}\n"
            f"measure a ladder of four sizes or more, with the lowest loss inside, at another "
            f"budget"
        )
    return Predictions(
        study=manifest.name, flops=flops, arms=arms, without=without, unit=manifest.unit
    )


def _arm(
    arm: str, trials: Sequence[Record], fits: Sequence[Fit], flops: float, bootstrap: _Bootstrap
) -> ArmPrediction | None:
    told = predict(fits, flops)
    if told is None:
        return None
    budgets = sorted(fit.budget for fit in fits)
    errors = left_out(fits)
    depth = max(fits, key=lambda fit: fit.budget).depth
    notes = [
        f"the law of the loss has a prior on its exponent ({EXPONENT} \N{PLUS-MINUS SIGN} "
        f"{EXPONENT_SD})"
    ]
    if len(budgets) == 2:
        notes.append("two budgets: the curvature is the prior's alone, and nothing checks it")
    enough = len(budgets) >= MIN_SURFACE_BUDGETS
    return ArmPrediction(
        arm=arm,
        routed=is_routed(trials[0]),
        params=_estimate(told.params),
        depth=depth,
        width=_width(trials, depth, told.params.value),
        tokens=flops / _flops_per_token(trials, told.params.value),
        loss=_estimate(told.loss),
        budgets=budgets,
        factor=told.factor,
        extrapolated=not budgets[0] <= flops <= budgets[-1],
        left_out=list(map(_left_out, errors)),
        largest_error=max((abs(each.loss_error) for each in errors), default=None),
        params_exponent=_estimate(params_law(fits).exponent_interval),
        surfaces=_surfaces(trials, fits, bootstrap) if enough else [],
        notes=notes,
    )


def _why_not(curves: Sequence[Curve]) -> str:
    fitted = len({curve.budget for curve in curves if isinstance(curve, Fit)})
    of = len({curve.budget for curve in curves})
    why = f"fitted at {fitted} of {counted(of, 'budget')}"
    refused = [curve for curve in curves if isinstance(curve, Refusal)]
    return f"{why} ({scientific(refused[0].budget)}: {refused[0].reason})" if refused else why


def _width(trials: Sequence[Record], depth: int, params: float) -> int:
    """The width of a depth whose model has about so many parameters: params / width is linear in
    width, whatever the blocks are."""
    known = {
        trial.candidate.model.width: _plan(trial).params
        for trial in trials
        if trial.candidate.model.depth == depth
    }
    step = math.gcd(*known)
    widths = np.array(sorted(known), dtype=np.float64)
    counts = np.array([known[int(width)] for width in widths])
    square, linear = (float(c) for c in np.polyfit(widths, counts / widths, 1))
    wanted = (-linear + math.sqrt(linear**2 + 4 * square * params)) / (2 * square)
    return max(step, step * round(wanted / step))


def _flops_per_token(trials: Sequence[Record], params: float) -> float:
    """Training FLOPs of a token at a size: a power of N through the arm's trials."""
    sizes = np.log([_plan(trial).params for trial in trials])
    costs = np.log([_plan(trial).flops / _plan(trial).tokens for trial in trials])
    return float(np.exp(np.polyval(np.polyfit(sizes, costs, 1), math.log(params))))


def _surfaces(
    trials: Sequence[Record], fits: Sequence[Fit], bootstrap: _Bootstrap
) -> list[SurfaceAnswer]:
    found = []
    for counts, without in (("all parameters", 0), ("without embeddings", 1)):
        sizes = [_plan(row).params - without * _plan(row).embedding_params for row in trials]
        if min(sizes) <= 0:
            continue
        points = Trials(
            np.array([row.budget.flops for row in trials]),
            np.array(sizes, dtype=np.float64),
            np.array([_plan(row).tokens for row in trials], dtype=np.float64),
            np.array([row.scores.causal_loss for row in trials if row.scores is not None]),
        )
        fit = fit_surface(points, draws=bootstrap.draws, sd=bootstrap.sd)
        if fit is None:
            continue
        bias: dict[str, float] = {}
        if not without:
            per_param = float(np.median(points.budgets_P / points.params_P / points.tokens_P))
            shifts = vertex_bias(fit.surface, fits, per_param)
            for each, shift in zip(fits, shifts, strict=bool(shifts)):
                bias[scientific(each.budget)] = math.exp(shift)
        found.append(
            SurfaceAnswer(
                counts=counts,
                trials=len(points) - len(fit.set_aside),
                set_aside=len(fit.set_aside),
                irreducible=_estimate(fit.interval(lambda each: each.e)),
                alpha=_estimate(fit.interval(lambda each: each.alpha)),
                beta=_estimate(fit.interval(lambda each: each.beta)),
                params_exponent=_estimate(fit.interval(lambda each: each.params_exponent)),
                tokens_exponent=_estimate(fit.interval(lambda each: each.tokens_exponent)),
                vertex_bias=bias,
            )
        )
    return found


def _plan(record: Record) -> Plan:
    assert record.plan is not None
    return record.plan


def _left_out(each: LeftOut) -> LeftOutBudget:
    return LeftOutBudget(
        budget=each.predicted.budget,
        loss=_estimate(each.predicted.loss),
        fitted_loss=each.loss,
        error=each.loss_error,
        params=_estimate(each.predicted.params),
        fitted_params=each.params,
    )


def _estimate(found: Interval) -> Estimate:
    return Estimate(value=found.value, low=found.low, high=found.high)
