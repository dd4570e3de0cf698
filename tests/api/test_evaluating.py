"""What `eval` says, and mistakes that are told before anything heavy is imported."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commands import Done
from inline import CORPUS
from tiny import PICK, SUITE

import modsearch as library
from modsearch.analysis.scores import Contender, scoreboard
from modsearch.api.planning import _noise
from modsearch.config.answers import Evaluation
from modsearch.config.evaluation import Objective
from modsearch.config.model import ModelConfig
from modsearch.nn.model import Decoder
from modsearch.training.checkpoint import save_model

MISTAKES = (
    ("no folder", ("eval", "nowhere")),
    ("no checkpoint in empty", ("eval", "empty")),
    ("resources.keep", ("eval", "lost")),
    ("unknown suite", ("eval", "bare", "--suite", "quik")),
    ("a name alone", ("eval", "bare", "--suite", "undefined.yaml")),
    ("no text at", ("eval", "bare", "--suite", "bytes", "--corpus", "none.txt")),
    ("--corpus", ("eval", "hf:none/such")),
    ("data_dir", ("eval", "bare", "--suite", "grammar", "--data-dir", "nowhere")),
    ("no study in", ("eval", "bare", "--study", "nowhere")),
    ("unknown dtype", ("eval", "bare", "--dtype", "fp8")),
    ("needs two models", ("compare", "bare")),
    ("is named twice", ("compare", "bare", "bare")),
    ("unknown suite", ("compare", "bare", "lost", "--suite", "quik")),
    ("has no weights", ("compare", "bare", "lost", "--corpus", "stdlib", "--suite", "plain.yaml")),
    ("no checkpoint in empty", ("generate", "empty", "--prompt", "a")),
    ("resources.keep", ("generate", "lost", "--prompt", "a")),
    ("temperature", ("generate", "bare", "--prompt", "a", "--temperature=-1")),
    ("resources.keep", ("export", "lost", "--out", "out")),
    ("there is something in", ("export", "bare", "--out", "lost")),
)
CODE = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lm_eval", "transformers"):
            raise ModuleNotFoundError(f"{name} is blocked")
sys.meta_path.insert(0, Absent())
from modsearch.cli.app import main
for argv in json.loads(sys.argv[1]):
    sys.argv[1:] = argv
    try:
        main()
    except SystemExit as error:
        print("code", error.code, file=sys.stderr)
"""


