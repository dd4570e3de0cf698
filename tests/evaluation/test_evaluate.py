"""Scores by lm-eval: the adapter against a direct computation, the suites, the command line."""

import json
import math
import os
import random
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from tiny import PICK, SUITE

import modsearch
from modsearch.config.data import DataConfig, Validation
from modsearch.config.manifest import Manifest
from modsearch.config.model import ModelConfig
from modsearch.config.records import Budget, Candidate, Record, Stage, State
from modsearch.config.runtime import Runtime
from modsearch.data.batches import Batches
from modsearch.data.corpus import load_corpus
from modsearch.errors import ConfigError, DataError, ModsearchError, StudyError, told
from modsearch.evaluation.documents import SOURCES, Origin
from modsearch.evaluation.evaluate import (
    evaluate,
    evaluate_checkpoint,
    evaluate_winners,
)
from modsearch.evaluation.lm import ModsearchLM
from modsearch.evaluation.models import LanguageModel
from modsearch.evaluation.suites import load_suite
from modsearch.nn.model import Decoder
from modsearch.store.directory import StudyDirectory
from modsearch.training.checkpoint import save_model

ROOT = Path(__file__).parents[2]
SUITES = sorted(path.stem for path in (ROOT / "evals").glob("*.yaml"))
DENSE = ModelConfig(depth=2, width=32, seq_len=64)
ROUTED = DENSE.model_copy(update={"block": DENSE.block.model_copy(update={"name": "mod"})})


@pytest.fixture(scope="module")
def data() -> DataConfig:
    """A part of the standard library."""
    return DataConfig(corpus=f"{sysconfig.get_paths()['stdlib']}/*.py")


