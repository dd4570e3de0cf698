"""The library: lazy names, typed answers, a search that is stopped and goes on."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline import CORPUS

import modsearch
from modsearch.config.records import Candidate, Stage
from modsearch.study.events import Event, TrialEnded
from modsearch.study.progress import LOGS_TOLD

SPACE = {
    "name": "small",
    "data": {"corpus": CORPUS},
    "fixed": {
        "model": {"seq_len": 32, "num_heads": 1},
        "optim": {"batch_size": 2, "min_steps": 5},
    },
    "arms": {"dense": {"model": {"block": "dense"}}, "mod": {"model": {"block": "mod"}}},
    "measure": {"ladder": [{"budget": 5e7, "depth": 2, "widths": [4, 6]}], "windows": 2},
    "confirm": {"budgets": [5e7], "seeds": 2, "windows": 2},
    "resources": {"workers": 1},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library") / "study"


@pytest.fixture(scope="module")
def study(root: Path) -> modsearch.Study:
    """Stopped by Ctrl-C after two trials, and then run to its end."""
    ended = 0

    def stop(event: Event) -> None:
        nonlocal ended
        ended += isinstance(event, TrialEnded)
        if ended == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        modsearch.search(SPACE, root, progress=stop)
    begun = modsearch.open_study(root)
    assert len(begun.trials) == 2
    assert begun.status().stage is Stage.MEASURE
    assert begun.status().driver is False, "the lock was not given back"
    lines: list[str] = []
    done = modsearch.search(SPACE, root, progress=lambda event: lines.append(str(event)))
    assert sum("loss" in line for line in lines) == 6, "what was finished is not trained again"
    assert lines[-1] == "trials: 8 complete"
    return done


def test_the_package_is_imported_without_anything_heavy() -> None:
    code = (
        "import sys, modsearch; "
        "print({'torch', 'pydantic', 'numpy', 'pandas', 'typer'} & set(sys.modules)); "
        "print(modsearch.search, 'search' in dir(modsearch))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "set()"
    assert second.startswith("<function search")
    assert second.endswith("True")


def test_every_public_name_is_there_and_documented() -> None:
    for name in modsearch.__all__:
        assert getattr(modsearch, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute `serach`"):
        modsearch.serach  # noqa: B018


def test_a_finished_study_is_opened(study: modsearch.Study, root: Path) -> None:
    opened = modsearch.open_study(root)
    assert len(opened.records) == len(opened.trials) == 8
    assert set(opened.records["arm"]) == {"dense", "mod"}
    assert opened.headline.sentence == study.headline.sentence
    assert {curve.arm for curve in opened.fits} == {"dense", "mod"}
    assert list(opened.winners["arm"]) == ["dense", "mod"]
    assert opened.best().arm in ("dense", "mod")
    assert opened.status().stage is None
    assert (opened.folder(opened.best()) / "result.json").is_file()
    outcome = opened.outcome()
    assert (outcome.verdict, outcome.trials) == (str(opened.headline.verdict), {"complete": 8})
    assert outcome.winner == opened.best().hash
    assert Path(str(outcome.report)).is_file()
    assert modsearch.report(opened, root.parent / "page") == root.parent / "page" / "index.html"


def test_plain_data_a_file_and_a_loaded_space_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(json.dumps(SPACE))
    loaded = modsearch.load_space(SPACE)
    assert modsearch.load_space(file) == loaded
    assert modsearch.load_space(loaded) == loaded
    assert modsearch.load_space(SPACE, overrides=["seed=3"]).seed == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: modsearch.load_space({**SPACE, "arms": {}}), "space: arms: needs at least 1"),
        (lambda: modsearch.load_space({**SPACE, "nmae": 1}), "unknown key `nmae`"),
        (lambda: modsearch.load_space("quickstrat"), "did you mean `quickstart`"),
        (lambda: modsearch.flops({"model": {"width": "8"}}), "configuration: model.width"),
        (lambda: modsearch.search(SPACE, stage="confrim"), "stage takes explore, measure"),
        (lambda: modsearch.open_study("nowhere"), "no study in nowhere"),
        (lambda: modsearch.generate("nowhere", ["a"]), "no folder nowhere"),
        (lambda: modsearch.train({}, -1.0), "flops must be over 0"),
    ],
)
def test_mistakes_are_told_in_words(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(modsearch.ModsearchError) as error:
        call()
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_a_candidate_is_counted_and_changed(study: modsearch.Study) -> None:
    best = study.best().candidate
    assert isinstance(best, Candidate)
    same = modsearch.flops(best.model_dump(mode="json"))
    assert modsearch.flops(best) == same
    assert modsearch.flops(best, overrides=["model.depth=3"]).forward > same.forward


def test_a_training_says_its_steps_and_is_sampled(tmp_path: Path, study: modsearch.Study) -> None:
    events: list[Event] = []
    record = modsearch.train(study.best().candidate, 5e7, out=tmp_path, progress=events.append)
    kinds = [event.event for event in events]
    assert kinds[:2] == ["stage", "began"]
    assert kinds[-1] == "ended"
    assert set(kinds[2:-1]) == {"logged"}
    assert len(kinds) <= 3 + LOGS_TOLD
    text = modsearch.generate(tmp_path / "trials" / record.hash, ["def "], tokens=5)
    assert text.texts[0].startswith("def ")
    assert len(text.tokens[0]) == 5
    again = modsearch.train(study.best().candidate, 5e7, out=tmp_path)
    assert again == record


def test_components_are_listed_and_described() -> None:
    names = {(each.kind, each.name) for each in modsearch.components()}
    assert ("router", "threshold") in names
    whole, block, ffn = modsearch.describe("moe")
    assert (whole.origin, block.kind, ffn.kind) == (None, "block", "ffn")
    [found] = modsearch.check("static")
    assert found.passed
