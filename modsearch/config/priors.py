"""What other studies' trials say of a study's configurations, before any of its own is trained.

Losses are means over seeds, in the unit of the study that was searched then.
"""

from typing import Any

from modsearch.config.base import Frozen


class Prior(Frozen):
    """A configuration that another study has trained, as a point of this one's open axes."""

    point: dict[str, Any]
    """Labels by dotted path."""
    budget: float
    """Training FLOPs of each of its trials."""
    loss: float
    trials: int = 1
    """Seeds that the loss is the mean of."""
    level: str = ""
    """Of whose losses it is one: those with the same name and budget are on one level. Empty: of
    this study's own, by the same text, tokens and sample."""


class Priors(Frozen):
    """All of them by arm, as a study keeps them."""

    arms: dict[str, tuple[Prior, ...]] = {}


class WarmStart(Frozen):
    """A study that priors were taken from."""

    name: str
    """For readers, who have no use for a path of this machine."""
    key: str
    """The same for whatever is the same study, wherever it lies."""
    taken: dict[str, int]
    """Configurations by arm."""

    @property
    def told(self) -> str:
        """What was taken, in words."""
        each: list[str] = []
        for arm, count in self.taken.items():
            what = "of" if each else f"configuration{'s' * (count != 1)} of arm"
            each.append(f"{count:,} {what} {arm}")
        return f"what {self.name} trained: {', '.join(each)}"
