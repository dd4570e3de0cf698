"""Which files a corpus means: links, hidden names, globs, and what is refused."""

import errno
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from modsearch.config.data import DataConfig
from modsearch.data.corpus import load_corpus
from modsearch.data.sources import form_of, refuse_inside, text_files
from modsearch.data.text import Form
from modsearch.errors import DataError


def tree(root: Path, *names: str) -> Path:
    """A folder with a small text under each name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text {name}\n")
    return root


def names(corpus: Path | str, root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in text_files(str(corpus))]


def refusal(corpus: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        text_files(str(corpus))
    assert str(caught.value).count("\n") <= 1
    return str(caught.value)


def test_linked_folders_are_read(tmp_path: Path) -> None:
    tree(tmp_path / "elsewhere", "x.txt", "deep/y.txt")
    root = tree(tmp_path / "c", "a.txt")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    (root / "z.txt").symlink_to(tmp_path / "elsewhere" / "x.txt")
    assert names(root, root) == ["a.txt", "more/deep/y.txt", "more/x.txt", "z.txt"]
    assert names(root / "**" / "*.txt", root) == names(root, root)


def test_a_folder_that_two_links_lead_to_is_read_once(tmp_path: Path) -> None:
    root = tree(tmp_path / "c", "deep/er/a.txt")
    (root / "link").symlink_to(root / "deep" / "er")
    assert names(root, root) == ["link/a.txt"], "by the shortest way"


def test_folders_that_link_to_each_other_have_an_end(tmp_path: Path) -> None:
    root = tree(tmp_path / "c", *(f"{number}/{number}.txt" for number in range(12)))
    for here in range(12):
        for there in range(12):
            (root / str(here) / f"to{there}").symlink_to(root / str(there))
    (root / "0" / "up").symlink_to(root)
    files = sorted(f"{number}/{number}.txt" for number in range(12))
    assert names(root, root) == files
    assert names(f"{root}/**/*.txt", root) == files
    assert names(f"{root}/**/to1*/**/1*.txt", root) == [
        "0/to1/1.txt",
        "0/to10/10.txt",
        "0/to11/11.txt",
    ]


def test_hidden_names_below_a_corpus_are_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path / ".hidden", "a.txt", ".b.txt", ".git/c.txt", "d/.ipynb/e.txt", "d/f.txt")
    assert names(root, root) == ["a.txt", "d/f.txt"]
    assert names(f"{root}/**", root) == ["a.txt", "d/f.txt"]
    assert names(f"{root}/*/*", root) == ["d/f.txt"]
    assert names(root / ".b.txt", root) == [".b.txt"], "a name that is written out counts"
    assert names(f"{root}/.git/*", root) == [".git/c.txt"]


def test_globs_mean_what_they_mean_in_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, "a/1.txt", "a/2.md", "a/b/3.txt", "[x]/4.txt", "5.txt")
    monkeypatch.chdir(root)
    for corpus, found in {
        "*.txt": ["5.txt"],
        "a/*": ["a/1.txt", "a/2.md"],
        "a/**/*.txt": ["a/1.txt", "a/b/3.txt"],
        "a/[12].*": ["a/1.txt", "a/2.md"],
        "**/?.txt": ["5.txt", "[x]/4.txt", "a/1.txt", "a/b/3.txt"],
        "a/../*.txt": ["a/../5.txt"],
        "[x]": ["[x]/4.txt"],
        "[[]x]/*": ["[x]/4.txt"],
    }.items():
        assert [str(path) for path in text_files(corpus)] == found, corpus
    assert 'no text at "b/*.txt"' in refusal("b/*.txt")


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.txt")
    (root / "b.txt").symlink_to(root / "nowhere")
    assert str(root / "b.txt") in refusal(root)
    (root / "b.txt").unlink()
    (root / "b.txt").symlink_to("b.txt")
    assert str(root / "b.txt") in refusal(root)


def test_a_folder_that_can_not_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, "a.txt", "shut/b.txt")

    def listdir(path: Path) -> list[str]:
        if path.name == "shut":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return [entry.name for entry in os.scandir(path)]

    monkeypatch.setattr(os, "listdir", listdir)
    assert f"can't list {root / 'shut'}" in refusal(root)


@pytest.mark.parametrize("name", ["a.pdf", "a.txt.xz", "a.parquet.gz", "a.tar.gz", "a.PT"])
def test_what_holds_text_in_another_form_is_refused(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path, "b.txt", name)
    for corpus in (root, root / name, f"{root}/a*"):
        assert f"{name}: " in refusal(corpus)
        assert "is a form that is not read" in refusal(corpus)
    assert names(f"{root}/*.txt", root) == ["b.txt"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *((name, (Form.TEXT, "")) for name in ("a", "a.md", "a.csv", "a.v2.unknown", "a.bin.txt")),
        ("A.TXT.GZ", (Form.TEXT, ".gz")),
        ("a.zst", (Form.TEXT, ".zst")),
        ("a.jsonl", (Form.LINES, "")),
        ("a.ndjson.zst", (Form.LINES, ".zst")),
        ("a.Parquet", (Form.PARQUET, "")),
        ("a.arrow", (Form.ARROW, "")),
        ("a.bin", (Form.TOKENS, "")),
        ("a.npy", (Form.TOKENS, "")),
    ],
)
def test_the_name_of_a_file_says_its_form(
    tmp_path: Path, name: str, form: tuple[Form, str]
) -> None:
    assert names(tree(tmp_path, name), tmp_path) == [name]
    assert form_of(Path(name)) == form


@pytest.mark.parametrize("corpus", ["~nosuchuser/x", "a\nb", "x" * 5000, "/nowhere/*/" * 300])
def test_a_place_that_can_not_be_is_told(corpus: str) -> None:
    assert "no text at" in refusal(corpus)


@pytest.mark.parametrize("corpus", ["", "  ", "a\0b", "caf\udce9", "\ud800"])
def test_a_corpus_must_be_named(corpus: str) -> None:
    with pytest.raises(ValidationError, match="must name `stdlib`, or a file, a folder or a glob"):
        DataConfig(corpus=corpus)


def test_names_that_are_not_utf_8_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.txt")
    path.write_bytes(b"a\0b")
    with pytest.raises(DataError, match=r"caf\\xe9.txt is not text") as caught:
        load_corpus(DataConfig(corpus=str(tmp_path)))
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("corpus", "out", "inside"),
    [
        ("text", "text/runs/x", True),
        ("text", "text", True),
        ("text", "text/.runs/x", False),
        ("text", "runs/x", False),
        ("text/*.txt", "text/runs/x", False),
        ("stdlib", "text", False),
    ],
)
def test_what_is_written_does_not_lie_inside_of_the_text(
    corpus: str, out: str, inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    if not inside:
        refuse_inside(DataConfig(corpus=corpus), Path(out))
        return
    with pytest.raises(DataError, match="lies inside of the corpus"):
        refuse_inside(DataConfig(corpus=corpus), Path(out))
