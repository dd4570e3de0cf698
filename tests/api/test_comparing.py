"""Models compared on the same documents: studies, packed ones, trials, bare checkpoints."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Done
from tiny import SPACE, SUITE

import modsearch as library
from modsearch.config.answers import ScoreComparison
from modsearch.errors import ModsearchError

ROWS = [
    {"question": f"{a}, then", "values": [f" {b}", f" {c}x"], "right": n % 2}
    for n, (a, b, c) in enumerate(zip("abcdefgh", "ijklmnop", "qrstuvwx", strict=True))
]
PICK = {
    "task": "pick",
    "dataset_path": "modsearch:jsonl",
    "dataset_kwargs": {"file": "rows.jsonl"},
    "test_split": "held_out",
    "output_type": "multiple_choice",
    "doc_to_text": "question",
    "doc_to_choice": "values",
    "doc_to_target": "right",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"chance": 0.5},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two arms with three seeds each, and a suite."""
    root = tmp_path_factory.mktemp("comparing")
    library.search(
        {**SPACE, "confirm": {"budgets": [5e7], "seeds": 3, "windows": 2}}, root / "study"
    )
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    suite = {**SUITE, "tasks": [*SUITE["tasks"], PICK]}  # type: ignore[misc]
    (root / "tiny.yaml").write_text(yaml.safe_dump(suite))
    return root


def compared(world: Path, *targets: Path, **options: Any) -> ScoreComparison:
    return library.compare(targets, str(world / "tiny.yaml"), **options)


@pytest.fixture(scope="module")
def winners(world: Path) -> ScoreComparison:
    """The study alone: its two winners."""
    return compared(world, world / "study")


def trials_of(world: Path, arm: str) -> list[Path]:
    study = library.open_study(world / "study")
    records = [row for row in study.trials if row.stage == "confirm" and row.arm == arm]
    return [study.folder(row) for row in records]


def test_a_study_stands_for_both_winners_with_all_seeds(
    world: Path, winners: ScoreComparison
) -> None:
    assert [(side.name, side.runs) for side in winners.sides] == [
        (f"{world / 'study'}:dense", 3),
        (f"{world / 'study'}:mod", 3),
    ]
    assert [(row.task, row.metric) for row in winners.differences] == [
        ("text", "bits_per_byte"),
        ("pick", "answer_margin"),
    ]
    assert winners.adjusted_for == 2
    for row in winners.differences:
        assert row.over == "seeds and documents"
        assert row.low is not None
        assert row.high is not None
        assert row.low < row.value < row.high
        ours, theirs = (
            next(s.value for s in winners.scores if (s.side, s.task) == (side, row.task))
            for side in (row.side, row.against)
        )
        sign = -1 if row.metric == "bits_per_byte" else 1
        assert row.value == pytest.approx(sign * (ours - theirs), abs=1e-12)


def test_what_is_scored_is_reused_and_means_are_those_of_eval(
    world: Path, winners: ScoreComparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        "modsearch.evaluation.evaluate.evaluate", lambda *_, **__: pytest.fail("scored again")
    )
    assert compared(world, world / "study", progress=told.append) == winners
    assert told == []
    found = library.evaluate(world / "study", str(world / "tiny.yaml"))
    means = [found.results[trial.name]["text"]["bits_per_byte,none"] for trial in
             trials_of(world, "dense")]  # fmt: skip
    [score] = [s for s in winners.scores if s.side.endswith(":dense") and s.task == "text"]
    assert score.value == pytest.approx(sum(means) / 3, rel=1e-3)
    assert all(means.keys() == {"centred accuracy"} or not means for means in
               found.averages.values())  # fmt: skip


def test_a_packed_study_is_compared_without_weights(world: Path, winners: ScoreComparison) -> None:
    packed = world / "study.tar.xz"
    library.pack(world / "study", packed)
    found = compared(world, packed)
    assert [row.value for row in found.differences] == [row.value for row in winners.differences]
    other = yaml.safe_load((world / "tiny.yaml").read_text()) | {"description": "Another."}
    (world / "other.yaml").write_text(yaml.safe_dump({**other, "name": "other"}))
    with pytest.raises(ModsearchError, match="has no weights, and no results of suite `other`"):
        library.compare([packed], str(world / "other.yaml"))


def test_trials_and_bare_checkpoints_are_compared_over_documents(
    world: Path, winners: ScoreComparison, tmp_path: Path
) -> None:
    dense, mod = trials_of(world, "dense")[0], trials_of(world, "mod")[0]
    shutil.copytree(mod / "checkpoint", tmp_path / "bare")
    found = compared(world, dense, mod, tmp_path / "bare")
    assert [side.runs for side in found.sides] == [1, 1, 1]
    assert {row.over for row in found.differences} == {"documents"}
    assert found.adjusted_for == 4
    by_side = {
        side: [row.value for row in found.differences if row.side == side]
        for side in (str(mod), str(tmp_path / "bare"))
    }
    assert by_side[str(mod)] == pytest.approx(by_side[str(tmp_path / "bare")])
    assert any("one run" in note for note in found.notes)
    same = compared(world, mod, tmp_path / "bare")
    assert all((row.value, row.p) == (0, 1) for row in same.differences)


def test_the_terminal_the_figure_and_json_say_the_same(
    world: Path, winners: ScoreComparison, modsearch: Callable[..., Done], tmp_path: Path
) -> None:
    suite = ("--suite", world / "tiny.yaml")
    done = modsearch("compare", world / "study", *suite, "--out", tmp_path / "figures")
    assert done.code == 0, done.err
    value = f"{winners.differences[0].value:+.4f}"
    assert value in done.out
    assert "seeds and documents" in done.out
    assert (tmp_path / "figures" / "scores.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "figures" / "scores.png").read_bytes().startswith(b"\x89PNG")
    done = modsearch("compare", world / "study", *suite, "--json")
    assert ScoreComparison.model_validate_json(done.out) == winners


def test_what_can_not_be_compared_is_told(
    world: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    dense = trials_of(world, "dense")[0]
    suite = ("--suite", world / "tiny.yaml")
    assert "needs two models" in refused("compare", dense, *suite)
    assert "is named twice" in refused("compare", dense, dense, *suite)
    assert "no folder" in refused("compare", dense, tmp_path / "none", *suite)
    assert "--corpus names them" in refused("compare", world / "study", "--suite", "bytes")
    assert "no folder" in refused("compare", world / "study", *suite, "--data-dir", tmp_path / "x")


def test_results_on_other_documents_are_no_comparison(
    world: Path, winners: ScoreComparison
) -> None:
    from modsearch.analysis.scores import Contender, compare_scores
    from modsearch.store.directory import evaluations_in

    dense, mod = (evaluations_in(trials_of(world, arm)[0])["tiny"] for arm in ("dense", "mod"))
    samples = {**mod["samples"], "pick": {**mod["samples"]["pick"], "documents": "others"}}
    with pytest.raises(ModsearchError, match="other documents of task `pick`"):
        compare_scores(
            "tiny", [Contender("a", [dense]), Contender("b", [{**mod, "samples": samples}])]
        )
    bare = {key: value for key, value in mod.items() if key != "samples"}
    with pytest.raises(ModsearchError, match=r"other documents|do not say"):
        compare_scores("tiny", [Contender("a", [dense]), Contender("b", [bare])])
