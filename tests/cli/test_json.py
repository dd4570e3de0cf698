"""Programs drive modsearch by JSON: every verb answers with one object, and schemas say which."""

import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from inline import without_workers
from jsonschema import Draft202012Validator, ValidationError, validate
from pydantic import TypeAdapter
from undrawn import undrawn

import modsearch as library
from modsearch.cli.app import main
from modsearch.cli.schemas import What, schema_of
from modsearch.config.answers import Evaluation, Generation, Outcome, Packed
from modsearch.config.reading import read_yaml
from modsearch.config.records import Candidate, Record
from modsearch.config.speeds import Speeds
from modsearch.planning.flops import FlopLedger
from modsearch.planning.forecast import Forecast
from modsearch.study.events import Event
from modsearch.study.status import StudyStatus

ROOT = Path(__file__).parents[2]
DRIVE = ROOT / "examples" / "drive.py"
ARGUMENTS = ("space.yaml", "study", "tiny.yaml")
EVENTS = schema_of(What.EVENT)
SPACE = {
    **tiny.SPACE,
    "confirm": {"budgets": [5e7], "seeds": 3, "windows": 2},
    "resources": {"workers": 1},
}


@pytest.fixture(scope="module", autouse=True)
def _at_once() -> Iterator[None]:
    """Without figures, without worker processes, and machines are timed for a moment only."""
    with undrawn(), without_workers(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("modsearch.planning.speed.SECONDS_PER_SIZE", 0.01)
        yield


START = subprocess.run


def start(command: list[Any], *rest: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
    """What `subprocess.run` does, but for commands of modsearch, which run in this process."""
    if command[:3] != [sys.executable, "-m", "modsearch.cli"]:
        return START(command, *rest, **options)
    out, code = io.StringIO(), 0
    with redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["modsearch", *command[3:]])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue())


def prepared(folder: Path) -> Path:
    """With a space and a suite."""
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny.SUITE))
    return folder


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space, a suite, and a study that examples/drive.py drove."""
    folder = prepared(tmp_path_factory.mktemp("json"))
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(subprocess, "run", start)
        patch.setattr(sys, "argv", [str(DRIVE), *ARGUMENTS])
        runpy.run_path(str(DRIVE), run_name="__main__")
    (folder / "stdout").write_text(out.getvalue())
    (folder / "stderr").write_text(err.getvalue())
    return folder


def test_thirty_lines_drive_a_study_by_json_alone(ground: Path) -> None:
    assert len(DRIVE.read_text().strip().splitlines()) <= 31
    plan, verdict, winner, scores = (ground / "stdout").read_text().splitlines()
    study = library.open_study(ground / "study")
    assert plan.startswith("10 trials, 5e+08 FLOPs")
    assert verdict.startswith(f"{study.headline.verdict}: ")
    assert study.best().hash in winner
    assert "bits_per_byte,none" in scores


def kinds(stderr: str) -> list[str]:
    """Of the events, which are all lines but the last."""
    adapter: TypeAdapter[Event] = TypeAdapter(Event)
    found = []
    *events, last = stderr.splitlines()
    for line in events:
        told = json.loads(line)
        validate(told, EVENTS)
        found.append(adapter.validate_python(told).event)
    assert last.startswith("warning: this model is untrained"), "of `best`, after the search"
    return found


@pytest.mark.slow
def test_the_lines_are_a_program_that_starts_others(ground: Path, tmp_path: Path) -> None:
    """With worker processes; it finds the same."""
    done = subprocess.run(
        [sys.executable, DRIVE, *ARGUMENTS],
        cwd=prepared(tmp_path), env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == (ground / "stdout").read_text().splitlines()[1:]
    assert kinds(done.stderr) == kinds((ground / "stderr").read_text())


def test_events_are_lines_of_json(ground: Path) -> None:
    found = kinds((ground / "stderr").read_text())
    assert found.count("stage") == 2
    assert found.count("began") == found.count("ended") == 10
    assert found[-1] == "trials"


@pytest.fixture
def answer(modsearch, ground: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The one JSON value that a verb prints, and nothing beside it."""
    monkeypatch.chdir(ground)

    def ask(*arguments: str) -> Any:
        done = modsearch(*arguments, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)

    return ask


