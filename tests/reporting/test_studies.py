"""Several studies on one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import table, tree, write
from worlds import BUDGETS, manifest, study

import modsearch
from modsearch.config.records import Record, Stage
from modsearch.errors import ModsearchError, StudyError
from modsearch.store.directory import StudyDirectory

ARMS: dict[str, Any] = {
    "dense": {"model": {"block": "dense"}},
    "mod": {"model": {"block": "mod"}},
    "mod-random": {"control_of": "mod", "model": {"router": "random"}},
}


def a_study(
    root: Path, seed: int, budgets: Sequence[float] = (1e11,), rows: Sequence[Record] = ()
) -> Path:
    """One of the same question with a seed of its own."""
    ladder = [{"budget": each, "depth": 2, "widths": [16, 20, 24, 32]} for each in budgets]
    rows = rows or study(sd=0.004, budgets=budgets, draw=seed)
    rows = [row.model_copy(update={"seed": row.seed + 1000 * seed}) for row in rows]
    write(root, rows, manifest().model_copy(update={"seed": seed}))
    space = {"name": "synthetic", "seed": seed, "arms": ARMS, "measure": {"ladder": ladder}}
    space["confirm"] = {"budgets": list(budgets), "seeds": 3}
    (root / "space.yaml").write_text(yaml.safe_dump(space))
    return root


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("four")
    return [a_study(folder / str(seed), seed) for seed in (3, 1, 2, 4)]


@pytest.fixture(scope="module")
def repeated(four: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return modsearch.report(four, tmp_path_factory.mktemp("page"))


def test_each_study_has_a_row_with_its_own_headline(four: list[Path], repeated: Path) -> None:
    rows = table(repeated, "studies")
    assert [row["study"] for row in rows] == [f"synthetic, seed {seed}" for seed in (1, 2, 3, 4)]
    own = {each.manifest.seed: each.headline for each in map(modsearch.open_study, four)}
    for seed, row in enumerate(rows, start=1):
        found = own[seed].comparison
        assert found is not None
        assert found.interval is not None
        assert row["verdict"] == own[seed].verdict
        assert float(row["difference"]) == found.difference
        assert float(row["difference low"]) == found.interval.low
        assert own[seed].sentence in repeated.with_name("report.md").read_text().replace("\\", "")
    drawn = (repeated.parent / "figures" / "studies.csv").read_text().splitlines()
    assert len(drawn) == 1 + 4 + 1, "a row a study, and their mean"


def test_repetitions_have_a_mean_and_the_page_says_so_first(repeated: Path) -> None:
    [row] = table(repeated, "repeated")
    values = [float(each["difference"]) for each in table(repeated, "studies")]
    assert float(row["mean difference"]) == pytest.approx(sum(values) / 4)
    assert float(row["mean difference low"]) < sum(values) / 4
    assert row["seeds"] == "1, 2, 3, 4"
    assert row["intervals that hold the mean"].endswith("of 4")
    assert row["verdicts"] == "4 better"
    text = repeated.with_name("report.md").read_text()
    first = text.index("4 studies at 1e11 FLOPs that differ by their seeds alone: 4 better")
    assert first < text.index("## ")
    assert "IsoFLOP" not in text, "the same budgets: nothing is joined"


def test_a_page_of_several_studies_is_repeatable_in_any_order(
    four: list[Path], repeated: Path, tmp_path: Path
) -> None:
    packed = [modsearch.pack(each, tmp_path / f"{each.name}.tar.xz").records for each in four]
    again = modsearch.report(packed[::-1], tmp_path / "page")
    assert tree(again.parent) == tree(repeated.parent)
    assert str(tmp_path) not in again.read_text()


def test_measured_trials_of_other_budgets_are_joined_and_headlines_are_not(tmp_path: Path) -> None:
    small, large = BUDGETS
    parts = [
        a_study(tmp_path / f"{b:g}", seed, (b,)) for seed, b in enumerate((large, small, 3e11))
    ]
    page = modsearch.report(parts, tmp_path / "page")
    curves = table(page, "minima")
    assert {(float(row["budget"]), row["arm"]) for row in curves} == {
        (budget, arm) for budget in (small, 3e11, large) for arm in ("dense", "mod")
    }
    assert [float(row["budget"]) for row in table(page, "studies")] == [small, 3e11, large]
    assert {row["arm"] for row in table(page, "law_exponents")} == {"dense", "mod"}
    assert not (page.parent / "tables" / "winners.csv").exists()
    assert not (page.parent / "tables" / "repeated.csv").exists()
    text = page.with_name("report.md").read_text()
    assert "3 studies, whose headlines are: 3 better. Each stands for itself." in text
    assert "Headlines are never computed again from the runs of several studies" in text


@pytest.mark.usefixtures("no_figures")
def test_an_arm_whose_recipe_differs_is_joined_by_that_of_most(tmp_path: Path) -> None:
    other = [
        row.model_copy(
            update={
                "candidate": row.candidate.model_copy(
                    update={"model": row.candidate.model.model_copy(update={"capacity": 0.5})}
                )
            }
        )
        if row.arm != "dense"
        else row
        for row in study(sd=0.004, budgets=(3e11,), draw=2)
    ]
    parts = [a_study(tmp_path / "a", 1), a_study(tmp_path / "b", 2, (3e11,), other)]
    parts.append(a_study(tmp_path / "c", 3, (1e12,)))
    page = modsearch.report(parts, tmp_path / "page")
    at = {(float(row["budget"]), row["arm"]) for row in table(page, "minima")}
    assert at == {(1e11, "dense"), (3e11, "dense"), (1e12, "dense"), (1e11, "mod"), (1e12, "mod")}
    text = page.with_name("report.md").read_text()
    assert "mod: only trials of the recipe that most of them have are joined" in text
    assert "not those of synthetic, seed 2" in text


@pytest.mark.usefixtures("no_figures")
def test_versions_of_the_code_that_differ_are_told(tmp_path: Path) -> None:
    parts = [a_study(tmp_path / str(seed), seed) for seed in (1, 2)]
    directory = StudyDirectory(parts[1])
    directory.write_manifest(directory.manifest().model_copy(update={"code": "another"}))
    text = modsearch.report(parts, tmp_path / "page").read_text()
    assert "The studies were made with 2 versions of the code" in text


@pytest.mark.usefixtures("no_figures")
def test_studies_without_a_headline_have_a_row(tmp_path: Path) -> None:
    rows = [row for row in study(budgets=(1e11,)) if row.stage is not Stage.CONFIRM]
    parts = [a_study(tmp_path / "a", 1, rows=rows), a_study(tmp_path / "b", 2, rows=rows)]
    page = modsearch.report(parts, tmp_path / "page")
    assert [row["verdict"] for row in table(page, "studies")] == ["none", "none"]
    text = page.with_name("report.md").read_text()
    assert "2 studies, whose headlines are: 2 without a verdict." in text


def test_what_does_not_fit_together_is_refused_before_anything_is_written(
    four: list[Path], tmp_path: Path
) -> None:
    other = a_study(tmp_path / "other", 9)
    directory = StudyDirectory(other)
    made_with = directory.manifest()
    runtime = made_with.runtime.model_copy(update={"precision": "bf16"})
    directory.write_manifest(made_with.model_copy(update={"runtime": runtime}))
    for studies, said in (
        ([four[0], other], f"{other} does not fit beside {four[0]}: its runtime.precision"),
        ([four[0], four[0]], f"{four[0]} stands there twice"),
        ([], "must name one study or more"),
    ):
        with pytest.raises(ModsearchError, match=said):
            modsearch.report(studies, tmp_path / "page")
    with pytest.raises(ModsearchError, match="--out is missing: a page of 2 studies"):
        modsearch.report(four[:2])
    copy = modsearch.pack(four[0], tmp_path / "a.tar.xz").records
    with pytest.raises(StudyError, match=f"{copy} has 9 of the confirmed trials of {four[0]}"):
        modsearch.report([four[0], copy], tmp_path / "page")
    assert not (tmp_path / "page").exists()
