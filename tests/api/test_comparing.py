"""Models compared on the same documents: studies, packed ones, trials, bare checkpoints."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from commands import Done
from inline import CORPUS, without_workers
from pages import named, write
from tiny import PICK, SPACE, SUITE
from undrawn import undrawn
from worlds import looked

import modsearch as library
from modsearch.analysis.samples import text_of
from modsearch.analysis.scores import Contender, compare_scores
from modsearch.api.targets import corpus_of, moved
from modsearch.config.answers import ScoreComparison
from modsearch.config.data import DataConfig, SourceConfig
from modsearch.config.model import ModelConfig
from modsearch.config.records import Stage
from modsearch.data.tokenizers import train_bpe
from modsearch.errors import ModsearchError
from modsearch.evaluation.suites import load_suite
from modsearch.nn.model import Decoder
from modsearch.reporting.evaluation_tables import evaluation_differences, evaluation_means
from modsearch.store.directory import evaluations_in
from modsearch.training.checkpoint import save_model

ROWS = [
    {"question": f"{a}, then", "values": [f" {b}", f" {c}x"], "right": n % 2}
    for n, (a, b, c) in enumerate(zip("abcdefgh", "ijklmnop", "qrstuvwx", strict=True))
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two arms with three seeds each, and a suite."""
    root = tmp_path_factory.mktemp("comparing")
    space = {**SPACE, "confirm": {"budgets": [5e7], "seeds": 3, "windows": 2}}
    with undrawn(), without_workers():
        library.search(space, root / "study")
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    suite = {**SUITE, "tasks": [*SUITE["tasks"], PICK]}  # type: ignore[misc]
    (root / "tiny.yaml").write_text(yaml.safe_dump(suite))
    return root


def compared(world: Path, *targets: Path, **options: Any) -> ScoreComparison:
    return library.compare(targets, str(world / "tiny.yaml"), **options)


@pytest.fixture(scope="module")
def winners(world: Path) -> ScoreComparison:
    """The study alone: its two winners."""
    return compared(world, world / "study")


def trials_of(world: Path, arm: str) -> list[Path]:
    study = library.open_study(world / "study")
    records = [row for row in study.trials if row.stage == "confirm" and row.arm == arm]
    return [study.folder(row) for row in records]


def test_a_study_stands_for_both_winners_with_all_seeds(
    world: Path, winners: ScoreComparison
) -> None:
    assert [(side.name, side.runs) for side in winners.sides] == [
        (f"{world / 'study'}:dense", 3),
        (f"{world / 'study'}:mod", 3),
    ]
    assert [(row.task, row.metric) for row in winners.differences] == [
        ("text", "bits_per_byte"),
        ("pick", "answer_margin"),
    ]
    assert winners.adjusted_for == 2
    for row in winners.differences:
        assert row.over == "seeds and documents"
        assert row.low is not None
        assert row.high is not None
        assert row.low < row.value < row.high
        ours, theirs = (
            next(s.value for s in winners.scores if (s.side, s.task) == (side, row.task))
            for side in (row.side, row.against)
        )
        sign = -1 if row.metric == "bits_per_byte" else 1
        assert row.value == pytest.approx(sign * (ours - theirs), abs=1e-12)


@pytest.fixture
def curved(world: Path, tmp_path: Path) -> Path:
    """A study without weights, whose runs of three sizes have answered the suite."""
    made_with, rows = looked(6, sd=0.002)
    root = write(tmp_path / "curved", rows, made_with)
    plan, file = load_suite(str(world / "tiny.yaml"))
    for place, record in enumerate(map(named, rows)):
        if record.stage is Stage.CONFIRM:
            assert record.scores is not None
            draw = np.random.default_rng(place)
            bits = (record.scores.bits_per_byte + draw.normal(0, 0.01, 4)).tolist()
            samples = {"documents": "d", "values": {"bits_per_byte": text_of(bits)}}
            facts = {"leading": "bits_per_byte", "higher_is_better": False}
            answer = {
                "results": {"text": {"bits_per_byte,none": float(np.mean(bits))}},
                "tasks": {"text": facts},
                "samples": {"text": samples},
                "config": {"suite_hash": plan.identity(file.parent), "corpus": "f00d",
                           "part": "test", "mode": "causal"},
            }  # fmt: skip
            path = root / "trials" / record.hash / "eval" / "tiny.json"
            path.write_text(json.dumps(answer))
    return root


