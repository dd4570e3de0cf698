"""Suites on local data of the hub's layout, and what is made of the samples."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import modsearch
from modsearch.analysis.samples import scores_of
from modsearch.analysis.scores import averages
from modsearch.config.data import DataConfig
from modsearch.config.model import ModelConfig
from modsearch.config.samples import facts_of
from modsearch.data import network
from modsearch.errors import ConfigError, DataError
from modsearch.evaluation.evaluate import evaluate
from modsearch.evaluation.lm import ModsearchLM
from modsearch.evaluation.local_data import LocalData
from modsearch.evaluation.suites import load_suite
from modsearch.evaluation.tasks import refuse_unreachable
from modsearch.nn.contracts import Mode
from modsearch.nn.model import Decoder

NUM = 6
WORDS = ("cat", "dog", "fish", "bird")
ARC = [
    {
        "id": str(n),
        "question": f"What is {n}?",
        "choices": {"text": list(WORDS), "label": list("ABCD")},
        "answerKey": "ABCD"[n % 4],
    }
    for n in range(NUM)
]
DATA: dict[str, dict[str, list[dict[str, Any]]]] = {
    "lambada_openai": {"test": [{"text": f"a {n} b {WORDS[n % 4]}"} for n in range(NUM)]},
    "hellaswag": {
        "validation": [
            {
                "activity_label": "Swimming",
                "ctx_a": f"A man {n}",
                "ctx_b": "he",
                "endings": list(WORDS),
                "label": str(n % 4),
            }
            for n in range(NUM)
        ]
    },
    "piqa": {
        "validation": [
            {"goal": f"g {n}", "sol1": "one way", "sol2": "another", "label": n % 2}
            for n in range(NUM)
        ]
    },
    "arc_easy": {"test": ARC, "train": ARC},
    "ARC-Challenge": {"test": ARC},
    "sciq": {
        "test": [
            {
                "support": f" Text {n}.",
                "question": "Which?",
                "correct_answer": WORDS[0],
                **{f"distractor{k}": WORDS[k] for k in (1, 2, 3)},
            }
            for n in range(NUM)
        ]
    },
    "openbookqa": {
        "test": [
            {
                "question_stem": row["question"],
                "choices": row["choices"],
                "answerKey": row["answerKey"],
            }
            for row in ARC
        ]
    },
    "winogrande": {
        "validation": [
            {"sentence": "The _ ran.", "option1": "cat", "option2": "dog", "answer": "12"[n % 2]}
            for n in range(NUM)
        ]
    },
}


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets as the hub has them, a file a split; one by Parquet, one as a single file."""
    root = tmp_path_factory.mktemp("data")
    for name, splits in DATA.items():
        if name == "ARC-Challenge":
            (root / f"{name}.jsonl").write_text(lines(splits["test"]))
            continue
        (root / name).mkdir()
        for split, rows in splits.items():
            if name == "piqa":
                import pandas as pd

                pd.DataFrame(rows).to_parquet(root / name / f"{split}.parquet")
            else:
                (root / name / f"{split}.jsonl").write_text(lines(rows))
    return root


