"""The seven figures of Raposo et al. 2024 (arXiv 2404.02258) as sections, redrawn from a study's
own records. Where the study has nothing for one, the section says so."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from modsearch.analysis.arms import Kind, kinds_of
from modsearch.analysis.curves import Curve
from modsearch.analysis.numbers import decimal, scientific
from modsearch.analysis.optima import Optimum
from modsearch.analysis.speeds import timed, typical, unrest
from modsearch.config.records import Record, Stage
from modsearch.reporting.figures import paper, training
from modsearch.reporting.figures import routing as maps
from modsearch.reporting.figures.drawing import Drawing, colours_of
from modsearch.reporting.figures.paper import Control, Place, Series
from modsearch.reporting.figures.schemes import schemes
from modsearch.reporting.figures.training import Clocked
from modsearch.reporting.frames import Row, frame_of
from modsearch.reporting.material import Material
from modsearch.reporting.named import Named, Pair, named_models, pair_of
from modsearch.reporting.parts import Section, Table, section_of
from modsearch.reporting.readings import (
    FIGURE_4,
    FIGURE_5,
    FIGURE_6,
    FIGURE_6_ACCURACY,
    FIGURE_7,
    OURS,
    beside_figure_3,
    beside_figure_4,
)

EXPERTS = ("moe", "mode_integrated")
"""Feed-forward parts that are experts."""
NO_ROUTING = (
    "Not drawn: no confirmed arm of the study has a sample of its router's decisions, which "
    "confirmed trials of routed arms write."
)
NO_PAIR = "Not drawn: no budget has both a dense arm and a learned routed one measured."
NO_PAIR_SHOWN = (
    "Not drawn: of the arms that are shown, none routes by a learned choice and was measured at a "
    "budget of a dense arm's."
)
NO_LOGS = (
    "Right half left out: the training logs (metrics.jsonl) of these trials are not in the study."
)
NO_ACCURACY = (
    "Right half left out: no training log of these trials follows how often the causal choice is "
    "right (membership_accuracy), as logs of routers with a causal choice of their own do now."
)
NO_MODE = "Not tested: no arm with {}."


def figure_1(material: Material) -> Section:
    """Layers by positions of one window."""
    found = maps.window(material.shown_claims.routed, material.telemetry)
    return _shown("Figure 1: routing of one window", [found], NO_ROUTING)


def figure_2(material: Material) -> Section:
    """Routers of the study side by side."""
    found = schemes(material.shown_claims.routed, material.telemetry)
    return _shown("Figure 2: routing schemes", [found], NO_ROUTING)


def figure_3(material: Material) -> Section:
    """One budget: sizes, and the training of named models."""
    title, pair = "Figure 3: one budget", _pair(material)
    if pair is None:
        return _shown(title, [], _no_pair(material))
    colours, models = colours_of(material.arms), named_models(material.claims, pair)
    controls, by_hash = _controls(material, pair), _by_hash(material)
    drawn = paper.at_one_budget(
        _best_depths(material, pair.budget, pair.dense.arm), controls, models, pair.dense.loss,
        colours, material.claims.unit,
    )  # fmt: skip
    records = [by_hash[each.point.hash] for each in models]
    trials = {record.hash: (record, material.metrics(record)) for record in records}
    clocked = _clocked(material, pair, models)
    followed = training.progress(models, trials, colours, clocked)
    steps = {
        model.number: record.plan.flops_per_step
        for model, record in zip(models, records, strict=True)
        if record.plan is not None
    }
    text = [_named_text(pair, models)]
    if not any(each.number == 3 for each in models):
        text.append("No routed model with fewer forward FLOPs is as good as the best dense one.")
    if followed is None:
        text.append(NO_LOGS)
    rows = beside_figure_3(pair, steps, controls, clocked.steps_per_second if clocked else {})
    tables = [Table("paper_figure_3", frame_of(rows))]
    return section_of(title, text, [drawn, followed], tables, always=True)


def figure_4(material: Material) -> Section:
    """All budgets."""
    title, pair = "Figure 4: isoFLOP curves", _pair(material)
    if pair is None:
        return _shown(title, [], _no_pair(material))
    colours, curves = colours_of(material.arms), pair.curves(material.claims)
    dense = {each.budget: each for each in material.claims.dense_minima}
    places = [
        Series(
            f"{curve.arm}, {scientific(curve.budget)}", curve.arm, curve.budget,
            _places(curve, dense[curve.budget], material),
        )
        for curve in curves
    ]  # fmt: skip
    right = paper.relative(
        "paper_relative",
        f"Loss against forward FLOPs per {material.claims.unit} under causal routing, both over "
        f"the optimal dense model's, each arm at its best depth; areas of marks go with "
        f"parameters.",
        places,
        colours,
        unit=material.claims.unit,
    )
    rows = [
        beside_figure_4(dense[each.budget], each)
        for each in material.claims.optima
        if each.arm == pair.routed.arm and each.budget in dense
    ]
    return section_of(
        title, (), [paper.over_budgets(curves, colours, material.claims.unit), right],
        [Table("paper_figure_4", frame_of([*FIGURE_4, *rows]))], always=True,
    )  # fmt: skip


def figure_5(material: Material) -> Section:
    """Routing by position, and router weights."""
    arms, telemetry = material.shown_claims.routed, material.telemetry
    drawn = [
        maps.positions(arms, telemetry, material.controls),
        maps.weights(arms, telemetry),
    ]
    section = _shown("Figure 5: routing analysis", drawn, NO_ROUTING)
    if drawn[1] is None:
        return section
    rows = [FIGURE_5]
    for arm, weights in drawn[1].data.groupby("arm", sort=False):
        capacity = next(each.model.capacity for each in arms if each.arm == arm)
        above = weights["tokens"][weights["from"] >= 0.5 - 1e-9].sum() / weights["tokens"].sum()
        rows.append({"source": OURS, "arm": arm, "capacity": capacity, "weights over 0.5": above})
    return replace(section, tables=[Table("paper_figure_5", frame_of(rows))])


def figure_6(material: Material) -> Section:
    """Causal routing against training's own."""
    title, pair = "Figure 6: causal routing", _pair(material)
    if pair is None:
        return _shown(title, [], _no_pair(material))
    colours = colours_of(material.arms)
    series = []
    for curve in pair.curves(material.claims):
        if curve.budget != pair.budget:
            continue
        routed = curve.arm == pair.routed.arm
        name = f"{curve.arm}, causal" if routed else curve.arm
        places = _places(curve, pair.dense, material)
        series.append(Series(name, curve.arm, curve.budget, places))
        if routed:
            places = _places(curve, pair.dense, material, in_training=True)
            name = f"{curve.arm}, as in training"
            series.append(Series(name, curve.arm, curve.budget, places, dashed=True))
    left = paper.relative(
        "paper_causal",
        "Loss over that of the optimal dense model against forward FLOPs, with routing as in "
        "training (top-k sees later tokens) and causal; validation sample.",
        series,
        colours,
        FIGURE_6,
        material.claims.unit,
    )
    right = training.accuracies(
        [(each, material.metrics(each)) for each in _last_routed(material)], colours
    )
    if right is None:
        return section_of(title, [NO_ACCURACY], [left], always=True)
    last = right.data.groupby(["arm", "seed", "depth", "width"], sort=False).tail(1)
    rows: list[Row] = [FIGURE_6_ACCURACY]
    for arm, ends in last.groupby("arm", sort=False):
        means = {name: float(ends[name].mean()) for name in ("accuracy", "always skip")}
        note = "at the last step, mean over trials"
        rows.append({"source": OURS, "arm": arm, **means, "note": note})
    tables = [Table("paper_figure_6", frame_of(rows))]
    return section_of(title, (), [left, right], tables, always=True)


