"""Mixture-of-Depths: a router decides which tokens enter the wrapped block, or one part of it.

x' = x + g(score) * delta(x) for chosen tokens, x' = x for the others (Raposo et al. 2024,
eq. 1, with f read as the block's delta). Attention inside sees chosen tokens only. The options
`update` and `positions` exist to measure what public implementations compute instead.

Shapes: A active sequences of B, T positions, K chosen rows, D width.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from modsearch.errors import ConfigError
from modsearch.nn.contracts import (
    Block,
    Context,
    Options,
    PlainBlock,
    RoutedBlock,
    Router,
    Routing,
    Rows,
    Update,
    flat_index,
    total,
)
from modsearch.nn.cost import Cost, Flops


class Mod(RoutedBlock):
    """Gather, compute, gate; the update is scattered by whoever adds it."""

    class Config(Options):
        """What is routed, and how its result is added."""

        part: str = "block"
        """The whole `block`, or one sublayer of it (`attention`, `ffn`); every token enters the
        others."""
        update: Literal["delta", "block_add", "block_replace"] = "delta"
        """x + g delta(x); x + g (x + delta(x)), which counts x twice; or g (x + delta(x)), which
        loses the residual."""
        positions: Literal["original", "renumbered"] = "original"
        """Rotary positions of chosen tokens: their own, or 0, 1, 2, ... among the chosen."""

    def __init__(self, options: Config, inner: PlainBlock, router: Router) -> None:
        super().__init__(options, inner, router)
        if options.part != "block" and options.part not in inner.sublayers():
            known = ", ".join(["block", *inner.sublayers()])
            raise ConfigError(f"block `mod` can't route part `{options.part}`\nparts: {known}")
        self.options = options
        self.inner = inner
        self.router = router

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """The gated delta of the chosen rows; of all rows, where only a part is routed."""
        if self.options.part == "block":
            return self._routed(self.inner, x_BTD, context)
        total_BTD = torch.zeros_like(x_BTD)
        updates = []
        for name, part in self.inner.sublayers().items():
            before_BTD = x_BTD + total_BTD
            if name == self.options.part:
                update = self._routed(part, before_BTD, context)
                total_BTD = update.add_to(total_BTD)
            else:
                update = part.delta(before_BTD, context)
                total_BTD = total_BTD + update.delta_BKD
            updates.append(update)
        return _together(total_BTD, updates)

    def _routed(self, inner: Block, x_BTD: Tensor, context: Context) -> Update:
        routing = self.router(x_BTD, context)
        index_BK, valid_BK = routing.index_BK, routing.valid_BK
        if index_BK.shape[1] == 0:
            return self._nothing(x_BTD, routing)
        if context.cache is None or valid_BK is None:
            return _update(*self._chosen(inner, x_BTD, routing, context), routing)

        # In decoding most sequences have no chosen row: they cost nothing.
        rows_A = valid_BK[:, 0].nonzero().squeeze(1)
        if len(rows_A) == 0:
            return self._nothing(x_BTD, routing)
        if len(rows_A) == len(x_BTD):
            return _update(*self._chosen(inner, x_BTD, routing, context), routing)
        active = replace(
            routing,
            index_BK=index_BK[rows_A],
            gate_BK=routing.gate_BK[rows_A],
            valid_BK=valid_BK[rows_A],
        )
        where = replace(
            context,
            positions_BT=context.positions_BT[rows_A],
            valid_BT=None if context.valid_BT is None else context.valid_BT[rows_A],
            key_BT=None if context.key_BT is None else context.key_BT[rows_A],
            cache=context.cache.only(rows_A),
        )
        delta_AKD, inner_update = self._chosen(inner, x_BTD[rows_A], active, where)
        delta_BKD = delta_AKD.new_zeros(len(x_BTD), *delta_AKD.shape[1:])
        delta_BKD[rows_A] = delta_AKD
        expert_rows_B = inner_update.expert_rows_B
        if expert_rows_B is not None:
            counts_B = expert_rows_B.new_zeros(len(x_BTD))
            counts_B[rows_A] = expert_rows_B
            inner_update = replace(inner_update, expert_rows_B=counts_B)
        return _update(delta_BKD, inner_update, routing)

    def _nothing(self, x_BTD: Tensor, routing: Routing) -> Update:
        """The update where no row is chosen."""
        counts_B = x_BTD.new_zeros(len(x_BTD), dtype=torch.long)
        inner = Update(x_BTD[:, :0], expert_rows_B=counts_B)
        empty = replace(routing, index_BK=routing.index_BK[:, :0], valid_BK=None)
        return _update(x_BTD[:, :0], inner, empty)

    def _chosen(
        self, inner: Block, x_BTD: Tensor, routing: Routing, context: Context
    ) -> tuple[Tensor, Update]:
        """The gated delta of the chosen rows, and what the inner block said."""
        B, T, D = x_BTD.shape
        index_BK, valid_BK = routing.index_BK, routing.valid_BK
        rows_BKD = x_BTD.flatten(0, 1).index_select(0, flat_index(index_BK, T)).view(B, -1, D)
        inside = context.chosen(index_BK, valid_BK)
        if self.options.positions == "renumbered":
            positions_BK = torch.arange(index_BK.shape[1], device=x_BTD.device).expand(B, -1)
            if context.cache is not None:
                positions_BK = positions_BK + context.cache.lengths_A[:, None]
            inside = replace(inside, positions_BT=positions_BK)
        inner_update = inner.delta(rows_BKD, inside)
        delta_BKD = inner_update.delta_BKD
        if self.options.update != "delta":
            delta_BKD = rows_BKD + delta_BKD
        delta_BKD = delta_BKD * routing.gate_BK[..., None].to(delta_BKD.dtype)
        if self.options.update == "block_replace":
            delta_BKD = delta_BKD - rows_BKD
        if valid_BK is not None:
            delta_BKD = delta_BKD.masked_fill(~valid_BK[..., None], 0.0)
        return delta_BKD, inner_update

    def cost(self, num_positions: int) -> Cost:
        """The router over all rows, the routed part over `slots` rows, the others over all."""
        slots = self.router.slots(num_positions)
        routing = self.router.cost(num_positions, "train")
        if self.options.part == "block":
            return routing + self.inner.cost(slots)
        parts = [
            part.cost(slots if name == self.options.part else num_positions)
            for name, part in self.inner.sublayers().items()
        ]
        return sum(parts, start=routing)

    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """The router over all rows, the routed part over the rows that were chosen."""
        routing = self.router.cost(num_positions, "causal").forward
        assert rows.routed is not None
        parts = {"block": self.inner} if self.options.part == "block" else self.inner.sublayers()
        for name, part in parts.items():
            num_rows = rows.routed if name == self.options.part else num_positions
            if num_rows:
                routing = routing + part.causal_forward(num_rows, rows)
        return routing

    def output_weights(self) -> list[Tensor]:
        """Those of the wrapped block."""
        return self.inner.output_weights()


def _update(delta_BKD: Tensor, inner: Update, routing: Routing) -> Update:
    """The routed update with what the router and the inner block said."""
    return Update(
        delta_BKD,
        routing.index_BK,
        routing.valid_BK,
        aux=total((routing.aux, inner.aux)),
        statistics={**inner.statistics, **routing.statistics},
        routing=routing,
        expert_rows_B=inner.expert_rows_B,
    )


def _together(total_BTD: Tensor, updates: list[Update]) -> Update:
    """The update of all rows, of which one part was routed."""
    counts = [u.expert_rows_B for u in updates if u.expert_rows_B is not None]
    routings = [update.routing for update in updates if update.routing is not None]
    return Update(
        total_BTD,
        aux=total(update.aux for update in updates),
        statistics={key: value for u in updates for key, value in u.statistics.items()},
        routing=routings[0],
        expert_rows_B=counts[0] if counts else None,
    )
