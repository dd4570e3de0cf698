"""A compiled loss is the loss, in one graph that trials of a shape share; and when it is used."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from inline import CORPUS, Inline, quietly
from torch import Tensor

from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Plan
from modsearch.config.runtime import Resources, Runtime, Share
from modsearch.data.batches import Batches
from modsearch.engines.contract import RunTrial
from modsearch.errors import StudyError
from modsearch.nn.contracts import ROUTERS
from modsearch.nn.model import Decoder, Trace
from modsearch.planning.compilation import constants, worth_compiling
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.study.runner import Runner, _share
from modsearch.training import machine
from modsearch.training.compilation import CompiledLoss
from modsearch.training.machine import runtime
from modsearch.training.trainer import Trainer

RECIPES: dict[str, dict[str, Any]] = {
    "dense": {"block": "dense"},
    **{name: {"block": "mod", "router": name} for name in ROUTERS.names()},
    "balance": {"block": "mod", "router": {"name": "token_choice", "balance": "loss"}},
    "moe": {"block": "moe"},
    "mode_staged": {"block": "mode_staged"},
    "mode_integrated": {"block": "mode_integrated"},
}

FEW = ("dense", "random", "threshold", "balance", "mode_integrated")
"""Of each way in which a router or an ffn is made; all of them are among the slow tests."""

# torch's compiler uses what torch deprecates.
pytestmark = pytest.mark.filterwarnings("default")


def config(name: str, **changes: Any) -> ModelConfig:
    shape = {"depth": 2, "width": 16, "num_heads": 2, "seq_len": 32, "every": 1}
    return ModelConfig(**{**shape, **RECIPES[name], **changes})


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The compiler's front half: what it can't trace into one graph is an error. Answers with the
    graphs that were made."""
    torch.compiler.reset()
    graphs: list[object] = []

    def backend(graph: Any, _: object) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return graphs


