"""What is read of a corpus, in whatever form it is, and what is told of what can't be."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from modsearch.config.data import (
    CorpusFacts,
    DataConfig,
    SourceConfig,
    SourceFacts,
    Validation,
)
from modsearch.data import corpus as corpora
from modsearch.data import reading, tokens
from modsearch.data.batches import Batches
from modsearch.data.corpus import Corpus, load_corpus
from modsearch.data.reading import pieces_of, units_of
from modsearch.data.split import PARTS
from modsearch.data.text import BLOCK_BYTES, Seen, cleaned, cut
from modsearch.data.tokenizers import ByteTokenizer, Tokenizer, train_bpe
from modsearch.errors import DataError

TEXTS = [f"text {number}: " + "abc def " * (number % 7 + 3) + "ü\n" for number in range(130)]
BPE = train_bpe(TEXTS, 280)


def lines(rows: list[object]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def written(folder: Path, name: str, texts: list[str], field: str = "text") -> Path:
    """The same texts in the form that a name says."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    table = pa.table({"id": list(range(len(texts))), field: texts})
    rows = lines([{"id": number, field: text} for number, text in enumerate(texts)])
    if name.endswith(".parquet"):
        parquet.write_table(table, path, row_group_size=17)
    elif name.endswith(".arrow"):
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=13)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(rows))
    elif name.endswith(".zst"):
        half = len(rows) // 2  # of two frames, as parallel writers make them
        compressor = zstandard.ZstdCompressor()
        path.write_bytes(compressor.compress(rows[:half]) + compressor.compress(rows[half:]))
    else:
        path.write_bytes(rows)
    return path


def load(corpus: object, **more: object) -> Corpus:
    return load_corpus(DataConfig.model_validate({"corpus": corpus, **more}), 280)


def read(
    path: Path, seen: Seen | None = None, field: str = "text", tokenizer: Tokenizer | None = None
) -> list[bytes]:
    units = units_of(0, [path], field, tokenizer)
    counts = Seen() if seen is None else seen
    return [piece.text for unit in units for piece in pieces_of(unit, tokenizer, counts)]


FORMS = ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.arrow"]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_same_texts_is_the_same_corpus(tmp_path: Path, name: str) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for number, text in enumerate(TEXTS):
        (plain / f"{number}.txt").write_text(text)
    found = load(str(written(tmp_path / "other", name, TEXTS)))
    assert found.facts.fingerprint == load(str(plain)).facts.fingerprint
    assert found.facts.documents == 130


@pytest.mark.parametrize("name", FORMS)
def test_the_field_with_the_text_is_named(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, TEXTS, field="content")
    assert load({"path": str(path), "text": "content"}).facts.documents == 130
    with pytest.raises(DataError) as caught:
        load(str(path))
    assert '"text"' in str(caught.value)
    assert 'it has "id", "content"' in str(caught.value)
    assert str(path) in str(caught.value)
    assert str(caught.value).count("\n") <= 1


def test_a_line_ends_with_a_line_feed_and_with_nothing_else(tmp_path: Path) -> None:
    texts = ["one\u2028two", "three\x85four", "five\x0csix"]
    assert read(written(tmp_path, "a.jsonl", texts)) == [text.encode() for text in texts]


def test_empty_texts_are_left_out_and_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"text": "a"}, {"text": None}, {"text": " \n"}]) + b"\n")
    seen = Seen()
    assert read(path, seen) == [b"a"]
    assert seen.documents == 1


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (b"{", "line 3"),
        (b"[1]", "a line is a JSON object, but got [1]"),
        (b'{"text": 3}', 'field "text" is no text, but 3'),
        (b"\xff", "line 3"),
        (b"[" * 100_000, "line 3"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(
    tmp_path: Path, row: bytes, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "UNIT_BYTES", 20)  # so that it is not in the first unit
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"text": "one"}, {"text": "two"}]) + row + b"\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert f"{path}, line 3: " in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.zst", "a.parquet", "a.arrow", "a.npy"])
def test_a_file_that_is_not_what_its_name_says_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"nothing of the kind, but long enough to be read for a while")
    with pytest.raises(DataError, match="can't read") as caught:
        read(path, tokenizer=ByteTokenizer())
    assert str(path) in str(caught.value)
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize("size", [1, 50, 333, 4096])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_units_do_not_change_what_is_read(
    tmp_path: Path, name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, name, TEXTS)
    if name == "a.txt":
        path.write_text("".join(TEXTS))
    whole = read(path)
    monkeypatch.setattr(reading, "UNIT_BYTES", size)
    cut_up = read(path)
    assert b"".join(cut_up) == b"".join(whole)
    if name != "a.txt":
        assert cut_up == whole


