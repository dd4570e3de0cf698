"""Preparation: parts that more text does not move, kills that lose nothing, sources by weight."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from modsearch.config.data import DataConfig, Mixing, Validation
from modsearch.data import prepare, scan
from modsearch.data.batches import CYCLE, Batches
from modsearch.data.corpus import Corpus, load_corpus
from modsearch.data.entropies import Segment, entropies
from modsearch.data.scan import rate_of
from modsearch.data.shards import chunks
from modsearch.data.shares import shared, taken
from modsearch.data.split import PARTS, TRAIN, split, split_sources
from modsearch.data.tokenizers import FileTokenizer, train_bpe
from modsearch.errors import DataError


def text(seed: int, size: int = 3000) -> bytes:
    """Like no other text."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz     \n", np.uint8)
    return letters[np.random.default_rng(seed).integers(len(letters), size=size)].tobytes()


def write(folder: Path, seeds: Iterable[int], size: int = 3000) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / f"{seed:04}.txt").write_bytes(text(seed, size))
    return folder


def load(corpus: object, vocab_size: int = 256, **more: object) -> Corpus:
    return load_corpus(DataConfig.model_validate({"corpus": corpus, **more}), vocab_size)


def homes(corpus: Corpus) -> dict[bytes, str]:
    """The part of each document."""
    return {
        each: part
        for part in PARTS
        for each in corpus.parts[part].tobytes().removesuffix(b"\0").split(b"\0")
    }


