"""The report: whatever the state of a study, a page that is right, safe and repeatable."""

import base64
import hashlib
import html
import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pandas as pd
import pytest
from pages import named, table, tree, write
from worlds import BUDGETS, WIDTHS, changed, law, looked, manifest, params_of, study, trial

from modsearch.analysis.claims import study_claims
from modsearch.analysis.samples import text_of
from modsearch.config.efficiency import Efficiency, Peak
from modsearch.config.reading import override
from modsearch.config.records import Stage, State
from modsearch.errors import StudyError
from modsearch.reporting.evaluation_tables import evaluation_means, evaluations
from modsearch.reporting.frames import display
from modsearch.reporting.pace import times
from modsearch.reporting.page import _again, _here, compile_report
from modsearch.reporting.parts import Table
from modsearch.reporting.trial_tables import Size, exploration, left_out, trials, winners
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_text
from modsearch.store.packed import pack, unpacked

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert('$x_{1}$')</script> | `arm` & \N{GREEK SMALL LETTER ALPHA}"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two depths, a rejected and a diverged trial, and other versions of the code."""
    rows = study(sd=0.004)
    rows += [
        trial(
            Stage.MEASURE, arm, budget, 4, width, loss=law(arm, budget, params_of(4, width)) + 0.1
        )
        for arm in ("dense", "mod")
        for budget in BUDGETS
        for width in WIDTHS[:5]
    ]
    rows += [
        trial(width=8, state=State.INFEASIBLE),
        trial(width=200, state=State.DIVERGED, arm="mod"),
    ]
    mixed = manifest().model_copy(update={"mixed": ["code abc is now def"]})
    return compile_report(write(tmp_path_factory.mktemp("full"), rows, mixed))


def test_page_answers_first(full: Path) -> None:
    text = full.read_text()
    sentence = text.index("has 1")
    assert "the routed model that measure chose (mod, capacity 0.125, every 2)" in text
    assert sentence < text.index("<h2>")
    for heading in (
        "The two models", "IsoFLOP curves", "Compute multiplier", "Loss against forward FLOPs",
        "Confirmed winners", "Routed arms", "Controls", "Routing", "Explore&#39;s ranking",
        "Evaluation", "Corpus",
        "Rejected, failed, missing and untrained", "FLOP conventions", "Manifest", "Reproduce",
    ):  # fmt: skip
        at = text.index(f"<h2>{heading}</h2>")
        assert at > sentence
        sentence = at
    assert "Mixed versions." in text
    assert "code abc is now def" in text
    assert "modsearch search quickstart" in text


def test_page_is_self_contained(full: Path) -> None:
    """Nothing is loaded from elsewhere, and only its own script may run."""
    text = full.read_text()
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for link in re.findall(r"""(?:src|href)=["']([^"']*)""", text):
        assert link.startswith("data:") or link[1:] in ids, link[:80]
    assert "http:" not in text
    assert "https:" not in text
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert text.count("url(") == text.count("url(#")
    assert "default-src 'none'" in text
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "width=device-width" in text


def test_the_page_has_both_themes_and_prints_in_the_light_one(full: Path) -> None:
    text = full.read_text()
    assert "color-scheme: light dark" in text
    assert "@media screen and (prefers-color-scheme: dark)" in text
    assert not re.search(r"@media \(prefers-color-scheme", text)
    used = set(re.findall(r"var\((--c-[0-9a-f]{6})\)", text))
    assert used
    for variable in used:
        assert len(re.findall(rf"{variable}: #", text)) == 2


def test_tables_scroll_in_their_own_box_with_the_first_column_kept(full: Path) -> None:
    text = full.read_text()
    assert text.count("<table ") == text.count('<div class="scroll" tabindex="0" role="region"')
    style = text[: text.index("</style>")]
    assert "tr > :first-child { position: sticky; left: 0;" in style
    assert ".scroll { overflow: auto;" in style


def test_print_opens_what_is_folded_and_keeps_headings_with_their_figures(full: Path) -> None:
    style = full.read_text().partition("@media print")[2].partition("</style>")[0]
    for rule in (
        "details::details-content { content-visibility: visible;",
        "h2 { font-size: 13pt; break-after: avoid; }", "thead { display: table-header-group;",
        ".scroll { overflow: visible;",
    ):  # fmt: skip
        assert rule in style
    assert "beforeprint" in full.read_text()


