"""The study directory: files whole or not at all, damaged records, shipped names."""

import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from disk import smallest_files
from worlds import manifest, trial

from modsearch.config.data import Validation
from modsearch.config.manifest import Manifest
from modsearch.config.records import Budget, Candidate, Record, Stage, State, trial_hash
from modsearch.config.runtime import Plugin
from modsearch.config.shipped import shipped
from modsearch.errors import ConfigError, StudyError
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import naming, write_bytes, write_model, write_text, write_yaml
from modsearch.store.trial import read_metrics


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


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027, 0o002])
def test_a_file_has_the_mode_that_the_umask_allows(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "new" / "a.txt", "text")
        write_text(tmp_path / "new" / "a.txt", "over it")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "a.txt").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o777 & ~mask


def test_what_can_not_be_written_is_told_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with smallest_files(10), pytest.raises(OSError, match="too large") as caught:
        write_text(path, "longer than ten bytes")
    assert caught.value.filename == str(path)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with smallest_files(10), pytest.raises(OSError, match="too large") as caught:  # noqa: SIM117
        with naming(path), path.open("w") as file:
            file.write("longer than ten bytes")
    assert caught.value.filename == str(path)


def test_the_longest_name_can_be_written_and_a_longer_one_is_told(tmp_path: Path) -> None:
    write_text(tmp_path / ("a" * 255), "text")
    path = tmp_path / ("a" * 256)
    with pytest.raises(OSError, match="too long") as caught:
        write_text(path, "text")
    assert caught.value.filename == str(path)


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


def a_study(root: Path, num_results: int) -> list[str]:
    """Manifest and results under their own names; the names."""
    study = StudyDirectory(root)
    study.write_manifest(manifest())
    names = []
    for seed in range(num_results):
        made = trial(Stage.CONFIRM, seed=seed)
        values = made.model_dump(mode="json")
        names.append(trial_hash(values, manifest().corpus.fingerprint, []))
        study.write_record(made.model_copy(update={"hash": names[-1]}))
    return names


def counted(root: Path) -> set[str]:
    return {record.hash for record in StudyDirectory(root).records()}


def left_out(root: Path) -> list[str]:
    return StudyDirectory(root).left_out()


def test_a_result_with_other_plugins_than_the_study_has_its_own_name(tmp_path: Path) -> None:
    """As one that was trained before the study was mixed."""
    a_study(tmp_path, 1)
    study = StudyDirectory(tmp_path)
    made = trial(Stage.CONFIRM, seed=7)
    plugins = [Plugin(path=f"{letter}/p.py", digest=letter * 16) for letter in "ab"]
    digests = [plugin.digest for plugin in plugins]
    name = trial_hash(made.model_dump(mode="json"), manifest().corpus.fingerprint, digests)
    study.write_record(made.model_copy(update={"hash": name}))
    assert study.record(name) is None
    rows = [plugin.model_dump(mode="json") for plugin in plugins]
    config = {"candidate": made.candidate.model_dump(mode="json"), "plugins": rows}
    write_yaml(study.trial(name) / "config.yaml", config)
    assert study.record(name) is not None
    for damage in (b"\xff", b"plugins: {", b"plugins: 7", b"plugins: [{path: 1}]", b"[]", b"a: 1"):
        (study.trial(name) / "config.yaml").write_bytes(damage)
        assert study.record(name) is None, damage


def test_a_manifest_is_read_again_only_when_it_was_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = a_study(tmp_path, 3)
    study = StudyDirectory(tmp_path)
    reads = []
    read = StudyDirectory.manifest

    def counting(self: StudyDirectory) -> Manifest:
        reads.append(self)
        return read(self)

    monkeypatch.setattr(StudyDirectory, "manifest", counting)
    assert all(study.finished(name) for name in names * 3)
    assert len(reads) == 1
    other = manifest().corpus.model_copy(update={"fingerprint": "other"})
    study.write_manifest(manifest().model_copy(update={"corpus": other}))
    assert not any(study.finished(name) for name in names)
    assert len(reads) == 2


def test_a_copied_trial_counts_once_and_is_named(tmp_path: Path) -> None:
    names = a_study(tmp_path, 3)
    shutil.copytree(tmp_path / "trials" / names[0], tmp_path / "trials" / f"{names[0]}-copy")
    shutil.copytree(tmp_path / "trials" / names[0], tmp_path / "trials" / ("0" * 16))
    study = StudyDirectory(tmp_path)
    assert [record.hash for record in study.records()] == sorted(names)
    [line] = left_out(tmp_path)
    assert line == f"not counted, these are copies of other trials: {'0' * 16}, {names[0]}-copy"
    assert study.record("0" * 16) is None, "the loss of another trial"


