"""A block in one file: `--plugin my_block.py`, then `block: parallel` in a model."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from modsearch.config.model import ModelConfig
from modsearch.nn.contracts import BLOCKS, Block, Context, Ffn, Options, PlainBlock, Update
from modsearch.nn.layers import AttentionSublayer, FfnSublayer


@BLOCKS.register("parallel")
class Parallel(PlainBlock):
    """x + attention(x) + ffn(x), of Wang and Komatsuzaki 2021 (GPT-J): neither waits for the
    other."""

    def __init__(self, config: ModelConfig, options: Options, ffn: Ffn) -> None:
        super().__init__(config, options, ffn)
        self.attention = AttentionSublayer(config)
        self.ffn = FfnSublayer(config, ffn)

    def sublayers(self) -> Mapping[str, Block]:
        return {"attention": self.attention, "ffn": self.ffn}

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        attention_BTD = self.attention.delta(x_BTD, context).delta_BKD
        update = self.ffn.delta(x_BTD, context)  # with what experts say, where the ffn has any
        return replace(update, delta_BKD=attention_BTD + update.delta_BKD)
