"""Control: every 1/c-th position is chosen, whatever the token, and the gate is 1.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

from torch import Tensor

from modsearch.nn.contracts import Context, Router, Routing
from modsearch.nn.selection import take


class Static(Router):
    """Fixed positions, spread evenly: the same rule in training and in causal mode."""

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Position p where floor((p + 1) c) > floor(p c): floor(T c) of the first T."""
        step_BT = (context.positions_BT.double() * self.capacity + 1e-9).floor()
        after_BT = ((context.positions_BT + 1).double() * self.capacity + 1e-9).floor()
        return take(after_BT > step_BT, self.slots(x_BTD.shape[1]), context)