def test_small_files_share_a_unit(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number:02}.txt").write_text(TEXTS[number])
    files = sorted(tmp_path.iterdir())
    [unit] = units_of(0, files, "text", None)
    assert unit.paths == tuple(files)


def test_text_is_cut_at_ends_of_lines_whatever_blocks_it_comes_in() -> None:
    line = ("x" * 90 + "\n").encode()
    text = line * (5 * BLOCK_BYTES // len(line))
    whole = list(cut([text]))
    assert b"".join(whole) == text
    assert all(piece.endswith(b"\n") for piece in whole)
    assert all(BLOCK_BYTES <= len(piece) < BLOCK_BYTES + len(line) for piece in whole[:-1])
    blocks = [text[start : start + 10_007] for start in range(0, len(text), 10_007)]
    assert list(cut(blocks)) == whole


def test_no_character_is_cut() -> None:
    text = ("ü" * 3 * BLOCK_BYTES + "x").encode()
    for shift in range(2):
        pieces = list(cut([b"x" * shift + text]))
        assert len(pieces) > 5
        assert b"".join(pieces) == b"x" * shift + text
        for piece in pieces:
            piece.decode()


@given(raw=st.binary(max_size=60))
def test_any_bytes_become_text_and_text_stays(raw: bytes) -> None:
    seen = Seen()
    found = cleaned(raw, seen)
    text = found.decode()
    assert "\0" not in text
    assert "\r\n" not in text.replace("\r\r\n", "")
    assert cleaned(found, Seen(), first=False) == found or "\r\n" in text


def test_the_rule_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\nthree \xff\xfe four \xe2\x82\n")
    seen = Seen()
    [text] = read(tmp_path / "a.txt", seen)
    assert text.decode() == "one\ntwo\nthree \ufffd\ufffd four \ufffd\n"
    assert (seen.boms, seen.crlf, seen.invalid) == (1, 2, 3)
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "a\\u0000b\\ud800c\\r\\nd"}\n')
    seen = Seen()
    [text] = read(tmp_path / "b.jsonl", seen)
    assert text.decode() in ("a\ufffdb\ufffdc\nd", "a\ufffdb?c\nd")
    assert (seen.crlf, seen.invalid) == (1, 2)


def shard(path: Path, texts: list[str], kind: type[np.generic], header: bool = False) -> Path:
    """Tokens of texts, each with its end."""
    found = np.array([t for ids in BPE.encode(texts) for t in [*ids, BPE.end]], kind)
    if path.suffix == ".npy":
        np.save(path, found)
        return path
    before = np.zeros(256, np.int32)
    before[0] = tokens.MAGIC
    path.write_bytes((before.tobytes() if header else b"") + found.tobytes())
    return path


@pytest.mark.parametrize(
    ("name", "kind", "header"),
    [
        ("a.bin", np.uint16, False),
        ("a.bin", np.uint16, True),
        ("a.bin", np.uint32, False),
        ("a.npy", np.uint32, False),
    ],
)
def test_shards_of_tokens_are_the_corpus_of_their_text(
    tmp_path: Path, name: str, kind: type[np.generic], header: bool
) -> None:
    BPE.save(tmp_path / "tokenizer")
    path = shard(tmp_path / name, TEXTS, kind, header)
    tokenizer = str(tmp_path / "tokenizer")
    found = load(str(path), tokenizer=tokenizer)
    text = written(tmp_path / "text", "a.jsonl", TEXTS)
    other = load(str(text), tokenizer=tokenizer)
    assert found.facts.fingerprint == other.facts.fingerprint
    for part in PARTS:
        np.testing.assert_array_equal(found.parts[part], other.parts[part])
    assert found.facts.bytes_per_token == other.facts.bytes_per_token > 1
    assert found.parts["train"].dtype == np.uint16


