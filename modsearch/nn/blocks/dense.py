"""The block that every token enters: attention, then an ffn, each behind a norm.

Shapes: B sequences, T rows, D width.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from modsearch.config.model import ModelConfig
from modsearch.nn.contracts import Block, Context, Ffn, Options, PlainBlock, Update
from modsearch.nn.layers import AttentionSublayer, FfnSublayer


class Dense(PlainBlock):
    """Pre-norm transformer block as one delta: the sum of its two sublayers' deltas."""

    def __init__(self, config: ModelConfig, options: Options, ffn: Ffn) -> None:
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
