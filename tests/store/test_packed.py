"""A study as one file: nothing but its records, the same bytes each time, and safe to read."""

import io
import json
import lzma
import random
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from disk import smallest_files
from pages import named, tree, write
from worlds import manifest, study, trial

import modsearch
from modsearch.config.records import Stage, State
from modsearch.config.runtime import Plugin
from modsearch.config.speeds import Speeds
from modsearch.errors import ModsearchError, StudyError
from modsearch.store.directory import StudyDirectory
from modsearch.store.packed import FOLDER, files_of, pack, unpacked
from modsearch.store.trial import metrics_of, read_metrics, trial_config

SPACE = {
    "name": "synthetic",
    "plugins": ["/home/someone/my_router.py"],
    "arms": {"dense": {"model": {"block": "dense"}}, "mod": {"model": {"block": "mod"}}},
    "measure": {"ladder": [{"budget": 1e11, "depth": 2, "widths": [16, 20, 24, 32]}]},
}


LOGGED = {"step": 1, "steps": 2, "loss": 3.123456789012345, "step_seconds": 0.00123, "tokens": 512}
SPEEDS = Speeds(
    study="synthetic", device="cpu", machine="a clock", precision="fp32", threads=1, cores=2,
    torch="2.9", rounds=4, seconds=0.5, load_before=0.1, load_after=1.1, arms=[],
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with all that a directory may hold."""
    root = tmp_path_factory.mktemp("whole") / "study"
    rows = study(sd=0.01, budgets=(1e11,))
    rows.append(trial(width=8, state=State.INFEASIBLE, name="f" * 16))
    write(root, rows)
    (root / "space.yaml").write_text(yaml.safe_dump(SPACE | {"plugins": []}))
    StudyDirectory(root).write_speeds(SPEEDS)
    for record in StudyDirectory(root).records():
        folder = StudyDirectory(root).trial(record.hash)
        (folder / "checkpoint").mkdir()
        for name in ("checkpoint/model.safetensors", ".lock", "error.txt"):
            (folder / name).write_text("weights and others")
        (folder / "metrics.jsonl").write_text(json.dumps(LOGGED) + "\n" + '{"step": 2, ')
    for name in (".lock", "ledger.db"):
        (root / name).touch()
    return root


@pytest.fixture
def packed(whole: Path, tmp_path: Path) -> Path:
    pack(StudyDirectory(whole), tmp_path / "published" / "records.tar.xz")
    return tmp_path / "published" / "records.tar.xz"


@pytest.fixture(autouse=True)
def _own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files are unpacked: what is left behind is seen."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def left_behind(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "tmp").iterdir())


@pytest.mark.usefixtures("no_figures")
def test_the_report_of_a_packed_study_has_the_bytes_of_the_study_s_own(
    whole: Path, packed: Path, tmp_path: Path
) -> None:
    expected = tree(modsearch.report(whole, tmp_path / "own").parent)
    page = modsearch.report(packed)
    assert page == packed.parent / "report" / "index.html"
    assert tree(page.parent) == expected
    assert {"index.html", "report.md", "tables/winners.csv"} <= set(expected)


def test_a_packed_study_says_what_the_study_says(whole: Path, packed: Path) -> None:
    own, other = modsearch.open_study(whole), modsearch.open_study(packed)
    assert other.trials == own.trials
    assert other.headline == own.headline
    assert other.best() == own.best()
    assert other.left_out() == own.left_out() == []
    assert other.status().cells == own.status().cells
    assert other.evaluations.equals(own.evaluations)


def test_logs_have_the_digits_that_are_shown(whole: Path, packed: Path) -> None:
    own, other = modsearch.open_study(whole), modsearch.open_study(packed)
    name = own.best().hash
    [shown], [kept] = (
        list(read_metrics(each.folder(name) / "metrics.jsonl")) for each in (own, other)
    )
    assert shown == {**kept, "step_seconds": 0.00123}
    assert kept == {"step": 1, "steps": 2, "loss": 3.12346, "tokens": 512}
    assert list(metrics_of(own.folder(name) / "metrics.jsonl")) == [LOGGED]


def test_records_are_packed_and_nothing_else(whole: Path) -> None:
    names = set(files_of(StudyDirectory(whole)))
    assert {"manifest.json", "space.yaml", "speeds.json"} == {n for n in names if "/" not in n}
    kinds = {name.split("/", 2)[2] for name in names if name.startswith("trials/")}
    assert kinds == {"result.json", "metrics.jsonl", "eval/quick.json"}


def test_the_same_study_has_the_same_bytes_wherever_it_lies(whole: Path, tmp_path: Path) -> None:
    pack(StudyDirectory(whole), tmp_path / "one.tar.xz")
    shutil.copytree(whole, tmp_path / "moved", copy_function=shutil.copyfile)
    (tmp_path / "moved" / "report").mkdir(exist_ok=True)
    size = pack(StudyDirectory(tmp_path / "moved"), tmp_path / "two.tar.xz")
    assert (tmp_path / "one.tar.xz").read_bytes() == (tmp_path / "two.tar.xz").read_bytes()
    assert size == (tmp_path / "two.tar.xz").stat().st_size


def test_what_does_not_count_is_not_packed(tmp_path: Path) -> None:
    """Without the ledger nothing would say that it doesn't."""
    rows = [named(trial(width=width)) for width in (16, 20, 24)]
    root = write(tmp_path / "study", rows)
    with closing(sqlite3.connect(root / "ledger.db")) as ledger, ledger:
        ledger.execute("create table trial_user_attributes (key text, value_json text)")
        values = [("hash", json.dumps(row.hash)) for row in rows[:2]]
        ledger.executemany("insert into trial_user_attributes values (?, ?)", values)
    found = modsearch.pack(root, tmp_path / "a.tar.xz")
    assert found.trials == 2
    assert found.warnings == [f"not counted, the ledger does not know them: {rows[2].hash}"]
    assert {row.hash for row in modsearch.open_study(tmp_path / "a.tar.xz").trials} == {
        row.hash for row in rows[:2]
    }


def test_paths_of_this_machine_are_left_out(tmp_path: Path) -> None:
    """Plugin files are those of the study; of lm-eval's answer what a report needs is kept."""
    row = named(trial(Stage.CONFIRM))
    made_with = manifest().model_copy(update={"plugins": {"my_router.py": "d1"}})
    directory = StudyDirectory(write(tmp_path / "study", [row], made_with))
    directory.space.write_text(yaml.safe_dump(SPACE))
    directory.plugins.mkdir()
    for name in ("my_router.py", "my_router-d2.py"):
        (directory.plugins / name).write_text("pass")
    plugins = [Plugin(path="/home/someone/my_router.py", digest=d) for d in ("d1", "d2")]
    job = {"candidate": row.candidate.model_dump(mode="json"), "fingerprint": "f00d"}
    job["plugins"] = [plugin.model_dump() for plugin in plugins]
    record = row.model_copy(update={"state": State.FAILED, "scores": None})
    directory.write_record(record)
    (directory.trial(row.hash) / "config.yaml").write_text(yaml.safe_dump(job))
    answer = directory.trial(row.hash) / "eval" / "quick.json"
    guess = {"metadata": {"chance": 0.25, "path": "/home/someone"}, "doc_to_text": "/home/someone"}
    configs = {"x": "/home/someone/tasks", "y": {"metadata": None}, "recall": guess}
    value = json.loads(answer.read_text()) | {"configs": configs}
    answer.write_text(json.dumps(value))
    assert b"someone" not in b"".join(files_of(directory).values())
    pack(directory, tmp_path / "a.tar.xz")
    with unpacked(tmp_path / "a.tar.xz") as root:
        assert yaml.safe_load((root / "space.yaml").read_text())["plugins"] == [
            "plugins/my_router.py"
        ]
        inside = trial_config(root / "trials" / row.hash / "config.yaml")
        assert [each.digest for each in inside.plugins] == ["d1", "d2"]
        assert all((root / each.path).is_file() for each in inside.plugins)
        kept = StudyDirectory(root).evaluations(row.hash)["quick"]
        assert kept["results"] == value["results"]
        assert kept["configs"] == {"recall": {"metadata": {"chance": 0.25}}}


@pytest.mark.parametrize("plugins", ["x", "5", "[5, null]", "[{path: 1}]", "{a: b}", "[", "null"])
def test_a_damaged_configuration_is_packed_as_it_is(plugins: str, tmp_path: Path) -> None:
    row = named(trial())
    made_with = manifest().model_copy(update={"plugins": {"my_router.py": "d1"}})
    directory = StudyDirectory(write(tmp_path / "study", [], made_with))
    directory.write_record(row.model_copy(update={"state": State.FAILED, "scores": None}))
    path = directory.trial(row.hash) / "config.yaml"
    path.write_text(f"plugins: {plugins}\n")
    data = files_of(directory)[f"trials/{row.hash}/config.yaml"]
    try:
        assert yaml.safe_load(data) == yaml.safe_load(path.read_bytes())
    except yaml.YAMLError:
        assert data == path.read_bytes()


PUBLISHED = sorted((Path(__file__).parents[2] / "reports").glob("*/*.tar.xz"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_published_is_read(path: Path) -> None:
    study = modsearch.open_study(path)
    assert study.trials
    assert study.left_out() == []
    assert study.headline.sentence
    assert path.stat().st_size < 3_000_000


def test_a_file_is_packed_whole_or_not_at_all(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar.xz").write_text("before")
    with smallest_files(100), pytest.raises(OSError, match="too large"):
        pack(StudyDirectory(whole), tmp_path / "a.tar.xz")
    assert (tmp_path / "a.tar.xz").read_text() == "before"


def test_what_was_unpacked_goes_with_the_study(packed: Path, tmp_path: Path) -> None:
    opened = modsearch.open_study(packed)
    assert len(left_behind(tmp_path)) == 1
    assert opened.folder(opened.trials[0]).is_dir()
    del opened
    assert left_behind(tmp_path) == []


def archive(members: Sequence[tuple[tarfile.TarInfo, bytes]], preset: int = 0) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return lzma.compress(plain.getvalue(), preset=preset)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


MANIFEST = (member(f"{FOLDER}/manifest.json"), b"{}")
INSIDE = f"{FOLDER}/trials/{'a' * 16}"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (member("manifest.json"), 'holds "manifest.json"'),
        (member("/etc/passwd"), "holds"),
        (member(f"{FOLDER}/../../evil"), "holds"),
        (member(f"{FOLDER}/trials/../manifest.json"), "holds"),
        (member(f"{FOLDER}/plugins/../../x.py"), "holds"),
        (member(f"{INSIDE}/eval/.hidden.json"), "holds"),
        (member(f"{INSIDE}/checkpoint/model.safetensors"), "holds"),
        (member(f"{FOLDER}/ledger.db"), "holds"),
        (member(""), "holds"),
        (member(f"{FOLDER}/manifest.json"), "twice"),
        (member(f"{FOLDER}/space.yaml", tarfile.SYMTYPE, "/etc/passwd"), "holds"),
        (member(f"{FOLDER}/space.yaml", tarfile.LNKTYPE, f"{FOLDER}/manifest.json"), "holds"),
        (member(f"{FOLDER}/space.yaml", tarfile.CHRTYPE), "holds"),
        (member(f"{FOLDER}/space.yaml", tarfile.FIFOTYPE), "holds"),
        (member(f"{FOLDER}/space.yaml", tarfile.GNUTYPE_SPARSE), "holds"),
    ],
    ids=range(15),
)
def test_nothing_foreign_is_unpacked(entry: tarfile.TarInfo, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.xz"
    path.write_bytes(archive([MANIFEST, (entry, b"")]))
    with pytest.raises(StudyError, match=f"{path} is no packed study: it .*{said}") as caught:
        modsearch.open_study(path)
    assert str(caught.value).count("\n") == 1
    assert left_behind(tmp_path) == []


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "not compressed by xz": lambda data: b"{}" + data,
    "cut short": lambda data: data[: len(data) // 2],
    "has no manifest.json": lambda _: archive([(member(f"{FOLDER}/space.yaml"), b"")]),
    "Corrupt input data": lambda data: data[:200] + bytes(100) + data[300:],
    "empty": lambda _: lzma.compress(b""),
    "more than .* bytes": lambda _: lzma.compress(bytes(2**20), preset=0),
    "larger than .* bytes": lambda data: data + bytes(2**20),
    "more than 1 files": lambda _: archive([MANIFEST, (member(f"{INSIDE}/result.json"), b"")]),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_a_damaged_file_is_one_clear_line(
    packed: Path, tmp_path: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DAMAGES[said](packed.read_bytes())
    packed.write_bytes(data)
    if "bytes" in said:
        monkeypatch.setattr("modsearch.store.packed.MOST_BYTES", 2**19)
        monkeypatch.setattr("modsearch.store.packed.MOST_PACKED", 2**19)
    if "files" in said:
        monkeypatch.setattr("modsearch.store.packed.MOST_FILES", 1)
    with pytest.raises(StudyError, match=f"is no packed study: .*{said}") as caught:
        modsearch.report(packed)
    assert "modsearch pack" in str(caught.value)
    assert str(caught.value).count("\n") == 1
    assert left_behind(tmp_path) == []
    assert [path.name for path in packed.parent.iterdir()] == [packed.name]


def test_changed_bytes_end_in_no_other_way(tmp_path: Path) -> None:
    """Of the archive itself, for what xz holds is checked by a sum."""
    rows = study(budgets=(1e11,), seeds=1)[:4]
    directory = StudyDirectory(write(tmp_path / "study", rows))
    pack(directory, tmp_path / "a.tar.xz")
    plain = lzma.decompress((tmp_path / "a.tar.xz").read_bytes())
    draw = random.Random(0)
    ends = set()
    for _ in range(150):
        data = bytearray(plain)
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(len(data)) // 512 * 512 + draw.randrange(512)] = draw.randrange(
                256
            )
        (tmp_path / "a.tar.xz").write_bytes(lzma.compress(bytes(data), preset=0))
        try:
            modsearch.open_study(tmp_path / "a.tar.xz").left_out()
            ends.add("read")
        except StudyError:
            ends.add("told")
    assert ends == {"read", "told"}
    assert left_behind(tmp_path) == []


def test_errors_name_the_file_and_not_where_it_was_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.xz"
    path.write_bytes(archive([MANIFEST]))
    with pytest.raises(StudyError, match=r"can't read .*a\.tar\.xz/manifest.json") as caught:
        modsearch.open_study(path)
    assert "tmp/modsearch" not in str(caught.value)
    pack(StudyDirectory(write(tmp_path / "study", [])), path)
    with pytest.raises(StudyError, match=f"{path} has no finished candidate") as caught:
        modsearch.open_study(path).best()
    assert "tmp/modsearch" not in str(caught.value)


def test_out_is_a_file_in_the_packed_form(whole: Path, packed: Path, tmp_path: Path) -> None:
    for out in ("records.zip", "records", "."):
        with pytest.raises(ModsearchError, match=r"--out must be a file that ends in .tar.xz"):
            modsearch.pack(whole, tmp_path / out)
    with pytest.raises(StudyError, match="is packed already"):
        modsearch.pack(packed)
    copy = shutil.copytree(whole, tmp_path / "copy")
    assert modsearch.pack(copy).records == str(copy / "records.tar.xz")
    assert modsearch.open_study(copy).left_out() == []
