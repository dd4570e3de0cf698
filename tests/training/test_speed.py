"""Speeds of a small study's winners, measured for real; what can't be measured is told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from inline import Inline, quietly

import modsearch as library
from modsearch.analysis.speeds import decode_ratio, decoded, doubts, timed
from modsearch.config.model import ModelConfig
from modsearch.config.records import Stage
from modsearch.config.runtime import Share
from modsearch.config.speeds import Speeds
from modsearch.engines.contract import RunTrial
from modsearch.errors import ConfigError, StudyError
from modsearch.nn.generate import Decoding
from modsearch.nn.model import Decoder
from modsearch.space.candidates import load_space
from modsearch.store.directory import StudyDirectory
from modsearch.store.lock import locked
from modsearch.study.runner import Runner
from modsearch.training.speed import Passes, in_turns

SPACE = {
    **tiny.SPACE,
    "arms": {
        "dense": {"model": {"block": "dense"}},
        "mod": {"model": {"block": "mod"}},
        "mod-random": {"control_of": "mod", "model": {"router": "random"}},
    },
    "measure": {"ladder": [{"budget": 5e7, "depth": 2, "widths": [4]}], "windows": 2},
}


def inline(run: RunTrial, workers: int | None, share: Share) -> Inline:
    return Inline(quietly, run, workers, share)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of three arms."""
    root = tmp_path_factory.mktemp("speeds") / "study"
    Runner(load_space(SPACE, []), root, make_engine=inline).run()
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "study"))


def forget(root: Path, keep: int = 0) -> None:
    """The weights of all trials but some."""
    for path in sorted(root.glob("trials/*/checkpoint/model.safetensors"))[keep:]:
        path.unlink()


def test_all_works_have_their_turn_in_every_round() -> None:
    calls: list[str] = []

    def work(name: str) -> Callable[[int], float]:
        def run(repeats: int) -> float:
            calls.append(name)
            return float(repeats)

        return run

    works, rounds = [work("a"), work("b"), work("c")], []
    found = in_turns(works, 3, 0.0, rounds.append)
    assert calls == [*"aabbcc", *"abc", *"cba", *"abc"], "two to begin with, then there and back"
    assert [found[each] for each in works] == [[1.0, 1.0, 1.0]] * 3
    assert rounds == [1, 2, 3]


def test_a_pass_decodes_the_end_of_a_window_and_counts_its_cache() -> None:
    model = Decoder(ModelConfig(depth=2, width=8, num_heads=1, seq_len=32, block="mod")).eval()
    tokens_NT = torch.randint(256, (4, 32))
    passes = Passes(model, tokens_NT, batch_size=2, num_tokens=8)
    assert passes.context == 24
    assert passes(2) > 0
    held = []
    for rows in ([0, 1], [2, 3]):
        decoding = Decoding(model, 2)
        decoding.extend(tokens_NT[rows])
        held.append(decoding.cache_bytes / 2)
    assert passes.cache_bytes == held


def test_every_confirmed_arm_is_timed(modsearch, root: Path) -> None:
    done = modsearch("time", root, "--rounds", "2", "--seconds", "0.01")
    assert done.code == 0, done.err
    assert "3 arms: round 2 of 2" in done.err
    study = library.open_study(root)
    found = study.speeds
    assert found is not None
    confirmed = {each.arm: each for each in study.claims.confirmed}
    assert [each.arm for each in found.arms] == list(confirmed) == ["dense", "mod", "mod-random"]
    assert found.same_text
    for each in found.arms:
        winner = confirmed[each.arm]
        assert each.trial in {record.hash for record in winner.records}
        assert each.flops_per_step == winner.plan.flops_per_step
        assert each.parameter_bytes == 4 * winner.plan.params
        assert len(each.step_seconds) == 2
        assert [row.batch_size for row in each.decoded] == [1, 16]
        assert all(len(row.seconds) == 2 and min(row.seconds) > 0 for row in each.decoded)
        assert each.missing is None
    dense = decoded(timed(found, "dense", 5e7), 1)
    routed = decoded(timed(found, "mod", 5e7), 1)
    assert dense is not None
    assert routed is not None
    assert dense.context + dense.tokens == 32
    width = confirmed["dense"].model.width
    assert dense.cache_bytes == 2 * 32 * 2 * width * 4, "keys and values of every token"
    assert 0 < routed.cache_bytes < dense.cache_bytes
    for line in ("training steps", "decoding, batch 1", "decoding, batch 16"):
        assert line in done.out.splitlines()
    assert any(line.startswith("mod-random") and " [" in line for line in done.out.splitlines())


