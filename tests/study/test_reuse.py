"""Trials that another study has trained are taken from it, where they are the same training."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from inline import Inline
from tiny import SPACE
from undrawn import undrawn

from modsearch.config.manifest import Manifest
from modsearch.config.records import Stage
from modsearch.errors import StudyError
from modsearch.reporting.page import compile_report
from modsearch.space.candidates import load_space
from modsearch.store.directory import StudyDirectory
from modsearch.store.packed import pack, unpacked
from modsearch.study.events import Event, Note
from modsearch.study.reuse import Reuse
from modsearch.study.runner import Runner
from modsearch.study.status import status

MORE: dict[str, Any] = {
    **SPACE,
    "name": "more",
    "measure": {"ladder": [{"budget": 5e7, "depth": 2, "widths": [4, 6, 8]}], "windows": 2},
}
"""A size more, which is the lowest of a curve at no time: confirm is that of the other study."""


def run(plain: dict[str, Any], root: Path, **options: Any) -> int:
    """In this process; how many trainings it took."""
    ran = []
    make = lambda *given: Inline(ran.append, *given)  # noqa: E731
    Runner(load_space(plain, []), root, make_engine=make, **options).run()
    return len(ran)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("first") / "small"
    assert run(SPACE, root) == 8
    return root


def test_the_same_training_is_taken_whole(first: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    root = tmp_path / "more"
    ran = run(MORE, root, reuse={str(first): first}, on_event=told.append)
    directory, before = StudyDirectory(root), StudyDirectory(first)
    found = {record.hash: record for record in directory.records()}
    taken = [record for record in found.values() if record.reused_from is not None]
    trained = [each for each in found.values() if each.scores and each.reused_from is None]
    assert ran == len(trained) > 0
    assert len(taken) >= 4
    assert {record.reused_from for record in taken} == {"small"}
    for record in taken:
        origin = before.record(record.hash)
        assert record.model_copy(update={"reused_from": None}) == origin
        kept = [path.name for path in before.trial(record.hash).rglob("[!.]*") if path.is_file()]
        there = [path.name for path in directory.trial(record.hash).rglob("[!.]*")]
        assert set(kept) <= set(there)
        weights = directory.trial(record.hash) / "checkpoint" / "model.safetensors"
        assert weights.is_file() is (record.stage is Stage.CONFIRM)
    notes = [event.text for event in told if isinstance(event, Note)]
    assert sum(note.endswith(": taken from small") for note in notes) == len(taken)
    assert notes[-1] == f"taken from small: {len(taken)} of its 8 trials"
    found_status = status(root)
    assert found_status.reused == {"small": len(taken)}
    assert found_status.stage is None
    with undrawn():
        compile_report(root, tmp_path / "page")
    page = (tmp_path / "page" / "report.md").read_text()
    assert f"{len(taken)} trials taken from others ({len(taken)} of small) had cost" in page
    assert str(tmp_path) not in page
    assert run(MORE, root) == 0, "what was taken is its own"


def test_what_is_taken_is_what_would_have_been_trained(first: Path, tmp_path: Path) -> None:
    run(SPACE, tmp_path / "alone")
    assert run(SPACE, tmp_path / "taken", reuse={"runs/a": first}) == 0
    losses = [
        {each.hash: each.scores and each.scores.causal_loss for each in found.records()}
        for found in map(StudyDirectory, (tmp_path / "alone", tmp_path / "taken"))
    ]
    assert losses[0] == losses[1]
    origins = {each.reused_from for each in StudyDirectory(tmp_path / "taken").records()}
    assert origins == {"small (a)"}, "its name, and the folder's, which differs"


def test_a_study_that_shares_nothing_is_told(first: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    other = {key: value for key, value in SPACE.items() if key != "confirm"} | {
        "seed": 7,
        "fixed": {**SPACE["fixed"], "optim": {"batch_size": 2, "min_steps": 5, "rate": 0.02}},
        "arms": {"dense": SPACE["arms"]["dense"]},
    }
    root = tmp_path / "other"
    for _ in range(2):  # by what stands there, also where nothing is left to train
        run(other, root, reuse={"a": first}, on_event=told.append)
        [*_, last] = [event.text for event in told if isinstance(event, Note)]
        assert last == ("taken from small (a): nothing, none of its 8 trials is the same training")


def test_a_packed_study_has_no_weights_to_take(first: Path, tmp_path: Path) -> None:
    pack(StudyDirectory(first), tmp_path / "a.tar.xz")
    with unpacked(tmp_path / "a.tar.xz") as folder:
        ran = run(SPACE, tmp_path / "study", reuse={"a.tar.xz": folder})
    records = StudyDirectory(tmp_path / "study").records()
    taken = [record for record in records if record.reused_from == "small (a.tar.xz)"]
    assert {record.stage for record in taken} == {Stage.MEASURE}
    assert ran == 4, "winners keep their weights, so they are trained"


def test_what_was_taken_once_keeps_its_origin(first: Path, tmp_path: Path) -> None:
    run(SPACE, tmp_path / "second", reuse={"small": first})
    run(SPACE, tmp_path / "third", reuse={"second": tmp_path / "second"})
    origins = {each.reused_from for each in StudyDirectory(tmp_path / "third").records()}
    assert origins == {"small"}


def altered(first: Path, root: Path, **changes: Any) -> Path:
    shutil.copytree(first, root)
    directory = StudyDirectory(root)
    plain = directory.manifest().model_dump()
    for path, value in changes.items():
        place, inner = plain, path.split("__")
        for key in inner[:-1]:
            place = place[key]
        place[inner[-1]] = value
    directory.write_manifest(Manifest.model_validate(plain))
    return root


@pytest.mark.parametrize(
    ("changes", "said", "mixable"),
    [
        ({"code": "0" * 16}, 'code "0000000000000000" there, "', True),
        ({"versions__torch": "1.0"}, 'torch "1.0" there, "', True),
        ({"runtime__device": "cuda"}, 'device "cuda" there, "cpu" here', True),
        ({"mixed": ["code a is now b"]}, "it is mixed: code a is now b", True),
        ({"runtime__precision": "bf16"}, 'precision "bf16" there, "fp32" here', False),
        ({"runtime__threads": 4}, "threads 4 there, 1 here", False),
        ({"corpus__fingerprint": "f00d"}, 'corpus "f00d" there, "', False),
    ],
)
def test_trials_that_were_made_otherwise_are_refused(
    first: Path, tmp_path: Path, changes: dict[str, Any], said: str, mixable: bool
) -> None:
    other = altered(first, tmp_path / "other", **changes)
    ours, reuse = StudyDirectory(first).manifest(), Reuse(None)
    with pytest.raises(StudyError) as error:
        reuse.open({"runs/b": other}, ours, tmp_path, allow_mixed=False)
    assert "--reuse runs/b: no trial of it is one of " in str(error.value)
    assert said in str(error.value)
    assert ("--allow-mixed" in str(error.value)) is mixable
    if mixable:
        [line] = reuse.open({"runs/b": other}, ours, tmp_path, allow_mixed=True)
        assert line.startswith("of trials taken from small (b), ")
        assert said in line
    else:
        with pytest.raises(StudyError):
            reuse.open({"runs/b": other}, ours, tmp_path, allow_mixed=True)


def test_mistakes_are_told_and_leave_no_folder(
    first: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE))
    out = tmp_path / "out"
    assert "no study in nowhere" in refused("search", space, "--out", out, "--reuse", "nowhere")
    assert "is no packed study" in refused("search", space, "--out", out, "--reuse", space)
    itself = refused("search", space, "--out", first, "--reuse", first)
    assert f"--reuse {first} is the study itself" in itself
    assert not out.exists()
