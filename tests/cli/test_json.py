"""Programs drive modsearch by JSON: every verb answers with one object, and schemas say which."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from inline import CORPUS
from pydantic import TypeAdapter

import modsearch as library
from modsearch.config.records import Candidate, Record
from modsearch.config.results import Evaluation, Generation, Outcome
from modsearch.planning.flops import FlopLedger
from modsearch.planning.forecast import Forecast
from modsearch.study.events import Event
from modsearch.study.status import StudyStatus

ROOT = Path(__file__).parents[2]
SPACE = {
    "name": "driven",
    "data": {"corpus": CORPUS},
    "fixed": {
        "model": {"seq_len": 32, "num_heads": 1},
        "optim": {"batch_size": 2, "min_steps": 5},
    },
    "arms": {"dense": {"model": {"block": "dense"}}, "mod": {"model": {"block": "mod"}}},
    "measure": {"ladder": [{"budget": 5e7, "depth": 2, "widths": [4, 6]}], "windows": 2},
    "confirm": {"budgets": [5e7], "seeds": 3, "windows": 2},
    "resources": {"workers": 2},
}
SUITE = {
    "name": "tiny",
    "description": "Held-out text.",
    "tasks": [
        {
            "task": "text",
            "dataset_path": "modsearch:excerpts",
            "dataset_kwargs": {"num": 2, "size": 32},
            "test_split": "held_out",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "text",
            "metric_list": [
                {
                    "metric": "bits_per_byte",
                    "aggregation": "bits_per_byte",
                    "higher_is_better": False,
                }
            ],
        }
    ],
}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space, a suite, and a study that examples/drive.py drove."""
    folder = tmp_path_factory.mktemp("json")
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    drive = [sys.executable, ROOT / "examples" / "drive.py", "space.yaml", "study", "tiny.yaml"]
    done = subprocess.run(drive, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_thirty_lines_drive_a_study_by_json_alone(ground: Path) -> None:
    script = (ROOT / "examples" / "drive.py").read_text()
    assert len(script.strip().splitlines()) <= 31
    plan, verdict, winner, scores = (ground / "stdout").read_text().splitlines()
    study = library.open_study(ground / "study")
    assert plan.startswith("10 trials, 5e+08 FLOPs")
    assert verdict.startswith(f"{study.headline.verdict}: ")
    assert study.best().hash in winner
    assert "bits_per_byte,none" in scores


def test_events_are_lines_of_json(ground: Path) -> None:
    adapter: TypeAdapter[Event] = TypeAdapter(Event)
    kinds = []
    for line in (ground / "stderr").read_text().splitlines():
        told = json.loads(line)
        assert told.pop("time") > 0
        kinds.append(adapter.validate_python(told).event)
    assert kinds.count("stage") == 2
    assert kinds.count("began") == kinds.count("ended") == 10
    assert kinds[-1] == "note"


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
    ("arguments", "model"),
    [
        (("plan", "space.yaml"), Forecast),
        (("status", "study"), StudyStatus),
        (("best", "study"), Record),
        (("search", "space.yaml", "--out", "study", "--progress", "none"), Outcome),
        (("eval", "study", "--suite", "tiny.yaml"), Evaluation),
    ],
)
def test_answers_are_those_of_their_models(
    answer: Callable[..., Any], arguments: tuple[str, ...], model: Any
) -> None:
    told = answer(*arguments)
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


@pytest.mark.parametrize("what", ["space", "config", "record", "outcome", "status", "event"])
def test_schemas_are_json_schemas(modsearch, what: str) -> None:
    done = modsearch("schema", what)
    schema = json.loads(done.out)
    assert done.code == 0
    assert schema.keys() & {"properties", "anyOf"}
    assert "description" in json.dumps(schema)


def test_what_a_schema_requires_is_what_a_file_needs(modsearch) -> None:
    schema = json.loads(modsearch("schema", "space").out)
    assert schema["required"] == ["name", "arms"]
    assert schema["additionalProperties"] is False
    config = json.loads(modsearch("schema", "config").out)
    assert config["properties"].keys() == Candidate.model_fields.keys()