def test_units_of_shards_end_with_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shard(tmp_path / "a.bin", TEXTS, np.uint16)
    whole = read(path, tokenizer=BPE)
    assert [text.decode() for text in whole] == TEXTS
    monkeypatch.setattr(tokens, "UNIT_TOKENS", 200)
    assert len(units_of(0, [path], "text", BPE)) > 10
    assert read(path, tokenizer=BPE) == whole


def test_shards_need_the_tokenizer_that_they_were_made_with(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.bin", TEXTS, np.uint16)
    with pytest.raises(DataError, match="tokenizer that is not named"):
        load(str(path), tokenizer="bpe")
    with pytest.raises(DataError, match=r"has token 27\d, but tokenizer .bytes. has 256"):
        load(str(path))
    (tmp_path / "odd.bin").write_bytes(b"123")
    with pytest.raises(DataError, match="holds no tokens of 2 bytes"):
        load(str(tmp_path / "odd.bin"))
    np.save(tmp_path / "negative.npy", np.array([5, -1, 7]))
    with pytest.raises(DataError, match=r"negative.npy has token -1, but tokenizer"):
        load(str(tmp_path / "negative.npy"))


def test_a_saved_data_set_is_a_corpus(tmp_path: Path) -> None:
    import datasets

    table = datasets.Dataset.from_dict({"text": TEXTS})
    table.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"other": table}).save_to_disk(str(tmp_path / "several"))
    expected = load(str(written(tmp_path, "a.jsonl", TEXTS))).facts.fingerprint
    found = load(f"hub:{tmp_path / 'one'}")
    assert found.facts.fingerprint == expected
    other = load({"path": f"hub:{tmp_path / 'several'}", "split": "other"})
    assert other.facts.fingerprint == expected
    with pytest.raises(DataError, match='has no split "train"'):
        load(f"hub:{tmp_path / 'several'}")


