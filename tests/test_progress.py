"""What a running study says, also into a file."""

import io
from pathlib import Path

from rich.console import Console

from modsearch.store.directory import StudyDirectory
from modsearch.study.progress import Progress

REASON = "failed: plugin fails: KeyError: ':100: [b]x[/b]' in " + "/a/long/path" * 20


def said(console: Console, tmp_path: Path) -> str:
    Progress(StudyDirectory(tmp_path), 1, console).say(REASON)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_line_in_a_file_stays_as_it_is(tmp_path: Path) -> None:
    assert said(Console(file=io.StringIO(), width=80), tmp_path) == f"{REASON}\n"


def test_a_line_on_a_terminal_is_wrapped_by_the_terminal_alone(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, highlight=False)
    assert said(console, tmp_path) == f"{REASON}\n"
