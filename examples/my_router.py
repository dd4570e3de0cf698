"""A router in one file: `--plugin my_router.py`, or `plugins: [my_router.py]` in a space."""

from torch import Tensor

from modsearch.nn.contracts import ROUTERS, Context, Router, Routing
from modsearch.nn.selection import take


@ROUTERS.register("staggered")
class Staggered(Router):
    """A control that learns nothing: positions spread evenly, one further on in each layer."""

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        turn_BT = (context.positions_BT + context.layer).double() * self.capacity + 1e-9
        chosen_BT = turn_BT % 1 + self.capacity >= 1
        return take(chosen_BT, self.slots(x_BTD.shape[1]), context)
