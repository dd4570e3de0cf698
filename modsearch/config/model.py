"""Shape and parts of a model."""

from pydantic import Field, model_validator

from modsearch.config.base import (
    MOST_LAYERS,
    MOST_TOKENS,
    MOST_WIDTH,
    ComponentField,
    Stated,
)
from modsearch.config.base import Component as Component


class ModelConfig(Stated):
    """Shape and parts of a decoder-only transformer."""

    vocab_size: int = Field(256, gt=1, le=MOST_TOKENS)
    """Rows of the embedding and of the LM head; tokens are bytes, so 256 or more. With
    `data.tokenizer: bpe` each value, one or several, has a tokenizer that is trained for it."""
    seq_len: int = Field(256, gt=1, le=MOST_TOKENS)
    """Tokens of a training sequence."""
    depth: int = Field(2, gt=0, le=MOST_LAYERS)
    """Blocks of the stack."""
    width: int = Field(32, gt=0, le=MOST_WIDTH)
    """Of the residual stream; a multiple of 2 x `num_heads`."""
    num_heads: int = Field(2, gt=0, le=1024)
    """Heads of queries."""
    num_kv_heads: int | None = Field(None, gt=0, le=1024)
    """Heads of keys and values, shared by groups of queries (Ainslie et al. 2023, arXiv
    2305.13245); as many as `num_heads` where nothing is said."""
    tied: bool = True
    """Whether the LM head is the embedding matrix."""
    block: ComponentField = Component(name="dense")
    """What a layer is; a block that is not routed ignores router, schedule, capacity and every."""
    ffn: ComponentField | None = None
    """What the block's name says, or `mlp`, where nothing is said."""
    router: ComponentField = Component(name="expert_choice")
    """Which tokens enter a routed block."""
    schedule: ComponentField = Component(name="every_nth")
    """Which layers are routed, with what capacity."""
    capacity: float = Field(0.125, gt=0, le=1)
    """Share of a sequence's tokens that a routed block processes."""
    every: int = Field(2, gt=0, le=MOST_LAYERS)
    """Every `every`-th block is routed, the others are dense."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "ModelConfig":
        if self.width % (2 * self.num_heads):
            raise ValueError(
                f"width must be a multiple of 2 x num_heads (rotary pairs), "
                f"but got width={self.width}, num_heads={self.num_heads}"
            )
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads must be a multiple of num_kv_heads, "
                f"but got num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}"
            )
        return self
