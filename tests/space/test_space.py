"""Search spaces: YAML, mistakes and their messages, distributions, grids, overrides, extension."""

import copy
import pickle
import re
from collections.abc import Callable
from datetime import date
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given

from modsearch import __version__
from modsearch.config.data import CorpusFacts, DataConfig
from modsearch.config.design import Chosen
from modsearch.config.reading import override, parse_yaml, read_yaml, yaml_text
from modsearch.config.records import Candidate, Stage
from modsearch.errors import ConfigError, StudyError
from modsearch.planning.cells import planned_cells
from modsearch.space import axes
from modsearch.space.axes import (
    Choice,
    Distribution,
    Float,
    Int,
    OpenTree,
    parse_tree,
    spread,
)
from modsearch.space.candidates import build, checked, load_candidate, load_space
from modsearch.space.points import grid, is_finite, num_points, open_axes, resolve
from modsearch.space.space import Space, own_space, read_space
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_yaml
from modsearch.study import completeness
from modsearch.study.provenance import open_manifest

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))

SPACE = """
name: small
seed: 3
fixed:
  model: {seq_len: 16, num_heads: 1, every: 2}
  optim: {batch_size: 2}
axes:
  optim: {rate: {choice: [0.005, 1e-2]}}
arms:
  dense: {model: {block: dense}}
  mod:
    model:
      block: mod
      router: {choice: [random, {name: expert_choice, gate: {choice: [identity, tanh]}}]}
      capacity: {choice: [0.125, 0.5]}
  mod-random: {control_of: mod, model: {router: random}}
explore: {budgets: [5e8, 1e9], size: {depth: 2, width: {int: [8, 16], step: 4}}}
measure:
  ladder:
    - {budget: 1e9, depth: 2, widths: [8, 12]}
    - {budget: 1e9, depth: 4, widths: [8]}
    - {budget: 2e9, depth: 2, widths: [12]}
confirm: {budgets: [1e9], seeds: 3, windows: 32}
"""

Change = Callable[[dict[str, Any]], None]


def load(folder: Path, text: str = SPACE, *sets: str) -> Space:
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(path, list(sets))


def candidate(folder: Path, text: str, *sets: str) -> Candidate:
    path = folder / "config.yaml"
    path.write_text(text)
    return load_candidate(path, list(sets))