def test_more_text_moves_no_document(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", range(400))
    before = load(str(folder))
    write(folder, range(400, 500))
    after = load(str(folder))
    assert before.facts.split == after.facts.split == "hash"
    now = homes(after)
    assert all(now[each] == part for each, part in homes(before).items())
    assert len(now) == 500


@pytest.mark.parametrize("seed", range(6))
def test_a_long_document_takes_no_part_for_itself(tmp_path: Path, seed: int) -> None:
    folder = write(tmp_path / "c", range(1000 * seed, 1000 * seed + 120), 2500)
    (folder / "long.txt").write_bytes(text(9999 + seed, 700_000))
    facts = load(str(folder)).facts
    total = facts.train_tokens + facts.validation_tokens + facts.test_tokens
    for tokens in (facts.validation_tokens, facts.test_tokens):
        assert 0.025 < tokens / total < 0.12


def test_a_document_that_is_most_of_a_corpus_is_cut(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", range(120), 2500)
    (folder / "long.txt").write_bytes(text(7, 3_000_000))
    facts = load(str(folder)).facts
    assert facts.documents == 121
    assert facts.pieces is not None
    assert facts.pieces > 160


def test_hashes_alone_decide_where_they_can_and_parts_are_filled_where_they_can_not() -> None:
    draw = np.random.default_rng(0)
    many = np.sort(draw.integers(2**64, size=1000, dtype=np.uint64))
    parts, rule = split(many, np.ones(1000), np.arange(1000))
    assert rule == "hash"
    places = many.astype(float) / 2**64
    np.testing.assert_array_equal(parts == PARTS.index("validation"), places < 0.05)
    np.testing.assert_array_equal(parts == PARTS.index("test"), (places >= 0.05) & (places < 0.1))
    few = np.sort(draw.integers(2**63, 2**64, size=5, dtype=np.uint64))  # none below a tenth
    parts, rule = split(few, np.ones(5), np.arange(5))
    assert rule == "filled"
    assert sorted(parts) == [0, 0, 0, 1, 2]


def two_sources(tmp_path: Path) -> list[str]:
    """A large one, and one of which hashes alone hold nothing out."""
    trained = [seed for seed in range(5000, 5030) if place(text(seed)) > 0.1][:12]
    write(tmp_path / "large", range(400))
    return [str(tmp_path / "large"), str(write(tmp_path / "small", trained))]


def documents_of(corpus: Corpus) -> list[bytes]:
    """Of the train part, as suites are given them."""
    return corpus.text("train").tobytes().removesuffix(b"\0").split(b"\0")


def place(document: bytes) -> float:
    """Of its hash among all."""
    return int.from_bytes(hashlib.sha256(document).digest()[:8], "big") / 2**64


def test_each_source_has_scored_text_of_its_own(tmp_path: Path) -> None:
    corpus = two_sources(tmp_path)
    large, small = load(corpus).facts.sources
    assert (large.split, small.split) == ("hash", "filled")
    assert small.validation_tokens == small.test_tokens == 3001
    assert small.train_tokens == 10 * 3001
    data = DataConfig.model_validate({"corpus": corpus})
    [line] = load_corpus(data, mixing=Mixing()).facts.without_text
    assert line.startswith(f"source {corpus[1]} has no validation and no test text")


def test_more_text_of_one_source_moves_no_document_of_another(tmp_path: Path) -> None:
    corpus = two_sources(tmp_path)
    before = homes(load(corpus))
    write(tmp_path / "large", range(400, 500))
    now = homes(load(corpus))
    assert all(now[each] == part for each, part in before.items())
    write(tmp_path / "small", range(5030, 5036))
    now = homes(load(corpus))
    assert all(now[text(seed)] == before[text(seed)] for seed in range(400))


@pytest.mark.parametrize("seed", range(20))
def test_groups_of_several_sources_stay_together(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count = int(draw.integers(20, 600))
    hashes = np.sort(draw.integers(2**64, size=count, dtype=np.uint64))
    groups = draw.integers(draw.integers(10, 2 * count), size=count)
    _, first, of = np.unique(groups, return_index=True, return_inverse=True)
    roots = first[of].astype(np.int64)
    sources = draw.choice(3, size=count, p=[0.8, 0.15, 0.05])
    sizes = draw.integers(1, 2000, size=count)
    parts, rules = split_sources(hashes, sizes, roots, sources, 3)
    assert len(rules) == 3
    assert {PARTS[part] for part in parts} == set(PARTS)
    if "filled" not in rules or len(np.unique(roots)) > 100:
        assert (parts == parts[roots]).all()
    for source in range(3):
        mine = sources == source
        trained = sizes[mine & (parts == TRAIN)].sum() / max(1, sizes[mine].sum())
        assert trained > 0.4


def test_a_source_of_few_documents_is_trained_on() -> None:
    hashes = np.arange(103, dtype=np.uint64) << np.uint64(57)
    sources = np.repeat([0, 1], [100, 3])
    parts, rules = split_sources(hashes, np.ones(103), np.arange(103), sources, 2)
    assert rules[1] == "filled"
    assert (parts[sources == 1] == TRAIN).all()
    assert len(set(parts[sources == 0])) == 3


def test_tokens_of_an_earlier_version_are_found_by_their_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "cache"))
    data = DataConfig.model_validate({"corpus": two_sources(tmp_path)})
    before = load_corpus(data, mixing=Mixing())
    assert load_corpus(data, prepare=False).folder == before.folder, "nothing newer is there"
    now = load_corpus(data)
    assert now.facts.fingerprint != before.facts.fingerprint
    assert load_corpus(data, prepare=False).folder == now.folder
    wanted = before.facts.fingerprint
    assert load_corpus(data, fingerprint=wanted).folder == before.folder
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "empty"))
    assert load_corpus(data, fingerprint=wanted).facts.by_source is False
    with pytest.raises(DataError, match="is not what it was trained on"):
        load_corpus(data, fingerprint="another")


def test_the_same_sources_elsewhere_have_the_names_that_were_asked_for(tmp_path: Path) -> None:
    for place in (tmp_path / "a", tmp_path / "b"):
        corpus = two_sources(place)
        assert [each.name for each in load(corpus).facts.sources] == corpus


def test_one_source_keeps_its_tokens_and_their_place(tmp_path: Path) -> None:
    facts = load(str(write(tmp_path / "c", range(130)))).facts
    assert facts.fingerprint == "5fa22e8589462eae"
    few = load(str(write(tmp_path / "few", range(5)))).facts
    assert few.fingerprint == "255bd32a2a9a60a2"


