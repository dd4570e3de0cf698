"""The seams between a model, its blocks and its routers.

Shapes: B sequences, T positions, K rows that a routed block computes, D width.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from modsearch.config.model import ModelConfig
from modsearch.errors import ConfigError
from modsearch.nn.cache import LayerCache
from modsearch.nn.cost import Cost, Flops
from modsearch.nn.passes import Passes, ratio
from modsearch.nn.ranks import ALONE, Ranks
from modsearch.nn.rotary import Angles
from modsearch.registry import table
from modsearch.registry.registry import Options as Options
from modsearch.registry.registry import Registry, check_answers, named

Mode = Literal["train", "causal"]


@dataclass(frozen=True)
class Context:
    """What routers and blocks need beside the rows.

    Padding stands last in every sequence, so that a causal mask over rows hides it from
    every real row. In decoding (`cache` is there) the rows are the new ones alone, most often
    one: what a router knows then is each token's own row, its position, its key where the router
    asks for one, and the router's buffers.
    """

    mode: Mode
    layer: int
    positions_BT: Tensor
    """Positions in the original sequence, ascending."""
    valid_BT: Tensor | None
    """False for padding; None where all rows are real."""
    seed: int
    """Of this step, for routers that draw."""
    cache: LayerCache | None = None
    """What the layer processed before these rows, in decoding. It is the attention's: a router
    has no memory of its own there."""
    passes: Passes | None = None
    """None where the batch is the whole step, and outside of training."""
    key_BT: Tensor | None = None
    """In mode `causal`, for routers that are `keyed`: a 64-bit number made of each row's token
    and all before it, also in decoding. None elsewhere."""
    angles: Angles | None = None
    """Of the positions of the rows, where they are known."""

    def chosen(self, index_BK: Tensor, valid_BK: Tensor | None) -> "Context":
        """Of the chosen rows, at their own positions."""
        positions_BK = self.positions_BT.gather(1, index_BK)
        known = self.angles
        if known is not None and known.positions_BT is self.positions_BT:
            angles = known.chosen(index_BK, positions_BK)
        else:
            angles = None
        key_BK = None if self.key_BT is None else self.key_BT.gather(1, index_BK)
        return replace(
            self, positions_BT=positions_BK, valid_BT=valid_BK, key_BT=key_BK, angles=angles
        )

    def angles_of(self, head: int, dtype: torch.dtype) -> Angles:
        """Angles of the rows' positions, for heads of a width."""
        known = self.angles
        if known is not None and known.positions_BT is self.positions_BT and known.head == head:
            return known
        return Angles.of(self.positions_BT, head, dtype)

    @property
    def first_row(self) -> int:
        """Place in the step of the batch's first sequence."""
        return 0 if self.passes is None else self.passes.first_row

    def over_step(self, total: Tensor, num_rows: Tensor | int) -> Tensor:
        """Mean over the rows of the whole step, which may take several passes and ranks, where
        the batch has so much in so many rows; for auxiliary losses, and without a gradient."""
        if self.passes is None:
            return ratio(total.detach(), num_rows)
        return self.passes.mean(total, num_rows)


@dataclass(frozen=True)
class Routing:
    """Which rows a block processes: data, not control flow."""

    index_BK: Tensor
    """Ascending; padding stands last."""
    gate_BK: Tensor
    """Factor of the block's delta; that of padding is not used. The one way by which the loss
    reaches a router's parameters, beside `aux`."""
    valid_BK: Tensor | None
    """False for padding; None where all rows are real."""
    aux: Tensor | None = None
    """A scalar that training adds to the loss."""
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    """Detached scalars, for the training's log."""
    scores_BT: Tensor | None = None
    """What a learned router ranks or cuts tokens by; sigmoid(score) is their router weight.
    Read by the report alone (the histogram of router weights): None leaves that out."""
    membership_BT: Tensor | None = None
    """Log-odds, known at t, that the token is one of those that training chooses; causal mode
    chooses where they are positive. Read by the report alone (precision, recall and calibration
    of the causal choice). None for routers that choose the same way in both modes."""


@dataclass(frozen=True)
class Rows:
    """Rows that one sequence put through a layer's parts whose load varies, in causal mode."""

    routed: int | None = None
    """Through the routed part; None without one."""
    experts: int | None = None
    """Through experts, each visit counted; None without experts."""


