"""What was read off the figures of Raposo et al. 2024, as ratios, since its scale is another one,
and what a study has beside it. What was read off is approximate: nothing here is a golden number.
"""

from collections.abc import Mapping, Sequence

from modsearch.analysis.optima import Optimum
from modsearch.analysis.parity import forward_ratio
from modsearch.reporting.figures.paper import READ, Control, Reading
from modsearch.reporting.frames import Row
from modsearch.reporting.named import Pair

OURS = "this study"
FORWARD = "forward FLOPs at the minima: routed / dense"

FIGURE_3 = {
    "loss: best routed / best dense": "0.984 to 0.990",
    "loss: random control / best dense": "1.02, at 50 % capacity",
    "parameters: best routed / best dense": "1.2 to 2.0",
    "FLOPs per step: model 2 / model 1": "2.0",
    "FLOPs per step: model 3 / model 1": "0.5",
    "FLOPs per step: model 4 / model 1": "1.2",
}
"""Minima at about 3.13 to 3.14 and 3.09 to 3.10, the control's at 3.20; 250M and 300M to 500M
parameters; 6, 12, 3 and 7 times 1e14 FLOPs a step."""

FIGURE_4: list[Row] = [
    {
        "source": READ,
        "budget": budget,
        "dense minimum": dense,
        "routed minimum": routed,
        "loss: routed / dense": routed / dense,
        FORWARD: 1.0,
    }
    for budget, dense, routed in ((6e18, 3.13, 3.09), (2e19, 2.86, 2.83), (1e20, 2.59, 2.56))
]
"""The last column is what its text says of all budgets."""

FIGURE_5: Row = {"source": READ, "arm": "MoD", "capacity": 0.125, "weights over 0.5": 0.125}

FIGURE_6 = (Reading("MoD minimum", 0.9, 0.989),)
FIGURE_6_ACCURACY: Row = {
    "source": READ,
    "arm": "MoD, predictor",
    "accuracy": 0.97,
    "always skip": 0.875,
    "note": "`more than 97 % soon into training`; its text says 99 % elsewhere",
}

FIGURE_7 = (
    Reading("MoE", 1.0, 0.97),
    Reading("MoDE", 1.0, 0.957),
    Reading("MoE", 0.6, 0.98),
    Reading("MoDE", 0.6, 0.97),
)
"""Two transcriptions of MoE at 1.0 disagree: 0.96 and 0.98."""


FIGURE_3_SPEED = {
    "steps per second: model 3 / model 1": "1.6 and more",
    "steps per second: model 4 / model 1": "",
}
"""Only beside speeds that were measured apart."""


def beside_figure_3(
    pair: Pair,
    steps: Mapping[int, int],
    controls: Sequence[Control],
    speeds: Mapping[int, float],
) -> list[Row]:
    """What was read off, and the same of a study; `steps` are FLOPs by the number of a model,
    `speeds` steps per second of those that were timed."""
    loss, size = "loss: {} / best dense", "parameters: {} / best dense"
    ours = {
        loss.format("best routed"): pair.routed.loss / pair.dense.loss,
        size.format("best routed"): pair.routed.params / pair.dense.params,
    }
    for each in controls[:1]:
        ours[loss.format("random control")] = each.loss / pair.dense.loss
    of = {what: "minima of the curves" for what in ours}
    for number in {2, 3, 4} & steps.keys():
        what = f"FLOPs per step: model {number} / model 1"
        ours[what], of[what] = steps[number] / steps[1], "the trials that are named above"
    for number in {3, 4} & speeds.keys() if 1 in speeds else ():
        what = f"steps per second: model {number} / model 1"
        ours[what], of[what] = speeds[number] / speeds[1], "what `modsearch time` measured"
    told = FIGURE_3 | {what: read for what, read in FIGURE_3_SPEED.items() if what in ours}
    return [
        {"what": what, READ: read, OURS: ours.get(what), "of": of.get(what, "")}
        for what, read in told.items()
    ]


def beside_figure_4(dense: Optimum, routed: Optimum) -> Row:
    """A row of a study's own, after those of `FIGURE_4`."""
    return {
        "source": OURS,
        "budget": dense.budget,
        "dense minimum": dense.loss,
        "routed minimum": routed.loss,
        "loss: routed / dense": routed.loss / dense.loss,
        FORWARD: _forward_ratio(routed, dense),
        "note": "; ".join(
            f"{each.arm}: the lowest measured size, no fit ({each.refused})"
            for each in (dense, routed)
            if each.refused
        ),
    }


def _forward_ratio(routed: Optimum, dense: Optimum) -> float:
    """As the ledger of claims has it; of measured sizes where a minimum has no fit."""
    if routed.fit is None or dense.fit is None:
        return routed.point.forward_flops / dense.point.forward_flops
    return forward_ratio(routed.fit, dense.fit).value
