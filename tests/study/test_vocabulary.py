"""Studies whose arms differ in vocabulary: a tokenizer for each, losses in nats per byte."""

import json
import math
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from inline import Inline, quietly
from matplotlib.text import Text
from tiny import SUITE, write_words

import modsearch
from modsearch.analysis.claims import study_claims
from modsearch.config.data import DataConfig, Validation
from modsearch.config.evaluation import Scoring
from modsearch.config.manifest import Manifest
from modsearch.config.model import ModelConfig
from modsearch.config.records import Budget, Candidate, Infeasible, Job, Record, Stage
from modsearch.config.runtime import Runtime
from modsearch.data import prepare
from modsearch.data.corpus import load_corpus
from modsearch.data.tokenizers import read_tokenizer
from modsearch.errors import ConfigError, StudyError
from modsearch.evaluation.evaluate import evaluate_winners
from modsearch.planning import speed
from modsearch.reporting.figures import comparisons, curves
from modsearch.space.candidates import load_space
from modsearch.store.directory import StudyDirectory
from modsearch.study.agreement import constants, refuse_unlike
from modsearch.study.runner import Runner
from modsearch.training.checkpoint import load_model
from modsearch.training.scoring import score

SIZES = (256, 300)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words in random order."""
    return write_words(tmp_path_factory.mktemp("text") / "text.jsonl")


ONE = {"ladder": [{"budget": 4e7, "depth": 2, "widths": [4]}], "windows": 4}


def space(text: Path, **changes: Any) -> dict[str, Any]:
    """A routed arm of a BPE against a dense one of bytes."""
    plain = {
        "name": "vocabulary",
        "data": {"corpus": str(text), "tokenizer": "bpe"},
        "fixed": {
            "model": {"seq_len": 32, "num_heads": 1},
            "optim": {"batch_size": 2, "min_steps": 5},
        },
        "arms": {
            "bytes": {"model": {"block": "dense", "vocab_size": 256}},
            "bpe": {"model": {"block": "mod", "vocab_size": 300}},
        },
        "measure": {
            "ladder": [{"budget": 4e7, "depth": 2, "widths": [4, 6]}],
            "windows": 4,
        },
        "confirm": {"budgets": [4e7], "seeds": 3, "windows": 40},
        "resources": {"workers": 1},
    }
    return {**plain, **changes}


def run(plain: dict[str, Any], root: Path) -> Runner:
    runner = Runner(load_space(plain, []), root, make_engine=partial(Inline, quietly))
    runner.run()
    return runner


@pytest.fixture(scope="module")
def searched(text: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyDirectory:
    root = tmp_path_factory.mktemp("study") / "study"
    return run(space(text), root).directory


def test_a_loss_is_that_of_a_token_over_its_bytes(text: Path, searched: StudyDirectory) -> None:
    data = DataConfig(corpus=str(text), tokenizer="bpe")
    records = [each for each in searched.records() if each.stage is Stage.CONFIRM]
    assert Counter(each.arm for each in records) == {"bytes": 3, "bpe": 3}
    for record in records:
        assert record.scores is not None
        assert record.unit == "byte"
        tokens = load_corpus(data, record.candidate.model.vocab_size)
        model = load_model(searched.trial(record.hash) / "checkpoint")
        loss = score(model, tokens.windows(record.validation, 32), "cpu")
        size = len(tokens.text("test")) / len(tokens.parts["test"])
        assert size == pytest.approx(1.0 if record.arm == "bytes" else 1.6, abs=0.1)
        assert record.scores.causal_loss == pytest.approx(loss.causal / size)
        assert record.scores.train_mode_loss == pytest.approx(loss.train_mode / size)
        assert record.scores.block_losses == pytest.approx(np.array(loss.block_losses) / size)
        assert record.scores.realised_forward_flops == pytest.approx(
            loss.realised_forward_flops / size
        )
        assert record.scores.bits_per_byte == pytest.approx(
            record.scores.causal_loss / math.log(2)
        )
        log = (searched.trial(record.hash) / "metrics.jsonl").read_text().splitlines()
        last = json.loads(log[-1])["loss"]
        assert record.scores.final_train_loss == pytest.approx(last, rel=0.2), "the same unit"


def test_each_model_has_its_own_tokens(text: Path, searched: StudyDirectory) -> None:
    data = DataConfig(corpus=str(text), tokenizer="bpe")
    manifest = searched.manifest()
    assert manifest.unit == "byte"
    assert list(manifest.corpora) == list(SIZES)
    assert (
        load_corpus(data, 256).facts.fingerprint
        == load_corpus(DataConfig(corpus=str(text))).facts.fingerprint
    ), "a BPE of 256 is the bytes"
    for record in searched.records():
        assert record.plan is not None
        facts = load_corpus(data, record.candidate.model.vocab_size).facts
        assert manifest.facts_of(record.candidate.model) == facts
        assert record.plan.epochs == pytest.approx(record.plan.tokens / facts.train_tokens)
        if record.stage is Stage.CONFIRM:
            tokenizer = read_tokenizer(searched.trial(record.hash) / "checkpoint")
            assert tokenizer.vocab_size == record.candidate.model.vocab_size


@pytest.mark.usefixtures("no_figures")
def test_the_report_speaks_of_nats_per_byte(searched: StudyDirectory, tmp_path: Path) -> None:
    study = modsearch.open_study(searched.root)
    page = study.report(tmp_path / "report")
    text = (page.parent / "report.md").read_text()
    sentence = study.headline.sentence
    assert "nats per byte" in sentence
    assert "nats per token" not in sentence
    assert sentence in text.replace("\\", "")
    assert "nats per token" not in _without_corpus(text)
    assert "forward FLOPs per byte, realised" in study.records
    assert study.outcome().unit == study.status().unit == "byte"
    corpus = (page.parent / "tables" / "corpus.csv").read_text().splitlines()
    assert corpus[0] == "vocab_size,256,300"


def _without_corpus(text: str) -> str:
    """What a tokenizer's own entropies are, the table of the corpus says for each token."""
    return "\n".join(line for line in text.splitlines() if "entropy (nats per token)" not in line)


