"""Arms are what their models do, whatever their components are called."""

import pytest
from worlds import manifest, study, trial

from modsearch.analysis.arms import Kind, describe, kind_of, kinds_of, roles
from modsearch.analysis.claims import study_claims
from modsearch.analysis.verdicts import Verdict
from modsearch.config.data import DataConfig
from modsearch.config.records import Budget, Plan, Record, Stage, State
from modsearch.space.candidates import build
from modsearch.training.budget import plan


def noted(record: Record, **said: object) -> Record:
    """A record whose plan says more."""
    assert record.plan is not None
    return record.model_copy(update={"plan": record.plan.model_copy(update=said)})


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ({"block": "dense"}, Kind.DENSE),
        ({"block": "mod"}, Kind.ROUTED),
        ({"block": {"name": "mod", "part": "ffn"}}, Kind.ROUTED),
        ({"block": "moe"}, Kind.SPARSE),
        ({"ffn": "moe"}, Kind.SPARSE),
        ({"ffn": "mode_integrated"}, Kind.ROUTED),
        ({"block": "mode_staged"}, Kind.ROUTED),
    ],
)
def test_a_plan_says_what_a_model_does(model: dict[str, object], kind: Kind) -> None:
    candidate = build({"model": model, "optim": {"min_steps": 1}}, DataConfig())
    spent = plan(candidate, Budget(flops=1e12), 10**9)
    assert isinstance(spent, Plan)
    assert kind_of(candidate.model, spent) is kind
    before = spent.model_copy(update={"routed": None})
    assert kind_of(candidate.model, before) is kind, "plans of before say it by names"


def test_names_of_a_plugin_do_not_hide_the_reference_arm() -> None:
    """A study whose dense arm has an ffn, or a block, of somebody's own gets its verdict."""
    for parts in ({"ffn": "theirs"}, {"block": "theirs"}):
        rows = []
        for row in study(sd=0.004):
            if row.arm == "dense":
                model = row.candidate.model.model_validate(
                    {**row.candidate.model.model_dump(), **parts}
                )
                candidate = row.candidate.model_copy(update={"model": model})
                row = row.model_copy(update={"candidate": candidate})
            rows.append(noted(row, routed=row.arm != "dense"))
        claim = study_claims(manifest(), rows).headline
        assert claim.verdict is Verdict.BETTER, claim.reason
        assert claim.comparison is not None
        assert claim.comparison.reference.arm == "dense"
        assert "(dense, depth 2, width" in claim.sentence


def test_experts_are_the_reference_where_there_is_no_dense_arm() -> None:
    arms = ["mod", "experts", "dense"]
    kinds = {"mod": Kind.ROUTED, "experts": Kind.SPARSE, "dense": Kind.DENSE}
    assert roles(arms, kinds).reference == ("dense",)
    assert roles(arms[:2], kinds).reference == ("experts",)
    assert roles(arms, kinds).routed == ("mod",)
    assert roles(arms, {"dense": Kind.DENSE}).routed == (), "an arm without trials is in none"


def test_an_arm_of_several_blocks_is_what_its_last_stage_trains() -> None:
    """Explore chose among blocks; what it did not choose does not say what the arm is."""
    rows = [
        trial(Stage.EXPLORE, "a", name="z", block="mod"),
        trial(Stage.MEASURE, "a", name="b", block="dense"),
        trial(Stage.MEASURE, "a", name="c", block="mod", state=State.INFEASIBLE).model_copy(
            update={"plan": None}
        ),
    ]
    assert kinds_of(rows) == {"a": Kind.DENSE}
    assert kinds_of(rows[:1]) == {"a": Kind.ROUTED}


def test_a_model_that_routes_nothing_is_described_by_its_size() -> None:
    record = trial(arm="mod", width=32)
    assert describe(record) == "capacity 0.125, every 2"
    assert describe(noted(record, routed=False)) == "depth 2, width 32"