def test_a_table_whose_cells_are_text_to_read_is_told_row_by_row() -> None:
    long = "a reason " * 30
    assert Table("claims", pd.DataFrame({"claim": ["x"], "why": [long]})).told
    assert not Table("claims", pd.DataFrame({"claim": ["x"], "why": ["short"]})).told
    assert not Table("models", pd.DataFrame({"arm": ["x"], "router": [long]}), turned=True).told


def test_in_print_no_word_of_a_table_is_broken_while_type_can_be_smaller() -> None:
    narrow = Table("narrow", pd.DataFrame({"a": ["x"]}))
    wide = Table("wide", pd.DataFrame({f"column{i}": ["expert_choice"] for i in range(9)}))
    assert narrow.print_size == 8
    assert wide.print_size < 8
    assert wide.print_size * 0.66 * 9 * len("expert_choice") < 527


def test_every_download_has_the_bytes_of_its_file(full: Path) -> None:
    links = re.findall(r'download="([^"]+)" href="data:text/csv;charset=utf-8,([^"]*)"',
                       full.read_text())  # fmt: skip
    contents = sorted(unquote_to_bytes(html.unescape(data)) for _, data in links)
    files = [*(full.parent / "figures").glob("*.csv"), *(full.parent / "tables").glob("*.csv")]
    assert sorted(name for name, _ in links) == sorted(path.name for path in files)
    assert contents == sorted(path.read_bytes() for path in files)


def test_the_two_models_stand_side_by_side(full: Path) -> None:
    rows = table(full, "models")
    assert [row["arm"] for row in rows] == ["mod", "dense"]
    winners = {(row["arm"], row["budget"]): row for row in table(full, "winners")}
    for row in rows:
        assert row["causal loss"] == winners[row["arm"], "1000000000000.0"]["causal loss"]
    text = full.read_text()
    assert (
        '<th scope="col" class="number">mod</th><th scope="col" class="number">dense</th>' in text
    )
    # Keys and values of two layers in fp32; the routed one keeps what it took, which is not known.
    assert float(rows[1]["cache bytes per token"]) == 2 * 2 * 4 * float(rows[1]["width"])
    assert rows[0]["cache bytes per token"] == ""


def test_the_page_says_when_with_what_and_what_is_chance(full: Path, tmp_path: Path) -> None:
    text = full.read_text()
    assert "5.545 uniform over 256 tokens, 3.300 by unigrams, 3.000 by bigrams" in text
    assert "torch 2.9, Python 3.11" in text
    assert "<dt>Started</dt>" not in text  # of a study that did not note it
    made_with = manifest().model_copy(
        update={"started": "2026-03-01", "versions": {"modsearch": "0.2", "torch": "2.9"}}
    )
    text = compile_report(write(tmp_path, [], made_with)).read_text()
    assert "<dt>Started</dt><dd>2026-03-01</dd>" in text
    assert "modsearch 0.2, torch 2.9" in text


def test_tables_are_there_as_latex_and_figures_as_pdf(full: Path) -> None:
    names = set(tree(full.parent))
    for path in sorted(names):
        if path.startswith("tables/") and path.endswith(".csv"):
            assert path.replace(".csv", ".tex") in names
    latex = (full.parent / "tables" / "minima.tex").read_text()
    assert "\\toprule" in latex
    assert "budget & arm & depth & N* &" in latex
    odd = Table("odd", pd.DataFrame({"a_b & c": ["50 % \\x {y} $z$ #1 ~^"]}))
    assert "a\\_b \\& c" in odd.latex
    assert "50 \\% \\textbackslash x \\{y\\} \\$z\\$ \\#1" in odd.latex
    for path in (full.parent / "figures").glob("*.pdf"):
        data = path.read_bytes()
        assert data.startswith(b"%PDF")
        assert b"CreationDate" not in data


def test_page_nests(full: Path) -> None:
    class Nesting(HTMLParser):
        stack: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img"):
                self.stack.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            """A part of an SVG."""

        def handle_endtag(self, tag: str) -> None:
            assert self.stack.pop() == tag

    parser = Nesting()
    parser.feed(full.read_text())
    assert parser.stack == []


