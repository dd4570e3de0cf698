"""A configuration's point: the way back from what a point is built to."""

from random import Random

import pytest

from modsearch.config.data import DataConfig
from modsearch.config.records import Candidate
from modsearch.space.axes import parse_tree
from modsearch.space.candidates import build
from modsearch.space.matching import axis_told, match
from modsearch.space.points import at_point, open_axes, point_at
from modsearch.testing.searches import TREES

ALIKE = {
    "model": {
        "block": "mod",
        "router": {
            "choice": [
                "expert_choice",
                {"name": "expert_choice", "gate": {"choice": ["sigmoid", "tanh"]}},
            ]
        },
        "num_kv_heads": {"choice": [None, 1]},
    },
    "optim": {"batch_size": {"choice": [2, 4]}},
    "size": {"depth": 2, "width": 16},
}
"""Two components of one name, which only their options tell apart."""


@pytest.mark.parametrize("plain", [*TREES.values(), ALIKE])
def test_a_configuration_is_found_at_its_point(plain: object) -> None:
    tree, draws = parse_tree(plain), Random(0)
    axes = open_axes(tree)
    for _ in range(20):
        point = point_at(tree, axes, [draws.random() for _ in axes])
        text = build(at_point(tree, point), DataConfig()).model_dump_json()
        found = match(tree, Candidate.model_validate_json(text))
        assert found is not None
        assert not found.unlike
        assert found.point == point


@pytest.mark.parametrize(
    ("changes", "path", "there"),
    [
        ({"model": {"seq_len": 64}}, "model.seq_len", 64),
        ({"optim": {"rate": 0.5}}, "optim.rate", 0.5),
        ({"model": {"capacity": 0.05}}, "model.capacity", 0.05),
        ({"size": {"width": 20}}, "model.width", 20),
    ],
)
def test_what_differs_is_told(
    changes: dict[str, dict[str, object]], path: str, there: object
) -> None:
    tree = parse_tree(TREES["numbers"])
    values = at_point(tree, {"model.capacity": 0.5, "optim.rate": 0.01, "size.width": 24})
    for part, inner in changes.items():
        values[part] = {**values[part], **inner}
    found = match(tree, build(values, DataConfig()))
    assert found is not None
    assert [(key, was) for key, (was, _) in found.unlike.items()] == [(path, there)]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("model.seq_len", None),
        ("model.router.name", 'one of "threshold", "expert_choice"'),
        ("model.router.gate", 'one of "sigmoid", "tanh"'),
        ("model.router.z_loss", None),
        ("model.width", "8 to 32 in steps of 8"),
        ("model.depth", "1 to 3"),
        ("optim.rate", "0.001 to 0.1"),
        ("optim.batch_size", "one of 20, such as 1, 3, 6, 9, 11, 14, 17, 20"),
    ],
)
def test_what_an_axis_leaves_open_is_told_of_the_setting(path: str, told: str | None) -> None:
    gated = {"name": "expert_choice", "gate": {"choice": ["sigmoid", "tanh"]}}
    tree = parse_tree(
        {
            "model": {"seq_len": 32, "router": {"choice": ["threshold", gated]}},
            "optim": {
                "rate": {"log": [0.001, 0.1]},
                "batch_size": {"choice": [*range(1, 21)]},
            },
            "size": {"depth": {"int": [1, 3]}, "width": {"int": [8, 32], "step": 8}},
        }
    )
    point = {
        "model.router": tree["model"]["router"].labels[1],
        "model.router.expert_choice.gate": "tanh",
    }
    assert axis_told(tree, point, path) == told