def small(seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(ModelConfig(depth=1, width=8, num_heads=1, seq_len=128)).eval()


def scored(suite: str | Path, folder: Path | None, **options: Any) -> dict[str, Any]:
    local = None if folder is None else LocalData(folder)
    return evaluate(small(), suite, DataConfig(), "test", local=local, **options)


@pytest.fixture(scope="module")
def standard(folder: Path) -> dict[str, Any]:
    return scored("standard", folder)


def test_standard_runs_on_local_files_of_the_hubs_layout(standard: dict[str, Any]) -> None:
    plan, _ = load_suite("standard")
    facts = facts_of(standard)
    assert list(facts) == [task.task for task in plan.tasks]
    for name, each in facts.items():
        metrics = standard["results"][name]
        assert standard["n-samples"][name]["effective"] == NUM
        assert standard["n-shot"][name] == 0
        for metric in (each.leading, each.accuracy):
            assert math.isfinite(metrics[f"{metric},none"])
            assert metrics[f"{metric}_stderr,none"] >= 0
        found = scores_of(standard, name, each.leading)
        assert found is not None
        assert found.values_D.mean() == pytest.approx(metrics[f"{each.leading},none"], abs=2e-3)
    assert facts["winogrande"].note == "a coin flip below a billion parameters"
    assert (facts["lambada_openai"].chance, facts["piqa"].chance) == (0, 0.5)
    assert (facts["hellaswag"].accuracy, facts["winogrande"].accuracy) == ("acc_norm", "acc")


def test_every_metric_has_an_error(standard: dict[str, Any]) -> None:
    for metrics in standard["results"].values():
        for key, value in metrics.items():
            metric, comma, kind = key.partition(",")
            if comma and not metric.endswith("_stderr") and isinstance(value, float):
                assert isinstance(metrics[f"{metric}_stderr,{kind}"], float), (metrics, key)


def test_the_average_is_centred_on_chance(standard: dict[str, Any]) -> None:
    facts = facts_of(standard)
    above = [
        (standard["results"][name][f"{each.accuracy},none"] - each.chance) / (1 - each.chance)
        for name, each in facts.items()
        if each.chance is not None
    ]
    errors = [
        standard["results"][name][f"{each.accuracy}_stderr,none"] / (1 - (each.chance or 0))
        for name, each in facts.items()
    ]
    found = averages(standard)["centred accuracy"]
    assert found.value == pytest.approx(np.mean(above))
    half = (found.high - found.low) / 2
    assert half > 1.96 * np.linalg.norm(errors) / len(errors) * 0.99


def test_continuous_metrics_are_those_of_the_likelihoods(folder: Path) -> None:
    """By hand, of one question."""
    model = small()
    results = evaluate(model, "standard", DataConfig(), "test", local=LocalData(folder))
    lm = ModsearchLM(model)
    row = ARC[1]
    context = f"Question: {row['question']}\nAnswer:"

    def nats(text: str) -> float:
        tokens = lm.tok_encode(context) + lm.tok_encode(text)
        logits = model(torch.tensor([tokens[:-1]]), "causal").logits_BTV[0].log_softmax(-1)
        first = len(lm.tok_encode(context)) - 1
        return sum(
            logits[place, tokens[place + 1]].item() for place in range(first, len(tokens) - 1)
        )

    found = [nats(f" {word}") for word in WORDS]
    shares = np.exp(found) / np.exp(found).sum()
    bits = scores_of(results, "arc_easy", "answer_bits_per_byte")
    margin = scores_of(results, "arc_easy", "answer_margin")
    assert bits is not None
    assert margin is not None
    assert bits.values_D[1] == pytest.approx(-found[1] / len(" dog") / math.log(2), rel=1e-3)
    expected = shares[1] - max(shares[place] for place in (0, 2, 3))
    assert margin.values_D[1] == pytest.approx(expected, abs=1e-3)


def test_two_files_of_the_same_content_pair_and_others_do_not(
    folder: Path, tmp_path: Path
) -> None:
    names = [task.task for task in load_suite("standard")[0].tasks]
    one = tmp_path / "one.yaml"
    one.write_text(yaml.safe_dump({"name": "one", "description": "", "include": ["piqa"],
                                   "tasks": ["piqa"]}))  # fmt: skip
    rows = DATA["piqa"]["validation"]
    (tmp_path / "piqa.jsonl").write_text(lines(rows))
    same, again = scored(one, folder), scored(one, tmp_path)
    assert same["samples"]["piqa"] == again["samples"]["piqa"]
    assert same["config"]["suite_hash"] != again["config"]["suite_hash"]
    (tmp_path / "piqa.jsonl").write_text(lines(rows[::-1]))
    other = scored(one, tmp_path)
    assert same["samples"]["piqa"]["documents"] != other["samples"]["piqa"]["documents"]
    assert "piqa" in names


def test_shots_are_taken_from_examples_of_their_own(folder: Path, tmp_path: Path) -> None:
    suite = tmp_path / "shots.yaml"
    plan = {"name": "shots", "description": "", "include": ["arc", "openbookqa"]}
    suite.write_text(yaml.safe_dump({**plan, "tasks": [{"task": "arc_easy", "shots": 2}]}))
    assert scored(suite, folder)["n-shot"]["arc_easy"] == 2
    suite.write_text(yaml.safe_dump({**plan, "tasks": [{"task": "openbookqa", "shots": 2}]}))
    with pytest.raises(DataError, match="2 shots need examples of their own"):
        scored(suite, folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no data in .*\nit takes piqa.jsonl, or piqa/validation.jsonl"),
        ({"piqa.jsonl": ""}, "piqa.jsonl has no rows"),
        ({"piqa.jsonl": "{"}, "piqa.jsonl, line 1"),
        ({"piqa.jsonl": '{"goal": 1}\n{"goal": "x"}'}, "rows make no table"),
        ({"piqa.jsonl": '{"other": 1}'}, "task `piqa`"),
        ({"piqa/test.jsonl": '{"goal": 1}'}, "no data in"),
        ({"piqa.parquet": "x"}, "can't read .*piqa.parquet"),
    ],
)
def test_local_data_that_is_missing_or_wrong_is_told(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "piqa").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "suites").mkdir()  # a folder of definitions beside a suite goes before lm-eval's
    suite = tmp_path / "suites" / "one.yaml"
    suite.write_text("{name: one, description: x, include: [piqa], tasks: [piqa]}")
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        scored(suite, tmp_path)
    assert str(caught.value).count("\n") <= 1


