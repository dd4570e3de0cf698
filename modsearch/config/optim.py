"""How a candidate is trained."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from modsearch.config.base import Component, ComponentField, Stated

WidthRule = Literal["inverse", "mup"]


class OptimConfig(Stated):
    """AdamW with warm-up and cosine decay, where nothing else is said."""

    batch_size: int = Field(2, gt=0, le=65_536)
    """Sequences a step."""
    rate: float = Field(0.005, gt=0, le=1e6)
    """Peak of the learning rate at width 64; `width_rule` says what it is at others."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises to its peak, whatever the schedule."""
    final: float = Field(0.1, ge=0, le=1)
    """Last learning rate as a share of the peak, whatever the schedule."""
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
    optimizer: ComponentField = Component(name="adamw")
    """What makes a step of gradients."""
    schedule: ComponentField = Component(name="cosine")
    """How the learning rate falls after its warm-up."""
    width_rule: WidthRule = "inverse"
    """`inverse`: every rate is `rate * 64 / width`. `mup`: maximal update parametrisation (Yang et
    al. 2022, arXiv 2203.03466), a rate and initial values by what a parameter is."""


LATER = {"optimizer": {"name": "adamw"}, "schedule": {"name": "cosine"}, "width_rule": "inverse"}
"""Keys that came when there were studies already, with what these meant, in plain data."""


def trained_as(optim: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial is known by of its `optim` in plain data: as before there were later keys,
    where these say nothing new."""
    return {key: value for key, value in optim.items() if LATER.get(key, ...) != value}
