"""Early stopping of explore's trials, as a user states it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from modsearch.config.base import Stated
from modsearch.config.rules import once

Share = Annotated[float, Field(gt=0, lt=1)]

RUNGS = {"median": [0.25, 0.5], "asha": [0.25, 0.5], "extrapolate": [0.5]}


class Stopping(Stated):
    """Which trials of explore are ended before their budget is spent."""

    rule: Literal["median", "asha", "extrapolate"]
    """`median`: those above the median of the trials before at the same share of their steps.
    `asha`: those that are not among the best 1 / `eta` there. `extrapolate`: those whose final
    loss, foretold from their own curve, is above the lowest one by more than its error."""
    rungs: (
        Annotated[list[Share], Field(min_length=1, max_length=16), AfterValidator(once)] | None
    ) = None
    """Shares of the steps at which it is decided; where nothing is said 0.25 and 0.5, and 0.5
    alone of `extrapolate`, whose forecasts from a quarter end too many of the best."""
    startup: int = Field(4, ge=3, le=100_000)
    """Trials of the cell that are trained to their end before any is stopped."""
    eta: float | None = Field(None, gt=1, le=100)
    """Of `asha` alone; 3 where nothing is said."""
    level: float | None = Field(None, gt=0.5, lt=1)
    """Of `extrapolate` alone: how sure it must be that the final loss is above the lowest one;
    0.95 where nothing is said."""

    @property
    def shares(self) -> list[float]:
        """Where it is decided, ascending."""
        return sorted(self.rungs or RUNGS[self.rule])

    @model_validator(mode="after")
    def _options_are_of_the_rule(self) -> "Stopping":
        for name, rule in (("eta", "asha"), ("level", "extrapolate")):
            stated = self.eta if name == "eta" else self.level
            if stated is not None and self.rule != rule:
                raise ValueError(f"`{name}` is of rule {rule}, but the rule is {self.rule}")
        return self


def _named(value: object) -> object:
    return {"rule": value} if isinstance(value, str) else value


StoppingField = Annotated[Stopping, BeforeValidator(_named)]
"""A text is its rule."""
