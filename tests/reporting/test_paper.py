"""The paper's figures from a study's records: what is drawn is what was recorded, and what a study
has nothing for is said."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pages import named, write
from worlds import BUDGETS, manifest, study, trial

from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage, State
from modsearch.config.speeds import Speeds, Timed
from modsearch.reporting import paper
from modsearch.reporting.figures.drawing import Drawing, render, styled
from modsearch.reporting.figures.paper import READ
from modsearch.reporting.material import Material, gather
from modsearch.reporting.named import named_models, pair_of
from modsearch.reporting.page import compile_report
from modsearch.reporting.paper import PAPER
from modsearch.store.directory import StudyDirectory


def logged(root: Path, records: list[Record], *, accuracy: bool) -> None:
    """Training logs of ten rows."""
    for record in map(named, records):
        if record.plan is None:
            continue
        folder = StudyDirectory(root).trial(record.hash)
        rows: list[dict[str, float]] = [
            {"step": step, "steps": 10, "loss": 5 / step, "step_seconds": 0.1}
            for step in range(1, 11)
        ]
        for row in rows if accuracy and record.arm == "mod" else ():
            row["membership_accuracy"] = 0.9 + row["step"] / 200
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def material(root: Path, records: list[Record], made_with: Manifest | None = None) -> Material:
    return gather(write(root, records, made_with))


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with styled():
        yield


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Material:
    root, records = tmp_path_factory.mktemp("full"), study(sd=0.004)
    write(root, records)
    logged(root, records, accuracy=True)
    return gather(root)


def drawing(section: str, name: str, of: Material) -> Drawing:
    return next(each for each in PAPER[section](of).figures if each.name == name)


def test_figure_3_draws_the_measured_losses_of_one_budget(full: Material) -> None:
    data = drawing("figure_3", "paper_loss", full).data
    drawn = data[data["what"] == "measured"]
    recorded = {
        (record.arm, record.plan.params): record.scores.causal_loss
        for record in full.records
        if record.stage is Stage.MEASURE and record.budget.flops == BUDGETS[-1]
        if record.plan and record.scores
    }
    assert {(arm, params): loss for arm, params, loss in
            drawn[["arm", "params", "loss"]].itertuples(index=False)} == recorded  # fmt: skip


def test_a_control_stands_as_far_above_its_arm_as_confirm_has_them_apart(full: Material) -> None:
    data = drawing("figure_3", "paper_loss", full).data
    [control] = data[data["what"] == "control"]["loss"]
    best = next(
        each for each in full.claims.optima if (each.arm, each.budget) == ("mod", BUDGETS[-1])
    )
    apart = next(each for each in full.claims.controls if each.arm.budget == BUDGETS[-1])
    assert control == pytest.approx(best.loss + apart.difference)
    assert apart.difference == pytest.approx(0.1, abs=0.02)


def test_figure_3_follows_four_models_by_their_training_logs(full: Material) -> None:
    pair = pair_of(full.claims, ["mod"])
    assert pair is not None
    models = named_models(full.claims, pair)
    assert [each.number for each in models] == [1, 2, 3, 4]
    best, larger, cheap, routed = (each.point for each in models)
    assert larger.forward_flops > best.forward_flops > cheap.forward_flops
    assert cheap.loss <= pair.dense.loss
    assert routed.loss == min(p.loss for curve in pair.curves(full.claims)
                              if (curve.arm, curve.budget) == ("mod", pair.budget)
                              for p in curve.points)  # fmt: skip
    data = drawing("figure_3", "paper_training", full).data
    assert len(data) == 4 * 10
    plans = {record.hash: record.plan for record in full.records}
    for model in models:
        rows, plan = data[data["model"] == model.number], plans[model.point.hash]
        assert plan is not None
        assert list(rows["training loss"]) == pytest.approx(
            [5 / step for step in range(1, 11)], rel=1e-5
        )
        assert list(rows["training FLOPs"]) == [plan.flops_per_step * s for s in range(1, 11)]


def clock(of: Material, seconds: dict[str, float], *, load: float = 0.1) -> Speeds:
    """What `modsearch time` would have measured of the confirmed winners of the last budget."""
    arms = [
        Timed(
            arm=each.arm, budget=each.budget, trial=each.records[0].hash, depth=2,
            width=each.model.width, parameter_bytes=1, flops_per_step=1,
            step_seconds=[seconds[each.arm] * slower for slower in (0.98, 1 / 0.98)],
        )
        for each in of.claims.confirmed
        if each.arm in seconds and each.budget == BUDGETS[-1]
    ]  # fmt: skip
    return Speeds(
        study="synthetic", device="cpu", machine="a clock", precision="fp32", threads=1, cores=2,
        torch="2", rounds=2, seconds=1, load_before=load, load_after=load + 1, arms=arms,
    )  # fmt: skip


def test_figure_3_takes_measured_step_times_of_the_models_that_were_timed(full: Material) -> None:
    noisy = drawing("figure_3", "paper_training", full)
    assert "noise" in noisy.caption
    assert noisy.data["steps per second"].notna().all()
    pair = pair_of(full.claims, ["mod"])
    assert pair is not None
    candidates = {record.hash: record.candidate for record in full.records}
    speeds = clock(full, {"dense": 0.1, "mod": 0.05})
    was_timed = [candidates[each.trial] for each in speeds.arms]
    expected = {
        each.number: {"dense": 10.0, "mod": 20.0}[each.arm]
        for each in named_models(full.claims, pair)
        if candidates[each.point.hash] in was_timed
    }
    assert expected
    timed = replace(full, speeds=speeds)
    drawn = drawing("figure_3", "paper_training", timed)
    found = drawn.data.dropna(subset="steps per second").groupby("model")["steps per second"]
    assert dict(found.mean()) == pytest.approx(expected)
    assert "as modsearch time measured them on a clock" in drawn.caption
    assert "noise" not in drawn.caption
    titles = [ax.get_title(loc="left") for ax in drawn.figure.axes]
    assert "steps per second (measured)" in titles
    busy = replace(full, speeds=clock(full, {"dense": 0.1, "mod": 0.05}, load=3.0))
    caution = "the machine was not quiet"
    assert caution in drawing("figure_3", "paper_training", busy).caption
    assert caution not in drawn.caption


def test_figure_3_without_a_timed_model_shows_what_trials_saw_and_says_so(full: Material) -> None:
    other = replace(full, speeds=clock(full, {"mod-random": 0.1}))
    drawn = drawing("figure_3", "paper_training", other)
    assert "noise" in drawn.caption
    assert render(drawn) == render(drawing("figure_3", "paper_training", full))


def test_figure_3_without_logs_or_a_cheaper_model_says_so(tmp_path: Path) -> None:
    worse = [row for row in study() if row.arm != "mod" or row.stage is not Stage.MEASURE]
    worse += [
        trial(Stage.MEASURE, "mod", budget, width=width, loss=3 + abs(width - 32) / 100)
        for budget in BUDGETS
        for width in (16, 20, 24, 32, 40, 48)
    ]
    section = PAPER["figure_3"](material(tmp_path, worse))
    assert [each.name for each in section.figures] == ["paper_loss"]
    assert paper.NO_LOGS in section.text
    assert "No routed model with fewer forward FLOPs is as good" in " ".join(section.text)


def test_figure_4_has_both_arms_over_the_dense_optimum_beside_the_papers_readings(
    full: Material,
) -> None:
    section = PAPER["figure_4"](full)
    left, right = (each.data for each in section.figures)
    assert len(left) == len(right) == 2 * 2 * 9
    dense = {each.budget: each for each in full.claims.dense_minima}
    for budget, arm, params, loss in left[["budget", "arm", "params", "loss"]].itertuples(
        index=False
    ):
        there = right[
            (right["budget"] == budget) & (right["arm"] == arm) & (right["params"] == params)
        ]
        assert list(there["relative loss"]) == [pytest.approx(loss / dense[budget].loss)]
    rows = section.tables[0].frame
    assert list(rows["source"]).count(READ) == 3
    ours = rows[rows["source"] == "this study"]
    assert list(ours["budget"]) == list(BUDGETS)
    assert (ours["loss: routed / dense"] < 1).all()


def test_figure_6_draws_both_modes_and_the_accuracy_of_the_causal_choice(full: Material) -> None:
    section = PAPER["figure_6"](full)
    modes = section.figures[0].data
    causal = modes[modes["series"] == "mod, causal"]["relative loss"]
    trained = modes[modes["series"] == "mod, as in training"]["relative loss"]
    unit = full.claims.dense_minima[-1].loss
    assert causal.to_numpy() - trained.to_numpy() == pytest.approx([0.001 / unit] * 9)
    data = section.figures[1].data
    assert set(data["arm"]) == {"mod"}
    assert list(data["accuracy"])[:10] == pytest.approx(
        [0.9 + step / 200 for step in range(1, 11)]
    )
    [ours] = section.tables[0].frame[section.tables[0].frame["source"] == "this study"]["accuracy"]
    assert ours == pytest.approx(0.95)


def test_figure_6_without_accuracy_leaves_its_right_half_out_and_says_so(tmp_path: Path) -> None:
    records = study(budgets=BUDGETS[:1])
    write(tmp_path, records)
    logged(tmp_path, records, accuracy=False)
    section = PAPER["figure_6"](gather(tmp_path))
    assert [each.name for each in section.figures] == ["paper_causal"]
    assert section.text == [paper.NO_ACCURACY]


def test_figure_7_is_not_tested_without_experts(full: Material) -> None:
    section = PAPER["figure_7"](full)
    assert section.stands
    [line] = section.text
    assert line.startswith("Not tested: no arm with experts")


def test_figure_7_draws_arms_with_experts(tmp_path: Path) -> None:
    rows = [row for row in study(budgets=BUDGETS[:1]) if row.stage is Stage.MEASURE]
    rows += [
        trial(Stage.MEASURE, arm, BUDGETS[0], width=width, block=block, ffn=ffn)
        for arm, block, ffn in (("mode", "mod", "moe"), ("moe", "moe", "moe"))
        for width in (16, 20, 24, 32, 40, 48)
    ]
    sparse = [
        row.model_copy(update={"plan": row.plan.model_copy(update={"active_params": 1})})
        if row.arm == "moe" and row.plan
        else row
        for row in rows
    ]
    arms = {"dense": None, "mod": None, "mode": None, "moe": None}
    section = PAPER["figure_7"](material(tmp_path, sparse, manifest(arms)))
    [drawn] = section.figures
    assert set(drawn.data["arm"].dropna()) == {"dense", "mode", "moe"}
    assert sum(drawn.data["series"].str.startswith(READ)) == 4
    assert not section.text


EMPTY: dict[str, list[Record]] = {
    "nothing": [],
    "failures": [trial(state=State.DIVERGED), trial(arm="mod", state=State.FAILED)],
    "explore": [row for row in study() if row.stage is Stage.EXPLORE],
    "confirm": [row for row in study() if row.stage is Stage.CONFIRM],
    "dense": [row for row in study() if row.arm == "dense"],
    "routed": [row for row in study() if row.arm == "mod"],
    "one size": [trial(arm=arm) for arm in ("dense", "mod")],
}


@pytest.mark.parametrize("state", EMPTY)
@pytest.mark.parametrize("figure", PAPER)
def test_a_figure_that_the_study_has_nothing_for_is_a_line(
    state: str, figure: str, tmp_path: Path
) -> None:
    section = PAPER[figure](material(tmp_path, EMPTY[state]))
    assert section.stands
    assert section.figures or len(section.text) == 1
    for drawn in section.figures:
        assert render(drawn).png


def test_arms_that_are_not_shown_stand_in_no_figure(full: Material) -> None:
    assert list(PAPER["figure_3"](full.only(["dense"])).text) == [paper.NO_PAIR_SHOWN]
    alone = PAPER["figure_3"](full.only(["mod"])).figures[0].data
    assert set(alone["arm"]) == {"dense", "mod"}  # what it is held against
    names = {
        arm
        for figure in ("figure_3", "figure_4", "figure_6")
        for each in PAPER[figure](full.only(["dense", "mod"])).figures
        for arm in each.data["arm"].dropna()
    }
    assert names == {"dense", "mod"}


def test_the_papers_recipe_compiles_with_a_heading_for_each_figure(
    full: Material, tmp_path: Path
) -> None:
    compile_report(full.directory.root, tmp_path, "raposo2024")
    text = (tmp_path / "report.md").read_text()
    for number in range(1, 8):
        assert f"## Figure {number}: " in text
    assert text.count(paper.NO_ROUTING) == 3
    assert (tmp_path / "figures" / "paper_training.png").is_file()


def test_logs_are_read_by_the_figures_that_follow_training_alone(
    full: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Material, record: Record) -> list[dict[str, float]]:
        raise AssertionError(record.hash)

    monkeypatch.setattr(Material, "metrics", never)
    for figure in ("figure_1", "figure_2", "figure_4", "figure_5", "figure_7"):
        assert PAPER[figure](replace(full)).stands
