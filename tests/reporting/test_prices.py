"""The report's section on speeds: there when they were measured, right, and repeatable."""

import json
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from pages import table, tree, write
from worlds import BUDGETS, GAIN, study

from modsearch.analysis.paper import DECODING, Word
from modsearch.analysis.paper import STEPS as FASTER_STEPS
from modsearch.config.speeds import Decoded, Speeds, Timed
from modsearch.reporting.figures.drawing import render, styled
from modsearch.reporting.figures.prices import _axis, pareto
from modsearch.reporting.material import gather
from modsearch.reporting.page import compile_report
from modsearch.store.directory import StudyDirectory

STEPS = {"dense": 0.2, "mod": 0.1, "mod-random": 0.11}
TOKENS = {"dense": 0.01, "mod": 0.005, "mod-random": 0.008}
CACHE = {"dense": 4000.0, "mod": 2500.0, "mod-random": 3000.0}
SLOWER = (1.0, 1.1, 0.95, 1.05)
"""Rounds, for all alike."""


def timed(root: Path, *, decoding: bool = True, load: float = 0.1) -> Speeds:
    """A clock by which a step of a routed arm takes half the time for the same FLOPs."""
    arms = []
    for each in gather(root).claims.confirmed:
        rows = [
            Decoded(
                batch_size=size, context=224, tokens=32, cache_bytes=CACHE[each.arm],
                seconds=[TOKENS[each.arm] * size**0.5 * slower for slower in SLOWER],
            )
            for size in (1, 16)
        ]  # fmt: skip
        trial = each.records[0]
        arms.append(
            Timed(
                arm=each.arm, budget=each.budget, trial=trial.hash, depth=2,
                width=trial.candidate.model.width, parameter_bytes=1000, flops_per_step=1000,
                step_seconds=[STEPS[each.arm] * slower for slower in SLOWER],
                decoded=rows if decoding else [],
                missing=None if decoding else f"weights of trial {trial.hash} were not kept",
            )
        )  # fmt: skip
    return Speeds(
        study="synthetic", device="cpu", machine="a clock", precision="fp32", threads=1, cores=2,
        torch="2.9", rounds=4, seconds=0.5, load_before=load, load_after=load + 1, arms=arms,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("prices") / "study", study(sd=0.004))


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "study"))


def page(root: Path) -> str:
    return compile_report(root).read_text()


def by_arm(root: Path, name: str) -> dict[tuple[str, float], dict[str, str]]:
    rows = table(root / "report" / "index.html", name)
    return {(row["arm"], float(row["budget"])): row for row in rows}


def test_without_speeds_one_line_says_what_measures_them(no_figures: None, root: Path) -> None:
    text = page(root)
    assert "<h2>At other prices" not in text
    assert text.count("modsearch time STUDY") == 3, "the multiplier's line, and two claims"
    assert not (root / "report" / "tables" / "speeds.csv").exists()


def test_claims_on_speed_are_answered_by_what_was_measured(no_figures: None, root: Path) -> None:
    """Batch 1 is twice as fast, with no scatter between rounds."""
    StudyDirectory(root).write_speeds(timed(root))
    page(root)
    rows = {row["claim"]: row for row in table(root / "report" / "index.html", "claims")}
    decoding = rows[DECODING.claim]
    assert decoding["verdict"] == Word.SUPPORTED
    assert float(decoding["here value"]) == pytest.approx(2.0, rel=0.03)
    assert "at batch 16" in decoding["why"]
    steps = rows[FASTER_STEPS.claim]
    assert steps["verdict"] == Word.SUPPORTED
    assert float(steps["here value"]) == pytest.approx(2.0)
    assert steps["why"].endswith("held against 1.6")
    assert "caution" not in steps["why"]
    StudyDirectory(root).write_speeds(timed(root, load=5.0))
    page(root)
    for row in table(root / "report" / "index.html", "claims"):
        busy = "caution: the machine was not quiet" in row["why"]
        assert busy == (row["claim"] in (DECODING.claim, FASTER_STEPS.claim))


def test_speeds_stand_beside_the_dense_winners(no_figures: None, root: Path) -> None:
    StudyDirectory(root).write_speeds(timed(root))
    text = page(root)
    assert "At other prices" in text
    assert "modsearch time STUDY" not in text
    assert "a clock (1 thread, fp32, torch 2.9)" in text
    assert "the last 32 tokens of a window" in text
    assert "Caution" not in text
    rows = by_arm(root, "speeds")
    assert len(rows) == 6
    dense, routed = rows["dense", 1e12], rows["mod", 1e12]
    assert dense["step ratio"] == ""
    assert float(routed["step ratio"]) == pytest.approx(0.5)
    assert float(routed["step ratio low"]) == pytest.approx(0.5), "all rounds say the same"
    assert float(routed["time at equal FLOPs"]) == pytest.approx(0.5)
    assert float(routed["tokens/s, batch 1"]) == pytest.approx(200, rel=0.03)
    assert float(routed["speed ratio, batch 16"]) == pytest.approx(2.0)
    assert float(routed["cache bytes"]) == 2500
    control = rows["mod-random", 1e12]
    assert float(control["against dense"]) < float(routed["against dense"])
    assert "peak MiB" not in routed, "the device did not tell"