def test_a_streamed_data_set_is_never_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Laid out as repositories of the hub are, with a column that nobody asks for."""
    import datasets

    theirs = tmp_path / "datasets"
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "cache"))
    for name in ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH"):
        monkeypatch.setattr(datasets.config, name, theirs)
    folder = tmp_path / "repository"
    (folder / "data").mkdir(parents=True)
    half = len(TEXTS) // 2
    for place, texts in enumerate((TEXTS[:half], TEXTS[half:])):
        table = pa.table({"text": texts, "other": [f"nobody asks for {text}" for text in texts]})
        parquet.write_table(table, folder / "data" / f"train-{place:05}-of-00002.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: plain\n  data_files: data/train-*\n---\n"
    )
    source = {"path": f"hub:{folder}", "subset": "plain", "streaming": True}
    streamed = load(source).facts.fingerprint
    written_there = [path for path in theirs.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in written_there) == 0  # a lock has none
    [kept] = (tmp_path / "cache" / "hub").iterdir()
    with zstandard.open(kept, "rt", encoding="utf-8", newline="\n") as file:
        assert [json.loads(line) for line in file] == [{"text": text} for text in TEXTS]
    assert load({**source, "streaming": False}).facts.fingerprint == streamed
    assert list(theirs.rglob("*.arrow")), "where nothing is streamed it is there"


def test_a_data_set_may_be_streamed_for_its_text_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    expected = load(str(written(folder, "train.jsonl", TEXTS))).facts
    source = {"path": f"hub:{folder}", "streaming": True}
    assert load(source).facts.fingerprint == expected.fingerprint
    [kept] = (tmp_path / "cache" / "hub").iterdir()
    before = kept.stat().st_mtime_ns
    assert load(source).facts.documents == 130
    assert kept.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="can't read data set"):
        load({**source, "text": "content"})
    assert list((tmp_path / "cache" / "hub").iterdir()) == [kept]


def test_a_streamed_folder_is_read_again_where_it_is_another_or_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "cache"))
    source = {"path": "hub:./set", "streaming": True}
    found = []
    for name, texts in (("one", TEXTS), ("other", TEXTS[:60])):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "set", "train.jsonl", texts)
        monkeypatch.chdir(tmp_path / name)
        found.append(load(source).facts.documents)
    written(tmp_path / "other" / "set", "train.jsonl", TEXTS[:90])
    assert [*found, load(source).facts.documents] == [130, 60, 90]


def test_a_part_of_a_split_is_refused_and_not_read_whole(tmp_path: Path) -> None:
    written(tmp_path / "set", "train.jsonl", TEXTS)
    with pytest.raises(DataError, match=r"is a part of one\nname a whole split, such as .train"):
        load({"path": f"hub:{tmp_path / 'set'}", "split": "train[:50%]"})


def test_without_a_network_one_is_told_of_local_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="can't be had from the hub") as caught:
        load("hub:someone/no-such-data")
    assert "name a local copy: hub:FOLDER" in str(caught.value)
    assert str(caught.value).count("\n") == 1


def test_sources_are_named_once_and_have_weights() -> None:
    several = DataConfig.model_validate({"corpus": ["a", {"path": "b", "weight": 3}]})
    assert several.sources == (SourceConfig(path="a"), SourceConfig(path="b", weight=3))
    assert several.name == "a + b"
    with pytest.raises(ValueError, match="names a place twice"):
        DataConfig.model_validate({"corpus": ["a", "a"]})
    with pytest.raises(ValueError, match="one place or more"):
        DataConfig.model_validate({"corpus": []})


def test_bytes_per_token_are_those_of_what_is_scored_where_sources_have_weights(
    tmp_path: Path,
) -> None:
    long = ["one word and another word, time and again " * 9 + f"{n}\n" for n in range(150)]
    short = ["".join(chr(33 + (n * m) % 90) for m in range(1, 400)) for n in range(150)]
    sources = [
        {"path": str(written(tmp_path, "a.jsonl", long)), "weight": 8},
        {"path": str(written(tmp_path, "b.jsonl", short))},
    ]
    corpus = load(sources, tokenizer="bpe")
    for part in ("validation", "test"):
        sample = corpus.windows(Validation(part=part, windows=None), 15)
        ends = int((sample == corpus.tokenizer.end).sum())
        texts = [corpus.tokenizer.decode(window.tolist()) for window in sample]
        size = sum(len(text.encode()) for text in texts) + ends
        assert corpus.facts.bytes_per_token_of(part) == pytest.approx(size / sample.size, rel=0.08)
    plain = corpus.facts.validation_bytes_per_token
    assert plain is not None
    assert corpus.facts.bytes_per_token_of("validation") > 1.2 * plain


@pytest.mark.parametrize("most", [1, 777, 3000, 10**6])
def test_suites_draw_from_the_same_text_whatever_its_tokens_are(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "MOST_TEXT", most)
    path = str(written(tmp_path, "a.jsonl", TEXTS))
    plain, several = (load(path, tokenizer=name).text("train") for name in ("bytes", "bpe"))
    np.testing.assert_array_equal(plain, several)
    assert len(plain) >= min(most, 3001)
    assert plain[-1] == 0


def test_a_source_that_would_never_be_trained_on_is_refused() -> None:
    tokens = np.zeros(1000, np.uint8)
    assert min(Batches(tokens, 7, 2, 0, [(500, 999.0), (500, 1.0)]).counts) == 1
    with pytest.raises(DataError, match="of the weights 3000, 1 one is so small"):
        Batches(tokens, 7, 2, 0, [(500, 3000.0), (500, 1.0)])


def test_a_source_whose_text_is_all_in_another_is_told(tmp_path: Path) -> None:
    one, other = (str(written(tmp_path, name, TEXTS)) for name in ("a.jsonl", "b.jsonl"))
    [line] = load([one, {"path": other, "weight": 9}]).facts.without_text
    assert line.startswith(f"source {other} is not trained on, whatever its weight")
    third = str(written(tmp_path, "c.jsonl", [text.upper() for text in TEXTS]))
    assert load([one, third]).facts.without_text == []


def test_a_source_without_scored_text_is_told() -> None:
    facts = {"train_tokens": 90, "validation_tokens": 0, "test_tokens": 5}
    none = SourceFacts(name="code", weight=3, **facts)
    whole = SourceFacts(name="text", weight=1, **{**facts, "validation_tokens": 4})
    corpus = CorpusFacts(
        name="both", fingerprint="f", train_tokens=180, validation_tokens=4, test_tokens=10,
        bytes_per_token=1.0, unigram_entropy=3.0, bigram_entropy=2.0, sources=(none, whole),
    )  # fmt: skip
    [line] = corpus.without_text
    assert line.startswith("source code has no validation text: losses there are those of the")
