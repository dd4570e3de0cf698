"""A decoder-only transformer assembled from registered parts.

Shapes: B sequences, T positions, D width, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modsearch.cost import Cost
from modsearch.nn.contracts import (
    BLOCKS,
    FFNS,
    ROUTERS,
    SCHEDULES,
    Block,
    Context,
    Mode,
    PlainBlock,
    RoutedBlock,
    Update,
    component_options,
)
from modsearch.nn.layers import RmsNorm
from modsearch.schema import ModelConfig


@dataclass(frozen=True)
class Output:
    """Of one forward pass."""

    logits_BTV: Tensor
    aux: Tensor | None
    """Sum of the blocks' auxiliary losses."""
    chosen: list[Tensor | None]
    """For each layer which tokens entered it (B, T); None where all did."""


class Decoder(nn.Module):
    """Embedding, blocks, norm, head. Parameters are drawn from torch's global generator."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        schedule = SCHEDULES.get(config.schedule.name)(
            component_options("schedule", config.schedule)
        )
        routed = issubclass(BLOCKS.get(config.block.name), RoutedBlock)
        capacities = schedule.capacities(config) if routed else [None] * config.depth
        self.capacities = capacities
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(_block(config, capacity) for capacity in capacities)
        self.norm = RmsNorm(config.width)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        self._initialise()
        if config.tied:
            self.head.weight = self.embedding.weight

    @property
    def routed_layers(self) -> list[int]:
        """Layers that some tokens skip."""
        return [layer for layer, capacity in enumerate(self.capacities) if capacity is not None]

    def _initialise(self) -> None:
        """Fan-in scaling; what writes to the residual stream is scaled down by the square root
        of the number of sublayers (Radford et al. 2019)."""
        nn.init.normal_(self.embedding.weight, std=self.config.width**-0.5)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        with torch.no_grad():
            for block in self.stack():
                for weight in block.output_weights():
                    weight.mul_((2 * self.config.depth) ** -0.5)

    def stack(self) -> list[Block]:
        """The blocks, in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(
        self, tokens_BT: Tensor, mode: Mode, seed: int = 0, valid_BT: Tensor | None = None
    ) -> Output:
        """Logits of the next token at every position.

        Padding, where `valid_BT` is false, must stand last in each sequence.
        """
        B, T = tokens_BT.shape
        positions_BT = torch.arange(T, device=tokens_BT.device).expand(B, T)
        x_BTD = self.embedding(tokens_BT)
        aux: Tensor | None = None
        chosen: list[Tensor | None] = []
        for layer, block in enumerate(self.stack()):
            context = Context(mode, layer, positions_BT, valid_BT, seed)
            update = block.delta(x_BTD, context)
            x_BTD = update.add_to(x_BTD)
            if update.aux is not None:
                aux = update.aux if aux is None else aux + update.aux
            chosen.append(_chosen(update, B, T))
        return Output(self.head(self.norm(x_BTD)), aux, chosen)

    def loss(
        self, tokens_BT: Tensor, targets_BT: Tensor, seed: int
    ) -> tuple[Tensor, Tensor | None]:
        """Mean cross-entropy in nats and the auxiliary loss, routing as in training."""
        output = self(tokens_BT, "train", seed)
        loss = F.cross_entropy(output.logits_BTV.flatten(0, 1).float(), targets_BT.flatten())
        return loss, output.aux

    def cost(self, num_positions: int) -> Cost:
        """FLOPs of one training sequence."""
        total = Cost.product("head", self._head_flops(num_positions))
        for block in self.stack():
            total = total + block.cost(num_positions)
        return total

    def causal_forward(self, num_positions: int, num_rows: Sequence[int]) -> int:
        """Forward FLOPs of one sequence whose layers process `num_rows` rows each."""
        blocks = zip(self.stack(), num_rows, strict=True)
        return self._head_flops(num_positions) + sum(
            block.causal_forward(num_positions, rows) for block, rows in blocks
        )

    def _head_flops(self, num_positions: int) -> int:
        return 2 * num_positions * self.config.width * self.config.vocab_size

    def parameter_groups(self, weight_decay: float) -> list[dict[str, object]]:
        """For an optimiser: matrices decay, norms do not."""
        matrices = [p for p in self.parameters() if p.ndim >= 2]
        vectors = [p for p in self.parameters() if p.ndim < 2]
        return [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]


def _block(config: ModelConfig, capacity: float | None) -> Block:
    """One layer; a routed block wraps a dense one."""
    ffn = FFNS.get(config.ffn.name)(config.width, component_options("ffn", config.ffn))
    cls = BLOCKS.get(config.block.name)
    options = component_options("block", config.block)
    if issubclass(cls, PlainBlock):
        return cls(config, options, ffn)
    dense = BLOCKS.get("dense")
    assert issubclass(dense, PlainBlock)
    inner = dense(config, dense.Config(), ffn)
    if capacity is None:
        return inner
    assert issubclass(cls, RoutedBlock)
    router = ROUTERS.get(config.router.name)(
        config.width, capacity, component_options("router", config.router)
    )
    return cls(options, inner, router)


def _chosen(update: Update, B: int, T: int) -> Tensor | None:
    if update.index_BK is None:
        return None
    index_BK = update.index_BK
    ones = torch.ones_like(index_BK) if update.valid_BK is None else update.valid_BK.long()
    counts_BT = torch.zeros(B, T, dtype=torch.long, device=index_BK.device)
    return counts_BT.scatter_add(1, index_BK, ones) > 0
