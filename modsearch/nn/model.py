"""A decoder-only transformer assembled from registered parts.

Shapes: B sequences, T positions, D width, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from modsearch.config.model import ModelConfig
from modsearch.errors import ConfigError
from modsearch.nn.cache import LayerCache
from modsearch.nn.contracts import (
    BLOCKS,
    FFNS,
    ROUTERS,
    SCHEDULES,
    Block,
    Context,
    Ffn,
    Mode,
    PlainBlock,
    RoutedBlock,
    Router,
    Rows,
    Update,
    total,
)
from modsearch.nn.cost import Cost
from modsearch.nn.keys import running_keys
from modsearch.nn.layers import RmsNorm
from modsearch.nn.losses import head_loss
from modsearch.nn.parts import completed, component_options, made
from modsearch.nn.passes import Passes
from modsearch.nn.ranks import Ranks
from modsearch.nn.rotary import Angles
from modsearch.nn.selection import chosen_mask
from modsearch.registry.built_in import base_name

LONGEST_TRY = 1024
"""Positions are enough to see what a router learns from."""


@dataclass(frozen=True)
class Trace:
    """What the layers of one forward pass said."""

    shape: tuple[int, int]
    """Sequences and positions."""
    updates: Sequence[Update]
    """Of each layer; their deltas are not kept."""

    @property
    def aux(self) -> Tensor | None:
        """Sum of the layers' auxiliary losses."""
        return total(update.aux for update in self.updates)

    @property
    def chosen(self) -> list[Tensor | None]:
        """For each layer which tokens entered its routed part (B, T); None where all did."""
        routings = [update.routing for update in self.updates]
        return [
            None if r is None else chosen_mask(r.index_BK, r.valid_BK, self.shape[1])
            for r in routings
        ]

    @property
    def rows(self) -> list[list[Rows]]:
        """For each sequence and each layer, the rows that routed parts and experts processed."""
        layers = []
        for update, chosen_BT in zip(self.updates, self.chosen, strict=True):
            routed = _counts(None if chosen_BT is None else chosen_BT.sum(1), self.shape[0])
            experts = _counts(update.expert_rows_B, self.shape[0])
            layers.append([Rows(*pair) for pair in zip(routed, experts, strict=True)])
        return [list(rows) for rows in zip(*layers, strict=True)]


@dataclass(frozen=True)
class Output(Trace):
    """Of one forward pass."""

    logits_BTV: Tensor


def statistics(updates: Sequence[Update]) -> dict[str, Tensor]:
    """What layers report, each a mean over the layers that report it."""
    found: dict[str, list[Tensor]] = {}
    for update in updates:
        for name, value in update.statistics.items():
            found.setdefault(name, []).append(value)
    return {name: torch.stack(values).mean().detach() for name, values in sorted(found.items())}


def _shape(tokens_BT: Tensor) -> tuple[int, int]:
    return tokens_BT.shape[0], tokens_BT.shape[1]


def _counts(counts_B: Tensor | None, num_sequences: int) -> Sequence[int | None]:
    return [None] * num_sequences if counts_B is None else counts_B.tolist()


