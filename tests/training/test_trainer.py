"""Training and trials: resumption to the bit, what ends a trial, scores, and saved models."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
from disk import smallest_files

from modsearch.config.data import DataConfig, Validation
from modsearch.config.model import Component, ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Job, Plan, Record, Stage, State
from modsearch.config.runtime import Runtime
from modsearch.data.batches import Batches
from modsearch.data.corpus import Corpus, load_corpus
from modsearch.errors import Diverged, StudyError
from modsearch.nn.contracts import ROUTERS
from modsearch.nn.model import Decoder
from modsearch.nn.parts import completed
from modsearch.store.directory import StudyDirectory
from modsearch.store.trial import check_weights, metrics_of
from modsearch.training import machine, scoring, trial
from modsearch.training.budget import plan
from modsearch.training.checkpoint import load_model, save_model
from modsearch.training.machine import all_memory, out_of_memory, peak_memory
from modsearch.training.outcome import Trained
from modsearch.training.scoring import causal_losses, score
from modsearch.training.trainer import LOGS_PER_TRIAL, Trainer
from modsearch.training.trial import run_trial
from modsearch.training.weights import update_flops

STEPS = 2 * LOGS_PER_TRIAL
SEQ_LEN = 16
SAVING = Runtime(checkpoint_seconds=0)
"""A checkpoint at each line of the metrics."""
RECIPES: dict[str, dict[str, Any]] = {
    "dense": {"block": "dense"},
    "expert_choice": {"block": "mod", "router": "expert_choice", "capacity": 0.25},
    "random": {"block": "mod", "router": "random", "capacity": 0.25},
}
BUFFERED: dict[str, dict[str, Any]] = {
    "threshold": {"block": "mod", "router": "threshold", "capacity": 0.25},
    "token_choice": {
        "block": "mod",
        "router": {"name": "token_choice", "balance": "bias"},
        "capacity": 0.25,
    },
    "moe": {"block": "moe", "ffn": {"name": "moe", "balance": "bias"}},
    "warm-up": {
        "block": "mode_integrated",
        "ffn": {"name": "mode_integrated", "balance": "bias"},
        "schedule": {"name": "every_nth", "warmup": 0.5},
        "capacity": 0.25,
    },
}
"""What moves between steps without a gradient: it must be in checkpoints."""
TIMES = {"step_seconds", "seconds", "peak_memory", "phase_seconds", "efficiency"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As trials run; the number of threads changes how sums round."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Text that two layers of width 8 can learn something of."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = np.random.default_rng(0)
    words = np.array(["depth ", "width ", "token ", "block ", "mixture ", "of ", "\n"])
    for number in range(200):
        text = f"{number} " + "".join(words[draw.integers(len(words), size=150)])
        (folder / f"{number}.txt").write_text(text)
    return load_corpus(DataConfig(corpus=str(folder)))


def candidate(recipe: str, corpus: Corpus, **optim: Any) -> Candidate:
    config = ModelConfig.model_validate(
        {
            "depth": 2,
            "width": 8,
            "num_heads": 1,
            "seq_len": SEQ_LEN,
            **(RECIPES | BUFFERED)[recipe],
        }
    )
    return Candidate(
        model=completed(config),
        optim=OptimConfig.model_validate({"min_steps": 1, "max_epochs": 99, **optim}),
        data=DataConfig(corpus=corpus.facts.name),
    )


def planned(given: Candidate, steps: int = STEPS) -> Plan:
    with torch.device("meta"):
        model = Decoder(given.model)
    of_step = given.optim.batch_size * model.cost(given.model.seq_len).training.total
    flops = steps * (of_step + update_flops(model, given.optim))
    found = plan(given, Budget(flops=flops), 10**9)
    assert isinstance(found, Plan)
    assert found.steps == steps
    return found


def trainer(
    given: Candidate,
    directory: Path,
    steps: int = STEPS,
    seed: int = 5,
    runtime: Runtime = SAVING,
) -> Trainer:
    torch.manual_seed(seed)
    return Trainer(Decoder(given.model), given.optim, planned(given, steps), runtime, directory)


class Interrupted(Exception):
    """Stands for a kill."""


class Stopping(Batches):
    """Batches that end the process at a step."""

    stop = -1

    def __call__(self, step: int) -> npt.NDArray[np.int64]:
        if step == self.stop:
            raise Interrupted
        return super().__call__(step)


def batches(corpus: Corpus, stop: int = -1) -> Stopping:
    found = Stopping(corpus.parts["train"], SEQ_LEN, 2, seed=5)
    found.stop = stop
    return found


def rows(directory: Path) -> list[dict[str, float]]:
    """Metrics without times."""
    found = list(metrics_of(directory / "metrics.jsonl"))
    return [{key: row[key] for key in row.keys() - TIMES} for row in found]


def weights(model: Decoder) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state().items()}


def assert_equal_to_the_bit(a: Decoder, b: Decoder) -> None:
    assert weights(a).keys() == weights(b).keys()
    for name, tensor in weights(a).items():
        assert torch.equal(tensor, weights(b)[name]), name


@dataclass(frozen=True)
class Run:
    """An uninterrupted training; tests share it and don't change it."""

    trainer: Trainer
    trained: Trained
    directory: Path


