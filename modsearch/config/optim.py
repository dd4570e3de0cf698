"""How a candidate is trained."""

from pydantic import Field

from modsearch.config.base import Stated


class OptimConfig(Stated):
    """AdamW with warm-up and cosine decay."""

    batch_size: int = Field(2, gt=0, le=65_536)
    """Sequences a step."""
    rate: float = Field(0.005, gt=0, le=1e6)
    """Learning rate at width 64; the rate in use is `rate * 64 / width`."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises to its peak."""
    final: float = Field(0.1, ge=0, le=1)
    """Last learning rate as a share of the peak."""
    weight_decay: float = Field(0.1, ge=0, le=100)
    """Of matrices; norms have none."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the mean of gradients, a step."""
    beta2: float = Field(0.99, ge=0, lt=1)
    """Decay of the mean of squared gradients, a step."""
    clip: float = Field(1.0, gt=0, le=1e6)
    """Largest gradient norm."""
    min_steps: int = Field(200, gt=0, le=1_000_000_000)
    """A candidate whose budget makes fewer steps is rejected."""
    max_epochs: float = Field(4.0, gt=0, le=1e9)
    """A candidate whose budget needs the train part more often is rejected."""
