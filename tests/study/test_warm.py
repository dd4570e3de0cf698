"""A study whose explore is told what another one has trained: to learn from, never as a result."""

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml
from bowls import SPACE, told
from undrawn import undrawn

from modsearch.analysis.recipes import best_recipe
from modsearch.config.records import Job, Record
from modsearch.errors import StudyError
from modsearch.reporting.page import compile_report
from modsearch.space.candidates import load_space
from modsearch.store.directory import StudyDirectory
from modsearch.store.packed import pack, unpacked
from modsearch.study.events import Event, Note
from modsearch.study.provenance import key_of
from modsearch.study.runner import Runner
from modsearch.study.warm import Warm

BEST = 0.02

FIRST: dict[str, Any] = {
    key: value for key, value in SPACE.items() if key not in ("measure", "confirm")
} | {
    "name": "first",
    "axes": {"optim": {"rate": {"log": [0.001, 0.1]}}},
    "arms": {
        "dense": {"model": {"block": "dense"}},
        "mod": {"model": {"block": "mod", "capacity": {"choice": [0.125, 0.5]}}},
    },
    "explore": {
        "budgets": [1e9],
        "size": {"depth": 2, "width": 8},
        "sampler": "random",
        "trials": 12,
        "windows": 2,
    },
}


def second(**explore: Any) -> dict[str, Any]:
    """Another budget and seed, drawn by TPE; the arms have other names."""
    arms = {"plain": FIRST["arms"]["dense"], "routed": FIRST["arms"]["mod"]}
    section = {**FIRST["explore"], "budgets": [2e9], "sampler": "tpe", "trials": 6, **explore}
    return {**FIRST, "name": "second", "seed": 7, "arms": arms, "explore": section}


def law(job: Job) -> float:
    """A bowl around one rate; a larger budget lowers all losses by more than that differs."""
    away = math.log(job.candidate.optim.rate / BEST)
    return 3 + 0.05 * away**2 - math.log(job.budget.flops / 1e9)


def run(plain: dict[str, Any], root: Path, **options: Any) -> StudyDirectory:
    runner = Runner(load_space(plain, []), root, make_engine=partial(told, root, law), **options)
    runner.run()
    return runner.directory


def away(records: list[Record]) -> float:
    """Mean distance from the best rate, in e-folds; of uniform draws 1.3."""
    return fmean(abs(math.log(each.candidate.optim.rate / BEST)) for each in records)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("first") / "first"
    run(FIRST, root)
    return root