@pytest.fixture(scope="module")
def runs(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """One of each recipe, without checkpoints."""
    found = {}
    for recipe in RECIPES:
        folder = tmp_path_factory.mktemp(recipe)
        one = trainer(candidate(recipe, corpus), folder, runtime=Runtime(checkpoint_seconds=600))
        found[recipe] = Run(one, one.run(batches(corpus), seed=9), folder)
    return found


# --- training


ROUTER_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "expert_choice": [{}, {"gate": "softmax_selected", "z_weight": 0.1}],
    "threshold": [{"z_weight": 0.1}],
    "token_choice": [
        {"balance": "bias", "z_weight": 0.1},
        {"balance": "loss", "activation": "sigmoid"},
    ],
}
EXPERT_OPTIONS: list[dict[str, Any]] = [
    {"selection": "token_choice", "balance": "loss", "balance_weight": 1.0},
    {"selection": "token_choice", "balance": "bias", "z_weight": 0.1, "top_k": 2},
    {"selection": "expert_choice", "z_weight": 0.1},
]


def said(recipe: dict[str, Any]) -> str:
    """Names and values, for the test's own name."""
    parts = [part if isinstance(part, dict) else {"": part} for part in recipe.values()]
    return " ".join(str(value) for part in parts for value in part.values())


def step_recipes() -> Iterator[dict[str, Any]]:
    """Every router before every block, and every way to choose and balance experts."""
    yield {"block": "dense"}
    for name in ROUTERS.names():
        for options in ROUTER_OPTIONS.get(name, [{}]):
            yield {"block": "mod", "router": {"name": name, **options}}
            # Where the load varies, experts get another number of rows from each pass.
            varies = name in ("threshold", "token_choice")
            for experts in EXPERT_OPTIONS if varies else EXPERT_OPTIONS[:1]:
                yield {
                    "block": "mode_staged",
                    "router": {"name": name, **options},
                    "ffn": {"name": "moe", **experts},
                }
    for block in ("moe", "mode_integrated"):
        yield from ({"block": block, "ffn": {"name": block, **each}} for each in EXPERT_OPTIONS)


class Untied(Batches):
    """Five sequences a step, each of tokens that differ: equal ones have equal scores, which the
    rounding of a batch's shape may order either way."""

    def __call__(self, step: int) -> npt.NDArray[np.int64]:
        draw = np.random.default_rng(step)
        return np.stack([draw.permutation(64)[: SEQ_LEN + 1] for _ in range(5)])


Steps = tuple[dict[str, torch.Tensor], list[dict[str, float]], list[float]]


def some_steps(recipe: dict[str, Any], corpus: Corpus, folder: Path, micro: int | None) -> Steps:
    """Weights, metrics and scores after some steps in fp64, so that no decision flips."""
    shape = {"depth": 2, "every": 1, "width": 8, "num_heads": 1, "seq_len": 16, "capacity": 0.25}
    config = completed(ModelConfig.model_validate({**shape, **recipe}))
    given = candidate("dense", corpus, batch_size=5)
    torch.manual_seed(5)
    model, runtime = Decoder(config).double(), Runtime(micro_batch=micro)
    one = Trainer(model, given.optim, planned(given, 5), runtime, folder / str(micro))
    drawn = Untied(corpus.parts["train"], SEQ_LEN, 5, seed=5)
    one.run(drawn, seed=9)
    loss = score(model, drawn(7), "cpu")
    return weights(model), rows(folder / str(micro)), [loss.causal, loss.train_mode]


@pytest.mark.parametrize("recipe", list(step_recipes()), ids=said)
def test_a_step_in_passes_is_the_step(
    recipe: dict[str, Any], corpus: Corpus, tmp_path: Path
) -> None:
    """Uneven ones, too: the same weights, buffers, losses and statistics."""
    whole, logged, scores = some_steps(recipe, corpus, tmp_path, None)
    # A maximum over experts, and a share of visits that a pass may have more of or fewer.
    of_a_pass = {"expert_imbalance", "expert_dropped"}
    for micro in (1, 2, 4):
        parts, of_parts, of_scores = some_steps(recipe, corpus, tmp_path, micro)
        assert of_scores == pytest.approx(scores, rel=0, abs=1e-9)
        for name, tensor in whole.items():
            torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-8, msg=name)
        for a, b in zip(logged, of_parts, strict=True):
            found, wanted = ({n: row[n] for n in a.keys() - of_a_pass} for row in (b, a))
            assert found == pytest.approx(wanted, rel=0, abs=1e-6)