def test_half_of_the_time_a_flop_doubles_the_multiplier(no_figures: None, root: Path) -> None:
    StudyDirectory(root).write_speeds(timed(root))
    text = page(root)
    rows = table(root / "report" / "index.html", "multipliers_at_equal_time")
    plain = {row["budget"]: row for row in table(root / "report" / "index.html", "multipliers")}
    assert [float(row["budget"]) for row in rows] == [1e11, 1e12]
    for row in rows:
        assert row["multiplier"] == plain[row["budget"]]["multiplier"]
        assert float(row["multiplier"]) == pytest.approx(GAIN, rel=0.1)
        assert float(row["at equal time"]) == pytest.approx(2 * float(row["multiplier"]))
        assert float(row["at equal time low"]) == pytest.approx(2 * float(row["multiplier low"]))
    assert "At 1e12 training FLOPs mod trains for 0.50 times as long as dense" in text
    assert "2.00 [2.00, 2.00] at batch 1, 2.00 [2.00, 2.00] at batch 16; with 62 %" in text


def test_the_front_is_drawn_and_has_its_data(root: Path) -> None:
    material = gather(root)
    with styled():
        drawing = pareto(material.claims, timed(root), material.arms)
        assert drawing is not None
        assert render(drawing).png.startswith(b"\x89PNG")
    data = drawing.data
    assert len(data) == 3 * 6, "three prices of three arms at two budgets"
    caches = data[data["price"] == "cache bytes per sequence"]
    # The routed arm has the lowest loss and the smallest cache.
    assert set(caches[caches["on the front"]]["arm"]) == {"mod"}
    assert len(caches[caches["on the front"]]) == 2, "at either budget"


@pytest.mark.parametrize("ends", [(9.37e4, 1.38e5), (512, 572), (2500, 4000), (1, 100)])
def test_an_axis_of_prices_has_labels_enough_to_be_read(ends: tuple[float, float]) -> None:
    with styled():
        ax = Figure().subplots()
        ax.plot(ends, [1, 2])
        _axis(ax)
    low, high = ax.get_xlim()
    assert sum(low <= at <= high for at in ax.get_xticks()) >= 3


def test_without_weights_there_is_one_price_and_a_caution(no_figures: None, root: Path) -> None:
    StudyDirectory(root).write_speeds(timed(root, decoding=False, load=4.0))
    text = page(root)
    assert "Caution: the machine was not quiet: its load average was 4.0" in text
    assert text.count("was not decoded: weights of trial") == 6
    material = gather(root)
    assert material.speeds is not None
    drawing = pareto(material.claims, material.speeds, material.arms)
    assert drawing is not None
    assert set(drawing.data["price"]) == {"forward FLOPs per token"}
    rows = table(root / "report" / "index.html", "speeds")
    assert all(row["cache bytes"] == "" for row in rows)


def test_without_a_multiplier_there_is_none_to_adjust(no_figures: None, tmp_path: Path) -> None:
    root = write(tmp_path / "study", study(sd=0.004, budgets=BUDGETS[:1]))
    StudyDirectory(root).write_speeds(timed(root))
    text = page(root)
    assert "mod trains for 0.50 times as long as dense" in text
    assert "There is no multiplier to adjust: the dense arm has fitted minima at fewer" in text
    assert not (root / "report" / "tables" / "multipliers_at_equal_time.csv").exists()


def test_the_same_bytes_twice(no_figures: None, root: Path) -> None:
    StudyDirectory(root).write_speeds(timed(root))
    page(root)
    before = tree(root / "report")
    page(root)
    assert tree(root / "report") == before


@pytest.mark.parametrize("damage", ["no json", "a round that is missing", "no time at all"])
def test_damaged_speeds_are_told_and_left_out(no_figures: None, root: Path, damage: str) -> None:
    plain = timed(root).model_dump(mode="json")
    if damage == "a round that is missing":
        plain["arms"][0]["decoded"][1]["seconds"].pop()
    if damage == "no time at all":
        plain["arms"][0]["step_seconds"][0] = 0.0
    (root / "speeds.json").write_text("{" if damage == "no json" else json.dumps(plain))
    text = page(root)
    assert "can&#39;t read speeds.json" in text
    assert "`modsearch time` measures it again" in text
    assert "<h2>At other prices" not in text


def test_speeds_of_what_no_longer_stands_are_told_and_left_out(
    no_figures: None, root: Path
) -> None:
    found = timed(root)
    gone = [each.model_copy(update={"trial": "gone"}) for each in found.arms if each.arm == "mod"]
    others = [each for each in found.arms if each.arm != "mod"]
    StudyDirectory(root).write_speeds(found.model_copy(update={"arms": [*others, *gone]}))
    text = page(root)
    assert "mod at 1e12 FLOPs was timed at depth 2, width" in text
    assert "mod and dense at 1e12 FLOPs were not both timed" in text
    assert {row["arm"] for row in table(root / "report" / "index.html", "speeds")} == {
        "dense",
        "mod-random",
    }
