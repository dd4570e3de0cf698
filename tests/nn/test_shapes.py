"""Models without memory have the shapes of real ones, and draw nothing."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from modsearch.config.model import ModelConfig
from modsearch.nn.model import Decoder
from modsearch.nn.shapes import shapes_alone

CONFIGS = {
    "dense": ModelConfig(depth=2, width=8, num_heads=1),
    "untied": ModelConfig(depth=2, width=8, num_heads=1, tied=False),
    "mod": ModelConfig(depth=2, width=8, num_heads=1, block="mod", router="predictor"),
    "moe": ModelConfig(depth=2, width=8, num_heads=1, ffn="moe"),
}


class Calls(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def built(config: ModelConfig, how: Callable[[], Any]) -> tuple[Decoder, Counter[str]]:
    with how(), Calls() as calls:
        return Decoder(config), calls.counts


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_of_shapes_alone_has_those_of_the_real_one_and_draws_nothing(name: str) -> None:
    real, drawn = built(CONFIGS[name], lambda: torch.device("cpu"))
    alone, calls = built(CONFIGS[name], shapes_alone)
    assert drawn["normal_"] > 0
    assert calls["normal_"] == 0
    assert all(value.is_meta for value in alone.state().values())
    shapes = {key: (value.shape, value.dtype) for key, value in real.state().items()}
    assert {key: (value.shape, value.dtype) for key, value in alone.state().items()} == shapes
    assert alone.num_params == real.num_params
    assert alone.cost(16) == real.cost(16)


def test_what_is_built_afterwards_is_drawn() -> None:
    with shapes_alone():
        Decoder(CONFIGS["dense"])
    model, drawn = built(CONFIGS["dense"], lambda: torch.device("cpu"))
    assert drawn["normal_"] > 0
    assert model.embedding.weight.std() > 0