def decoder(config: ModelConfig, seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(config)


def request(kind: str, *arguments: object) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def loglikelihood(lm: ModsearchLM, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
    requests = [request("loglikelihood", *pair) for pair in pairs]
    return lm.loglikelihood(requests, disable_tqdm=True)


@torch.no_grad()
def direct(model: LanguageModel, tokens: list[int], num_scored: int) -> float:
    """Sum of the log-softmax of the last tokens, each after all that stand before it."""
    logits_TV = model.logits(torch.tensor([tokens[:-1]]), "causal")[0]
    output = logits_TV.double().log_softmax(-1)
    positions = range(len(tokens) - 1 - num_scored, len(tokens) - 1)
    return sum(output[p, tokens[p + 1]].item() for p in positions)


TEXTS = [
    ("def f(", "x):\n"),
    ("", "import os"),
    ("a " * 15, "é"),
    ("  \n", "x = 1"),
    ("q", "r" * 40),
]


@pytest.mark.parametrize("config", [DENSE, ROUTED], ids=["dense", "mod"])
def test_loglikelihood_is_the_sum_of_log_softmax(config: ModelConfig) -> None:
    model = decoder(config).eval()
    found = loglikelihood(ModsearchLM(model), TEXTS)
    for (context, continuation), (score, _) in zip(TEXTS, found, strict=True):
        # lm-eval moves white space at the end of a context into the continuation.
        scored = len((context[len(context.rstrip()) :] + continuation).encode())
        before = [] if context.strip() else [0]
        tokens = before + list((context + continuation).encode())
        assert score == pytest.approx(direct(model, tokens, scored), abs=1e-4)


def test_a_model_without_numbers_has_no_accuracy() -> None:
    model = decoder(DENSE)
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    lm = ModsearchLM(model)
    with pytest.raises(DataError, match="logits are no numbers in float32"):
        loglikelihood(lm, TEXTS)
    with pytest.raises(DataError, match="logits are no numbers"):
        lm.loglikelihood_rolling([request("loglikelihood_rolling", "a text")])


def test_a_long_context_is_cut_from_the_left() -> None:
    model = decoder(DENSE).eval()
    context, continuation = "lorem ipsum, " * 20, "dolor"
    [(score, _)] = loglikelihood(ModsearchLM(model), [(context, continuation)])
    tokens = list((context + continuation).encode())[-DENSE.seq_len - 1 :]
    # The space at the end of the context is scored too.
    assert score == pytest.approx(direct(model, tokens, 6), abs=1e-4)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_rolling_scores_every_token_once(size: int) -> None:
    model = decoder(DENSE).eval()
    text = "".join(random.Random(0).choices("abcde \n", k=size))
    [score] = ModsearchLM(model).loglikelihood_rolling([request("loglikelihood_rolling", text)])
    tokens, T = [0, *text.encode()], DENSE.seq_len
    expected, done = 0.0, 0
    while done < size:
        num = min(T, size - done)
        end = done + num + 1
        expected += direct(model, tokens[max(0, end - T - 1) : end], num)
        done += num
    assert score == pytest.approx(expected, abs=1e-3)
    if size > T:
        # A continuation that is too long for the model is scored in the same windows.
        [(again, _)] = loglikelihood(ModsearchLM(model), [("", text)])
        assert again == score


@pytest.mark.parametrize("mode", ["causal", "train"])
@pytest.mark.parametrize("config", [DENSE, ROUTED], ids=["dense", "mod"])
def test_batch_size_and_padding_change_nothing(config: ModelConfig, mode: str) -> None:
    model = decoder(config).eval()
    draw = random.Random(1)
    pairs = [
        ("".join(draw.choices("abc ", k=n)) + "x", "".join(draw.choices("abc", k=1 + n % 9)))
        for n in draw.choices(range(1, 60), k=23)
    ]
    alone, together = (
        loglikelihood(ModsearchLM(model, mode=mode, batch_size=size), pairs)  # type: ignore[arg-type]
        for size in (1, 8)
    )
    for (score, greedy), (other, same) in zip(alone, together, strict=True):
        assert score == pytest.approx(other, rel=1e-5)
        assert greedy == same


@pytest.mark.parametrize("config", [DENSE, ROUTED], ids=["dense", "mod"])
def test_later_text_does_not_change_a_score(config: ModelConfig) -> None:
    model = decoder(config).double()
    scores = loglikelihood(ModsearchLM(model), [("return s", "e"), ("return s", "elf.x")])
    rest = loglikelihood(ModsearchLM(model), [("return se", "lf.x")])
    assert scores[1][0] == pytest.approx(scores[0][0] + rest[0][0], abs=1e-10)


@pytest.mark.parametrize(
    ("times", "most"), [(1, 12), (12, 12), (8, 64)], ids=["cached", "cut", "sliding"]
)
@pytest.mark.parametrize("config", [DENSE, ROUTED], ids=["dense", "mod"])
def test_what_is_generated_is_greedy(config: ModelConfig, times: int, most: int) -> None:
    """From the cache; from a context that is cut so that the new tokens fit; from windows that
    slide, where they alone are as many as the model's sequence has."""
    lm = ModsearchLM(decoder(config, seed=1))
    context = "class A" * times
    tokens = list(context.encode())[-(config.seq_len - most) :]
    for _ in range(most):
        row = torch.tensor([tokens[-config.seq_len :]])
        tokens.append(int(lm.model.logits(row, "causal")[0, -1].argmax()))
    options = {"until": [], "max_gen_toks": most}
    [text] = lm.generate_until([request("generate_until", context, options)])
    expected = tokens[-most:]
    expected = expected[: expected.index(0)] if 0 in expected else expected
    assert text == lm.tok_decode(expected)
    # The flag, in tokens: an untrained model's bytes need not be text.
    row = torch.tensor([list(b"ab")])
    best = int(lm.model.logits(row, "causal")[0, -1].argmax())
    requests = [(("", ""), list(b"ab"), [token]) for token in (best, best ^ 1)]
    assert [greedy for _, greedy in lm._loglikelihood_tokens(requests)] == [True, False]


def test_generation_stops_and_samples() -> None:
    lm = ModsearchLM(decoder(DENSE, seed=1))
    options = {"do_sample": True, "temperature": 2.0, "max_gen_toks": 20, "until": []}
    ask = request("generate_until", "x", options)
    state = torch.get_rng_state()
    first, second = lm.generate_until([ask, ask])
    assert first != second
    assert lm.generate_until([ask]) == [first]
    assert torch.equal(state, torch.get_rng_state())
    stop = next(character for character in first if character.isascii())
    stopped = request("generate_until", "x", {**options, "until": ["absent", stop]})
    assert lm.generate_until([stopped]) == [first[: first.index(stop)]]


def test_lm_eval_finds_the_adapter(tmp_path: Path) -> None:
    save_model(decoder(DENSE), tmp_path)
    lm = get_model("modsearch").create_from_arg_string(
        f"pretrained={tmp_path},mode=train", {"batch_size": "auto", "device": "cuda:0"}
    )
    assert isinstance(lm, ModsearchLM)
    assert lm.get_model_info()["likelihood"] is False
    with pytest.raises(ConfigError, match="did you mean `pretrained`"):
        ModsearchLM.create_from_arg_string(f"pretraind={tmp_path}")
    with pytest.raises(ConfigError, match="needs one checkpoint"):
        ModsearchLM.create_from_arg_string("")
    with pytest.raises(StudyError, match="no checkpoint"):
        ModsearchLM.create_from_arg_string(f"pretrained={tmp_path / 'other'}")
    with pytest.raises(ConfigError, match="unknown mode"):
        ModsearchLM.create_from_arg_string(f"pretrained={tmp_path},mode=casual")
    with pytest.raises(ConfigError, match='tokenizer "bytes" has 256'):
        ModsearchLM(decoder(ModelConfig(vocab_size=100)))


def tiny_task(folder: Path) -> dict[str, object]:
    """A task in lm-eval's own terms."""
    rows = [{"good": "a cat", "bad": "cat a"}, {"good": "two dogs", "bad": "dogs two"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "task": "tiny_pairs",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_choice": "{{[good, bad]}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }


def test_command_line_has_lm_evals_flags() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "modsearch.evaluation", "run", "--help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "--model_args" in done.stdout


@pytest.mark.slow  # lm-eval reads all its task definitions first
def test_command_line_is_lm_evals(tmp_path: Path) -> None:
    save_model(decoder(DENSE), tmp_path / "checkpoint")
    task = tmp_path / "tiny_pairs.yaml"
    task.write_text(yaml.safe_dump(tiny_task(tmp_path)))
    command = (
        f"-m modsearch.evaluation run --model modsearch --tasks {task} "
        f"--model_args pretrained={tmp_path / 'checkpoint'} --output_path {tmp_path / 'out'}"
    )
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        check=False,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "tiny_pairs" in done.stdout
    [path] = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(path.read_text())["config"]["mode"] == "causal"


@pytest.mark.parametrize("name", SUITES)
def test_shipped_suites_name_tasks_that_exist(name: str) -> None:
    suite, path = load_suite(name)
    assert suite.name == path.stem == name
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    collection = Path(lm_eval.tasks.__file__).parent
    include: list[str | Path] = [collection / folder for folder in suite.include]
    known = TaskManager(include_path=include, include_defaults=False).all_tasks
    for task in suite.tasks:
        assert task.leading or suite.leading
        source = str(task.definition.get("dataset_path", "")).removeprefix("modsearch:")
        if task.definition:
            SOURCES[source](**task.definition.get("dataset_kwargs", {}))
        else:
            assert task.task in known


def test_quick_suite_tells_a_trained_model_from_a_fresh_one(data: DataConfig) -> None:
    model = decoder(DENSE.model_copy(update={"seq_len": 128}))
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    before = evaluate(model.train(), "quick", data, "validation")
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    assert model.training
    assert json.loads(json.dumps(before)) == before
    assert set(before["samples"]) == set(before["tasks"]) == set(before["results"])
    fresh = before["results"]
    assert 7.5 < fresh["held_out_text"]["bits_per_byte,none"] < 9
    assert 0 < fresh["held_out_text"]["bits_per_byte_stderr,none"] < 0.2
    for task, chance in (("word_order", 0.5), ("recall", 0.25)):
        num = before["n-samples"][task]["effective"]
        assert abs(fresh[task]["acc,none"] - chance) < 4 * math.sqrt(chance * (1 - chance) / num)
        assert before["configs"][task]["metadata"]["chance"] == chance
    train_briefly(model, data)
    after = evaluate(model, "quick", data, "validation")["results"]
    assert after["held_out_text"]["bits_per_byte,none"] < 5
    assert after["word_order"]["acc,none"] > 0.53
    other = evaluate(model, "quick", data, "test")["results"]
    assert other["held_out_text"] != after["held_out_text"]
    # It depends on no text.
    assert other["recall"] == pytest.approx(after["recall"], abs=1e-6)


def train_briefly(model: Decoder, data: DataConfig) -> None:
    batches = Batches(load_corpus(data).parts["train"], model.config.seq_len, 4, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(150):
        tokens_BT = torch.from_numpy(batches(step))
        loss, _ = model.loss(tokens_BT[:, :-1], tokens_BT[:, 1:], step)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def test_sources_are_pure_and_fair(data: DataConfig, tmp_path: Path) -> None:
    held_out = load_corpus(data).parts["test"]
    text = held_out.tobytes()
    options = {
        "excerpts": {"num": 20, "size": 512},
        "swapped_words": {"num": 100, "context": 64, "size": 96},
        "recall": {"num": 100, "names": 4},
    }
    for name, values in options.items():
        source = SOURCES[name](**values)
        rows = source.documents(Origin(held_out, 0, tmp_path))
        assert len(rows) == values["num"]
        assert rows == source.documents(Origin(held_out, 0, tmp_path))
        assert rows != source.documents(Origin(held_out, 1, tmp_path))
        if name == "excerpts":
            assert all(row["text"].encode() in text for row in rows)
            assert len({row["text"] for row in rows}) == len(rows)
            continue
        # Neither length nor place gives the answer away.
        choices = [row["passages" if name == "swapped_words" else "values"] for row in rows]
        assert all(len(set(map(len, row))) == 1 and len(set(row)) > 1 for row in choices)
        shares = np.bincount([row["right"] for row in rows]) / len(rows)
        assert shares.min() > 0.5 / len(shares)
        if name == "swapped_words":
            for row, passages in zip(rows, choices, strict=True):
                assert (row["context"] + passages[row["right"]]).encode() in text
    small = Origin(np.full(1000, 97, np.uint8), 0, tmp_path)
    source = SOURCES["excerpts"](num=3, size=500)
    with pytest.raises(DataError, match="gives 2 documents, 3 are asked for"):
        source.documents(small)


def record_of(model: ModelConfig, data: DataConfig, trial_hash: str, stage: Stage) -> Record:
    return Record(
        hash=trial_hash,
        stage=stage,
        arm="dense",
        candidate=Candidate(model=model, data=data),
        budget=Budget(flops=1e9),
        seed=0,
        validation=Validation(),
        state=State.COMPLETE,
    )


def study(root: Path, data: DataConfig) -> StudyDirectory:
    """A study that was trained on a corpus."""
    directory = StudyDirectory(root)
    directory.write_manifest(
        Manifest(
            name="study",
            seed=0,
            arms={"dense": None},
            runtime=Runtime(),
            corpus=load_corpus(data).facts,
            code="",
            revision="",
            versions={},
            machine={},
            command="",
        )
    )
    return directory


def test_winners_are_scored_once(data: DataConfig, tmp_path: Path) -> None:
    directory = study(tmp_path / "study", data)
    records = [
        record_of(DENSE, data, "a", Stage.CONFIRM),
        record_of(DENSE, data, "b", Stage.CONFIRM),
        record_of(DENSE, data, "c", Stage.MEASURE),
    ]
    for name in ("a", "c"):
        save_model(decoder(DENSE), directory.trial(name) / "checkpoint")
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    evaluate_winners(directory, records, path, data)
    written = directory.trial("a") / "eval" / "tiny.json"
    assert written.is_file()
    assert not list(directory.trial("b").glob("eval/*"))
    assert not list(directory.trial("c").glob("eval/*"))
    results = directory.evaluations("a")["tiny"]
    assert results == evaluate_checkpoint(directory.trial("a") / "checkpoint", path, data, "test")
    config = results["config"]
    assert isinstance(config, dict)
    assert (config["mode"], config["part"]) == ("causal", "test")
    stamp = written.stat().st_mtime_ns
    evaluate_winners(directory, records, path, data)
    assert written.stat().st_mtime_ns == stamp
    path.write_text(yaml.safe_dump({**SUITE, "description": "Another."}))
    evaluate_winners(directory, records, path, data)
    assert written.stat().st_mtime_ns == stamp
    assert len(list(written.parent.glob("*.json"))) == 2, "another suite, whatever it is called"
    with pytest.raises(StudyError, match="no weights to score"):
        evaluate_winners(directory, records[1:], path, data)


def test_precision_is_part_of_what_results_are(data: DataConfig, tmp_path: Path) -> None:
    directory = study(tmp_path / "study", data)
    records = [record_of(DENSE, data, "a", Stage.CONFIRM)]
    folder = directory.trial("a") / "checkpoint"
    save_model(decoder(DENSE), folder)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    values = {}
    for dtype in ("fp32", "bf16", "fp32"):
        evaluate_winners(directory, records, path, data, dtype=dtype)
        results = directory.evaluations("a")["tiny"]
        assert results["config"]["dtype"] == {"fp32": "float32", "bf16": "bfloat16"}[dtype]
        found = results["results"]["text"]["bits_per_byte,none"]
        assert values.setdefault(dtype, found) == found
    assert values["bf16"] != values["fp32"]
    assert values["bf16"] == pytest.approx(values["fp32"], rel=0.01)
    narrow = modsearch.evaluate(folder, str(path), corpus=data.corpus, dtype="bf16")
    assert narrow.results[str(folder)]["text"]["bits_per_byte,none"] == values["bf16"]
    assert len(list((folder.parent / "eval" / "answers").iterdir())) == 2
    with pytest.raises(ModsearchError, match="unknown dtype `fp16`"):
        modsearch.evaluate(folder, str(path), corpus=data.corpus, dtype="fp16")


def test_winners_are_scored_on_the_text_of_the_study_alone(
    data: DataConfig, tmp_path: Path
) -> None:
    directory = study(tmp_path / "study", data)
    records = [record_of(DENSE, data, "a", Stage.CONFIRM)]
    save_model(decoder(DENSE), directory.trial("a") / "checkpoint")
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    written = directory.trial("a") / "eval" / "tiny.json"
    other = DataConfig(corpus=str(ROOT / "modsearch"))
    with pytest.raises(DataError, match="is not what it was trained on"):
        evaluate_winners(directory, records, path, other)
    assert not written.exists()
    evaluate_winners(directory, records, path, data)
    right = written.read_text()
    results = json.loads(right)
    results["config"]["corpus"] = load_corpus(other).facts.fingerprint
    results["results"]["text"]["bits_per_byte,none"] = 1.0
    written.write_text(json.dumps(results))
    evaluate_winners(directory, records, path, data)
    again = json.loads(written.read_text())
    assert again["results"] == json.loads(right)["results"], "other text was scored before"


def rows_task(path: str, **changes: object) -> dict[str, object]:
    """A task on the rows of a file beside the suite."""
    return {
        "task": "rows",
        "dataset_path": "modsearch:jsonl",
        "dataset_kwargs": {"file": path},
        "test_split": "held_out",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["1", "2"],
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        **changes,
    }


def rows_suite(folder: Path, rows: str, **changes: object) -> Path:
    (folder / "rows.jsonl").write_text(rows, newline="")
    suite = {"name": "r", "description": "", "tasks": [rows_task("rows.jsonl", **changes)]}
    (folder / "r.yaml").write_text(yaml.safe_dump(suite))
    return folder / "r.yaml"


ROWS = '{"question": "one?", "answer": 0}\n{"question": "two?", "answer": 1}\n'


def test_other_rows_are_another_suite(data: DataConfig, tmp_path: Path) -> None:
    identities = []
    for rows in (ROWS, ROWS.replace("one", "two")):
        plan, path = load_suite(rows_suite(tmp_path, rows))
        identities.append(plan.identity(path.parent))
    assert identities[0] != identities[1]


def test_suites_without_files_have_the_identity_that_they_had() -> None:
    plan, path = load_suite("quick")
    assert plan.identity(path.parent) == "73ca8d66815b58ec"


def test_rows_are_lines_of_json_and_nothing_else_ends_them(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\x85c\x0cd", "n": 1}, {"text": "e\rf", "n": 2}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "rows.jsonl").write_text("\r\n".join(lines) + "\n\n", newline="")
    source = SOURCES["jsonl"](file="rows.jsonl")
    assert source.documents(Origin(np.empty(0, np.uint8), 0, tmp_path)) == rows


@pytest.mark.parametrize("second", ['{"a": 2, "b": []}', '{"b": ["x"], "a": 2}'])
def test_rows_agree_in_keys_and_kinds(tmp_path: Path, second: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1, "b": ["y", "z"]}\n' + second)
    assert len(SOURCES["jsonl"](file="rows.jsonl").documents(origin(tmp_path))) == 2


def origin(folder: Path) -> Origin:
    return Origin(np.empty(0, np.uint8), 0, folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['{"a": 1}', '{"a": "1"}'], 'line 2: "a" is a text, but a whole number before'),
        (['{"a": 1}', '{"a": 1.5}'], 'line 2: "a" is a number with a fraction, but a whole'),
        (['{"a": 1}', '{"a": true}'], 'line 2: "a" is true or false, but'),
        (['{"a": "x"}', '{"a": null}'], 'line 2: "a" is null, but a text before'),
        (['{"a": {"b": 1}}', '{"a": {"b": []}}'], 'line 2: "a.b" is a list, but a whole'),
        (['{"a": 1}', "", '{"a": 1, "b": 2}'], 'line 3: key "b" is new'),
        (['{"a": {"b": 1}}', '{"a": {}}'], 'line 2: key "a.b" is missing'),
        (['{"a": [1, "x"]}'], r'line 1: "a\[\]" is a text, but a whole number before'),
        (['{"a": [[1], ["x"]]}'], r'line 1: "a\[\]\[\]" is a text'),
        (["[1, 2]"], r"line 1: a row is a JSON object, but got \[1, 2\]"),
        (['"x"'], "line 1: a row is a JSON object"),
        (['{"a": 1'], "line 1: Expecting"),
        (['{"a": 1, "a": 2}'], 'line 1: key "a" stands twice'),
        (['{"a": NaN}'], "line 1: NaN is no JSON"),
        (['{"a": 1e999}'], "line 1: .* too large a number"),
        (['{"a": 99999999999999999999}'], "line 1: .* too large a number"),
        (['{"a": ' + "9" * 5000 + "}"], "line 1: "),
        (["[" * 100_000], "line 1: values are nested too deep"),
        ([r'{"a": ["\ud83d"]}'], "line 1: a text holds half of a character"),
        ([r'{"\udce9": 1}'], "line 1: a text holds half of a character"),
        ([""], "has no rows"),
    ],
)
def test_rows_that_have_no_one_meaning_are_refused(
    tmp_path: Path, rows: list[str], message: str
) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    for order in (1, -1):
        with pytest.raises(DataError, match=message if order == 1 else "rows.jsonl") as caught:
            SOURCES["jsonl"](file="rows.jsonl").documents(origin(tmp_path))
        assert len(told(caught.value).splitlines()) <= 2
        (tmp_path / "rows.jsonl").write_text("\n".join(rows[::-1]))


def test_rows_that_are_not_utf_8_are_told(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": "caf\xe9"}')
    with pytest.raises(DataError, match="line 1: not UTF-8 at byte 10"):
        SOURCES["jsonl"](file="rows.jsonl").documents(origin(tmp_path))
    for name in ("", "a\0b", "no.jsonl", "x" * 5000, "~nosuchuser/x"):
        with pytest.raises(DataError, match="can't read"):
            SOURCES["jsonl"](file=name).documents(origin(tmp_path))


def test_the_order_of_rows_changes_no_score(data: DataConfig, tmp_path: Path) -> None:
    scores = []
    for rows in (ROWS, "\n".join(ROWS.splitlines()[::-1])):
        path = rows_suite(tmp_path, rows)
        results = evaluate(decoder(DENSE), path, data, "validation")["results"]["rows"]
        scores.append({key: value for key, value in results.items() if key != "alias"})
    assert scores[0] == scores[1]


def test_bytes_that_are_no_utf_8_are_scored_as_they_are() -> None:
    lm = ModsearchLM(decoder(DENSE))
    assert lm.tok_encode("caf\udce9") == list(b"caf\xe9")
    assert lm.tok_encode("\ud83d!") == list("\ufffd!".encode())
    [(score, _)] = loglikelihood(lm, [("caf", "\udce9")])
    assert score == pytest.approx(direct(lm.model, list(b"caf\xe9"), 1), abs=1e-4)
    text = lm.generate_until(
        [request("generate_until", "\udce9", {"max_gen_toks": 2, "until": ["\ud83d"]})]
    )
    assert len(text) == 1


def wrong(**changes: object) -> dict[str, object]:
    return {**SUITE, "tasks": [{**SUITE["tasks"][0], **changes}]}  # type: ignore[dict-item]


def wrong_source(**changes: object) -> dict[str, object]:
    """Other options of the documents."""
    return wrong(dataset_kwargs={"num": 4, "size": 100} | changes)


METRIC = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ({**SUITE, "task": []}, "tiny.yaml: unknown key `task`; did you mean `tasks`"),
        ({**SUITE, "tasks": []}, "tiny.yaml: tasks"),
        ({**SUITE, "name": "../x"}, "tiny.yaml: name"),
        ({**SUITE, "tasks": SUITE["tasks"] * 2}, 'tiny.yaml: task "text" stands twice'),
        ({**SUITE, "tasks": ["a\udce9"]}, "tiny.yaml"),
        ({**SUITE, "tasks": [""]}, "tiny.yaml: tasks.0"),
        ({**SUITE, "tasks": [3]}, "tiny.yaml: tasks.0"),
        ({**SUITE, "tasks": ["hellaswag"]}, 'tiny.yaml: task "hellaswag" is a name alone'),
        ({**SUITE, "include": ["hellaswig"]}, "did you mean `hellaswag`"),
        ([], r"tiny.yaml is no mapping of keys to values"),
        (None, r"tiny.yaml is empty: it needs keys"),
        (wrong(limit=True), "tasks.0.limit"),
        (wrong(limit=0), "tasks.0.limit"),
        (wrong(limit="3"), "tasks.0.limit"),
        (wrong(dataset_path="modsearch:excerpt"), "did you mean `excerpts`"),
        (wrong(dataset_kwargs=[1]), r"`text`: dataset_kwargs must be a mapping .* got \[1\]"),
        (wrong(dataset_kwargs=None), "`text`: dataset_kwargs must be a mapping"),
        (wrong_source(num=0), "tiny.yaml: task `text`: dataset_kwargs: num"),
        (wrong_source(num=1e9), "tiny.yaml: task `text`: dataset_kwargs: num"),
        (wrong_source(num=True), "tiny.yaml: task `text`: dataset_kwargs: num"),
        (wrong_source(num=99_999), "tiny.yaml: task `text`: the held-out text of"),
        (wrong_source(nun=1), "did you mean `num`"),
        (wrong(dataset_path="modsearch:jsonl", dataset_kwargs={"file": "no.jsonl"}), "can't read"),
        (wrong(dataset_path=""), 'dataset_path must be text, but got ""'),
        (wrong(test_split=[]), r"test_split must be text, but got \[\]"),
        (wrong(doc_to_txt="x"), "tiny.yaml: task `text`: unknown key `doc_to_txt`; did you mean"),
        (wrong(doc_to_text="{{ text"), "tiny.yaml: task `text`: TemplateSyntaxError"),
        (wrong(doc_to_text="{{ texd }}"), "tiny.yaml: task `text`: UndefinedError: 'texd' is und"),
        (
            wrong(output_type="guess"),
            "tiny.yaml: task `text`: ValueError: Got invalid output_type",
        ),
        (wrong(test_split="other"), "tiny.yaml: task `text`: "),
        (wrong(metric_list=7), "tiny.yaml: task `text`: metric_list must be a list"),
        (wrong(metric_list=["acc"]), "tiny.yaml: task `text`: metric_list must be a list"),
        (
            wrong(metric_list=[{**METRIC, "metric": "acx"}]),
            "task `text`: unknown metric `acx`; did",
        ),
        (wrong(metric_list=[{**METRIC, "aggregation": "meean"}]), "did you mean `mean`"),
        (wrong(metric_list=[METRIC, METRIC]), "metric `acc` stands twice"),
        (wrong(metric_list=[METRIC]), "tiny.yaml: task `text`: metric `acc` is not computed"),
        (
            wrong(output_type="multiple_choice", doc_to_choice="{{ text }}"),
            "tiny.yaml: task `text`",
        ),
        (wrong(repeats=10**9), "tiny.yaml: task `text`: repeats must be"),
        (wrong(num_fewshot="two"), "tiny.yaml: task `text`: "),
    ],
)
def test_what_is_wrong_with_a_suite_is_said(
    suite: object, message: str, data: DataConfig, tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(suite))
    with pytest.raises(ModsearchError, match=message) as caught:
        evaluate(decoder(DENSE), tmp_path / "tiny.yaml", data, "validation")
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_gen_toks": "many"},
        {"max_gen_toks": 10**9},
        {"max_gen_toks": -1},
        {"until": [5]},
        {"do_sample": True, "temperature": "hot"},
        {"do_sample": True, "temperature": 1, "top_p": 2},
        {"do_sample": True, "temperature": 1, "top_k": "x"},
    ],
)
def test_options_of_generation_are_the_tasks_mistake(
    options: dict[str, object], data: DataConfig, tmp_path: Path
) -> None:
    suite = wrong(
        output_type="generate_until",
        doc_to_text="{{text}}",
        generation_kwargs={"until": ["."], "max_gen_toks": 2, **options},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(suite))
    with pytest.raises(ConfigError, match=r"tiny.yaml: task `text`: ") as caught:
        evaluate(decoder(DENSE), tmp_path / "tiny.yaml", data, "validation")
    assert str(caught.value).count("\n") <= 1


def test_the_task_that_fails_late_is_named(data: DataConfig, tmp_path: Path) -> None:
    good = {**SUITE["tasks"][0], "task": "good"}  # type: ignore[dict-item]
    rows_suite(tmp_path, ROWS)
    late = rows_task("rows.jsonl", doc_to_text="{{ 1 // (1 - answer) }}")
    suite = {**SUITE, "tasks": [good, late]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(suite))
    with pytest.raises(ConfigError, match=r"tiny.yaml: task `rows`: ZeroDivisionError"):
        evaluate(decoder(DENSE), tmp_path / "tiny.yaml", data, "validation")


def test_a_fault_of_the_model_is_not_the_tasks(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SUITE))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Decoder, "forward", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        evaluate(decoder(DENSE), tmp_path / "tiny.yaml", data, "validation")


