"""A router in one file: `--plugin my_router.py`, or `plugins: [my_router.py]` in a space."""

from torch import Tensor

from modsearch.cost import Cost
from modsearch.nn.contracts import ROUTERS, Context, Mode, Options, Router, Routing


@ROUTERS.register("stride")
class Stride(Router):
    """Every n-th position for capacity 1/n, gate 1: what does choosing add to skipping?"""

    Config = Options

    def __init__(self, width: int, capacity: float, options: Options) -> None:
        super().__init__(width, capacity, options)

    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        skipped_BT = context.positions_BT % int(1 / self.capacity) != 0
        if context.valid_BT is not None:
            skipped_BT = skipped_BT | ~context.valid_BT
        index_BK = skipped_BT.byte().sort(stable=True).indices[:, : self.slots(x_BTD.size(1))]
        return Routing(index_BK, x_BTD.new_ones(index_BK.shape), ~skipped_BT.gather(1, index_BK))

    def slots(self, num_positions: int) -> int:
        return len(range(0, num_positions, int(1 / self.capacity)))

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        return Cost()  # no matrix product