def test_a_study_stands_for_its_runs_of_all_sizes(world: Path, curved: Path) -> None:
    found = compared(world, curved)
    assert [(side.runs, side.sizes) for side in found.sides] == [(6, 3), (6, 3)]
    assert any("runs of all confirmed sizes" in note for note in found.notes)
    assert [row.over for row in found.differences] == ["seeds and documents"]
    study = library.open_study(curved)
    dense = next(arm for arm in study.claims.confirmed if arm.arm == "dense")
    scores = {
        record.hash: study.directory.evaluations(record.hash)["tiny"]["results"]["text"]
        for record in dense.all_records
    }
    expected = sum(
        factor / 2 * scores[record.hash]["bits_per_byte,none"]
        for factor, group in zip(dense.estimate.factors, dense.groups, strict=True)
        for record in group.records
    )
    score = next(s for s in found.scores if s.side.endswith(":dense"))
    assert score.value == pytest.approx(expected, rel=1e-3)
    known = {each.hash: study.directory.evaluations(each.hash) for each in study.trials}
    means = evaluation_means(study.evaluations, known, arms=study.claims.confirmed)
    [row] = [row for row in means.to_dict("records") if row["arm"] == "dense" and
             (row["suite"], row["role"]) == ("tiny", "leads")]  # fmt: skip
    assert row["mean"] == pytest.approx(expected)
    assert row["seeds"] == 6
    [gap] = evaluation_differences(study.headline.comparison, known).to_dict("records")
    assert gap["difference"] == pytest.approx(found.differences[0].value)
    assert gap["difference high"] == pytest.approx(found.differences[0].high)


def test_runs_that_can_not_be_scored_are_left_out_and_told(world: Path, curved: Path) -> None:
    study = library.open_study(curved)
    dense = next(arm for arm in study.claims.confirmed if arm.arm == "dense")
    files = {
        record.hash: curved / "trials" / record.hash / "eval" / "tiny.json"
        for record in dense.all_records
    }
    files[dense.groups[1].records[0].hash].unlink()
    found = compared(world, curved)
    assert [(side.runs, side.sizes) for side in found.sides] == [(5, 3), (6, 3)]
    assert f"{curved}:dense: 5 of 6 finished runs have weights or scores" in found.notes
    for record in dense.all_records:
        if record not in dense.records:
            files[record.hash].unlink(missing_ok=True)
    found = compared(world, curved)
    assert found.sides[0].sizes == 1, "what only some sizes have is of the one that stands for all"
    for path in files.values():
        path.unlink(missing_ok=True)
    with pytest.raises(ModsearchError, match="has no weights, and no results of suite `tiny`"):
        compared(world, curved)


def test_two_seeds_of_one_model_are_no_better_and_worse_architecture(
    world: Path, winners: ScoreComparison
) -> None:
    """However small p is over documents: the words are about these weights."""
    first, second = trials_of(world, "dense")[:2]
    for targets in ((first, second), (first, world / "study")):
        found = compared(world, *targets)
        assert all(row.weights_alone for row in found.differences)
        words = {row.verdict for row in found.differences if row.p is not None and row.p < 0.05}
        assert words <= {"better (these weights alone)", "worse (these weights alone)"}
    assert {row.over for row in found.differences} == {"seeds and documents"}, "of the study"
    one, two = ({"one": json.loads((trial / "eval" / "tiny.json").read_text())}["one"]
                for trial in (first, second))  # fmt: skip
    for side, value in ((one, 4.0), (two, 9.0)):
        side["samples"]["text"]["values"]["bits_per_byte"] = " ".join(
            str(value + value * place / 100) for place in range(4)
        )
    [text, _] = compare_scores("tiny", [Contender("a", [one]), Contender("b", [two])]).differences
    assert text.verdict == "worse (these weights alone)"
    assert text.p is not None
    assert text.p < 1e-3
    others = [Contender("a", [one, one, one]), Contender("b", [two], fixed=True)]
    assert compare_scores("tiny", others).differences[0].verdict == "worse"
    found = compared(world, first, second)
    assert any("seeds of one candidate" in note for note in found.notes)
    assert any("of these weights, and not of its architecture" in note for note in found.notes)
    assert not any("other budgets" in note for note in found.notes)


