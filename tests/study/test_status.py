"""What `status` and `best` say of a study at every point of its way."""

import fcntl
import json
import os
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml
from worlds import manifest, trial

from modsearch.cli.text import status_text
from modsearch.config.data import DataConfig
from modsearch.config.efficiency import Efficiency, Peak
from modsearch.config.reading import read_yaml, yaml_text
from modsearch.config.records import Record, Stage, State, trial_hash
from modsearch.errors import StudyError
from modsearch.reporting.page import compile_report
from modsearch.store.directory import StudyDirectory
from modsearch.study.completeness import ended_key, study_space
from modsearch.study.status import status, winner

pytestmark = pytest.mark.usefixtures("no_figures")

BUDGET = 1e11
WIDTHS = (16, 20, 24, 32)
SEEDS = 3
SPACE: dict[str, Any] = {
    "name": "synthetic",
    "arms": {
        "dense": {"model": {"block": "dense"}},
        "mod": {"model": {"block": "mod"}},
        "mod-random": {"control_of": "mod", "model": {"router": "random"}},
    },
    "measure": {"ladder": [{"budget": BUDGET, "depth": 2, "widths": list(WIDTHS)}]},
    "confirm": {"budgets": [BUDGET], "seeds": SEEDS},
}
MEASURED = [trial(Stage.MEASURE, arm, BUDGET, 2, w) for arm in ("dense", "mod") for w in WIDTHS]
CONFIRMED = [
    trial(Stage.CONFIRM, arm, BUDGET, 2, 24, seed=100 + seed, loss=loss + seed / 100)
    for arm, loss in (("dense", 2.0), ("mod", 1.5), ("mod-random", 2.2))
    for seed in range(SEEDS)
]


