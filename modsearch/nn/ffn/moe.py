"""A mixture of experts in the place of the MLP: every row goes to `top_k` experts.

The baseline with token dropping that Mixture-of-Depths-and-Experts is compared with (Raposo et
al. 2024, section 4.3).

Shapes: B sequences, T rows, D width.
"""

from torch import Tensor

from modsearch.cost import Cost, Flops
from modsearch.nn.contracts import Context, Ffn, Rows, Update
from modsearch.nn.experts import ExpertLayer, ExpertOptions


class Moe(Ffn):
    """SwiGLU experts by token choice or expert choice."""

    class Config(ExpertOptions):
        """Options of the experts."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
        self.layer = ExpertLayer(width, options)

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """The weighted sum of each row's experts."""
        return self.layer.delta(x_BTD, 1.0, context)

    def cost(self, num_positions: int) -> Cost:
        """Scores and slots."""
        return self.layer.cost(num_positions, 1.0)

    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """Scores and visits."""
        return self.layer.causal_forward(num_positions, rows)

    def output_weights(self) -> list[Tensor]:
        """The down projections."""
        return [self.layer.experts.down]

    @property
    def idle_params(self) -> int:
        """Experts that a token does not take."""
        return self.layer.idle_params

    def end_step(self) -> None:
        """Move the loss-free bias."""
        self.layer.end_step(1.0)
