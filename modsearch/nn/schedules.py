"""Which layers are routed, with what capacity."""

from modsearch.nn.contracts import Options, Schedule
from modsearch.schema import ModelConfig


class EveryNth(Schedule):
    """Layer l, from 0, is routed if l mod every = every - 1: the first block is dense for
    every >= 2 (Raposo et al. 2024 route every other block; the parity is ours)."""

    class Config(Options):
        """No options."""

    def __init__(self, options: Config) -> None:
        self.options = options

    def capacities(self, config: ModelConfig) -> list[float | None]:
        """The same capacity in each routed layer."""
        return [
            config.capacity if layer % config.every == config.every - 1 else None
            for layer in range(config.depth)
        ]