@dataclass(frozen=True)
class Update:
    """What a block adds to the residual stream."""

    delta_BKD: Tensor
    index_BK: Tensor | None = None
    """Rows that the delta belongs to; None: all, in order."""
    valid_BK: Tensor | None = None
    aux: Tensor | None = None
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    routing: Routing | None = None
    """The decision behind it; None where every row was processed."""
    expert_rows_B: Tensor | None = None
    """Visits to experts of each sequence; None without experts."""

    def add_to(self, x_BTD: Tensor) -> Tensor:
        """The residual stream after the block; rows that are not in the index are unchanged."""
        delta_BKD = self.delta_BKD.to(x_BTD.dtype)
        if self.index_BK is None:
            return x_BTD + delta_BKD
        if delta_BKD.shape[1] == 0:
            return x_BTD
        flat = flat_index(self.index_BK, x_BTD.shape[1])
        rows = x_BTD.flatten(0, 1).index_add(0, flat, delta_BKD.flatten(0, 1))
        return rows.view_as(x_BTD)


def total(terms: Iterable[Tensor | None]) -> Tensor | None:
    """Sum of the auxiliary losses that there are; None without any."""
    found = [term for term in terms if term is not None]
    return sum(found[1:], start=found[0]) if found else None


def flat_index(index_BK: Tensor, num_positions: int) -> Tensor:
    """Rows of a (B, T, D) tensor seen as (B * T, D): one flat index is faster than a gather."""
    starts = num_positions * torch.arange(index_BK.shape[0], device=index_BK.device)
    return (index_BK + starts[:, None]).flatten()


def num_selected(capacity: float, num_positions: int) -> int:
    """Rows that a capacity means: at least one; the small term undoes float error (0.29 * 100)."""
    return max(1, math.floor(capacity * num_positions + 1e-9))


_ANSWERS: dict[str, type] = {"cost": Cost, "causal_forward": Flops, "output_weights": Sequence}


class Router(nn.Module, ABC):
    """Scores tokens and decides which ones a block processes.

    `forward` is all that a router without parameters has to define. The others state their
    `cost`, and options in a `Config` of their own.
    """

    Config: ClassVar[type[Options]] = Options
    """Its options, each with a default and a docstring; none, where nothing is said."""
    keyed: ClassVar[bool] = False
    """Whether it draws by the tokens so far: `context.key_BT` is there in mode `causal` then."""
    capacity: float
    """Share of tokens to choose; a schedule may change it from step to step."""
    ranks: Ranks = ALONE
    """The processes that train together, each of which has seen its share of the step."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_answers(cls, {"forward": Routing, "slots": int, "cost": Cost})

    def __init__(self, width: int, capacity: float, options: Options) -> None:
        super().__init__()
        self.capacity = capacity

    @abstractmethod
    def forward(self, x_BTD: Tensor, context: Context) -> Routing:
        """Choose rows.

        In mode `train` exactly `slots(T)` rows a sequence; in mode `causal` a decision at
        position t depends on tokens up to t alone, and on nothing else in the batch. Decoding is
        mode `causal` on the new rows alone, so a choice that needs earlier rows can't be made
        there. In evaluation (`self.training` is false) no buffer moves, in either mode.
        """

    def slots(self, num_positions: int) -> int:
        """Rows that a routed block computes per sequence in training: k, where nothing else is
        said."""
        return num_selected(self.capacity, num_positions)

    def cost(self, num_positions: int, mode: Mode) -> Cost:
        """FLOPs of the routing itself for one sequence, all in the part `router`.

        Raises:
            ConfigError: the router has parameters, and does not say what they cost.
        """
        if next(self.parameters(), None) is not None:
            raise ConfigError(
                f"{named(type(self))} has parameters, but no cost()\n"
                f'a dot product a token is Cost.product("router", 2 * num_positions * width)'
            )
        return Cost()

    def end_step(self) -> None:
        """Called once after each optimiser step, which may take several passes: the place to
        move what is not learned by gradient. Such values are buffers, so that checkpoints hold
        them. They are moved by the whole step, on every rank alike: `self.ranks.sum(...)` of
        what its passes have counted, or `self.ranks.together(...)`."""


class Ffn(nn.Module, ABC):
    """The position-wise part of a block."""

    Config: ClassVar[type[Options]] = Options
    """Its options, each with a default and a docstring; none, where nothing is said."""
    routes: ClassVar[bool] = False
    """Whether it lets tokens pass unchanged; the schedule then gives it a capacity."""
    capacity: float
    """Share of token slots that it processes; 1 where it is not routed."""
    ranks: Ranks = ALONE
    """As a router's."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_answers(cls, {"delta": Update, **_ANSWERS})

    def __init__(self, width: int, capacity: float, options: Options) -> None:
        super().__init__()
        self.capacity = capacity

    @abstractmethod
    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """What it adds to the residual stream, for each row from that row alone.

        `x_BTD` is normalised already. Inside a routed block the rows are the chosen ones, and
        `context.valid_BT` is false for slots that none fills.
        """

    @abstractmethod
    def cost(self, num_positions: int) -> Cost:
        """FLOPs for one sequence in training."""

    @abstractmethod
    def output_weights(self) -> list[Tensor]:
        """Matrices that write to the residual stream; the model scales their initial values."""

    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """Forward FLOPs of one sequence in causal mode; only experts make them vary."""
        return self.cost(num_positions).forward

    @property
    def idle_params(self) -> int:
        """Parameters that a token does not meet."""
        return 0

    def end_step(self) -> None:
        """Called once after each optimiser step, as a router's is."""


