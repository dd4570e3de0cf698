"""Suites in the loop of a study: explore ranks by a metric, and the engine that trains scores."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pages
import pytest
import worlds
import yaml
from inline import Inline, quietly
from tiny import SPACE, SUITE

import modsearch
from modsearch.analysis.recipes import best_of_cells, best_recipe, explored
from modsearch.analysis.scores import lines_of
from modsearch.config.evaluation import Objective, Ranked
from modsearch.config.records import Job, Record, Stage, State
from modsearch.config.runtime import Share
from modsearch.config.samples import TaskFacts
from modsearch.engines.contract import RunTrial
from modsearch.errors import ConfigError, DataError, ModsearchError, StudyError
from modsearch.evaluation.objectives import check_objective, ranked
from modsearch.evaluation.scorer import Scorer
from modsearch.planning import speed
from modsearch.space.candidates import load_space
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.store.trial import WEIGHTS
from modsearch.study.provenance import stage_key
from modsearch.study.runner import Runner
from modsearch.study.scorings import _wanted
from modsearch.study.trials import Trials

OBJECTIVE = {"task": "text", "metric": "bits_per_byte"}
EXPLORED = {
    "arms": {"mod": {"model": {"block": "mod", "capacity": {"choice": [0.25, 0.5, 1.0]}}}},
    "explore": {"budgets": [5e7], "size": {"depth": 2, "width": 4}, "windows": 2},
    "measure": None,
    "confirm": None,
}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    return path


def space_of(changes: dict[str, Any]) -> Space:
    return load_space({key: value for key, value in {**SPACE, **changes}.items() if value})


def searched(suite: Path, **changes: object) -> Space:
    objective = {"suite": str(suite), **OBJECTIVE, **changes}
    return space_of({**EXPLORED, "explore": {**EXPLORED["explore"], "objective": objective}})


def run(space: Space, root: Path, storage: Path | None = None) -> tuple[list[Job], list[str]]:
    """A study to its end in this process: the jobs that were handed out, and the lines told."""
    jobs: list[Job] = []
    lines: list[str] = []

    def engine(run_trial: RunTrial, workers: int | None, share: Share) -> Inline:
        def noted(job: Job) -> Record:
            jobs.append(job)
            return run_trial(job)

        return Inline(quietly, noted, workers, share)

    at = str(storage) if storage is not None else None
    made = Runner(
        space,
        root,
        make_engine=engine,
        storage=at,
        scorer=Scorer(),
        on_event=lambda told: lines.append(str(told)),
    )
    made.run()
    return jobs, lines


def bits(root: Path, name: str, suite: str = "tiny") -> float:
    return float(StudyDirectory(root).evaluations(name)[suite]["results"]["text"][
        "bits_per_byte,none"])  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """A study that was explored by a suite's metric, the jobs, and the lines told."""

    space: Space
    root: Path
    jobs: list[Job]
    lines: list[str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """For tests that only look at it, or at a copy."""
    folder = tmp_path_factory.mktemp("explored")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    space = searched(folder / "tiny.yaml")
    return Ran(space, folder / "study", *run(space, folder / "study"))


def test_explore_goes_by_a_metric_of_a_suite(ran: Ran) -> None:
    root, jobs, lines = ran.root, ran.jobs, ran.lines
    records = StudyDirectory(root).records()
    assert len(records) == len(jobs) == 3
    for record in records:
        assert record.objective is not None
        assert record.objective.value == record.cost == bits(root, record.hash)
        config = StudyDirectory(root).evaluations(record.hash)["tiny"]["config"]
        assert config["part"] == "validation", "test text is confirm's alone"
        assert not (
            StudyDirectory(root).trial(record.hash) / "checkpoint/model.safetensors"
        ).exists()
    storage = optuna.storages.RDBStorage(f"sqlite:///{root / 'ledger.db'}")
    [told] = optuna.get_all_study_names(storage)
    values = [each.value for each in optuna.load_study(study_name=told, storage=storage).trials]
    assert sorted(value for value in values if value) == sorted(r.cost for r in records)
    best = best_recipe(records, "mod")
    assert best is not None
    assert best.cost == min(record.cost for record in records)
    assert sum("tiny.yaml text bits_per_byte" in line for line in lines) == 3
    assert run(ran.space, root)[0] == []


def test_recipes_are_ranked_by_the_objective_and_not_by_the_loss(ran: Ran) -> None:
    records = sorted(StudyDirectory(ran.root).records(), key=lambda r: r.scores.causal_loss)  # type: ignore[union-attr]
    turned = [
        record.model_copy(
            update={"objective": Ranked(name="acc", value=place, higher_is_better=True)}
        )
        for place, record in enumerate(records)
    ]
    assert [group[0].hash for group in explored(turned, "mod")] == [r.hash for r in records[::-1]]
    plain = [record.model_copy(update={"objective": None}) for record in records]
    assert [group[0].hash for group in explored(plain, "mod")] == [r.hash for r in records]
    assert [g[0].hash for g in explored([*turned[:1], *plain[1:]], "mod")] == [records[0].hash]


def test_a_trial_that_was_trained_and_not_scored_is_scored_alone(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "study"
    tried: list[Job] = []

    def broken(self: Scorer, trial: Path, job: Job) -> None:
        tried.append(job)
        raise DataError("the hub is away")

    monkeypatch.setattr(Scorer, "score", broken)
    jobs, lines = run(searched(suite), root)
    assert len(jobs) == 6, "what failed is tried once more"
    assert any("not scored: the hub is away" in line for line in lines)
    records = StudyDirectory(root).records()
    assert {(record.state, record.objective) for record in records} == {(State.COMPLETE, None)}
    logs = [path.stat().st_mtime_ns for path in sorted(root.glob("trials/*/metrics.jsonl"))]
    monkeypatch.undo()
    assert len(run(searched(suite), root)[0]) == 3
    assert all(record.objective for record in StudyDirectory(root).records())
    again = [path.stat().st_mtime_ns for path in sorted(root.glob("trials/*/metrics.jsonl"))]
    assert again == logs, "trained again"


def test_a_trial_whose_weights_are_gone_before_it_was_scored_is_trained_again(
    ran: Ran, tmp_path: Path
) -> None:
    root = tmp_path / "study"
    shutil.copytree(ran.root, root)
    whole = {r.hash: (r.scores and r.scores.causal_loss, r.cost)
             for r in StudyDirectory(root).records()}  # fmt: skip
    (root / "ledger.db").unlink()
    for record in StudyDirectory(root).records():
        StudyDirectory(root).write_record(record.model_copy(update={"objective": None}))
    run(ran.space, root)
    found = StudyDirectory(root).records()
    assert {r.hash: (r.scores and r.scores.causal_loss, r.cost) for r in found} == whole


def test_what_is_wrong_with_a_suite_is_said_before_anything_is_trained(
    suite: Path, tmp_path: Path
) -> None:
    for changes, words in (
        ({"metric": "bits_per_bite"}, "task `text`: unknown metric `bits_per_bite`"),
        ({"task": "txt"}, "unknown task `txt`"),
    ):
        with pytest.raises(ConfigError, match=words):
            run(searched(suite, **changes), tmp_path / "study")
    assert not list((tmp_path / "study").glob("trials/*"))
    wrong = tmp_path / "hub.yaml"
    wrong.write_text(yaml.safe_dump({**SUITE, "tasks": [{"task": "no_such"}]}))
    with pytest.raises(ModsearchError, match="no_such"):
        run(space_of({"suite": str(wrong)}), tmp_path / "other")
    assert not list((tmp_path / "other").glob("trials/*"))


def test_too_little_text_for_the_winners_suite_is_said_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(f"some text of number {number}\n" * 9)
    space = space_of({"suite": "quick", "data": {"corpus": str(tmp_path / "*.txt")}})
    with pytest.raises(DataError, match=r"quick.yaml: task `held_out_text`: the held-out text of"):
        run(space, tmp_path / "study")
    assert not list((tmp_path / "study").glob("trials/*"))


def test_the_engine_that_trains_scores_the_confirmed_trials(suite: Path, tmp_path: Path) -> None:
    root = tmp_path / "study"
    space = space_of({"suite": str(suite)})
    jobs, lines = run(space, root)
    scored = [job.hash for job in jobs if job.scoring is not None]
    confirmed = [r.hash for r in StudyDirectory(root).records() if r.stage is Stage.CONFIRM]
    assert sorted(scored) == sorted(confirmed)
    assert all(bits(root, name) > 0 for name in confirmed)
    assert f"evaluate: {len(confirmed)} trials with suite {suite}" in lines
    assert run(space, root)[0] == []
    suite.write_text(yaml.safe_dump({**SUITE, "description": "Another."}))
    assert sorted(job.hash for job in run(space, root)[0]) == sorted(confirmed)
    weights = StudyDirectory(root).trial(confirmed[0]) / "checkpoint/model.safetensors"
    weights.write_bytes(b"damaged")
    suite.write_text(yaml.safe_dump({**SUITE, "description": "A third."}))
    lines = run(space, root)[1]
    assert sum("is not scored: " in line for line in lines) == 1, "one ends no study"


def test_measure_does_not_go_by_the_loss_where_no_trial_could_be_scored(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Scorer, trial: Path, job: Job) -> None:
        raise DataError("the hub is away")

    monkeypatch.setattr(Scorer, "score", broken)
    objective = {"suite": str(suite), **OBJECTIVE}
    explore = {**EXPLORED["explore"], "objective": objective}
    space = space_of({"arms": EXPLORED["arms"], "explore": explore, "confirm": None})
    with pytest.raises(StudyError, match="none of its trials in explore has been scored with"):
        run(space, tmp_path / "study")
    assert {r.stage for r in StudyDirectory(tmp_path / "study").records()} == {Stage.EXPLORE}
    monkeypatch.undo()
    run(space, tmp_path / "study")
    found = StudyDirectory(tmp_path / "study").records()
    assert {r.stage for r in found} == {Stage.EXPLORE, Stage.MEASURE}


def test_values_of_a_suite_that_has_changed_are_not_ranked_with_those_before(
    suite: Path, tmp_path: Path
) -> None:
    root = tmp_path / "study"
    explore = {**EXPLORED["explore"], "objective": {"suite": str(suite), **OBJECTIVE}}
    more = {**explore, "budgets": [*explore["budgets"], 4e7]}
    run(space_of({**EXPLORED, "explore": explore}), root)
    whole = suite.read_text()
    suite.write_text(yaml.safe_dump({**SUITE, "description": "Another."}))
    run(space_of({**EXPLORED, "explore": explore}), root)  # nothing is left to be scored
    with pytest.raises(StudyError, match="has changed since trials"):
        run(space_of({**EXPLORED, "explore": more}), root)
    suite.write_text(whole)
    assert len(run(space_of({**EXPLORED, "explore": more}), root)[0]) == 3


def test_the_best_of_a_cell_keeps_its_weights_on_a_storage_where_it_could_not_be_scored(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Scorer, trial: Path, job: Job) -> None:
        raise DataError("the hub is away")

    root, storage = tmp_path / "study", tmp_path / "storage"
    space = space_of({"suite": {"name": str(suite), "cells": True}})
    monkeypatch.setattr(Scorer, "score", broken)
    run(space, root, storage)
    monkeypatch.undo()
    jobs, lines = run(space, root, storage)
    assert {job.stage for job in jobs} == {Stage.MEASURE, Stage.CONFIRM}
    assert not [line for line in lines if "not scored" in line]
    assert all(bits(root, job.hash) > 0 for job in jobs)


@pytest.mark.parametrize("stored", [False, True], ids=["here", "on a storage"])
def test_the_best_of_each_measured_cell_is_scored_and_keeps_its_weights(
    suite: Path, tmp_path: Path, stored: bool
) -> None:
    root, storage = tmp_path / "study", tmp_path / "storage" if stored else None
    space = space_of({"suite": {"name": str(suite), "cells": True}})
    jobs, _ = run(space, root, storage)
    records = StudyDirectory(root).records()
    measured = [record for record in records if record.stage is Stage.MEASURE]
    best = {
        min((r for r in measured if r.arm == arm), key=lambda r: r.cost).hash
        for arm in ("dense", "mod")
    }
    confirmed = {record.hash for record in records if record.stage is Stage.CONFIRM}
    weights = {path.parent.parent.name for path in root.glob("trials/*/checkpoint/model.*ors")}
    assert weights == best | confirmed
    assert {job.hash for job in jobs if job.scoring} == weights
    assert all(bits(root, name) > 0 for name in weights)
    assert run(space, root, storage)[0] == []


def settled(folder: Path, records: Sequence[Record]) -> StudyDirectory:
    """A study whose trials ended in this order, each with its weights."""
    directory = StudyDirectory(pages.write(folder / "study", ()))
    trials = Trials(directory, None, "winners", cells=True)
    for record in records:
        directory.write_record(record)
        weights = directory.trial(record.hash) / WEIGHTS
        weights.parent.mkdir()
        weights.touch()
        trials.settle(record)
    return directory


def with_weights(directory: StudyDirectory) -> set[str]:
    """Hashes of the trials that have them."""
    return {path.parent.parent.name for path in directory.root.glob(f"trials/*/{WEIGHTS}")}


def test_a_cell_keeps_the_weights_that_are_scored_where_a_study_has_two_recipes(
    tmp_path: Path,
) -> None:
    """The recipe that explore ranks first counts, however low the loss of another one is."""
    rows = [row for row in worlds.study(budgets=[1e11]) if row.stage is not Stage.CONFIRM]
    other = [
        worlds.trial(Stage.MEASURE, row.arm, 1e11, 2, row.candidate.model.width, rate=0.01, loss=1)
        for row in rows
        if row.stage is Stage.MEASURE and row.candidate.model.width < 24
    ]
    explored_first = [row for row in rows if row.stage is Stage.EXPLORE]
    then = [row for row in rows if row.stage is Stage.MEASURE]
    records = [pages.named(row) for row in (*explored_first, *other, *then)]
    directory = settled(tmp_path, records)
    best = {record.hash for record in best_of_cells(records).values()}
    assert len(best) == 2
    assert not best & {pages.named(row).hash for row in other}
    assert with_weights(directory) == best
    again = Trials(directory, None, "winners", cells=True)
    assert all(again._keeps_weights(record) == (record.hash in best) for record in records)
    wanted = _wanted(directory, directory.manifest(), cells=True)
    assert {record.hash for record in wanted} == best


def test_a_recipe_that_comes_to_count_later_has_its_best_weights(tmp_path: Path) -> None:
    """A study without explore that was begun with other defaults, and goes on with these."""
    records = [
        pages.named(worlds.trial(Stage.MEASURE, "dense", 1e11, 2, width, rate=rate, loss=loss))
        for rate, width, loss in (
            (0.02, 8, 2.0), (0.02, 12, 2.1),
            (0.01, 8, 2.2), (0.01, 12, 2.3), (0.01, 16, 2.4),
        )
    ]  # fmt: skip
    directory = settled(tmp_path, records)
    [best] = best_of_cells(records).values()
    assert best == records[2], "most trials are of this recipe"
    assert with_weights(directory) == {records[0].hash, best.hash}


def test_explore_on_a_storage_goes_by_a_metric(ran: Ran, tmp_path: Path) -> None:
    run(ran.space, tmp_path / "there", tmp_path / "storage")
    found = [
        {record.hash: record.objective for record in StudyDirectory(root).records()}
        for root in (ran.root, tmp_path / "there")
    ]
    assert found[0] == found[1]
    assert all(found[0].values())


def test_what_a_storage_has_scored_is_not_trained_again(suite: Path, tmp_path: Path) -> None:
    root, storage = tmp_path / "study", tmp_path / "storage"
    run(searched(suite), root, storage)
    lost = StudyDirectory(root).records()[0]
    [log] = storage.rglob(f"{lost.hash}/metrics.jsonl")
    before = log.stat().st_mtime_ns
    shutil.rmtree(StudyDirectory(root).trial(lost.hash))
    jobs, _ = run(searched(suite), root, storage)
    assert [job.hash for job in jobs] == [lost.hash]
    assert StudyDirectory(root).record(lost.hash) == lost
    assert log.stat().st_mtime_ns == before


def test_a_mean_over_tasks_takes_the_metric_of_each() -> None:
    results = {
        "tasks": {"a": {}, "b": {}},
        "results": {
            "a": {"acc,none": 0.5, "acc_stderr,none": 0.1},
            "b": {"acc,none": 0.7},
            "both": {"acc,none": 0.65},
        },
        "higher_is_better": {"a": {"acc": True}, "b": {"acc": True}},
    }
    mean = ranked(results, Objective(suite="x", metric="acc"))
    assert (mean.name, mean.value, mean.cost) == ("x acc", pytest.approx(0.6), -mean.value)
    assert ranked(results, Objective(suite="x", task="both", metric="acc")).value == 0.65
    with pytest.raises(ConfigError, match="no f1 of a, b"):
        ranked(results, Objective(suite="x", metric="f1"))
    known = {"a": {"acc": True}}
    check_objective(Objective(suite="x", task="both", metric="acc"), known, ["both"])
    with pytest.raises(ConfigError, match="unknown metric `ac`"):
        check_objective(Objective(suite="x", metric="ac"), known, [])


def test_there_is_no_mean_of_what_is_better_higher_and_lower() -> None:
    objective = Objective(suite="x", metric="score")
    known = {"a": {"score": True}, "b": {"score": False}}
    with pytest.raises(ConfigError, match="higher is better in `a`, lower in `b`"):
        check_objective(objective, known, [])
    check_objective(objective.model_copy(update={"task": "b"}), known, [])
    results = {
        "tasks": known,
        "results": {task: {"score,none": 0.5} for task in known},
        "higher_is_better": known,
    }
    with pytest.raises(ConfigError, match="no mean over tasks of score"):
        ranked(results, objective)
    assert ranked(results, objective.model_copy(update={"task": "b"})).cost == 0.5
    facts = {
        task: TaskFacts(leading="score", higher_is_better=known[task]["score"]) for task in known
    }
    assert [line.shown.task for line in lines_of(facts)] == ["a", "b"], "and no average"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "acc"}, "task `text`: unknown metric `acc`"),
        ({"task": "txt"}, "unknown task `txt`; did you mean `text`"),
    ],
)
def test_plan_says_what_search_would_of_an_objective(
    changes: dict[str, str], said: str, suite: Path, tmp_path: Path
) -> None:
    space = searched(suite, **changes)
    with pytest.raises(ConfigError, match=said) as planned:
        modsearch.plan(space)
    with pytest.raises(ConfigError) as refused:
        modsearch.search(space, tmp_path / "study")
    assert str(planned.value) == str(refused.value)
    assert not (tmp_path / "study").exists(), "nothing is left of it"