@pytest.mark.parametrize(
    ("arguments", "model", "what"),
    [
        (("plan", "space.yaml"), Forecast, What.PLAN),
        (("status", "study"), StudyStatus, What.STATUS),
        (("best", "study"), Record, What.RECORD),
        (("search", "space.yaml", "--out", "study", "--progress", "none"), Outcome, What.OUTCOME),
        (("eval", "study", "--suite", "tiny.yaml"), Evaluation, What.EVAL),
        (("time", "study", "--rounds", "2", "--seconds", "0.01"), Speeds, What.SPEEDS),
        (("pack", "study"), Packed, What.PACKED),
    ],
)
def test_answers_are_those_of_their_models(
    answer: Callable[..., Any], arguments: tuple[str, ...], model: Any, what: What
) -> None:
    told = answer(*arguments)
    validate(told, schema_of(what))
    assert model.model_validate(told).model_dump(mode="json") == told


def test_a_model_is_counted_trained_and_sampled_by_json(answer: Callable[..., Any]) -> None:
    candidate = {**answer("best", "study")["candidate"], "data": SPACE["data"]}
    Path("winner.yaml").write_text(yaml.safe_dump(candidate))
    told = answer("flops", "winner.yaml")
    assert FlopLedger.model_validate(told).model_dump(mode="json") == told
    record = answer("train", "winner.yaml", "--flops", "5e7", "--out", "one")
    assert Record.model_validate(record).scores is not None
    folder = f"one/trials/{record['hash']}"
    text = answer("generate", folder, "--prompt", "a", "--tokens", "3")
    assert Generation.model_validate(text).texts[0].startswith("a")
    assert answer("report", "study") == {"report": "study/report/index.html"}


def test_components_are_listed_described_and_checked_by_json(answer: Callable[..., Any]) -> None:
    assert {"kind", "name", "source", "target", "clash"} == set(answer("components")[0])
    [found] = answer("components", "show", "threshold")
    assert found["options"][0].keys() == {"name", "type", "default", "help"}
    [checked] = answer("components", "check", "schedule:explicit")
    assert checked["passed"] is True
    assert checked["findings"][0].keys() == {"case", "check", "passed", "why"}


@pytest.mark.parametrize("what", list(What))
def test_schemas_are_json_schemas(modsearch, what: str) -> None:
    done = modsearch("schema", what)
    schema = json.loads(done.out)
    assert done.code == 0
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert "description" in json.dumps(schema)


def test_what_a_schema_requires_is_what_a_file_needs(modsearch) -> None:
    schema = json.loads(modsearch("schema", "space").out)
    assert schema["required"] == ["name", "arms"]
    assert schema["additionalProperties"] is False
    validate(SPACE, schema)
    for path in (ROOT / "search_spaces").glob("*.yaml"):
        validate(read_yaml(path, []), schema)
    arms = {"mod": {"model": {"blok": 1}}}
    with pytest.raises(ValidationError, match="blok"):
        validate({**SPACE, "arms": arms}, schema)
    config = json.loads(modsearch("schema", "config").out)
    assert config["properties"].keys() == Candidate.model_fields.keys()
    validate({"model": {"block": "mod", "router": {"name": "threshold"}}}, config)


def test_answers_are_json_whatever_names_and_numbers_are_in_them(
    answer: Callable[..., Any], ground: Path
) -> None:
    strange = ground / "study" / "trials" / os.fsdecode(b"\xff\xfe")
    begun = ground / "study" / "trials" / ("0" * 16)
    strange.mkdir()
    begun.mkdir()
    row = {"step": 1.5, "steps": 3, "loss": float("nan"), "hash": "x", "alive": []}
    (begun / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    try:
        told = answer("status", "study")
        assert told["running"][0]["hash"] == "0" * 16
        assert told["running"][0]["loss"] is None
        assert any("no trials" in line for line in told["left_out"])
    finally:
        strange.rmdir()
        shutil.rmtree(begun)


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"torch", "numpy", "pandas", "scipy", "pydantic"}),
        (["components"], {"torch", "numpy", "pandas", "scipy"}),
        (["schema", "outcome"], {"torch", "numpy", "pandas", "scipy"}),
        (["status", "study"], {"torch", "pandas", "matplotlib", "optuna"}),
        (["best", "study"], {"torch", "pandas", "matplotlib", "optuna"}),
    ],
)
def test_a_verb_loads_what_it_needs(ground: Path, arguments: list[str], absent: set[str]) -> None:
    code = (
        f"import sys; sys.argv = ['modsearch', *{arguments}]\n"
        "from modsearch.cli.app import main\n"
        "try: main()\n"
        f"finally: print(sorted({absent} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ground,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_what_is_not_read_to_its_end_is_no_failed_check(ground: Path) -> None:
    command = f"{sys.executable} -m modsearch.cli schema space | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] in ("0", "141"), done
    assert done.stderr == ""
