"""SwiGLU (Shazeer 2020, arXiv 2002.05202).

Shapes: B sequences, T positions, D width.
"""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from modsearch.nn.contracts import Context, Ffn, Options, Update
from modsearch.nn.cost import Cost


class Mlp(Ffn):
    """Gated MLP; three matrices of `ratio` x width."""

    class Config(Options):
        """Options of the MLP."""

        ratio: float = Field(8 / 3, gt=0, le=64)
        """Hidden width over width: 8/3 has as many parameters as a plain MLP of ratio 4."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
        self.hidden = 4 * max(1, round(options.ratio * width / 4))
        self.up = nn.Linear(width, 2 * self.hidden, bias=False)
        self.down = nn.Linear(self.hidden, width, bias=False)

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """down(silu(gate) * value)."""
        gate, value = self.up(x_BTD).chunk(2, dim=-1)
        return Update(self.down(F.silu(gate) * value))

    def cost(self, num_positions: int) -> Cost:
        """Three matrix products."""
        return Cost.product("matmul", 2 * num_positions * 3 * self.hidden * self.down.out_features)

    def output_weights(self) -> list[Tensor]:
        """The down projection."""
        return [self.down.weight]