def figure_7(material: Material) -> Section:
    """Experts that tokens may pass by, against experts alone and dense."""
    title, kinds = "Figure 7: mixture of depths and experts", kinds_of(material.records)
    shown = [arm for arm in material.shown if arm not in material.controls]
    experts = [arm for arm in shown if kinds.get(arm) is Kind.SPARSE]
    both = [arm for arm in shown if kinds.get(arm) is Kind.ROUTED and _has_experts(material, arm)]
    lacks = [
        what
        for arms, what in (
            (experts, "experts alone (MoE)"),
            (both, "experts and routing around them (MoDE, staged or integrated)"),
        )
        if not arms
    ]
    text = [NO_MODE.format(" or ".join(lacks))] if lacks else []
    dense = [each for each in material.claims.dense_minima if each.arm not in experts]
    if not both or not dense:
        return section_of(title, text or [_no_pair(material)], always=True)
    best = dense[-1]
    curves = [
        curve
        for curve in _best_depths(material, best.budget, best.arm)
        if curve.arm in (*experts, *both, best.arm)
    ]
    drawn = paper.relative(
        "paper_mode",
        f"Loss against forward FLOPs per {material.claims.unit}, both over the optimal dense "
        f"model's, each arm at its best depth.",
        [
            Series(curve.arm, curve.arm, curve.budget, _places(curve, best, material))
            for curve in curves
        ],
        colours_of(material.arms),
        FIGURE_7,
        material.claims.unit,
    )
    return section_of(title, text, [drawn], always=True)


