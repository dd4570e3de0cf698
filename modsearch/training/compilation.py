"""The loss of a model, compiled or as it is.

A compiled loss is one graph. Trials of one shape share it within a process: the compiler goes by
what a model is, and not by which one it is; between processes its cache on disk has the kernels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from modsearch.nn.model import Decoder, Trace
from modsearch.nn.passes import Passes

MOST_SHAPES = 1024
"""That one process compiles; the compiler's own limit is one for programs whose shapes grow."""

GRAPHS: dict[str, str | int | bool | Callable[..., object]] = {
    "triton.cudagraphs": True,
    "triton.cudagraph_skip_dynamic_graphs": True,
}
"""A small model's step on a GPU is bound by launches; as CUDA graphs, a pass is one launch. Not
for a router that draws: each step's seed would be a graph of its own."""


class CompiledLoss:
    """`Decoder.loss`, through the compiler where a step is one pass of each rank."""

    def __init__(self, model: Decoder, *, graphs: bool = True) -> None:
        """`graphs`: also as CUDA graphs on a GPU; untried where ranks exchange gradients."""
        config = torch._dynamo.config
        config.recompile_limit = config.accumulated_recompile_limit = MOST_SHAPES
        self.model = model
        graphs = graphs and model.device.type == "cuda"
        self._compiled = torch.compile(
            model.loss, fullgraph=True, options=GRAPHS if graphs else None
        )
        # Given, and not made inside: the compiler would make sines anew for each of the elements
        # that are turned, in the backward pass, too.
        positions_BT = torch.arange(model.config.seq_len, device=model.device)[None]
        self._angles = model.angles(positions_BT.expand(2, -1))
        self._meets: bool | None = None
        """Whether ranks meet in a pass; None until there was one."""

    def __call__(
        self, tokens_BT: Tensor, targets_BT: Tensor, seed: int, passes: Passes | None = None
    ) -> tuple[Tensor, Trace]:
        """While capacities warm up, shapes change too often; and what passes or ranks share is
        between them. A first pass says whether ranks do."""
        several = passes is not None and not passes.only_one
        if several or not self.model.is_warm:
            return self.model.loss(tokens_BT, targets_BT, seed, passes)
        if passes is not None and self._meets is not False:
            found = self.model.loss(tokens_BT, targets_BT, seed, passes)
            self._meets = passes.meets
            return found
        angles = self._angles if tokens_BT.shape[1] == self.model.config.seq_len else None
        return self._compiled(tokens_BT, targets_BT, seed, passes, angles)
