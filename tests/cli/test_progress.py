"""What a running study says, also into a file."""

import io
import json
import time

import pytest
from rich.console import Console

from modsearch.cli.live import Live
from modsearch.cli.progress import json_line, line
from modsearch.config.records import Stage
from modsearch.study.events import Note, StageBegan

REASON = "failed: plugin fails: KeyError: ':100: [b]x[/b]' in " + "/a/long/path" * 20


def test_a_line_in_a_file_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line(Note(text=REASON))
    assert capsys.readouterr() == ("", f"{REASON}\n")


def test_a_line_on_a_terminal_is_wrapped_by_the_terminal_alone() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, highlight=False)
    Live(console)(Note(text=REASON))
    assert file.getvalue() == f"{REASON}\n"


def test_an_event_in_json_is_one_line_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    json_line(StageBegan(stage=Stage.MEASURE, trials=3))
    told = json.loads(capsys.readouterr().err)
    assert told.pop("time") == pytest.approx(time.time(), abs=60)
    assert told == {"event": "stage", "stage": "measure", "trials": 3}