def test_figures_speak_of_nats_per_byte(searched: StudyDirectory) -> None:
    claims, arms = modsearch.open_study(searched.root).claims, ["bytes", "bpe"]
    drawn = [
        curves.isoflop(claims, arms), curves.forward(claims, arms, claims.dense_minima),
        comparisons.confirm(claims, arms), comparisons.differences(claims),
    ]  # fmt: skip
    for each in drawn:
        assert each is not None
        labels = [text.get_text() for text in each.figure.findobj(Text)]
        assert any("per byte" in label for label in labels), each.name
        assert not any("per token" in label for label in [each.caption, *labels])


@pytest.mark.parametrize("margin", [1e-3, 9.0])
def test_the_margin_is_held_against_nats_per_byte(margin: float, searched: StudyDirectory) -> None:
    manifest = searched.manifest()
    assert manifest.confirm is not None
    trained = {size: facts.model_copy(update={"bigram_entropy": 99.0})
               for size, facts in manifest.corpora.items()}  # fmt: skip
    design = manifest.confirm.model_copy(update={"margin": margin})
    changed = manifest.model_copy(update={"confirm": design, "corpora": trained})
    claim = study_claims(changed, searched.records()).headline
    assert claim.comparison is not None
    assert "nats per byte" in claim.reason
    if claim.verdict == "equivalent":
        assert f"within the margin of {margin:g}" in claim.reason


def test_a_model_is_untrained_by_the_bigrams_of_its_own_tokens(searched: StudyDirectory) -> None:
    manifest, records = searched.manifest(), searched.records()
    study = modsearch.open_study(searched.root)
    for arm, size in zip(("bytes", "bpe"), SIZES, strict=True):
        facts = manifest.corpora[size]
        floor = facts.bigram_entropy / facts.bytes_per_token_of("validation")
        model = next(row for row in records if row.arm == arm).candidate.model
        assert manifest.bigram_entropy(model) == pytest.approx(floor)
        worst = _with_loss(next(row for row in records if row.arm == arm), floor + 1e-3)
        assert "nats per byte" in study.doubts(worst)[0]
        assert not study.doubts(_with_loss(worst, floor - 1e-3))
        losses = [
            _with_loss(row, floor + 1e-3 if row.arm == arm else 0.1)
            for row in records
            if row.stage is Stage.CONFIRM
        ]
        kept = [row for row in records if row.stage is not Stage.CONFIRM]
        claim = study_claims(manifest, [*kept, *losses]).headline
        assert claim.verdict == "untrained"
        assert f"loss of {arm}, {floor + 1e-3:.3f} nats per byte" in claim.reason


def _with_loss(record: Record, loss: float) -> Record:
    assert record.scores is not None
    scores = record.scores.model_copy(update={"causal_loss": loss})
    return record.model_copy(update={"scores": scores})