def test_other_budgets_are_told(world: Path, winners: ScoreComparison, tmp_path: Path) -> None:
    dense, mod = (trials_of(world, arm)[0] for arm in ("dense", "mod"))
    trained = tmp_path / "trained"
    shutil.copytree(mod, trained)
    config = yaml.safe_load((trained / "config.yaml").read_text())
    config["budget"]["flops"] = 1e8
    (trained / "config.yaml").write_text(yaml.safe_dump(config))
    [note] = [note for note in compared(world, dense, trained).notes if "other budgets" in note]
    assert "with 5e7" in note
    assert "with 1e8" in note


def test_what_was_asked_already_is_not_told_again(
    world: Path, winners: ScoreComparison, others: tuple[Path, Path], tmp_path: Path
) -> None:
    """Of a bare checkpoint, of somebody else's model, and of what `eval` has asked."""
    shutil.copytree(trials_of(world, "mod")[0] / "checkpoint", tmp_path / "bare")
    told: list[str] = []
    targets = [trials_of(world, "dense")[0], tmp_path / "bare", others[0]]
    first = compared(world, *targets, progress=told.append)
    assert len(told) == 2, "the trial has its results"
    told.clear()
    assert compared(world, *targets, progress=told.append) == first
    assert told == []
    suite = str(world / "tiny.yaml")
    library.evaluate(others[1], suite, corpus=CORPUS)
    compared(world, others[1], others[0], corpus=CORPUS, progress=told.append)
    assert not any(str(others[1]) in line for line in told)


def test_what_is_scored_is_reused_and_means_are_those_of_eval(
    world: Path, winners: ScoreComparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        "modsearch.evaluation.evaluate.evaluate", lambda *_, **__: pytest.fail("scored again")
    )
    assert compared(world, world / "study", progress=told.append) == winners
    assert told == []
    found = library.evaluate(world / "study", str(world / "tiny.yaml"))
    means = [found.results[trial.name]["text"]["bits_per_byte,none"] for trial in
             trials_of(world, "dense")]  # fmt: skip
    [score] = [s for s in winners.scores if s.side.endswith(":dense") and s.task == "text"]
    assert score.value == pytest.approx(sum(means) / 3, rel=1e-3)
    assert all(means.keys() == {"centred accuracy"} or not means for means in
               found.averages.values())  # fmt: skip


def test_scores_on_the_validation_part_are_not_taken_for_those_on_test(
    world: Path, winners: ScoreComparison, tmp_path: Path
) -> None:
    shutil.copytree(world / "study", tmp_path / "study")
    pair = [tmp_path / "study" / "trials" / trials_of(world, arm)[0].name
            for arm in ("dense", "mod")]  # fmt: skip
    expected = compared(world, *pair)
    for trial in pair:
        path = trial / "eval" / "tiny.json"
        found = json.loads(path.read_text())
        found["config"]["part"] = "validation"
        path.write_text(json.dumps(found))
    assert compared(world, *pair).scores == expected.scores
    assert json.loads((pair[0] / "eval" / "tiny.json").read_text())["config"]["part"] == "test"


def test_a_packed_study_is_compared_without_weights(world: Path, winners: ScoreComparison) -> None:
    packed = world / "study.tar.xz"
    library.pack(world / "study", packed)
    found = compared(world, packed)
    assert [row.value for row in found.differences] == [row.value for row in winners.differences]
    other = yaml.safe_load((world / "tiny.yaml").read_text()) | {"description": "Another."}
    (world / "other.yaml").write_text(yaml.safe_dump({**other, "name": "other"}))
    with pytest.raises(ModsearchError, match="has no weights, and no results of suite `other`"):
        library.compare([packed], str(world / "other.yaml"))


