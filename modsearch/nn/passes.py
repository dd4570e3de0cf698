"""A step that takes several passes over its sequences trains as one pass would.

What a batch says about itself, such as the load in a balancing loss, is of the whole step and not
of a pass: a sweep without gradients gathers it, then the passes with gradients are given it.
"""

import torch
from torch import Tensor

from modsearch.errors import ModsearchError


class Passes:
    """Where the present pass stands in its step, and means over the step.

    Values have no names: every pass asks for the same ones in the same order.
    """

    def __init__(self) -> None:
        self.first_row = 0
        """Place in the step of the pass's first sequence."""
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
        self.first_row = 0
        return bool(self._sums)

    def mean(self, total: Tensor, num_rows: Tensor | int) -> Tensor:
        """Of the passes' totals together over the rows of all of them, detached.

        Raises:
            ModsearchError: the sweep was not asked for it.
        """
        place, self._asked = self._asked, self._asked + 1
        found = (total.detach(), torch.as_tensor(num_rows, device=total.device))
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
