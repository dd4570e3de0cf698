"""Confirm in looks, driven as a study drives it: ladders grow, runs are added until it is known.

Losses come from a law in place of training, so that what the driver asks for can be followed.
"""

from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import pytest
from bowls import SPACE, bowl, confirmed, search

from modsearch.analysis.claims import Claim
from modsearch.analysis.verdicts import Verdict
from modsearch.config.records import Job, Record, Stage
from modsearch.store.directory import StudyDirectory

Found = tuple[list[Record], Claim]


@pytest.fixture(scope="module")
def better(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A study of a large effect."""
    return search(tmp_path_factory.mktemp("better"), partial(bowl, gain=0.1))


def test_a_large_effect_ends_confirm_at_an_early_look(better: Found) -> None:
    records, claim = better
    assert claim.verdict is Verdict.BETTER
    assert claim.runs < 18
    assert confirmed(records) == dict.fromkeys(SPACE["arms"], claim.runs), "all arms alike"


def test_no_effect_is_told_as_equivalent(tmp_path: Path) -> None:
    records, claim = search(tmp_path, bowl)
    assert claim.verdict is Verdict.EQUIVALENT
    assert confirmed(records)["dense"] == claim.runs


def test_what_can_not_be_known_ends_at_the_limit_or_before(tmp_path: Path) -> None:
    records, claim = search(tmp_path, partial(bowl, sd=0.1))
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert claim.settled
    assert confirmed(records)["dense"] == claim.runs <= 18


def test_runs_are_spread_over_three_sizes_and_no_seed_is_used_twice(better: Found) -> None:
    records, _ = better
    runs = [r for r in records if (r.stage, r.arm) == (Stage.CONFIRM, "dense")]
    widths = Counter(run.candidate.model.width for run in runs)
    assert widths == dict.fromkeys((12, 16, 20), len(runs) // 3)
    assert len({run.seed for run in runs}) == len(runs)
    seeds = {
        arm: sorted(r.seed for r in records if (r.stage, r.arm) == (Stage.CONFIRM, arm))
        for arm in SPACE["arms"]
    }
    assert seeds["dense"] == seeds["mod"] == seeds["random"]


def test_a_minimum_at_the_end_extends_its_ladder_first(tmp_path: Path) -> None:
    records, claim = search(tmp_path, partial(bowl, best=34.0, gain=0.1))
    measured = {
        arm: sorted(r.candidate.model.width for r in records
                    if (r.stage, r.arm) == (Stage.MEASURE, arm))
        for arm in ("dense", "mod")
    }  # fmt: skip
    for widths in measured.values():
        assert widths[:5] == [8, 12, 16, 20, 24]
        assert widths[5:], "sizes beyond the space's"
        assert len(widths) <= 8
    sizes = {r.candidate.model.width for r in records if r.stage is Stage.CONFIRM}
    assert max(sizes) > 24
    assert claim.verdict is Verdict.BETTER


def test_measure_trains_every_size_with_each_of_its_seeds(tmp_path: Path) -> None:
    """Those beyond the space's ladder, too; and the first seed's trials are those of one seed."""
    law = partial(bowl, best=26.0)
    once, _ = search(tmp_path, law)
    twice, _ = search(tmp_path, law, measure={**SPACE["measure"], "seeds": 2})
    sizes: dict[tuple[str, int], set[int]] = defaultdict(set)
    for record in twice:
        if record.stage is Stage.MEASURE:
            sizes[record.arm, record.candidate.model.width].add(record.seed)
    assert max(width for _, width in sizes) > 24
    assert set(map(frozenset, sizes.values())) == {frozenset({1, 2})}
    first = {r.hash for r in once if r.stage is Stage.MEASURE}
    assert first < {r.hash for r in twice}
    assert {r.seed for r in twice if r.stage is Stage.CONFIRM}.isdisjoint({1, 2})


def test_a_study_that_is_stopped_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """After any number of trials: the same trials, sizes and verdict."""
    law = partial(bowl, gain=0.012, sd=0.01)
    whole, claim = search(tmp_path / "whole", law)
    trials = {record.hash: record.scores for record in whole}
    assert len(trials) > 40

    class Stopped(Exception):
        pass

    parts = tmp_path / "parts"
    for after in (7, 9, 13, 5, 30):

        def stops(job: Job, after: int = after, count: list[int] = [0]) -> float:  # noqa: B006
            count[0] += 1
            if count[0] > after:
                raise Stopped
            return law(job)

        try:
            search(parts, partial(stops, count=[0]))
        except Stopped:
            continue
    again, same = search(parts, law)
    assert {record.hash: record.scores for record in again} == trials
    assert same == claim


def test_what_was_chosen_is_written_down_before_the_first_run(tmp_path: Path) -> None:
    def law(job: Job) -> float:
        if job.stage is Stage.CONFIRM:
            design = StudyDirectory(tmp_path).manifest().confirm
            assert design is not None
            chosen = design.at(2e9)
            assert chosen is not None
            assert (chosen.routed, chosen.dense) == ("mod", "dense")
            assert [size.width for size in chosen.sizes["random"]] == [12, 16, 20]
        return bowl(job)

    search(tmp_path, law)


@pytest.mark.parametrize("seeds", [3])
def test_a_fixed_design_has_one_size_and_one_look(tmp_path: Path, seeds: int) -> None:
    fixed = {"budgets": [2e9], "seeds": seeds, "windows": 2}
    records, claim = search(tmp_path, partial(bowl, gain=0.1), confirm=fixed)
    assert confirmed(records) == dict.fromkeys(SPACE["arms"], seeds)
    assert {r.candidate.model.width for r in records if r.stage is Stage.CONFIRM} == {16}
    assert claim.verdict is Verdict.BETTER
    assert any(note.startswith("A fixed design") for note in claim.notes)
    more = {**fixed, "seeds": seeds + 2}
    _, claim = search(tmp_path, partial(bowl, gain=0.1), confirm=more)
    assert any(f"after looks at {seeds} of them" in note for note in claim.notes)


def test_every_depth_that_may_be_the_best_is_extended(tmp_path: Path) -> None:
    """At depth 1 the dense arm falls beyond its ladder; that it has no fit there hides nothing."""

    def law(job: Job) -> float:
        shallow = job.candidate.model.depth == 1
        return bowl(job, best=30.0 if shallow else 14.0) - 0.03 * shallow

    measure = {
        "ladder": [
            {"budget": 2e9, "depth": 1, "widths": [8, 12, 16, 20], "arms": ["dense"]},
            {"budget": 2e9, "depth": 2, "widths": [8, 12, 16, 20, 24]},
        ],
        "windows": 2,
    }
    records, claim = search(tmp_path, law, measure=measure)
    sizes = [r.candidate.model for r in records if (r.stage, r.arm) == (Stage.MEASURE, "dense")]
    assert max(model.width for model in sizes if model.depth == 1) > 24
    assert {model.width for model in sizes if model.depth == 2} == {8, 12, 16, 20, 24}
    assert claim.comparison is not None
    assert {group.size.depth for group in claim.comparison.reference.groups} == {1}