PAPER: dict[str, Callable[[Material], Section]] = {
    "figure_1": figure_1,
    "figure_2": figure_2,
    "figure_3": figure_3,
    "figure_4": figure_4,
    "figure_5": figure_5,
    "figure_6": figure_6,
    "figure_7": figure_7,
}
"""Sections by the name that recipes know them by."""


def _shown(title: str, drawn: Sequence[Drawing | None], instead: str) -> Section:
    text = () if any(each is not None for each in drawn) else (instead,)
    return section_of(title, text, drawn, always=True)


def _by_hash(material: Material) -> dict[str, Record]:
    return {record.hash: record for record in material.records}


def _named_text(pair: Pair, models: Sequence[Named]) -> str:
    """What the numbers of figure 3 are."""
    told = "; ".join(
        f"{each.title} (depth {each.point.depth}, width {each.point.width}, loss "
        f"{decimal(each.point.loss)})"
        for each in models
    )
    return (
        f"At {scientific(pair.budget)} FLOPs, {pair.routed.arm} against {pair.dense.arm}. "
        f"Models: {told}."
    )


def _clocked(material: Material, pair: Pair, models: Sequence[Named]) -> Clocked | None:
    """Of those models that `modsearch time` has timed, by their whole configuration; None where it
    has timed none of them."""
    speeds, by_hash = material.speeds, _by_hash(material)
    found: dict[int, float] = {}
    for model in models:
        each = timed(speeds, model.arm, pair.budget) if speeds else None
        ours = by_hash[each.trial].candidate if each is not None else None
        if each is not None and ours == by_hash[model.point.hash].candidate:
            found[model.number] = 1 / typical(each.step_seconds)
    if speeds is None or not found:
        return None
    how = (
        f"as modsearch time measured them on {speeds.machine} ({speeds.device}, "
        f"{speeds.precision}), all in turns, of the confirmed winners that are among these models"
    )
    return Clocked(found, f"{how}; the machine was not quiet" if unrest(speeds) else how)


def _pair(material: Material) -> Pair | None:
    kinds = kinds_of(material.records)
    routed = [
        arm
        for arm in material.shown
        if kinds.get(arm) is Kind.ROUTED and arm not in material.controls
    ]
    return pair_of(material.claims, routed)


def _no_pair(material: Material) -> str:
    return NO_PAIR if material.shown == material.arms else NO_PAIR_SHOWN


def _best_depths(material: Material, budget: float, dense: str) -> list[Curve]:
    """One curve at a budget for each arm that is to be shown, and for the dense one."""
    depths = {each.arm: each.depth for each in material.claims.optima if each.budget == budget}
    return [
        curve
        for curve in material.claims.curves
        if curve.budget == budget
        and curve.depth == depths[curve.arm]
        and curve.arm in (dense, *material.shown)
    ]


def _controls(material: Material, pair: Pair) -> list[Control]:
    """Those of the routed arm at its budget: confirm scores another part of the text, so what it
    says is how far they are apart."""
    return [
        Control(
            each.reference.arm,
            each.reference.plan.params,
            pair.routed.loss + each.difference,
            None if each.interval is None else (each.interval.high - each.interval.low) / 2,
        )
        for each in material.shown_claims.controls
        if each.arm.arm == pair.routed.arm and each.arm.budget == pair.budget
    ]


def _places(
    curve: Curve, best: Optimum, material: Material, *, in_training: bool = False
) -> list[Place]:
    """Trials of a curve over the optimal dense model; with routing as in training, planned FLOPs
    and the loss of that mode."""
    by_hash, places = _by_hash(material), []
    for point in curve.points:
        record = by_hash[point.hash]
        loss, flops = point.loss, point.forward_flops
        if in_training and record.scores is not None and record.plan is not None:
            facts = material.manifest.facts_of(record.candidate.model)
            size = facts.size(record.unit, record.validation.part)
            loss, flops = record.scores.train_mode_loss, record.plan.forward_flops / size
        told = f"{curve.arm}, depth {point.depth}, width {point.width}: loss {decimal(loss)}"
        places.append(
            Place(point.params, flops / best.point.forward_flops, loss / best.loss, told)
        )
    return places


def _last_routed(material: Material) -> list[Record]:
    """Confirmed trials of learned routed arms at their largest budget."""
    return [
        record
        for arm in material.shown_claims.routed
        if arm.arm not in material.controls
        for record in arm.records
    ]


def _has_experts(material: Material, arm: str) -> bool:
    """Whether an arm's feed-forward parts are experts."""
    models = [
        record.candidate.model
        for record in material.records
        if record.arm == arm and record.stage is not Stage.EXPLORE
    ]
    return any(model.ffn is not None and model.ffn.name in EXPERTS for model in models)
