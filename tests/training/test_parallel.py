"""Training on two ranks: the losses of one, whatever is routed, and checkpoints that both take."""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pair import Pair, pair

from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Plan
from modsearch.config.runtime import Parallel, Runtime
from modsearch.data.batches import Batches
from modsearch.nn.model import Decoder
from modsearch.nn.parts import completed
from modsearch.nn.ranks import ALONE, Ranks
from modsearch.store.trial import metrics_of
from modsearch.training.parallel import gathered
from modsearch.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")

SHAPE: dict[str, Any] = {"depth": 2, "width": 16, "num_heads": 2, "seq_len": 16, "every": 1}
BALANCE = {"name": "token_choice", "balance": "loss"}
RECIPES: dict[str, dict[str, Any]] = {
    "dense": {"block": "dense"},
    "mod": {"block": "mod", "capacity": 0.25},
    "token_choice": {"block": "mod", "router": BALANCE, "capacity": 0.25},
    "threshold": {"block": "mod", "router": "threshold", "capacity": 0.25},
    "mode_staged": {"block": "mode_staged", "router": BALANCE, "capacity": 0.5},
}
"""What the bars name."""
OTHERS: dict[str, dict[str, Any]] = {
    "bias": {"block": "mod", "router": {"name": "token_choice", "balance": "bias"}},
    "random": {"block": "mod", "router": "random", "capacity": 0.25},
    "predictor": {"block": "mod", "router": "predictor", "capacity": 0.25},
    "gate one": {"block": "mod", "router": {"name": "expert_choice", "gate": "one"}},
    "moe bias": {"block": "moe", "ffn": {"name": "moe", "balance": "bias", "top_k": 2}},
    "mode_integrated": {"block": "mode_integrated", "capacity": 0.5},
    "untied": {"block": "dense", "tied": False},
}
"""What else is counted, drawn, or reached by no gradient."""
TIMES = {"step_seconds"}
LOG = "metrics.jsonl"
KINDS: tuple[Parallel, ...] = ("ddp", "fsdp")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pair(tmp_path_factory.mktemp("ranks")) as found:
        yield found
    torch.set_num_threads(before)


def planned(steps: int) -> Plan:
    return Plan(
        steps=steps, tokens=0, epochs=0, flops_per_step=1, flops=1, forward_flops=1, params=1,
        active_params=1, embedding_params=1, head_share=0, conventions={}, seconds=0,
    )  # fmt: skip


class Stopped(Exception):
    """Stands for a kill."""


class Stopping(Batches):
    """Batches that end a training at a step."""

    stop = -1

    def __call__(self, step: int) -> npt.NDArray[np.int64]:
        if step == self.stop:
            raise Stopped
        return super().__call__(step)


def batches(stop: int = -1) -> Batches:
    """Four sequences a step of a text whose next token is often known."""
    draw = np.random.default_rng(1)
    tokens = np.cumsum(draw.integers(1, 4, size=20_000)) % 64
    found = Stopping(tokens, SHAPE["seq_len"], 4, seed=3)
    found.stop = stop
    return found


def trainer(
    ranks: Ranks, recipe: dict[str, Any], runtime: Runtime, folder: Path, steps: int
) -> Trainer:
    """In fp64, so that no near-tie is decided by rounding."""
    torch.manual_seed(5)
    config = completed(ModelConfig.model_validate({**SHAPE, **recipe}))
    optim = OptimConfig(batch_size=4, rate=0.02)
    return Trainer(Decoder(config).double(), optim, planned(steps), runtime, folder, ranks)


Trained = tuple[float, list[dict[str, float]], dict[str, torch.Tensor]]


def train(
    ranks: Ranks,
    recipe: dict[str, Any],
    runtime: Runtime,
    folder: Path,
    steps: int,
    stop: int = -1,
) -> Trained:
    """Mean loss at the end, metrics and whole weights; the first rank's where there are two."""
    one = trainer(ranks, recipe, runtime, folder, steps)
    loss = math.nan
    with suppress(Stopped):
        loss = one.run(batches(stop), seed=9).final_train_loss
    rows = [{key: row[key] for key in row.keys() - TIMES} for row in metrics_of(folder / LOG)]
    return loss, rows, gathered(one.model.state(), ranks)


def assert_same(found: Trained, wanted: Trained) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=0, abs=2e-6)
    for ours, theirs in zip(found[1], wanted[1], strict=True):
        assert ours == pytest.approx(theirs, rel=0, abs=2e-6)
    assert found[2].keys() == wanted[2].keys()
    for name, tensor in wanted[2].items():
        torch.testing.assert_close(found[2][name], tensor, rtol=0, atol=1e-7, msg=name)


@pytest.mark.parametrize("parallel", KINDS)
@pytest.mark.parametrize("name", RECIPES | OTHERS)
def test_two_ranks_train_as_one_process(
    name: str, parallel: Parallel, two: Pair, tmp_path: Path
) -> None:
    """Losses, gradient norms, weights, buffers and statistics; in passes, too."""
    recipe = (RECIPES | OTHERS)[name]
    alone = train(ALONE, recipe, Runtime(), tmp_path / "one", 8)
    for micro in (None, 1):
        runtime = Runtime(ranks=2, parallel=parallel, micro_batch=micro)
        mine, theirs = two(train, recipe, runtime, tmp_path / str(micro), 8)
        mine = (mine[0], [without(row) for row in mine[1]], mine[2])
        assert_same(mine, (alone[0], [without(row) for row in alone[1]], alone[2]))
        assert theirs[0] == mine[0]


def without(row: dict[str, float]) -> dict[str, float]:
    """A maximum over experts, and a share of visits, are those of a rank or a pass."""
    return {key: row[key] for key in row.keys() - {"expert_imbalance", "expert_dropped"}}