def test_a_group_goes_by_its_first_document() -> None:
    hashes = np.linspace(0, 2.0**64, 1000, endpoint=False).astype(np.uint64)
    roots = np.arange(1000)
    roots[[500, 700]] = 3
    parts, _ = split(hashes, np.ones(1000), roots)
    assert parts[500] == parts[700] == parts[3] == PARTS.index("validation")


class Killed(Exception):
    """As good as a kill: nothing after it is run."""


def killing(monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """The function of a unit ends the process at its so many-th call."""
    make: Callable[..., None] = getattr(prepare, name)
    calls = Counter[str]()

    def wrapped(*arguments: object) -> None:
        calls[name] += 1
        if calls[name] > after:
            raise Killed
        make(*arguments)

    monkeypatch.setattr(prepare, name, wrapped)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_what_was_killed_goes_on_and_gives_the_same_tokens(
    tmp_path: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modsearch.data.reading.UNIT_BYTES", 40_000)
    monkeypatch.setattr(scan, "BLOCK_TEXT", 10_000)
    folder = write(tmp_path / "c", range(120))
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "whole"))
    expected = load(str(folder), 300, tokenizer=tokenizer)
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "killed"))
    for name, after in (("scan", 3), ("scan", 2), ("encode", 4), ("assemble", 0)):
        with monkeypatch.context() as patch:
            killing(patch, name, after)
            with pytest.raises(Killed):
                load(str(folder), 300, tokenizer=tokenizer)
    calls = Counter[str]()
    for name in ("scan", "encode"):
        make = getattr(prepare, name)

        def counted(
            *arguments: object, name: str = name, make: Callable[..., None] = make
        ) -> None:
            calls[name] += 1
            make(*arguments)

        monkeypatch.setattr(prepare, name, counted)
    found = load(str(folder), 300, tokenizer=tokenizer)
    assert not calls, "what was done before is not done again"
    assert found.facts == expected.facts
    for part in PARTS:
        np.testing.assert_array_equal(found.parts[part], expected.parts[part])
    assert not [each for each in (tmp_path / "killed" / "work").iterdir() if each.is_dir()]


def test_units_and_partitions_change_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "c", range(130))
    (folder / "near.txt").write_bytes(text(0)[:2000] + text(5000, 1000))
    whole = load(str(folder)).facts
    assert whole.near_duplicates == 2
    monkeypatch.setattr("modsearch.data.reading.UNIT_BYTES", 10_000)
    monkeypatch.setattr(scan, "BLOCK_TEXT", 5_000)
    monkeypatch.setattr(scan, "PARTITION_SHINGLES", 1_000)
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "other"))
    assert load(str(folder)).facts == whole


def test_processes_give_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modsearch.data.reading.UNIT_BYTES", 100_000)
    folder = write(tmp_path / "c", range(130))
    alone = load(str(folder), 300, tokenizer="bpe")
    monkeypatch.setattr(prepare, "ALONE_BYTES", 0)
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "other"))
    told: list[tuple[str, int, int]] = []
    data = DataConfig(corpus=str(folder), tokenizer="bpe")
    found = load_corpus(data, 300, told=lambda *each: told.append(each))
    assert found.facts == alone.facts
    assert [each for each in told if each[0] == "reading"][-1] == ("reading", 4, 4)


def test_a_wrong_file_leaves_no_work_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "cache"))
    folder = write(tmp_path / "c", range(10))
    (folder / "z.txt").write_bytes(b"a\0b")
    with pytest.raises(DataError, match=r"z.txt is not text"):
        load(str(folder))
    assert not [each for each in (tmp_path / "cache" / "work").iterdir() if each.is_dir()]


def test_text_that_changes_while_it_is_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "c", range(20))
    assemble = prepare.assemble

    def changed(*arguments: object) -> object:
        write(folder, range(20, 21))
        (folder / "0003.txt").write_bytes(text(77))
        return assemble(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare, "assemble", changed)
    with pytest.raises(DataError, match="has changed while it was read"):
        load(str(folder))


