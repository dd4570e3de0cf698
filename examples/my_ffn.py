"""A feed-forward in one file: `--plugin my_ffn.py`, then `ffn: relu_squared` in a model."""

from pydantic import Field
from torch import Tensor, nn

from modsearch.nn.contracts import FFNS, Context, Ffn, Options, Update
from modsearch.nn.cost import Cost


@FFNS.register("relu_squared")
class ReluSquared(Ffn):
    """relu(x W)^2 V, of So et al. 2021 (arXiv 2109.08668): two matrices, no gate."""

    class Config(Options):
        """Options of the feed-forward."""

        ratio: float = Field(4.0, gt=0, le=64)
        """Hidden width over width."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
        hidden = max(1, round(options.ratio * width))
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        return Update(self.down(self.up(x_BTD).relu().square()))

    def cost(self, num_positions: int) -> Cost:
        products = self.up.weight.numel() + self.down.weight.numel()
        return Cost.product("matmul", 2 * num_positions * products)

    def output_weights(self) -> list[Tensor]:
        return [self.down.weight]
