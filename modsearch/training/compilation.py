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

Loss = Callable[[Tensor, Tensor, int, Passes | None], tuple[Tensor, Trace]]


class CompiledLoss:
    """`Decoder.loss`, through the compiler where a whole step is one pass."""

    def __init__(self, model: Decoder) -> None:
        config = torch._dynamo.config
        config.recompile_limit = config.accumulated_recompile_limit = MOST_SHAPES
        self.model = model
        self._compiled = torch.compile(model.loss, fullgraph=True)

    def __call__(
        self, tokens_BT: Tensor, targets_BT: Tensor, seed: int, passes: Passes | None = None
    ) -> tuple[Tensor, Trace]:
        """While capacities warm up, shapes change too often; and what passes share is between
        them."""
        if passes is not None or not self.model.is_warm:
            return self.model.loss(tokens_BT, targets_BT, seed, passes)
        return self._compiled(tokens_BT, targets_BT, seed)