def test_a_second_run_replaces_the_first_and_answers_in_json(modsearch, root: Path) -> None:
    StudyDirectory(root).write_speeds(library.time_winners(root, rounds=3, seconds=0.01))
    done = modsearch("time", root, "--rounds", "2", "--seconds", "0.01", "--json")
    told = Speeds.model_validate(json.loads(done.out))
    assert told == StudyDirectory(root).speeds()
    assert told.rounds == 2


def test_training_leaves_the_study_as_it_was(root: Path) -> None:
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    library.time_winners(root, rounds=2, seconds=0.01)
    after = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert set(after) - set(before) == {root / "speeds.json"}
    assert all(after[path] == content for path, content in before.items())


def test_without_weights_only_steps_are_timed(root: Path) -> None:
    forget(root)
    found = library.time_winners(root, rounds=2, seconds=0.01)
    assert all(each.step_seconds and not each.decoded for each in found.arms)
    assert decode_ratio(found, "mod", "dense", 5e7) is None
    lines = [line for line in doubts(found) if "not decoded" in line]
    assert len(lines) == 3
    assert f"weights of trial {found.arms[0].trial} were not kept" in lines[0]


def test_a_seed_that_has_its_weights_stands_for_its_arm(root: Path) -> None:
    dense = next(e for e in library.open_study(root).claims.confirmed if e.arm == "dense")
    kept = dense.records[-1].hash
    for record in dense.records[:-1]:
        (root / "trials" / record.hash / "checkpoint" / "model.safetensors").unlink()
    found = timed(library.time_winners(root, rounds=2, seconds=0.01), "dense", 5e7)
    assert found is not None
    assert found.trial == kept
    assert found.decoded


def test_what_is_not_confirmed_can_not_be_timed(refused, root: Path, tmp_path: Path) -> None:
    for record in StudyDirectory(root).records():
        if record.stage is Stage.CONFIRM:
            shutil.rmtree(root / "trials" / record.hash)
    message = refused("time", root)
    assert f"{root} has no confirmed trials to time" in message
    assert "no study in" in refused("time", tmp_path)
    assert not (root / "speeds.json").exists()


def test_a_study_that_is_being_searched_is_not_timed(root: Path) -> None:
    with locked(root), pytest.raises(StudyError, match="another driver runs"):
        library.time_winners(root)


def test_a_damaged_checkpoint_is_named_and_nothing_is_written(refused, root: Path) -> None:
    for path in root.glob("trials/*/checkpoint/model.safetensors"):
        path.write_bytes(b"damaged")
    assert "can't read" in refused("time", root, "--seconds", "0.01")
    assert not (root / "speeds.json").exists()


def test_another_text_is_taken_and_told(modsearch, root: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("another text " * 20_000)
    done = modsearch("time", root, "--corpus", tmp_path / "other.txt", "--seconds", "0.01")
    assert "timed on other tokens than the study's" in done.out + done.err
    found = StudyDirectory(root).speeds()
    assert found is not None
    assert not found.same_text


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_here_is_told(refused, root: Path) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["runtime"]["device"] = "cuda"
    (root / "manifest.json").write_text(json.dumps(manifest))
    assert "was trained on `cuda`, but torch sees none here" in refused("time", root)


def test_rounds_and_seconds_have_bounds(refused, root: Path) -> None:
    assert "--rounds" in refused("time", root, "--rounds", "1")
    assert "--seconds must be over 0" in refused("time", root, "--seconds", "0")
    with pytest.raises(ConfigError, match="--seconds must be a number of seconds"):
        library.time_winners(root, seconds="1")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--rounds must be a whole number from 2"):
        library.time_winners(root, rounds=1)
