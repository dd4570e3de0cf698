"""Tokenizers: what they make of any text, and that a folder gives back what was saved."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modsearch.config.data import SourceConfig
from modsearch.data.hub import files_of, model_folder
from modsearch.data.tokenizers import (
    END,
    MODEL,
    SETTINGS,
    ByteTokenizer,
    FileTokenizer,
    Tokenizer,
    open_tokenizer,
    read_tokenizer,
    train_bpe,
)
from modsearch.errors import ConfigError, DataError, shown

TEXTS = ["the cat sat on the mat, the dog on the log\n" * 20, "für Elise, naïve café\n" * 20]
BPE = train_bpe(TEXTS, 280)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["bytes", "bpe"])
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_comes_back_and_none_has_the_end_of_a_document(
    tokenizer: Tokenizer, text: str
) -> None:
    [tokens] = tokenizer.encode([text])
    assert tokenizer.decode(tokens) == text
    assert tokenizer.end not in tokens
    assert all(0 <= token < tokenizer.vocab_size for token in tokens)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["bytes", "bpe"])
def test_half_of_a_character_is_the_replacement_character(tokenizer: Tokenizer) -> None:
    [tokens] = tokenizer.encode(["a\ud800b"])
    assert tokenizer.decode(tokens) == "a\ufffdb"


def test_a_special_token_that_stands_in_a_text_is_text() -> None:
    text = f"one {END} two"
    [tokens] = BPE.encode([text])
    assert BPE.end not in tokens
    assert BPE.decode(tokens) == text
    assert BPE.decode([*tokens, BPE.end]) == text


def test_a_bpe_does_not_depend_on_the_order_of_texts() -> None:
    assert train_bpe(TEXTS[::-1], 280).model.to_str() == BPE.model.to_str()
    assert BPE.vocab_size == 280
    assert BPE.end == 0


def test_texts_without_so_many_pairs_give_fewer_tokens() -> None:
    assert train_bpe(["ab"], 4000).vocab_size == 258


def test_a_bpe_must_hold_the_bytes() -> None:
    with pytest.raises(ConfigError, match="vocab_size of 257 or more"):
        train_bpe(TEXTS, 256)


def test_a_folder_gives_back_what_was_saved(tmp_path: Path) -> None:
    BPE.save(tmp_path)
    found = read_tokenizer(tmp_path)
    assert isinstance(found, FileTokenizer)
    assert (found.name, found.vocab_size, found.end) == ("bpe-280", 280, 0)
    assert found.encode(TEXTS) == BPE.encode(TEXTS)
    for named in (tmp_path, tmp_path / MODEL):
        assert open_tokenizer(str(named)).encode(TEXTS) == BPE.encode(TEXTS)


def test_a_folder_without_a_tokenizer_is_one_of_bytes(tmp_path: Path) -> None:
    ByteTokenizer().save(tmp_path)
    assert not list(tmp_path.iterdir())
    assert read_tokenizer(tmp_path).name == "bytes"
    assert open_tokenizer("bytes").vocab_size == 256


def test_the_end_of_a_document_is_stated_or_usual_or_asked_for(tmp_path: Path) -> None:
    BPE.save(tmp_path)
    (tmp_path / SETTINGS).unlink()
    assert open_tokenizer(str(tmp_path)).end == 0  # by its usual name
    assert open_tokenizer(str(tmp_path), end="a").end == BPE.model.token_to_id("a")
    (tmp_path / SETTINGS).write_text(json.dumps({"eos_token": {"content": "b"}}))
    assert open_tokenizer(str(tmp_path)).end == BPE.model.token_to_id("b")
    with pytest.raises(ConfigError, match=r'no token "<nope>" to end a document\nname one'):
        open_tokenizer(str(tmp_path), end="<nope>")
    other = json.loads((tmp_path / MODEL).read_text())
    other["added_tokens"] = []
    other["model"]["vocab"] = {
        ("x0" if name == END else name): each for name, each in other["model"]["vocab"].items()
    }
    (tmp_path / MODEL).write_text(json.dumps(other))
    (tmp_path / SETTINGS).unlink()
    with pytest.raises(ConfigError, match="does not say which token ends a document"):
        open_tokenizer(str(tmp_path))


def test_what_is_no_tokenizer_is_told_in_two_lines(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    for name, told in (
        (str(tmp_path / "broken.json"), "can't read tokenizer"),
        (str(tmp_path / "none.json"), "no tokenizer at"),
        (str(tmp_path), "no tokenizer.json in"),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            open_tokenizer(name)
        assert len(str(error.value).splitlines()) <= 2


def test_a_name_of_the_hub_is_told_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"can't be had from the hub.*\nnor is ") as error:
        open_tokenizer("someone/no-such-tokenizer")
    assert len(str(error.value).splitlines()) == 2
    assert f"such a folder in {Path.cwd()}: name a local" in str(error.value)


@pytest.mark.parametrize("name", ["./tok", "../tok", "toks/tok.json", "tok.json", "a/b/c", "a\\b"])
def test_a_place_that_is_not_there_is_no_name_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        open_tokenizer(name)
    first, second = str(error.value).splitlines()
    assert first == f"no tokenizer at {shown(name)} in {tmp_path}"
    assert second.endswith("or a name of the hub, NAME or OWNER/NAME")


@pytest.mark.parametrize("name", ["someone/Model-3.2-1B", "gpt2", "o/gpt2.5"])
def test_a_name_of_the_hub_may_have_a_dot(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="can't be had from the hub"):
        open_tokenizer(name)


def test_places_of_models_and_data_sets_are_no_names_of_the_hub() -> None:
    with pytest.raises(DataError, match=f'no model at "./none" in {Path.cwd()}'):
        model_folder("./none", ["config.json", "*.safetensors"])
    with pytest.raises(DataError, match=f'no data set at "./none" in {Path.cwd()}'):
        files_of(SourceConfig(path="hub:./none"))
