"""Which arms are routed and which are dense, and what sets a model apart."""

from modsearch.config.model import ModelConfig

UNROUTED_BLOCKS = ("dense", "moe")
"""Blocks that every token enters: baselines, never the routed arm of a headline."""
ROUTED_FFN = "mode_integrated"
"""Its no-op experts let tokens skip the MLP, whatever the block around it."""
PLAIN_FFNS = ("mlp",)


def is_routed(model: ModelConfig) -> bool:
    """Whether some tokens skip a part of the model."""
    return model.block.name not in UNROUTED_BLOCKS or _ffn(model) == ROUTED_FFN


def is_dense(model: ModelConfig) -> bool:
    """Whether every token meets every parameter."""
    return model.block.name == "dense" and _ffn(model) in PLAIN_FFNS


def describe(model: ModelConfig) -> str:
    """What sets a routed model apart, in a few words."""
    if not is_routed(model):
        return f"depth {model.depth}, width {model.width}"
    return f"capacity {model.capacity:g}, every {model.every}"


def same_but_router(a: ModelConfig, b: ModelConfig) -> bool:
    """Whether two models differ by their routers alone, if at all."""
    return a.model_copy(update={"router": b.router}) == b


def _ffn(model: ModelConfig) -> str:
    return "mlp" if model.ffn is None else model.ffn.name