def test_trials_and_bare_checkpoints_are_compared_over_documents(
    world: Path, winners: ScoreComparison, tmp_path: Path
) -> None:
    dense, mod = trials_of(world, "dense")[0], trials_of(world, "mod")[0]
    shutil.copytree(mod / "checkpoint", tmp_path / "bare")
    found = compared(world, dense, mod, tmp_path / "bare")
    assert [side.runs for side in found.sides] == [1, 1, 1]
    assert {row.over for row in found.differences} == {"documents"}
    assert found.adjusted_for == 4
    by_side = {
        side: [row.value for row in found.differences if row.side == side]
        for side in (str(mod), str(tmp_path / "bare"))
    }
    assert by_side[str(mod)] == pytest.approx(by_side[str(tmp_path / "bare")])
    assert any("a single run" in note for note in found.notes)
    same = compared(world, mod, tmp_path / "bare")
    assert all((row.value, row.p) == (0, 1) for row in same.differences)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Llama that `transformers` made, and a checkpoint of ours, each with a BPE of its own."""
    transformers = pytest.importorskip("transformers")
    transformers.logging.disable_progress_bar()
    root = tmp_path_factory.mktemp("others")
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=0,
        pad_token_id=None,
    )  # fmt: skip
    llama = transformers.AutoModelForCausalLM.from_config(config)
    llama.save_pretrained(root / "llama")
    train_bpe(["the cat sat on the mat, the end"] * 9, 300).save(root / "llama")
    model = Decoder(ModelConfig(depth=1, width=8, num_heads=1, seq_len=48, vocab_size=280))
    save_model(model, root / "bpe")
    train_bpe(["def f(self): return self.x, self.y"] * 9, 280).save(root / "bpe")
    return root / "llama", root / "bpe"


def test_models_of_several_tokenizers_are_compared_by_bytes(
    world: Path, others: tuple[Path, Path]
) -> None:
    llama, bpe = others
    ours = trials_of(world, "dense")[0]
    suite = str(world / "tiny.yaml")
    found = compared(world, ours, llama, bpe)
    known = {"bits_per_byte", "answer_margin", "answer_bits_per_byte", "centred accuracy"}
    assert {row.metric for row in found.differences} <= known  # nothing is counted by tokens
    assert [(row.side, row.task) for row in found.differences] == [
        (str(llama), "text"), (str(bpe), "text"), (str(llama), "pick"), (str(bpe), "pick"),
    ]  # fmt: skip
    alone = {}
    for model in (ours, llama, bpe):
        results = library.evaluate(model, suite, corpus=CORPUS).results[str(model)]
        alone[str(model)] = results["text"]["bits_per_byte,none"]
    for row in found.differences[:2]:
        assert row.value == pytest.approx(alone[str(ours)] - alone[row.side], rel=1e-3)
        assert row.low is not None
        assert row.high is not None
        assert row.low < row.value < row.high
        assert row.over == "documents"
    [note] = [note for note in found.notes if "a single run" in note]
    assert str(llama) not in note
    assert any(
        note == f"{llama}: taken as it is, without other seeds of it" for note in found.notes
    )


def test_winners_are_compared_with_somebody_else_s_model_over_their_seeds(
    world: Path, winners: ScoreComparison, others: tuple[Path, Path]
) -> None:
    found = compared(world, others[0], world / "study")
    assert [side.runs for side in found.sides] == [1, 3, 3]
    assert {row.over for row in found.differences} == {"seeds and documents"}
    scores = {(row.side, row.task): row.value for row in found.scores}
    for row in found.differences:
        sign = -1 if row.metric == "bits_per_byte" else 1
        gap = scores[row.side, row.task] - scores[row.against, row.task]
        assert row.value == pytest.approx(sign * gap, abs=1e-9)


def test_scores_in_bf16_are_not_compared_with_those_in_fp32(
    world: Path, winners: ScoreComparison
) -> None:
    suite = str(world / "tiny.yaml")
    library.evaluate(world / "study", suite, dtype="bf16")
    assert compared(world, world / "study") == winners


def test_the_terminal_the_figure_and_json_say_the_same(
    world: Path, winners: ScoreComparison, modsearch: Callable[..., Done], tmp_path: Path
) -> None:
    suite = ("--suite", world / "tiny.yaml")
    done = modsearch("compare", world / "study", *suite, "--out", tmp_path / "figures")
    assert done.code == 0, done.err
    value = f"{winners.differences[0].value:+.4f}"
    assert value in done.out
    assert "seeds and documents" in done.out
    assert (tmp_path / "figures" / "scores.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "figures" / "scores.png").read_bytes().startswith(b"\x89PNG")
    done = modsearch("compare", world / "study", *suite, "--json")
    assert ScoreComparison.model_validate_json(done.out) == winners


def test_what_can_not_be_compared_is_told(
    world: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    dense = trials_of(world, "dense")[0]
    suite = ("--suite", world / "tiny.yaml")
    assert "needs two models" in refused("compare", dense, *suite)
    assert "is named twice" in refused("compare", dense, dense, *suite)
    assert "no folder" in refused("compare", dense, tmp_path / "none", *suite)
    assert "--corpus names them" in refused("compare", world / "study", "--suite", "bytes")
    assert "no folder" in refused("compare", world / "study", *suite, "--data-dir", tmp_path / "x")


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_field_that_has_the_text_can_be_named(
    form: str, world: Path, modsearch: Callable[..., Done], refused: Callable[..., str],
    tmp_path: Path,
) -> None:  # fmt: skip
    rows = pd.DataFrame({"content": ["to be or not to be", "that is the question"]})
    path = tmp_path / f"rows.{form}"
    rows.to_parquet(path) if form == "parquet" else rows.to_json(
        path, orient="records", lines=True
    )
    (tmp_path / "plain").mkdir()
    for number, text in enumerate(rows["content"]):
        (tmp_path / "plain" / f"{number}.txt").write_text(text)
    dense, mod = (trials_of(world, arm)[0] for arm in ("dense", "mod"))
    asked = ("--suite", "bytes", "--corpus", path)
    named = "name the one with the text: --text"
    assert named in refused("eval", dense, *asked)
    assert named in refused("compare", dense, mod, *asked)
    assert "name both" in refused("eval", dense, "--text", "content")
    done = modsearch("eval", dense, *asked, "--text", "content")
    assert done.code == 0, done.err
    plain = modsearch("eval", dense, "--suite", "bytes", "--corpus", tmp_path / "plain")
    assert done.out.splitlines()[1:] == plain.out.splitlines()[1:]
    done = modsearch("compare", dense, mod, *asked, "--text", "content", "--json")
    assert len(ScoreComparison.model_validate_json(done.out).differences) == 1


def test_the_text_of_a_study_at_another_place_has_the_field_that_it_had() -> None:
    known = DataConfig.model_validate(
        {"corpus": {"path": "a.jsonl", "text": "content"}, "tokenizer": "bpe"}
    )
    given = corpus_of("b.jsonl")
    assert given is not None
    found = moved(known, given)
    assert found.tokenizer == "bpe"
    assert found.sources == (SourceConfig(path="b.jsonl", text="content"),)
    given = corpus_of("b.jsonl", "body")
    assert given is not None
    assert moved(known, given).sources[0].text == "body"


def test_results_on_other_documents_are_no_comparison(
    world: Path, winners: ScoreComparison
) -> None:
    dense, mod = (evaluations_in(trials_of(world, arm)[0])["tiny"] for arm in ("dense", "mod"))
    samples = {**mod["samples"], "pick": {**mod["samples"]["pick"], "documents": "others"}}
    with pytest.raises(ModsearchError, match="other documents of task `pick`"):
        compare_scores(
            "tiny", [Contender("a", [dense]), Contender("b", [{**mod, "samples": samples}])]
        )
    bare = {key: value for key, value in mod.items() if key != "samples"}
    with pytest.raises(ModsearchError, match=r"other documents|do not say"):
        compare_scores("tiny", [Contender("a", [dense]), Contender("b", [bare])])