def passed(model: Decoder, found: tuple[Tensor, Trace]) -> list[Tensor]:
    """Loss, auxiliary loss and gradients of a pass."""
    loss, trace = found
    (loss if trace.aux is None else loss + trace.aux).backward()  # type: ignore[no-untyped-call]
    grads = [torch.zeros(()) if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model.end_step()
    return [loss.detach(), torch.zeros(()) if trace.aux is None else trace.aux.detach(), *grads]


@pytest.mark.parametrize(
    "name",
    [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES],
)
def test_a_loss_is_one_graph_that_models_of_a_shape_share(name: str, traced: list[object]) -> None:
    for place in range(2):
        torch.manual_seed(place)
        model = Decoder(config(name)).train()
        twin = copy.deepcopy(model)
        compiled = CompiledLoss(model)
        for step in range(3):
            tokens_BT = torch.randint(256, (2, 33))
            parts = (tokens_BT[:, :-1], tokens_BT[:, 1:], 1000 * place + step)
            theirs = passed(twin, twin.loss(*parts))
            for ours, their in zip(passed(model, compiled(*parts)), theirs, strict=True):
                torch.testing.assert_close(ours, their, rtol=1e-5, atol=1e-6)
    # Routers that draw have one for a seed that is a constant, and one for any.
    assert len(traced) == (2 if name == "random" else 1)


def test_shapes_that_change_in_every_stair_of_a_warm_up_are_not_compiled(
    traced: list[object],
) -> None:
    warm = {"name": "every_nth", "warmup": 0.5}
    model = Decoder(config("expert_choice", schedule=warm)).train()
    compiled = CompiledLoss(model)
    tokens_BT = torch.randint(256, (2, 33))
    for progress, graphs in ((0.0, 0), (0.2, 0), (0.49, 0), (0.5, 1), (0.9, 1)):
        model.set_progress(progress)
        compiled(tokens_BT[:, :-1], tokens_BT[:, 1:], 0)
        assert len(traced) == graphs, progress


def trained(name: str, *, compiled: bool, folder: Path, steps: int = 200) -> list[float]:
    """Losses of a training, step by step. In double precision, and with a dense layer first: rows
    tie or nearly do, and the last bit of a sum would choose between them."""
    torch.manual_seed(0)
    given = config(name, every=2)
    tokens = torch.randint(64, (20_000,), generator=torch.Generator().manual_seed(1)).numpy()
    plan = Plan(
        steps=steps, tokens=0, epochs=0, flops_per_step=1, flops=1, forward_flops=1, params=1,
        active_params=1, embedding_params=1, head_share=0, conventions={}, seconds=0,
    )  # fmt: skip
    trainer = Trainer(
        Decoder(given).double(), OptimConfig(), plan, Runtime(compile=compiled), folder
    )
    batches = Batches(tokens, given.seq_len, 2, 0)
    trainer.model.train()
    losses = []
    for trainer.step in range(steps):
        losses.append(trainer.train_step(batches(trainer.step), trainer.step)[0].item())
    return losses


def test_a_trainer_compiles_where_its_runtime_says_so(
    traced: list[object], tmp_path: Path
) -> None:
    plain = trained("expert_choice", compiled=False, folder=tmp_path, steps=4)
    assert not traced
    assert trained("expert_choice", compiled=True, folder=tmp_path, steps=4) == pytest.approx(
        plain
    )
    assert len(traced) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_200_steps_have_the_same_losses_compiled(name: str, tmp_path: Path) -> None:
    """Through the whole compiler."""
    plain = trained(name, compiled=False, folder=tmp_path)
    fast = trained(name, compiled=True, folder=tmp_path)
    assert fast == pytest.approx(plain, abs=1e-4)


# --- When it is used


def space(budget: float, **resources: Any) -> Space:
    return Space.model_validate(
        {
            "name": "c",
            "data": {"corpus": CORPUS},
            "fixed": {"model": {"seq_len": 32, "num_heads": 1}, "optim": {"min_steps": 5}},
            "arms": {"dense": {"model": {"block": "dense"}}},
            "measure": {
                "ladder": [{"budget": budget, "depth": 2, "widths": [4, 6]}],
                "windows": 2,
            },
            "resources": {"workers": 1, **resources},
        }
    )


def test_auto_compiles_what_is_long_enough() -> None:
    on_cpu, on_gpu = Runtime(), Runtime(device="cuda")
    assert not worth_compiling(space(5e7), on_cpu)
    assert not worth_compiling(space(3e12), on_cpu)
    assert worth_compiling(space(1e14), on_cpu)
    assert worth_compiling(space(1e16), on_gpu)
    assert not worth_compiling(space(1e15), on_gpu)


def test_on_and_off_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert constants(space(5e7, compile="on")).compile
    assert not constants(space(1e15, compile="off")).compile
    assert constants(space(1e15)).compile
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    assert not constants(space(1e15)).compile, "there is no compiler"
    with pytest.raises(StudyError, match=r"no g\+\+\ninstall one"):
        constants(space(5e7, compile="on"))


def test_precision_follows_the_device() -> None:
    assert runtime(Resources(device="cpu")).precision == "fp32"
    assert runtime(Resources(device="cpu", precision="bf16")).precision == "bf16"
    assert runtime(Resources(device="cuda"), elsewhere=True).precision == "bf16"


def test_what_a_study_began_with_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Runner(space(5e7), tmp_path, make_engine=partial(Inline, quietly))
    assert made.manifest.runtime == Runtime()
    made.ledger.close()
    monkeypatch.setattr("modsearch.planning.compilation.worth_compiling", lambda *_: True)
    again = Runner(space(5e7), tmp_path, make_engine=partial(Inline, quietly))
    assert not again.manifest.runtime.compile
    again.ledger.close()
    for changes, words in (
        ({"compile": "on"}, "compile False is now True"),
        ({"precision": "bf16"}, "precision fp32 is now bf16"),
        ({"threads": 2}, "threads 1 is now 2"),
    ):
        with pytest.raises(StudyError, match=words):
            Runner(space(5e7, **changes), tmp_path, make_engine=partial(Inline, quietly))
    same = space(5e7, precision="fp32", compile="off")
    Runner(same, tmp_path, make_engine=partial(Inline, quietly)).ledger.close()
    assert StudyDirectory(tmp_path).manifest().runtime == Runtime()


def test_shards_are_not_compiled() -> None:
    assert not constants(space(1e15, ranks=2, parallel="fsdp")).compile
    assert constants(space(1e15, ranks=2)).compile


def test_ranks_may_change_while_a_study_goes_on(tmp_path: Path) -> None:
    """Their losses are the same; each run places its trials by its own number."""
    shares: list[Share] = []

    def made(run_trial: RunTrial, workers: int | None, share: Share) -> Inline:
        shares.append(share)
        return Inline(quietly, run_trial, workers, share)

    keys = set()
    for ranks, parallel in ((1, "ddp"), (2, "fsdp"), (2, "ddp")):
        asked = space(5e7, ranks=ranks, parallel=parallel, threads=3)
        runner = Runner(asked, tmp_path, make_engine=made)
        runner.engine()
        keys.add(runner.key)
        assert runner.manifest == StudyDirectory(tmp_path).manifest()
        found = runner.manifest.runtime
        assert (found.ranks, found.parallel) == (ranks, parallel)
        runner.ledger.close()
    assert len(keys) == 1
    assert shares == [Share(threads=3, cpus=3), *[Share(threads=3, cpus=6)] * 2]


def test_each_rank_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    asked = space(1e9, device="cuda", ranks=2)
    assert _share(asked, constants(asked)) == Share(threads=1, cpus=2, gpus=2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(StudyError, match="2 ranks take a GPU each, but torch sees 1\n"):
        constants(asked)
    assert constants(asked, elsewhere=True).ranks == 2