def refused(folder: Path, text: str, *sets: str) -> str:
    """The message for a space that is refused: two lines at most, the first names the file."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *sets)
    message = str(caught.value)
    assert message.count("\n") <= 1, message
    return message


# --- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e10", 5e10),
        ("1.5e11", 1.5e11),
        ("1E+3", 1000.0),
        ("-2e-3", -0.002),
        ("1_000.5", 1000.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("7", 7),
        ("'5e10'", "5e10"),
        ("e10", "e10"),
        ("1.2.3", "1.2.3"),
        ("[1e9, 2]", [1e9, 2]),
        ("{a: 1e9}", {"a": 1e9}),
    ],
)
def test_numbers_are_read_as_people_write_them(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"value: {text}\n")
    found = read_yaml(path, [])["value"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1, 2", "line 1: expected"),
        (b"- a\n- b\n", "is no mapping"),
        (b"", "is empty: it needs keys"),
        (b"a: \xff\xfe", "can't read"),
        (b"a: !!python/object/apply:os.getcwd []", "line 1: tag .* is not taken"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path, [])
    assert "broken.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file .*missing\.yaml"):
        read_yaml(tmp_path / "missing.yaml", [])
    with pytest.raises(ConfigError, match="can't read"):
        read_yaml(tmp_path, [])


# --- mistakes


def edited(change: Change) -> str:
    values = yaml.safe_load(SPACE)
    change(values)
    return yaml.safe_dump(values, sort_keys=False)


MISTAKES: dict[str, tuple[Change, str]] = {
    "top level": (lambda s: s.update(axis={}), "`axis`; did you mean `axes`?"),
    "model": (lambda s: s["fixed"]["model"].update(seqlen=3), "`seqlen`; did you mean `seq_len`?"),
    "optim": (lambda s: s["fixed"]["optim"].update(rates=3), "`rates`; did you mean `rate`?"),
    "size": (lambda s: s["explore"]["size"].update(widht=3), "`widht`; did you mean `width`?"),
    "arm": (
        lambda s: s["arms"]["mod"]["model"].update(capasity=1),
        "`capasity`; did you mean `capacity`?",
    ),
    "router": (
        lambda s: s["arms"]["mod"]["model"].update(router="expert_choise"),
        "router `expert_choise`; did you mean `expert_choice`?",
    ),
    "router in a choice": (
        lambda s: s["arms"]["mod"]["model"].update(router={"choice": ["random", "randon"]}),
        "router `randon`; did you mean `random`?",
    ),
    "block": (
        lambda s: s["arms"]["dense"]["model"].update(block="dens"),
        "block `dens`; did you mean `dense`?",
    ),
    "option": (
        lambda s: s["arms"]["mod"]["model"].update(router={"name": "expert_choice", "gat": 1}),
        "`gat`; did you mean `gate`?",
    ),
    "control's router": (
        lambda s: s["arms"]["mod-random"]["model"].update(router="randon"),
        "router `randon`; did you mean `random`?",
    ),
    "option's value": (
        lambda s: s["arms"]["mod"]["model"].update(
            router={"name": "expert_choice", "gate": "relu"}
        ),
        "router `expert_choice`: option `gate`: must be one of identity",
    ),
    "value": (lambda s: s["fixed"]["model"].update(every=0), "every"),
    "value of an axis": (
        lambda s: s["axes"]["optim"].update(rate={"choice": [0.01, -1]}),
        "optim.rate.* got -1",
    ),
    "value inside a choice": (
        lambda s: s["arms"]["mod"]["model"].update(
            router={
                "choice": ["random", {"name": "expert_choice", "bce_weight": {"choice": [0, -1]}}]
            }
        ),
        "option `bce_weight`: must be 0 or more, but got -1",
    ),
    "end of a long axis": (
        lambda s: s["arms"]["mod"]["model"].update(capacity={"float": [0.1, 1.5]}),
        "capacity.* got 1.5",
    ),
    "two axes that do not fit each other": (
        lambda s: (
            s["fixed"]["model"].update(num_heads={"choice": [2, 4]}),
            s["measure"].update(ladder=[{"budget": 1e9, "depth": 2, "widths": [8]}]),
        ),
        "width=12, num_heads=4",
    ),
    "width of the ladder": (
        lambda s: s["measure"]["ladder"][2].update(widths=[13]),
        "width=13, num_heads=1",
    ),
    "section": (
        lambda s: s["fixed"].update(modle={}),
        "key in fixed `modle`; did you mean `model`?",
    ),
    "explore": (
        lambda s: s["explore"].update(budget=[1e9]),
        "key in explore `budget`; did you mean",
    ),
    "ladder": (
        lambda s: s["measure"]["ladder"][0].update(width=s["measure"]["ladder"][0].pop("widths")),
        "key in measure.ladder.0 `width`; did you mean `widths`?",
    ),
    "key of an arm": (
        lambda s: s["arms"]["mod"].update(modl={}),
        "key in arms.mod `modl`; did you mean",
    ),
    "no stage": (
        lambda s: [s.pop(stage) for stage in ("explore", "measure", "confirm")],
        "at least one of explore, measure, confirm",
    ),
    "unknown arm of a rung": (
        lambda s: s["measure"]["ladder"][0].update(arms=["dens"]),
        "measure.ladder.0.arms: unknown arm `dens`",
    ),
    "control in a rung": (
        lambda s: s["measure"]["ladder"][0].update(arms=["random"]),
        "measure.ladder.0.arms: unknown arm `random`",
    ),
    "arm without a size": (
        lambda s: [rung.update(arms=["dense"]) for rung in s["measure"]["ladder"]],
        "arm `mod` has no size in the measure ladder",
    ),
    "confirm without measure": (lambda s: s.pop("measure"), "confirm budget 1e.09"),
    "confirm at another budget": (
        lambda s: s["confirm"].update(budgets=[3e9]),
        "confirm budget 3e.09 is not in the measure ladder",
    ),
    "negative budget": (
        lambda s: s["explore"].update(budgets=[-1]),
        "budgets.0: must be over 0, but got -1",
    ),
    "infinite budget": (lambda s: s["explore"].update(budgets=[float("inf")]), "finite number"),
    "no budget": (lambda s: s["explore"].update(budgets=[]), "explore.budgets"),
    "negative seed": (lambda s: s.update(seed=-1), "seed"),
    "no workers": (lambda s: s.update(resources={"workers": 0}), "workers"),
    "sampler": (lambda s: s["explore"].update(sampler="cmaes", trials=3), "explore.sampler"),
    "option of a sampler": (
        lambda s: s["explore"].update(sampler={"name": "tpe", "startup": 3}, trials=3),
        r"explore.sampler: unknown option of sampler `tpe` `startup`",
    ),
    "sampler without trials": (
        lambda s: s["explore"].update(sampler="tpe"),
        "sampler `tpe` needs `trials`: so many of each arm and budget, as in `explore.trials: 20`",
    ),
    "continuous axis in a grid": (
        lambda s: s["axes"]["optim"].update(rate={"log": [1e-3, 1e-1]}),
        "`optim.rate` is continuous",
    ),
    "open axis without explore": (lambda s: s.pop("explore"), "`dense` leaves `optim.rate` open"),
    "arm's name": (lambda s: s["arms"].update({"a/b": {}}), "arms.a/b: must be up to 100 letters"),
    "no arms": (lambda s: s.update(arms={}), "arms"),
    "space's name": (lambda s: s.update(name="../x"), "name"),
    "control of nothing": (
        lambda s: s["arms"]["mod-random"].update(control_of="mode"),
        "`mod-random` is control_of `mode`",
    ),
    "control of a control": (
        lambda s: s["arms"].update(again={"control_of": "mod-random"}),
        "`again` is control_of `mod-random`",
    ),
    "control of itself": (
        lambda s: s["arms"]["mod-random"].update(control_of="mod-random"),
        "no learned arm",
    ),
    "control with an axis": (
        lambda s: s["arms"]["mod-random"]["model"].update(capacity={"choice": [0.1, 0.2]}),
        "`mod-random` has no axes of its own",
    ),
    "suite without weights": (
        lambda s: s.update(suite="quick", resources={"keep": "none"}),
        "a suite scores kept weights",
    ),
    "batch that ranks can't share": (
        lambda s: s.update(resources={"ranks": 4}, fixed={"optim": {"batch_size": 6}}),
        "resources.ranks: 4 ranks can't share a batch_size of 6",
    ),
    "open batch that ranks can't share": (
        lambda s: s.update(
            resources={"ranks": 2},
            fixed={"optim": {}},
            axes={"optim": {"batch_size": {"int": [2, 5], "step": 3}}},
        ),
        "2 ranks can't share a batch_size of 5",
    ),
    "ranks that share a GPU": (
        lambda s: s.update(resources={"ranks": 2, "gpus": 0.5}),
        "2 ranks have a GPU each: leave `gpus` out",
    ),
    "shards that are compiled": (
        lambda s: s.update(resources={"ranks": 2, "parallel": "fsdp", "compile": "on"}),
        "compile: on needs parallel: ddp",
    ),
    "matrices in parts": (
        lambda s: s.update(
            resources={"ranks": 2, "parallel": "fsdp"}, fixed={"optim": {"optimizer": "muon"}}
        ),
        "fixed.optim.optimizer: `muon` steps on whole matrices, which no rank has with "
        "resources.parallel: fsdp",
    ),
    "open optimiser with matrices in parts": (
        lambda s: s.update(
            resources={"ranks": 2, "parallel": "fsdp"},
            axes={"optim": {"optimizer": {"choice": ["adamw", "muon"]}}},
        ),
        "axes.optim.optimizer: `muon` steps on whole matrices",
    ),
    "plain value for a section": (lambda s: s.update(fixed=3), "fixed"),
    "number for a key": (
        lambda s: s["fixed"]["model"].update({1: 2}),
        "line .*: a key is a text, but got 1",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, mistake: str) -> None:
    change, pattern = MISTAKES[mistake]
    load(tmp_path)
    message = refused(tmp_path, edited(change))
    assert message.startswith(f"{tmp_path / 'space.yaml'}: ")
    with pytest.raises(ConfigError, match=pattern):
        load(tmp_path, edited(change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: {}", "key `modle`; did you mean `model`?"),
        ("model: {dept: 2}", "key in model `dept`; did you mean `depth`?"),
        ("model: {router: expert_choise}", "did you mean `expert_choice`?"),
        ("model: {router: {gate: tanh}}", "model.router.name: is missing"),
        ("model: 5", "model: must be a mapping"),
        ("optim: [1]", "optim: must be a mapping"),
        ("model: {1: 2}", "line 1: a key is a text, but got 1"),
        ("data: 5", "data: "),
        ("data: {corpse: x}", "unknown key in data `corpse`; did you mean `corpus`?"),
        ("model: {width: 6}", "width must be a multiple of 2 x num_heads"),
        ("model: {capacity: {choice: [0.1]}}", "model.capacity"),
        ("optim: {warmup: 1}", "optim.warmup"),
    ],
)
def test_mistakes_in_one_configuration(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        candidate(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'config.yaml'}: ")
    assert message in str(caught.value)
    assert str(caught.value).count("\n") <= 1


def test_an_empty_configuration_is_the_default_with_every_option_written_out(
    tmp_path: Path,
) -> None:
    found = candidate(tmp_path, "model:\noptim:\ndata:\n")
    assert found == candidate(tmp_path, "model: {}\n")
    assert found.model_dump(exclude={"model"}) == Candidate().model_dump(exclude={"model"})
    assert found.model.router.options["gate"] == "identity"
    assert found.model.ffn.options


# --- distributions


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"choice": [1, "a", None]}, Choice((1, "a", None))),
        ({"int": [1, 4]}, Int(1, 4, 1)),
        ({"int": [8, 32], "step": 8}, Int(8, 32, 8)),
        ({"float": [0, 1]}, Float(0.0, 1.0, log=False)),
        ({"log": [1e-3, 1]}, Float(1e-3, 1.0, log=True)),
        ({"name": "x", "hidden": {"int": [1, 2]}}, {"name": "x", "hidden": Int(1, 2, 1)}),
        (
            {"choice": [{"name": "x", "h": {"choice": [1, 2]}}]},
            Choice(({"name": "x", "h": Choice((1, 2))},)),
        ),
        (3, 3),
    ],
)
def test_distributions_are_parsed(value: object, expected: object) -> None:
    assert parse_tree(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"choice": []},
        {"choice": 3},
        {"choice": {"a": 1}},
        {"choice": [{"choice": [1, 2]}, 3]},
        {"choice": [{"int": [1, 2]}]},
        {"int": [1]},
        {"int": [4, 1]},
        {"int": [1, 2, 3]},
        {"int": ["a", 2]},
        {"int": [1.5, 2]},
        {"int": [None, 2]},
        {"int": 3},
        {"int": [1, 4], "step": 0},
        {"int": [1, 4], "step": -1},
        {"int": [1, 4], "step": "x"},
        {"int": [1, 4], "step": 0.5},
        {"float": [2, 1]},
        {"float": ["a", 1]},
        {"float": [float("nan"), 1]},
        {"float": [0, float("inf")]},
        {"log": [0, 1]},
        {"log": [-1, 1]},
        {"log": [1, [2]]},
    ],
    ids=repr,
)
def test_malformed_distributions_are_refused(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_tree({"model": {"x": value}})
    assert "\n" not in str(caught.value)


def test_a_label_is_the_scalar_itself_or_json() -> None:
    scalars = (None, True, 3, 0.5, "a")
    assert Choice(scalars).labels == list(scalars)
    trees = ({"b": 1, "a": 2}, {"name": "x", "h": Int(1, 2, 1)})
    assert Choice(trees).labels == ['{"a": 2, "b": 1}', '{"h": "open", "name": "x"}']


def test_values_that_python_takes_for_equal_have_labels_of_their_own() -> None:
    choice = Choice((1, True, "true"))
    assert len(set(choice.labels)) == 3
    assert [choice.labelled(each) for each in choice.labels] == [1, True, "true"]
    assert choice.labelled(choice.labels[1]) is True


# --- grids

NESTED = parse_tree(
    {
        "model": {
            "router": {
                "choice": [
                    "random",
                    {"name": "expert", "gate": {"choice": ["a", "b"]}, "k": {"int": [1, 3]}},
                    {"name": "other", "gate": {"choice": ["c", "d"]}},
                ]
            },
            "every": {"int": [2, 6], "step": 3},
        },
        "optim": {"rate": 0.1},
    }
)


def test_open_axes_are_named_by_their_path() -> None:
    assert open_axes(NESTED) == {
        "model.router": NESTED["model"]["router"],
        "model.router.expert.gate": Choice(("a", "b")),
        "model.router.expert.k": Int(1, 3, 1),
        "model.router.other.gate": Choice(("c", "d")),
        "model.every": Int(2, 6, 3),
    }
    assert open_axes({"model": {"every": 2}}) == {}


def test_a_grid_has_every_point_once_and_no_axis_that_is_not_met() -> None:
    points = list(grid(NESTED))
    assert len(points) == (1 + 2 * 3 + 2) * 2
    assert len({repr(sorted(point.items())) for point in points}) == len(points)
    random, expert, other = NESTED["model"]["router"].labels
    for point in points:
        inner = {path for path in point if path.startswith("model.router.")}
        expected = {
            random: set(),
            expert: {"model.router.expert.gate", "model.router.expert.k"},
            other: {"model.router.other.gate"},
        }[point["model.router"]]
        assert inner == expected
    assert {point["model.every"] for point in points} == {2, 5}


def test_the_last_axis_turns_fastest() -> None:
    tree = parse_tree({"a": {"choice": [3, 1]}, "b": {"int": [1, 2]}, "c": {"choice": ["x", "y"]}})
    points = [tuple(point.values()) for point in grid(tree)]
    assert points == list(product([3, 1], [1, 2], ["x", "y"]))


def test_a_tree_without_axes_has_one_point() -> None:
    assert list(grid({"a": 1})) == [{}]


axes_st = st.one_of(
    st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True).map(
        lambda values: Choice(tuple(values))
    ),
    st.builds(lambda low, span: Int(low, low + span, 1), st.integers(0, 9), st.integers(0, 3)),
)


@given(st.dictionaries(st.sampled_from("abcde"), axes_st, max_size=4))
def test_a_grid_of_independent_axes_is_their_product(tree: dict[str, Distribution]) -> None:
    values = [
        axis.values if isinstance(axis, Choice) else range(axis.low, axis.high + 1)
        for axis in tree.values()
    ]
    assert [tuple(point[key] for key in tree) for point in grid(tree)] == list(product(*values))


def test_a_continuous_axis_has_no_grid() -> None:
    tree = parse_tree({"a": {"choice": [1]}, "b": {"float": [0, 1]}})
    assert not is_finite(tree)
    assert is_finite(NESTED)
    with pytest.raises(ConfigError, match="`b` is continuous"):
        next(grid(tree))


def test_resolving_asks_for_each_axis_that_is_met_and_keeps_the_rest() -> None:
    asked: dict[str, Distribution] = {}

    def last(path: str, axis: Distribution) -> Any:
        asked[path] = axis
        return axis.values[-1] if isinstance(axis, Choice) else axis.high

    found = resolve(NESTED, last)
    assert found == {
        "model": {"router": {"name": "other", "gate": "d"}, "every": 6},
        "optim": {"rate": 0.1},
    }
    assert list(asked) == ["model.every", "model.router", "model.router.other.gate"]


def test_the_order_of_keys_does_not_matter() -> None:
    one = parse_tree({"b": {"choice": [1, 2]}, "a": {"y": {"int": [1, 2]}, "x": 1}})
    two = parse_tree({"a": {"x": 1, "y": {"int": [1, 2]}}, "b": {"choice": [1, 2]}})
    assert repr(one) == repr(two)
    assert list(open_axes(one)) == list(open_axes(two)) == ["a.y", "b"]


def test_a_grid_runs_whole(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave `trials` out"):
        load(tmp_path, SPACE, "explore.trials=3")


def test_one_path_has_one_distribution() -> None:
    tree = parse_tree(
        {
            "router": {
                "choice": [
                    {"name": "a", "k": {"int": [1, 2]}},
                    {"name": "a", "k": {"int": [5, 8]}},
                ]
            }
        }
    )
    with pytest.raises(ConfigError, match="two distributions"):
        open_axes(tree)


# --- arms, stages, sizes


def test_axes_of_all_arms_have_the_same_values(tmp_path: Path) -> None:
    space = load(tmp_path)
    rates = {arm: space.recipe(arm)["optim"]["rate"] for arm in space.arms}
    assert set(rates.values()) == {Choice((0.005, 0.01))}
    assert space.recipe("mod")["model"]["seq_len"] == 16
    assert space.learned_arms == ["dense", "mod"]


def test_a_rung_may_be_that_of_some_arms(tmp_path: Path) -> None:
    """A dense model alone goes to depth 1; nothing is asked of the others there."""
    space = load(
        tmp_path,
        SPACE,
        "measure.ladder=[{budget: 1e9, depth: 1, widths: [8, 12], arms: [dense]}, "
        "{budget: 1e9, depth: 2, widths: [8]}, "
        "{budget: 5e8, depth: 1, widths: [8], arms: [dense]}]",
    )
    assert [size["depth"] for size in space.sizes(1e9, "dense")] == [1, 1, 2]
    assert [size["depth"] for size in space.sizes(1e9, "mod")] == [2]
    assert space.num_trials(Stage.MEASURE, "mod", 5e8) == 0
    planned = [(c.arm, c.budget, c.asked) for c in planned_cells(space, lambda _: FACTS)
               if c.stage is Stage.MEASURE]  # fmt: skip
    assert planned == [("dense", 1e9, 3), ("mod", 1e9, 1), ("dense", 5e8, 1)]
    told = completeness.cells(space, [], {}, {})
    assert [(c.arm, c.budget, c.wanted) for c in told if c.stage is Stage.MEASURE] == planned


def test_an_arm_replaces_whole_values(tmp_path: Path) -> None:
    space = load(
        tmp_path,
        SPACE,
        "fixed.model.router={name: expert_choice, gate: tanh}",
        "arms.mod.model.router=random",
    )
    assert space.recipe("mod")["model"]["router"] == "random"
    assert space.recipe("dense")["model"]["router"] == {"name": "expert_choice", "gate": "tanh"}


def test_budgets_sizes_and_samples_of_the_stages(tmp_path: Path) -> None:
    space = load(tmp_path)
    assert space.budgets(Stage.EXPLORE) == [1e9, 5e8]
    assert space.budgets(Stage.MEASURE) == [2e9, 1e9]
    assert space.budgets(Stage.CONFIRM) == [1e9]
    assert (
        space.sizes(1e9, "dense")
        == space.sizes(1e9, "mod")
        == [
            {"depth": 2, "width": 8},
            {"depth": 2, "width": 12},
            {"depth": 4, "width": 8},
        ]
    )
    assert [space.validation(stage).part for stage in Stage] == [
        "validation",
        "validation",
        "test",
    ]
    assert space.validation(Stage.CONFIRM).windows == 32


def test_a_built_candidate_has_its_recipe_and_size(tmp_path: Path) -> None:
    space = load(tmp_path)
    tree = space.explored("mod")
    point = resolve(tree, lambda path, axis: axis.values[-1] if isinstance(axis, Choice) else 12)
    found = build(point, space.data)
    assert (found.model.depth, found.model.width, found.model.capacity) == (2, 12, 0.5)
    assert found.model.router.name == "expert_choice"
    assert found.model.router.options["gate"] == "tanh"
    assert found.optim.rate == 0.01


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_spaces_load_and_survive_their_own_file(path: Path, tmp_path: Path) -> None:
    space = load_space(path, [])
    assert space.name == path.stem
    write_yaml(tmp_path / "space.yaml", space.model_dump(mode="json"))
    assert load_space(tmp_path / "space.yaml", []) == space


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_spaces_say_what_they_cost(path: Path) -> None:
    """In their first lines, where they say it."""
    space = load_space(path, [])
    flops = sum(
        space.num_trials(stage, arm, budget) * budget
        for stage in Stage
        for budget in space.budgets(stage)
        for arm in (space.arms if stage is Stage.CONFIRM else space.learned_arms)
    )
    said = re.search(r"# About (\S+) FLOPs", path.read_text())
    assert said or path.stem == "raposo2024"
    assert said is None or float(said[1]) == pytest.approx(flops, rel=0.02)


# --- overrides


def test_overrides_set_values_at_any_depth(tmp_path: Path) -> None:
    space = load(
        tmp_path,
        SPACE,
        "seed=9",
        "explore.budgets=[1e8, 2.5e8]",
        "fixed.optim.weight_decay=0",
        "arms.mod.model.router={name: expert_choice, gate: sigmoid}",
        "data.corpus=a=b.txt",
        "resources.workers=2",
    )
    assert space.seed == 9
    assert space.explore.budgets == [1e8, 2.5e8]
    assert space.fixed.optim == {"batch_size": 2, "weight_decay": 0}
    assert space.arms["mod"].model["router"] == {"name": "expert_choice", "gate": "sigmoid"}
    assert space.data == DataConfig(corpus="a=b.txt")
    assert space.resources.workers == 2


def test_an_override_fills_an_empty_section(tmp_path: Path) -> None:
    assert candidate(tmp_path, "optim:\n", "optim.rate=0.02").optim.rate == 0.02
    assert candidate(tmp_path, "model: {}\n", "optim.rate=0.02").optim.rate == 0.02


@pytest.mark.parametrize(
    "override",
    ["seed", "=3", "seed.x=3", "explore.budgets.0=3", "seed=[1", "seed='1", "seed={a: b: c}", ""],
)
def test_malformed_overrides_are_refused(tmp_path: Path, override: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    with pytest.raises(ConfigError, match="--set") as caught:
        load_space(path, [override])
    assert "\n" not in str(caught.value)


def test_a_misspelled_override_is_an_unknown_key(tmp_path: Path) -> None:
    assert "did you mean `seed`?" in refused(tmp_path, SPACE, "sed=1")


# --- trees of a space


STATED = """\
axes:
  optim:
    warmup: {float: [0, 0.5]}
    rate: {log: [1e-3, 1]}
    min_steps: {int: [1, 4], step: 1}
    batch_size: {int: [2, 4]}
