"""What is said about the candidates of a space before any is trained."""

from pathlib import Path

import pytest

from modsearch.candidates import load_space, unlearned_choices

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
