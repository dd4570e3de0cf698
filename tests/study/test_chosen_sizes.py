"""A study whose sizes a sampler chooses: it goes on as one that was not stopped, and says what it
has."""

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bowls import SPACE, search

from modsearch.config.records import Job, Record, Stage
from modsearch.errors import ConfigError, StudyError
from modsearch.planning.forecast import forecast
from modsearch.reporting.trial_tables import ladder_of
from modsearch.space.candidates import load_space
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.study.provenance import stage_key
from modsearch.study.status import status

WIDTHS = [8, 12, 16, 20, 24]
CHOSEN: dict[str, Any] = {
    "arms": {"dense": SPACE["arms"]["dense"]},
    "measure": {
        "ladder": [{"budget": budget, "depth": 2, "widths": WIDTHS} for budget in (1e9, 4e9)],
        "windows": 2,
        "seeds": 3,
        "sampler": {"name": "isoflop", "resolution": 0.02},
    },
    "confirm": None,
}
MOST = 3 * len(WIDTHS)


class Stopped(Exception):
    """As a signal would stop a driver."""


def law(job: Job) -> float:
    """A bowl whose minimum lies near the end of the larger budget's ladder."""
    width, best = job.candidate.model.width, 14.0 * (job.budget.flops / 1e9) ** 0.35
    noise = math.sin(1000 * job.seed + 77 * width + job.budget.flops / 1e8)
    return 1.5 + 0.2 * math.log(width / best) ** 2 + 0.02 * noise


def order(records: list[Record]) -> set[tuple[float, int, int]]:
    return {(r.budget.flops, r.candidate.model.width, r.seed) for r in records}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ladders") / "study"
    told: list[float] = []

    def noted(job: Job) -> float:
        told.append(job.budget.flops)
        return law(job)

    search(root, noted, **CHOSEN)
    assert told == sorted(told)  # small budgets first
    return root


def test_a_cell_is_over_when_its_sampler_says_so(whole: Path) -> None:
    records = StudyDirectory(whole).records()
    found = status(whole)
    assert found.stage is None
    assert found.missing == []
    assert [cell.wanted for cell in found.cells] == [
        sum(record.budget.flops == cell.budget for record in records) for cell in found.cells
    ]
    assert all(4 <= cell.wanted < MOST for cell in found.cells)
    assert max(record.candidate.model.width for record in records) > max(WIDTHS)
    assert ladder_of(StudyDirectory(whole)) == []  # nothing is missing
    again, _ = search(whole, partial(pytest.fail, "trained again"), **CHOSEN)
    assert order(again) == order(records)


@pytest.mark.parametrize("count", [2, 7])
def test_a_stopped_study_goes_on_to_the_same_trials(
    whole: Path, tmp_path: Path, count: int
) -> None:
    left = [count]

    def stopping(job: Job) -> float:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped
        return law(job)

    with pytest.raises(Stopped):
        search(tmp_path, stopping, **CHOSEN)
    assert status(tmp_path).stage is Stage.MEASURE
    records, _ = search(tmp_path, law, **CHOSEN)
    assert order(records) == order(StudyDirectory(whole).records())


def test_a_finished_study_gets_a_budget_and_sizes(tmp_path: Path) -> None:
    one = {**CHOSEN["measure"], "ladder": CHOSEN["measure"]["ladder"][:1]}
    before, _ = search(tmp_path, law, **{**CHOSEN, "measure": one})
    more = {**CHOSEN["measure"], "ladder": [
        {"budget": 1e9, "depth": 2, "widths": [4, *WIDTHS, 32]}, CHOSEN["measure"]["ladder"][1],
    ]}  # fmt: skip
    after, _ = search(tmp_path, law, **{**CHOSEN, "measure": more})
    assert order(before) <= order(after)
    assert {record.budget.flops for record in after} == {1e9, 4e9}
    assert status(tmp_path).stage is None
    grid = {**more, "sampler": "grid"}
    with pytest.raises(StudyError, match=r"`measure.sampler` .*, not \"grid\""):
        search(tmp_path, law, **{**CHOSEN, "measure": grid})


def test_what_is_planned_is_the_most() -> None:
    found = forecast(load_space({**SPACE, **CHOSEN}, []))
    assert [cell.trials for cell in found.cells] == [MOST, MOST]
    assert any(
        "at the most so many" in note and "3 sizes beyond each end" in note for note in found.notes
    )


def test_a_sampler_that_knows_no_ladders_is_refused() -> None:
    other = {**SPACE, "measure": {**SPACE["measure"], "sampler": "tpe"}}
    with pytest.raises(ConfigError, match=r"measure.sampler: sampler `tpe` can't choose among"):
        load_space(other, [])


def test_a_whole_ladder_has_the_name_that_it_had() -> None:
    stated = {**SPACE["measure"], "sampler": "grid"}
    plain = Space.model_validate(SPACE)
    assert stage_key(Space.model_validate({**SPACE, "measure": stated}), Stage.MEASURE) == (
        stage_key(plain, Stage.MEASURE)
    )
    assert re.fullmatch("[0-9a-f]{8}", stage_key(plain, Stage.MEASURE))
    chosen = Space.model_validate({**SPACE, "measure": {**stated, "sampler": "isoflop"}})
    assert stage_key(chosen, Stage.MEASURE) != stage_key(plain, Stage.MEASURE)
