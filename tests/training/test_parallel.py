"""Training on two ranks: the losses of one, whatever is routed, and checkpoints that both take."""

import math
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import product
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
from modsearch.errors import ConfigError
from modsearch.nn.model import Decoder
from modsearch.nn.parts import completed
from modsearch.nn.ranks import ALONE, Ranks
from modsearch.nn.routers.threshold import Threshold
from modsearch.store.trial import metrics_of
from modsearch.training.parallel import spread_of
from modsearch.training.spread import Alone
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
APART = {"step_seconds", "expert_imbalance", "expert_dropped"}
"""A time; a maximum over experts and a share of visits, which are those of a rank or a pass."""
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
    spread = Alone() if ranks is ALONE else spread_of(runtime.parallel, ranks)
    return Trainer(Decoder(config).double(), optim, planned(steps), runtime, folder, spread)


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
    rows = [{key: row[key] for key in row.keys() - APART} for row in metrics_of(folder / LOG)]
    return loss, rows, one.spread.gathered(one.model.state())


def assert_same(found: Trained, wanted: Trained) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=0, abs=2e-6)
    for ours, theirs in zip(found[1], wanted[1], strict=True):
        assert ours == pytest.approx(theirs, rel=0, abs=2e-6)
    assert found[2].keys() == wanted[2].keys()
    for name, tensor in wanted[2].items():
        torch.testing.assert_close(found[2][name], tensor, rtol=0, atol=1e-7, msg=name)


FEW = {("dense", "ddp"), ("token_choice", "ddp"), ("threshold", "ddp"), ("mode_staged", "fsdp")}
"""Of each thing that ranks exchange; the others are among the slow tests."""


@pytest.mark.parametrize(
    ("name", "parallel"),
    [
        each if each in FEW else pytest.param(*each, marks=pytest.mark.slow)
        for each in product(RECIPES | OTHERS, KINDS)
    ],
)
def test_two_ranks_train_as_one_process(
    name: str, parallel: Parallel, two: Pair, tmp_path: Path
) -> None:
    """Losses, gradient norms, weights, buffers and statistics; in passes, too."""
    recipe = (RECIPES | OTHERS)[name]
    wanted = train(ALONE, recipe, Runtime(), tmp_path / "one", 4)
    for micro in (None, 1):
        runtime = Runtime(ranks=2, parallel=parallel, micro_batch=micro)
        mine, theirs = two(train, recipe, runtime, tmp_path / str(micro), 4)
        assert_same(mine, wanted)
        assert theirs[0] == mine[0]
        assert theirs[2] == {}, "the first rank alone has whole weights"


@pytest.mark.parametrize(
    ("name", "parallel"),
    [("threshold", "ddp"), pytest.param("token_choice", "fsdp", marks=pytest.mark.slow)],
)
def test_a_checkpoint_goes_from_two_ranks_to_one_and_back(
    name: str, parallel: Parallel, two: Pair, tmp_path: Path
) -> None:
    recipe = RECIPES[name]
    saving = Runtime(checkpoint_seconds=0)
    ranked = saving.model_copy(update={"ranks": 2, "parallel": parallel})
    wanted = train(ALONE, recipe, saving, tmp_path / "one", 12)
    folder = tmp_path / "several"
    for stop in (3, 7, -1):
        if stop == 7:
            found = train(ALONE, recipe, saving, folder, 12, stop)
        else:
            found, _ = two(train, recipe, ranked, folder, 12, stop)
        if stop > 0:
            assert len(found[1]) == stop
    assert_same(found, wanted)


class Selfish(Threshold):
    """Moves its cut-off by what its own rank has seen."""

    def end_step(self) -> None:
        ours, self.ranks = self.ranks, ALONE
        super().end_step()
        self.ranks = ours


def selfish(ranks: Ranks, folder: Path) -> str:
    """What a training says whose routers are such."""
    one = trainer(ranks, RECIPES["threshold"], Runtime(), folder, 4)
    for module in one.model.modules():
        if isinstance(module, Threshold):
            module.__class__ = Selfish
    with pytest.raises(ConfigError) as caught:
        one.run(batches(), seed=9)
    return str(caught.value)