def test_a_result_that_says_other_things_than_its_name_does_not_count(tmp_path: Path) -> None:
    """Another seed written into a copy, or a study of another text."""
    names = a_study(tmp_path, 2)
    path = tmp_path / "trials" / names[0] / "result.json"
    text = path.read_text()
    path.write_text(text.replace('"seed": 0', '"seed": 7'))
    assert counted(tmp_path) == {names[1]}
    assert names[0] in left_out(tmp_path)[0]
    path.write_text(text)
    assert counted(tmp_path) == set(names)
    other = manifest().corpus.model_copy(update={"fingerprint": "other"})
    StudyDirectory(tmp_path).write_manifest(manifest().model_copy(update={"corpus": other}))
    assert counted(tmp_path) == set()


def test_a_result_that_the_ledger_does_not_know_does_not_count(tmp_path: Path) -> None:
    names = a_study(tmp_path, 4)
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("create table trial_user_attributes (key text, value_json text)")
        assert counted(tmp_path) == set(names), "it knows nothing yet"
        rows = [("hash", json.dumps(name)) for name in names[:3]]
        database.executemany("insert into trial_user_attributes values (?, ?)", rows)
    database.close()
    assert counted(tmp_path) == set(names[:3])
    assert left_out(tmp_path) == [f"not counted, the ledger does not know them: {names[3]}"]


def a_ledger(root: Path, names: Sequence[str]) -> None:
    """One that has handed these out."""
    with closing(sqlite3.connect(root / "ledger.db")) as database, database:
        database.execute("create table trial_user_attributes (key text, value_json text)")
        rows = [("hash", json.dumps(name)) for name in names]
        database.executemany("insert into trial_user_attributes values (?, ?)", rows)


def test_a_ledger_that_was_made_anew_leaves_nothing_out(tmp_path: Path) -> None:
    """But what its own folder tells from a result."""
    names = a_study(tmp_path, 4)
    study = StudyDirectory(tmp_path)
    assert study.lost_ledger()
    (tmp_path / "ledger.db").touch()
    assert study.lost_ledger(), "nothing was written to it"
    study.write_manifest(manifest().model_copy(update={"ledger_remade": True}))
    a_ledger(tmp_path, names[:1])
    assert not study.lost_ledger()
    shutil.copytree(study.trial(names[0]), study.trial("0" * 16))
    path = study.trial(names[1]) / "result.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 7'))
    assert counted(tmp_path) == {names[0], *names[2:]}
    assert len(left_out(tmp_path)) == 2


def test_a_trial_that_ends_while_results_are_read_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = a_study(tmp_path, 2)
    a_ledger(tmp_path, names)
    [late] = a_study(tmp_path / "other", 3)[2:]
    read = StudyDirectory._record

    def and_one_more_ends(self: StudyDirectory, *arguments: Any) -> Record:
        if not self.trial(late).exists():
            with closing(sqlite3.connect(self.ledger)) as database, database:
                row = ("hash", json.dumps(late))
                database.execute("insert into trial_user_attributes values (?, ?)", row)
            shutil.copytree(tmp_path / "other" / "trials" / late, self.trial(late))
        return read(self, *arguments)

    monkeypatch.setattr(StudyDirectory, "_record", and_one_more_ends)
    for _ in range(2):
        assert left_out(tmp_path) == []
    assert counted(tmp_path) == {*names, late}


def test_a_ledger_that_can_not_be_asked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = a_study(tmp_path, 2)
    a_ledger(tmp_path, names[:1])
    monkeypatch.setattr("modsearch.store.directory.LOCKED_SECONDS", 0.0)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
        database.execute("begin exclusive")
        [line] = left_out(tmp_path)
    assert "ledger.db: database is locked, so results are not held against it" in line
    assert counted(tmp_path) == {names[0]}


def test_what_is_no_trial_is_named_once(tmp_path: Path) -> None:
    names = a_study(tmp_path, 1)
    for name in ("a.txt", "b.txt", "c.txt", "d.txt", ".DS_Store"):
        (tmp_path / "trials" / name).touch()
    (tmp_path / "trials" / "0123456789abcdef").mkdir()  # under way
    assert counted(tmp_path) == set(names)
    assert left_out(tmp_path) == [
        "not counted, these are no trials: a.txt, b.txt, c.txt and 1 more"
    ]


