"""Studies stand on one page only where what was compared is the same."""

from typing import Any

import pytest
from worlds import manifest, trial

from modsearch.config.manifest import Manifest
from modsearch.config.records import Stage
from modsearch.errors import StudyError
from modsearch.space.space import Space
from modsearch.study.agreement import constants, refuse_shared, refuse_unlike, repeats

ARMS: dict[str, Any] = {
    "dense": {"model": {"block": "dense"}},
    "mod": {"model": {"block": "mod", "capacity": 0.25}},
    "mod-random": {"control_of": "mod", "model": {"router": "random"}},
}
LADDER = [{"budget": 1e11, "depth": 2, "widths": [16, 20, 24, 32]}]


def space(**changes: Any) -> Space:
    plain = {"name": "a", "arms": ARMS, "measure": {"ladder": LADDER}}
    return Space.model_validate({**plain, **changes})


def of(space: Space, **changes: Any) -> dict[str, Any]:
    return constants(Manifest.model_validate(manifest().model_dump() | changes), space)


def arm(name: str, **model: Any) -> dict[str, Any]:
    return {**ARMS, name: {**ARMS[name], "model": {**ARMS[name]["model"], **model}}}


@pytest.mark.parametrize(
    ("other", "changes", "said"),
    [
        (space(), {"versions": {"torch": "2.0"}}, 'versions.torch is "2.0", not "2.9"'),
        (
            space(),
            {"runtime": {"precision": "bf16"}},
            'runtime.precision is "bf16", not "fp32"',
        ),
        (
            space(),
            {"corpus": manifest().corpus.model_dump() | {"fingerprint": "beef"}},
            'corpus.fingerprint is "beef", not "f00d"',
        ),
        (space(), {"plugins": {"my.py": "d1"}}, 'plugins is {my.py: "d1"}, not {}'),
        (space(), {"arms": {"dense": None}}, r'arms is \["dense"\], not \["dense", "mod'),
        (space(arms=arm("mod", capacity=0.5)), {}, "arms.mod.model.capacity is 0.5, not 0.25"),
        (
            space(arms=arm("mod", seq_len=128)),
            {},
            "arms.mod.model.seq_len is 128, not 256",
        ),
        (
            space(fixed={"optim": {"rate": 0.01}}),
            {},
            "arms.dense.optim.rate is 0.01, not 0.00",
        ),
        (
            space(arms=arm("mod-random", router="static")),
            {},
            'arms.mod-random.model.router is "static", not "random"',
        ),
        (
            space(measure={"ladder": LADDER, "windows": 32}),
            {},
            "measure.windows is 32, not 64",
        ),
    ],
)
def test_a_constant_that_differs_is_told_with_both_values(
    other: Space, changes: dict[str, Any], said: str
) -> None:
    studies = {"runs/a": of(space()), "runs/b": of(other, **changes)}
    with pytest.raises(
        StudyError, match=rf"runs/b does not fit beside runs/a: its {said}"
    ) as told:
        refuse_unlike(studies)
    assert str(told.value).count("\n") == 1


def test_budgets_seeds_names_and_what_is_no_loss_may_differ() -> None:
    longer = [{"budget": 1e12, "depth": 4, "widths": [32, 40, 48, 64]}]
    others = (
        (space(name="b", seed=3, measure={"ladder": longer}), {"name": "b", "seed": 3}),
        (space(resources={"workers": 4}), {"code": "another", "machine": {"device": "other"}}),
        (space(), {"runtime": {"checkpoint_seconds": 60.0}}),
        (space(fixed={"model": {"seq_len": 256}}), {}),  # what a default says anyway
        (space(arms=arm("mod", router={"name": "expert_choice"})), {}),
    )
    for other, changes in others:
        refuse_unlike({"a": of(space()), "b": of(other, **changes)})


def test_repetitions_ask_the_same_with_another_seed() -> None:
    assert repeats(space()) == repeats(space(name="b", seed=4, resources={"workers": 3}))
    more = [{**LADDER[0], "widths": [16, 20, 24, 32, 40]}]
    assert repeats(space()) != repeats(space(measure={"ladder": more}))


def test_a_study_does_not_stand_beside_its_copy() -> None:
    rows = [trial(Stage.CONFIRM, seed=seed) for seed in range(3)]
    with pytest.raises(StudyError, match="b has 1 of the confirmed trials of a, such as confirm-"):
        refuse_shared({"a": rows[:2], "b": rows[1:]})
    refuse_shared({"a": rows[:1], "b": rows[1:]})
    measured = [trial()]
    refuse_shared({"a": [*rows[:1], *measured], "b": [*rows[1:], *measured]})
