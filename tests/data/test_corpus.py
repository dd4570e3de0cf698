"""Corpora: what is read, disjoint parts, fingerprints, the cache, windows, batches, entropies."""

import errno
import gzip
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modsearch.config.data import CorpusFacts, DataConfig, Validation
from modsearch.data import corpus as data
from modsearch.data import stamps
from modsearch.data.batches import Batches
from modsearch.data.cache import cache_folder
from modsearch.data.corpus import Corpus, _put, load_corpus
from modsearch.data.entropies import Segment, entropies
from modsearch.data.split import PARTS
from modsearch.data.text import BLOCK_BYTES
from modsearch.errors import DataError


def load(path: Path | str) -> Corpus:
    return load_corpus(DataConfig(corpus=str(path)))


def texts(count: int, seed: int = 0, size: int = 200) -> list[bytes]:
    """Different texts of different lengths."""
    draw = np.random.default_rng(seed)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz \n", np.uint8)
    return [
        f"text {number} ".encode()
        + letters[draw.integers(len(letters), size=size + number % 7)].tobytes()
        for number in range(count)
    ]


def write(folder: Path, documents: list[bytes], suffix: str = ".txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(documents):
        path = folder / f"{number:04}{suffix}"
        path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    return folder


def documents_of(corpus: Corpus, part: str) -> list[bytes]:
    return corpus.parts[part].tobytes().removesuffix(b"\0").split(b"\0")


def all_documents(corpus: Corpus) -> list[bytes]:
    return [text for part in PARTS for text in documents_of(corpus, part)]


def shards() -> set[Path]:
    """Folders of shards in the token cache, drafts included."""
    folder = cache_folder() / "shards"
    return set(folder.iterdir()) if folder.is_dir() else set()


def test_parts_are_whole_documents_disjoint_and_cover_the_corpus(tmp_path: Path) -> None:
    given = texts(400)
    corpus = load(write(tmp_path / "c", given))
    found = all_documents(corpus)
    assert len(found) == len(given)
    assert set(found) == set(given)
    total = sum(map(len, given))
    for part in ("validation", "test"):
        share = sum(map(len, documents_of(corpus, part))) / total
        assert 0.025 <= share <= 0.1
    facts = corpus.facts
    sizes = (facts.train_tokens, facts.validation_tokens, facts.test_tokens)
    assert sizes == tuple(len(corpus.parts[part]) for part in PARTS)
    assert sum(sizes) == total + len(given)


def test_every_document_ends_with_a_zero(tmp_path: Path) -> None:
    corpus = load(write(tmp_path / "c", texts(120)))
    assert all(corpus.parts[part][-1] == 0 for part in PARTS)


def test_fingerprint_depends_on_the_texts_alone(tmp_path: Path) -> None:
    given = texts(150)
    one = load(write(tmp_path / "a", given))
    other = load(write(tmp_path / "b", given[::-1]))
    assert one.facts.fingerprint == other.facts.fingerprint
    for part in PARTS:
        np.testing.assert_array_equal(one.parts[part], other.parts[part])
    changed = load(write(tmp_path / "d", [*given[:-1], given[-1] + b"!"]))
    assert changed.facts.fingerprint != one.facts.fingerprint


def test_fingerprint_does_not_depend_on_the_time_of_the_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", texts(120))
    before, known = load(folder).facts.fingerprint, shards()
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    assert load(folder).facts.fingerprint == before
    assert shards() == known, "shards go by what is in the files"


def test_shards_are_made_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", texts(120, seed=1))
    before = shards()
    load(folder)
    [made] = shards() - before
    times = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    assert set(times) == {"train.bin", "validation.bin", "test.bin", "facts.json"}
    load(folder)
    assert shards() - before == {made}
    assert {path.name: path.stat().st_mtime_ns for path in made.iterdir()} == times


def test_changed_text_is_noticed(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", texts(120))
    before = load(folder).facts.fingerprint
    (folder / "more.txt").write_bytes(b"one more document\n")
    assert load(folder).facts.fingerprint != before


def test_a_folder_a_glob_and_compressed_files_are_the_same_corpus(tmp_path: Path) -> None:
    given = texts(150)
    plain = load(write(tmp_path / "plain" / "inner", given).parent)
    found = {
        load(f"{tmp_path}/plain/inner/*.txt").facts.fingerprint,
        load(f"{tmp_path}/plain/**/*.txt").facts.fingerprint,
        load(write(tmp_path / "packed", given, ".txt.gz")).facts.fingerprint,
    }
    assert found == {plain.facts.fingerprint}


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", texts(120))
    before = load(folder).facts.fingerprint
    (folder / ".hidden").write_bytes(b"not for training\n")
    assert load(folder).facts.fingerprint == before


def lines(num_bytes: int) -> bytes:
    """Lines that are all different."""
    count = num_bytes // 20
    return b"".join(f"line {number:13}\n".encode() for number in range(count))


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_a_single_file_is_cut_into_blocks_at_line_ends(tmp_path: Path, suffix: str) -> None:
    text = lines(10 * BLOCK_BYTES)
    write(tmp_path, [text], suffix)
    found = all_documents(load(tmp_path / f"0000{suffix}"))
    assert len(found) == 10
    assert b"".join(sorted(found)) == text
    assert all(block.endswith(b"\n") for block in found)
    assert all(len(block) < BLOCK_BYTES + 20 for block in found)


def test_a_single_long_line_is_cut_too(tmp_path: Path) -> None:
    text = lines(8 * BLOCK_BYTES).replace(b"\n", b" ")
    path = write(tmp_path, [text]) / "0000.txt"
    found = all_documents(load(path))
    assert len(found) == 8
    assert all(len(block) <= BLOCK_BYTES for block in found)
    assert b"".join(sorted(found, key=text.index)) == text


def test_duplicates_and_empty_files_are_dropped(tmp_path: Path) -> None:
    given = texts(120)
    corpus = load(write(tmp_path / "a", [*given, given[3], b"", b" \n\t\n", given[5]]))
    assert sorted(all_documents(corpus)) == sorted(given)
    assert corpus.facts.fingerprint == load(write(tmp_path / "b", given)).facts.fingerprint


def test_copies_do_not_make_few_texts_many(tmp_path: Path) -> None:
    given = [lines(4 * BLOCK_BYTES), lines(3 * BLOCK_BYTES).upper()]
    found = all_documents(load(write(tmp_path / "c", given * 60)))
    assert len(found) == 7
    assert all(len(block) < BLOCK_BYTES + 20 for block in found)


def test_equal_blocks_of_one_file_can_not_stand_in_two_parts(tmp_path: Path) -> None:
    block = b"x" * (BLOCK_BYTES - 1) + b"\n"
    blocks = [block.replace(b"x", bytes([letter])) for letter in b"abcd"]
    path = write(tmp_path, [b"".join(blocks * 20)]) / "0000.txt"
    assert sorted(all_documents(load(path))) == blocks


BROKEN = {
    "nul.txt": lambda: b"a text\0with a NUL byte",
    "cut.txt.gz": lambda: gzip.compress(b"".join(texts(50)))[:-400],
    "no.txt.gz": lambda: b"not compressed at all",
    "flipped.gz": lambda: gzip.compress(b"".join(texts(50)))[:20] + b"\xff" * 500,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "c", texts(120))
    (folder / name).write_bytes(BROKEN[name]())
    before = shards()
    with pytest.raises(DataError) as caught:
        load(folder)
    assert name in str(caught.value)
    assert str(caught.value).count("\n") <= 1
    assert shards() == before, "nothing half made may stay in the cache"


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    for corpus in (tmp_path / "nowhere", f"{tmp_path}/*.nothing"):
        with pytest.raises(DataError, match="no text at") as caught:
            load(corpus)
        assert str(corpus) in str(caught.value)
        assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("given", [[b""], [b"one\n"], [b"one\n", b"two\n"], [b"one"] * 9])
def test_a_corpus_that_can_not_be_split_is_refused(tmp_path: Path, given: list[bytes]) -> None:
    folder = write(tmp_path / "tiny", given)
    with pytest.raises(DataError, match="too small") as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert str(caught.value).count("\n") == 1


def test_three_texts_are_enough(tmp_path: Path) -> None:
    corpus = load(write(tmp_path / "c", [b"one\n", b"two\n", b"three\n"]))
    assert all(len(documents_of(corpus, part)) == 1 for part in PARTS)


def test_windows_are_fixed_evenly_spaced_and_do_not_overlap(tmp_path: Path) -> None:
    corpus = load(write(tmp_path / "c", texts(400)))
    numbers = np.arange(len(corpus.parts["validation"])) % 256
    corpus.parts["validation"] = numbers.astype(np.uint8)
    for count, seq_len in ((1, 31), (2, 17), (16, 63), (len(numbers) // 16, 15)):
        rows = corpus.windows(Validation(windows=count), seq_len)
        assert rows.shape == (count, seq_len + 1)
        rows = rows.astype(np.int64)
        np.testing.assert_array_equal(rows, corpus.windows(Validation(windows=count), seq_len))
        np.testing.assert_array_equal((rows[:, 1:] - rows[:, :-1]) % 256, 1)
        starts = expected_starts(len(numbers), count, seq_len)
        np.testing.assert_array_equal(rows[:, 0], starts % 256)
        gaps = np.diff(starts)
        assert all(gaps >= seq_len + 1), "windows overlap"
        if count > 1:
            assert max(gaps) - min(gaps) <= 1
            assert starts[-1] + seq_len + 1 == len(numbers)


def expected_starts(num_tokens: int, count: int, seq_len: int) -> np.ndarray:
    """From the first token to the last window that fits, in even strides."""
    last = num_tokens - (seq_len + 1)
    return np.array([last * i // max(1, count - 1) for i in range(count)])


def test_a_whole_part_is_all_windows_that_fit(tmp_path: Path) -> None:
    corpus = load(write(tmp_path / "c", texts(400)))
    tokens = corpus.parts["test"]
    sample = Validation(part="test", windows=None)
    rows = corpus.windows(sample, 30)
    assert rows.shape == (len(tokens) // 31, 31)
    assert len(rows) == corpus.num_windows(sample, 30)
    np.testing.assert_array_equal(rows.ravel(), tokens[: rows.size])
    assert len(corpus.windows(sample, len(tokens) - 1)) == 1
    with pytest.raises(DataError, match="1 windows of"):
        corpus.windows(sample, len(tokens))


def test_windows_come_from_the_part_that_is_asked_for(tmp_path: Path) -> None:
    corpus = load(write(tmp_path / "c", texts(400)))
    for part in ("validation", "test"):
        [row] = corpus.windows(Validation(part=part, windows=1), 30)
        np.testing.assert_array_equal(row, corpus.parts[part][:31])


def test_too_many_windows_are_refused(tmp_path: Path) -> None:
    corpus = load(write(tmp_path / "c", texts(400)))
    most = len(corpus.parts["test"]) // 16
    assert len(corpus.windows(Validation(part="test", windows=most), 15)) == most
    with pytest.raises(DataError, match=r"test part of .* need") as caught:
        corpus.windows(Validation(part="test", windows=most + 1), 15)
    assert str(caught.value).count("\n") == 1


def stream(seq_len: int = 7, batch_size: int = 3, seed: int = 1, size: int = 251) -> Batches:
    """Tokens that are their own positions."""
    return Batches(np.arange(size, dtype=np.uint8), seq_len, batch_size, seed)


def test_batches_do_not_depend_on_the_order_of_calls() -> None:
    forward = [stream()(step) for step in range(40)]
    shuffled, again = stream(), stream()
    order = np.random.default_rng(3).permutation(40)
    for step in order:
        np.testing.assert_array_equal(shuffled(int(step)), forward[step])
    np.testing.assert_array_equal(again(39), forward[39])
    np.testing.assert_array_equal(again(0), forward[0])


def test_batches_are_pieces_of_the_text() -> None:
    for step in range(40):
        batch = stream()(step)
        assert batch.shape == (3, 8)
        assert batch.dtype == np.int64
        np.testing.assert_array_equal(np.diff(batch, axis=1), 1)


def test_an_epoch_visits_each_window_once() -> None:
    batches = stream(batch_size=1)
    epochs = [
        sorted(int(batches(epoch * batches.per_epoch + i)[0, 0]) for i in range(batches.per_epoch))
        for epoch in range(6)
    ]
    for starts in epochs:
        np.testing.assert_array_equal(np.diff(starts), 8)
        assert starts[0] < 8, "a whole window before the first one is left out"
        assert starts[-1] + 8 <= 251
    assert len({starts[0] for starts in epochs}) > 1, "the offset changes between epochs"


def test_an_epoch_is_shuffled() -> None:
    batches = stream(batch_size=1)
    order = [int(batches(step)[0, 0]) for step in range(batches.per_epoch)]
    assert order != sorted(order)


def test_seeds_differ() -> None:
    assert not np.array_equal(stream(seed=1)(0), stream(seed=2)(0))
    assert not np.array_equal(stream(seed=1)(0), stream(seed=0)(0))


@pytest.mark.parametrize("size", [15, 16, 17, 24])
def test_the_shortest_texts_that_can_be_cut(size: int) -> None:
    for step in range(50):
        assert stream(seq_len=7, size=size)(step).max() < size


def test_a_text_shorter_than_a_window_and_its_offset_is_refused() -> None:
    with pytest.raises(DataError, match="train part has 14 tokens"):
        stream(seq_len=7, size=14)


def test_entropies_by_hand() -> None:
    train = np.frombuffer(b"aab", np.uint8)
    held_out = np.frombuffer(b"ab", np.uint8)
    total = 3 + 256
    p_a, p_b = 3 / total, 2 / total
    unigram, bigram = entropies([Segment(lambda: [train], held_out)])
    assert unigram == pytest.approx(-(math.log(p_a) + math.log(p_b)) / 2, abs=1e-12)
    # `a` was followed once by a and once by b.
    assert bigram == pytest.approx(-math.log((1 + p_b) / (2 + 1)), abs=1e-12)


def test_entropies_of_random_bytes_are_those_of_a_fair_die() -> None:
    draw = np.random.default_rng(0)
    train = draw.integers(256, size=4_000_000, dtype=np.uint8)
    held_out = draw.integers(256, size=200_000, dtype=np.uint8)
    unigram, bigram = entropies([Segment(lambda: [train], held_out)])
    assert unigram == pytest.approx(math.log(256), abs=1e-3)
    assert bigram == pytest.approx(math.log(256), abs=0.02)


def test_bigrams_see_what_unigrams_do_not() -> None:
    pattern = np.tile(np.arange(256, dtype=np.uint8), 200)
    unigram, bigram = entropies([Segment(lambda: [pattern], pattern[:5000])])
    assert unigram == pytest.approx(math.log(256), abs=1e-3)
    assert bigram < 0.05


LOADER = """
import sys
from modsearch.data.corpus import load_corpus
from modsearch.config.data import DataConfig
sys.stdin.readline()
print(load_corpus(DataConfig(corpus=sys.argv[1])).facts.fingerprint)
"""


def test_two_processes_may_make_the_same_shards_at_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", texts(200, size=20_000))
    before = shards()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOADER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(data.__file__).parents[1],
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert answers[0][0].strip() == load(folder).facts.fingerprint
    assert len(shards() - before) == 1, "a draft was left behind"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files just written count as old ones, whose stamps are trusted."""
    monkeypatch.setattr(stamps, "SETTLED_NS", -(10**18))


@pytest.mark.usefixtures("settled")
def test_two_files_of_one_name_size_and_time_are_two_corpora(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprints = []
    for name, text in (("a", lines(4 * BLOCK_BYTES)), ("b", lines(4 * BLOCK_BYTES).upper())):
        path = write(tmp_path / name, [text]) / "0000.txt"
        os.utime(path, ns=(10**18, 10**18))
        monkeypatch.chdir(tmp_path / name)
        corpus = load("0000.txt")
        assert set(corpus.parts["train"]) <= {0, *text}
        fingerprints.append(corpus.facts.fingerprint)
    assert fingerprints[0] != fingerprints[1]


@pytest.mark.usefixtures("settled")
def test_an_edit_that_keeps_size_and_time_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, [lines(4 * BLOCK_BYTES)]) / "0000.txt"
    before, at = load(path).facts.fingerprint, path.stat()
    path.write_bytes(path.read_bytes().upper())
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert load(path).facts.fingerprint != before


@pytest.mark.usefixtures("settled")
def test_files_are_not_read_again_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "c", texts(120))
    before = load(folder).facts

    def read(*_: object) -> bytes:
        raise AssertionError("a file was read")

    monkeypatch.setattr(stamps, "file_digest", read)
    assert load(folder).facts == before
    for path in (cache_folder() / "seen").iterdir():
        path.write_text("no key")
    with pytest.raises(AssertionError, match="was read"):
        load(folder)


def test_stamps_of_files_that_have_just_changed_are_not_trusted(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", texts(120))
    before = set((cache_folder() / "seen").glob("*"))
    load(folder)
    assert set((cache_folder() / "seen").glob("*")) == before


def test_one_text_under_two_names_has_the_name_that_was_asked_for(tmp_path: Path) -> None:
    one, other = (write(tmp_path / name, texts(120)) for name in "ab")
    known = load(one), shards()
    assert load(other).facts.name == str(other)
    assert load(one).facts.name == str(one)
    assert shards() == known[1]


def test_a_corpus_that_must_be_another_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", texts(120))
    config = DataConfig(corpus=str(folder))
    found = load_corpus(config, fingerprint=load_corpus(config).facts.fingerprint)
    (folder / "more.txt").write_bytes(b"one more document\n")
    with pytest.raises(DataError, match="is not what it was trained on") as caught:
        load_corpus(config, fingerprint=found.facts.fingerprint)
    assert found.facts.fingerprint in str(caught.value)


DAMAGE = {
    "cut": lambda folder: os.truncate(folder / "train.bin", 100),
    "no part": lambda folder: (folder / "test.bin").unlink(),
    "no facts": lambda folder: (folder / "facts.json").unlink(),
    "garbage": lambda folder: (folder / "facts.json").write_bytes(b"\xff\0{"),
    "null": lambda folder: (folder / "facts.json").write_text("null"),
    "a file": lambda folder: (shutil.rmtree(folder), folder.write_text("not a folder")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_shards_are_made_again(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "cache"))
    folder = write(tmp_path / "c", texts(120))
    before = load(folder).facts
    [made] = shards()
    DAMAGE[damage](made)
    again = load(folder)
    assert again.facts == before
    assert sorted(all_documents(again)) == sorted(texts(120))
    assert shards() == {made}, "a draft was left behind"


def test_shards_are_as_open_as_the_umask_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "cache"))
    for umask, mode in ((0o022, 0o755), (0o002, 0o775), (0o077, 0o700)):
        old = os.umask(umask)
        try:
            load(write(tmp_path / f"{umask}", texts(120, seed=umask)))
        finally:
            os.umask(old)
        newest = max(shards(), key=lambda path: path.stat().st_mtime_ns)
        assert newest.stat().st_mode & 0o777 == mode
        assert {path.stat().st_mode & 0o777 for path in newest.iterdir()} == {mode & 0o666}


def test_a_full_disk_is_told_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("MODSEARCH_CACHE", str(cache))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = write(tmp_path / "c", texts(120))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left") as caught:
            load(folder)
    assert str(caught.value.filename).startswith(str(cache))
    assert shards() == set(), "a draft was left behind"
    assert load(folder).facts.documents == 120, "with room again it goes on"


def test_a_cache_that_others_filled_may_be_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "c", texts(120))
    before = load(folder).facts

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "cache")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    assert load(folder).facts == before


def test_without_a_home_folder_the_cache_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODSEARCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without a passwd entry
    with pytest.raises(DataError, match="set MODSEARCH_CACHE"):
        cache_folder()


def test_the_standard_library_is_a_corpus() -> None:
    corpus = load("stdlib")
    facts = corpus.facts
    assert facts.name == "stdlib"
    assert 5e6 < facts.train_tokens < 3e7
    assert facts.validation_tokens == pytest.approx(facts.test_tokens, rel=0.5)
    assert 1.5 < facts.bigram_entropy < facts.unigram_entropy < math.log(256)
    held_out = set(documents_of(corpus, "validation")) | set(documents_of(corpus, "test"))
    assert not held_out & set(documents_of(corpus, "train"))


def test_a_real_compressed_text_is_a_corpus(shared_data: Path) -> None:
    facts = load(shared_data / "sotu.txt.gz").facts
    assert facts.train_tokens + facts.validation_tokens + facts.test_tokens > 1e7
    assert 2.0 < facts.bigram_entropy < facts.unigram_entropy < 3.5


def test_whole_shards_of_another_process_stay_and_damaged_ones_go(tmp_path: Path) -> None:
    def made(name: str, size: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for part in PARTS:
            (folder / f"{part}.bin").write_bytes(b"x" * size)
        facts = CorpusFacts(
            name=name,
            fingerprint=name,
            train_tokens=3,
            validation_tokens=3,
            test_tokens=3,
            bytes_per_token=1.0,
            unigram_entropy=1.0,
            bigram_entropy=1.0,
        )
        (folder / "facts.json").write_text(facts.model_dump_json())
        return folder

    whole = made("whole", 3)
    _put(made("late", 3), whole, tmp_path / "away")
    assert json.loads((whole / "facts.json").read_text())["name"] == "whole"
    damaged = made("damaged", 2)
    _put(made("mended", 3), damaged, tmp_path / "away")
    assert json.loads((damaged / "facts.json").read_text())["name"] == "mended"
