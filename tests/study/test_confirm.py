"""Confirm in looks, driven as a study drives it: ladders grow, runs are added until it is known.

Losses come from a law in place of training, so that what the driver asks for can be followed.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from inline import CORPUS, Inline, quietly

from modsearch.analysis.claims import Claim, study_claims
from modsearch.analysis.verdicts import Verdict
from modsearch.config.records import Job, Plan, Record, Scores, Stage, State
from modsearch.config.runtime import Share
from modsearch.engines.contract import RunTrial
from modsearch.space.candidates import load_space
from modsearch.store.directory import StudyDirectory
from modsearch.study.runner import Runner

SPACE: dict[str, Any] = {
    "name": "looks",
    "data": {"corpus": CORPUS},
    "fixed": {
        "model": {"seq_len": 32, "num_heads": 1},
        "optim": {"batch_size": 2, "min_steps": 5},
    },
    "arms": {
        "dense": {"model": {"block": "dense"}},
        "mod": {"model": {"block": "mod"}},
        "random": {"control_of": "mod", "model": {"router": "random"}},
    },
    "measure": {
        "ladder": [{"budget": 2e9, "depth": 2, "widths": [8, 12, 16, 20, 24]}],
        "windows": 2,
    },
    "confirm": {"budgets": [2e9], "runs": 18, "margin": 0.02, "windows": 2},
    "resources": {"workers": 1},
}

Loss = Callable[[Job], float]


def bowl(job: Job, gain: float = 0.0, sd: float = 0.003, best: float = 17.0) -> float:
    """A parabola in the width, and noise that is a function of the trial."""
    model = job.candidate.model
    noise = math.sin(1000 * job.seed + 77 * model.width + 31 * len(job.arm))
    return 1.5 + 0.1 * math.log(model.width / best) ** 2 + sd * noise - gain * (job.arm == "mod")


def told(root: Path, loss: Loss, _run: RunTrial, workers: int | None, share: Share) -> Inline:
    """An engine whose trials have the loss of a law."""

    def run(job: Job, _: object = None) -> Record:
        assert isinstance(job.plan, Plan)
        value = loss(job)
        record = job.record(
            State.COMPLETE,
            scores=Scores(
                causal_loss=value, train_mode_loss=value, bits_per_byte=value,
                final_train_loss=value, realised_capacity=None, realised_forward_flops=1e3,
                agreement=None, seconds=1.0, step_seconds=0.01, peak_memory=1,
            ),
        )  # fmt: skip
        StudyDirectory(root).write_record(record)
        return record

    return Inline(quietly, run, workers, share)


def search(root: Path, loss: Loss, **changes: Any) -> tuple[list[Record], Claim]:
    """Run or resume; the records and the headline."""
    space = load_space({**SPACE, **changes}, [])
    runner = Runner(space, root, make_engine=partial(told, root, loss))
    runner.run()
    records = runner.directory.records()
    return records, study_claims(runner.directory.manifest(), records).headline


def confirmed(records: list[Record]) -> Counter[str]:
    return Counter(record.arm for record in records if record.stage is Stage.CONFIRM)


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
