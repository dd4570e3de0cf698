"""A router in one file: `--plugin my_router.py`, or `plugins: [my_router.py]` in a space."""

from torch import Tensor

from modsearch.cost import Cost
from modsearch.nn.contracts import ROUTERS, Context, Mode, Options, Router, Routing
from modsearch.nn.selection import num_selected, pack


@ROUTERS.register("staggered")
class Staggered(Router):
    """A control that learns nothing: positions spread evenly, one further on in each layer."""

    Config = Options

    def __init__(self, width: int, capacity: float, options: Options) -> None:
        super().__init__(width, capacity, options)

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        turn_BT = (context.positions_BT + context.layer).double() * self.capacity + 1e-9
        slots = self.slots(x_BTD.shape[1]) if context.mode == "train" else None
        index_BK, valid_BK = pack(turn_BT % 1 + self.capacity >= 1, context.valid_BT, slots)
        return Routing(index_BK, x_BTD.new_ones(index_BK.shape), valid_BK)

    def slots(self, num_positions: int) -> int:
        return num_selected(self.capacity, num_positions)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        return Cost()  # no matrix product