class Decoder(nn.Module):
    """Embedding, blocks, norm, head. Parameters are drawn from torch's global generator."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config = completed(config)
        self.schedule = made(
            SCHEDULES.get(config.schedule.name), component_options("schedule", config.schedule)
        )
        capacities = self.schedule.capacities(config)
        self.capacities = capacities if routes(config) else [None] * config.depth
        """Of each layer, after warm-up; None where the layer is not routed."""
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(_block(config, capacity) for capacity in self.capacities)
        self.is_warm = True
        """Whether capacities have come down to their values."""
        self._keyed = any(isinstance(m, Router) and m.keyed for m in self.modules())
        self.norm = RmsNorm(config.width)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        self._initialise()
        if config.tied:
            self.head.weight = self.embedding.weight

    @property
    def routed_layers(self) -> list[int]:
        """Layers that some tokens skip, or whose experts they skip."""
        return [layer for layer, capacity in enumerate(self.capacities) if capacity is not None]

    @property
    def num_params(self) -> int:
        """All parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def active_params(self) -> int:
        """Parameters that a token meets when no block skips it."""
        idle = sum(module.idle_params for module in self.modules() if isinstance(module, Ffn))
        return self.num_params - idle

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embedding.weight.device

    def state(self) -> dict[str, Tensor]:
        """Every parameter, once, and every buffer, by name: what a checkpoint holds."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def set_progress(self, progress: float) -> None:
        """Set capacities for a point of training, from 0 at its start to 1 at its end."""
        stair = warmed_stair(self.schedule.warmup, progress)
        self.is_warm = stair == 1
        for capacity, block in zip(self.capacities, self.stack(), strict=True):
            if capacity is not None:
                for module in block.modules():
                    if isinstance(module, Router | Ffn) and _is_routed(module):
                        module.capacity = 1 + (capacity - 1) * stair if stair < 1 else capacity

    def set_ranks(self, ranks: Ranks) -> None:
        """Tell routers and experts with whom they train."""
        for module in self.modules():
            if isinstance(module, Router | Ffn):
                module.ranks = ranks

    def end_step(self) -> None:
        """Let routers and experts move what they do not learn by gradient."""
        for module in self.modules():
            if isinstance(module, Router | Ffn):
                module.end_step()

    def _initialise(self) -> None:
        """Fan-in scaling; what writes to the residual stream is scaled down by the square root
        of the number of sublayers (Radford et al. 2019)."""
        nn.init.normal_(self.embedding.weight, std=self.config.width**-0.5)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                if not module.weight.numel():
                    raise ConfigError("a component has a matrix without elements: see its options")
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        with torch.no_grad():
            for block in self.stack():
                for weight in block.output_weights():
                    weight.mul_((2 * self.config.depth) ** -0.5)

    def stack(self) -> list[Block]:
        """The blocks, in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(
        self,
        tokens_BT: Tensor,
        mode: Mode,
        seed: int = 0,
        valid_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
        passes: Passes | None = None,
    ) -> Output:
        """Logits of the next token at every position.

        Args:
            tokens_BT: token ids.
            mode: routing as in training, or without a look at later tokens.
            seed: of the step, for routers that draw.
            valid_BT: false for padding, which must stand last in each sequence.
            positions_BT: of the tokens; 0, 1, 2, ... where nothing is said.
            caches: one a layer, with what earlier calls processed; they are extended.
            passes: of the step that this is one pass of, if there are several.
        """
        x_BTD, updates = self.hidden(tokens_BT, mode, seed, valid_BT, positions_BT, caches, passes)
        return Output(_shape(tokens_BT), updates, self.head(x_BTD))

    def hidden(
        self,
        tokens_BT: Tensor,
        mode: Mode,
        seed: int = 0,
        valid_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
        passes: Passes | None = None,
        angles: Angles | None = None,
    ) -> tuple[Tensor, list[Update]]:
        """What the head is given (B, T, D), and what the layers said; arguments of `forward`.

        `angles`: those of positions 0, 1, 2, ..., where they are known.
        """
        B, T = tokens_BT.shape
        if positions_BT is None:
            positions_BT = torch.arange(T, device=tokens_BT.device).expand(B, T)
        key_BT = None
        if self._keyed and mode == "causal":
            first = None if caches is None else caches[0]
            key_BT = running_keys(tokens_BT, positions_BT, valid_BT, first)
        x_BTD = self.embedding(tokens_BT)
        if angles is None:
            angles = self.angles(positions_BT)
        else:
            angles = replace(angles, positions_BT=positions_BT)
        updates = []
        for layer, block in enumerate(self.stack()):
            cache = None if caches is None else caches[layer]
            context = Context(
                mode, layer, positions_BT, valid_BT, seed, cache, passes, key_BT, angles
            )
            x_BTD, update = block(x_BTD, context)
            updates.append(update)
        return self.norm(x_BTD), updates

    def logits(
        self,
        tokens_BT: Tensor,
        mode: Mode,
        valid_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """Those of `forward` alone (B, T, V)."""
        output: Output = self(
            tokens_BT, mode, valid_BT=valid_BT, positions_BT=positions_BT, caches=caches
        )
        return output.logits_BTV

    def empty_caches(self, num_sequences: int) -> list[LayerCache]:
        """One a layer, for `forward` and `logits` in mode `causal`."""
        return [LayerCache.empty(num_sequences, self.device) for _ in self.blocks]

    def angles(self, positions_BT: Tensor) -> Angles:
        """By which attention turns rows at some positions."""
        head = self.config.width // self.config.num_heads
        return Angles.of(positions_BT, head, self.embedding.weight.dtype)

    def loss(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor,
        seed: int,
        passes: Passes | None = None,
        angles: Angles | None = None,
    ) -> tuple[Tensor, Trace]:
        """Mean cross-entropy in nats, routing as in training, and the pass that it is of;
        `angles` as for `hidden`."""
        x_BTD, updates = self.hidden(tokens_BT, "train", seed, passes=passes, angles=angles)
        loss = head_loss(x_BTD.flatten(0, 1), self.head.weight, targets_BT.flatten())
        return loss, Trace(_shape(tokens_BT), updates)

    def cost(self, num_positions: int) -> Cost:
        """FLOPs of one training sequence."""
        total = Cost.product("head", self.head_flops(num_positions))
        for block in self.stack():
            total = total + block.cost(num_positions)
        return total

    def causal_forward(self, num_positions: int, rows: Sequence[Rows]) -> int:
        """Forward FLOPs of one sequence whose layers process `rows` each."""
        blocks = zip(self.stack(), rows, strict=True)
        return self.head_flops(num_positions) + sum(
            block.causal_forward(num_positions, of_layer).total for block, of_layer in blocks
        )

    def head_flops(self, num_positions: int) -> int:
        """Forward FLOPs of the LM head."""
        return 2 * num_positions * self.config.width * self.config.vocab_size


def routes(config: ModelConfig) -> bool:
    """Whether some tokens skip a part of the model."""
    assert config.ffn is not None
    block = BLOCKS.get(base_name("block", config.block.name))
    return issubclass(block, RoutedBlock) or FFNS.get(config.ffn.name).routes


def unlearned(config: ModelConfig) -> str | None:
    """What a model's router has to learn and can't; None where all learns, and without a router.

    Its parameters learn by the gate of the chosen rows and by its auxiliary loss alone, so that
    random rows tell which of them a gradient reaches.
    """
    if not issubclass(BLOCKS.get(base_name("block", config.block.name)), RoutedBlock):
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        router = _router(config, config.capacity).double()
        with torch.no_grad():  # what starts at zero learns from the second step on
            for parameter in router.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
        T = min(config.seq_len, LONGEST_TRY)
        x_BTD = torch.randn(2, T, config.width, dtype=torch.float64)
        routing = router(x_BTD, Context("train", 0, torch.arange(T).expand(2, T), None, 0))
        reached = (routing.gate_BK * torch.randn(routing.gate_BK.shape).double()).sum()
    reached = reached if routing.aux is None else reached + routing.aux
    if reached.requires_grad:
        reached.backward()
    idle = [f"`{n}`" for n, p in router.named_parameters() if p.grad is None or not p.grad.any()]
    if not idle:
        return None
    said = " with gate `one`" if config.router.options.get("gate") == "one" else ""
    return f"router `{config.router.name}`{said} never learns {', '.join(idle)}: no gradient comes"


def warmed_stair(warmup: float, progress: float) -> float:
    """How far capacities have come from 1 to their values, in 64 stairs, so that few shapes
    occur; 1 after warm-up."""
    return 1.0 if progress >= warmup else int(64 * progress / warmup + 1e-9) / 64


def _is_routed(module: Router | Ffn) -> bool:
    return isinstance(module, Router) or module.routes


def _block(config: ModelConfig, capacity: float | None) -> Block:
    """One layer; a routed block wraps a dense one."""
    assert config.ffn is not None
    ffn_cls = FFNS.get(config.ffn.name)
    share = capacity if capacity is not None and ffn_cls.routes else 1.0
    ffn = made(ffn_cls, config.width, share, component_options("ffn", config.ffn))
    cls = BLOCKS.get(base_name("block", config.block.name))
    options = component_options("block", config.block)
    if issubclass(cls, PlainBlock):
        return made(cls, config, options, ffn)
    dense = BLOCKS.get("dense")
    assert issubclass(dense, PlainBlock)
    inner = dense(config, dense.Config(), ffn)
    if capacity is None:
        return inner
    assert issubclass(cls, RoutedBlock)
    return made(cls, options, inner, _router(config, capacity))


def _router(config: ModelConfig, capacity: float) -> Router:
    options = component_options("router", config.router)
    return made(ROUTERS.get(config.router.name), config.width, capacity, options)
