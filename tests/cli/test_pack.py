"""Publishing a study, and several studies on one page, from the command line."""

from pathlib import Path

import pytest
import yaml
from pages import write
from worlds import manifest, study

from modsearch.store.directory import StudyDirectory

pytestmark = pytest.mark.usefixtures("no_figures")

SPACE = {
    "name": "synthetic",
    "arms": {
        "dense": {"model": {"block": "dense"}},
        "mod": {"model": {"block": "mod"}},
        "mod-random": {"control_of": "mod", "model": {"router": "random"}},
    },
    "measure": {"ladder": [{"budget": 1e11, "depth": 2, "widths": [16, 20, 24, 32]}]},
    "confirm": {"budgets": [1e11], "seeds": 3},
}


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies `a` and `b` in the current folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        rows = study(sd=0.004, budgets=(1e11,), draw=seed)
        rows = [row.model_copy(update={"seed": row.seed + 1000 * seed}) for row in rows]
        root = write(Path(name), rows, manifest().model_copy(update={"seed": seed}))
        (root / "space.yaml").write_text(yaml.safe_dump(SPACE))


@pytest.mark.usefixtures("two")
def test_a_study_is_packed_and_read_from_its_file(modsearch) -> None:
    done = modsearch("pack", "a", "--out", "published/records.tar.xz")
    size = Path("published/records.tar.xz").stat().st_size
    assert done.out == f"records: published/records.tar.xz (31 trials, {size:,} bytes)\n"
    assert modsearch("pack", "a").out.startswith("records: a/records.tar.xz ")
    file = "published/records.tar.xz"
    assert modsearch("report", file).out == "report: published/report/index.html\n"
    for verb in ("best", "predict"):
        options = ("--flops", "1e12") if verb == "predict" else ()
        own, other = (modsearch(verb, name, *options) for name in ("a", file))
        assert other.code == own.code
        assert other.out == own.out
        assert other.err == own.err.replace("a: ", f"{file}: ")
    own, other = modsearch("status", "a").out, modsearch("status", file).out
    assert other.splitlines()[:-1] == own.splitlines()[:-1]
    assert other.endswith("report: published/report/index.html\n")


@pytest.mark.usefixtures("two")
def test_several_studies_go_onto_one_page(modsearch) -> None:
    modsearch("pack", "b")
    done = modsearch("report", "a", "b/records.tar.xz", "--out", "together", "--json")
    assert done.code == 0, done.err
    assert "together/index.html" in done.out
    assert "2 studies at 1e11 FLOPs that differ by" in Path("together/report.md").read_text()


@pytest.mark.usefixtures("two")
def test_mistakes_are_told_in_two_lines(modsearch) -> None:
    directory = StudyDirectory(Path("b"))
    made_with = directory.manifest()
    runtime = made_with.runtime.model_copy(update={"precision": "bf16"})
    directory.write_manifest(made_with.model_copy(update={"runtime": runtime}))
    for arguments, said in (
        (
            ("report", "a/space.yaml"),
            "error: a/space.yaml is no packed study: it is not compressed by xz\n"
            "name a directory that `modsearch search` made, or a file that `modsearch pack` wrote",
        ),
        (
            ("report", "a", "b", "--out", "together"),
            'error: b does not fit beside a: its runtime.precision is "bf16", not "fp32"\n'
            "studies on one page have the same constants: report them one by one",
        ),
        (
            ("report", "a", "b"),
            "error: --out is missing: a page of 2 studies belongs to none of them\n"
            "name a folder for it, as in --out runs/together",
        ),
        (
            ("report", "a", "--out", "a/space.yaml"),
            'error: --out must be a folder, but "a/space.yaml" is a file\n'
            "name a folder: the page, its figures and its tables go there",
        ),
    ):
        done = modsearch(*arguments)
        assert (done.code, done.out, done.err.strip()) == (2, "", said)
    assert not Path("together").exists()


def test_help_says_how_to_unpack(modsearch) -> None:
    assert "tar xJf" in modsearch("pack", "--help").out
    assert "STUDY}..." in modsearch("report", "--help").out
