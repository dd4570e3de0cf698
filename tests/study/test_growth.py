"""A study that is finished goes on: what is new is trained, and what was fixed stays."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bowls import SPACE as LAW_SPACE
from bowls import bowl, confirmed, search
from inline import Inline, quietly
from tiny import SPACE
from undrawn import undrawn

from modsearch.analysis.claims import Claims, study_claims
from modsearch.analysis.verdicts import Verdict
from modsearch.config.manifest import Manifest
from modsearch.config.records import Job, Stage
from modsearch.errors import StudyError
from modsearch.reporting.page import compile_report
from modsearch.space.candidates import load_space
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.study.growth import change_of
from modsearch.study.runner import Runner
from modsearch.study.status import status, winner

RUNG = {"budget": 6e7, "depth": 2, "widths": [4, 6]}
LATE = {"model": {"block": "mod", "router": "threshold"}}
GROWN: dict[str, Any] = {
    **SPACE,
    "arms": {**SPACE["arms"], "late": LATE},
    "measure": {"ladder": [*SPACE["measure"]["ladder"], RUNG], "windows": 2},
    "confirm": {"budgets": [5e7, 6e7], "seeds": 3, "windows": 2},
}
"""An arm, a budget and a seed more."""


class Stopped(Exception):
    """As a signal would stop a driver."""


def run(plain: dict[str, Any], root: Path) -> None:
    """In this process."""
    Runner(load_space(plain, []), root, make_engine=partial(Inline, quietly)).run()


def results(root: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in root.glob("trials/*/result.json")}


def losses(root: Path) -> dict[str, float]:
    records = StudyDirectory(root).records()
    return {each.hash: each.scores.causal_loss for each in records if each.scores is not None}


def noted(root: Path) -> dict[str, Any]:
    """What a manifest says of a study's growth and of its choices."""
    return StudyDirectory(root).manifest().model_dump(include={"arms", "grown", "confirm", "key"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("growth") / "study"
    run(SPACE, root)
    return root


@pytest.fixture(scope="module")
def grown(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = shutil.copytree(whole, tmp_path_factory.mktemp("grown") / "study")
    run(GROWN, root)
    return root


def test_only_what_is_new_is_trained(whole: Path, grown: Path) -> None:
    before, after = results(whole), results(grown)
    assert before.items() < after.items(), "byte for byte"
    new = [each for each in StudyDirectory(grown).records() if each.hash not in before]
    of_old = [each for each in new if each.arm != "late" and each.budget.flops == 5e7]
    assert [each.stage for each in of_old] == [Stage.CONFIRM] * 2, "a seed of either arm"
    assert len(new) == len(of_old) + (4 + 6) + 2 * (2 + 3)  # the budget's, and the arm's at both
    assert status(grown).stage is None
    run(GROWN, grown)
    assert results(grown) == after


def test_what_was_chosen_stays_and_what_came_has_its_own_choice(whole: Path, grown: Path) -> None:
    manifest = StudyDirectory(grown).manifest()
    first = StudyDirectory(whole).manifest().confirm
    assert manifest.confirm is not None
    assert first is not None
    [old] = first.chosen
    now = manifest.confirm.at(5e7)
    assert now is not None
    assert now.added == {"late": 2}, "after the look at two runs"
    assert (now.routed, now.dense) == (old.routed, old.dense) == ("mod", "dense")
    assert {arm: now.sizes[arm] for arm in old.sizes} == old.sizes
    fresh = manifest.confirm.at(6e7)
    assert fresh is not None
    assert fresh.added == {}
    assert set(fresh.sizes) == {"dense", "mod", "late"}
    [growth] = manifest.grown
    assert growth.arms == ("late",)
    assert growth.looks == {5e7: 2}
    assert growth.trials == 8


def test_the_page_says_what_came_after_which_look(grown: Path, tmp_path: Path) -> None:
    with undrawn():
        compile_report(grown, tmp_path)
    page = (tmp_path / "report.md").read_text().replace("\\", "")
    came = "added: arm `late`; measure at 6e+07 FLOPs; confirm at 6e+07 FLOPs; confirm.seeds 3 in"
    assert "after 8 trials and the look at 2 runs an arm of confirm at 6e7" not in page
    assert "after 8 trials and the look at 2 runs an arm of confirm at 5e7 FLOPs (" in page
    assert came in page
    assert "Confirm at 6e7 FLOPs was added to the study after the look at 2 runs" in page
    assert came in "\n".join(status(grown).grown)


# What losses say is that of a law from here on: `late` is far better than what was there.


def law(job: Job) -> float:
    return bowl(job, gain=0.1) - 0.4 * (job.arm == "late")


def claims(root: Path) -> tuple[Manifest, Claims]:
    directory = StudyDirectory(root)
    manifest = directory.manifest()
    return manifest, study_claims(manifest, directory.records())


ARMS = {**LAW_SPACE["arms"], "late": LATE}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mod is better than dense at an early look."""
    root = tmp_path_factory.mktemp("told") / "study"
    search(root, law)
    return root


@pytest.fixture
def study(told: Path, tmp_path: Path) -> Path:
    return shutil.copytree(told, tmp_path / "study")


def test_an_arm_that_came_late_does_not_take_the_headline(study: Path) -> None:
    _, before = claims(study)
    records, headline = search(study, law, arms=ARMS)
    _, now = claims(study)
    assert headline.comparison is not None
    assert headline.comparison.arm.arm == "mod", "fixed before `late` was there"
    assert headline.sentence == before.headline.sentence
    assert headline.settled
    assert confirmed(records) == dict.fromkeys(ARMS, headline.runs), "as many as the others"
    number = headline.runs // 6
    said = f"Arm late was added to the study after look {number} of 3 of confirm at 2e9 FLOPs"
    assert any(note.startswith(said) for note in headline.notes)
    assert any("fresh seeds put lower than mod" in note for note in headline.notes)
    words = {
        (each.role, each.comparison.arm.arm, each.comparison.reference.arm): each
        for each in now.beside
    }
    for each in before.beside:
        pair = each.role, each.comparison.arm.arm, each.comparison.reference.arm
        assert (words[pair].verdict, words[pair].p) == (each.verdict, each.p), "as it was told"
    assert words["other arm", "late", "dense"].verdict is Verdict.BETTER


def test_a_growth_that_is_stopped_goes_on_to_the_same_end(study: Path, tmp_path: Path) -> None:
    rung = {**LAW_SPACE["measure"]["ladder"][0], "budget": 1e9}
    measure = {**LAW_SPACE["measure"], "ladder": [*LAW_SPACE["measure"]["ladder"], rung]}
    more = {"arms": ARMS, "measure": measure}
    whole = shutil.copytree(study, tmp_path / "whole")
    search(whole, law, **more)

    def stopping(job: Job, left: list[int]) -> float:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped
        return law(job)

    for count in (0, 3, 19):
        with pytest.raises(Stopped):
            search(study, partial(stopping, left=[count]), **more)
    search(study, law, **more)
    assert losses(study) == losses(whole)
    assert noted(study) == noted(whole)


def test_a_control_that_came_late_has_the_confirmed_sizes_of_its_arm(study: Path) -> None:
    control = {"control_of": "mod", "model": {"router": "static"}}
    search(study, law, arms={**LAW_SPACE["arms"], "still": control})
    manifest, now = claims(study)
    assert manifest.confirm is not None
    chosen = manifest.confirm.at(2e9)
    assert chosen is not None
    assert chosen.sizes["still"] == chosen.sizes["mod"]
    assert {each.reference.arm for each in now.controls} == {"random", "still"}


def test_an_arm_that_comes_between_looks_goes_on_with_the_others(tmp_path: Path) -> None:
    noisy = partial(bowl, sd=0.1)

    def stopped(job: Job) -> float:
        if job.stage is Stage.CONFIRM and job.seed > 105:
            raise Stopped
        return noisy(job)

    with pytest.raises(Stopped):
        search(tmp_path, stopped)
    records, headline = search(tmp_path, noisy, arms=ARMS)
    manifest, _ = claims(tmp_path)
    assert manifest.confirm is not None
    assert manifest.confirm.chosen[0].added == {"late": 6}
    assert headline.runs > 6
    assert confirmed(records) == dict.fromkeys(ARMS, headline.runs)


def test_an_arm_that_goes_keeps_its_trials(study: Path) -> None:
    _, before = claims(study)
    left = {name: arm for name, arm in LAW_SPACE["arms"].items() if name != "random"}
    records, headline = search(study, law, arms=left)
    manifest, now = claims(study)
    assert headline == before.headline
    assert confirmed(records)["random"] == headline.runs
    assert manifest.removed == {"random": {"control_of": "mod", "model": {"router": "random"},
                                           "optim": {}}}  # fmt: skip
    assert [each.role for each in now.beside] == [each.role for each in before.beside]
    assert "out of the space: `random`, whose trials stay" in status(study).grown[0]
    other = {**left, "random": {"control_of": "mod", "model": {"router": "static"}}}
    with pytest.raises(StudyError, match=r"`arms.random.model.router` \"random\", not \"static\""):
        search(study, law, arms=other)
    there = results(study)
    search(study, law)
    assert results(study) == there
    assert claims(study)[0].removed == {}


def test_no_winner_is_out_of_the_space(study: Path) -> None:
    search(study, law, arms=ARMS)
    assert winner(study, None).arm == "late"
    search(study, law)
    assert winner(study, None).arm == "mod"


def test_no_arm_goes_while_confirm_is_under_way_with_it(tmp_path: Path) -> None:
    def stopped(job: Job) -> float:
        if job.stage is Stage.CONFIRM and job.seed > 101:
            raise Stopped
        return law(job)

    with pytest.raises(Stopped):
        search(tmp_path, stopped)
    left = {name: arm for name, arm in LAW_SPACE["arms"].items() if name != "random"}
    with pytest.raises(StudyError, match="can't lose arm `random` now: confirm at 2e\\+09 FLOPs"):
        search(tmp_path, law, arms=left)


def test_an_axis_gets_a_value_and_its_points_alone_are_trained(tmp_path: Path) -> None:
    def arms(*values: float) -> dict[str, Any]:
        mod = {"model": {"block": "mod", "capacity": {"choice": [*values]}}}
        return {"dense": LAW_SPACE["arms"]["dense"], "mod": mod}

    def smallest_is_best(job: Job) -> float:
        return law(job) + 1e-4 * job.candidate.model.capacity

    explore = {"budgets": [2e9], "size": {"depth": 2, "width": 16}, "windows": 2}
    before, _ = search(tmp_path, smallest_is_best, arms=arms(0.25, 0.5), explore=explore)
    records, headline = search(
        tmp_path, smallest_is_best, arms=arms(0.25, 0.5, 0.75), explore=explore
    )
    new = {record.hash for record in records} - {record.hash for record in before}
    explored = [r for r in records if r.hash in new and r.stage is Stage.EXPLORE]
    assert [each.candidate.model.capacity for each in explored] == [0.75]
    assert len(new) == 1, "the recipe stays"
    assert headline.verdict is Verdict.BETTER
    assert claims(tmp_path)[0].grown[0].added == ("arms.mod.model.capacity 0.75",)


ASKED: dict[str, Any] = {
    **LAW_SPACE,
    "seed": 3,
    "axes": {"optim": {"rate": {"choice": [0.005, 0.01]}}},
    "explore": {"budgets": [2e9], "size": {"depth": 2, "width": 16}},
}


def asked(**changes: Any) -> Space:
    return Space.model_validate({**ASKED, **changes})


def rungs(*widths: int, **more: Any) -> dict[str, Any]:
    return {**LAW_SPACE["measure"], "ladder": [
        {"budget": 2e9, "depth": 2, "widths": [*widths]}], **more}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 4}, "`seed` 3, not 4"),
        (
            {"fixed": {"optim": {"batch_size": 4}}},
            "`fixed.model.seq_len` 32, which is left out",
        ),
        ({"axes": {"optim": {"rate": {"choice": [0.005]}}}}, "{choice: [0.005, 0.01]}, not {ch"),
        ({"axes": {"optim": {"rate": {"log": [0.005, 0.01]}}}}, "not {log: [0.005, 0.01]}"),
        (
            {"arms": {**ARMS, "mod": {"model": {"block": "mod", "capacity": 0.5}}}},
            "without `arms.mod.model.capacity`, which is 0.5 now",
        ),
        ({"explore": None}, "`explore` {budgets: [2e+09], size: {de"),
        ({"explore": {**ASKED["explore"], "windows": 3}}, "`explore.windows` 64, not 3"),
        (
            {"measure": rungs(8, 12, 16, 20)},
            "of `dense` at 2e+09 FLOPs, depth 2, width 24",
        ),
        ({"confirm": {**ASKED["confirm"], "margin": 0.03}}, "`confirm.margin` 0.02, not 0.03"),
        ({"confirm": {"budgets": [2e9], "seeds": 4}}, "`confirm.runs` 18, not 24"),
    ],
)
def test_what_may_not_change_is_named_with_both_values(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError) as told:
        change_of(asked(), asked(**changes), {}, Path("runs/a"), begun=True)
    first, remedy = str(told.value).splitlines()
    assert first.startswith("runs/a was made with")
    assert said in first
    assert remedy.startswith("use another --out for the ")


@pytest.mark.parametrize(
    ("changes", "added"),
    [
        ({}, ()),
        ({"resources": {"workers": 3}, "suite": "quick"}, ()),
        ({"arms": ARMS}, ("arm `late`",)),
        (
            {"arms": {**LAW_SPACE["arms"], "x": {"control_of": "dense"}}},
            ("arm `x`, a control of `dense`",),
        ),
        (
            {"axes": {"optim": {"rate": {"choice": [0.02, 0.005, 0.01]}}}},
            ("axes.optim.rate 0.02",),
        ),
        ({"explore": {**ASKED["explore"], "budgets": [1e9, 2e9]}}, ("explore at 1e+09 FLOPs",)),
        (
            {"measure": rungs(8, 10, 12, 16, 20, 24, 32, seeds=2)},
            (
                "measure at 2e+09 FLOPs of depth 2, width 10, 32",
                "measure.seeds 2 in place of 1",
            ),
        ),
    ],
)
def test_what_comes_is_said(changes: dict[str, Any], added: tuple[str, ...]) -> None:
    change = change_of(asked(), asked(**changes), {}, Path("runs/a"), begun=True)
    assert change.added == added
    assert bool(change) is bool(added)


def test_a_sampler_that_has_drawn_gets_no_value() -> None:
    drawn = {**ASKED["explore"], "sampler": "tpe", "trials": 4}
    more = {"optim": {"rate": {"choice": [0.005, 0.01, 0.02]}}}
    with pytest.raises(StudyError, match="sampler `tpe` has drawn without it"):
        change_of(
            asked(explore=drawn), asked(explore=drawn, axes=more), {}, Path("a"), begun=False
        )


def test_how_confirm_decides_is_open_until_it_has_begun() -> None:
    other = asked(confirm={"budgets": [2e9], "seeds": 4})
    assert not change_of(asked(), other, {}, Path("a"), begun=False)
