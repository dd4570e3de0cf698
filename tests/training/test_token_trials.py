"""A trial of tokens that are no bytes: what its folder has, and what its scores mean."""

import math
from pathlib import Path

import pytest
from tiny import write_words

import modsearch
from modsearch.config.data import DataConfig
from modsearch.config.records import Candidate, Record, State
from modsearch.data.corpus import load_corpus
from modsearch.data.tokenizers import read_tokenizer
from modsearch.errors import ModsearchError
from modsearch.store.directory import StudyDirectory
from modsearch.training.trial import run_trial, single_job

VOCABULARY = 300


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words in random order."""
    return write_words(tmp_path_factory.mktemp("text") / "text.jsonl")


def candidate(text: Path, vocab_size: int = VOCABULARY, block: str = "mod") -> Candidate:
    return Candidate.model_validate(
        {
            "model": {"block": block, "depth": 2, "width": 8, "seq_len": 32, "num_heads": 1,
                      "vocab_size": vocab_size},
            "optim": {"batch_size": 2, "min_steps": 5},
            "data": {"corpus": str(text), "tokenizer": "bpe"},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    root = tmp_path_factory.mktemp("trial")
    record = run_trial(root, single_job(candidate(text), 3e8, 0))
    assert record.state is State.COMPLETE, record.reason
    return root, record


def test_a_checkpoint_keeps_its_tokenizer(text: Path, trained: tuple[Path, Record]) -> None:
    root, record = trained
    folder = StudyDirectory(root).trial(record.hash) / "checkpoint"
    corpus = load_corpus(DataConfig(corpus=str(text), tokenizer="bpe"), VOCABULARY)
    found = read_tokenizer(folder)
    assert found.name == corpus.tokenizer.name == "bpe-300"
    assert found.encode(["abc def"]) == corpus.tokenizer.encode(["abc def"])


def test_bits_per_byte_are_those_of_the_text(text: Path, trained: tuple[Path, Record]) -> None:
    _, record = trained
    assert record.scores is not None
    corpus = load_corpus(DataConfig(corpus=str(text), tokenizer="bpe"), VOCABULARY)
    per_token = len(corpus.text("validation")) / len(corpus.parts["validation"])
    assert per_token > 1.5
    expected = record.scores.causal_loss / math.log(2) / per_token
    assert record.scores.bits_per_byte == pytest.approx(expected)


def test_routing_reports_say_what_tokens_are(trained: tuple[Path, Record]) -> None:
    root, record = trained
    report = StudyDirectory(root).routing(record.hash)
    assert report is not None
    assert report.named
    assert set(report.texts) == set(report.named)
    tokenizer = read_tokenizer(StudyDirectory(root).trial(record.hash) / "checkpoint")
    assert all(report.texts[token] == tokenizer.decode([token]) for token in report.named)


def test_text_is_sampled_with_the_tokenizer_of_the_checkpoint(
    trained: tuple[Path, Record],
) -> None:
    root, record = trained
    folder = StudyDirectory(root).trial(record.hash)
    found = modsearch.generate(folder, ["abc", "the"], tokens=5, temperature=0)
    assert [each[:3] for each in found.texts] == ["abc", "the"]
    tokenizer = read_tokenizer(folder / "checkpoint")
    [prompt] = tokenizer.encode(["abc"])
    assert found.texts[0] == tokenizer.decode([*prompt, *found.tokens[0]])


def test_a_vocabulary_that_is_smaller_than_the_tokenizer_is_told(text: Path) -> None:
    tokens = load_corpus(DataConfig(corpus=str(text), tokenizer="bpe"), VOCABULARY)
    folder = tokens.folder
    smaller = candidate(text, VOCABULARY - 1).model_copy(
        update={"data": DataConfig(corpus=str(text), tokenizer=str(folder))}
    )
    with pytest.raises(ModsearchError, match="vocab_size 299 is less than the 300 tokens of"):
        single_job(smaller, 3e8, 0)


def test_rows_that_no_token_uses_are_told_before_training(text: Path, tmp_path: Path) -> None:
    made = candidate(text).model_copy(update={"data": DataConfig(corpus=str(text))})
    told: list[str] = []
    modsearch.train(made, 1e8, out=tmp_path, progress=lambda event: told.append(str(event)))
    [place] = [place for place, line in enumerate(told) if "but the tokenizer has 256" in line]
    assert place < next(place for place, line in enumerate(told) if "single" in line)
