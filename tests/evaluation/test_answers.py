"""Answers that are kept: what a killed evaluation goes on from."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from lm_eval.api.instance import Instance

from modsearch.config.data import DataConfig
from modsearch.config.model import ModelConfig
from modsearch.evaluation.answers import Answers
from modsearch.evaluation.evaluate import evaluate_checkpoint
from modsearch.nn.model import Decoder
from modsearch.training.checkpoint import save_model


def ask_of(task: str, *texts: str) -> list[Instance]:
    return [
        Instance("loglikelihood", {}, ("", text), place, metadata=(task, place, 1))
        for place, text in enumerate(texts)
    ]


class Model:
    """Answers with lengths, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        if requests[0].task_name == "killed":
            raise KeyboardInterrupt
        self.asked += [request.args[1] for request in requests]
        return [(-float(len(request.args[1])) / 3, True) for request in requests]


def test_a_killed_evaluation_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    answers, model = Answers(tmp_path, "weights"), Model()
    first, second = ask_of("one", "a", "bc"), ask_of("two", "def")
    with pytest.raises(KeyboardInterrupt):
        answers.of("loglikelihood", "causal", [*first, *ask_of("killed", "x"), *second], model)
    assert model.asked == ["a", "bc"]
    # Another suite, with its tasks in another order.
    mixed = [second[0], *first]
    found = Answers(tmp_path, "weights").of("loglikelihood", "causal", mixed, model)
    assert found == [(-1.0, True), (-1 / 3, True), (-2 / 3, True)]
    assert model.asked == ["a", "bc", "def"]


@pytest.mark.parametrize(
    ("identity", "kind", "how", "text"),
    [
        ("other", "loglikelihood", "causal", "a"),
        ("weights", "other", "causal", "a"),
        ("weights", "loglikelihood", "train", "a"),
        ("weights", "loglikelihood", "causal", "b"),
    ],
)
def test_whatever_changes_is_asked_again(
    identity: str, kind: str, how: str, text: str, tmp_path: Path
) -> None:
    model = Model()
    Answers(tmp_path, "weights").of("loglikelihood", "causal", ask_of("one", "a"), model)
    Answers(tmp_path, identity).of(kind, how, ask_of("one", text), model)
    assert model.asked == ["a", text]


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8b", b"{}", None])
def test_damaged_answers_are_asked_for_again(tmp_path: Path, damage: bytes | None) -> None:
    model, requests = Model(), ask_of("a task/with: signs", "a")
    answers = Answers(tmp_path / "kept", "weights")
    answers.of("loglikelihood", "causal", requests, model)
    [path] = (tmp_path / "kept").iterdir()
    path.write_bytes(path.read_bytes()[:-9] if damage is None else damage)
    assert answers.of("loglikelihood", "causal", requests, model) == [(-1 / 3, True)]
    assert model.asked == ["a", "a"]


def test_answers_that_can_not_be_kept_are_answers(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answers, model = Answers(tmp_path / "file", "weights"), Model()
    assert answers.of("loglikelihood", "causal", ask_of("one", "abc"), model) == [(-1.0, True)]


def test_a_checkpoint_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that two suites have is scored by the first, until the weights change."""
    torch.manual_seed(0)
    model = Decoder(ModelConfig(depth=1, width=8, num_heads=1, seq_len=64))
    save_model(model, tmp_path / "trial" / "checkpoint")
    rows = [{"q": "a", "values": [" b", " c"]}, {"q": "b", "values": [" d", " eee"]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "pick",
        "dataset_path": "modsearch:jsonl",
        "dataset_kwargs": {"file": "rows.jsonl"},
        "test_split": "held_out",
        "output_type": "multiple_choice",
        "doc_to_text": "q",
        "doc_to_choice": "values",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    data = DataConfig(corpus=str(Path(__file__).parent))
    found = []
    for name, metric in (("one", "acc"), ("two", "acc_norm")):
        changed = {**task, "metric_list": [{**task["metric_list"][0], "metric": metric}]}  # type: ignore[index]
        suite = {"name": name, "description": "x", "tasks": [changed]}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(suite))
        found.append(evaluate_checkpoint(tmp_path / "trial" / "checkpoint", path, data, "test"))
        monkeypatch.setattr(Decoder, "forward", refuse)
    assert "acc_norm,none" in found[1]["results"]["pick"]
    assert len(list((tmp_path / "trial" / "eval" / "answers").iterdir())) == 1
    save_model(Decoder(model.config), tmp_path / "trial" / "checkpoint")
    with pytest.raises(RuntimeError, match="asked"):
        evaluate_checkpoint(tmp_path / "trial" / "checkpoint", path, data, "test")


def refuse(*_: object, **__: object) -> None:
    raise RuntimeError("asked")
