"""On a GPU: training, scoring, decoding and a study give what they give on a CPU.

`TEST_DEVICE=cpu` runs the same code without a GPU, so that the tests themselves can be tested.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from inline import CORPUS
from tiny import SPACE

import modsearch
from modsearch.config.data import DataConfig, Validation
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Job, Plan, Stage, State
from modsearch.config.runtime import Runtime
from modsearch.data.batches import Batches
from modsearch.data.corpus import Corpus, load_corpus
from modsearch.nn.contracts import ROUTERS
from modsearch.nn.generate import generate
from modsearch.nn.losses import LOGITS_AT_ONCE, head_loss
from modsearch.nn.model import Decoder
from modsearch.nn.parts import block_names, completed
from modsearch.nn.sampling import Sampling
from modsearch.store.directory import StudyDirectory
from modsearch.store.trial import metrics_of
from modsearch.training.budget import plan
from modsearch.training.checkpoint import load_model
from modsearch.training.outcome import Trained
from modsearch.training.scoring import score
from modsearch.training.trainer import Trainer
from modsearch.training.trial import run_trial

DEVICE = os.environ.get("TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE == "cuda" and not torch.cuda.is_available(), reason="torch sees no CUDA device"
    ),
]

STEPS = 30
SHAPE = {"seq_len": 64, "depth": 2, "every": 1, "width": 32, "num_heads": 2, "capacity": 0.25}
FEW: dict[str, dict[str, Any]] = {
    "dense": {},
    "mod": {"block": "mod"},
    "staged": {"block": "mode_staged"},
}
ALL: dict[str, dict[str, Any]] = {
    **{f"mod {name}": {"block": "mod", "router": name} for name in ROUTERS.names()},
    **{name: {"block": name} for name in block_names()},
}
few_recipes = pytest.mark.parametrize("recipe", FEW.values(), ids=FEW)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus(DataConfig(corpus=CORPUS))


def candidate(recipe: Mapping[str, Any], width: int = 32) -> Candidate:
    config = ModelConfig.model_validate({**SHAPE, "width": width, **recipe})
    optim = OptimConfig(batch_size=4, min_steps=1)
    return Candidate(model=completed(config), optim=optim, data=DataConfig(corpus=CORPUS))


def planned(given: Candidate, steps: int) -> Plan:
    with torch.device("meta"):
        cost = Decoder(given.model).cost(given.model.seq_len)
    flops = steps * given.optim.batch_size * cost.training.total
    found = plan(given, Budget(flops=flops), 10**9)
    assert isinstance(found, Plan)
    return found


class Interrupted(Exception):
    """Stands for a kill."""


class Stopping(Batches):
    """Batches that end the process at a step."""

    stop = -1

    def __call__(self, step: int) -> npt.NDArray[np.int64]:
        if step == self.stop:
            raise Interrupted
        return super().__call__(step)


def train(
    recipe: Mapping[str, Any],
    corpus: Corpus,
    folder: Path,
    runtime: Runtime | None = None,
    *,
    steps: int = STEPS,
    seed: int = 5,
    stop: int = -1,
) -> tuple[Trainer, Trained]:
    """Of so many steps, on the device unless `runtime` says otherwise."""
    given = candidate(recipe)
    torch.manual_seed(seed)
    runtime = runtime or Runtime(device=DEVICE, checkpoint_seconds=600)
    one = Trainer(Decoder(given.model), given.optim, planned(given, steps), runtime, folder)
    batches = Stopping(corpus.parts["train"], given.model.seq_len, 4, seed=5)
    batches.stop = stop
    return one, one.run(batches, seed=9)


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in metrics_of(folder / "metrics.jsonl")]


@few_recipes
def test_training_learns_what_it_learns_on_a_cpu(
    recipe: dict[str, Any], corpus: Corpus, tmp_path: Path
) -> None:
    for device in ("cpu", DEVICE):
        train(recipe, corpus, tmp_path / device, Runtime(device=device, checkpoint_seconds=600))
    here, there = losses(tmp_path / DEVICE), losses(tmp_path / "cpu")
    assert len(here) == STEPS
    assert here[-1] < here[0] - 0.5
    # The first step differs by rounding alone; later ones by what it does to decisions, too: one
    # token that is routed otherwise puts a model on a path of its own.
    assert here[0] == pytest.approx(there[0], abs=1e-3)
    assert here[:5] == pytest.approx(there[:5], abs=2e-2)
    assert here == pytest.approx(there, abs=2e-2 if not recipe else 0.2)


@few_recipes
def test_bf16_learns_nearly_what_fp32_does(
    recipe: dict[str, Any], corpus: Corpus, tmp_path: Path
) -> None:
    bf16 = Runtime(device=DEVICE, precision="bf16", checkpoint_seconds=600)
    train(recipe, corpus, tmp_path / "fp32")
    one, _ = train(recipe, corpus, tmp_path / "bf16", bf16)
    wide, narrow = losses(tmp_path / "fp32"), losses(tmp_path / "bf16")
    assert narrow != wide, "nothing ran in bf16"
    assert narrow == pytest.approx(wide, abs=0.1 if not recipe else 0.2)
    assert {p.dtype for p in one.model.parameters()} == {torch.float32}


@few_recipes
def test_the_same_seed_gives_the_same_loss(
    recipe: dict[str, Any], corpus: Corpus, tmp_path: Path
) -> None:
    """To rounding: what several threads add up, a GPU adds in any order."""
    for name in ("a", "b"):
        train(recipe, corpus, tmp_path / name)
    train(recipe, corpus, tmp_path / "c", seed=6)
    assert losses(tmp_path / "b") == pytest.approx(losses(tmp_path / "a"), abs=1e-3)
    assert losses(tmp_path / "c") != pytest.approx(losses(tmp_path / "a"), abs=1e-3)


@few_recipes
def test_an_interrupted_training_equals_an_uninterrupted_one(
    recipe: dict[str, Any], corpus: Corpus, tmp_path: Path
) -> None:
    _, whole = train(recipe, corpus, tmp_path / "whole")
    saving = Runtime(device=DEVICE, checkpoint_seconds=0)
    with pytest.raises(Interrupted):
        train(recipe, corpus, tmp_path / "parts", saving, stop=17)
    one, resumed = train(recipe, corpus, tmp_path / "parts", saving, seed=6)  # other weights
    assert next(one.model.parameters()).device.type == DEVICE
    assert resumed.final_train_loss == pytest.approx(whole.final_train_loss, abs=1e-3)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=1e-3)


@few_recipes
def test_scores_are_those_of_a_cpu(recipe: dict[str, Any], corpus: Corpus, tmp_path: Path) -> None:
    one, _ = train(recipe, corpus, tmp_path)
    one.save_model()
    windows = corpus.windows(Validation(windows=20), one.model.config.seq_len)
    here = score(one.model, windows, DEVICE)
    there = score(load_model(tmp_path / "checkpoint"), windows, "cpu")
    assert here.causal == pytest.approx(there.causal, abs=1e-4)
    assert here.train_mode == pytest.approx(there.train_mode, abs=1e-4)
    assert here.realised_forward_flops == pytest.approx(there.realised_forward_flops, rel=1e-2)
    assert here.realised_capacity == pytest.approx(there.realised_capacity, abs=1e-2)
    assert here.agreement == pytest.approx(there.agreement, abs=1e-2)
    assert (here.routing is None) == (there.routing is None)
    loaded = load_model(tmp_path / "checkpoint", DEVICE)
    assert score(loaded, windows, DEVICE).causal == pytest.approx(here.causal, abs=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recipe", ALL.values(), ids=ALL)
def test_every_router_and_block_trains_and_is_scored(
    recipe: dict[str, Any], precision: str, corpus: Corpus, tmp_path: Path
) -> None:
    """In two passes a step, too."""
    for micro in (None, 2):
        runtime = Runtime.model_validate(
            {"device": DEVICE, "precision": precision, "micro_batch": micro}
        )
        one, trained = train(recipe, corpus, tmp_path / str(micro), runtime, steps=4)
        assert 3 < trained.final_train_loss < 8
        windows = corpus.windows(Validation(windows=4), one.model.config.seq_len)
        assert 3 < score(one.model, windows, DEVICE).causal < 8


@pytest.mark.parametrize("recipe", ALL.values(), ids=ALL)
def test_greedy_tokens_are_those_of_a_cpu(recipe: dict[str, Any]) -> None:
    """And so are rows, FLOPs and bytes of the caches, for prompts of several lengths."""
    torch.manual_seed(0)
    model = Decoder(candidate(recipe).model).double().eval()
    prompts = [torch.randint(256, (length,)).tolist() for length in (20, 7, 20, 1)]
    for sampling in (Sampling(temperature=0), Sampling(top_k=20, top_p=0.9, seed=3)):
        there = generate(model.to("cpu"), prompts, 12, sampling)
        assert generate(model.to(DEVICE), prompts, 12, sampling) == there


# torch's compiler uses what torch deprecates, and recommends TF32, which would round more.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["dense", "mod"])
def test_a_compiled_loss_is_the_loss(name: str) -> None:
    torch.manual_seed(0)
    model = Decoder(candidate(FEW[name]).model).to(DEVICE).train()
    tokens_BT = torch.randint(256, (4, 65)).to(DEVICE)
    compiled = torch.compile(model.loss, fullgraph=True)
    found = []
    for step, of_model in enumerate((model.loss, compiled)):
        loss, output = of_model(tokens_BT[:, :-1], tokens_BT[:, 1:], step)
        (loss if output.aux is None else loss + output.aux).backward()
        grads = {
            name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
        }
        model.zero_grad()
        found.append((loss.item(), grads))
    (eager, eager_grads), (fast, fast_grads) = found
    assert fast == pytest.approx(eager, abs=1e-4)
    torch.testing.assert_close(fast_grads, eager_grads, rtol=1e-2, atol=1e-4)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["dense", "mod", "token_choice", "random"])
def test_trainings_of_a_shape_that_are_compiled_lose_what_eager_ones_do(
    name: str, corpus: Corpus, tmp_path: Path
) -> None:
    recipe = FEW.get(name, ALL.get(f"mod {name}", {}))
    recipe = {**recipe, "every": 2}
    for seed in (5, 6):  # the second one has its parameters elsewhere in memory
        found = {}
        for compiled in (False, True):
            runtime = Runtime(device=DEVICE, compile=compiled, checkpoint_seconds=600)
            folder = tmp_path / f"{seed} {compiled}"
            train(recipe, corpus, folder, runtime, seed=seed)
            found[compiled] = losses(folder)
        assert found[True][:5] == pytest.approx(found[False][:5], abs=1e-3)
        # Later on one token may be routed otherwise, as above.
        assert found[True] == pytest.approx(found[False], abs=1e-2 if name == "dense" else 0.2)


def test_a_head_loss_in_turns_is_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    x_ND, head_VD = torch.randn(512, 64, device=DEVICE), torch.randn(1000, 64, device=DEVICE)
    targets_N = torch.randint(1000, (512,), device=DEVICE)
    found = []
    for at_once in (2**28, 2**14):
        monkeypatch.setitem(LOGITS_AT_ONCE, DEVICE, at_once)
        x, head = x_ND.clone().requires_grad_(), head_VD.clone().requires_grad_()
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = head_loss(x, head, targets_N)
        loss.backward()  # type: ignore[no-untyped-call]
        found.append([loss.detach(), x.grad, head.grad])
    torch.testing.assert_close(*found, rtol=2e-2, atol=2e-4)


def single(recipe: Mapping[str, Any], corpus: Corpus, width: int = 32) -> Job:
    given = candidate(recipe, width)
    return Job(
        stage=Stage.MEASURE,
        arm="single",
        candidate=given,
        budget=Budget(flops=1e9),
        seed=1,
        validation=Validation(windows=4),
        fingerprint=corpus.facts.fingerprint,
        runtime=Runtime(device=DEVICE),
        plan=planned(given, 5),
    )


def test_peak_memory_is_that_of_the_trial(corpus: Corpus, tmp_path: Path) -> None:
    peaks = []
    for width in (1024, 32):  # the larger one first: what it took must not be the other one's
        record = run_trial(tmp_path, single({}, corpus, width))
        assert record.scores is not None, record.reason
        assert record.scores.peak_memory is not None
        peaks.append(record.scores.peak_memory)
    assert 0 < peaks[1] <= peaks[0]
    if DEVICE == "cuda":
        assert peaks[1] < peaks[0] / 2 < torch.cuda.get_device_properties(0).total_memory


@pytest.fixture
def little_memory() -> Iterator[None]:
    if DEVICE != "cuda":
        pytest.skip("the limit is on a GPU's memory")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(192 * 2**20 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_memory_that_runs_out_is_a_state_of_the_trial(
    corpus: Corpus, tmp_path: Path, little_memory: None
) -> None:
    job = single({}, corpus, 1024)
    record = run_trial(tmp_path, job)
    assert record.state is State.OUT_OF_MEMORY, record.reason
    small = run_trial(tmp_path, single({}, corpus, 32))
    assert small.state is State.COMPLETE, small.reason


def test_a_batch_that_is_too_large_is_taken_in_halves(
    corpus: Corpus, tmp_path: Path, little_memory: None
) -> None:
    job = single({}, corpus, 256)
    optim = job.candidate.optim.model_copy(update={"batch_size": 256})
    candidate = job.candidate.model_copy(update={"optim": optim})
    record = run_trial(tmp_path, job.model_copy(update={"candidate": candidate}))
    assert record.state is State.COMPLETE, record.reason
    assert record.scores is not None
    assert record.scores.micro_batch is not None
    assert record.scores.micro_batch < 256


def test_a_study_reaches_its_report(tmp_path: Path) -> None:
    resources = {"workers": 2, "device": DEVICE, "precision": "bf16", "keep": "all"}
    space = {**SPACE, "resources": resources, "confirm": None}
    forecast = modsearch.plan(space)
    assert forecast.device == DEVICE
    study = modsearch.search(space, tmp_path / "study")
    assert {record.state for record in study.trials} == {State.COMPLETE}
    assert len(study.trials) == 4
    for record in study.trials:
        assert record.scores is not None
        assert record.scores.peak_memory
    manifest = StudyDirectory(tmp_path / "study").manifest()
    assert manifest.runtime.device == DEVICE
    assert manifest.machine["device"]
    assert (tmp_path / "study" / "report" / "index.html").is_file()
    # Trained on one device, opened on another.
    model = load_model(study.folder(study.trials[0]) / "checkpoint")
    assert model.embedding.weight.device.type == "cpu"


def test_winners_are_timed_on_the_device_that_they_ran_on(tmp_path: Path) -> None:
    resources = {"workers": 1, "device": DEVICE, "precision": "bf16"}
    measure = {"ladder": [{"budget": 5e7, "depth": 2, "widths": [4]}], "windows": 2}
    study = modsearch.search({**SPACE, "resources": resources, "measure": measure}, tmp_path)
    found = modsearch.time_winners(study, rounds=2, seconds=0.01)
    assert found == study.speeds
    assert (found.device, found.precision) == (DEVICE, "bf16")
    assert [each.arm for each in found.arms] == ["dense", "mod"]
    for each in found.arms:
        assert [row.batch_size for row in each.decoded] == [1, 16]
        if DEVICE == "cuda":
            assert each.peak_memory is not None
            # Weights and two moments, at least.
            assert 3 * each.parameter_bytes < each.peak_memory < 2**30
