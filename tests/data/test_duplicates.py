"""Near-duplicates: what is one, that it goes into one part, and what is copied all the same."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from modsearch.config.data import DataConfig
from modsearch.data import corpus as data
from modsearch.data import duplicates, split, stamps
from modsearch.data.corpus import Corpus, load_corpus
from modsearch.data.duplicates import SHINGLE, labels, shingles
from modsearch.data.text import BLOCK_BYTES

LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz \n", np.uint8)


def text(seed: int, size: int) -> bytes:
    """Like no other text."""
    return LETTERS[np.random.default_rng(seed).integers(len(LETTERS), size=size)].tobytes()


def families(count: int, members: int, own: int = 600) -> list[list[bytes]]:
    """Near-duplicates of 4,000 shared bytes, and `own` ones at the end of each."""
    return [
        [text(family, 4000) + text(1000 * (family + 1) + member, own) for member in range(members)]
        for family in range(count)
    ]


def write(folder: Path, documents: list[bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, document in enumerate(documents):
        (folder / f"{number:04}.txt").write_bytes(document)
    return folder


def groups(documents: list[bytes]) -> list[list[int]]:
    """Documents by group, in order."""
    found: dict[int, list[int]] = {}
    for place, root in enumerate(labels([shingles(documents)], len(documents)).tolist()):
        found.setdefault(root, []).append(place)
    return list(found.values())


def load(folder: Path) -> Corpus:
    return load_corpus(DataConfig(corpus=str(folder)))


def verbatim(corpus: Corpus, part: str) -> float:
    """Share of a part's positions whose next bytes stand in train, counted one by one."""
    train, held_out = (corpus.parts[name].tobytes() for name in ("train", part))
    places = range(len(held_out) - SHINGLE + 1)
    known = {train[at : at + SHINGLE] for at in range(len(train) - SHINGLE + 1)}
    return float(np.mean([held_out[at : at + SHINGLE] in known for at in places]))


def test_near_duplicates_are_one_group_and_others_are_none() -> None:
    documents = [*chain(*families(2, 3)), *(text(99 + place, 3000) for place in range(20))]
    found = groups(documents)
    assert found == [[0, 1, 2], [3, 4, 5], *([place] for place in range(6, 26))]


def test_a_group_does_not_depend_on_the_order_of_documents() -> None:
    documents = [*chain(*families(3, 4)), *(text(99 + place, 3000) for place in range(20))]
    order = np.random.default_rng(0).permutation(len(documents))
    other = groups([documents[place] for place in order])
    moved = sorted(sorted(int(order[place]) for place in group) for group in other)
    assert moved == groups(documents)


def test_what_is_like_one_of_a_group_belongs_to_it() -> None:
    first, second, third = (text(seed, 3000) for seed in range(3))
    chain = [first, first[1500:] + second, second[1500:] + third, third[1500:] + text(9, 1500)]
    assert groups(chain) == [[0, 1, 2, 3]]


def test_a_short_copy_in_a_long_document_is_its_duplicate() -> None:
    long = text(0, 300_000)
    assert groups([long, long[70_000:71_000]]) == [[0, 1]]


def test_a_licence_makes_no_duplicates() -> None:
    licence = text(0, 1500)
    documents = [licence + text(seed, 1500) for seed in range(1, 41)]
    assert len(groups(documents)) == 40


@pytest.mark.parametrize("documents", [[], [b""], [b"short"], [b"short", b"x" * 49, b"x" * 50]])
def test_texts_without_a_shingle_are_groups_of_their_own(documents: list[bytes]) -> None:
    assert groups(documents) == [[place] for place in range(len(documents))]


def test_shingles_do_not_depend_on_where_the_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [text(seed, 1000 + 37 * seed) for seed in range(20)]
    whole = shingles(documents)
    monkeypatch.setattr(duplicates, "CHUNK", 777)
    cut = shingles(documents)
    for one, other in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_near_duplicates_stand_in_one_part(tmp_path: Path) -> None:
    """A third of the text is in families: cut by documents, most of it would be in two parts."""
    families_of_five = families(10, 5)
    others = [text(500 + place, 4000) for place in range(120)]
    corpus = load(write(tmp_path, [*chain(*families_of_five), *others]))
    for group in families_of_five:
        homes = [
            part
            for part, tokens in corpus.parts.items()
            if any(document in tokens.tobytes() for document in group)
        ]
        assert len(homes) == 1
    facts = corpus.facts
    assert facts.near_duplicates == 50
    assert (facts.validation_copied, facts.test_copied) == (0, 0)
    assert verbatim(corpus, "validation") == verbatim(corpus, "test") == 0


def test_near_duplicates_among_blocks_stand_in_one_part(tmp_path: Path) -> None:
    blocks = [text(seed, BLOCK_BYTES - 1) for seed in range(40)]
    for place in range(0, 20, 2):
        blocks[place + 20] = blocks[place][:20_000] + blocks[place + 20][20_000:]
    corpus = load(write(tmp_path, [b"\n".join(blocks)]))
    assert corpus.facts.near_duplicates == 20
    assert corpus.facts.test_copied == corpus.facts.validation_copied == 0


def test_one_large_group_is_trained_on(tmp_path: Path) -> None:
    [group] = families(1, 60)
    others = [text(500 + place, 4000) for place in range(200)]
    corpus = load(write(tmp_path, [*group, *others]))
    assert all(document in corpus.parts["train"].tobytes() for document in group)
    assert corpus.facts.near_duplicates == 60
    assert corpus.facts.test_copied == 0


def test_text_of_one_group_is_split_and_said_to_be_copied(tmp_path: Path) -> None:
    """Half of each block is the same: too much of them to be taken for a form."""
    same = text(0, BLOCK_BYTES // 2)
    blocks = [same + text(seed, BLOCK_BYTES // 2 - 1) for seed in range(1, 8)]
    corpus = load(write(tmp_path, [b"\n".join(blocks)]))
    assert corpus.facts.near_duplicates == 7
    assert all(len(tokens) for tokens in corpus.parts.values())
    copied = verbatim(corpus, "test")
    assert copied == pytest.approx(0.5, abs=0.01)
    assert corpus.facts.test_copied == pytest.approx(copied, abs=0.03)


def test_little_of_the_standard_library_is_copied() -> None:
    """Cut by documents it was 10 % of the test text: its tables of characters are near-copies."""
    facts = load_corpus(DataConfig()).facts
    assert facts.near_duplicates is not None
    assert facts.near_duplicates > 100
    assert facts.test_copied is not None
    assert facts.test_copied < 0.04
    assert facts.validation_copied is not None
    assert facts.validation_copied < 0.04


def test_another_layout_splits_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the files have not changed since they were read."""
    monkeypatch.setattr(stamps, "SETTLED_NS", 0)
    folder = write(tmp_path, [text(seed, 400) for seed in range(120)])
    before = load(folder).facts.fingerprint
    monkeypatch.setattr(data, "LAYOUT", data.LAYOUT + 1)
    monkeypatch.setattr(split, "HELD_OUT_SHARE", 0.1)
    assert load(folder).facts.fingerprint != before
