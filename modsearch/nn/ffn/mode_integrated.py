"""Integrated Mixture-of-Depths-and-Experts: no-op experts among the experts (Raposo et al. 2024,
section 4.3).

One router sends each row to experts or to no-ops, which add nothing and cost nothing. The
capacity is the target share of the visits that go to experts; training computes, and is charged,
the slots that it means. Where the schedule does not route the layer, there are no no-ops.

Shapes: B sequences, T rows, D width.
"""

from dataclasses import replace
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from modsearch.nn.contracts import Context, Update
from modsearch.nn.experts import ExpertFfn, ExpertOptions
from modsearch.nn.selection import num_real


class ModeIntegrated(ExpertFfn):
    """SwiGLU experts and no-ops."""

    routes: ClassVar[bool] = True

    class Config(ExpertOptions):
        """Options of the experts."""

        num_noops: int = Field(1, gt=0, le=1024)
        """No-op experts. Under expert choice there are none: a row that no expert takes is one."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        routed = capacity < 1 and options.selection == "token_choice"
        super().__init__(width, capacity, options, options.num_noops if routed else 0)

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """The weighted sum of each row's experts; `load` is the share of visits to experts."""
        update = super().delta(x_BTD, context)
        assert update.expert_rows_B is not None
        num_rows = num_real(x_BTD[..., 0], context.valid_BT)
        load = update.expert_rows_B.sum() / (num_rows * self.options.top_k)
        return replace(update, statistics={**update.statistics, "load": load})
