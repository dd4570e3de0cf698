"""Trials of explore that are stopped early: charged, in no ranking, and the same after a kill."""

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml
from inline import CORPUS, Inline, quietly

from modsearch.analysis.recipes import explored
from modsearch.cli.text import status_text
from modsearch.config.bars import Bars
from modsearch.config.records import Record, Stage, State
from modsearch.errors import ConfigError, Stopped
from modsearch.reporting.page import compile_report
from modsearch.space.candidates import load_space
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.study.completeness import cells
from modsearch.study.events import Event, TrialEnded
from modsearch.study.runner import Runner
from modsearch.study.status import status
from modsearch.training.watch import Watch

SPACE = f"""
name: stopping
data: {{corpus: {CORPUS}}}
fixed:
  model: {{seq_len: 32, num_heads: 1, block: dense}}
  optim: {{min_steps: 5, max_epochs: 99}}
axes: {{optim: {{rate: {{log: [0.000001, 0.05]}}}}}}
arms: {{dense: {{}}}}
explore:
  budgets: [30000000]
  size: {{depth: 1, width: 4}}
  windows: 2
  sampler: random
  trials: 9
  stopping: {{rule: median, rungs: [0.2, 0.6], startup: 3}}
resources: {{workers: 1}}
"""


def space_of(*changes: str) -> Space:
    return load_space(yaml.safe_load(SPACE), list(changes))


def searched(root: Path, *changes: str) -> StudyDirectory:
    """Its counter goes up by one and ends where it says that it does."""
    ends: list[tuple[int, int]] = []

    def on_event(event: Event) -> None:
        if isinstance(event, TrialEnded):
            ends.append((event.done, event.trials))

    make = partial(Inline, quietly)
    Runner(space_of(*changes), root, make_engine=make, on_event=on_event).run()
    records = StudyDirectory(root).records()
    assert [done for done, _ in ends] == list(range(1, len(records) + 1))
    assert all(done <= trials for done, trials in ends)
    assert [trials for _, trials in ends] == sorted(trials for _, trials in ends)
    assert (ends[0][1], ends[-1][1]) == (9, len(records))
    return StudyDirectory(root)


def stopped(records: list[Record]) -> list[Record]:
    return [record for record in records if record.state is State.STOPPED]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyDirectory:
    return searched(tmp_path_factory.mktemp("stopping") / "study")


def test_what_is_stopped_is_charged_and_enters_no_ranking(study: StudyDirectory) -> None:
    records = study.records()
    ended = stopped(records)
    assert ended
    assert len(records) > 9, "what they left was there for others"
    assert 8 < sum(record.charge for record in records) < 10
    for record in ended:
        assert record.scores is None
        assert record.plan is not None
        assert record.spent is not None
        assert 0.15 < record.spent / record.plan.flops < 0.75
        assert "is above" in (record.reason or "")
        assert not (study.trial(record.hash) / "checkpoint" / "model.safetensors").exists()
    ranked = {record.hash for group in explored(records, "dense") for record in group}
    assert ranked == {record.hash for record in records if record.state is State.COMPLETE}
    page = compile_report(study.root)
    assert "stopped early, after" in page.with_name("report.md").read_text()
    told = pd.read_csv(page.with_name("tables") / "trials.csv").set_index("hash")
    for record in records:
        assert record.plan is not None
        row = told.loc[record.hash]
        assert row["achieved FLOPs"] == record.charge * record.plan.flops
        assert row["steps"] * record.plan.flops_per_step == row["achieved FLOPs"]
    lost = pd.read_csv(page.with_name("tables") / "left_out.csv")
    assert set(lost["hash"][lost["state"] == "stopped"]) == {record.hash for record in ended}
    [cell] = cells(space_of(), records, {}, {})
    assert cell.missing <= 1
    found = status(study.root)
    assert (found.stage, found.missing) == (None, [])
    whole = f" {len(records) - len(ended)}/{len(records)} "
    [line] = [each for each in status_text(found).splitlines() if whole in each]
    assert line.endswith(f"  {len(ended)} stopped")


def test_a_search_that_was_killed_stops_the_same_trials(
    study: StudyDirectory, tmp_path: Path
) -> None:
    def dies(number: int) -> None:
        if number == 6:
            raise KeyboardInterrupt

    root = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        Runner(space_of(), root, make_engine=partial(Inline, dies)).run()
    Runner(space_of(), root, make_engine=partial(Inline, quietly)).run()
    found = {r.hash: (r.state, r.reason, r.spent) for r in StudyDirectory(root).records()}
    assert found == {r.hash: (r.state, r.reason, r.spent) for r in study.records()}


def test_another_stage_trains_whole_what_explore_has_stopped(
    study: StudyDirectory, tmp_path: Path
) -> None:
    """A job without bars does not take a stopped trial for its result."""
    [first, *_] = stopped(study.records())
    runner = Runner(space_of(), study.root, make_engine=partial(Inline, quietly))
    [spec] = runner.stages.cells(Stage.EXPLORE)
    values = {
        "model": first.candidate.model.model_dump(exclude={"depth", "width"}),
        "optim": first.candidate.optim.model_dump(),
        "size": {"depth": 1, "width": 4},
    }
    job = runner.stages.job(spec, values)
    assert job.hash == first.hash
    assert runner.trials.finished(job) is None
    assert runner.trials.finished(job.model_copy(update={"stopping": Bars()})) == first


def test_a_rung_is_decided_once_by_the_log_alone(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    bars = Bars.model_validate({"bars": [{"share": 0.5, "most": 1.0, "why": "made up"}]})
    watch = Watch(bars, log, None)
    rows = [{"step": step, "steps": 10, "loss": 2.0} for step in range(1, 11)]
    lines = [str(row).replace("'", '"') + "\n" for row in rows]
    log.write_text("".join(lines[:4]))
    watch(rows[3])
    log.write_text("".join(lines[:5]))
    with pytest.raises(Stopped, match="at 50% of its steps"):
        watch(rows[4])
    log.write_text("".join(lines[:6]))
    watch(rows[5])  # a training that was resumed behind the rung has been judged there


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("explore.stopping=mean", "stopping"),
        ("explore.stopping={rule: median, eta: 2}", "`eta` is of rule asha"),
        ("explore.stopping={rule: asha, rungs: [1.5]}", "rungs"),
        ("explore.objective=[loss, forward_flops]", "`stopping` goes by the training loss"),
        ("explore.sampler=isoflop", "it learns from trials that are trained to their end"),
        ("resources={ranks: 2}", "watches one process"),
    ],
)
def test_stopping_that_can_not_be(change: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        space_of(change)