class Block(nn.Module, ABC):
    """One layer of the stack."""

    Config: ClassVar[type[Options]] = Options
    """Its options, each with a default and a docstring; none, where nothing is said."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_answers(cls, {"delta": Update, **_ANSWERS})

    @abstractmethod
    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """What the block adds to the residual stream `x_BTD`."""

    def forward(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, Update]:
        """The residual stream after the block, and the update without its delta."""
        update = self.delta(x_BTD, context)
        x_BTD = update.add_to(x_BTD)
        return x_BTD, replace(update, delta_BKD=x_BTD.new_empty(0))

    @abstractmethod
    def cost(self, num_positions: int) -> Cost:
        """FLOPs for one sequence in training."""

    @abstractmethod
    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """Forward FLOPs for one sequence in causal mode when its routed parts process `rows`."""

    @abstractmethod
    def output_weights(self) -> list[Tensor]:
        """Matrices that write to the residual stream; the model scales their initial values."""


class PlainBlock(Block):
    """A block that every token enters."""

    @abstractmethod
    def __init__(self, config: ModelConfig, options: Options, ffn: Ffn) -> None:
        super().__init__()

    @abstractmethod
    def sublayers(self) -> Mapping[str, Block]:
        """Its parts by name, in order; its delta is the sum of theirs, and so is its cost."""

    def cost(self, num_positions: int) -> Cost:
        """The sublayers' costs together."""
        parts = [part.cost(num_positions) for part in self.sublayers().values()]
        return sum(parts, start=Cost())

    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """The sublayers' together: every row enters; how many visit experts may vary."""
        parts = [part.causal_forward(num_positions, rows) for part in self.sublayers().values()]
        return sum(parts, start=Flops())

    def output_weights(self) -> list[Tensor]:
        """The sublayers'."""
        return [weight for part in self.sublayers().values() for weight in part.output_weights()]


class RoutedBlock(Block):
    """A block that wraps another one and lets only some tokens enter it."""

    @abstractmethod
    def __init__(self, options: Options, inner: PlainBlock, router: Router) -> None:
        super().__init__()


class Schedule(ABC):
    """Which layers are routed, with what capacity."""

    Config: ClassVar[type[Options]] = Options
    """Its options, each with a default and a docstring; none, where nothing is said."""
    warmup: float
    """Share of the steps over which capacities fall from 1 to their values."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_answers(cls, {"capacities": Sequence})

    @abstractmethod
    def __init__(self, options: Options) -> None: ...

    @abstractmethod
    def capacities(self, config: ModelConfig) -> list[float | None]:
        """Capacity of each layer after warm-up; None where the layer is not routed.

        Raises:
            ConfigError: the schedule does not fit the depth.
        """


GROUPS = table.GROUPS
ROUTERS: Registry[Router] = Registry("router", Router, table.ROUTERS, GROUPS["router"])
BLOCKS: Registry[Block] = Registry("block", Block, table.BLOCKS, GROUPS["block"], table.TAKEN)
FFNS: Registry[Ffn] = Registry("ffn", Ffn, table.FFNS, GROUPS["ffn"])
SCHEDULES: Registry[Schedule] = Registry("schedule", Schedule, table.SCHEDULES, GROUPS["schedule"])

KINDS: dict[str, Registry[Any]] = {
    "block": BLOCKS,
    "ffn": FFNS,
    "router": ROUTERS,
    "schedule": SCHEDULES,
}
