"""The memory of a training as it is foreseen, against that of the same step on this processor."""

from typing import Any

import pytest
import torch

from modsearch.config.data import DataConfig
from modsearch.config.records import Budget, Candidate, Plan
from modsearch.config.runtime import Runtime
from modsearch.nn import losses
from modsearch.nn.model import Decoder
from modsearch.optim.parts import optimizer_of
from modsearch.planning import memory as foreseen
from modsearch.planning import room
from modsearch.planning.memory import memory
from modsearch.planning.room import Memories, too_large
from modsearch.space.candidates import build
from modsearch.training import scoring
from modsearch.training.budget import plan
from modsearch.training.spread import Objective, evaluated
from modsearch.training.trainer import autocast
from modsearch.training.weights import optimizer_for, weights_of

BLOCKS: dict[str, dict[str, Any]] = {
    "dense": {"block": "dense"},
    "grouped": {"block": "dense", "num_heads": 4, "num_kv_heads": 2},
    "mod": {"block": "mod", "capacity": 0.25},
    "attention": {"block": {"name": "mod", "part": "attention"}, "router": "token_choice"},
    "moe": {"block": "moe"},
    "mode_staged": {"block": "mode_staged"},
    "mode_integrated": {"block": "mode_integrated"},
    "long": {"block": "dense", "seq_len": 512, "width": 16, "num_heads": 2},
    "large vocabulary": {"block": "dense", "vocab_size": 4000},
}


def candidate(name: str = "dense", **optim: Any) -> Candidate:
    shape = {"depth": 2, "width": 32, "num_heads": 2, "seq_len": 64, **BLOCKS[name]}
    chosen = {"batch_size": 4, "min_steps": 1, **optim}
    return build({"model": shape, "optim": chosen}, DataConfig())


def held(model: Decoder, runtime: Runtime, rows: int) -> tuple[int, int]:
    """What a real step leaves for its backward pass, and holds at the most."""
    tokens_BT = torch.zeros((rows, model.config.seq_len + 1), dtype=torch.long)
    objective = Objective(model, model.loss)
    with foreseen._Held(model.state().values()) as counted:
        with autocast(runtime):
            total, _, _ = evaluated(objective, tokens_BT, 0, None)
        saved = counted.now.all
        total.backward()  # type: ignore[no-untyped-call]
    return saved, counted.most.all


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_step_holds_what_was_foreseen(
    name: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor of it; nothing is trained for the forecast."""
    monkeypatch.setitem(losses.LOGITS_AT_ONCE, "cpu", 2**19)
    given, runtime = candidate(name), Runtime.model_validate({"precision": precision})
    said = memory(given, runtime)
    saved, most = held(Decoder(given.model).train(), runtime, 4)
    assert said.saved == pytest.approx(saved, rel=0.02)
    assert said.step - said.weights - said.moments == pytest.approx(most, rel=0.03)


def test_scoring_holds_what_was_foreseen() -> None:
    model = Decoder(candidate("mod").model).eval()
    said = memory(candidate("mod"), Runtime())
    windows = scoring.windows_at_once(64)
    tokens_BT = torch.zeros((windows, 65), dtype=torch.long)
    with torch.no_grad(), foreseen._Held(model.state().values()) as counted:
        scoring.scored(model, tokens_BT, "train", entropies=True)
    assert said.scoring - said.weights == pytest.approx(counted.most.all, rel=0.02)


def test_logits_are_not_copied_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is found of each token, whose values are the same."""
    model = Decoder(candidate("large vocabulary").model).eval()
    tokens_BT = torch.randint(4000, (8, 65))
    found = []
    for most in (2**24, 2**16):
        monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", most)
        with torch.no_grad(), foreseen._Held(model.state().values()) as counted:
            passed = scoring.scored(model, tokens_BT, "causal", entropies=True)
        found.append((passed, counted.most.all))
    (whole, much), (turns, little) = found
    assert torch.equal(whole.losses_BT, turns.losses_BT)
    assert whole.entropies_BT is not None
    assert turns.entropies_BT is not None
    assert torch.equal(whole.entropies_BT, turns.entropies_BT)
    logits = 4 * 8 * 64 * 4000
    assert much > 2 * logits
    assert little < 1.3 * logits


@pytest.mark.parametrize("name", ["dense", "mod", "mode_integrated"])
def test_a_deep_model_is_foreseen_by_shallow_ones(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = candidate(name).model_dump()
    values["model"] |= {"depth": 9}
    given = Candidate.model_validate(values)
    short = memory(given, Runtime())
    monkeypatch.setattr(foreseen, "_deep", lambda model, find: find(model))
    whole = memory(given, Runtime())
    assert short.saved == whole.saved
    assert short.step == pytest.approx(whole.step, rel=0.02)
    assert short.scoring == pytest.approx(whole.scoring, rel=0.02)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_moments_are_those_of_the_optimiser(optimizer: str) -> None:
    given = candidate("moe", optimizer=optimizer)
    model = Decoder(given.model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    real = optimizer_for(model, given.optim)
    real.step()
    state = [each for of in real.state_dict()["state"].values() for each in of.values()]
    numbers = sum(each.numel() for each in state if each.ndim)
    named = optimizer_of(given.optim)
    weights = weights_of(model, given.optim, named.hidden_power)
    assert named.state_size(weights) == numbers
    assert memory(given, Runtime()).moments == pytest.approx(4 * numbers, abs=4)


def test_smaller_passes_take_less_and_gradients_stay() -> None:
    given = candidate(batch_size=16)
    whole = memory(given, Runtime())
    parts = memory(given, Runtime(micro_batch=1))
    assert parts.saved == pytest.approx(whole.saved / 16, rel=0.05)
    assert parts.step > parts.weights + parts.moments + parts.gradients + parts.saved


def test_capacities_that_warm_up_begin_with_all_tokens() -> None:
    warm = candidate("mod").model_dump()
    warm["model"]["schedule"] = {"name": "every_nth", "warmup": 0.5}
    dense = memory(candidate("dense"), Runtime()).saved
    assert memory(candidate("mod"), Runtime()).saved < 0.8 * dense
    assert memory(Candidate.model_validate(warm), Runtime()).saved > dense


def test_the_heap_keeps_more_than_is_held_and_gives_large_blocks_back() -> None:
    def bytes_of(*sizes: int) -> foreseen._Bytes:
        return foreseen._Bytes.of(sizes)

    small, large = 2**20, foreseen.MAPPED
    assert bytes_of(small, large, small) == foreseen._Bytes(2 * small, large)
    phases = [bytes_of(small), bytes_of(large), bytes_of(small, small)]
    assert foreseen._taken(phases) == round(foreseen.HEAP * 2 * small) + large


def test_memory_that_will_run_out_is_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    given = candidate(batch_size=64)
    spent = plan(given, Budget(flops=1e12), 10**9)
    assert isinstance(spent, Plan)
    memories = Memories(Runtime())

    def warned(free: int, workers: int = 1) -> list[str]:
        monkeypatch.setattr(room, "free_memory", lambda device: free)
        return too_large(memories, [(given, spent)], 0, workers)

    whole, some, least = (
        found.peak
        for rows in (64, 16, 1)
        if (found := memories.of(given, Runtime(micro_batch=rows))) is not None
    )
    assert warned(whole) == []
    [line] = warned(some)
    assert "a trial of depth 2, width 32 needs " in line
    assert "resources.micro_batch: 16 needs " in line
    [line] = warned(least // 2)
    assert "no micro_batch makes it fit" in line
    [line] = warned(3 * whole, workers=4)
    assert "4 workers may need " in line
    assert "resources.workers: 3 always fit" in line