def test_winners_are_scored_on_the_text_of_their_own_tokens(
    text: Path, searched: StudyDirectory, tmp_path: Path
) -> None:
    suite = tmp_path / "tiny.yaml"
    suite.write_text(yaml.safe_dump(SUITE))
    records = [each for each in searched.records() if each.stage is Stage.CONFIRM]
    data = DataConfig(corpus=str(text), tokenizer="bpe")
    found = evaluate_winners(searched, records, suite, data)
    assert found.keys() == {record.hash for record in records}
    asked = set()
    for record in records:
        results = searched.evaluations(record.hash)["tiny"]
        facts = searched.manifest().facts_of(record.candidate.model)
        assert results["config"]["corpus"] == facts.fingerprint
        asked.add(json.dumps(results["samples"]["text"]["documents"]))
        bits = results["results"]["text"]["bits_per_byte,none"]
        assert record.scores is not None
        assert bits == pytest.approx(record.scores.bits_per_byte, rel=0.3)
    assert len(asked) == 1, "all answer the same documents"


def test_a_finished_trial_is_scored_as_itself(text: Path, searched: StudyDirectory) -> None:
    runner = Runner(load_space(space(text), []), searched.root)
    for record in searched.records():
        assert runner.stages.scored(record, Scoring(suite="quick")).hash == record.hash


def test_a_study_with_several_tokenizers_is_packed_and_opened(
    searched: StudyDirectory, tmp_path: Path
) -> None:
    study = modsearch.open_study(searched.root)
    packed = study.pack(tmp_path / "records.tar.xz")
    again = modsearch.open_study(packed.records)
    assert again.trials == study.trials
    assert again.manifest == study.manifest
    assert again.headline.sentence == study.headline.sentence


def test_speeds_are_told_for_each_byte(searched: StudyDirectory) -> None:
    found = modsearch.time_winners(searched.root, rounds=2, seconds=1e-3)
    assert found.unit == "byte"
    assert {each.arm for each in found.arms if each.decoded} == {"bytes", "bpe"}


def test_explore_chooses_a_vocabulary_and_each_tokenizer_is_trained_once(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train = prepare.train_bpe

    def counted(texts: Any, vocab_size: int) -> Any:
        trained.append(vocab_size)
        return train(texts, vocab_size)

    monkeypatch.setattr(prepare, "train_bpe", counted)
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "cache"))
    open_axis = {"model": {"vocab_size": {"choice": [256, 270, 280]}}}
    plain = space(
        text,
        axes=open_axis,
        arms={"mod": {"model": {"block": "mod"}}},
        explore={"budgets": [4e7], "size": {"depth": 2, "width": 4}, "windows": 4},
        measure=ONE,
    )
    del plain["confirm"]
    runner = run(plain, tmp_path / "study")
    assert trained == [270, 280], "256 are the bytes"
    records = runner.directory.records()
    explored = [each for each in records if each.stage is Stage.EXPLORE]
    assert {each.candidate.model.vocab_size for each in explored} == {256, 270, 280}
    best = min(explored, key=lambda each: each.scores.causal_loss if each.scores else math.inf)
    [measured] = [each for each in records if each.stage is Stage.MEASURE]
    assert measured.candidate.model.vocab_size == best.candidate.model.vocab_size
    again = run(plain, tmp_path / "study")
    assert again.directory.records() == records
    assert trained == [270, 280]


def test_one_tokenizer_has_nats_per_token_as_before(text: Path, tmp_path: Path) -> None:
    plain = space(text, arms={"bpe": space(text)["arms"]["bpe"]}, measure=ONE)
    del plain["confirm"]
    runner = run(plain, tmp_path / "study")
    manifest = runner.manifest
    assert (manifest.unit, manifest.corpora) == ("token", {})
    for record in runner.directory.records():
        assert record.scores is not None
        assert record.unit == "token"
        size = manifest.corpus.bytes_per_token_of("validation")
        assert record.scores.causal_loss / size == pytest.approx(
            record.scores.bits_per_byte * math.log(2)
        )


def test_the_hashes_of_trials_are_what_they_were() -> None:
    job = Job(
        stage=Stage.MEASURE, arm="dense", candidate=Candidate(), budget=Budget(flops=1e9), seed=3,
        validation=Validation(),
        fingerprint="f00d", runtime=Runtime(), plan=Infeasible(reason=""),
    )  # fmt: skip
    assert job.hash == "59f1a29f2b4a0609"
    assert job.model_copy(update={"unit": "byte"}).hash != job.hash