def test_files_beside_the_page(full: Path) -> None:
    names = set(tree(full.parent))
    for figure in ("differences", "isoflop", "forward", "confirm"):
        assert {f"figures/{figure}.{kind}" for kind in ("png", "svg", "pdf", "csv")} <= names
        assert (full.parent / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert {"index.html", "report.md"} <= names
    links = re.findall(r"\]\(([^)]+)\)", (full.parent / "report.md").read_text())
    assert set(links) <= names
    assert len(links) > 12


def test_every_trial_is_listed(full: Path) -> None:
    directory = StudyDirectory(full.parent.parent)
    rows = table(full, "trials")
    assert len(rows) == len(directory.records())
    by_hash = {row["hash"]: row for row in rows}
    for record in directory.records():
        row = by_hash[record.hash]
        assert row["state"] == record.state.value
        if record.scores:
            assert float(row["causal loss"]) == record.scores.causal_loss  # full precision
            assert record.plan
            deviation = 100 * (record.plan.flops / record.budget.flops - 1)
            assert float(row["deviation %"]) == pytest.approx(deviation)
    lost = table(full, "left_out")
    assert {row["state"] for row in lost} == {"infeasible", "diverged"}
    assert all(row["reason"] == "made to fail" for row in lost)


def test_minima_table_has_fits_and_refusals(full: Path) -> None:
    rows = table(full, "minima")
    assert len(rows) == 8
    refused = [row for row in rows if row["note"].startswith("no fit (")]
    assert refused
    assert all(row["N*"] == "" for row in refused)
    assert sum("the arm" in row["note"] for row in rows) == 4


def test_comparisons_and_controls(full: Path) -> None:
    rows = table(full, "comparisons")
    assert [row["role"] for row in rows] == ["headline", "headline"]
    for row in rows:
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
    controls = table(full, "controls")
    assert {row["against"] for row in controls} == {"mod-random"}
    winners = {(row["arm"], row["budget"]): row for row in table(full, "winners")}
    row = rows[-1]
    losses = [float(winners[arm, row["budget"]]["causal loss"]) for arm in ("dense", "mod")]
    assert float(row["difference"]) == pytest.approx(losses[0] - losses[1])


def test_every_claim_of_the_paper_has_a_row_that_links_to_what_shows_it(full: Path) -> None:
    rows = table(full, "claims")
    assert rows[0]["claim"] == "lower loss at equal training FLOPs"
    assert rows[0]["verdict"] == "supported"
    ends = [float(rows[0][f"here {name}"]) for name in ("from", "value", "to")]
    assert 0 < ends[0] < ends[1] < ends[2], "full precision, for programs"
    words = {"supported", "refuted", "equivalent", "underpowered", "not tested"}
    assert {row["verdict"] for row in rows} <= words
    assert all(row["why"] for row in rows)
    page = full.read_text()
    assert page.index("Claims of the paper") < page.index("IsoFLOP curves")
    assert '<a href="#figure-isoflop">IsoFLOP curves</a>' in page
    linked = set(re.findall(r'<a href="#([\w-]+)">', page))
    assert {"figure-differences", "figure-forward", "table-controls", "table-winners"} <= linked
    assert linked <= set(re.findall(r'id="([\w-]+)"', page))
    markdown = (full.parent / "report.md").read_text()
    assert "| [IsoFLOP curves](figures/isoflop.png) |" in markdown
    assert "| [Controls](tables/controls.csv) |" in markdown
    assert "here value" not in page, "numbers behind a cell are in the file alone"


def test_evaluations_of_every_seed_and_their_means(full: Path) -> None:
    rows = table(full, "evaluations")
    assert len(rows) == 18 * 2
    blimp = [row for row in rows if row["task"] == "blimp"]
    assert all(float(row["stderr"]) == 0.015 for row in blimp)
    assert all(row["stderr"] == "" for row in rows if row["task"] == "bits")
    means = [row for row in table(full, "evaluation_means") if row["task"] == "blimp"]
    assert len(means) == 6
    assert all(float(row["mean"]) == pytest.approx(0.6101) for row in means)
    assert all(row["seeds"] == "3" for row in means)
    for row in means:  # the items' error is that of one run, however many there are
        assert float(row["mean high"]) - float(row["mean"]) == pytest.approx(
            1.96 * 0.015, rel=0.01
        )


@pytest.mark.usefixtures("no_figures")
def test_every_mean_of_a_winner_has_an_interval_or_says_that_it_is_a_single_run(
    full: Path, tmp_path: Path
) -> None:
    for row in table(full, "winners"):
        for name in ("causal loss", "train-mode loss", "bits per byte"):
            low, value, high = (float(row[f"{name}{end}"]) for end in (" low", "", " high"))
            assert low < value < high
        assert row["note"] == ""
    rows = [
        changed(row, realised_capacity=0.1 + row.seed / 1e4) if row.arm == "mod" else row
        for row in study(seeds=3, budgets=BUDGETS[:1])
    ]
    [mod] = [row for row in _rows(winners(study_claims(manifest(), rows))) if row[1] == "mod"]
    assert "0.110 [0.110, 0.110]" in mod
    page = compile_report(write(tmp_path / "one", study(sd=0.004, seeds=1)))
    for row in table(page, "winners"):
        assert (row["causal loss low"], row["note"]) == ("", "single run")


def _rows(frame: pd.DataFrame) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in display(frame).to_numpy()]