def test_a_task_that_a_group_brings_is_not_believed_twice(
    data: DataConfig, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    member = {**SUITE["tasks"][0], "task": "member", "dataset_kwargs": {}}  # type: ignore[dict-item]
    del member["dataset_path"]
    rows = {"data_files": {"held_out": str(tmp_path / "rows.jsonl")}}
    (tmp_path / "rows.jsonl").write_text('{"text": "some words"}\n{"text": "and more"}\n')
    member |= {"dataset_path": "json", "dataset_kwargs": rows}
    (tmp_path / "mine" / "member.yaml").write_text(yaml.safe_dump(member))
    (tmp_path / "mine" / "group.yaml").write_text("{group: all, task: [member]}")
    suite = {**SUITE, "include": ["mine"], "tasks": ["all", "member"]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(suite))
    with pytest.raises(ConfigError, match="`member` is a task of an earlier entry"):
        evaluate(decoder(DENSE), tmp_path / "tiny.yaml", data, "validation")


def test_unknown_suite_has_the_nearest_name(data: DataConfig) -> None:
    with pytest.raises(ConfigError, match="did you mean `quick`"):
        evaluate(decoder(DENSE), "quik", data, "validation")


def test_a_suite_from_the_hub_says_so_offline(tmp_path: Path) -> None:
    program = """
from modsearch.evaluation.evaluate import evaluate
from modsearch.nn.model import Decoder
from modsearch.config.data import DataConfig
from modsearch.config.model import ModelConfig
evaluate(Decoder(ModelConfig()), "standard", DataConfig(), "validation")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=False,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    lines = done.stderr.strip().splitlines()
    assert "task `lambada_openai`: needs data from the hub" in lines[-2]
    assert "such as `quick`" in lines[-1]


def test_blimp(tmp_path: Path, data: DataConfig, shared_data: Path) -> None:
    """One real paradigm, with the fields that lm-eval's own `blimp_*` tasks read."""
    task = {
        "task": "blimp_passive_1",
        "limit": 40,
        "dataset_path": "modsearch:jsonl",
        "dataset_kwargs": {"file": str(shared_data / "blimp" / "passive_1.jsonl")},
        "test_split": "held_out",
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_target": 0,
        "doc_to_choice": "{{[sentence_good, sentence_bad]}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    suite = {"name": "blimp", "description": "One paradigm.", "tasks": [task]}
    (tmp_path / "blimp.yaml").write_text(yaml.safe_dump(suite))
    results = evaluate(decoder(DENSE), tmp_path / "blimp.yaml", data, "validation")
    assert results["n-samples"]["blimp_passive_1"] == {"original": 1000, "effective": 40}
    assert 0.1 < results["results"]["blimp_passive_1"]["acc,none"] < 0.9


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "a", "values": [" b", " c"], "right": 2}, "no question with a right answer"),
        ({"question": "a", "values": [" b", " c"], "right": 3}, "from 0 to 1, but gives 3"),
        ({"question": "a", "values": [" b", " c"], "right": "x"}, 'but gives "x"'),
        ({"question": "a", "values": [" b", " c"], "right": None}, "but gives null"),
        ({"question": "a", "values": None, "right": 0}, "must give a list of choices"),
    ],
)
def test_a_right_answer_that_is_no_choice_is_refused(
    row: dict[str, object], said: str, tmp_path: Path, data: DataConfig
) -> None:
    """lm-eval alone would score it as wrong."""
    first = {"question": "a", "values": [" b", " c"], "right": 0}
    rows = [first, row] if said.startswith("from") else [row]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    task = {key: value for key, value in PICK.items() if key != "metadata"}
    suite = tmp_path / "pick.yaml"
    suite.write_text(yaml.safe_dump({"name": "pick", "description": "x", "tasks": [task]}))
    small = decoder(ModelConfig(width=8, num_heads=1, seq_len=16))
    with pytest.raises(
        ConfigError, match=rf"`pick`: document {len(rows)} of rows\.jsonl"
    ) as caught:
        evaluate(small, suite, data, "test")
    assert said in str(caught.value)