def test_a_manifest_of_before_opens(searched: StudyDirectory, tmp_path: Path) -> None:
    plain = json.loads((searched.root / "manifest.json").read_text())
    del plain["corpora"], plain["unit"]
    found = Manifest.model_validate(plain)
    assert (found.unit, found.corpora) == ("token", {})
    assert found.facts_of(ModelConfig(vocab_size=300)) == found.corpus


def test_records_of_the_other_unit_do_not_count(searched: StudyDirectory, tmp_path: Path) -> None:
    """Whoever copies trials between studies mixes no losses."""
    other = StudyDirectory(tmp_path)
    manifest = searched.manifest()
    record = searched.records()[0]
    facts = manifest.facts_of(record.candidate.model)
    plain = manifest.model_copy(update={"unit": "token", "corpora": {}, "corpus": facts})
    other.write_manifest(plain.model_copy(update={"ledger": "elsewhere"}))
    other.write_record(record)
    assert other.records() == []
    assert "these have losses for each byte" in " ".join(other.results().left_out)


def test_a_study_keeps_its_tokenizers(
    text: Path, searched: StudyDirectory, tmp_path: Path
) -> None:
    arms = {**space(text)["arms"], "third": {"model": {"block": "dense", "vocab_size": 400}}}
    grown = shutil.copytree(searched.root, tmp_path / "grown")
    manifest = Runner(load_space(space(text, arms=arms), []), grown).manifest
    assert manifest.corpora.keys() == {256, 300, 400}, "an arm may bring a tokenizer of its own"
    assert StudyDirectory(grown).records() == searched.records()
    folder = load_corpus(DataConfig(corpus=str(text), tokenizer="bpe"), 300).folder
    given = {"corpus": str(text), "tokenizer": str(folder)}
    arms = {
        "dense": {"model": {"block": "dense", "vocab_size": 300}},
        "padded": {"model": {"block": "dense", "vocab_size": 320}},
    }
    plain = space(text, data=given, arms=arms, measure=ONE)
    del plain["confirm"]
    runner = run(plain, tmp_path / "study")
    assert runner.manifest.unit == "token", "one tokenizer, whatever rows the heads have"
    plain["data"] = space(text)["data"]
    with pytest.raises(StudyError) as error:
        run(plain, tmp_path / "study")
    assert "has losses for each token" in str(error.value)
    assert "vocabularies 300, 320" in str(error.value)


def test_studies_of_other_units_do_not_stand_on_one_page(
    text: Path, searched: StudyDirectory
) -> None:
    manifest = searched.manifest()
    asked = load_space(space(text), [])
    plain = manifest.model_copy(update={"unit": "token", "corpora": {}})
    with pytest.raises(StudyError, match='its unit of loss is "token", not "byte"'):
        refuse_unlike({"a": constants(manifest, asked), "b": constants(plain, asked)})


def test_data_of_a_space_is_prepared_for_each_vocabulary(text: Path) -> None:
    found = modsearch.prepare_data(space(text))
    assert found.corpus.vocab_size == 256
    assert [each.corpus.vocab_size for each in found.others] == [300]
    assert modsearch.show_data(space(text)) == found


def test_plan_knows_each_vocabulary(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.0)  # nothing is timed
    found = modsearch.plan(space(text))
    assert found.unit == "byte"
    assert any("vocab_size (256, 300)" in line for line in found.notes)
    heads = [line for line in found.warnings if "LM head is" in line]
    assert [line.split(":")[0] for line in heads] == ["vocab_size 256", "vocab_size 300"]


OPEN = {"bytes": {"model": {"block": "dense"}}}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"int": [256, 100_000]}, "has a tokenizer of its own"),
        ({"log": [256, 1024]}, "has a tokenizer of its own"),
        ({"int": [256, 276]}, "would train 21 tokenizers, one for each vocab_size: 16 are the"),
        ({"choice": [255, 512]}, "a whole number of 256 or more, but got 255"),
        ({"choice": ["many", 512]}, 'a whole number of 256 or more, but got "many"'),
        (256, "`bpe` with a vocab_size of 256 alone is `bytes`"),
    ],
)
def test_vocabularies_that_can_not_be_are_refused(text: Path, value: Any, said: str) -> None:
    plain = space(text, axes={"model": {"vocab_size": value}}, arms=OPEN)
    with pytest.raises(ConfigError) as error:
        load_space(plain, [])
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_a_control_may_have_another_vocabulary(text: Path) -> None:
    control = {"control_of": "bpe", "model": {"router": "random", "vocab_size": 280}}
    found = load_space(space(text, arms={**space(text)["arms"], "random": control}), [])
    assert found.vocab_sizes == [256, 280, 300]
    assert found.unit == "byte"