def test_a_bpe_is_trained_on_the_train_part_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "c", range(130))
    train = [each for each, part in homes(load(str(folder))).items() if part == "train"]
    given: list[str] = []

    def recorded(texts: Iterable[str], vocab_size: int) -> FileTokenizer:
        given.extend(texts)
        return train_bpe(given, vocab_size)

    monkeypatch.setattr(prepare, "train_bpe", recorded)
    facts = load(str(folder), 400, tokenizer="bpe").facts
    assert sorted(each.encode() for each in given) == sorted(train)
    assert (facts.vocab_size, facts.tokenizer) == (400, "bpe-400")
    assert facts.bytes_per_token > 1.1
    given.clear()
    monkeypatch.setattr(prepare, "BPE_BYTES", 20_000)
    load(str(folder), 401, tokenizer="bpe")
    assert 10_000 < sum(map(len, given)) <= 20_000


def test_a_bpe_is_trained_on_sources_by_their_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = write(tmp_path / "large", range(90), 1000)
    small = write(tmp_path / "small", range(200, 215), 1000)
    sources = [{"path": str(large)}, {"path": str(small), "weight": 3}]
    trained = {each for each, part in homes(load(sources)).items() if part == "train"}
    given: Counter[bytes] = Counter()

    def recorded(texts: Iterable[str], vocab_size: int) -> FileTokenizer:
        kept = list(texts)
        given.update(each.encode() for each in kept)
        return train_bpe(kept, vocab_size)

    monkeypatch.setattr(prepare, "train_bpe", recorded)
    corpus = load(sources, 258, tokenizer="bpe")
    assert set(given) <= trained
    assert given.total() == pytest.approx(len(trained), abs=2), "as much text as there is"
    mine = [text(seed, 1000) for seed in range(200, 215)]
    of_small = [given[each] for each in mine if each in trained]
    assert sum(of_small) == pytest.approx(0.75 * len(trained), abs=2)
    assert max(of_small) - min(of_small) <= 1, "each as often as the others, but for one"
    assert corpus.facts.by_weight
    assert not load(str(large), 258, tokenizer="bpe").facts.by_weight, "one source has no weight"


