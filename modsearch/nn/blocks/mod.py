"""Mixture-of-Depths: a router decides which tokens enter the wrapped block.

x' = x + g(score) * delta(x) for chosen tokens, x' = x for the others (Raposo et al. 2024,
eq. 1, with f read as the block's delta). Attention inside sees chosen tokens only.

Shapes: B sequences, T positions, K chosen rows, D width.
"""

from dataclasses import replace

from torch import Tensor

from modsearch.cost import Cost
from modsearch.nn.contracts import (
    Block,
    Context,
    Options,
    RoutedBlock,
    Router,
    Update,
    flat_index,
)


class Mod(RoutedBlock):
    """Gather, compute, gate; the update is scattered by whoever adds it."""

    class Config(Options):
        """No options."""

    def __init__(self, options: Config, inner: Block, router: Router) -> None:
        super().__init__(options, inner, router)
        self.inner = inner
        self.router = router

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """The gated delta of the chosen rows."""
        B, T, D = x_BTD.shape
        routing = self.router(x_BTD, context)
        index_BK, valid_BK = routing.index_BK, routing.valid_BK
        if index_BK.shape[1] == 0:
            return Update(
                x_BTD[:, :0], index_BK, valid_BK, aux=routing.aux, statistics=routing.statistics
            )
        flat = flat_index(index_BK, T)
        rows_BKD = x_BTD.flatten(0, 1).index_select(0, flat).view(B, -1, D)
        positions_BK = context.positions_BT.gather(1, index_BK)
        inner = self.inner.delta(
            rows_BKD, replace(context, positions_BT=positions_BK, valid_BT=valid_BK)
        )
        delta_BKD = inner.delta_BKD * routing.gate_BK[..., None].to(inner.delta_BKD.dtype)
        if valid_BK is not None:
            delta_BKD = delta_BKD.masked_fill(~valid_BK[..., None], 0.0)
        aux = [part for part in (routing.aux, inner.aux) if part is not None]
        return Update(
            delta_BKD,
            index_BK,
            valid_BK,
            aux=sum(aux[1:], start=aux[0]) if aux else None,
            statistics={**routing.statistics, **inner.statistics},
        )

    def cost(self, num_positions: int) -> Cost:
        """The router over all rows, the inner block over `slots` rows."""
        slots = self.router.slots(num_positions)
        return self.router.cost(num_positions, "train") + self.inner.cost(slots)

    def causal_forward(self, num_positions: int, num_rows: int) -> int:
        """The router over all rows, the inner block over the rows that were chosen."""
        routing = self.router.cost(num_positions, "causal").forward.total
        return routing + (self.inner.cost(num_rows).forward.total if num_rows else 0)

    def output_weights(self) -> list[Tensor]:
        """Those of the wrapped block."""
        return self.inner.output_weights()