def test_a_stage_that_a_space_has_not_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="has no stage `explore`, only measure, confirm"):
        modsearch.search(space_of({}), tmp_path / "runs" / "x", stage="explore")
    assert not (tmp_path / "runs").exists()


def test_plan_says_that_search_will_refuse_too_little_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "SECONDS_PER_SIZE", 0.01)
    tasks = [{**SUITE["tasks"][0], "dataset_kwargs": {"num": 10_000, "size": 1000}}]
    path = tmp_path / "large.yaml"
    path.write_text(yaml.safe_dump({**SUITE, "tasks": tasks}))
    for changes in ({"suite": str(path)}, {"suite": "standard"}):
        lines = [
            line
            for line in modsearch.plan(space_of(changes)).warnings
            if line.startswith("search will refuse this")
        ]
        assert ["10000 are asked for" in line for line in lines] == (
            [True] if changes["suite"] == str(path) else []
        )


def test_plan_of_a_shipped_suite_needs_no_evaluation_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "SECONDS_PER_SIZE", 0.01)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    assert modsearch.plan(space_of({"suite": "quick"})).trials


def test_a_shared_ledger_knows_what_explored_before_there_were_objectives() -> None:
    space = space_of(EXPLORED)
    assert stage_key(space, Stage.EXPLORE) == "8959a1fc"
