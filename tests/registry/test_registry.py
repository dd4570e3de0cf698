"""Names, look-ups, and options of components: what is accepted, and what the errors say."""

import importlib
import sys
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from modsearch.config.model import Component, ModelConfig
from modsearch.errors import ConfigError
from modsearch.nn.contracts import KINDS, Options
from modsearch.nn.parts import completed, component_options
from modsearch.registry import table as components
from modsearch.registry.built_in import base_name
from modsearch.registry.registry import Registry

TABLES = {
    "router": components.ROUTERS,
    "block": components.BLOCKS,
    "ffn": components.FFNS,
    "schedule": components.SCHEDULES,
}
NAMES = [(kind, name) for kind, table in TABLES.items() for name in table]


def mappings() -> Registry[dict[Any, Any]]:
    """A registry of dicts, with one entry that is no dict and one that does not exist."""
    table = {
        "ordered": "collections:OrderedDict",
        "counter": "collections:Counter",
        "decimal": "decimal:Decimal",
        "absent": "modsearch.no_such_module:Nothing",
    }
    return Registry("mapping", dict, table)


def test_names_are_sorted_and_listed_without_an_import() -> None:
    assert mappings().names() == ["absent", "counter", "decimal", "ordered"]


def test_get_imports_the_component() -> None:
    registry = mappings()
    assert registry.get("ordered") is OrderedDict
    assert registry.get("counter") is Counter
    assert str(registry.origin("counter")) == "collections:Counter (built-in)"


def test_a_broken_entry_breaks_its_own_name_only() -> None:
    registry = mappings()
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        registry.get("absent")
    assert registry.get("ordered") is OrderedDict


def test_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        mappings().get("orderd")
    assert str(caught.value) == (
        "unknown mapping `orderd`; did you mean `ordered`?\n"
        "known: absent, counter, decimal, ordered"
    )


def test_unknown_name_far_from_all_has_no_hint() -> None:
    with pytest.raises(ConfigError) as caught:
        mappings().get("zzzz")
    assert str(caught.value) == "unknown mapping `zzzz`\nknown: absent, counter, decimal, ordered"


def test_a_listed_component_of_another_base_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"`decimal` from .* is not a subclass of dict.*Decimal"):
        mappings().get("decimal")


def test_register_adds_a_component() -> None:
    registry = mappings()

    @registry.register("mine")
    class Mine(dict[Any, Any]):
        pass

    assert registry.get("mine") is Mine
    assert "mine" in registry.names()
    assert str(registry.origin("mine")) == f"{__name__}:{Mine.__qualname__} (registered)"
    with pytest.raises(ConfigError, match="did you mean `mine`"):
        registry.get("mime")


def test_register_leaves_other_registries_alone() -> None:
    mappings().register("mine")(OrderedDict)
    assert "mine" not in mappings().names()


@pytest.mark.parametrize("loaded_before", [False, True])
def test_collision_names_both_origins(loaded_before: bool) -> None:
    registry = mappings()
    if loaded_before:
        registry.get("ordered")
    with pytest.raises(ConfigError) as caught:
        registry.register("ordered")(Counter)
    assert str(caught.value).startswith(
        "mapping `ordered` comes from both collections:OrderedDict (built-in) "
        "and collections:Counter (registered)\n"
    )
    assert registry.get("ordered") is OrderedDict


def test_collision_of_two_registered_components_names_both_origins() -> None:
    registry = mappings()
    registry.register("mine")(OrderedDict)
    with pytest.raises(ConfigError, match=r"both collections:OrderedDict .* collections:Counter"):
        registry.register("mine")(Counter)


def test_the_same_registered_again_is_no_collision() -> None:
    registry = mappings()
    for _ in range(2):
        registry.register("mine")(OrderedDict)
    assert registry.get("mine") is OrderedDict


def test_register_refuses_what_is_not_a_subclass() -> None:
    registry = mappings()
    with pytest.raises(ConfigError, match=r"mapping `mine` from .* is not a subclass of dict"):
        registry.register("mine")(Decimal)  # type: ignore[type-var]
    assert "mine" not in registry.names()


def test_a_component_that_leaves_something_open_is_refused() -> None:
    class Shape(ABC):
        """Two things that each shape defines."""

        Config: ClassVar[type]
        size: float
        """Of an instance: its constructor sets it."""

        @abstractmethod
        def area(self) -> float: ...

    class Blob(Shape):
        pass

    registry = Registry("shape", Shape, {})
    with pytest.raises(ConfigError, match=r"shape `blob` from .*Blob .* lacks Config, area\n"):
        registry.register("blob")(Blob)
    assert registry.names() == []


# --- entry points of other packages


