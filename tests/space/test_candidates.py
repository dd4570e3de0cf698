"""What is said about the candidates of a space before any is trained."""

from pathlib import Path

import pytest
import torch

from modsearch.config.model import Component, ModelConfig
from modsearch.errors import ConfigError
from modsearch.nn.contracts import ROUTERS, Context, Options, Router, Routing
from modsearch.nn.cost import Cost
from modsearch.nn.model import unlearned
from modsearch.nn.parts import completed
from modsearch.space import candidates
from modsearch.space.candidates import load_space, unlearned_choices

SPACE = """
name: gates
fixed: {model: {block: mod, seq_len: 64, num_heads: 1, router: ROUTER}}
arms:
  dense: {model: {block: dense}}
  mod: {model: {every: 1}}
  drawn: {control_of: mod, model: {router: random}}
explore: {budgets: [1e9], size: {depth: 2, width: 8}}
"""


def said(folder: Path, router: str) -> list[str]:
    """Of a space with that router in arm `mod`."""
    path = folder / "gates.yaml"
    path.write_text(SPACE.replace("ROUTER", router))
    return unlearned_choices(load_space(path, []))


@pytest.mark.parametrize(
    "router",
    [
        "{name: threshold, gate: one}",
        "{name: threshold, gate: {choice: [identity, one]}}",
        "{name: predictor, gate: one}",
        "{name: token_choice, gate: one, balance: bias}",
        "{choice: [expert_choice, {name: threshold, gate: one}]}",
    ],
)
def test_scores_that_nothing_trains_are_told_with_their_arm(router: str, tmp_path: Path) -> None:
    [line] = said(tmp_path, router)
    assert line.startswith("arm `mod`: router `")
    assert line.endswith("with gate `one` never learns `weight`: no gradient comes")


@pytest.mark.parametrize(
    "router",
    [
        "{name: threshold, gate: one, z_weight: 0.1}",
        "{name: threshold, gate: {choice: [identity, sigmoid, softmax_selected]}}",
        "{name: predictor, gate: one, z_weight: 0.1}",
        "{name: expert_choice, gate: one}",
        "{name: token_choice, gate: one, balance: loss}",
        "static",
    ],
)
def test_scores_that_something_trains_are_not_told(router: str, tmp_path: Path) -> None:
    assert not said(tmp_path, router)


def test_a_router_that_starts_at_zero_learns() -> None:
    """No gradient reaches its first layer at the very start."""

    @ROUTERS.register("from_zero")
    class FromZero(Router):
        def __init__(self, width: int, capacity: float, options: Options) -> None:
            super().__init__(width, capacity, options)
            self.first = torch.nn.Linear(width, 4)
            self.second = torch.nn.Linear(4, 1)
            torch.nn.init.zeros_(self.second.weight)

        def cost(self, num_positions: int, mode: str) -> Cost:
            return Cost()

        def forward(self, x_BTD: torch.Tensor, context: Context) -> Routing:
            scores_BT = self.second(self.first(x_BTD).tanh()).squeeze(-1)
            index_BK = scores_BT.topk(self.slots(x_BTD.shape[1]), dim=1).indices.sort(dim=1).values
            return Routing(index_BK, scores_BT.gather(1, index_BK), None)

    try:
        config = ModelConfig(block=Component(name="mod"), router=Component(name="from_zero"))
        assert unlearned(completed(config)) is None
    finally:
        ROUTERS._registered.clear()
        ROUTERS._loaded.pop("from_zero")


def arms_with_axes(num_arms: int, num_axes: int) -> str:
    """A space whose arms differ in one value, with so many axes of the model."""
    keys = [f"o{place}: {{int: [1, 1000]}}" for place in range(num_axes)]
    arms = "".join(f"  a{n}: {{model: {{capacity: 0.{n + 10}}}}}\n" for n in range(num_arms))
    axes = "{model: {router: {name: wide, " + ", ".join(keys) + "}}}"
    explore = "{budgets: [1e9], size: {depth: 2, width: 8}, sampler: random, trials: 3}"
    return f"name: wide\naxes: {axes}\narms:\n{arms}explore: {explore}\n"


@pytest.mark.parametrize(("num_arms", "num_axes"), [(1, 12), (64, 12), (64, 2)])
def test_the_candidates_that_check_a_space_are_bounded(
    num_arms: int, num_axes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    monkeypatch.setattr(candidates, "build", lambda *_: built.append(1))
    path = tmp_path / "wide.yaml"
    path.write_text(arms_with_axes(num_arms, num_axes))
    load_space(path, [])
    assert 1000 < len(built) <= 2 * candidates.MOST_BUILDS + num_arms


def test_arms_that_say_the_same_are_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    monkeypatch.setattr(candidates, "build", lambda *_: built.append(1))
    path = tmp_path / "same.yaml"
    path.write_text(
        "name: same\naxes: {model: {capacity: {choice: [0.1, 0.2]}}}\narms: {a: {}, b: {}}\n"
        "explore: {budgets: [1e9], size: {depth: 2, width: 8}}\n"
    )
    load_space(path, [])
    assert len(built) == 3


def test_values_that_do_not_go_together_are_found(tmp_path: Path) -> None:
    path = tmp_path / "pair.yaml"
    path.write_text(
        "name: pair\narms: {a: {model: {num_heads: {choice: [1, 2, 4]}}}}\n"
        "explore: {budgets: [1e9], size: {depth: 2, width: {choice: [8, 12]}}}\n"
    )
    with pytest.raises(ConfigError, match="width=12, num_heads=4"):
        load_space(path, [])
