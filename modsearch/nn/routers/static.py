"""Control: every 1/c-th position is chosen, whatever the token, and the gate is 1.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

import torch
from torch import Tensor

from modsearch.cost import Cost
from modsearch.nn.contracts import Context, Mode, Options, Router, Routing
from modsearch.nn.selection import num_selected, pack


class Static(Router):
    """Fixed positions, spread evenly: the same rule in training and in causal mode."""

    class Config(Options):
        """No options."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Position p where floor((p + 1) c) > floor(p c): floor(T c) of the first T."""
        step_BT = (context.positions_BT.double() * self.capacity + 1e-9).floor()
        after_BT = ((context.positions_BT + 1).double() * self.capacity + 1e-9).floor()
        slots = self.slots(x_BTD.shape[1]) if context.mode == "train" else None
        index_BK, valid_BK = pack(after_BT > step_BT, context.valid_BT, slots)
        return Routing(index_BK, torch.ones_like(index_BK, dtype=x_BTD.dtype), valid_BK)

    def slots(self, num_positions: int) -> int:
        """k rows."""
        return num_selected(self.capacity, num_positions)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        """No matrix product."""
        return Cost()
