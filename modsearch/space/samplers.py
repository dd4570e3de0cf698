"""The seam of search: what chooses the values of a cell's next trial.

A sampler of a plugin is a class that derives from `Sampler` under `SAMPLERS.register`. It holds
nothing between two calls: what it proposes is a function of what it is asked with, so that a
search that was interrupted goes on as an uninterrupted one would have.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from modsearch.config.base import Component
from modsearch.config.evaluation import Price
from modsearch.config.priors import Prior
from modsearch.config.records import Record, Stage
from modsearch.registry import table
from modsearch.registry.options import made, options_of
from modsearch.registry.registry import Options as Options
from modsearch.registry.registry import Registry, check_answers
from modsearch.space.axes import Int

SEED = "seed"
"""Path of the axis that a sampler which `reseeds` has beside those of the space."""
SEEDS = Int(0, 1_000_000, 1)
"""Of a trial, from 0: the first one's, the second one's, ..."""

Point = dict[str, Any]
"""Labels of axes by dotted path, those of chosen components included: `{"optim.rate": 0.005}`."""


@dataclass(frozen=True)
class CellSpec:
    """One optimisation problem: a tree of values for one arm at one budget in one stage."""

    stage: Stage
    arm: str
    budget: float
    tree: Any
    """Its open axes are what a point has: `modsearch.space.points.open_axes`."""
    sampler: Component = field(default_factory=lambda: Component(name=table.GRID))
    trials: int | None = None
    """Trained trials wanted; None: every point of the grid."""
    points: tuple[Point, ...] | None = None
    """The grid in the order it is run; None: its own order."""
    prices: tuple[Price, ...] = ()
    """What is to be low beside the cost, where there are several objectives."""
    budgets: tuple[float, ...] = ()
    """Of all cells of the arm in this stage, ascending; what is searched for is the best at the
    last one."""
    prior: tuple[Prior, ...] = ()
    """What other studies have trained of these configurations: to learn from, and no result. The
    same for all cells of the arm."""

    @property
    def name(self) -> str:
        """Name of the cell, and of its study in the ledger.

        The digest of the tree keeps apart what an extended study asks with another recipe.
        """
        digest = hashlib.sha256(repr(self.tree).encode()).hexdigest()[:8]
        return f"{self.stage}/{self.arm}/{self.budget!r}/{digest}"


@dataclass(frozen=True)
class Tried:
    """An earlier trial of the cell."""

    number: int
    point: Mapping[str, Any]
    cost: float | None
    """What the cell makes small; None while it trains, and where it has none."""
    running: bool
    """Whether it trains still; what has ended without a cost was rejected or stopped, or
    has failed."""
    hash: str | None
    """Of its record; None where its driver died before it was known."""
    costs: tuple[float, ...] = ()
    """Of several objectives: `cost`, and then each of `spec.prices`, all to be low."""
    reached: tuple[int, float] | None = None
    """Of one that was stopped: in so many hundredths of its steps, and its training loss there."""


@dataclass(frozen=True)
class Ask:
    """The question for one more trial, and all that its answer may depend on."""

    spec: CellSpec
    seed: int
    """Of the study."""
    number: int
    """Of the trial in its cell, from 0."""
    wanted: int
    """Trained trials at which the cell is full."""
    tried: Sequence[Tried]
    """Of this cell, in order of their numbers, which are below `number`."""
    records: Callable[[], Mapping[str, Record]]
    """Reads the study's results by their hashes: of all cells and stages, with loss, FLOPs and
    seed."""
    untried: Iterable[Point]
    """Points of the cell's grid that no trial has had, in the order in which they are run."""

    @property
    def draw_seed(self) -> int:
        """A seed of 32 bits for what is drawn for this trial."""
        return draw_seed(self.seed, self.spec.name, self.number)


def draw_seed(seed: int, cell: str, number: int) -> int:
    """Of a trial, by the study's seed, the cell's name and its number."""
    digest = hashlib.sha256(f"{seed}/{cell}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


class Sampler(ABC):
    """Chooses the points of a cell, one after the other."""

    Config: ClassVar[type[Options]] = Options
    """Its options, each with a default and a docstring; none, where nothing is said."""
    reseeds: ClassVar[bool] = False
    """Whether its points have a `seed` (0, 1, ...) beside the axes, so that it may have a
    candidate trained again; else all trials have seed 0, and a repeated point costs nothing."""
    warms: ClassVar[bool] = False
    """Whether it learns from `ask.spec.prior`; else a study can't be warm-started with it."""
    measures: ClassVar[bool] = False
    """Whether it may choose the sizes of a cell of measure, where `spec.points` are those of the
    ladder with their seeds: as many trials as there are points, of these sizes or of others."""

    smaller_first: bool = False
    """Whether cells of small budgets are filled before those of larger ones."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_answers(cls, {})

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def propose(self, ask: Ask) -> Point | None:
        """The point of the next trial.

        None asks for nothing by what is known now: it is asked again when another result has come
        back, and where no trial is in flight any more, that ends the cell. Trials in flight are
        among `ask.tried`. A cell ends, too, when `ask.wanted` trials are trained, when every point
        of a finite tree was tried, and after five asks for each trial that is wanted.
        """


SAMPLERS: Registry[Sampler] = Registry("sampler", Sampler, table.SAMPLERS, table.GROUPS["sampler"])


def sampler_of(component: Component) -> Sampler:
    """The sampler that a space names.

    Raises:
        ConfigError: unknown name or option, or a value out of range.
    """
    return made(SAMPLERS.get(component.name), options_of(SAMPLERS, component))
