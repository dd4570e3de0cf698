"""The section `explore` of a search space: what ranks recipes, and how their points are chosen."""

from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from modsearch.config.base import MOST_FLOPS, MOST_TOKENS, Component, ComponentField, Stated
from modsearch.config.evaluation import Objective
from modsearch.config.rules import once
from modsearch.registry.table import GRID
from modsearch.space.axes import OpenTree

PositiveFlops = Annotated[float, Field(gt=0, le=MOST_FLOPS)]
Budgets = Annotated[list[PositiveFlops], Field(min_length=1, max_length=64), AfterValidator(once)]

ASKS_PER_TRIAL = 5
"""A sampler's cell ends at the latest after so many for each trial that it wants trained."""


def _as_stated(sampler: Component) -> object:
    """A name alone as a text: studies of before there were options have it so."""
    return {"name": sampler.name, **sampler.options} if sampler.options else sampler.name


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
    objective: Objective | None = None
    """A metric of a suite that recipes are ranked by, in the place of the validation loss."""

    @model_validator(mode="after")
    def _trials_are_stated(self) -> "Explore":
        if not self.is_grid and self.trials is None:
            raise ValueError(f"sampler `{self.sampler.name}` needs `trials`")
        if self.is_grid and self.trials is not None:
            raise ValueError("sampler `grid` runs every point of the grid: leave `trials` out")
        return self

    @property
    def is_grid(self) -> bool:
        """Whether every point is run, instead of some that are drawn."""
        return self.sampler.name == GRID