explore: {size: {width: {choice: [8, 12]}, depth: 2}, budgets: [1e9], sampler: random, trials: 3}
name: stated
arms: {mod: {model: {block: mod, router: {gate: {choice: [tanh]}, name: expert_choice}}}}
"""


def test_a_section_is_written_as_it_was_stated_and_holds_what_is_meant(tmp_path: Path) -> None:
    space = load(tmp_path, STATED)
    stated = parse_yaml(STATED)
    dumped = space.model_dump(mode="json", include={"axes", "explore", "arms"})
    for part, said in (
        (dumped["axes"]["optim"], stated["axes"]["optim"]),
        (dumped["explore"]["size"], stated["explore"]["size"]),
        (dumped["arms"]["mod"]["model"], stated["arms"]["mod"]["model"]),
    ):
        assert repr(part) == repr(said), "same keys, order and types"
    assert list(space.axes.optim) == ["batch_size", "min_steps", "rate", "warmup"]
    assert space.axes.optim["rate"] == Float(1e-3, 1.0, log=True)
    assert list(space.explore.size) == ["depth", "width"]
    assert space.explored("mod")["size"]["width"] == Choice((8, 12))
    assert pickle.loads(pickle.dumps(space)) == space


def test_trees_are_equal_that_state_the_same() -> None:
    tree = OpenTree({"b": {"int": [1, 4]}, "a": 1})
    assert tree == OpenTree({"a": 1, "b": {"int": [1, 4]}})
    assert tree != OpenTree({"a": 1, "b": {"int": [1, 4], "step": 1}})
    assert repr(tree) == repr(dict(tree)), "it names a cell in the ledger"


def test_a_distribution_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = axes._distribution

    def noted(value: Any, kind: str, *, own: bool) -> Distribution:
        made.append(kind)
        return make(value, kind, own=own)

    monkeypatch.setattr(axes, "_distribution", noted)
    space = load(tmp_path)
    assert len(made) == 5
    for stage in Stage:
        space.num_trials(stage, "mod", 1e9)
    assert len(made) == 5


def test_a_mistake_inside_a_tree_has_its_whole_path(tmp_path: Path) -> None:
    wrong = "{name: expert_choice, bce_weight: {float: [1, 0]}}"
    message = refused(tmp_path, SPACE, f"arms.mod.model.router={wrong}")
    assert (
        "arms.mod.model.router.bce_weight: bounds are {float: [LOW, HIGH]}, low first" in message
    )
    message = refused(tmp_path, SPACE, "explore.size.width={int: [8]}")
    assert "space.yaml: explore.size.width: bounds are {int: " in message


# --- values of axes


@pytest.mark.parametrize(
    ("axis", "first", "shares", "spreads"),
    [
        (Choice((3, {"name": "x"}, 1)), 3, [3, '{"name": "x"}', 1, 1], [3, 1]),
        (Int(8, 33, 8), 8, [8, 16, 32, 32], [8, 32]),
        (Float(1.0, 3.0, log=False), 1.0, [1.0, 1.8, 2.8, 3.0], [1.0, 3.0]),
        (Float(1.0, 16.0, log=True), 1.0, [1.0, 3.03, 12.13, 16.0], [1.0, 16.0]),
    ],
    ids=repr,
)
def test_values_of_an_axis(
    axis: Distribution, first: object, shares: list[object], spreads: list[object]
) -> None:
    found = [axis.at(share) for share in (0.0, 0.4, 0.9, 1.0)]
    assert found == [pytest.approx(x, rel=1e-2) if isinstance(x, float) else x for x in shares]
    assert axis.first == first
    assert axis.spread(2) == spreads
    drawn = [axis.drawn(Random(0)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    labels = [axis.at(place / 100) for place in range(101)]
    assert isinstance(axis, Float) or drawn[0] in [axis.labelled(label) for label in labels]


@pytest.mark.parametrize(
    ("most", "places"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, list(range(10)))]
)
def test_a_spread_has_both_ends_and_what_lies_evenly_between(most: int, places: list[int]) -> None:
    assert spread(range(10), most) == places


# --- from Python


def test_a_mapping_is_read_as_its_file_is(tmp_path: Path) -> None:
    values = parse_yaml(SPACE)
    before = copy.deepcopy(values)
    assert load_space(values, ["seed=9"]) == load(tmp_path, SPACE, "seed=9")
    assert values == before, "overrides change a copy"
    space = load_space(values)
    assert load_space(space.model_dump(mode="json")) == space
    assert checked(read_space(values), values) == space
    config = {"model": {"width": 8, "num_heads": 1}}
    found = load_candidate(config, ["optim.rate=0.02"])
    assert found == candidate(tmp_path, yaml_text(config), "optim.rate=0.02")
    assert load_candidate({"candidate": found.model_dump()}) == found


ENDLESS: dict[str, Any] = {}
ENDLESS["fixed"] = ENDLESS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, "unknown key `sed`; did you mean `seed`?"),
        ({"model": {"every": 2}}, "unknown key `model`: a space has it in fixed, axes and arms"),
        ({"seed": "1"}, 'seed: must be a whole number, but got "1"'),
        ({"seed": object}, "takes plain values alone, but got <class 'object'>"),
        ({"seed": {1, 2}}, "seed: takes plain values alone, but got {1, 2}"),
        ({"fixed": {1: 2}}, "a key is a text, but got 1"),
        ({"seed": 10**5000}, "seed: a number of more than 40 digits"),
        ({"name": "a\0"}, "a text holds a NUL character"),
        (ENDLESS, "values are nested more than 40 deep"),
        ({"arms": {"a": {"model": {"router": "randon"}}}}, "did you mean `random`?"),
        ({"plugins": ["nowhere.py"]}, "no plugin file "),
        ({"axes": {"optim": {"rate": {"log": [0, 1]}}}}, "axes.optim.rate: a log distribution"),
    ],
)
def test_a_mistake_in_a_mapping_is_told_as_one_of_a_space(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_space({**parse_yaml(SPACE), **values})
    assert str(caught.value).startswith("space: ")
    assert message in str(caught.value)


def test_a_mistake_in_a_mapping_is_told_as_one_of_a_configuration() -> None:
    with pytest.raises(ConfigError, match=r"^configuration: unknown key in model `widht`"):
        load_candidate({"model": {"widht": 3}})


def test_plugins_of_a_mapping_lie_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nothing_of_mine.py").write_text("")
    monkeypatch.chdir(tmp_path)
    space = load_space({**parse_yaml(SPACE), "plugins": ["nothing_of_mine.py"]})
    assert space.plugins == [str(tmp_path / "nothing_of_mine.py")]


# --- a study's own copy of its space


def reloaded(space: Space, folder: Path) -> Space:
    write_yaml(folder / "copy.yaml", space.model_dump(mode="json"))
    return load_space(folder / "copy.yaml", [])


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("name='5e10'",),
        ("name='1'",),
        ("name='null'",),
        ("data.corpus='~/été *.txt'",),
        ("axes.optim.rate={choice: [1e-5, 2.5e-3, 5e+1]}",),
        ("arms.mod.model.capacity={choice: [0.1, 0.30000000000000004, 1]}",),
        ("explore.sampler=tpe", "explore.trials=3", "axes.optim.rate={log: [1e-7, 1e-1]}"),
        ("explore.sampler=qmc", "explore.trials=3", "arms.mod.model.every={int: [1, 2]}"),
        ("arms.mod.model.router={name: expert_choice, init_std: 1e-4, gate: tanh}",),
        ("resources={workers: 2, threads: 1, precision: bf16, keep: all}",),
    ],
    ids=" ".join,
)
def test_a_space_survives_its_own_file(tmp_path: Path, sets: tuple[str, ...]) -> None:
    space = load(tmp_path, SPACE, *sets)
    again = reloaded(space, tmp_path)
    assert again == space
    for arm in space.arms:
        assert repr(again.recipe(arm)) == repr(space.recipe(arm)), "names a cell in the ledger"


FACTS = CorpusFacts(
    name="made up",
    fingerprint="0" * 16,
    train_tokens=10**6,
    validation_tokens=10**5,
    test_tokens=10**5,
    bytes_per_token=1.0,
    unigram_entropy=3.0,
    bigram_entropy=2.0,
)


def opened(folder: Path, facts: CorpusFacts, *sets: str, allow_mixed: bool = False) -> Space:
    """Open or resume the study in a folder; gives the space that it holds then."""
    directory = StudyDirectory(folder / "study")
    open_manifest(directory, load(folder, SPACE, *sets), facts, allow_mixed=allow_mixed)
    return load_space(directory.space, [])


def confirm_begins(folder: Path) -> None:
    """A size is chosen: the first look is near."""
    directory = StudyDirectory(folder / "study")
    manifest = directory.manifest()
    assert manifest.confirm is not None
    chosen = Chosen(budget=1e9, sizes={"dense": ()}, routed=None, dense="dense")
    design = manifest.confirm.model_copy(update={"chosen": (chosen,)})
    directory.write_manifest(manifest.model_copy(update={"confirm": design}))


def test_how_confirm_decides_may_change_until_it_begins(tmp_path: Path) -> None:
    directory = StudyDirectory(tmp_path / "study")
    opened(tmp_path, FACTS)
    opened(tmp_path, FACTS, "confirm.seeds=null", "confirm.runs=12", "confirm.margin=0.5")
    design = directory.manifest().confirm
    assert design is not None
    assert (design.looks, design.curve, design.margin) == ((6, 12), True, 0.5)
    opened(tmp_path, FACTS, "confirm.seeds=2")
    confirm_begins(tmp_path)
    opened(tmp_path, FACTS, "confirm.seeds=5")
    design = directory.manifest().confirm
    assert design is not None
    assert (design.looks, design.earlier) == ((5,), (2,)), "the look at two is noted"
    assert design.at(1e9) is not None


def test_the_day_of_the_first_run_stays_when_a_study_goes_on(tmp_path: Path) -> None:
    directory = StudyDirectory(tmp_path / "study")
    opened(tmp_path, FACTS)
    made = directory.manifest()
    assert made.started is not None
    assert date.fromisoformat(made.started)
    assert made.versions["modsearch"] == __version__
    directory.write_manifest(made.model_copy(update={"started": "2020-02-02"}))
    opened(tmp_path, FACTS)
    assert directory.manifest().started == "2020-02-02"


def test_a_lost_ledger_is_written_down_before_another_one_is_made(tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path / "study")
    opened(tmp_path, FACTS)
    opened(tmp_path, FACTS)
    assert not study.manifest().ledger_remade, "nothing has run yet"
    study.trial("0" * 16).mkdir(parents=True)
    (study.trial("0" * 16) / "result.json").touch()
    study.ledger.write_bytes(b"a ledger")
    opened(tmp_path, FACTS)
    assert not study.manifest().ledger_remade
    study.ledger.unlink()
    opened(tmp_path, FACTS)
    study.ledger.write_bytes(b"another one")
    opened(tmp_path, FACTS)
    assert study.manifest().ledger_remade


@pytest.mark.parametrize(
    "extension",
    [
        (),
        ("explore.budgets=[5e8, 1e9, 4e9]",),
        (
            "measure.ladder=[{budget: 1e9, depth: 2, widths: [8, 12, 16]}, "
            "{budget: 1e9, depth: 4, widths: [8]}, {budget: 2e9, depth: 2, widths: [12]}]",
        ),
        ("confirm.seeds=5",),
        ("resources.workers=7",),
        ("data.corpus=elsewhere.txt",),  # its tokens count, not its place
        ("suite=quick",),
    ],
    ids=" ".join,
)
def test_a_study_may_be_extended(tmp_path: Path, extension: tuple[str, ...]) -> None:
    opened(tmp_path, FACTS)
    assert opened(tmp_path, FACTS, *extension) == load(tmp_path, SPACE, *extension)


@pytest.mark.parametrize(
    "shrunk",
    [
        "explore.budgets=[1e9]",
        "measure.ladder=[{budget: 1e9, depth: 2, widths: [8, 12]}]",
        "confirm.seeds=2",
    ],
)
def test_a_study_may_not_shrink(tmp_path: Path, shrunk: str) -> None:
    opened(tmp_path, FACTS)
    confirm_begins(tmp_path)
    with pytest.raises(StudyError, match="may grow, not shrink"):
        opened(tmp_path, FACTS, shrunk)


def test_an_extended_study_is_not_lost_by_a_refusal(tmp_path: Path) -> None:
    extended = opened(tmp_path, FACTS)
    before = (tmp_path / "study" / "manifest.json").read_text()
    with pytest.raises(StudyError):
        opened(tmp_path, FACTS, "seed=4", "confirm.seeds=9")
    assert load_space(tmp_path / "study" / "space.yaml", []) == extended
    assert (tmp_path / "study" / "manifest.json").read_text() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("name=other", "name"),
        ("seed=4", "seed"),
        ("fixed.model.every=1", "fixed"),
        ("axes.optim.rate={choice: [0.005, 0.02]}", "axes"),
        ("arms.mod.model.capacity={choice: [0.125, 0.25]}", "arms"),
        ("explore.size={depth: 2, width: 8}", "explore"),
        ("explore.windows=32", "explore"),
        ("measure.windows=32", "measure"),
        ("confirm.windows=64", "confirm"),
        ("confirm.margin=0.5", "confirm"),
        ("confirm.seeds=null", "confirm"),
        ("resources.threads=2", "resources"),
        ("resources.precision=bf16", "resources"),
    ],
)
def test_a_study_may_not_be_changed(tmp_path: Path, change: str, named: str) -> None:
    opened(tmp_path, FACTS)
    confirm_begins(tmp_path)
    with pytest.raises(StudyError, match=f"`{named}") as caught:
        opened(tmp_path, FACTS, change)
    assert str(caught.value).count("\n") == 1
    assert str(tmp_path / "study") in str(caught.value)


def test_another_text_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, FACTS)
    other = FACTS.model_copy(update={"fingerprint": "1" * 16})
    with pytest.raises(StudyError, match="corpus has changed"):
        opened(tmp_path, other, allow_mixed=True)


def test_another_tokenizer_is_not_blamed_on_the_text(tmp_path: Path) -> None:
    opened(tmp_path, FACTS)
    other = {"fingerprint": "1" * 16, "tokenizer": "bpe-300", "vocab_size": 300}
    with pytest.raises(StudyError, match='made with tokenizer "bytes" of 256 tokens, not "bpe-3'):
        opened(tmp_path, FACTS.model_copy(update=other))
    same = {"fingerprint": FACTS.fingerprint, "tokenizer": "elsewhere", "vocab_size": 256}
    opened(tmp_path, FACTS.model_copy(update=same))


def test_a_tokenizer_that_may_have_changed_under_its_name_is_named(tmp_path: Path) -> None:
    mine = FACTS.model_copy(update={"tokenizer": "tok", "vocab_size": 300})
    opened(tmp_path, mine)
    other = mine.model_copy(update={"fingerprint": "1" * 16})
    with pytest.raises(StudyError, match='by its text, by tokenizer "tok" or by how'):
        opened(tmp_path, other)


def test_other_code_is_refused_unless_it_is_allowed_and_written_down(tmp_path: Path) -> None:
    opened(tmp_path, FACTS)
    directory = StudyDirectory(tmp_path / "study")
    directory.write_manifest(directory.manifest().model_copy(update={"code": "of yesterday"}))
    with pytest.raises(StudyError, match=r"of yesterday is now .*\n.*--allow-mixed"):
        opened(tmp_path, FACTS)
    for _ in range(2):
        opened(tmp_path, FACTS, allow_mixed=True)
        [mixed] = directory.manifest().mixed
        assert mixed.startswith("code of yesterday is now ")


# --- what is refused before anything is built


STRICT: dict[str, tuple[str, str]] = {
    "true for a number": ("fixed.model.num_heads=true", "num_heads: must be a whole number"),
    "text for a number": (
        "axes.optim.rate='0.1'",
        "rate: must be a number.*\nleave the quotes out",
    ),
    "number for text": ("data.corpus=5", "data.corpus: must be text"),
    "text for true": ("fixed.model.tied='yes'", "fixed.model.tied: must be true or false"),
    "infinite rate": ("fixed.optim.clip=.inf", "fixed.optim.clip: must be a finite number"),
    "huge rate": ("axes.optim.rate=1e999", "axes.optim.rate: must be a finite number"),
    "huge depth": ("measure.ladder=[{budget: 1e9, depth: 10000000, widths: [8]}]", "at most 512"),
    "huge width": ("explore.size={depth: 2, width: 1000000000000}", "explore.size.width: must be"),
    "huge context": ("fixed.model.seq_len=1e12", "fixed.model.seq_len: must be at most"),
    "huge vocabulary": ("fixed.model.vocab_size=1e12", "fixed.model.vocab_size: must be at most"),
    "seeds": ("confirm.seeds=2000000", "confirm.seeds: must be at most 900"),
    "seeds of 1e30": ("confirm.seeds=1e30", "confirm.seeds: must be at most 900"),
    "seed of 2^64": ("seed=18446744073709551616", "seed: must be at most 2147483647"),
    "seed of 1e23": ("seed=1e23", "seed: must be at most 2147483647"),
    "threads": ("resources.threads=100000", "resources.threads: must be at most 256"),
    "workers": ("resources.workers=1000000000", "resources.workers: must be at most 1024"),
    "workers, a word": ("resources.workers=many", "resources.workers: must be"),
    "cpus": ("resources.cpus=.inf", "resources.cpus: must be a finite number"),
    "gpus": ("resources.gpus=.inf", "resources.gpus: must be a finite number"),
    "false for a section": ("fixed=false", "fixed: must be a mapping of keys to values"),
    "a list for a section": ("explore=[]", "explore: must be a mapping of keys to values"),
    "nothing for an arm": ("arms.dense=''", "arms.dense: must be a mapping of keys to values"),
    "a list of values": (
        "fixed.model.capacity=[0.1, 0.2]",
        r"capacity.*\n.*\{choice: \[\.\.\.\]\}",
    ),
    "a budget twice": (
        "explore.budgets=[1e9, 1e9]",
        r"explore.budgets: 1e\+09 stands there twice",
    ),
    "a width twice": (
        "measure.ladder=[{budget: 1e9, depth: 2, widths: [8, 8, 12]}]",
        "measure.ladder.0.widths: 8 stands there twice",
    ),
    "a rung twice": (
        "measure.ladder=[{budget: 1e9, depth: 2, widths: [8]}, "
        "{budget: 1e9, depth: 2, widths: [12]}]",
        "ladder.0 and ladder.1 have the same budget and depth",
    ),
    "a value twice": (
        "axes.optim.rate={choice: [0.1, 0.1]}",
        "axes.optim.rate: choice has 0.1 twice",
    ),
    "a value of two types twice": (
        "arms.mod.model.every={choice: [1, 1.0]}",
        "arms.mod.model.every: choice has one value twice: 1 and 1.0",
    ),
    "a component twice": (
        "arms.mod.model.router={choice: [random, {name: random}]}",
        "choice has one value twice",
    ),
    "choice and more": ("axes.optim.rate={choice: [0.1], step: 2}", "and nothing beside it"),
    "two kinds": ("axes.optim.rate={choice: [0.1], log: [1, 2]}", "and nothing beside it"),
    "a choice of an arm's values": (
        "arms.dense.model={choice: [{block: dense}]}",
        "arms.dense.model: a distribution goes to one of the keys",
    ),
    "a size in a recipe": ("axes.model.depth={choice: [1, 2]}", "axes.model.depth has no effect"),
    "a fixed width": ("fixed.model.width=64", "fixed.model.width has no effect"),
    "a recipe in a size": (
        "explore.size={depth: 2, width: 8, block: dense}",
        "explore.size: unknown key `block`",
    ),
    "a size without depth": ("explore.size={width: 8}", "explore.size: depth is missing"),
    "an axis that every arm has": (
        "axes.model={block: {choice: [dense, mod]}}",
        "axes.model.block has no effect",
    ),
    "a key in fixed and axes": (
        "fixed.optim.rate=0.1",
        "`rate` stands in fixed.optim and in axes",
    ),
    "a key of a candidate": ("optim.rate=0.02", r"did you mean `fixed\.optim\.rate`\?"),
    "a name that is a path": ("name=..", "name: must be up to 100 letters"),
    "a name like an option": ("name=-x", "name: must be up to 100 letters"),
    "an empty name": ("name=''", "name: must be up to 100 letters"),
    "a grid of millions": (
        "arms.mod.model.capacity={choice: [0.1, 0.2, 0.3]}\narms.mod.model.every={int: [1, 500]}\n"
        "arms.mod.model.num_kv_heads={int: [1, 1]}\nexplore.size={depth: {int: [1, 500]}, "
        "width: {int: [8, 8000], step: 8}}",
        "a grid of .* points is too large",
    ),
}


@pytest.mark.parametrize("case", STRICT)
def test_what_is_wrong_is_refused_with_its_place(tmp_path: Path, case: str) -> None:
    sets, pattern = STRICT[case]
    change = []
    if "arms.mod.model.every" in sets:
        change.append("fixed.model={seq_len: 16, num_heads: 1}")
    with pytest.raises(ConfigError, match=pattern):
        load(tmp_path, SPACE, *change, *sets.split("\n"))


def test_whole_floats_are_counts_and_true_is_not_one(tmp_path: Path) -> None:
    space = load(tmp_path, SPACE, "confirm.seeds=4.0", "fixed.model.seq_len=32.0")
    assert space.confirm.seeds == 4
    assert type(space.confirm.seeds) is int
    found = candidate(tmp_path, "model: {depth: 3.0}\n")
    assert (found.model.depth, type(found.model.depth)) == (3, int)


def test_a_huge_range_is_sampled_and_not_listed(tmp_path: Path) -> None:
    load(
        tmp_path,
        SPACE,
        "explore.sampler=random",
        "explore.trials=3",
        "explore.size={depth: {int: [1, 512]}, width: {int: [8, 65536], step: 8}}",
        "fixed.optim.min_steps={int: [1, 1000000000]}",
    )


@given(st.dictionaries(st.sampled_from("abc"), axes_st, max_size=3))
def test_points_are_counted_as_they_are_listed(tree: dict[str, Distribution]) -> None:
    assert num_points(tree) == len(list(grid(tree)))
    assert num_points(NESTED) == len(list(grid(NESTED)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: []", "model: must be a mapping"),
        ("model: ''", "model: must be a mapping"),
        ("optim: 0", "optim: must be a mapping"),
        ("data: false", "data: must be a mapping"),
        ("candidate: {}\nmodel: {width: 8}", "`model` beside `candidate`"),
        ("candidate: 3", "candidate: must be a mapping"),
        ("model: {depth: 2.5}", "model.depth: must be a whole number, but got 2.5"),
        ("model: {block: 5}", "model.block: must be a component's name"),
        ("model: {block: {}}", "model.block: must be a component's name"),
        ("model: {router: [random]}", "model.router: must be a component's name"),
        ("optim: {beta1: '0.9'}", "leave the quotes out"),
    ],
)
def test_strict_values_in_one_configuration(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        candidate(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "stated",
    [
        "fixed.model.depth=3",
        "axes.model={width: {choice: [8, 16]}}",
        "explore.budgets=[1e9, 1e9]",
        "measure.ladder=[{budget: 1e9, depth: 2, widths: [8, 8, 12]}]",
        "axes.optim.rate={choice: [0.1, 0.1]}",
        "arms.mod.model.every={choice: [1, 1.0, 2]}",
        "explore.size.width={int: [8, 9007199254740993]}",
        "arms.mod.model.router={name: of_mine, log: 3}",
    ],
)
def test_a_study_of_before_opens_as_what_it_was(stated: str, tmp_path: Path) -> None:
    """A new one is refused."""
    values = parse_yaml(SPACE)
    override(values, stated)
    write_yaml(tmp_path / "space.yaml", values)
    assert own_space(tmp_path / "space.yaml").learned_arms == ["dense", "mod"]
    with pytest.raises(ConfigError):
        read_space(tmp_path / "space.yaml", [])
