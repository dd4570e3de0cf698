"""The block that every token enters: attention, then an ffn, each behind a norm.

Shapes: B sequences, T rows, D width.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from modsearch.cost import Cost, Flops
from modsearch.nn.contracts import Block, Context, Ffn, Options, PlainBlock, Rows, Update
from modsearch.nn.layers import Attention, RmsNorm
from modsearch.schema import ModelConfig


class AttentionSublayer(Block):
    """Norm and self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = RmsNorm(config.width)
        self.attention = Attention(
            config.width, config.num_heads, config.num_kv_heads or config.num_heads
        )

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """What attention adds."""
        return Update(self.attention(self.norm(x_BTD), context))

    def cost(self, num_positions: int) -> Cost:
        """Projections, scores and values."""
        return self.attention.cost(num_positions)

    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """The same as in training: every row enters."""
        return self.cost(num_positions).forward

    def output_weights(self) -> list[Tensor]:
        """The output projection."""
        return [self.attention.out.weight]


class FfnSublayer(Block):
    """Norm and ffn."""

    def __init__(self, config: ModelConfig, ffn: Ffn) -> None:
        super().__init__()
        self.norm = RmsNorm(config.width)
        self.ffn = ffn

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """What the ffn adds."""
        return self.ffn.delta(self.norm(x_BTD), context)

    def cost(self, num_positions: int) -> Cost:
        """The ffn's."""
        return self.ffn.cost(num_positions)

    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """The ffn's."""
        return self.ffn.causal_forward(num_positions, rows)

    def output_weights(self) -> list[Tensor]:
        """The ffn's."""
        return self.ffn.output_weights()


class Dense(PlainBlock):
    """Pre-norm transformer block as one delta: the sum of its two sublayers' deltas."""

    class Config(Options):
        """No options."""

    def __init__(self, config: ModelConfig, options: Config, ffn: Ffn) -> None:
        super().__init__(config, options, ffn)
        self.attention = AttentionSublayer(config)
        self.ffn = FfnSublayer(config, ffn)

    def sublayers(self) -> Mapping[str, Block]:
        """Attention, then the ffn."""
        return {"attention": self.attention, "ffn": self.ffn}

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """The two deltas are added to each other before the caller adds them to `x_BTD`, so
        that a routed block of full capacity and gate 1 is equal to the bit."""
        attention_BTD = self.attention.delta(x_BTD, context).delta_BKD
        update = self.ffn.delta(x_BTD + attention_BTD, context)
        return replace(update, delta_BKD=attention_BTD + update.delta_BKD)

    def cost(self, num_positions: int) -> Cost:
        """Attention and ffn."""
        return self.attention.cost(num_positions) + self.ffn.cost(num_positions)

    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """Every row enters; how many visit experts may vary."""
        attention = self.attention.causal_forward(num_positions, rows)
        return attention + self.ffn.causal_forward(num_positions, rows)

    def output_weights(self) -> list[Tensor]:
        """The attention's output projection and the ffn's."""
        return [*self.attention.output_weights(), *self.ffn.output_weights()]