def test_no_time_is_compared_by_trials_that_shared_a_machine(full: Path) -> None:
    for name in ("comparisons", "multipliers", "winners", "controls"):
        columns = (full.parent / "tables" / f"{name}.csv").read_text().splitlines()[0]
        assert not re.search("time|speed|adjusted|seconds|step ms", columns)
    assert "times as long" not in full.read_text()


def test_evaluations_are_never_averaged_over_stages() -> None:
    rows = [trial(Stage.MEASURE, name="a"), trial(Stage.CONFIRM, name="b")]
    results = {
        name: {"quick": {"results": {"t": {"acc,none": value}}}}
        for name, value in (("a", 0.2), ("b", 0.8))
    }
    means = evaluation_means(evaluations(rows, results))
    assert sorted(means["mean"]) == [0.2, 0.8]


def test_the_chance_that_a_suite_states_stands_beside_its_accuracy() -> None:
    metrics = {"acc,none": 0.6, "other,none": 0.7}
    results = {
        "a": {
            "quick": {
                "results": {"t": metrics, "u": metrics},
                "configs": {"t": {"metadata": {"chance": 0.5}}, "u": None},
            }
        }
    }
    means = evaluation_means(evaluations([trial(Stage.CONFIRM, name="a")], results))
    found = {(row["task"], row["metric"]): row["chance"] for row in means.to_dict("records")}
    assert found["t", "acc"] == 0.5
    assert all(pd.isna(found[key]) for key in (("t", "other"), ("u", "acc"), ("u", "other")))


def test_exploration_shows_what_varies() -> None:
    frame = exploration(study())
    assert {"arm", "budget", "rank", "rate", "causal loss"} <= set(frame.columns)
    assert not {"weight_decay", "block", "capacity"} & set(frame.columns)
    assert list(frame["rank"]) == [1, 2, 1, 2]
    wide = trial(Stage.EXPLORE, "mod", capacity=0.5, name="wide")
    shown = display(exploration([*study(), wide]))
    capacities = dict(zip(shown["hash"], shown["capacity"], strict=True))
    assert capacities["wide"] == "0.5"
    assert all(cell == "\N{EN DASH}" for name, cell in capacities.items() if "dense" in name)


