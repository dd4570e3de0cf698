"""What the learning rate and the initial values of a parameter are at a width."""

from modsearch.config.optim import OptimConfig
from modsearch.optim.contracts import Role

BASE_WIDTH = 64
"""Where all width rules are one."""


def peak(optim: OptimConfig, role: Role, width: int, hidden_power: float = 1.0) -> float:
    """Highest learning rate of a parameter in a model of a width.

    `mup` is the maximal update parametrisation in the form that tied embeddings can have (Yang et
    al. 2022, arXiv 2203.03466, table 8): a step changes what each layer gives by as much at every
    width. Its 1/width before the logits is the initial value and the rate of the last norm's gain
    (`initial_factor`), so that models have no other form. The power of `hidden` is 1 for Adam; an
    orthogonal step's spectral norm grows with the square root of the width alone (Yang et al.
    2023, arXiv 2310.17813). Not covered: attention's 1/head in place of 1/sqrt(head), which
    matters where `num_heads` stays and heads grow, and weight decay, which goes with the rate.
    """
    if optim.width_rule == "inverse":
        return optim.rate * BASE_WIDTH / width
    powers = {
        "hidden": hidden_power,
        "output": 1.0,
        "last_norm": 1.0,
        "vocabulary": 0.0,
        "vector": 0.0,
    }
    return float(optim.rate * (BASE_WIDTH / width) ** powers[role])


def initial_factor(optim: OptimConfig, role: Role, width: int) -> float:
    """What initial values are multiplied by: under `mup` embedding and head have the deviation
    that they have at width 64 at every width, the last norm divides logits by the width, and what
    gives scores starts as small (smaller, where its deviation falls with the width by itself)."""
    if optim.width_rule == "inverse":
        return 1.0
    powers = {"vocabulary": -0.5, "last_norm": 1.0, "output": 1.0}
    return float((BASE_WIDTH / width) ** powers.get(role, 0.0))
