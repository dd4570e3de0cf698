"""A step that takes several passes over its sequences, or several ranks, trains as one pass would.

What a batch says about itself, such as the load in a balancing loss, is of the whole step and not
of a pass: a sweep without gradients gathers it, then the passes with gradients are given it. Ranks
add up what they have: in the pass, where each has only one, and else at the end of the sweep.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from modsearch.errors import ModsearchError
from modsearch.nn.ranks import ALONE, Ranks


class Passes:
    """Where the present pass stands in its step, and means over the step.

    Values have no names: every pass asks for the same ones in the same order.
    """

    def __init__(
        self, ranks: Ranks = ALONE, first_row: int = 0, *, only_one: bool = False
    ) -> None:
        """`first_row` is the place in the step of this rank's first sequence; `only_one`: each
        rank has one pass, and needs no sweep."""
        self.ranks = ranks
        self.first_row = self._begin = first_row
        """Place in the step of the pass's first sequence."""
        self.only_one = only_one
        self.meets = False
        """Whether ranks have met in the pass, to add up what it asked for."""
        self._sums: list[tuple[Tensor, Tensor]] = []
        """Of each total, and of its numbers of rows."""
        self._asked = 0
        self._gathering = True

    def next_pass(self, num_sequences: int) -> None:
        """The pass that ends had so many sequences."""
        self.first_row += num_sequences
        self._asked = 0

    def end_sweep(self) -> bool:
        """From now on means are given, and no longer gathered; answers whether there are any."""
        self._gathering = False
        self.first_row = self._begin
        sums = iter(self.ranks.sums([each for pair in self._sums for each in pair]))
        self._sums = list(zip(sums, sums, strict=True))
        return bool(self._sums)

    def mean(self, total: Tensor, num_rows: Tensor | int) -> Tensor:
        """Of the passes' totals together over the rows of all of them, detached.

        Raises:
            ModsearchError: the sweep was not asked for it.
        """
        found = (total.detach(), torch.as_tensor(num_rows, device=total.device))
        if self.only_one:
            self.meets = True
            return ratio(*self.ranks.sums(found))
        place, self._asked = self._asked, self._asked + 1
        if self._gathering and place == len(self._sums):
            self._sums.append(found)
        elif self._gathering:
            self._sums[place] = (self._sums[place][0] + found[0], self._sums[place][1] + found[1])
        elif place >= len(self._sums):
            raise ModsearchError(
                "a component asks for a mean over the step in some steps or passes only\n"
                "with micro_batch each of them must ask for the same ones"
            )
        return ratio(*self._sums[place])


def ratio(total: Tensor, num_rows: Tensor | int) -> Tensor:
    """A total over a number of rows; 0 without rows."""
    return total / torch.as_tensor(num_rows, device=total.device).clamp(min=1)


def step_ratio(passes: Sequence[tuple[Tensor, Tensor | int]], ranks: Ranks) -> Tensor:
    """Totals of all passes of a step over their numbers of rows, those of other ranks included."""
    totals, rows = zip(*passes, strict=True)
    total: Tensor = sum(totals)
    return ratio(*ranks.sums([total, torch.as_tensor(sum(rows), device=total.device)]))
