"""The command line: a user's mistake is two lines at most, and what the verbs print."""

import fcntl
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import named, write
from worlds import manifest, study, trial

from modsearch import __version__
from modsearch.cli.app import main
from modsearch.config.manifest import Manifest
from modsearch.config.records import Stage, State
from modsearch.config.runtime import Runtime
from modsearch.data.corpus import load_corpus
from modsearch.nn.generate import generate
from modsearch.nn.model import Decoder
from modsearch.nn.sampling import Sampling
from modsearch.planning.flops import ledger
from modsearch.registry import table as components
from modsearch.space.candidates import load_candidate
from modsearch.store.directory import StudyDirectory
from modsearch.training.checkpoint import load_model, save_model
from modsearch.training.trial import run_trial, single_job

ROOT = Path(__file__).parents[2]
HELP_SECONDS = 0.5
CONFIG = """
model: {depth: 2, width: 8, num_heads: 1, seq_len: 16, block: mod, capacity: 0.25}
optim: {batch_size: 2, min_steps: 10}
data: {corpus: CORPUS}
"""
SPACE = """
name: tiny
data: {corpus: CORPUS}
fixed: {model: {num_heads: 1, seq_len: 16}, optim: {min_steps: 10, max_epochs: 99}}
axes: {optim: {rate: {choice: [0.005, 0.01, 0.02]}}}
arms:
  dense: {model: {block: dense}}
  mod: {model: {block: mod, router: {choice: [random, expert_choice]}}}
  random: {control_of: mod, model: {router: random}}
explore: {budgets: [2e8], size: {depth: 2, width: 8}}
measure: {ladder: [{budget: 2e8, depth: 2, widths: [8, 12]}, {budget: 4e8, depth: 2, widths: [8]}]}
confirm: {budgets: [4e8], seeds: 4, windows: 16}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(200):
        (folder / f"{number}.txt").write_text(f"{number} " + f"some text of {number}\n" * 20)
    return folder


@pytest.fixture
def config(tmp_path: Path, corpus: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.replace("CORPUS", str(corpus)))
    return path


@pytest.fixture
def space(tmp_path: Path, corpus: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.replace("CORPUS", str(corpus)))
    return path


def process(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "modsearch.cli", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


# --- help


def test_help_answers_at_once() -> None:
    """The best of some tries, since a busy machine is no fault of ours."""
    seconds = []
    while len(seconds) < 3 or (min(seconds) >= HELP_SECONDS and len(seconds) < 10):
        started = time.perf_counter()
        done = process("--help")
        seconds.append(time.perf_counter() - started)
        assert done.returncode == 0, done.stderr
        assert "search" in done.stdout
    assert min(seconds) < HELP_SECONDS, f"--help takes {min(seconds):.2f} s: what is imported?"


@pytest.mark.parametrize(
    "verb",
    [
        "components",
        "flops",
        "plan",
        "train",
        "search",
        "status",
        "best",
        "eval",
        "report",
        "pack",
        "predict",
        "time",
    ],
)
def test_every_verb_has_help(modsearch, verb: str) -> None:
    done = modsearch(verb, "--help")
    assert done.code == 0
    assert f"{verb} [OPTIONS]" in done.out
    assert verb in modsearch("--help").out


def test_version(modsearch) -> None:
    done = modsearch("--version")
    assert (done.code, done.out) == (0, f"modsearch {__version__}\n")


# --- mistakes


def test_a_mistake_ends_a_process_with_code_2_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {router: expert_choise}\n")
    done = process("flops", "config.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first == (
        "error: config.yaml: model: unknown router `expert_choise`; did you mean `expert_choice`?"
    )
    assert second.startswith("known: ")


def test_a_misspelled_router_is_told(refused, config: Path, space: Path) -> None:
    right = "did you mean `expert_choice`?"
    assert right in refused("flops", config, "--set", "model.router=expert_choise")
    assert right in refused("plan", space, "--set", "arms.mod.model.router=expert_choise")
    assert right in refused("search", space, "--set", "arms.mod.model.router=expert_choise")
    assert right in refused("train", config, "--flops", 1e8, "--set", "model.router=expert_choise")


def test_a_missing_file_is_told(refused, tmp_path: Path) -> None:
    for verb in (["flops"], ["plan"], ["search"], ["train", "--flops", "1e9"]):
        assert "no file" in refused(*verb, tmp_path / "none.yaml")
    assert "did you mean `quickstart`?" in refused("plan", "quickstrat")
    assert "did you mean `quickstart`?" in refused("search", "quickstrat")


@pytest.mark.parametrize(
    "arguments",
    [
        ["bst"],
        ["plan"],
        ["plan", "x" * 5000],
        ["x" * 5000],
        ["best", "somewhere", "--budget", "much"],
        ["search", "quickstart", "--workers", "1000000000"],
        ["train", "x.yaml", "--flops", "1e9", "--seed", str(2**64)],
        ["generate", "x", "--prompt", "a", "--tokens", "1e30"],
        ["plan", "quickstart", "--nosuch", "y" * 5000],
    ],
    ids=lambda arguments: " ".join(arguments)[:30],
)
def test_a_command_line_that_is_wrong_is_told_in_two_lines(refused, arguments: list[str]) -> None:
    assert len(refused(*arguments)) <= 600


@pytest.mark.parametrize("flops", ["-1", "0", "inf", "nan", "-inf", "1e300"])
def test_a_budget_that_is_no_positive_number_is_told(refused, config: Path, flops: str) -> None:
    assert "--flops must be over 0" in refused("train", config, "--flops", flops)


@pytest.mark.parametrize("flops", ["0", "-1", "inf", "nan"])
def test_a_budget_of_best_that_is_no_positive_number_is_told(
    refused, tmp_path: Path, flops: str
) -> None:
    write(tmp_path, [])
    assert "--budget must be over 0" in refused("best", tmp_path, "--budget", flops)


@pytest.mark.parametrize("name", [".", "..", "...", "-x", "--out"])
def test_a_study_is_never_written_outside_of_a_folder_of_its_own(
    refused, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.parent.rglob("*"))
    assert "name" in refused("search", space, "--set", f"name='{name}'")
    assert set(tmp_path.parent.rglob("*")) == before


@pytest.fixture
def without_torch(tmp_path: Path) -> Iterator[None]:
    """As in a new process in which torch can't be imported."""

    class Absent:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] in ("torch", "optuna", "ray", "lm_eval", "matplotlib"):
                raise ModuleNotFoundError(f"{name} is blocked")

    blocked = ("modsearch", "torch", "optuna", "ray", "lm_eval", "matplotlib")
    kept = {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in blocked
    }
    for name in kept:
        del sys.modules[name]
    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]
    try:
        yield
    finally:
        del sys.meta_path[0]
        for name in [name for name in sys.modules if name.partition(".")[0] in blocked]:
            del sys.modules[name]
        sys.modules.update(kept)