def test_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also from another folder, and in another order of writing."""
    rows = study(sd=0.01, budgets=(1e11,))
    first = compile_report(write(tmp_path / "one", rows)).parent
    second = compile_report(write(tmp_path / "two", rows[::-1]), tmp_path / "elsewhere").parent
    assert tree(first) == tree(second)
    assert str(tmp_path) not in (first / "index.html").read_text()


@pytest.mark.parametrize(
    ("stages", "missing", "present"),
    [
        ((), ["The study is empty"], []),
        ((Stage.EXPLORE,), ["stage measure has finished", "stage confirm"], ["Explore"]),
        ((Stage.EXPLORE, Stage.MEASURE), ["stage confirm has finished"], ["IsoFLOP"]),
        ((Stage.CONFIRM,), ["stage measure has finished"], ["Confirmed winners"]),
    ],
)
def test_unfinished_studies_get_a_page(
    tmp_path: Path, stages: tuple[Stage, ...], missing: list[str], present: list[str]
) -> None:
    rows = [row for row in study(budgets=(1e11,)) if row.stage in stages]
    text = compile_report(write(tmp_path, rows)).read_text()
    assert "No verdict" in text
    assert "Unfinished." in text
    for part in missing + present:
        assert part in text
    assert "Corpus" in text


@pytest.mark.usefixtures("no_figures")
def test_one_arm_without_confirm_is_named(tmp_path: Path) -> None:
    rows = [
        row for row in study(budgets=(1e11,)) if (row.stage, row.arm) != (Stage.CONFIRM, "mod")
    ]
    text = compile_report(write(tmp_path, rows)).read_text()
    assert "No trial of stage confirm has finished for mod." in text
    assert "mod, is not confirmed yet" in text


def test_nothing_but_failures(tmp_path: Path) -> None:
    rows = [trial(stage, state=State.FAILED, name=stage) for stage in Stage]
    text = compile_report(write(tmp_path, rows)).read_text()
    assert "made to fail" in text
    assert "explore: 1 failed" in text


def test_no_study_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no manifest\.json"):
        compile_report(tmp_path)


@pytest.mark.usefixtures("no_figures")
def test_untrained_cells_are_listed(tmp_path: Path) -> None:
    cells = left_out(manifest(bigram=1.7), study())
    assert set(cells["state"]) == {"untrained cell"}
    assert set(cells["budget"]) == {1e11}
    assert set(cells["stage"]) == {"explore", "measure", "confirm"}
    rows = study(budgets=(1e11,))
    page = compile_report(write(tmp_path, rows, manifest(bigram=0.5)))
    assert "Untrained: no verdict" in page.read_text()
    assert "What it would take: a larger budget" in page.read_text()


@pytest.mark.usefixtures("no_figures")
def test_the_margin_stands_beside_the_comparisons(full: Path, tmp_path: Path) -> None:
    made_with, rows = looked(6)
    page = compile_report(write(tmp_path, rows, made_with)).with_name("report.md").read_text()
    [share] = re.findall(r"within the margin, 0\.02 nats on either side of zero, (\S+) %", page)
    headline = study_claims(made_with, rows).headline.comparison
    assert headline is not None
    assert float(share) == pytest.approx(2 / headline.reference.loss, abs=0.05)
    assert "within the margin" not in full.with_name("report.md").read_text(), "none was stated"


def test_claims_name_no_file_that_the_report_has_not(full: Path) -> None:
    folder = full.parent
    names = [row["shown by"] for row in table(full, "claims")]
    assert any(names)
    for name in filter(None, names):
        assert (folder / name).with_suffix(".csv").exists(), name
    assert not (folder / "tables" / "speeds.csv").exists(), "no speed was measured"
    assert "speeds" not in (folder / "tables" / "claims.tex").read_text()


def test_a_training_that_broke_off_is_not_listed_with_its_whole_plan() -> None:
    done, broken = trials([trial(seed=1), trial(seed=2, state=State.FAILED)]).to_dict("records")
    for name in ("steps", "achieved FLOPs", "deviation %"):
        assert not pd.isna(done[name])
        assert pd.isna(broken[name]), name


def test_a_size_without_a_result_is_listed_as_missing() -> None:
    ladder = [Size(arm, 1e11, 2, width) for arm in ("dense", "mod") for width in WIDTHS]
    rows = [
        row
        for row in study(budgets=(1e11,))
        if (row.stage, row.arm, row.candidate.model.width) != (Stage.MEASURE, "mod", 24)
    ]
    [row] = left_out(manifest(), rows, ladder).to_dict("records")
    assert (row["arm"], row["depth"], row["width"], row["state"]) == ("mod", 2, 24, "missing")
    assert left_out(manifest(), study(budgets=(1e11,)), ladder).empty
    before = [row for row in rows if row.stage is Stage.EXPLORE]
    assert left_out(manifest(), before, ladder).empty, "measure has not begun"


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    rows = [
        row.model_copy(update={"arm": HOSTILE}) if row.arm == "mod" else row
        for row in study(budgets=(1e11,))
    ]
    arms = {"dense": None, HOSTILE: None, "_control": HOSTILE}
    rows = [
        row.model_copy(update={"arm": "_control"}) if row.arm == "mod-random" else row
        for row in rows
    ]
    made_with = manifest(arms).model_copy(
        update={"name": "<b>x", "command": "modsearch '</pre><script>'", "mixed": ["<i>"]}
    )
    page = compile_report(write(tmp_path, rows, made_with))
    text = page.read_text()
    for tag in ("<b>", "<i>"):
        assert tag not in text
    assert text.count("<script") == 1
    assert "&lt;script&gt;" in text
    markdown = (page.parent / "report.md").read_text().split("## Reproduce")[0]
    assert "<script" not in markdown
    assert "\\| \\`arm\\`" in markdown
    widths = {
        line.replace("\\|", "").count("|")
        for line in markdown.partition("## IsoFLOP")[2].split("minima.csv")[0].splitlines()
        if line.startswith("|")
    }
    assert len(widths) == 1
    for path in (page.parent / "figures").glob("*.svg"):
        ElementTree.parse(path)


def test_a_path_is_shortened_and_no_other_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a study whose folder is a word's last letter."""
    monkeypatch.chdir(tmp_path)
    text = "can't read s/trials/s/result.json: looks/like (pass/fail), see s/space.yaml"
    shorter = "can't read trials/s/result.json: looks/like (pass/fail), see space.yaml"
    assert _here(StudyDirectory(Path("s")), text) == shorter