def test_only_what_asks_for_means_over_the_step_is_swept(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    passes: list[bool] = []
    hidden = Decoder.hidden

    def counted(self: Decoder, *arguments: Any, **named: Any) -> Any:
        passes.append(torch.is_grad_enabled())
        return hidden(self, *arguments, **named)

    monkeypatch.setattr(Decoder, "hidden", counted)
    for recipe in ({"block": "mod", "router": "random"}, {"block": "moe"}):
        given = candidate("dense", corpus, batch_size=4)
        model = Decoder(ModelConfig.model_validate({"width": 8, "num_heads": 1, **recipe}))
        runtime = Runtime(micro_batch=2)
        one = Trainer(model, given.optim, planned(given, 5), runtime, tmp_path / str(len(counts)))
        passes.clear()
        one.run(Batches(corpus.parts["train"], SEQ_LEN, 4, seed=5), seed=9)
        counts.append((passes.count(True), passes.count(False)))
    assert counts == [(10, 2), (10, 10)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_interrupted_training_equals_an_uninterrupted_one(
    recipe: str, corpus: Corpus, runs: dict[str, Run], tmp_path: Path
) -> None:
    given, whole = candidate(recipe, corpus), runs[recipe]
    for stop in (71, STEPS - 10):  # the second lies in the tail, whose losses are averaged
        with pytest.raises(Interrupted):
            trainer(given, tmp_path).run(batches(corpus, stop), seed=9)
    # Other initial weights: all must come from the checkpoint.
    last = trainer(given, tmp_path, seed=6)
    found = last.run(batches(corpus), seed=9)
    assert found.final_train_loss == whole.trained.final_train_loss
    assert_equal_to_the_bit(last.model, whole.trainer.model)
    assert rows(tmp_path) == rows(whole.directory)
    assert len(rows(tmp_path)) == LOGS_PER_TRIAL


@pytest.mark.parametrize(
    ("recipe", "optim"),
    [
        ("moe", {"optimizer": "muon"}),
        ("dense", {"schedule": "wsd"}),
        ("expert_choice", {"optimizer": "muon", "schedule": "wsd", "width_rule": "mup"}),
        ("dense", {"schedule": {"name": "linear"}, "final": 0}),
    ],
    ids=str,
)
def test_every_optimiser_and_schedule_is_resumed(
    recipe: str, optim: dict[str, Any], corpus: Corpus, tmp_path: Path
) -> None:
    given, steps = candidate(recipe, corpus, **optim), 60
    whole = trainer(given, tmp_path / "whole", steps)
    trained = whole.run(batches(corpus), seed=9)
    for stop in (23, 55):  # the second lies in the decay of wsd, and in the averaged tail
        with pytest.raises(Interrupted):
            trainer(given, tmp_path / "parts", steps).run(batches(corpus, stop), seed=9)
    last = trainer(given, tmp_path / "parts", steps, seed=6)
    found = last.run(batches(corpus), seed=9)
    assert found.final_train_loss == trained.final_train_loss
    assert_equal_to_the_bit(last.model, whole.model)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert rows(tmp_path / "whole")[-1]["learning_rate"] == pytest.approx(
        given.optim.final * max(row["learning_rate"] for row in rows(tmp_path / "whole"))
    )


@pytest.mark.parametrize("recipe", BUFFERED)
def test_buffers_are_resumed_and_saved(recipe: str, corpus: Corpus, tmp_path: Path) -> None:
    given, steps = candidate(recipe, corpus), 40
    if recipe == "warm-up":
        # Steps of a warm-up differ in cost, so that a plan of so many steps is made by hand.
        spent = planned(given.model_copy(update={"model": plain(given.model)}), steps)
    else:
        spent = planned(given, steps)

    def run(directory: Path, seed: int, stop: int = -1) -> Trainer:
        torch.manual_seed(seed)
        one = Trainer(Decoder(given.model), given.optim, spent, SAVING, directory)
        one.run(batches(corpus, stop), seed=9)
        return one

    whole = run(tmp_path / "whole", 5)
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", 5, stop=17)
    resumed = run(tmp_path / "parts", 6)  # other initial weights
    moved = [b for b in whole.model.buffers() if b.any()]
    assert moved, "no buffer moved: nothing was compared"
    assert_equal_to_the_bit(resumed.model, whole.model)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    save_model(whole.model, tmp_path / "saved")
    assert_equal_to_the_bit(load_model(tmp_path / "saved"), whole.model)


def plain(config: ModelConfig) -> ModelConfig:
    """Without warm-up."""
    return completed(config.model_copy(update={"schedule": Component(name="every_nth")}))


def test_a_resumed_training_does_not_repeat_what_was_saved(corpus: Corpus, tmp_path: Path) -> None:
    given = candidate("dense", corpus)
    with pytest.raises(Interrupted):
        trainer(given, tmp_path).run(batches(corpus, 51), seed=9)
    again = trainer(given, tmp_path)
    again.run(batches(corpus, 49), seed=9)  # the step before the checkpoint is not asked for
    assert again.step == STEPS


def test_metrics_after_the_checkpoint_and_cut_lines_are_dropped(
    corpus: Corpus, runs: dict[str, Run], tmp_path: Path
) -> None:
    given = candidate("dense", corpus)
    with pytest.raises(Interrupted):
        trainer(given, tmp_path).run(batches(corpus, 50), seed=9)
    path = tmp_path / "metrics.jsonl"
    kept = path.read_text()
    path.write_text(kept + json.dumps({"step": 52, "loss": 0.0}) + '\n{"step": 54, "lo')
    trainer(given, tmp_path).run(batches(corpus), seed=9)
    assert path.read_text().startswith(kept)
    assert rows(tmp_path) == rows(runs["dense"].directory)


def test_the_same_seed_gives_the_same_training(corpus: Corpus, tmp_path: Path) -> None:
    given = candidate("expert_choice", corpus)
    first, second, other = (
        trainer(given, tmp_path / name, steps=60, seed=seed)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    losses = [t.run(batches(corpus), seed=9).final_train_loss for t in (first, second, other)]
    assert losses[0] == losses[1] != losses[2]
    assert_equal_to_the_bit(first.model, second.model)


def test_the_seed_of_training_draws_the_random_router(corpus: Corpus, tmp_path: Path) -> None:
    given = candidate("random", corpus)
    losses = [
        trainer(given, tmp_path / str(seed), steps=60).run(batches(corpus), seed).final_train_loss
        for seed in (1, 1000)
    ]
    assert losses[0] != losses[1]


def test_every_step_routes_by_a_seed_of_its_own(corpus: Corpus, tmp_path: Path) -> None:
    seeds = []
    one = trainer(candidate("random", corpus), tmp_path, steps=10)
    one.model.blocks[1].router.register_forward_pre_hook(
        lambda router, arguments: seeds.append(arguments[1].seed)
    )
    one.run(batches(corpus), seed=9)
    assert seeds == list(range(9, 19))


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_learns(recipe: str, corpus: Corpus, runs: dict[str, Run]) -> None:
    found, logged = runs[recipe].trained, rows(runs[recipe].directory)
    assert logged[0]["loss"] == pytest.approx(math.log(256), abs=0.7)
    assert found.final_train_loss < corpus.facts.unigram_entropy + 0.2 < logged[0]["loss"] - 1
    assert found.step_seconds > 0
    assert [row["step"] for row in logged] == list(range(2, STEPS + 1, 2))
    assert {row["steps"] for row in logged} == {STEPS}
    assert logged[-1]["tokens"] == STEPS * 2 * SEQ_LEN


def test_the_final_train_loss_is_the_mean_of_the_last_tenth(runs: dict[str, Run]) -> None:
    tail = [row["loss"] for row in rows(runs["dense"].directory)[-10:]]
    assert runs["dense"].trained.final_train_loss == pytest.approx(sum(tail) / 10, abs=1e-9)


def test_weights_that_are_not_numbers_end_the_training(corpus: Corpus, tmp_path: Path) -> None:
    poisoned = trainer(candidate("dense", corpus), tmp_path)
    with torch.no_grad():
        poisoned.model.norm.weight[0] = math.nan
    with pytest.raises(Diverged, match="the loss is nan at step 2"):
        poisoned.run(batches(corpus), seed=9)


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "no meta", "other model"])
def test_a_damaged_checkpoint_is_removed_and_told(
    damage: str, corpus: Corpus, tmp_path: Path
) -> None:
    given = candidate("dense", corpus)
    with pytest.raises(Interrupted):
        trainer(given, tmp_path, steps=30).run(batches(corpus, 10), seed=9)
    path = tmp_path / "checkpoint" / "resume.safetensors"
    whole = path.read_bytes()
    if damage == "no meta":
        save_model(Decoder(given.model), tmp_path / "checkpoint")
        (tmp_path / "checkpoint" / "model.safetensors").replace(path)
    elif damage == "other model":
        given = candidate("dense", corpus)
        wider = given.model.model_copy(update={"width": 16})
        given = given.model_copy(update={"model": wider})
    else:
        damaged = {"cut": whole[: len(whole) // 2], "empty": b"", "noise": b"\xff" * 99}
        path.write_bytes(damaged[damage])
    with pytest.raises(StudyError, match="damaged and has been removed") as caught:
        trainer(given, tmp_path, steps=30).run(batches(corpus), seed=9)
    assert str(caught.value).count("\n") == 1
    assert not path.exists()
    again = trainer(given, tmp_path, steps=30)
    again.run(batches(corpus), seed=9)
    assert again.step == 30
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 31))


# --- scores


@pytest.mark.parametrize("recipe", RECIPES)
def test_losses_equal_a_direct_computation(
    recipe: str, corpus: Corpus, runs: dict[str, Run]
) -> None:
    trained = runs[recipe].trainer
    windows = corpus.windows(Validation(windows=40), SEQ_LEN)
    found = score(trained.model, windows, "cpu")
    with torch.no_grad():
        for mode, loss in (("causal", found.causal), ("train", found.train_mode)):
            nats = []
            for window in windows:
                tokens = torch.from_numpy(window).long()
                logits = trained.model(tokens[None, :-1], mode).logits_BTV[0].double()
                nats += [-logits.log_softmax(1)[t, tokens[t + 1]].item() for t in range(SEQ_LEN)]
            # The random router draws by the row of a batch, so its train mode is another draw.
            rough = (recipe, mode) == ("random", "train")
            assert loss == pytest.approx(sum(nats) / len(nats), abs=0.1 if rough else 1e-5)


def test_a_dense_model_realises_its_plan(corpus: Corpus) -> None:
    given = candidate("dense", corpus)
    found = score(Decoder(given.model), corpus.windows(Validation(), SEQ_LEN), "cpu")
    assert found.realised_forward_flops == planned(given).forward_flops
    assert found.realised_capacity is None
    assert found.agreement is None
    assert found.causal == found.train_mode


@pytest.mark.parametrize("recipe", ["expert_choice", "random"])
@torch.no_grad()
def test_a_routed_model_realises_what_it_chose(recipe: str, corpus: Corpus) -> None:
    given = candidate(recipe, corpus)
    model = Decoder(given.model).eval()
    windows = corpus.windows(Validation(windows=20), SEQ_LEN)
    found = score(model, windows, "cpu")
    counts, agreed, flops = [], [], 0
    for window in windows:
        tokens = torch.from_numpy(window).long()[None, :-1]
        [dense, chosen] = model(tokens, "causal").chosen
        [_, wanted] = model(tokens, "train").chosen
        assert dense is None
        assert wanted.sum() == 4
        counts.append(int(chosen.sum()))
        agreed.append((chosen == wanted).double().mean().item())
        routed = model.blocks[1]
        router = routed.router.cost(SEQ_LEN, "causal").forward.total
        inner = routed.inner.cost(counts[-1]).forward.total if counts[-1] else 0
        head = 2 * SEQ_LEN * 8 * 256
        flops += head + model.blocks[0].cost(SEQ_LEN).forward.total + router + inner
    assert 0 < sum(counts) < 20 * SEQ_LEN
    assert found.realised_capacity == pytest.approx(sum(counts) / (20 * SEQ_LEN))
    assert found.realised_forward_flops == pytest.approx(flops / (20 * SEQ_LEN))
    if recipe == "expert_choice":
        assert found.agreement == pytest.approx(sum(agreed) / 20)


@pytest.mark.parametrize("recipe", ["dense", "expert_choice"])
def test_the_causal_loss_is_of_all_windows_and_the_rest_of_a_sample_of_them(
    recipe: str, corpus: Corpus, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = runs[recipe].trainer.model
    windows = corpus.windows(Validation(part="test", windows=None), SEQ_LEN)
    assert len(windows) == len(corpus.parts["test"]) // (SEQ_LEN + 1)
    sample = windows[np.arange(20) * len(windows) // 20]
    whole, seen = score(model, windows, "cpu"), score(model, sample, "cpu")
    monkeypatch.setattr(scoring, "OBSERVED_WINDOWS", 20)
    found = score(model, windows, "cpu")
    assert found.causal == pytest.approx(whole.causal, abs=1e-6)
    assert found.block_losses == pytest.approx(whole.block_losses, abs=1e-6)
    if recipe == "dense":
        assert found.train_mode == found.causal
        return
    assert found.routing is not None
    assert found.routing.windows == 20
    assert found.agreement == pytest.approx(seen.agreement)
    assert found.realised_capacity == pytest.approx(seen.realised_capacity)
    added = seen.train_mode - seen.causal
    assert found.train_mode - found.causal == pytest.approx(added, abs=1e-6)


def test_losses_of_consecutive_shares_are_kept(corpus: Corpus) -> None:
    model = Decoder(candidate("dense", corpus).model)
    windows = corpus.windows(Validation(windows=150), SEQ_LEN)
    found = score(model, windows, "cpu")
    assert len(found.block_losses) == 64
    assert found.block_losses[0] == pytest.approx(score(model, windows[:3], "cpu").causal)
    assert found.block_losses[-1] == pytest.approx(score(model, windows[-2:], "cpu").causal)
    few = score(model, windows[:5], "cpu")
    assert few.block_losses == pytest.approx(causal_losses(model, windows[:5], "cpu").tolist())
    assert np.mean(few.block_losses) == pytest.approx(few.causal)


def test_scores_do_not_depend_on_the_mode_that_the_model_was_left_in(corpus: Corpus) -> None:
    model = Decoder(candidate("expert_choice", corpus).model)
    windows = corpus.windows(Validation(windows=20), SEQ_LEN)
    assert score(model.train(), windows, "cpu") == score(model.eval(), windows, "cpu")


# --- trials


def job(given: Candidate, corpus: Corpus, steps: int = STEPS, **changes: Any) -> Job:
    """A trial of 20 windows."""
    spent = planned(given, steps)
    return Job.model_validate(
        {
            "stage": Stage.MEASURE,
            "arm": "arm",
            "candidate": given,
            "budget": Budget(flops=spent.flops),
            "seed": 5,
            "validation": Validation(windows=20),
            "fingerprint": corpus.facts.fingerprint,
            "runtime": Runtime(),
            "plan": spent,
            **changes,
        }
    )


def failed(root: Path, given: Job, state: State = State.FAILED) -> Record:
    """The record of a trial that ends so."""
    record = run_trial(root, given)
    assert record.state is state, record
    assert record.scores is None
    assert record.reason
    assert "\n" not in record.reason
    return record


def test_a_trial_writes_what_it_found(corpus: Corpus, tmp_path: Path) -> None:
    given = job(candidate("expert_choice", corpus), corpus)
    record = run_trial(tmp_path, given)
    assert record.state is State.COMPLETE
    assert record.reason is None
    assert record.hash == given.hash
    assert StudyDirectory(tmp_path).records() == [record]
    folder = tmp_path / "trials" / given.hash
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    saved = {"checkpoint/model.safetensors", "checkpoint/model.json"}
    assert (
        names == {".lock", "config.yaml", "metrics.jsonl", "routing.json", "result.json"} | saved
    )
    scores = record.scores
    assert scores is not None
    written = json.loads((folder / "result.json").read_text())["scores"]
    losses = {key: value for key, value in written.items() if "loss" in key}
    single = {"causal_loss", "train_mode_loss", "final_train_loss"}
    assert set(losses) == single | {"block_losses"}
    assert all(losses[key] == getattr(scores, key) for key in losses), "digits were lost"
    assert scores.causal_loss < corpus.facts.unigram_entropy + 0.5
    assert scores.bits_per_byte == pytest.approx(scores.causal_loss / math.log(2))
    assert scores.seconds > scores.step_seconds > 0
    assert scores.phase_seconds is not None
    assert min(scores.phase_seconds.values()) > 0
    assert sum(scores.phase_seconds.values()) < scores.seconds
    assert scores.efficiency is not None
    assert isinstance(given.plan, Plan)
    tokens = given.candidate.optim.batch_size * SEQ_LEN
    assert scores.efficiency.tokens_per_second == pytest.approx(tokens / scores.step_seconds)
    assert scores.efficiency.peak is not None
    assert scores.efficiency.peak.source == "measured"
    assert 0 < (scores.efficiency.mfu or 0) < 1
    assert scores.peak_memory is None or scores.peak_memory > 10**7


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a trial's")
def test_the_peak_of_memory_is_that_of_the_trial(corpus: Corpus, tmp_path: Path) -> None:
    """And not that of the largest one which its worker has had."""
    held = np.ones(2**26)  # half a GiB
    before = peak_memory()
    del held
    record = run_trial(tmp_path, job(candidate("dense", corpus), corpus, steps=10))
    assert record.scores is not None
    assert record.scores.peak_memory is not None
    assert record.scores.peak_memory < before - 2**28


def test_a_peak_that_can_not_be_told_is_none(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "RESETS", tmp_path / "not" / "there")
    record = run_trial(tmp_path / "study", job(candidate("dense", corpus), corpus, steps=10))
    assert record.scores is not None
    assert record.scores.peak_memory is None
    assert StudyDirectory(tmp_path / "study").records() == [record]


def test_a_log_that_can_not_be_written_is_told_with_its_path(
    corpus: Corpus, tmp_path: Path
) -> None:
    given = job(candidate("random", corpus), corpus)
    with smallest_files(4000):  # its configuration fits
        record = failed(tmp_path / "study", given)
    assert "too large" in str(record.reason)
    assert str(tmp_path / "study" / "trials" / given.hash) in str(record.reason)


def test_a_trial_is_scored_as_its_saved_model_is(corpus: Corpus, tmp_path: Path) -> None:
    given = job(candidate("random", corpus), corpus, steps=60)
    record = run_trial(tmp_path, given)
    model = load_model(tmp_path / "trials" / given.hash / "checkpoint")
    again = score(model, corpus.windows(given.validation, SEQ_LEN), "cpu")
    assert record.scores is not None
    assert record.scores.causal_loss == again.causal
    assert record.scores.realised_forward_flops == again.realised_forward_flops


def test_the_same_trial_twice_is_equal_to_the_bit(corpus: Corpus, tmp_path: Path) -> None:
    given = job(candidate("expert_choice", corpus), corpus, steps=60)
    found = [run_trial(tmp_path / name, given) for name in "ab"]
    for record in found:
        assert record.scores is not None
    one, two = (r.scores.model_dump(exclude=TIMES) for r in found if r.scores)
    assert one == two
    other = run_trial(tmp_path / "c", given.model_copy(update={"seed": 6}))
    assert other.scores is not None
    assert other.scores.causal_loss != one["causal_loss"]


def test_an_interrupted_trial_ends_with_the_same_scores(corpus: Corpus, tmp_path: Path) -> None:
    given = job(candidate("expert_choice", corpus), corpus, steps=60)
    whole = run_trial(tmp_path / "whole", given)
    torch.manual_seed(given.seed)
    part = Trainer(
        Decoder(given.candidate.model),
        given.candidate.optim,
        planned(given.candidate, 60),
        SAVING,
        StudyDirectory(tmp_path / "parts").trial(given.hash),
    )
    stopping = Stopping(corpus.parts["train"], SEQ_LEN, 2, given.seed)
    stopping.stop = 30
    with pytest.raises(Interrupted):
        part.run(stopping, seed=given.seed * 1_000_003)
    resumed = run_trial(tmp_path / "parts", given)
    assert whole.scores is not None
    assert resumed.scores is not None
    assert resumed.scores.model_dump(exclude=TIMES) == whole.scores.model_dump(exclude=TIMES)


def test_a_damaged_checkpoint_fails_the_trial_and_the_next_run_starts_over(
    corpus: Corpus, tmp_path: Path
) -> None:
    given = job(candidate("dense", corpus), corpus, steps=60)
    path = tmp_path / "trials" / given.hash / "checkpoint" / "resume.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    record = failed(tmp_path, given)
    assert record.reason is not None
    assert "was damaged and has been removed" in record.reason
    assert (tmp_path / "trials" / given.hash / "error.txt").read_text().startswith("Traceback")
    assert run_trial(tmp_path, given).state is State.COMPLETE


def test_a_diverged_trial_is_a_state_of_its_own(corpus: Corpus, tmp_path: Path) -> None:
    given = job(candidate("dense", corpus, rate=1e6), corpus)
    record = failed(tmp_path, given, State.DIVERGED)
    assert record.reason is not None
    assert record.reason.startswith("the loss is ")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_trial_that_diverges_at_its_last_step_is_no_result(
    corpus: Corpus, tmp_path: Path
) -> None:
    """The only training loss is the one before the step."""
    wild = candidate("dense", corpus)
    wild = wild.model_copy(update={"optim": wild.optim.model_copy(update={"rate": 1e39})})
    record = run_trial(tmp_path, job(wild, corpus, steps=1))
    assert (record.state, record.reason) == (State.DIVERGED, "the validation loss is nan")


def test_memory_that_runs_out_is_a_state_of_its_own(corpus: Corpus, tmp_path: Path) -> None:
    """An embedding of 2**49 bytes, more than a process can address: refused at once."""
    huge = candidate("dense", corpus)
    huge = huge.model_copy(
        update={"model": huge.model.model_copy(update={"vocab_size": 2**44, "width": 8})}
    )
    failed(tmp_path, job(huge, corpus), State.OUT_OF_MEMORY)


def test_what_no_memory_of_the_machine_holds_is_not_begun(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux would kill the worker, or somebody else."""
    given = job(candidate("dense", corpus), corpus)
    assert isinstance(given.plan, Plan)
    monkeypatch.setattr(trial, "all_memory", lambda: 12 * given.plan.params - 1)
    record = failed(tmp_path, given, State.OUT_OF_MEMORY)
    assert f"of {given.plan.params:,} parameters take" in str(record.reason)
    assert not (tmp_path / "trials" / given.hash / "metrics.jsonl").exists()
    assert all_memory() > 2**28


@pytest.mark.parametrize("name", ["dense", "random", "token_choice"])
def test_where_memory_runs_out_smaller_passes_go_on_to_the_same_loss(
    name: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last checkpoint, where there is one."""
    given = candidate(name, corpus, batch_size=4)
    whole = run_trial(tmp_path / "whole", job(given, corpus, runtime=SAVING))
    passes: list[tuple[int, int]] = []
    real = Trainer._forward

    def limited(self: Trainer, part_BT: torch.Tensor, *rest: Any) -> Any:
        passes.append((self.step, len(part_BT)))
        if len(part_BT) > 1 and self.step >= STEPS // 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, part_BT, *rest)

    monkeypatch.setattr(Trainer, "_forward", limited)
    record = run_trial(tmp_path / "parts", job(given, corpus, runtime=SAVING))
    assert record.state is State.COMPLETE
    assert record.scores is not None
    assert whole.scores is not None
    assert (whole.scores.micro_batch, record.scores.micro_batch) == (None, 1)
    assert record.scores.causal_loss == pytest.approx(whole.scores.causal_loss, abs=1e-4)
    assert {rows for step, rows in passes if step < STEPS // 2} == {4}, "it began anew"
    assert [rows for step, rows in passes if step >= STEPS // 2][:3] == [4, 2, 1]


def test_what_counts_as_memory_that_ran_out() -> None:
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not out_of_memory(RuntimeError("shape mismatch"))
    assert not out_of_memory(ValueError("can't allocate memory"))


def test_another_text_than_the_study_s_fails_before_training(
    corpus: Corpus, tmp_path: Path
) -> None:
    given = job(candidate("dense", corpus), corpus, fingerprint="0" * 16)
    record = failed(tmp_path, given)
    assert record.reason is not None
    assert record.reason.startswith("DataError")
    assert "is not what it was trained on" in record.reason
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_a_sample_that_the_text_is_too_short_for_fails_before_training(
    corpus: Corpus, tmp_path: Path
) -> None:
    given = job(candidate("dense", corpus), corpus, validation=Validation(windows=10**6))
    record = failed(tmp_path, given)
    assert record.reason is not None
    assert "windows" in record.reason
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_a_directory_that_can_not_be_written_fails_in_one_line(
    corpus: Corpus, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file is in the directory's way, which stops root too."""
    (tmp_path / "file").touch()
    record = failed(tmp_path / "file", job(candidate("dense", corpus), corpus))
    assert record.reason is not None
    assert record.reason.startswith("can't write")
    assert "Traceback" not in "".join(capfd.readouterr())


# --- saved models


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_saved_model_comes_back(recipe: str, corpus: Corpus, tmp_path: Path) -> None:
    for tied in (True, False):
        config = candidate(recipe, corpus).model.model_copy(update={"tied": tied})
        model = Decoder(config)
        save_model(model, tmp_path)
        found = load_model(tmp_path)
        assert found.config == config
        assert not found.training
        assert (found.head.weight is found.embedding.weight) is tied
        assert_equal_to_the_bit(found, model)


def test_weights_from_before_random_had_a_salt_are_read(tmp_path: Path) -> None:
    config = ModelConfig(depth=2, width=8, num_heads=1, block="mod", router="random", seq_len=16)
    model = Decoder(config)
    save_model(model, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    assert int(tensors.pop("blocks.1.router.salt")) == int(model.state()["blocks.1.router.salt"])
    safetensors.torch.save_file(tensors, path)
    found = load_model(tmp_path).state()
    assert int(found["blocks.1.router.salt"]) == 0
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("missing", ["model.safetensors", "model.json"])
def test_a_missing_checkpoint_is_told(missing: str, tmp_path: Path) -> None:
    save_model(Decoder(ModelConfig()), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(StudyError, match="no checkpoint in") as caught:
        load_model(tmp_path)
    assert str(caught.value).count("\n") == 1


def test_where_there_is_no_checkpoint_one_of_its_trials_is_named(tmp_path: Path) -> None:
    save_model(Decoder(ModelConfig()), tmp_path / "trials" / "a" / "checkpoint")
    with pytest.raises(StudyError, match=f"here for one {tmp_path / 'trials' / 'a'}$"):
        check_weights(tmp_path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 50),
        ("model.json", b""),
        ("model.json", b"{}{"),
        ("model.json", b'{"width": 7}'),
        ("model.json", b'{"width": 64}'),
        ("model.json", b'{"tied": false}'),
        ("model.json", b"null"),
        ("model.json", b"[" * 99_999),
        ("model.json", "{}".encode("utf-16")),
    ],
)
def test_a_damaged_checkpoint_of_a_model_is_told(name: str, damage: bytes, tmp_path: Path) -> None:
    save_model(Decoder(ModelConfig()), tmp_path)
    (tmp_path / name).write_bytes(damage)
    with pytest.raises(StudyError, match="can't read") as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert str(caught.value).count("\n") <= 1


def test_weights_of_another_shape_are_no_weights(tmp_path: Path) -> None:
    """Also where one would fit by repeating it."""
    save_model(Decoder(ModelConfig()), tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 1)
    tensors[name] = tensors[name][:1].clone()
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(StudyError, match=f"{name} has another shape"):
        load_model(tmp_path)
