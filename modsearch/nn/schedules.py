"""Which layers are routed, with what capacity."""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modsearch.config.base import MOST_LAYERS
from modsearch.config.model import ModelConfig
from modsearch.config.rules import once
from modsearch.errors import ConfigError
from modsearch.nn.contracts import Options, Schedule

MIN_CAPACITY = 0.01


class EveryNth(Schedule):
    """Layer l, from 0, is routed if l mod every = every - 1: the first block is dense for
    every >= 2 (Raposo et al. 2024 route every other block; the parity is ours)."""

    class Config(Options):
        """How the capacity goes from the first routed layer to the last."""

        decay: Literal["uniform", "linear", "cosine"] = "uniform"
        """`cosine` is the progressive ratio decay of p-MoD (Zhang et al. 2024, arXiv
        2412.04449)."""
        spread: float = Field(0.5, ge=0, le=1)
        """A decay goes from (1 + spread) x capacity to (1 - spread) x capacity."""
        warmup: float = Field(0.0, ge=0, lt=1)
        """Share of the steps over which capacities fall from 1 to their values."""

    def __init__(self, options: Config) -> None:
        self.options = options
        self.warmup = options.warmup

    def capacities(self, config: ModelConfig) -> list[float | None]:
        """The mean over the routed layers is the model's capacity, unless 1 or 0.01 cuts it."""
        found: list[float | None] = [None] * config.depth
        layers = range(config.every - 1, config.depth, config.every)
        for order, layer in enumerate(layers):
            way = order / (len(layers) - 1) if len(layers) > 1 else 0.5
            factor = 1 + self.options.spread * self._tilt(way)
            found[layer] = min(1.0, max(MIN_CAPACITY, config.capacity * factor))
        return found

    def _tilt(self, way: float) -> float:
        """From 1 at the first routed layer to -1 at the last."""
        if self.options.decay == "uniform":
            return 0.0
        return 1 - 2 * way if self.options.decay == "linear" else math.cos(math.pi * way)


class Explicit(Schedule):
    """The layers that are named, from 0; `every` is not used."""

    class Config(Options):
        """Layers and capacities."""

        layers: Annotated[list[int], AfterValidator(once)] = Field([], max_length=MOST_LAYERS)
        """Routed layers; with none of them a routed model has no plan."""
        capacities: list[float] | None = Field(None, max_length=MOST_LAYERS)
        """One for each of them; the model's capacity where nothing is said."""
        warmup: float = Field(0.0, ge=0, lt=1)
        """Share of the steps over which capacities fall from 1 to their values."""

    def __init__(self, options: Config) -> None:
        self.options = options
        self.warmup = options.warmup

    def capacities(self, config: ModelConfig) -> list[float | None]:
        """Those of the list."""
        layers, capacities = self.options.layers, self.options.capacities
        if capacities is None:
            capacities = [config.capacity] * len(layers)
        if len(capacities) != len(layers) or len(set(layers)) != len(layers):
            raise ConfigError(
                f"schedule `explicit` needs one capacity for each of its layers, each named once, "
                f"but got layers {layers}, capacities {capacities}"
            )
        if not all(0 <= layer < config.depth for layer in layers):
            raise ConfigError(
                f"schedule `explicit` routes layers {layers} of depth {config.depth}"
            )
        if not all(0 < capacity <= 1 for capacity in capacities):
            raise ConfigError(f"a capacity is over 0 and at most 1, but got {capacities}")
        found: list[float | None] = [None] * config.depth
        for layer, capacity in zip(layers, capacities, strict=True):
            found[layer] = capacity
        return found