def study(root: Path, records: Sequence[Record]) -> StudyDirectory:
    directory = StudyDirectory(root)
    directory.write_manifest(manifest())
    directory.space.write_text(yaml.safe_dump(SPACE))
    for record in records:
        values = record.model_dump(mode="json")
        name = trial_hash(values, manifest().corpus.fingerprint, [])
        directory.write_record(record.model_copy(update={"hash": name}))
    return directory


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A trial that has logged a step and has no result."""
    directory = study(tmp_path, MEASURED[:3]).trial("0123456789abcdef")
    directory.mkdir()
    row = {"step": 1200, "steps": 4000, "loss": 2.5, "tokens": 614_400, "step_seconds": 0.05}
    (directory / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (directory / ".lock").touch()
    return tmp_path


def test_a_stage_is_under_way_until_it_has_all_its_results(tmp_path: Path) -> None:
    study(tmp_path, [])
    assert status(tmp_path).stage == "measure"
    study(tmp_path, MEASURED[:-1])
    assert status(tmp_path).stage == "measure"
    assert status(tmp_path).verdict is None
    study(tmp_path, MEASURED)
    assert status(tmp_path).stage == "confirm"
    study(tmp_path, CONFIRMED[:-1])
    text = status_text(status(tmp_path))
    assert "under way: confirm; no driver runs here" in text
    assert "report" not in text


def test_a_finished_study_gives_its_verdict_and_the_place_of_its_report(tmp_path: Path) -> None:
    study(tmp_path, [*MEASURED, *CONFIRMED])
    text = status_text(status(tmp_path))
    assert "\nAt 1e11 FLOPs the routed model that measure chose" in text
    assert "report: none yet" in text
    page = compile_report(tmp_path)
    assert status_text(status(tmp_path)).splitlines()[-1] == f"report: {page}"
    assert "Unfinished." not in page.read_text()


def test_a_trial_runs_while_a_process_has_its_lock(begun: Path) -> None:
    """However lately a dead one wrote."""
    [row] = status(begun).running
    assert (row.hash, row.alive, row.step) == ("0123456789abcdef", False, 1200)
    lines = status_text(status(begun)).splitlines()
    [line] = [line for line in lines if "0123456789abcdef" in line]
    assert line.startswith(
        "not running here 0123456789abcdef: step 1,200 of 4,000, 10,240 tokens/s, last written "
    )
    with (begun / "trials" / "0123456789abcdef" / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert (
            "running 0123456789abcdef: step 1,200 of 4,000, 10,240 tokens/s"
            in status_text(status(begun)).splitlines()
        )


def test_how_fast_trials_ran_is_told_where_they_noted_it(tmp_path: Path) -> None:
    study(tmp_path, MEASURED[:2])
    assert status(tmp_path).pace is None
    record = MEASURED[2]
    assert record.scores is not None
    used = Efficiency(
        tokens_per_second=1234.0, flops_per_second=2e9, flops_per_second_6nd=1e9,
        peak=Peak(flops=4e9, source="measured", device="1 thread"), mfu=0.5, mfu_6nd=0.25,
    )  # fmt: skip
    seconds = {"data": 0.1, "forward": 2.0, "backward": 5.0, "optimizer": 0.9, "evaluation": 2.0}
    scores = record.scores.model_copy(update={"efficiency": used, "phase_seconds": seconds})
    study(tmp_path, [record.model_copy(update={"scores": scores})])
    found = status(tmp_path).pace
    assert found is not None
    assert (found.trials, found.mfu, found.mfu_6nd) == (1, 0.5, 0.25)
    assert (
        "trials ran at 1,234 tokens/s, 2 GFLOP/s, MFU 50.0% (exact) and 25.0% (6ND); time: data "
        "1%, forward 20%, backward 50%, optimizer 9%, evaluation 20%"
    ) in status_text(status(tmp_path)).splitlines()


def test_how_long_ago_a_trial_wrote_is_told(begun: Path) -> None:
    path = begun / "trials" / "0123456789abcdef" / "metrics.jsonl"
    os.utime(path, (0, path.stat().st_mtime - 300))
    assert "last written 300 s ago" in status_text(status(begun))


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"null\n", b"[]"])
def test_damaged_metrics_are_said(begun: Path, damage: bytes) -> None:
    (begun / "trials" / "0123456789abcdef" / "metrics.jsonl").write_bytes(damage)
    assert "metrics.jsonl can't be read" in status_text(status(begun))


def test_what_does_not_count_is_said_once(tmp_path: Path) -> None:
    directory = study(tmp_path, [*MEASURED, *CONFIRMED])
    before = compile_report(tmp_path).read_text()
    first = directory.records()[0]
    directory.trial(first.hash).joinpath("eval").mkdir()
    directory.trial(first.hash).joinpath("eval", "quick.json").write_text("null")
    copy = directory.trial("f" * 16)
    copy.mkdir()
    (copy / "result.json").write_text(first.model_dump_json())
    lines = status(tmp_path).left_out
    assert len(lines) == 2
    text = status_text(status(tmp_path))
    assert all(text.count(f"warning: {line}") == 1 for line in lines)
    after = compile_report(tmp_path).read_text()
    warning = '<div class="warning"><strong>Left out.</strong>'
    assert warning in after
    assert warning not in before
    kept = [line for line in after.splitlines() if not line.startswith(warning)]
    assert kept == before.splitlines(), "a copy moved a number"


def test_a_report_says_which_results_are_missing(tmp_path: Path) -> None:
    study(tmp_path, [*MEASURED[:-1], *CONFIRMED[:-1]])
    text = compile_report(tmp_path).read_text()
    assert "Unfinished." in text
    assert "Measure of mod at 1e11 FLOPs has 3 of 4 results." in text
    assert "Confirm of mod-random at 1e11 FLOPs has 2 of 3 results." in text
    assert "no result: <code>modsearch search</code> on the study trains it" in text


def test_a_cell_without_any_result_is_told_wherever_the_verdict_stands(tmp_path: Path) -> None:
    rows = [row for row in MEASURED if row.arm != "dense"]
    rejected = [trial(Stage.MEASURE, "dense", 2e11, 2, 24, state=State.DIVERGED)]
    directory = study(tmp_path, [*rows, *rejected, *CONFIRMED])
    ladder = [*SPACE["measure"]["ladder"], {"budget": 2e11, "depth": 2, "widths": [24]}]
    space = {**SPACE, "measure": {"ladder": ladder}}
    directory.space.write_text(yaml.safe_dump(space))
    lines = [
        "measure of dense at 2e11 FLOPs has no trial that has finished",
        "measure of mod at 2e11 FLOPs has 0 of 1 results",
        "measure of dense at 1e11 FLOPs has 0 of 4 results",
    ]
    found = status(tmp_path)
    assert (found.stage, found.missing) == (None, lines)
    text = compile_report(tmp_path).read_text()
    for line in lines:
        assert f"warning: {line}\n" in status_text(found) + "\n"
        assert f"{line[0].upper()}{line[1:]}." in text


def test_a_stage_that_is_under_way_lacks_nothing_yet(tmp_path: Path) -> None:
    study(tmp_path, MEASURED[:3])
    assert status(tmp_path).missing == []


def explored(
    root: Path, sampler: str, trials: int | None, states: Sequence[State]
) -> StudyDirectory:
    """A study of explore alone: three widths and so many results."""
    directory = study(root, [])
    size = {"depth": 2, "width": {"choice": [16, 20, 24]}}
    explore = {"budgets": [BUDGET], "size": size, "sampler": sampler}
    explore |= {} if trials is None else {"trials": trials}
    arms = {"dense": {"model": {"block": "dense"}}}
    space = {"name": "synthetic", "arms": arms, "explore": explore}
    directory.space.write_text(yaml.safe_dump(space))
    for seed, state in enumerate(states):
        made = trial(Stage.EXPLORE, "dense", BUDGET, 2, 16, seed=seed, state=state)
        values = made.model_dump(mode="json")
        name = trial_hash(values, manifest().corpus.fingerprint, [])
        directory.write_record(made.model_copy(update={"hash": name}))
    return directory


TRAINED, REJECTED = State.COMPLETE, State.INFEASIBLE


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe"])
def test_what_a_sampler_drew_and_could_not_train_is_no_trial(tmp_path: Path, sampler: str) -> None:
    explored(tmp_path, sampler, 3, [TRAINED, REJECTED, REJECTED])
    assert status(tmp_path).stage == "explore"
    explored(tmp_path, sampler, 3, [TRAINED, TRAINED, TRAINED, REJECTED])
    assert status(tmp_path).stage is None


def test_no_more_is_asked_for_than_there_are_points(tmp_path: Path) -> None:
    explored(tmp_path, "random", 5, [TRAINED] * 3)
    found = status(tmp_path)
    assert (found.stage, found.cells[0].wanted) == (None, 3)


def test_a_point_of_a_grid_that_can_not_be_trained_is_done(tmp_path: Path) -> None:
    explored(tmp_path, "grid", None, [TRAINED, REJECTED, REJECTED])
    assert status(tmp_path).stage is None


def test_a_search_that_is_over_is_done_until_it_is_asked_for_more(tmp_path: Path) -> None:
    directory = explored(tmp_path, "random", 2, [TRAINED])
    assert status(tmp_path).stage == "explore", "killed"
    key = ended_key(Stage.EXPLORE, "dense", BUDGET, 2)
    directory.write_manifest(manifest().model_copy(update={"explored": {key: 1}}))
    assert status(tmp_path).stage is None
    text = directory.space.read_text()
    directory.space.write_text(text.replace("trials: 2", "trials: 3"))
    assert status(tmp_path).stage == "explore"
    directory.space.write_text(text)
    [lost] = directory.records()
    (directory.trial(lost.hash) / "result.json").unlink()
    assert status(tmp_path).stage == "explore"


def test_a_failed_trial_is_a_missing_result(tmp_path: Path) -> None:
    failed = trial(Stage.CONFIRM, "mod", BUDGET, 2, 24, seed=102, state=State.FAILED)
    rest = [row for row in CONFIRMED if (row.arm, row.seed) != ("mod", 102)]
    study(tmp_path, [*MEASURED, *rest, failed])
    assert status(tmp_path).stage == "confirm"
    assert (
        "Confirm of mod at 1e11 FLOPs has 2 of 3 results." in compile_report(tmp_path).read_text()
    )


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"null", b"[1]", b"name: ["])
@pytest.mark.parametrize("use", [study_space, lambda directory: status(directory.root)])
def test_a_damaged_space_is_told_with_its_path(
    tmp_path: Path, damage: bytes, use: Callable[[StudyDirectory], object]
) -> None:
    directory = study(tmp_path, [*MEASURED, *CONFIRMED])
    directory.space.write_bytes(damage)
    with pytest.raises(StudyError, match="can't read") as told:
        use(directory)
    assert str(directory.space) in str(told.value)
    assert len(str(told.value).splitlines()) == 2
    text = compile_report(tmp_path).read_text()
    assert "Whether all results are there is not known: can't read space.yaml" in unescape(text)


def test_the_winner_is_the_lowest_mean_at_the_budget_that_is_named(tmp_path: Path) -> None:
    study(tmp_path, [*MEASURED, *CONFIRMED])
    assert winner(tmp_path, None).arm == winner(tmp_path, BUDGET).arm == "mod"
    with pytest.raises(StudyError, match="no finished candidate at 0 FLOPs"):
        winner(tmp_path, 0.0)


def test_where_only_explore_has_trials_the_one_who_asks_for_a_winner_is_told(
    tmp_path: Path,
) -> None:
    study(tmp_path, [trial(Stage.EXPLORE, "mod", BUDGET)])
    with pytest.raises(StudyError, match="nothing measured or confirmed, only explore's trials"):
        winner(tmp_path, None)


@pytest.mark.parametrize("corpus", ["1e6", "true", "null", "2024-01-01", "0x10", "a: b", "*.txt"])
def test_what_is_printed_as_yaml_is_read_as_the_same(tmp_path: Path, corpus: str) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(yaml_text({"data": {"corpus": corpus}}))
    assert DataConfig.model_validate(read_yaml(path, [])["data"]).corpus == corpus
