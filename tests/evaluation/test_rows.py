"""Windows, and rows that begin alike."""

import random

import pytest

from modsearch.evaluation import rows as rows_module
from modsearch.evaluation.rows import Row, families, windows


def made(seed: int, num: int) -> list[Row]:
    """Rows over few tokens, some equal, some the beginning of others."""
    draw = random.Random(seed)
    rows = []
    for _ in range(num):
        inputs = [0, *draw.choices((1, 2), k=draw.randrange(12))]
        rows.append((inputs, [*inputs[1:], 3]))
    return rows


@pytest.mark.parametrize("cost", [0, 1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_rows_are_in_one_family_each_which_pays(
    seed: int, cost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "ROW_COST", cost)
    monkeypatch.setattr(rows_module, "COMPARED", 5)
    rows = made(seed, 40)
    found = families(rows, 100)
    assert sorted(member for each in found for member in each.members) == list(range(40))
    assert any(len(each.members) > 1 for each in found)
    for each in found:
        assert len({tuple(rows[member][0][: each.shared]) for member in each.members}) == 1
        assert max(len(rows[member][0]) for member in each.members) == each.shared + each.rest
        num = len(each.members)
        assert num == 1 or (num - 1) * each.shared > num * cost


def test_the_choices_of_each_question_are_a_family() -> None:
    draw = random.Random(0)
    rows, questions = [], []
    for question in range(20):
        context = [0, *draw.choices(range(1, 9), k=100)]
        for _ in range(4):
            choice = draw.choices(range(1, 9), k=draw.randrange(1, 9))
            rows.append(((context + choice)[:-1], choice))
            questions.append(question)
    order = draw.sample(range(80), 80)
    found = families([rows[place] for place in order], 100)
    owners = [{questions[order[member]] for member in each.members} for each in found]
    assert sorted(owners, key=min) == [{question} for question in range(20)]


def test_a_family_is_no_larger_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "ROW_COST", 0)
    rows: list[Row] = [([0, 1, 2, 3, n], [n]) for n in range(10)]
    assert [len(each.members) for each in families(rows, 3)] == [3, 3, 3, 1]
    assert [each.shared for each in families(rows, 3)] == [4, 4, 4, 5]


@pytest.mark.parametrize("length", [1, 7, 8, 9, 30])
def test_every_token_of_a_continuation_is_scored_once(length: int) -> None:
    continuation = list(range(100, 100 + length))
    found = list(windows([1, 2, 3], continuation, 8))
    assert [token for _, targets in found for token in targets] == continuation
    assert all(len(targets) <= len(inputs) <= 8 for inputs, targets in found)
    whole = [1, 2, 3, *continuation]
    for inputs, targets in found:
        end = whole.index(targets[-1])
        assert inputs == whole[end - len(inputs) : end]