def test_a_buffer_that_ranks_move_apart_is_told(two: Pair, tmp_path: Path) -> None:
    for said in two(selfish, tmp_path):
        assert said.startswith("buffer blocks.0.router.cutoff is not the same on all ranks\n")


def test_shards_take_no_optimizer_that_may_go_by_whole_matrices() -> None:
    weight = [torch.nn.Parameter(torch.zeros(2, 2))]
    for parallel in KINDS:
        spread_of(parallel, ALONE).checked(torch.optim.AdamW(weight))
    spread_of("ddp", ALONE).checked(torch.optim.SGD(weight))
    with pytest.raises(ConfigError, match="only AdamW steps on parts\n"):
        spread_of("fsdp", ALONE).checked(torch.optim.SGD(weight))


def decided(ranks: Ranks) -> tuple[list[bool], list[float]]:
    """By the first rank's clock; and values of which ranks have another number."""
    told = [ranks.agreed(mine, torch.device("cpu")) for mine in (True, ranks.is_first)]
    told.append(ranks.agreed(not ranks.is_first, torch.device("cpu")))
    return told, ranks.together(torch.arange(1.0 + ranks.place)).tolist()


def test_ranks_are_told_the_same(two: Pair) -> None:
    assert two(decided) == (([True, True, False], [0.0, 0.0, 1.0]),) * 2


def graphs_made(ranks: Ranks, name: str, folder: Path) -> tuple[int, float]:
    """How many graphs a compiled training was made of, and its loss."""
    made: list[object] = []

    def backend(graph: Any, _: object) -> Any:
        made.append(graph)
        return graph.forward

    torch.compiler.reset()
    real = torch.compile
    torch.compile = partial(real, backend=backend)  # type: ignore[assignment]
    try:
        runtime = Runtime(ranks=2, compile=True)
        found, *_ = train(ranks, RECIPES[name], runtime, folder, 4)
    finally:
        torch.compile = real
    return len(made), found


@pytest.mark.filterwarnings("default")  # torch's compiler uses what torch deprecates
@pytest.mark.parametrize(
    ("name", "graphs"), [pytest.param("mod", 1, marks=pytest.mark.slow), ("token_choice", 0)]
)
def test_a_loss_is_compiled_where_ranks_do_not_meet_in_it(
    name: str, graphs: int, two: Pair, tmp_path: Path
) -> None:
    wanted, *_ = train(ALONE, RECIPES[name], Runtime(), tmp_path / "one", 4)
    for made, loss in two(graphs_made, name, tmp_path / "two"):
        assert loss == pytest.approx(wanted, rel=0, abs=1e-5)
        assert made >= graphs if graphs else made == 0


def losses(ranks: Ranks, name: str, parallel: Parallel, steps: int) -> list[float]:
    """Step by step, in fp64: in fp32 a near-tie of scores may fall either way."""
    torch.manual_seed(5)
    config = completed(ModelConfig.model_validate({**SHAPE, **RECIPES[name]}))
    spread = Alone() if ranks is ALONE else spread_of(parallel, ranks)
    optim = OptimConfig(batch_size=4)
    model = Decoder(config).double()
    one = Trainer(model, optim, planned(steps), Runtime(), Path(), spread)
    one.model.train()
    found, drawn = [], batches()
    for one.step in range(steps):
        found.append(one.train_step(drawn(one.step), one.step)[0].item())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("parallel", KINDS)
@pytest.mark.parametrize("name", RECIPES)
def test_200_steps_have_the_losses_of_one_process(
    name: str, parallel: Parallel, two: Pair
) -> None:
    alone = losses(ALONE, name, parallel, 200)
    mine, theirs = two(losses, name, parallel, 200)
    assert mine == theirs
    assert mine == pytest.approx(alone, rel=0, abs=1e-4)