def test_a_bpe_of_an_earlier_version_is_found_by_its_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "cache"))
    first = write(tmp_path / "a", range(60), 1000)
    second = tmp_path / "b"
    second.mkdir()
    for seed in range(30):
        (second / f"{seed}.txt").write_bytes(text(seed, 1000).upper())
    sources = [str(first), {"path": str(second), "weight": 9}]
    data = DataConfig.model_validate({"corpus": sources, "tokenizer": "bpe"})
    before = load_corpus(data, 258, mixing=Mixing(by_source=True))
    now = load_corpus(data, 258)
    assert now.facts.fingerprint != before.facts.fingerprint
    assert load_corpus(data, 258, before.facts.fingerprint).folder == before.folder
    monkeypatch.setenv("MODSEARCH_CACHE", str(tmp_path / "empty"))
    again = load_corpus(data, 258, before.facts.fingerprint).facts
    assert (again.by_source, again.by_weight) == (True, False)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_suites_draw_from_every_source_by_its_weight(
    tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [write(tmp_path / name, seeds) for name, seeds in
               (("a", range(90)), ("b", range(90, 180)), ("c", range(180, 187)))]  # fmt: skip
    weights = dict(zip(folders, (1.0, 3.0, 9.0), strict=True))
    sources = [{"path": str(folder), "weight": weight} for folder, weight in weights.items()]
    corpus = load(sources, 258, tokenizer=tokenizer)
    trained = [each for each, part in homes(load(sources)).items() if part == "train"]
    assert sorted(documents_of(corpus)) == sorted(trained), "all of it where there is room"
    monkeypatch.setattr("modsearch.data.corpus.MOST_TEXT", 80_000)
    sample = documents_of(corpus)
    assert set(sample) < set(trained)
    counts = [sum(text(seed) in sample for seed in seeds) for seeds in
              (range(90), range(90, 180), range(180, 187))]  # fmt: skip
    assert counts[2] == sum(text(seed) in trained for seed in range(180, 187))
    assert counts[1] == pytest.approx(3 * counts[0], abs=3)
    assert sum(map(len, sample)) == pytest.approx(80_000, abs=9000)


def test_what_is_taken_of_sources_makes_what_was_asked_for() -> None:
    assert taken(100, [50, 40], [1.0, 9.0]) == [50, 40], "all where it is no more"
    assert taken(80, [500, 500], [1.0, 3.0]) == [20, 60]
    assert taken(80, [500, 10, 500], [1.0, 100.0, 3.0]) == [18, 10, 52]
    assert taken(10, [500], [1.0]) == [10]


def test_text_comes_back_from_tokens_whatever_they_are(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", range(130))
    plain, other = (load(str(folder), 300, tokenizer=name) for name in ("bytes", "bpe"))
    for part in PARTS:
        np.testing.assert_array_equal(plain.text(part), other.text(part))


def test_bytes_per_token_are_those_of_the_part(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", range(130))
    plain, other = (load(str(folder), 300, tokenizer=name) for name in ("bytes", "bpe"))
    for part in PARTS:
        ratio = len(plain.parts[part]) / len(other.parts[part])
        assert other.facts.bytes_per_token_of(part) == pytest.approx(ratio)
        assert plain.facts.bytes_per_token_of(part) == 1


def test_sources_have_their_shares_of_batches_and_windows(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, seeds) for name, seeds in
               (("a", range(200)), ("b", range(200, 600)))]  # fmt: skip
    corpus = load([{"path": str(folders[0]), "weight": 3}, {"path": str(folders[1])}])
    first, second = corpus.facts.sources
    assert (first.weight, second.weight) == (3, 1)
    for part in PARTS:
        assert first.tokens(part) + second.tokens(part) == len(corpus.parts[part])
    mine = {text(seed)[:40] for seed in range(200)}
    begin = corpus.parts["train"][: first.train_tokens].tobytes()
    assert all(each[:40] in mine for each in begin.removesuffix(b"\0").split(b"\0"))
    rows = corpus.windows(Validation(windows=40), 100)
    assert rows.shape == (40, 101)
    of_first = corpus.parts["validation"][: first.validation_tokens].tobytes()
    assert sum(row.tobytes() in of_first for row in rows) == 30
    whole = corpus.windows(Validation(part="test", windows=None), 100)
    inside = corpus.parts["test"][: first.test_tokens].tobytes()
    assert sum(row.tobytes() in inside for row in whole) / len(whole) == pytest.approx(
        0.75, abs=0.02
    )


def test_a_source_with_too_little_text_for_its_share_of_windows_is_named(tmp_path: Path) -> None:
    corpus = load(two_sources(tmp_path))
    assert len(corpus.windows(Validation(windows=40), 100)) == 40
    small = tmp_path / "small"
    told = f"validation part of source {small} has 3,001 tokens, but 40 windows of 101 need 4,040"
    with pytest.raises(DataError, match=told):
        corpus.windows(Validation(windows=80), 100)


def test_batches_take_sources_by_weight_and_each_window_once() -> None:
    tokens = np.arange(4000, dtype=np.uint16)
    batches = Batches(tokens, 9, 1, 0, [(1000, 1.0), (3000, 4.0)])
    starts = [int(batches(step)[0, 0]) for step in range(CYCLE)]
    assert sum(start < 1000 for start in starts) == CYCLE / 5
    small, large = batches.streams
    first_epoch = [start for start in starts if start >= 1000][: large.per_epoch]
    assert len(set(first_epoch)) == large.per_epoch
    assert max(starts) < 4000 - 9
    again = Batches(tokens, 9, 1, 0, [(1000, 1.0), (3000, 4.0)])
    assert [int(again(step)[0, 0]) for step in (999, 5)] == [starts[999], starts[5]]
    behind = [sum(start < 1000 for start in starts[:n]) - n / 5 for n in range(CYCLE)]
    assert max(map(abs, behind)) < 1
    assert small.per_epoch < large.per_epoch


def test_one_source_is_read_as_if_there_were_no_weights() -> None:
    tokens = np.arange(2000, dtype=np.uint16)
    plain, one = Batches(tokens, 9, 2, 3), Batches(tokens, 9, 2, 3, [(2000, 5.0)])
    for step in (0, 7, 1000):
        np.testing.assert_array_equal(plain(step), one(step))


def test_counts_are_shared_by_largest_remainders() -> None:
    assert shared(10, [1, 1, 1]) == [4, 3, 3]
    assert shared(7, [5.0]) == [7]
    assert shared(1, [1, 9]) == [0, 1]


def test_a_large_corpus_keeps_fewer_shingles() -> None:
    assert rate_of(10**6) == rate_of(2**30) == 16
    assert rate_of(10 * 2**30) == 256


def test_entropies_do_not_depend_on_how_pairs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    train = draw.choice(50, size=20_000, p=np.arange(1, 51) / 1275).astype(np.uint16)
    held_out = train[:3000][::-1]
    table = entropies([Segment(lambda: [train], held_out)], 60)
    cut = [train[max(0, start - 1) : start + 777] for start in range(0, len(train), 777)]
    assert entropies([Segment(lambda: cut, held_out)], 60) == pytest.approx(table, rel=1e-12)
    monkeypatch.setattr("modsearch.data.entropies.MOST_IN_TABLE", 10)
    assert entropies([Segment(lambda: cut, held_out)], 60) == pytest.approx(table, rel=1e-12)


@pytest.mark.parametrize("in_table", [10**6, 1])
def test_entropies_take_sources_by_weight(in_table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modsearch.data.entropies.MOST_IN_TABLE", in_table)
    draw = np.random.default_rng(0)
    kinds = [draw.choice([1, 2], 30_000), draw.choice([2, 3, 4, 5], 3_000)]
    segments = [
        Segment(lambda train=train: [train[:-500]], train[-500:], weight)
        for train, weight in zip(kinds, [1.0, 3.0], strict=True)
    ]
    unigram, bigram = entropies(segments, 6)
    # A fourth of the first source, three of the second: 2 stands in both.
    shares = {1: 1 / 8, 2: 1 / 8 + 3 / 16, 3: 3 / 16, 4: 3 / 16, 5: 3 / 16}
    one = -np.mean(np.log([shares[1], shares[2]]))
    other = -np.mean(np.log([shares[each] for each in (2, 3, 4, 5)]))
    assert unigram == pytest.approx(one / 4 + 3 * other / 4, abs=0.02)
    assert bigram < unigram
    alone = entropies([Segment(segments[1].train, segments[1].held_out)], 6)
    assert alone == pytest.approx((np.log(4), np.log(4)), abs=0.02)
    heavy = [segments[0], Segment(segments[1].train, segments[1].held_out, 1e6)]
    assert entropies(heavy, 6) == pytest.approx(alone, abs=0.02)


def test_the_entropies_of_a_corpus_are_those_of_what_is_trained_on_and_scored(
    tmp_path: Path,
) -> None:
    easy = tmp_path / "easy"
    easy.mkdir()
    for seed in range(12):
        letters = np.random.default_rng(seed).integers(ord("a"), ord("c"), 3000, np.uint8)
        (easy / f"{seed}.txt").write_bytes(letters.tobytes())
    hard = str(write(tmp_path / "hard", range(400)))
    alone = [load(each).facts.bigram_entropy for each in (hard, str(easy))]
    for weight in (1, 9):
        facts = load([hard, {"path": str(easy), "weight": weight}]).facts
        expected = (alone[0] + weight * alone[1]) / (1 + weight)
        # Letters of both do not say which source they are of.
        assert expected < facts.bigram_entropy < expected + 0.15


def test_shards_are_read_in_chunks_that_share_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modsearch.data.shards.CHUNK", 4)
    np.arange(10, dtype=np.uint16).tofile(tmp_path / "a.bin")
    found = [each.tolist() for each in chunks(tmp_path / "a.bin", 300, 0, 10)]
    assert found == [[0, 1, 2, 3], [3, 4, 5, 6, 7], [7, 8, 9]]
    found = [each.tolist() for each in chunks(tmp_path / "a.bin", 300, 2, 7)]
    assert found == [[2, 3, 4, 5], [5, 6]]