@pytest.fixture(scope="module")
def warm(first: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyDirectory:
    """Begun with what `first` has, which is gone then."""
    root = tmp_path_factory.mktemp("warm") / "second"
    heard: list[Event] = []
    found = run(second(), root, warm={"runs/first": first}, on_event=heard.append)
    notes = [event.text for event in heard if isinstance(event, Note)]
    assert (
        "explore's sampler is told of what first trained: 12 configurations of arm plain, 12 of "
        "routed"
    ) in notes
    return found


def test_it_draws_where_the_other_study_was_good(warm: StudyDirectory, tmp_path: Path) -> None:
    cold = run(second(), tmp_path / "cold")
    assert away(warm.records()) <= 0.6 * away(cold.records())


def test_what_it_was_told_is_no_result(warm: StudyDirectory, first: Path, tmp_path: Path) -> None:
    records = warm.records()
    assert len(records) == 12
    assert {each.budget.flops for each in records} == {2e9}
    assert not {each.hash for each in records} & {e.hash for e in StudyDirectory(first).records()}
    best = best_recipe(records, "plain")
    assert best is not None
    assert best.hash in {each.hash for each in records}
    with undrawn():
        compile_report(warm.root, tmp_path / "page")
    page = (tmp_path / "page" / "report.md").read_text()
    assert "told of what first trained: 12 configurations of arm plain" in page
    assert "none of these is a result here" in page
    assert str(first) not in page


@pytest.mark.parametrize(
    "sampler", ["tpe", "isoflop", {"name": "tpe", "smaller_first": True}], ids=str
)
def test_a_killed_study_goes_on_without_the_other_one(
    first: Path, tmp_path: Path, sampler: object
) -> None:
    budgets = [1e9, 2e9] if isinstance(sampler, dict) else [2e9]
    plain = second(sampler=sampler, trials=3 if len(budgets) == 1 else 2, budgets=budgets)
    plain = {**plain, "arms": {"routed": plain["arms"]["routed"]}}
    other = shutil.copytree(first, tmp_path / "other")
    whole = run(plain, tmp_path / "whole", warm={"other": other})
    stop = RuntimeError("killed")

    def dies(job: Job) -> float:
        if len(StudyDirectory(root).records()) == 2:
            raise stop
        return law(job)

    root = tmp_path / "killed"
    runner = Runner(
        load_space(plain, []), root, make_engine=partial(told, root, dies), warm={"other": other}
    )
    with pytest.raises(RuntimeError, match="killed"):
        runner.run()
    shutil.rmtree(other)
    again = run(plain, root)
    assert [each.hash for each in again.records()] == [each.hash for each in whole.records()]


def test_larger_budgets_may_learn_from_smaller_ones(tmp_path: Path) -> None:
    order: list[float] = []

    def noted(job: Job) -> float:
        order.append(job.budget.flops)
        return law(job)

    sampler = {"name": "tpe", "smaller_first": True}
    plain = second(sampler=sampler, trials=11, budgets=[4e9, 1e9])
    plain = {**plain, "arms": {"plain": plain["arms"]["plain"]}}
    root = tmp_path / "study"
    runner = Runner(load_space(plain, []), root, make_engine=partial(told, root, noted))
    runner.run()
    assert order == [1e9] * 11 + [4e9] * 11
    records = runner.directory.records()
    small, large = ([r for r in records if r.budget.flops == each] for each in (1e9, 4e9))
    assert away(large) <= 0.6 * away(small)


def test_it_is_resumed_with_the_same_studies_alone(
    warm: StudyDirectory, first: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(warm.root, tmp_path / "second")
    before = (root / "prior.json").read_bytes()
    moved = shutil.copytree(first, tmp_path / "moved")
    run(second(), root, warm={"moved": moved})  # the same study, wherever it lies
    assert (root / "prior.json").read_bytes() == before
    with pytest.raises(StudyError, match=r"was warm-started from first, not from runs/b"):
        run(second(), root, warm={"runs/b": root})
    with pytest.raises(StudyError, match=r"^no study in .*nowhere: there is no such folder"):
        run(second(), root, warm={"nowhere": tmp_path / "nowhere"})
    with pytest.raises(StudyError, match=r"was begun without --warm-start"):
        Warm({"runs/b": root}, load_space(second(), []), key_of).check((), moved)
    (root / "prior.json").unlink()
    with pytest.raises(StudyError, match=r"can't read .*prior\.json.*\nbring the file back"):
        run(second(), root)


def test_a_packed_study_tells_the_same(warm: StudyDirectory, first: Path, tmp_path: Path) -> None:
    pack(StudyDirectory(first), tmp_path / "a.tar.xz")
    with unpacked(tmp_path / "a.tar.xz") as folder:
        found = run(second(trials=1), tmp_path / "second", warm={"a.tar.xz": folder})
    mine, theirs = (json.loads((each.root / "prior.json").read_text()) for each in (found, warm))
    for arm in ("plain", "routed"):
        for one, other in zip(mine["arms"][arm], theirs["arms"][arm], strict=True):
            assert one == other


def test_a_study_that_says_nothing_is_refused(
    first: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    out = tmp_path / "out"

    def said(plain: dict[str, Any], other: object = first) -> str:
        space = tmp_path / "space.yaml"
        space.write_text(yaml.safe_dump(plain))
        return refused("search", space, "--out", out, "--warm-start", other)

    longer = {**second(), "fixed": {**FIRST["fixed"], "model": {"seq_len": 64, "num_heads": 1}}}
    why = said(longer)
    assert "none of its 24 trials is a point of an arm's open axes here" in why
    assert "model.seq_len is 32 there (" in why
    assert "of arm `dense`), and 64 in arm `plain` here\nname a study of the same constants" in why
    chosen = {**second(), "axes": {"optim": {"rate": {"choice": [0.002, 0.003, 0.006]}}}}
    why = said(chosen)
    assert "optim.rate is " in why
    assert "and one of 0.002, 0.003, 0.006 in arm `plain` here\ngive the axis such values" in why
    assert "learns from no trial of elsewhere" in said(second(sampler="random"))
    assert "(gp, isoflop, tpe)" in said(second(sampler="random"))
    several = second(objective=["loss", "forward_flops"])
    assert "--warm-start tells of losses" in said(several)
    assert "has no explore stage" in said(SPACE)
    assert "no study in nowhere" in said(second(), "nowhere")
    assert not out.exists()
