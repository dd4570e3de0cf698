"""How tokens are drawn; without torch, so that a mistake is told at once."""

from dataclasses import dataclass

from modsearch.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn from logits; temperature 0 takes the likeliest.

    Raises:
        ConfigError: a value is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    """Only the so many likeliest tokens."""
    top_p: float = 1.0
    """Only the likeliest tokens that have this much probability together (Holtzman et al. 2020,
    arXiv 1904.09751)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature is 0 or more, but got {self.temperature:g}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is 1 or more, but got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is over 0 and at most 1, but got {self.top_p:g}")