DAMAGES = [b"", b"null", b"[1]", b"{", b"\xff\xfe\x00", "{}".encode("utf-16"), b"[" * 99_999]


@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
def test_what_is_damaged_is_left_out_and_named(tmp_path: Path, damage: bytes) -> None:
    names = a_study(tmp_path, 2)
    study = StudyDirectory(tmp_path)
    folder = study.trial(names[0])
    (folder / "eval").mkdir()
    (folder / "eval" / "good.json").write_text('{"results": {"task": {"acc,none": 0.5}}}')
    for name in ("eval/bad.json", "routing.json"):
        (folder / name).write_bytes(damage)
    (study.trial(names[1]) / "result.json").write_bytes(damage)
    assert counted(tmp_path) == {names[0]}
    assert list(study.evaluations(names[0])) == ["good"]
    assert study.routing(names[0]) is None
    lines = left_out(tmp_path)
    assert len(lines) == 3
    for line, name in zip(lines, ("result.json", "routing.json", "bad.json"), strict=True):
        assert f"{name}: " in line
        assert "again" in line, "it does not say what to do"


def test_a_damaged_ledger_is_named_and_results_count(tmp_path: Path) -> None:
    names = a_study(tmp_path, 1)
    (tmp_path / "ledger.db").write_bytes(b"garbage " * 200)
    assert counted(tmp_path) == set(names)
    [line] = left_out(tmp_path)
    assert f"can't read {tmp_path / 'ledger.db'}" in line


def test_a_trial_that_is_being_written_is_no_record(tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path)
    study.trial("a" * 16).mkdir(parents=True)
    (study.trial("a" * 16) / ".result.json.x7k").write_text("{")
    assert study.records() == []


def test_a_directory_without_a_study_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    a_study(tmp_path / "below" / "study", 1)
    for root, right in (
        (tmp_path, "no manifest.json"),
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "file", "it is a file"),
        (tmp_path / "below", f"there are studies: {tmp_path / 'below' / 'study'}"),
        (
            tmp_path / "below" / "study" / "trials",
            f"name the study, {tmp_path / 'below' / 'study'}",
        ),
    ):
        with pytest.raises(StudyError, match="no study in") as caught:
            StudyDirectory(root).manifest()
        assert f"{root}: " in str(caught.value)
        assert right in str(caught.value)
        assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("damage", [*DAMAGES, b"{}"], ids=range(len(DAMAGES) + 1))
def test_a_damaged_manifest_is_told(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(damage)
    with pytest.raises(StudyError, match=r"can't read .*manifest\.json") as caught:
        StudyDirectory(tmp_path).manifest()
    assert str(caught.value).count("\n") == 1


def test_a_metrics_line_that_was_cut_ends_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert list(read_metrics(path)) == []
    one, two = (json.dumps({"step": step, "steps": 9, "loss": 1.5}) for step in (1, 2))
    path.write_text(f"{one}\n{two}\n{one[:9]}")
    assert [row["step"] for row in read_metrics(path)] == [1, 2]
    for damage in (one[:9], "null", "[1]", "{}", '{"step": null, "steps": 9, "loss": 1}', "\0"):
        path.write_text(f"{one}\n{damage}\n{two}\n")
        assert [row["step"] for row in read_metrics(path)] == [1], damage
    for encoding in ("utf-16", "utf-32"):
        path.write_text(f"{one}\n{two}\n", encoding)
        assert list(read_metrics(path)) == []


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
        assert "quickstart" in str(caught.value).splitlines()[1]
    with pytest.raises(ConfigError, match="no such_folders are shipped"):
        shipped("such_folder", "quickstart")


def test_a_folder_is_told_with_the_files_in_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder, not a YAML file\nshipped search spaces"):
        shipped("search_spaces", str(tmp_path))
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(ConfigError, match=r"name a file in it: mine.yaml$"):
        shipped("search_spaces", str(tmp_path))


def test_another_kind_of_file_is_not_read_as_yaml(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A title: of a text")
    with pytest.raises(ConfigError, match=r"README.md does not end in .yaml"):
        shipped("search_spaces", str(tmp_path / "README.md"))


def test_a_file_of_the_users_that_reads_as_a_shipped_name_is_told_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "plain").touch()
    with pytest.raises(ConfigError, match=r"did you mean the file mine.yaml\?"):
        shipped("search_spaces", "mine")
    with pytest.raises(ConfigError, match=r"name the file by its path: ./plain"):
        shipped("search_spaces", "plain")