def test_looking_and_mistakes_need_no_torch(
    without_torch: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    space: Path,
    config: Path,
    tmp_path: Path,
) -> None:
    study = finished_study(tmp_path / "study")

    def said(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["modsearch", *map(str, arguments)])
        with pytest.raises(SystemExit):
            importlib.import_module("modsearch.cli.app").main()
        out, err = capfd.readouterr()
        return out + err

    assert "confirm" in said("status", study)
    assert "name: mod" in said("best", study)
    assert "expert_choice" in said("components")
    assert "No such command" in said("serach", "quickstart")
    assert "no study in" in said("status", tmp_path / "nowhere")
    nowhere = tmp_path / "nowhere"
    for verb in (["plan"], ["search"], ["flops"], ["train", "--flops", "1e9"]):
        assert "no file" in said(*verb, nowhere / "x.yaml"), verb
    exported = ["export", nowhere, "--out", tmp_path / "out"]
    for verb in (["eval", nowhere], ["generate", nowhere, "--prompt", "x"], exported):
        assert "no folder" in said(*verb), verb
    assert "did you mean `quickstart`?" in said("plan", "quickstrat")
    assert "did you mean `explore`?" in said("search", space, "--set", "explor={}")
    with (study / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another driver runs" in said("search", space, "--out", study)


def finished_study(root: Path) -> Path:
    """Made up: one measured trial."""
    directory = StudyDirectory(root)
    directory.write_manifest(manifest())
    directory.write_record(named(trial(arm="mod")))
    directory.space.write_text(
        "name: made-up\narms: {mod: {}}\n"
        "measure: {ladder: [{budget: 1e11, depth: 2, widths: [32]}]}\n"
        "confirm: {budgets: [1e11]}\n"
    )
    return root


@pytest.mark.parametrize("budgets", ["[-1]", "[0]", "[.inf]", "[]", "5e10", "[x]"])
def test_budgets_of_a_space_are_checked(refused, space: Path, budgets: str) -> None:
    message = refused("plan", space, "--set", f"explore.budgets={budgets}")
    assert "explore.budgets" in message


def test_a_budget_that_does_not_fit_is_told(refused, config: Path, tmp_path: Path) -> None:
    small = refused("train", config, "--flops", 1e6, "--out", tmp_path / "out")
    assert "fewer than min_steps = 10" in small
    assert "epochs" in refused("train", config, "--flops", 1e12, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_keys_are_told(refused, config: Path, space: Path) -> None:
    assert "did you mean `width`?" in refused("flops", config, "--set", "model.widht=3")
    assert "did you mean `explore`?" in refused("plan", space, "--set", "explor={}")
    assert "did you mean `rate`?" in refused("plan", space, "--set", "fixed.optim.rat=1")


@pytest.mark.parametrize("override", ["x", "=1", "model.width=[1", "model.width.x=1", "model=1"])
def test_malformed_overrides_are_told(refused, config: Path, override: str) -> None:
    refused("flops", config, "--set", override)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: b: c", "\0", "model: {1: 2}", "model: 3"])
def test_broken_files_are_told(refused, tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert "broken.yaml" in refused("flops", path)
    if not text.startswith("model"):
        assert "broken.yaml" in refused("plan", path)


def test_a_directory_without_a_study_is_told(refused, tmp_path: Path) -> None:
    for verb in ("status", "best", "report"):
        assert "no study in" in refused(verb, tmp_path)
        assert "no study in" in refused(verb, tmp_path / "nowhere")
    assert "no checkpoint in" in refused("eval", tmp_path)


def test_a_report_follows_a_recipe(modsearch, refused, tmp_path: Path) -> None:
    root = write(tmp_path / "study", study(seeds=1))
    own = tmp_path / "own.yaml"
    own.write_text("title: facts\nsections: [corpus]\n")
    assert modsearch("report", root, "--recipe", own).code == 0
    assert "synthetic: facts" in (root / "report" / "report.md").read_text()
    assert "did you mean `raposo2024`?" in refused("report", root, "--recipe", "raposo")
    own.write_text("sections: [corpse]\n")
    assert "did you mean `corpus`?" in refused("report", root, "--recipe", own)
    own.write_text("sections: [corpus]\narms: [mode]\n")
    assert "did you mean `mod`?" in refused("report", root, "--recipe", own)


def test_an_unknown_suite_is_told(refused, config: Path, space: Path, tmp_path: Path) -> None:
    save_model(Decoder(load_candidate(config, []).model), tmp_path)
    assert "did you mean `quick`?" in refused("eval", tmp_path, "--suite", "quik")
    out = tmp_path / "out"
    for verb in (["plan", space], ["search", space, "--out", out]):
        assert "did you mean `quick`?" in refused(*verb, "--set", "suite=quik")
    assert not out.exists()


def test_an_unknown_stage_is_told(refused, space: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "explore, measure, confirm" in refused("search", space, "--stage", "x", "--out", out)
    assert not out.exists()


def test_a_missing_corpus_is_told(refused, config: Path, space: Path, tmp_path: Path) -> None:
    nowhere = ("--set", f"data.corpus={tmp_path}/nowhere")
    for verb in (["train", config, "--flops", 1e8], ["plan", space]):
        assert "no text at" in refused(*verb, *nowhere)


def test_an_output_that_is_a_file_is_told(refused, config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = refused("train", config, "--flops", 2e7, "--out", tmp_path / "file")
    assert "can't write" in message


# --- what is printed


def test_components_are_all_listed(modsearch) -> None:
    done = modsearch("components")
    assert done.code == 0
    listed = [tuple(line.split()) for line in done.out.splitlines()]
    tables = {
        "router": components.ROUTERS,
        "block": components.BLOCKS,
        "ffn": components.FFNS,
        "schedule": components.SCHEDULES,
        "optimizer": components.OPTIMIZERS,
        "rate_schedule": components.RATE_SCHEDULES,
    }
    for kind, table in tables.items():
        for name, origin in table.items():
            assert any(row[:2] == (kind, name) and origin in row for row in listed), (kind, name)


def test_flops_are_those_of_the_ledger(modsearch, config: Path) -> None:
    printed = json.loads(modsearch("flops", config, "--json").out)
    candidate = load_candidate(config, [])
    assert printed == ledger(candidate).model_dump()
    cost = Decoder(candidate.model).cost(16)
    assert printed["forward"] == cost.forward.total / 16
    assert printed["training_step"] == 2 * cost.training.total
    assert printed["routed_layers"] == [1]
    total = sum(row["forward"] for row in printed["parts"].values())
    assert total == pytest.approx(printed["forward"])
    shares = sum(row["share_of_forward"] for row in printed["parts"].values())
    assert shares == pytest.approx(1)
    text = modsearch("flops", config).out
    assert f"{printed['training_step']:,} FLOPs" in text
    assert f"{printed['params']:,}" in text


def test_an_override_changes_the_ledger(modsearch, config: Path) -> None:
    whole, routed = (
        json.loads(modsearch("flops", config, "--json", "--set", f"model.block={block}").out)
        for block in ("dense", "mod")
    )
    assert whole["routed_layers"] == []
    assert whole["forward"] > routed["forward"]
    assert whole["parts"]["router"]["forward"] == 0 < routed["parts"]["router"]["forward"]


@pytest.mark.usefixtures("briefly")
def test_a_plan_counts_cells_and_trains_nothing(
    modsearch, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    result = json.loads(modsearch("plan", space, "--json").out)
    assert set(tmp_path.rglob("*")) == before
    cells = {(c["stage"], c["arm"], c["budget"]): c["trials"] for c in result["cells"]}
    assert cells == {
        ("explore", "dense", 2e8): 3,
        ("explore", "mod", 2e8): 6,
        ("measure", "dense", 2e8): 2,
        ("measure", "mod", 2e8): 2,
        ("measure", "dense", 4e8): 1,
        ("measure", "mod", 4e8): 1,
        ("confirm", "dense", 4e8): 4,
        ("confirm", "mod", 4e8): 4,
        ("confirm", "random", 4e8): 4,
    }
    assert result["trials"] == sum(cells.values())
    assert result["flops"] == pytest.approx(
        sum(trials * budget for (_, _, budget), trials in cells.items())
    )
    assert result["confirm_runs"] == 4
    assert [each["effect"] for each in result["chances"]] == [0.0, 0.035]
    assert all(each["runs"] == 4 for each in result["chances"])
    assert result["worker_seconds"] > 0


@pytest.mark.usefixtures("briefly")
def test_the_plan_of_the_quickstart_is_printed(
    modsearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = modsearch("plan", "quickstart")
    assert done.code == 0
    found = {tuple(line.split()[:2]) for line in done.out.splitlines() if line}
    cells = {(stage, arm) for stage in ("explore", "measure") for arm in ("dense", "mod")}
    cells |= {("confirm", arm) for arm in ("dense", "mod", "mod-random")}
    assert cells <= found
    assert re.search(r"^[\d.]+ (s|min|h) on one worker", done.out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("briefly")
def test_what_a_plan_rejects_is_said(modsearch, space: Path) -> None:
    done = modsearch("plan", space, "--set", "fixed.optim.min_steps=5000")
    assert done.code == 0
    assert "fewer than min_steps = 5000" in done.out
    assert "none" in done.out


def test_training_twice_gives_the_same_result(modsearch, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, second = (modsearch("train", config, "--flops", 2e7, "--out", out) for _ in range(2))
    assert first.code == second.code == 0, first.err
    one, two = json.loads(first.out), json.loads(second.out)
    assert one == two, "a finished training was repeated"
    assert sum("loss" in key for key in one["scores"]) == 4
    [record] = StudyDirectory(out).records()
    assert record.hash == one["hash"]
    assert str(out / "trials" / record.hash) in second.err
    assert abs(record.plan.flops - 2e7) <= 2e5
    other = modsearch("train", config, "--flops", 2e7, "--out", out, "--seed", 1)
    assert json.loads(other.out)["scores"]["causal_loss"] != one["scores"]["causal_loss"]
    assert len(StudyDirectory(out).records()) == 2


def test_a_training_that_diverges_is_told(refused, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("train", config, "--flops", 2e7, "--out", out, "--set", "optim.rate=1e6")
    arguments += ("--progress", "none")
    assert "diverged: the loss is" in refused(*arguments)


def test_a_study_that_was_cut_off_is_shown(
    modsearch, refused, space: Path, config: Path, tmp_path: Path
) -> None:
    """Of the study only its space and manifest are there, as after a kill at its start."""
    out = tmp_path / "study"
    for stage, missing in (("measure", "explore"), ("confirm", "measure")):
        message = refused("search", space, "--out", out, "--stage", stage)
        assert f"stage `{missing}`" in message.replace("the stage", "stage")
    shown = modsearch("status", out)
    assert shown.code == 0, shown.err
    assert "0/6" in shown.out
    cells = json.loads(modsearch("status", out, "--json").out)["cells"]
    assert all(cell["states"] == {} for cell in cells)
    assert "no finished candidate" in refused("best", out)
    assert "no confirmed trials" in refused("eval", out)
    changed = refused("search", space, "--out", out, "--set", "explore.windows=3")
    assert "made with `explore.windows` 64, not 3: a study may grow, not change" in changed
    (out / "manifest.json").write_text("{")
    for verb in ("status", "best", "report"):
        assert "can't read" in refused(verb, out)


# --- scoring and sampling

TASK = """
  task: text
  dataset_path: modsearch:excerpts
  dataset_kwargs: {num: 2, size: 100}
  test_split: held_out
  output_type: loglikelihood_rolling
  doc_to_text: ""
  doc_to_target: text
  metric_list: [{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A folder with a suite and a study of one confirmed trial, on the corpus `texts` in it."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(corpus, folder / "texts")
    (folder / "file.yaml").write_text(f"name: inside\ndescription: ''\ntasks:\n- {TASK.strip()}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "config.yaml").write_text(CONFIG.replace("CORPUS", "texts"))
        candidate = load_candidate(folder / "config.yaml", [])
        job = single_job(candidate, 2e7, 0, ()).model_copy(update={"stage": Stage.CONFIRM})
        assert run_trial(folder / "study", job).state is State.COMPLETE
        StudyDirectory(folder / "study").write_manifest(
            Manifest(
                name="study",
                seed=0,
                arms={"mod": None},
                runtime=Runtime(),
                corpus=load_corpus(candidate.data).facts,
                code="",
                revision="",
                versions={},
                machine={},
                command="",
            )
        )
    return folder


@pytest.fixture
def scored(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "scored"))


def test_results_are_where_eval_says(
    modsearch, scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scored)
    done = modsearch("eval", "study", "--suite", "file.yaml")
    assert done.code == 0, done.err
    pattern = done.out.splitlines()[-1].removeprefix("results: ").strip()
    assert [path.name for path in scored.glob(pattern)] == ["inside.json"]


def test_scoring_is_refused_on_other_text(
    modsearch, refused, scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [trial] = (scored / "study" / "trials").iterdir()
    suite = scored / "file.yaml"
    shutil.copytree(scored / "texts", scored / "elsewhere" / "texts")
    (scored / "elsewhere" / "texts" / "0.txt").write_text("another text")
    monkeypatch.chdir(scored / "elsewhere")
    for target in (scored / "study", trial):
        message = refused("eval", target, "--suite", suite)
        assert "the text of corpus `texts` is not what it was trained on" in message
        assert refused("eval", target, "--suite", suite, "--corpus", "").startswith(
            "error: --corpus: must name"
        )
    assert not (trial / "eval").exists()
    assert "is not what it" in refused("eval", scored / "study", "--suite", suite, "--corpus", ".")
    for target in (scored / "study", trial):
        done = modsearch("eval", target, "--suite", suite, "--corpus", scored / "texts")
        assert done.code == 0, done.err
    assert (trial / "eval" / "inside.json").is_file()
    # A checkpoint may be scored on any text that is named.
    assert modsearch("eval", trial, "--suite", suite, "--corpus", "texts").code == 0


@pytest.mark.parametrize("suite", [".", "./", "", "nosuch.yaml", "empty.yaml", "list.yaml"])
def test_a_suite_that_is_none_is_told(refused, trained: Path, tmp_path: Path, suite: str) -> None:
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "list.yaml").write_text("[1, 2]")
    name = str(tmp_path / suite) if suite.endswith(".yaml") else suite
    refused("eval", trained / "study", "--suite", name)


def test_a_space_with_a_broken_suite_is_refused_before_anything_runs(
    refused, space: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "broken.yaml"
    suite.write_text("name: x\ndescription: ''\ntasks: [{task: a, limit: 0}]\n")
    out = tmp_path / "study"
    for verb in (["plan"], ["search", "--out", out]):
        assert "broken.yaml: tasks.0.limit" in refused(*verb, space, "--set", f"suite={suite}")
    assert not out.exists()


BYTES = os.fsdecode(b"caf\xe9")


def test_a_prompt_may_have_any_bytes(modsearch, trained: Path) -> None:
    [trial] = (trained / "study" / "trials").iterdir()
    arguments = ("generate", trial, "--tokens", 1, "--temperature", 0, "--json")
    done = modsearch(*arguments, "--prompt", BYTES, f"--prompt={BYTES}", "--prompt", "caf\ufffd")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    model = load_model(trial / "checkpoint")
    direct = generate(model, [list(b"caf\xe9")], 1, Sampling(temperature=0)).tokens[0]
    assert found["tokens"][:2] == [direct, direct]
    assert all(text.startswith("caf\ufffd") for text in found["texts"])


def test_what_a_terminal_can_not_show_is_written_out(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [trial] = (trained / "study" / "trials").iterdir()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    command = ["generate", str(trial), "--tokens", "1", "--prompt", BYTES]
    monkeypatch.setattr(sys, "argv", ["modsearch", *command])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    stream.flush()
    assert stream.buffer.getvalue().startswith(rb"caf\ufffd")  # type: ignore[attr-defined]


VERBS = [
    "flops",
    "plan",
    "train",
    "search",
    "status",
    "best",
    "eval",
    "report",
    "generate",
    "export",
    "predict",
    "time",
]


@pytest.mark.parametrize("verb", VERBS)
def test_other_arguments_are_utf_8(refused, verb: str) -> None:
    assert r'argument "caf\xe9" is not UTF-8' in refused(verb, BYTES)
    for option in ("--out", "--set", "--suite", "--corpus", "--plugin", "--ledger", "--unknown"):
        assert r"caf\xe9" in refused(verb, "x", option, BYTES)
        assert r"caf\xe9" in refused(verb, "x", f"{option}={BYTES}")
