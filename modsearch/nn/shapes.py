"""Models without memory: every shape, and no number."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _Undrawn(TorchFunctionMode):
    """Initial values are not drawn."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func is nn.init.normal_:
            return given["tensor"]
        return args[0] if func is Tensor.normal_ else func(*args, **given)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Builds models on the meta device, for what follows from their shapes.

    Nothing is drawn there: torch would call its Python reference of a normal distribution, whose
    first call imports its compiler, and takes longer than all that a plan does.
    """
    with torch.device("meta"), _Undrawn():
        yield