def test_the_command_that_makes_a_study_again_names_engine_and_plugins() -> None:
    names = ["pl, a: b.py", "[x] 'é' \"#.py", "plain.py"]
    made_with = manifest().model_copy(
        update={
            "plugins": dict.fromkeys(names, "0" * 16),
            "engine": "ray",
            "command": "modsearch search x --out '--engine local'",
        }
    )
    words = shlex.split(_again(made_with))
    assert words[-2:] == ["--engine", "ray"]
    tree: dict[str, object] = {}
    override(tree, words[words.index("--set") + 1])
    assert tree == {"plugins": [f"plugins/{name}" for name in names]}
    assert "--engine" not in _again(manifest())


def test_missing_and_extreme_numbers_are_shown(tmp_path: Path) -> None:
    rows = [changed(row, step_seconds=1e-9) for row in study()]
    rows.append(trial(width=28, loss=float("inf"), name="infinite"))
    frame = display(trials(rows))
    assert not [cell for cell in frame.to_numpy().ravel() if cell in ("nan", "None", "NaN")]
    dense = frame[frame["arm"] == "dense"]
    assert set(dense["realised capacity"]) == {"\N{EN DASH}"}
    assert set(frame["budget"]) == {"1e11", "1e12"}


def test_compiles_without_torch_in_another_process_to_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path, study(budgets=(1e11,)))
    expected = tree(compile_report(tmp_path, tmp_path / "elsewhere").parent)
    code = (
        "import sys, pathlib\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'optuna', 'ray', 'lm_eval'):\n"
        "            raise ModuleNotFoundError(name + ' is blocked')\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from modsearch.reporting.page import compile_report\n"
        "compile_report(pathlib.Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "report") == expected


def scored(value: float, seed: int, *, mode: str = "causal") -> dict[str, Any]:
    """Results of a suite of two tasks, with what each of 40 items scored."""
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 1, 40)
    rows = hard + value + np.random.default_rng(seed).normal(0, 0.1, 40)
    right = [float(each > 0) for each in rows]
    facts = {"leading": "answer_margin", "higher_is_better": True, "accuracy": "acc"}
    samples = {
        "documents": "d",
        "values": {
            "answer_margin": text_of(rows.tolist()),
            "acc": text_of(right),
            "other": text_of(hard.tolist()),
        },
    }
    metrics = {
        "answer_margin,none": float(rows.mean()),
        "acc,none": float(np.mean(right)),
        "other,none": float(hard.mean()),
        "other_stderr,none": 0.1,
    }
    return {
        "results": {"one": metrics, "two": metrics},
        "tasks": {task: {**facts, "chance": 0.5} for task in ("one", "two")},
        "samples": {"one": samples, "two": samples},
        "config": {"mode": mode, "likelihood": mode == "causal"},
    }