GROUP = "modsearch.mappings"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a package with entry points onto the path, by hand."""
    monkeypatch.syspath_prepend(tmp_path)

    def add(package: str, code: str, **entries: str) -> None:
        folder = tmp_path / f"{package}-1.5.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        lines = [f"{name} = {target}" for name, target in entries.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
        (tmp_path / f"{package}.py").write_text(code)
        importlib.invalidate_caches()

    return add


def with_entry_points() -> Registry[dict[Any, Any]]:
    return Registry("mapping", dict, {"ordered": "collections:OrderedDict"}, GROUP)


def test_entry_points_are_read_late_and_imported_later(install: Callable[..., None]) -> None:
    registry = with_entry_points()
    install("ms_late", "class Mine(dict): pass", mine="ms_late:Mine")
    assert registry.names() == ["mine", "ordered"]
    assert str(registry.origin("mine")) == "ms_late:Mine (entry point of ms_late 1.5)"
    assert "ms_late" not in sys.modules
    assert registry.get("mine").__module__ == "ms_late"


@pytest.mark.parametrize(
    ("code", "target", "why"),
    [
        ("import no_such_thing", "ms_broken:Mine", "ModuleNotFoundError: No module named"),
        ("raise RuntimeError('one\\ntwo')", "ms_broken:Mine", "RuntimeError: one"),
        ("import sys; sys.exit(0)", "ms_broken:Mine", "SystemExit: 0"),
        ("class Mine(", "ms_broken:Mine", "SyntaxError: .* was never closed"),
        ("class Mine(dict): pass", "ms_broken:Yours", "AttributeError: .*Yours"),
        ("class Mine(dict): pass", "ms_broken", "AttributeError"),
        ("class Mine(dict): pass", "ms_nowhere:Mine", "No module named 'ms_nowhere'"),
        ("class Mine: pass", "ms_broken:Mine", "is not a subclass of dict"),
        ("Mine = 3", "ms_broken:Mine", "is not a subclass of dict: 3"),
    ],
)
def test_a_broken_package_is_named_and_breaks_its_own_name_only(
    install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    target: str,
    why: str,
) -> None:
    monkeypatch.delitem(sys.modules, "ms_broken", raising=False)
    install("ms_broken", code, mine=target)
    registry = with_entry_points()
    assert registry.names() == ["mine", "ordered"]
    with pytest.raises(ConfigError, match=why) as caught:
        registry.get("mine")
    assert "mapping `mine`" in str(caught.value)
    assert "ms_broken 1.5" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    assert registry.get("ordered") is OrderedDict


def test_two_packages_with_one_name_are_both_named(install: Callable[..., None]) -> None:
    install("ms_one", "class Mine(dict): pass", mine="ms_one:Mine", other="ms_one:Mine")
    install("ms_two", "class Mine(dict): pass", mine="ms_two:Mine")
    registry = with_entry_points()
    with pytest.raises(ConfigError) as caught:
        registry.get("mine")
    assert "ms_one:Mine (entry point of ms_one 1.5)" in str(caught.value)
    assert "ms_two:Mine (entry point of ms_two 1.5)" in str(caught.value)
    assert registry.get("other").__module__ == "ms_one"
    assert registry.names().count("mine") == 1


def test_no_package_takes_the_place_of_what_is_built_in(install: Callable[..., None]) -> None:
    install("ms_thief", "class Mine(dict): pass", ordered="ms_thief:Mine")
    with pytest.raises(ConfigError, match=r"both collections:OrderedDict .*ms_thief:Mine"):
        with_entry_points().get("ordered")


def test_code_can_not_take_an_entry_points_name(install: Callable[..., None]) -> None:
    install("ms_first", "class Mine(dict): pass", mine="ms_first:Mine")
    registry = with_entry_points()
    with pytest.raises(ConfigError, match=r"both ms_first:Mine .*collections:Counter"):
        registry.register("mine")(Counter)


def test_a_package_may_register_what_its_entry_point_names(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = with_entry_points()
    monkeypatch.setitem(sys.modules, "ms_registry", ModuleType("ms_registry"))
    monkeypatch.setattr("ms_registry.REGISTRY", registry, raising=False)
    code = "from ms_registry import REGISTRY\n@REGISTRY.register('mine')\nclass Mine(dict): pass\n"
    install("ms_both", code, mine="ms_both:Mine")
    assert registry.get("mine").__module__ == "ms_both"
    assert len(registry.origins("mine")) == 1


@pytest.mark.parametrize("kind", TABLES)
def test_each_kind_has_a_group_of_entry_points(kind: str) -> None:
    assert KINDS[kind].group == f"modsearch.{kind}s"


@pytest.mark.parametrize("kind", TABLES)
def test_each_table_is_served_by_its_registry(kind: str) -> None:
    assert set(TABLES[kind]) <= set(KINDS[kind].names())


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_each_component_loads_and_its_options_have_defaults(kind: str, name: str) -> None:
    component = KINDS[kind].get(name)
    assert issubclass(component, KINDS[kind].base)
    assert issubclass(component.Config, Options)
    own = component.Config.__qualname__.startswith(component.__qualname__)
    assert own or not component.Config.model_fields, "options of its own"
    assert component_options(kind, Component(name=name)) == component.Config()


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_each_component_refuses_an_option_that_it_lacks(kind: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown option of {kind} `{name}` `no_such_option`"):
        component_options(kind, Component(name=name, no_such_option=1))


@pytest.mark.parametrize("kind", TABLES)
def test_each_kind_names_the_nearest_component(kind: str) -> None:
    name = min(TABLES[kind])
    with pytest.raises(ConfigError, match=f"unknown {kind} `{name}x`; did you mean `{name}`"):
        completed(ModelConfig(**{kind: name + "x"}))


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        component_options("router", Component(name="expert_choice", bce_wieght=0.1))
    assert str(caught.value) == (
        "unknown option of router `expert_choice` `bce_wieght`; did you mean `bce_weight`?\n"
        "known: bce_weight, gate, init_std, z_weight"
    )


@pytest.mark.parametrize(
    ("kind", "component", "option"),
    [
        ("router", Component(name="expert_choice", bce_weight=-0.1), "bce_weight"),
        ("router", Component(name="expert_choice", init_std=0), "init_std"),
        ("router", Component(name="expert_choice", gate="softmax"), "gate"),
        ("router", Component(name="expert_choice", init_std=float("inf")), "init_std"),
        ("router", Component(name="expert_choice", bce_weight="much"), "bce_weight"),
        ("ffn", Component(name="mlp", ratio=0), "ratio"),
        ("ffn", Component(name="mlp", ratio=float("nan")), "ratio"),
    ],
)
def test_option_out_of_range(kind: str, component: Component, option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        component_options(kind, component)
    message = str(caught.value)
    assert message.startswith(f"{kind} `{component.name}`: option `{option}`: ")
    assert "\n" not in message


def test_options_are_frozen() -> None:
    options = component_options("ffn", Component(name="mlp"))
    with pytest.raises(ValidationError, match="frozen"):
        options.ratio = 2.0  # type: ignore[attr-defined]


def test_a_bare_string_is_a_name() -> None:
    config = ModelConfig(router="random", ffn={"name": "mlp", "ratio": 4})
    assert config.router == Component(name="random")
    assert config.ffn.options == {"ratio": 4}


def test_completed_writes_the_defaults_out() -> None:
    config = ModelConfig(block="mod", router={"name": "expert_choice", "gate": "tanh"})
    full = completed(config)
    assert full.router.options == {
        "gate": "tanh",
        "bce_weight": 0.01,
        "z_weight": 0.0,
        "init_std": 0.02,
    }
    assert full.ffn == Component(name="mlp", ratio=8 / 3)
    assert full.num_kv_heads == config.num_heads
    assert config.ffn is None, "the original is unchanged"
    rest = {"block", "ffn", "router", "schedule", "num_kv_heads"}
    assert full.model_dump(exclude=rest) == config.model_dump(exclude=rest)
    assert completed(full) == full


@pytest.mark.parametrize(
    ("kind", "name"), [*NAMES, *(("block", name) for name in components.COMPOSITES)]
)
def test_completed_round_trips_through_json(kind: str, name: str) -> None:
    full = completed(ModelConfig(**{kind: name}))
    component = KINDS[kind].get(base_name(kind, name))
    assert set(getattr(full, kind).options) == set(component.Config.model_fields)
    again = ModelConfig.model_validate_json(full.model_dump_json())
    assert again == full
    assert completed(again) == full
    assert again.model_dump_json() == full.model_dump_json()


@pytest.mark.parametrize(("width", "num_heads"), [(32, 3), (12, 4), (2, 2), (31, 1)])
def test_heads_that_do_not_fit_are_refused(width: int, num_heads: int) -> None:
    with pytest.raises(ValidationError, match=f"got width={width}, num_heads={num_heads}"):
        ModelConfig(width=width, num_heads=num_heads)


@pytest.mark.parametrize(("width", "num_heads"), [(32, 2), (30, 3), (2, 1)])
def test_heads_that_fit(width: int, num_heads: int) -> None:
    assert ModelConfig(width=width, num_heads=num_heads).num_heads == num_heads


@pytest.mark.parametrize(
    "wrong",
    [{"capacity": 0}, {"capacity": 1.01}, {"every": 0}, {"depth": 0}, {"seq_len": 1}, {"dept": 2}],
)
def test_shapes_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModelConfig(**wrong)


class Pythonic(Options):
    """Types that YAML has no word for."""

    offsets: tuple[int, ...] = ()
    members: frozenset[int] = frozenset()
    place: Path = Path()


def test_options_of_types_that_yaml_lacks_take_lists_and_texts() -> None:
    found = Pythonic.model_validate({"offsets": [1, 2.0], "members": [3], "place": "x/y"})
    assert found == Pythonic(offsets=(1, 2), members=frozenset({3}), place=Path("x/y"))
    with pytest.raises(ValidationError):
        Pythonic.model_validate({"offsets": [True]})


def test_a_layer_is_named_once() -> None:
    with pytest.raises(ConfigError, match="0 stands there twice"):
        component_options("schedule", Component(name="explicit", layers=[0, 0]))
