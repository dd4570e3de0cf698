"""A plugin file is part of what the trials are that use it, and of no others."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bowls import SPACE, bowl, search, told

from modsearch.config.evaluation import Scoring
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Candidate, Job, Record, Scores, Stage, State
from modsearch.errors import StudyError
from modsearch.registry import plugins
from modsearch.registry.plugins import load_plugins
from modsearch.space.candidates import load_space
from modsearch.space.kinds import KINDS
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_yaml
from modsearch.store.trial import job_config
from modsearch.study.made_with import used_by
from modsearch.study.runner import Runner

TEXT = """
from modsearch.nn.contracts import ROUTERS
from modsearch.nn.routers.random import Random

@ROUTERS.register("{name}")
class Mine(Random):
    "Mine."
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """As in a new process; each test starts and ends so."""

    def anew() -> None:
        monkeypatch.setattr(plugins, "_LOADED", {})
        for registry in KINDS.values():
            monkeypatch.setattr(registry, "_registered", {})
            monkeypatch.setattr(registry, "_loaded", {})
        for name in [each for each in sys.modules if each.startswith("modsearch_plugin_")]:
            del sys.modules[name]

    anew()
    yield anew
    anew()


def written(folder: Path, name: str, more: str = "") -> Path:
    path = folder / f"{name}.py"
    path.write_text(TEXT.format(name=name) + more)
    return path


def results(root: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in root.glob("trials/*/result.json")}


def arms(*names: str) -> dict[str, Any]:
    """Those of the space, and one for each router of a plugin."""
    more = {name: {"model": {"block": "mod", "router": name}} for name in names}
    return {**SPACE["arms"], **more}


def digests(root: Path, arm: str) -> set[tuple[str, ...]]:
    """Of the plugins that an arm's trials say they were made with."""
    directory = StudyDirectory(root)
    found = [each for each in directory.records() if each.arm == arm]
    return {tuple(directory.digests(each.hash)) for each in found}


def test_only_files_whose_components_a_candidate_has_are_used(tmp_path: Path) -> None:
    one, two = load_plugins([written(tmp_path, "one"), written(tmp_path, "two")])
    mine = ModelConfig.model_validate({"block": "mod", "router": "two"})
    assert used_by(Candidate(model=mine), (one, two)) == (two,)
    assert used_by(Candidate(), (one, two)) == ()
    assert used_by(Candidate(optim=OptimConfig()), ()) == ()


def test_an_arm_of_a_plugin_comes_and_nothing_else_is_trained_again(
    tmp_path: Path, forget: Callable[[], None]
) -> None:
    root = tmp_path / "study"
    search(root, bowl)
    before = results(root)
    given = [str(written(tmp_path, "one"))]
    search(root, bowl, arms=arms("one"), plugins=given)
    assert before.items() < results(root).items()
    records = StudyDirectory(root).records()
    assert {each.arm for each in records if each.hash not in before} == {"one"}
    manifest = StudyDirectory(root).manifest()
    assert manifest.mixed == []
    [digest] = manifest.plugins.values()
    assert digests(root, "one") == {(digest,)}
    assert digests(root, "mod") == {()}

    forget()
    given.append(str(written(tmp_path, "two")))
    there = results(root)
    search(root, bowl, arms=arms("one", "two"), plugins=given)
    assert there.items() < results(root).items(), "a second file changes no trial of the first"
    assert set(StudyDirectory(root).manifest().plugins) == {"one.py", "two.py"}
    assert len(StudyDirectory(root).records()) == len(results(root)), "all of them count"


def test_a_plugin_that_changes_is_refused_for_trials_that_use_it(
    tmp_path: Path, forget: Callable[[], None]
) -> None:
    root = tmp_path / "study"
    given = [str(written(tmp_path, "one")), str(written(tmp_path, "two"))]
    search(root, bowl, arms=arms("one"), plugins=given)
    there = results(root)

    forget()
    changed = written(tmp_path, "two", "# changed\n")
    search(root, bowl, arms=arms("one"), plugins=given)
    assert results(root) == there, "no trial uses it"
    assert (root / "plugins" / "two.py").read_bytes() == changed.read_bytes()

    forget()
    written(tmp_path, "one", "# changed\n")
    with pytest.raises(StudyError, match=r"plugin one.py [0-9a-f]{16} is now [0-9a-f]{16}"):
        search(root, bowl, arms=arms("one"), plugins=given)

    forget()
    other = tmp_path / "renamed"
    other.mkdir()
    moved = [str(written(tmp_path, "one", "# changed\n").rename(other / "mine.py"))]
    with pytest.raises(StudyError, match=r"plugin one.py [0-9a-f]{16} is now not there"):
        search(root, bowl, arms=arms("one"), plugins=moved)

    forget()
    search(root, bowl, arms=arms(), plugins=[])
    assert results(root) == there, "without the arm nothing needs its plugin"


def test_trials_that_were_named_by_all_plugins_go_on_counting(tmp_path: Path) -> None:
    """Studies of before had every plugin in the name of every trial."""
    root = tmp_path / "study"
    space = load_space({**SPACE, "plugins": [str(written(tmp_path, "one"))]}, [])
    runner = Runner(space, root, make_engine=partial(told, root, bowl))
    spec = runner.stages.cells(Stage.MEASURE)[0]
    cell = runner.cell(spec)
    asked = cell.ask()
    assert asked is not None
    job = runner.stages.job(spec, asked.values)
    assert job.plugins == ()
    named = job.model_copy(update={"plugins": load_plugins([tmp_path / "one.py"])})
    assert named.hash != job.hash
    record = finished(named, bowl(job))
    directory = StudyDirectory(root)
    cell.note_hash(asked.number, named.hash)
    write_yaml(directory.trial(named.hash) / "config.yaml", job_config(named))
    directory.write_record(record)
    assert directory.records() == [record]
    scored = runner.stages.scored(record, Scoring(suite="quick"))
    assert scored.hash == record.hash
    assert scored.plugins == named.plugins


def finished(job: Job, loss: float) -> Record:
    return job.record(
        State.COMPLETE,
        scores=Scores(
            causal_loss=loss, train_mode_loss=loss, bits_per_byte=loss, final_train_loss=loss,
            realised_capacity=None, realised_forward_flops=1e3, agreement=None, seconds=1.0,
            step_seconds=0.01, peak_memory=1,
        ),
    )  # fmt: skip
