"""Models beside a study: scored on its winners' documents, kept with it, shown by its report."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import Done
from inline import CORPUS, without_workers
from pages import table, tree
from tiny import SPACE, SUITE
from undrawn import undrawn

import modsearch as library
from modsearch.config.data import DataConfig
from modsearch.config.model import ModelConfig
from modsearch.config.samples import asked_of
from modsearch.data.corpus import load_corpus
from modsearch.data.tokenizers import train_bpe
from modsearch.errors import ModsearchError
from modsearch.evaluation.evaluate import evaluate
from modsearch.evaluation.export import export
from modsearch.evaluation.targets import open_model
from modsearch.nn.model import Decoder

VOCAB = 300


def llama(folder: Path, seed: int = 0) -> Path:
    """Llama-shaped weights with a tokenizer of their own."""
    torch.manual_seed(seed)
    model = Decoder(ModelConfig(depth=1, width=8, num_heads=1, seq_len=48, vocab_size=VOCAB))
    export(model, train_bpe(["the cat sat on the mat, the end"] * 9, VOCAB), folder)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with scored winners, its report, and weights of somebody else."""
    root = tmp_path_factory.mktemp("references")
    (root / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    space = {**SPACE, "suite": str(root / "tiny.yaml")}
    with undrawn(), without_workers():
        library.search(space, root / "study")
    llama(root / "someone" / "small-llama")
    return root


@pytest.fixture
def study(world: Path, tmp_path: Path) -> Path:
    """A copy of the study, to be changed."""
    shutil.copytree(world / "study", tmp_path / "study")
    return tmp_path / "study"


def beside(world: Path, study: Path, target: Path | None = None, **options: Any) -> Path:
    """The file of a model's scores beside the study."""
    model = target or world / "someone" / "small-llama"
    found = library.evaluate(model, str(world / "tiny.yaml"), study=study, **options)
    assert found.file is not None
    return Path(found.file)


def test_a_model_is_scored_on_the_documents_of_the_winners(world: Path, study: Path) -> None:
    file = beside(world, study)
    assert file == study / "references" / "small-llama" / "tiny.json"
    found = json.loads(file.read_text())
    opened = library.open_study(study)
    winners = [opened.directory.evaluations(row.hash).get("tiny") for row in opened.trials]
    scored = [each for each in winners if each is not None]
    assert len(scored) == 4
    for each in scored:
        assert asked_of(found) == asked_of(each)
        assert found["samples"]["text"]["documents"] == each["samples"]["text"]["documents"]
    assert found["reference"]["params"] == found["config"]["model_num_parameters"]
    assert found["reference"]["target"] == str(world / "someone" / "small-llama")
    rows = opened.evaluations
    assert sorted(set(rows[rows["stage"] == "reference"]["arm"])) == ["small-llama"]


@pytest.mark.usefixtures("no_figures")
def test_the_report_shows_it_and_without_it_has_the_bytes_that_it_had(
    world: Path, study: Path, tmp_path: Path
) -> None:
    before = tree(library.report(study, tmp_path / "before").parent)
    beside(world, study)
    beside(world, study, opened_trial(study), name="own")
    page = library.report(study, tmp_path / "with")
    means = [row for row in table(page, "evaluation_means") if row["stage"] == "reference"]
    assert [row["arm"] for row in means] == ["own", "small-llama"]
    own, other = means
    assert own["metric"] == other["metric"] == "bits_per_byte"
    assert float(other["params"]) == open_model(other_model(world)).model.num_params
    assert float(other["mean low"]) < float(other["mean"]) < float(other["mean high"])
    assert other["note"] == ""
    gaps = table(page, "reference_differences")
    assert [(row["arm"], row["against"]) for row in gaps] == [
        ("dense", "own"), ("mod", "own"), ("dense", "small-llama"), ("mod", "small-llama"),
    ]  # fmt: skip
    scores = {row["arm"]: float(row["mean"]) for row in table(page, "evaluation_means")}
    for row in gaps:
        gap = scores[row["against"]] - scores[row["arm"]]  # bits: fewer are better
        assert float(row["difference"]) == pytest.approx(gap, rel=1e-2, abs=1e-3)
        assert row["over"] == "seeds and documents"
    assert (page.parent / "figures" / "references.svg").is_file()
    assert "(reference)" in page.read_text()
    library.pack(study, tmp_path / "records.tar.xz")
    packed = library.report(tmp_path / "records.tar.xz", tmp_path / "packed")
    assert tree(packed.parent) == tree(page.parent)
    shutil.rmtree(study / "references")
    assert tree(library.report(study, tmp_path / "without").parent) == before


def other_model(world: Path) -> str:
    return str(world / "someone" / "small-llama")


def opened_trial(study: Path) -> Path:
    """A trial with weights."""
    opened = library.open_study(study)
    return opened.folder(opened.best())


def test_a_checkpoint_and_a_name_of_the_hub_s_kind_are_taken_too(
    world: Path, study: Path, modsearch: Callable[..., Done]
) -> None:
    trial = opened_trial(study)
    suite = ("--suite", world / "tiny.yaml", "--study", study)
    done = modsearch("eval", trial / "checkpoint", *suite)
    assert done.code == 0, done.err
    assert (
        done.out.splitlines()[-1] == f"results: {study / 'references' / trial.name / 'tiny.json'}"
    )
    assert "modsearch report" in done.err
    done = modsearch("eval", f"hf:{other_model(world)}", *suite, "--name", "theirs", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["file"] == str(study / "references" / "theirs" / "tiny.json")
    assert modsearch("eval", trial, *suite).code == 0  # the same model again


@pytest.mark.usefixtures("no_figures")
def test_what_is_damaged_or_of_other_documents_is_told_and_breaks_nothing(
    world: Path, study: Path, tmp_path: Path
) -> None:
    file = beside(world, study)
    before = tree(library.report(study, tmp_path / "before").parent)
    for name in ("cut", "plain", "other"):
        (study / "references" / name).mkdir()
    text = file.read_text()
    (study / "references" / "cut" / "tiny.json").write_text(text[:100])
    plain = json.loads(text)
    del plain["reference"]
    (study / "references" / "plain" / "tiny.json").write_text(json.dumps(plain))
    other = json.loads(text)
    other["config"]["corpus"] = "another text"
    (study / "references" / "other" / "tiny.json").write_text(json.dumps(other))
    page = library.report(study, tmp_path / "page")
    shown = page.read_text()
    assert "references/other/tiny.json: not shown" in shown
    left_out = "\n".join(library.open_study(study).left_out())
    for name in ("cut", "plain"):
        assert f"references/{name}/tiny.json" in left_out
        assert f"references/{name}/tiny.json" in shown
    assert table(page, "reference_differences") == table(
        tmp_path / "before" / "index.html", "reference_differences"
    )
    assert tree(page.parent)["figures/references.svg"] == before["figures/references.svg"]


@pytest.mark.usefixtures("no_figures")
def test_a_winner_of_other_documents_is_held_against_nothing(
    world: Path, study: Path, tmp_path: Path
) -> None:
    beside(world, study)
    opened = library.open_study(study)
    for row in opened.trials:
        path = opened.directory.trial(row.hash) / "eval" / "tiny.json"
        if row.arm == "mod" and path.is_file():
            results = json.loads(path.read_text())
            results["config"]["corpus"] = "of other tokens"
            path.write_text(json.dumps(results))
    page = library.report(study, tmp_path / "page")
    gaps = table(page, "reference_differences")
    assert [(row["arm"], row["against"]) for row in gaps] == [("dense", "small-llama")]
    drawn = (page.parent / "figures" / "references.csv").read_text()
    assert ",dense," in drawn
    assert ",mod," not in drawn


def test_what_can_not_stand_beside_a_study_is_refused(
    world: Path, study: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    model, suite = other_model(world), ("--suite", world / "tiny.yaml")
    there = (*suite, "--study", study)
    assert "no study in" in refused("eval", model, *suite, "--study", tmp_path / "none")
    assert "add --study" in refused("eval", model, *suite, "--name", "x", "--corpus", CORPUS)
    assert "is a study" in refused("eval", study, *there)
    assert "is an arm of the study" in refused("eval", model, *there, "--name", "mod")
    assert "--name must be up to 100" in refused("eval", model, *there, "--name", "../x")
    said = refused("eval", model, "--suite", "quick", "--study", study)
    assert "has no scores of suite `quick`" in said
    assert f"modsearch eval {study} --suite quick" in said
    beside(world, study)
    second = llama(tmp_path / "small-llama", seed=1)
    said = refused("eval", second, *there)
    assert "`small-llama`" in said
    assert "is another model already" in said
    assert "--name gives" in said
    changed = yaml.safe_load((world / "tiny.yaml").read_text())
    changed["tasks"][0]["dataset_kwargs"]["num"] = 3
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(changed))
    said = refused("eval", model, "--suite", tmp_path / "tiny.yaml", "--study", study)
    assert "another suite `tiny`" in said
    for folder in (study / "trials").iterdir():
        if (folder / "eval").is_dir():
            shutil.rmtree(folder)
    assert "no confirmed trials" in refused("eval", model, *there)


def test_documents_are_those_of_the_study_s_tokens_whatever_the_model_s_are(
    world: Path, tmp_path: Path
) -> None:
    data = DataConfig(corpus=CORPUS, tokenizer="bpe")
    corpus = load_corpus(data, 280)
    torch.manual_seed(0)
    ours = Decoder(ModelConfig(depth=1, width=8, num_heads=1, seq_len=48, vocab_size=280))
    theirs = open_model(other_model(world))
    assert theirs.model.config.vocab_size == VOCAB
    suite = str(world / "tiny.yaml")
    one = evaluate(ours, suite, data, "test", tokenizer=corpus.tokenizer)
    two = evaluate(
        theirs.model,
        suite,
        data,
        "test",
        tokenizer=theirs.tokenizer,
        fingerprint=corpus.facts.fingerprint,
        vocab_size=280,
    )
    assert asked_of(one) == asked_of(two)
    assert one["samples"]["text"]["documents"] == two["samples"]["text"]["documents"]
    with pytest.raises(ModsearchError, match="is not what it was trained on"):
        evaluate(
            theirs.model, suite, data, "test", tokenizer=theirs.tokenizer,
            fingerprint=corpus.facts.fingerprint,
        )  # fmt: skip
