"""The section `explore` of a search space: what ranks recipes, and how their points are chosen."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer, field_validator, model_validator

from modsearch.config.base import MOST_FLOPS, MOST_TOKENS, Component, ComponentField, Stated
from modsearch.config.evaluation import PRICES, Objective, Price
from modsearch.config.rules import once
from modsearch.config.stopping import StoppingField
from modsearch.errors import shown
from modsearch.registry.table import GRID, ISOFLOP
from modsearch.space.axes import OpenTree

PositiveFlops = Annotated[float, Field(gt=0, le=MOST_FLOPS)]
Budgets = Annotated[list[PositiveFlops], Field(min_length=1, max_length=64), AfterValidator(once)]

ASKS_PER_TRIAL = 5
"""A sampler's cell ends at the latest after so many for each trial that it wants trained."""


def _as_stated(sampler: Component) -> object:
    """A name alone as a text: studies of before there were options have it so."""
    return {"name": sampler.name, **sampler.options} if sampler.options else sampler.name


def _check_several(stated: Sequence[object]) -> None:
    """Raises:
    ValueError: these are no objectives for one search.
    """
    shape = "several objectives are [loss, PRICE, ...] or [{suite: S, metric: M}, PRICE, ...]"
    known = f"prices are {', '.join(PRICES)}"
    first, *rest = stated or [None]
    if first != "loss" and not isinstance(first, dict | Objective):
        raise ValueError(f"{shape}; {known}")
    for place, each in enumerate(rest, start=1):
        if each not in PRICES:
            raise ValueError(f"objective.{place} is {shown(each)}: {shape}; {known}")
    if not rest or len(set(map(str, rest))) < len(rest):
        raise ValueError(f"{shape}, each price once")


Several = list[Literal["loss", "forward_flops", "cache_bytes", "decoding"] | Objective]
SamplerField = Annotated[ComponentField, PlainSerializer(_as_stated)]


class Explore(Stated):
    """Ranks recipes; its values enter no fit."""

    budgets: Budgets
    """Training FLOPs of a trial."""
    size: OpenTree
    """depth and width, fixed or open."""
    sampler: SamplerField = Component(name=GRID)
    """How points of the open axes are chosen."""
    trials: int | None = Field(None, gt=0, le=100_000)
    """Trained trials of each cell; a grid has none, it runs whole."""
    windows: int = Field(64, gt=0, le=MOST_TOKENS)
    """Windows of `seq_len` validation tokens that a trial is scored on."""
    objective: Objective | Several | None = None
    """A metric of a suite that recipes are ranked by, in the place of the validation loss; or a
    list: `loss` or such a metric, by which recipes are ranked, and then prices that are to be low
    at the same time: `forward_flops`, `cache_bytes`, or `decoding` (tokens/s, to be high)."""

    stopping: StoppingField | None = None
    """Ends trials early that are unlikely to be the best: `median`, `asha` or `extrapolate`, or
    `{rule: RULE, rungs: [SHARE, ...], startup: N}`. What a stopped one has spent is taken from the
    cell's `trials`, so that more are tried; it enters no ranking."""

    @property
    def metric(self) -> Objective | None:
        """The metric of a suite that recipes are ranked by; None: their loss."""
        first = self.objective[0] if isinstance(self.objective, list) else self.objective
        return first if isinstance(first, Objective) else None

    @property
    def prices(self) -> tuple[Price, ...]:
        """What is to be low beside the loss or the metric; nothing with one objective."""
        if not isinstance(self.objective, list):
            return ()
        return tuple(each for each in PRICES if each in self.objective[1:])

    @field_validator("objective", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        if isinstance(value, list):
            _check_several(value)
        return value

    @model_validator(mode="after")
    def _trials_are_stated(self) -> "Explore":
        if not self.is_grid and self.trials is None:
            raise ValueError(
                f"sampler `{self.sampler.name}` needs `trials`: so many of each arm and budget, "
                f"as in `explore.trials: 20`"
            )
        if self.is_grid and self.trials is not None:
            raise ValueError("sampler `grid` runs every point of the grid: leave `trials` out")
        if self.stopping is not None and self.objective is not None:
            raise ValueError("`stopping` goes by the training loss: leave `objective` out")
        if self.stopping is not None and self.sampler.name == ISOFLOP:
            raise ValueError(
                f"`stopping` does not go with sampler `{ISOFLOP}`: it learns from trials that are "
                f"trained to their end, and small budgets are its way to end bad ones early"
            )
        return self

    @property
    def is_grid(self) -> bool:
        """Whether every point is run, instead of some that are drawn."""
        return self.sampler.name == GRID
