"""The block that every token enters: attention, then an ffn, each behind a norm.

Shapes: B sequences, T rows, D width.
"""

from torch import Tensor

from modsearch.cost import Cost
from modsearch.nn.contracts import Context, Ffn, Options, PlainBlock, Update
from modsearch.nn.layers import Attention, RmsNorm
from modsearch.schema import ModelConfig


class Dense(PlainBlock):
    """Pre-norm transformer block as one delta: the sum of its two sublayers' deltas."""

    class Config(Options):
        """No options."""

    def __init__(self, config: ModelConfig, options: Config, ffn: Ffn) -> None:
        super().__init__(config, options, ffn)
        self.attention_norm = RmsNorm(config.width)
        self.attention = Attention(config.width, config.num_heads)
        self.ffn_norm = RmsNorm(config.width)
        self.ffn = ffn

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """The two deltas are added to each other before the caller adds them to `x_BTD`, so
        that a routed block of full capacity and gate 1 is equal to the bit."""
        attention_BTD = self.attention(self.attention_norm(x_BTD), context.positions_BT)
        update = self.ffn.delta(self.ffn_norm(x_BTD + attention_BTD), context)
        return Update(
            attention_BTD + update.delta_BKD, aux=update.aux, statistics=update.statistics
        )

    def cost(self, num_positions: int) -> Cost:
        """Attention and ffn."""
        return self.attention.cost(num_positions) + self.ffn.cost(num_positions)

    def causal_forward(self, num_positions: int, num_rows: int) -> int:
        """The same as in training: every token enters."""
        return self.cost(num_positions).forward.total

    def output_weights(self) -> list[Tensor]:
        """The attention's output projection and the ffn's."""
        return [self.attention.out.weight, *self.ffn.output_weights()]
