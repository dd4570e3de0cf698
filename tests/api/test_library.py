"""The library: lazy names, typed answers, a search that is stopped and goes on."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import CORPUS, without_workers
from tiny import SPACE
from undrawn import undrawn

import modsearch
from modsearch.config.records import Candidate, Stage
from modsearch.nn.contracts import ROUTERS
from modsearch.study.events import Event, TrialEnded
from modsearch.study.progress import LOGS_TOLD


@pytest.fixture(scope="module", autouse=True)
def _no_figures() -> Iterator[None]:
    with undrawn():
        yield


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
    with without_workers():
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
    with pytest.raises(modsearch.ModsearchError, match="has no trial"):
        opened.folder("../..")
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
    widths = np.array([4, 6])
    ladder = [{"budget": np.float64(5e7), "depth": np.int64(2), "widths": tuple(widths)}]
    numbers = {"ladder": ladder, "windows": 2}
    assert modsearch.load_space({**SPACE, "measure": numbers}) == loaded
    assert modsearch.load_space({**SPACE, "data": {"corpus": Path(CORPUS)}}) == loaded


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: modsearch.load_space({**SPACE, "arms": {}}), "space: arms: needs at least 1"),
        (lambda: modsearch.load_space({**SPACE, "nmae": 1}), "unknown key `nmae`"),
        (lambda: modsearch.load_space("quickstrat"), "did you mean `quickstart`"),
        (lambda: modsearch.flops({"model": {"width": "8"}}), "configuration: model.width"),
        (lambda: modsearch.search(SPACE, stage="confrim"), "--stage takes explore, measure"),
        (lambda: modsearch.open_study("nowhere"), "no study in nowhere"),
        (lambda: modsearch.generate("nowhere", ["a"]), "no folder nowhere"),
        (lambda: modsearch.train({}, -1.0), "--flops must be over 0"),
        (lambda: modsearch.train({}, "5e8"), '--flops must be a number of FLOPs, but got "5e8"'),
        (lambda: modsearch.train({}, 1e8, seed=-1), "--seed must be a whole number from 0"),
        (lambda: modsearch.train({}, 1e8, out=None), "--out must be a path, but got null"),
        (lambda: modsearch.search(SPACE, ""), '--out must be a path, but got ""'),
        (lambda: modsearch.search(SPACE, workers=0), "--workers must be a whole number from 1"),
        (lambda: modsearch.search(SPACE, workers="2"), "--workers must be a whole number"),
        (lambda: modsearch.search(SPACE, progress="json"), "progress takes a function"),
        (lambda: modsearch.search(SPACE, ledger=Path("x")), "--ledger must be text"),
        (lambda: modsearch.load_space(None), "--space must be a path, but got null"),
        (lambda: modsearch.load_space(SPACE, overrides="seed=1"), "--set takes a list of texts"),
        (lambda: modsearch.load_space(SPACE, plugins="a.py"), "--plugin takes a list of paths"),
        (
            lambda: modsearch.load_space(modsearch.load_space(SPACE), overrides=["seed=1"]),
            "loaded",
        ),
        (lambda: modsearch.load_space({**SPACE, "seed": object()}), "space: seed: takes plain"),
        (lambda: modsearch.open_study(None), "--study must be a path"),
        (lambda: modsearch.generate(".", "abc"), "--prompt takes a list of texts"),
        (lambda: modsearch.generate(".", ["a"], tokens=0), "--tokens must be a whole number"),
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


def test_what_a_callback_raises_is_no_part_of_the_trial(
    tmp_path: Path, study: modsearch.Study
) -> None:
    def fails(event: Event) -> None:
        if event.event == "logged":
            raise OSError("the callback's own")

    with pytest.raises(OSError, match="the callback's own"):
        modsearch.train(study.best(), 5e7, out=tmp_path, progress=fails)
    [result] = tmp_path.glob("trials/*/result.json")
    assert json.loads(result.read_text())["state"] == "complete"


ROUTER = Path(__file__).parents[2] / "examples" / "my_router.py"


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """A copy of the example, whose component is forgotten afterwards."""
    file = tmp_path / "mine.py"
    file.write_text(ROUTER.read_text().replace("staggered", "of_this_test"))
    yield file
    ROUTERS._registered.pop("of_this_test", None)
    ROUTERS._loaded.pop("of_this_test", None)


def test_a_plugin_counts_for_the_calls_that_name_it(plugin: Path) -> None:
    """As in another process, which would not have it."""
    config = {"model": {"block": "mod", "router": "of_this_test"}}
    space = {**SPACE, "arms": {"mod": {"model": config["model"]}}}
    assert modsearch.flops(config, plugins=[plugin]).params > 0
    assert modsearch.load_space(space, plugins=[plugin]).plugins == [str(plugin)]
    for call in (lambda: modsearch.flops(config), lambda: modsearch.load_space(space)):
        with pytest.raises(modsearch.ModsearchError, match="was not named this time"):
            call()


def test_a_plugin_that_was_edited_is_not_run_as_it_was(plugin: Path) -> None:
    modsearch.components(plugins=[plugin])
    plugin.write_text(plugin.read_text() + "\n# edited\n")
    with pytest.raises(modsearch.ModsearchError, match="has changed since this process ran it"):
        modsearch.components(plugins=[plugin])


def test_a_study_is_read_where_it_was_opened(
    study: modsearch.Study, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    opened = modsearch.open_study(root.name)
    monkeypatch.chdir(tmp_path)
    assert len(opened.trials) == 8
    assert opened.outcome().trials == {"complete": 8}
    frame = opened.records
    frame["mine"] = 1
    assert "mine" not in opened.records, "a table is the caller's own"


def test_a_study_under_way_has_tables_with_columns(
    study: modsearch.Study, root: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    for name in ("manifest.json", "space.yaml"):
        (begun / name).write_text((root / name).read_text())
    opened = modsearch.open_study(begun)
    assert len(opened.records) == len(opened.winners) == 0
    assert list(opened.records) == list(study.records)
    assert list(opened.winners) == list(study.winners)
    assert opened.evaluations.empty


def test_components_are_listed_and_described() -> None:
    names = {(each.kind, each.name) for each in modsearch.components()}
    assert ("router", "threshold") in names
    whole, block, ffn = modsearch.describe("moe")
    assert (whole.origin, block.kind, ffn.kind) == (None, "block", "ffn")
    [found] = modsearch.check("static")
    assert found.passed