def test_mistakes_are_told_without_torch_and_lm_eval(tmp_path: Path) -> None:
    for name in ("empty", "lost", "bare"):
        (tmp_path / name).mkdir()
    (tmp_path / "lost" / "result.json").write_text("{}")
    for name in ("model.safetensors", "model.json"):
        (tmp_path / "bare" / name).write_text("{}")
    undefined = {"name": "undefined", "description": "x", "tasks": ["nowhere_task"]}
    (tmp_path / "undefined.yaml").write_text(yaml.safe_dump(undefined))
    definition = {"task": "plain", "dataset_path": "nowhere", "output_type": "loglikelihood"}
    plain = {"name": "plain", "description": "x", "tasks": [definition]}
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([argv for _, argv in MISTAKES])],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = done.stderr.split("code 2\n")
    assert len(told) == len(MISTAKES) + 1, done.stderr
    for (expected, argv), message in zip(MISTAKES, told, strict=False):
        assert expected in message, f"{argv}: {message}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shape = ModelConfig(depth=1, width=8, num_heads=1, seq_len=48, vocab_size=256)
    save_model(Decoder(shape), tmp_path / "model")
    rows = [{"question": f"{a}, then", "values": [" b", " cx"], "right": 0} for a in "abcd"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = {**SUITE, "tasks": [*SUITE["tasks"], {**PICK, "note": "Few."}]}  # type: ignore[misc]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(suite))
    return tmp_path / "model"


def test_eval_prints_a_short_table(model: Path, modsearch: Callable[..., Done]) -> None:
    suite = model.parent / "tiny.yaml"
    argv = ("eval", model, "--suite", suite, "--corpus", CORPUS)
    done = modsearch(*argv)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    [text] = [line.split() for line in lines if line.startswith("text ")]
    [margin] = [line.split() for line in lines if "answer_margin" in line]
    [accuracy] = [line.split() for line in lines if " acc " in line]
    found = Evaluation.model_validate_json(modsearch(*argv, "--json").out)
    results = found.results[str(model)]
    scores = {(each.task, each.metric): each for each in found.scores}
    bits = scores["text", "bits_per_byte"]
    assert bits.value == pytest.approx(results["text"]["bits_per_byte,none"], rel=1e-3)
    assert bits.se == pytest.approx(results["text"]["bits_per_byte_stderr,none"], rel=1e-2)
    assert text[-3:] == [f"{bits.value:.4f}", "\N{PLUS-MINUS SIGN}", f"{bits.se:.4f}"]
    assert text[-4] == "\N{EN DASH}", "guessing has no bits per byte"
    assert margin[-4] == "0", "of equal choices"
    assert accuracy[-4] == "0.5"
    assert "note: pick: Few." in lines
    assert "{" not in done.out


def test_a_score_that_is_no_mean_over_documents_is_told_as_lm_eval_has_it() -> None:
    facts = {"leading": "f1", "higher_is_better": True}
    metrics = {"f1,none": 0.25, "f1_stderr,none": 0.1}
    one = {"results": {"t": metrics}, "tasks": {"t": facts}}
    tasks, [score], notes = scoreboard([Contender("a", [one])])
    assert [task.chance for task in tasks] == [None]
    assert (score.value, score.se, score.low) == (0.25, 0.1, None)
    assert notes == []
    _, [score], _ = scoreboard([Contender("a", [one, one])])
    assert (score.value, score.se) == (0.25, None)


def test_a_document_without_wrong_answers_has_no_margin_and_the_others_keep_theirs(
    model: Path, modsearch: Callable[..., Done]
) -> None:
    rows = model.parent / "rows.jsonl"
    alone = {"question": "x, then", "values": [" b"], "right": 0}
    argv = ("eval", model, "--suite", model.parent / "tiny.yaml", "--corpus", CORPUS)
    before = Evaluation.model_validate_json(modsearch(*argv, "--json").out)
    rows.write_text(json.dumps(alone) + "\n" + rows.read_text())
    found = Evaluation.model_validate_json(modsearch(*argv, "--json").out)
    margins = [each.results[str(model)]["pick"]["answer_margin,none"] for each in (before, found)]
    assert margins[1] == pytest.approx(margins[0])
    counts = {task.metric: task.documents for task in found.tasks if task.task == "pick"}
    assert counts == {"answer_margin": 4, "acc": 5}
    note = "note: pick: 1 document has no answer_margin, and no part in its mean"
    assert note in modsearch(*argv).out
    assert note in modsearch("compare", model, _moved(model), *argv[2:]).out
    rows.write_text(json.dumps(alone) + "\n")
    assert "answer_margin" not in modsearch(*argv).out, "where none has one there is none"


def _moved(model: Path) -> Path:
    return Path(shutil.copytree(model, model.parent / "other"))


def test_a_checkpoint_without_a_text_is_scored_on_what_needs_none(model: Path) -> None:
    shipped = Path(library.__file__).parent.parent / "evals" / "grammar.yaml"
    with pytest.raises(library.ModsearchError, match="hub"):
        library.evaluate(model, str(shipped))  # and not: name a --corpus


def test_a_plan_says_how_noisy_the_objective_is(model: Path) -> None:
    def note(metric: str, task: str | None = None, name: str = "tiny.yaml") -> str:
        objective = Objective(suite=str(model.parent / name), metric=metric, task=task)
        return _noise(objective)

    assert "over 4 documents an accuracy has a standard error of up to 0.25" in note("acc", "pick")
    assert "8 documents; `eval` says" in note("answer_margin")
    limited = yaml.safe_load((model.parent / "tiny.yaml").read_text())
    limited["tasks"][1]["limit"] = 1
    (model.parent / "limited.yaml").write_text(yaml.safe_dump(limited))
    assert "over 1 document an" in note("acc", "pick", "limited.yaml")
    loose = {"name": "loose", "description": "x", "include": ["blimp"], "tasks": ["blimp"]}
    (model.parent / "loose.yaml").write_text(yaml.safe_dump(loose))
    assert "is not known before" in note("acc", name="loose.yaml")
