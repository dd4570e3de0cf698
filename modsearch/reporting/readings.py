"""What was read off the figures of Raposo et al. 2024, as ratios, since its scale is another one.
All of it is approximate: nothing here is a golden number."""

from modsearch.reporting.figures.paper import READ, Reading
from modsearch.reporting.frames import Row

OURS = "this study"

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
        "forward FLOPs: routed / dense": 1.0,
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
