"""docs/python.md runs from its first block to its last, as a notebook would."""

import os
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_page_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text()
    cells: dict[str, object] = {"__name__": "notebook"}
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start(1))
            # With the page's own line numbers, for whoever reads a failure.
            exec(compile("\n" * line + found[1], str(PAGE), "exec"), cells)
    finally:
        os.chdir(before)
    printed = capsys.readouterr().out
    assert "12 trials, 6e+09 FLOPs" in printed
    assert "[6/6] measure" in printed
    assert "router threshold built-in" in printed
    assert "unknown block `mood`; did you mean `mod`?" in printed