def test_suites_of_one_name_keep_their_results_apart(data: DataConfig, tmp_path: Path) -> None:
    """As a user's own suite that is called like a shipped one."""
    directory = study(tmp_path / "study", data)
    records = [record_of(DENSE, data, "a", Stage.CONFIRM)]
    save_model(decoder(DENSE), directory.trial("a") / "checkpoint")
    one, other = tmp_path / "tiny.yaml", tmp_path / "mine.yaml"
    one.write_text(yaml.safe_dump(SUITE))
    [task] = SUITE["tasks"]  # type: ignore[misc]
    changed = {**task, "dataset_kwargs": {"num": 3, "size": 50}}
    other.write_text(yaml.safe_dump({**SUITE, "tasks": [changed]}))
    first = evaluate_winners(directory, records, one, data)["a"]
    second = evaluate_winners(directory, records, other, data)["a"]
    assert first["results"] != second["results"]
    files = {path.name: path for path in (directory.trial("a") / "eval").glob("*.json")}
    hashes = [str(each["config"]["suite_hash"]) for each in (first, second)]
    assert set(files) == {"tiny.json", f"tiny-{hashes[1]}.json"}
    stamps = {name: path.stat().st_mtime_ns for name, path in files.items()}
    assert evaluate_winners(directory, records, one, data)["a"] == first
    assert evaluate_winners(directory, records, other, data)["a"] == second
    assert {name: path.stat().st_mtime_ns for name, path in files.items()} == stamps
    found, _ = directory.all_evaluations(records)
    assert set(found["a"]) == {f"tiny ({each[:8]})" for each in hashes}
    files["tiny.json"].unlink()
    found, _ = directory.all_evaluations(records)
    assert set(found["a"]) == {"tiny"}, "alone it goes by its name, whatever its file is called"
    old = {"results": first["results"]}
    files["tiny.json"].write_text(json.dumps(old))
    assert directory.all_evaluations(records)[0]["a"]["tiny"] == old, "older ones have none"
