"""`predict` on a study whose law is known."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import named
from worlds import manifest, study

import modsearch as library
from modsearch.analysis import predictions
from modsearch.config.answers import Predictions
from modsearch.config.records import Record
from modsearch.store.directory import StudyDirectory

BUDGETS = (1e11, 3e11, 1e12)


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions.study_predictions, "__defaults__", (2,))


def written(root: Path, rows: list[Record]) -> Path:
    directory = StudyDirectory(root)
    directory.write_manifest(manifest())
    for row in rows:
        directory.write_record(named(row))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return written(tmp_path / "study", study(sd=0.005, budgets=BUDGETS))


def test_predict_prints_arms_and_what_they_rest_on(modsearch, root: Path) -> None:
    done = modsearch("predict", root, "--flops", "1e13")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "synthetic at 1e13 training FLOPs, 95 % intervals"
    assert [line.split()[0] for line in lines[2:5]] == ["arm", "dense", "mod"]
    assert "dense: extrapolated: 10 times the largest fitted budget" in lines
    assert any(line.startswith("mod: left out 1e12: foretold") for line in lines)
    assert any("would miss N* by" in line for line in lines)
    inside = modsearch("predict", root, "--flops", "5e11").out
    assert "extrapolated" not in inside
    below = modsearch("predict", root, "--flops", "1e10").out
    assert "dense: extrapolated: below the smallest fitted budget, 1e11" in below


def test_predict_answers_in_json_and_in_python(modsearch, root: Path) -> None:
    done = modsearch("predict", root, "--flops", "1e13", "--json")
    told = Predictions.model_validate(json.loads(done.out))
    assert told == library.predict(root, 1e13)
    assert told == library.open_study(root).predict(1e13)
    assert {each.arm: each.routed for each in told.arms} == {"dense": False, "mod": True}


def test_too_few_budgets_and_no_budget_are_told(refused, tmp_path: Path) -> None:
    alone = written(tmp_path / "one", study(budgets=(1e11,)))
    message = refused("predict", alone, "--flops", "1e12")
    assert "no arm has fitted minima at two budgets" in message
    assert "dense: fitted at 1 of 1 budget" in message
    assert str(alone) in message
    assert "--flops must be over 0" in refused("predict", alone, "--flops", "0")
    assert "no study in" in refused("predict", tmp_path, "--flops", "1e12")


def test_predict_needs_no_torch(root: Path) -> None:
    code = (
        f"import sys; sys.argv = ['modsearch', 'predict', {str(root)!r}, '--flops', '1e13']\n"
        "from modsearch.cli.app import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "False"
