"""docs/python.md runs from its first block to its last, as a notebook would."""

import re
from pathlib import Path

import pytest
from inline import without_workers

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.mark.usefixtures("no_figures")
def test_the_page_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modsearch.planning.speed.SECONDS_PER_SIZE", 0.01)
    text = PAGE.read_text()
    cells: dict[str, object] = {"__name__": "notebook"}
    monkeypatch.chdir(tmp_path)
    with without_workers():
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start(1))
            # With the page's own line numbers, for whoever reads a failure.
            exec(compile("\n" * line + found[1], str(PAGE), "exec"), cells)
    printed = capsys.readouterr().out
    assert "12 trials, 6e+09 FLOPs" in printed
    assert "[6/6] measure" in printed
    assert "router threshold built-in" in printed
    assert "unknown block `mood`; did you mean `mod`?" in printed