@pytest.mark.usefixtures("no_figures")
def test_the_winners_are_compared_item_by_item(tmp_path: Path) -> None:
    rows = [named(row) for row in study(sd=0.004, seeds=3)]
    root = write(tmp_path / "one", rows)
    directory = StudyDirectory(root)
    for place, record in enumerate(row for row in rows if row.stage is Stage.CONFIRM):
        better = 0.5 if record.arm == "mod" else 0.0
        text = json.dumps(scored(better, place))
        write_text(directory.trial(record.hash) / "eval" / "two.json", text)
    page = compile_report(root)
    found = table(page, "evaluation_differences")
    assert [(row["task"], row["metric"]) for row in found] == [
        ("average", "centred accuracy"), ("average", "answer_margin"),
        ("one", "answer_margin"), ("two", "answer_margin"),
    ]  # fmt: skip
    for row in found[1:]:
        low, value, high = (float(row[f"difference{end}"]) for end in (" low", "", " high"))
        # Items scatter by 1, which the difference does not have.
        assert 0.3 < low < value < high < 0.7
        assert (row["arm"], row["against"], row["verdict"]) == ("mod", "dense", "better")
    means = [row for row in table(page, "evaluation_means") if row["suite"] == "two"]
    assert [row["role"] for row in means] == sorted(
        (row["role"] for row in means), key=("average", "leads", "").index
    )
    wide = [row for row in means if row["task"] == "one" and row["role"] == "leads"]
    assert all(float(row["mean high"]) - float(row["mean low"]) > 0.5 for row in wide)
    again = tmp_path / "packed.tar.xz"
    pack(directory, again)
    with unpacked(again) as folder:
        other = compile_report(folder, tmp_path / "other")
        assert table(other, "evaluation_differences") == found
        assert tree(other.parent) == tree(page.parent)
        kept = StudyDirectory(folder).evaluations(rows[-1].hash)["two"]["samples"]["one"]
        assert set(kept["values"]) == {"answer_margin", "acc"}


def test_a_top_k_score_is_marked_as_no_likelihood() -> None:
    results = {"a": {"two": scored(0.1, 0, mode="train")}}
    means = evaluation_means(evaluations([trial(Stage.CONFIRM, name="a")], results), results)
    assert all("top-k: no likelihood" in task for task in means["task"])
    causal = {"a": {"two": scored(0.1, 0)}}
    means = evaluation_means(evaluations([trial(Stage.CONFIRM, name="a")], causal), causal)
    assert not any("top-k" in task for task in means["task"])


def test_a_trial_says_its_tokens_and_flops_a_second() -> None:
    record = trial(Stage.MEASURE, name="a")
    assert record.plan is not None
    assert record.scores is not None
    scores = record.scores.model_copy(update={"step_seconds": 0.02})
    [row] = trials([record.model_copy(update={"scores": scores})]).to_dict("records")
    assert row["tokens/s"] == pytest.approx(record.plan.tokens / record.plan.steps / 0.02)
    assert row["GFLOP/s"] == pytest.approx(record.plan.flops_per_step / 0.02 / 1e9)
    [untimed] = trials([record.model_copy(update={"scores": None})]).to_dict("records")
    assert pd.isna(untimed["tokens/s"])


def test_where_the_time_of_trials_went_is_told_where_they_noted_it() -> None:
    record = trial(Stage.MEASURE, name="a")
    assert record.scores is not None
    assert times([record]).empty
    seconds = {"data": 1.0, "forward": 2.0, "backward": 4.0, "optimizer": 1.0, "evaluation": 2.0}
    scores = record.scores.model_copy(update={"phase_seconds": seconds, "step_seconds": 0.02})
    [row] = times([record, record.model_copy(update={"scores": scores})]).to_dict("records")
    assert row["trials"] == 1
    assert row["backward share"] == pytest.approx(0.4)
    assert sum(row[f"{name} share"] for name in seconds) == pytest.approx(1)
    assert pd.isna(row["MFU, exact"]), "older records have none"
    used = Efficiency(
        tokens_per_second=1.0, flops_per_second=2e9, flops_per_second_6nd=1e9,
        peak=Peak(flops=4e9, source="measured", device="1 thread"), mfu=0.5, mfu_6nd=0.25,
    )  # fmt: skip
    told = record.model_copy(update={"scores": scores.model_copy(update={"efficiency": used})})
    [row] = times([told]).to_dict("records")
    assert (row["MFU, exact"], row["MFU, 6ND"], row["peak GFLOP/s"]) == (0.5, 0.25, 4)