def test_how_scores_are_read_changes_no_identity() -> None:
    plan, path = load_suite("standard")
    other = plan.model_copy(
        update={
            "leading": None,
            "tasks": [
                task.model_copy(update={"chance": 0.1, "note": "x", "leading": "acc"})
                for task in plan.tasks
            ],
        }
    )
    assert other.identity(path.parent) == plan.identity(path.parent)
    shots = [task.model_copy(update={"shots": 1}) for task in plan.tasks]
    assert plan.model_copy(update={"tasks": shots}).identity(path.parent) != plan.identity(
        path.parent
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"leading": "accc"}, "unknown leading metric `accc`; did you mean `acc`"),
        ({"chance": 1}, r"tasks\.0\.chance"),
        ({"shots": -1}, r"tasks\.0\.shots"),
        ({"note": ""}, r"tasks\.0\.note"),
    ],
)
def test_what_is_wrong_with_a_key_of_ours_is_said(
    keys: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "one.yaml"
    text = {"name": "one", "description": "x", "include": ["piqa"]}
    suite.write_text(yaml.safe_dump({**text, "tasks": [{"task": "piqa", **keys}]}))
    with pytest.raises(ConfigError, match=message):
        scored(suite, folder)


def test_bytes_scores_whole_documents_of_any_files(tmp_path: Path) -> None:
    texts = ["abc def " * 30, "short", "h\u00e9 " * 100]
    (tmp_path / "one.txt").write_text(texts[0])
    (tmp_path / "two.jsonl").write_text(lines([{"text": text} for text in texts[1:]]))
    (tmp_path / "empty.txt").write_text(" \n")
    data = DataConfig(corpus=str(tmp_path))
    model = small()
    results = evaluate(model, "bytes", data, "test")
    assert results["n-samples"]["texts"]["effective"] == 3
    found = scores_of(results, "texts", "bits_per_byte")
    assert found is not None
    assert sorted(found.weights_D) == sorted(len(text.encode()) for text in texts)
    mean = found.values_D @ found.weights_D / found.weights_D.sum()
    assert mean == pytest.approx(results["results"]["texts"]["bits_per_byte,none"], rel=1e-3)
    before = results["config"]["corpus"]
    (tmp_path / "one.txt").write_text("another text")
    assert evaluate(model, "bytes", data, "test")["config"]["corpus"] != before


def test_grammar_has_67_paradigms_of_the_shared_data(shared_data: Path, tmp_path: Path) -> None:
    """All of them, some pairs of each."""
    for path in (shared_data / "blimp").glob("*.jsonl"):
        head = path.read_text().splitlines()[:4]
        (tmp_path / path.name).write_text("\n".join(head))
    results = scored("grammar", tmp_path)
    facts = facts_of(results)
    assert len(facts) == 67
    assert {(each.leading, each.accuracy, each.chance) for each in facts.values()} == {
        ("answer_margin", "acc", 0.5)
    }
    for name in facts:  # a margin is positive where the good sentence is likelier
        margins, right = (scores_of(results, name, m) for m in ("answer_margin", "acc"))
        assert margins is not None
        assert right is not None
        clear = abs(margins.values_D) > 1e-3
        assert ((margins.values_D > 0) == (right.values_D == 1))[clear].all()
    means = averages(results)
    acc = results["results"]["blimp"]["acc,none"]
    assert means["centred accuracy"].value == pytest.approx(2 * acc - 1)
    assert set(means) == {"centred accuracy", "answer_margin"}


def test_samples_of_all_of_grammar_take_less_than_a_megabyte() -> None:
    from modsearch.analysis.samples import text_of

    generator = np.random.default_rng(0)
    margins = np.tanh(generator.normal(0, 1, 67_000)).round(3).tolist()
    bits = generator.normal(3, 0.5, 67_000).tolist()
    total = sum(len(text_of(values)) for values in (margins, bits, [1.0] * 67_000))
    assert total < 0.9e6


@pytest.mark.parametrize("name", ["standard", "grammar"])
def test_without_a_network_a_suite_of_the_hub_says_so_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import config
    from huggingface_hub import constants

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(network, "_reachable", lambda _: False)
    with pytest.raises(DataError, match=r"needs data from the hub.*\n.*--data-dir") as caught:
        scored(name, None)
    assert str(caught.value).count("\n") == 1
    assert not constants.HF_HUB_OFFLINE
    with pytest.raises(DataError) as early:
        refuse_unreachable(name)
    assert str(early.value) == str(caught.value)
    refuse_unreachable(name, LocalData(tmp_path))


def test_a_task_that_is_unknown_is_told_before_a_model_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("{name: s, description: d, include: [blimp], tasks: [blimpp]}")
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setitem(sys.modules, "modsearch.evaluation.evaluate", None)  # it loads torch
    with pytest.raises(ConfigError, match="unknown task `blimpp`; did you mean `blimp`"):
        modsearch.evaluate(tmp_path, suite)


def test_a_host_that_no_one_knows_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "getproxies", dict)
    assert not network._reachable("http://127.0.0.1:9")
    monkeypatch.setattr(network, "getproxies", lambda: {"https": "http://127.0.0.1:9"})
    assert not network._reachable("https://huggingface.co")


@pytest.mark.parametrize("mode", ["causal", "train"])
@torch.no_grad()
def test_a_top_k_score_is_no_likelihood_and_a_causal_one_is(mode: Mode) -> None:
    """Probabilities of all bytes that may follow add up to 1, each with itself as an input: top-k
    routes the tokens before it by what it is."""
    torch.manual_seed(0)
    routed = {"block": "mod", "router": "expert_choice", "every": 1, "capacity": 0.5}
    config = ModelConfig.model_validate(
        {"depth": 2, "width": 16, "num_heads": 1, "seq_len": 32, **routed}
    )
    model = Decoder(config).eval().double()
    for parameter in model.parameters():
        parameter.normal_(0, 0.5)  # fresh routers choose all alike
    last = torch.arange(256)
    context = torch.tensor(list(b"a text that goes on")).expand(256, -1)
    logits_BTV = model(torch.cat([context, last[:, None]], 1), mode).logits_BTV
    total = float(logits_BTV[:, -2].log_softmax(-1)[last, last].exp().sum())
    assert (abs(total - 1) < 1e-9) == (mode == "causal"), total
    assert ModsearchLM(model, mode).get_model_info()["likelihood"] == (mode == "causal")
