"""The study directory: files whole or not at all, damaged records, shipped names."""

import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from modsearch.errors import ConfigError, StudyError
from modsearch.schema import Budget, Candidate, Record, Stage, State, Validation
from modsearch.store import (
    StudyDirectory,
    read_metrics,
    shipped,
    write_bytes,
    write_model,
    write_text,
    write_yaml,
)


def record(name: str = "0" * 16, flops: float = 1e9) -> Record:
    return Record(
        hash=name,
        stage=Stage.MEASURE,
        arm="mod",
        candidate=Candidate(),
        budget=Budget(flops=flops),
        seed=0,
        validation=Validation(),
        state=State.DIVERGED,
        reason="made up",
    )


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "önce\n")
    write_text(path, "sonra\n")
    assert path.read_text() == "sonra\n"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_nothing_is_left_when_the_data_can_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_when_the_file_can_not_be_renamed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    (path / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_text(path, "text")
    assert list(tmp_path.iterdir()) == [path]
    assert list(path.iterdir()) == [path / "in the way"]


def test_nothing_is_left_when_a_value_has_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    write_yaml(path, {"a": 1})
    with pytest.raises(yaml.YAMLError):
        write_yaml(path, {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert yaml.safe_load(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """The old file stays readable through a handle, so it was not written over."""
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with path.open() as file:
        write_text(path, "new and longer")
        assert file.read() == "old"


def test_yaml_keeps_the_order_of_keys_and_quotes_what_looks_like_a_number(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    write_yaml(path, {"z": "5e10", "a": 5e10, "m": ["1", ".5e-3", "é", "x5e1"], "n": 1e-5})
    text = path.read_text()
    assert text.index("z:") < text.index("a:") < text.index("m:")
    assert "z: '5e10'" in text
    assert "- '.5e-3'" in text
    assert "é" in text
    assert "- x5e1" in text
    assert yaml.safe_load(text)["a"] == 5e10


def test_floats_keep_every_digit(tmp_path: Path) -> None:
    exact = 0.1 + 0.2 + 1e9
    write_model(tmp_path / "a.json", Budget(flops=exact))
    assert Budget.model_validate_json((tmp_path / "a.json").read_text()).flops == exact


def test_records_come_back_in_order_of_their_hashes(tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path)
    assert study.records() == []
    for name in ("b" * 16, "a" * 16):
        study.write_record(record(name))
    assert study.records() == [record("a" * 16), record("b" * 16)]
    assert study.record("b" * 16) == record("b" * 16)
    assert study.record("c" * 16) is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"hash": "x"}',
        record().model_dump_json().encode()[:-20],
        json.dumps(record().model_dump(mode="json") | {"more": 1}).encode(),
    ],
)
def test_a_damaged_record_is_no_record(tmp_path: Path, damage: bytes) -> None:
    study = StudyDirectory(tmp_path)
    study.write_record(record("a" * 16))
    study.write_record(record("b" * 16))
    (study.trial("a" * 16) / "result.json").write_bytes(damage)
    assert study.record("a" * 16) is None
    assert study.records() == [record("b" * 16)]


def test_a_trial_that_is_being_written_is_no_record(tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path)
    study.trial("a" * 16).mkdir(parents=True)
    (study.trial("a" * 16) / ".result.json.x7k").write_text("{")
    assert study.records() == []


def test_a_directory_without_a_study_is_told(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StudyError, match="no study in") as caught:
            StudyDirectory(root).manifest()
        assert str(root) in str(caught.value)
        assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("damage", [b"", b"{", b"{}", b"\xff"])
def test_a_damaged_manifest_is_told(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(damage)
    with pytest.raises(StudyError, match=r"can't read .*manifest\.json") as caught:
        StudyDirectory(tmp_path).manifest()
    assert str(caught.value).count("\n") == 1


def test_a_metrics_line_that_was_cut_ends_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert list(read_metrics(path)) == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert list(read_metrics(path)) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\n{"step\n{"step": 3}\n')
    assert list(read_metrics(path)) == [{"step": 1}]


def test_a_shipped_file_goes_by_its_name_and_others_by_their_path(tmp_path: Path) -> None:
    assert shipped("search_spaces", "quickstart").name == "quickstart.yaml"
    assert shipped("evals", "quick").is_file()
    own = tmp_path / "own.yaml"
    own.touch()
    assert shipped("search_spaces", str(own)) == own
    os.symlink(own, tmp_path / "no_suffix")
    assert shipped("search_spaces", str(tmp_path / "no_suffix")) == tmp_path / "no_suffix"


def test_an_unknown_name_has_its_neighbour() -> None:
    with pytest.raises(ConfigError, match="`quickstrat`; did you mean `quickstart`") as caught:
        shipped("search_spaces", "quickstrat")
    assert str(caught.value).count("\n") == 1


def test_a_missing_path_is_told(tmp_path: Path) -> None:
    for name in (str(tmp_path / "none.yaml"), "none.yaml", "./quickstart"):
        with pytest.raises(ConfigError, match="no file") as caught:
            shipped("search_spaces", name)
        assert str(caught.value).count("\n") == 1
    with pytest.raises(ConfigError, match="no such_folder are shipped"):
        shipped("such_folder", "quickstart")
