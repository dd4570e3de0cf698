"""How `confirm` decides: fixed before its first trial, so that no look at results can bend it."""

from modsearch.config.base import Frozen

RUNS_PER_LOOK = 6
"""Fresh runs of an arm between two looks: two at each of three sizes."""
SIZES = 3
"""The chosen size and its two neighbours on the ladder."""


class Size(Frozen):
    """A point of a ladder."""

    depth: int
    width: int


class Chosen(Frozen):
    """What `measure` chose at one budget."""

    budget: float
    sizes: dict[str, tuple[Size, ...]]
    """Of each arm, smallest first. Run i of an arm has size i modulo their number."""
    routed: str | None
    """Arm of the headline; None where there is none."""
    dense: str | None
    added: dict[str, int] = {}
    """Arms that the study got later, by the runs of an arm that had been looked at by then. They
    took no part in the choice of the headline's arms."""


class Design(Frozen):
    """Looks at fresh runs, and what counts as no difference."""

    looks: tuple[int, ...]
    """Runs of an arm at each look, all before it included. One look: a fixed design."""
    curve: bool
    """Whether runs are spread over neighbouring sizes; else all have the chosen size."""
    margin: float
    """Nats per token: arms whose difference lies within it are equivalent."""
    earlier: tuple[int, ...] = ()
    """Runs of an arm at which a fixed design was looked at before it was given more."""
    chosen: tuple[Chosen, ...] = ()
    """By budget, in the order in which their confirm began."""

    def at(self, budget: float) -> Chosen | None:
        """What was chosen at a budget; None before its confirm has begun."""
        return next((each for each in self.chosen if each.budget == budget), None)

    def noting(self, chosen: Chosen) -> "Design":
        """The same with what is chosen at a budget, in the place of what was."""
        others = {each.budget: each for each in self.chosen}
        return self.model_copy(
            update={"chosen": tuple({**others, chosen.budget: chosen}.values())}
        )
