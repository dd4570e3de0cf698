"""Wrong input by kind: what a user may write or damage, and what must become of it.

Each kind is a function of a `random.Random` that draws one case: files, a command line, and whether
it must be refused. `tests/test_fuzz.py` draws them with hypothesis and reads the files;
`benchmarks/fuzz.py` draws thousands and runs the commands.
"""

import codecs
import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

Expected = Literal["refused", "accepted", "either"]
Trail = tuple[str | int, ...]
"""Keys and indices that lead to a place in a document."""


@dataclass(frozen=True)
class Case:
    """A command in a folder of its own, where `BASE` lies and `files` on top of it."""

    argv: tuple[str, ...]
    """As Python has it: bytes that are not UTF-8 are lone surrogates."""
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    """None removes a file; a name that ends in `/` is a folder."""
    expected: Expected = "refused"
    says: tuple[str, ...] = ()
    """What a message must name."""
    study: bool = False
    """Whether the folder has a copy of the study, in `study/`."""


@dataclass(frozen=True)
class Ground:
    """A finished study that cases damage."""

    root: Path
    files: tuple[str, ...]
    """Of the study, relative to `root`."""
    trial: str
    """Hash of one that has its weights."""


@dataclass(frozen=True)
class Raw:
    """YAML as it stands, in the place of a value or of a key."""

    text: str


# --- documents that are right

CONFIG: dict[str, Any] = {
    "model": {"depth": 2, "width": 8, "num_heads": 1, "seq_len": 16, "block": "mod"},
    "optim": {"batch_size": 2, "min_steps": 10, "rate": 0.01},
    "data": {"corpus": "corpus.txt"},
}
SPACE: dict[str, Any] = {
    "name": "tiny",
    "seed": 0,
    "data": {"corpus": "corpus.txt"},
    "fixed": {
        "model": {"num_heads": 1, "seq_len": 16},
        "optim": {"min_steps": 10, "max_epochs": 99},
    },
    "axes": {"optim": {"rate": {"choice": [0.005, 0.01]}}},
    "arms": {
        "dense": {"model": {"block": "dense"}},
        "mod": {"model": {"block": "mod", "router": {"choice": ["random", "expert_choice"]}}},
        "random": {"control_of": "mod", "model": {"router": "random"}},
    },
    "explore": {"budgets": [2e7], "size": {"depth": 2, "width": 8}},
    "measure": {"ladder": [{"budget": 2e7, "depth": 2, "widths": [8, 12]}]},
    "confirm": {"budgets": [2e7], "seeds": 2, "windows": 16},
    "suite": "suite.yaml",
    "resources": {"workers": 1, "threads": 1},
}
SUITE: dict[str, Any] = {
    "name": "tiny",
    "description": "One task.",
    "tasks": [
        {
            "task": "held_out_text",
            "dataset_path": "modsearch:excerpts",
            "dataset_kwargs": {"num": 2, "size": 64},
            "test_split": "held_out",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "text",
            "metric_list": [
                {
                    "metric": "bits_per_byte",
                    "aggregation": "bits_per_byte",
                    "higher_is_better": False,
                }
            ],
            "metadata": {"version": 1.0},
        }
    ],
}
DOCUMENTS = {"config.yaml": CONFIG, "space.yaml": SPACE, "suite.yaml": SUITE}
PLUGIN = """
from modsearch.cost import Cost
from modsearch.nn.contracts import ROUTERS, Options, Router, Routing
from modsearch.nn.selection import num_selected, pack

@ROUTERS.register("mine")
class Mine(Router):
    "Every other token."
    Config = Options
    def __init__(self, width, capacity, options):
        super().__init__(width, capacity, options)
    def forward(self, x_BTD, context):
        turn_BT = context.positions_BT.double() * self.capacity + 1e-9
        slots = self.slots(x_BTD.shape[1]) if context.mode == "train" else None
        index_BK, valid_BK = pack(turn_BT % 1 + self.capacity >= 1, context.valid_BT, slots)
        return Routing(index_BK, x_BTD.new_ones(index_BK.shape), valid_BK)
    def slots(self, num_positions):
        return num_selected(self.capacity, num_positions)
    def cost(self, num_positions, mode):
        return Cost()
"""
CORPUS = "\n".join(
    f"{n} has some text of {n * 7919 % 1000} and {n * 31 % 97}" for n in range(9000)
)

# --- where which values belong


@dataclass(frozen=True)
class Number:
    """A place of a number."""

    file: str
    trail: Trail
    whole: bool = False
    zero: bool = False
    null: bool = False


def _numbers(file: str, parent: Trail, names: str) -> list[Number]:
    """`depth#` is a whole number, `warmup!` may be zero, `trials?` may be null."""
    return [
        Number(file, (*parent, name.rstrip("#!?")), "#" in name, "!" in name, "?" in name)
        for name in names.split()
    ]


MODEL = "vocab_size# seq_len# num_heads# num_kv_heads#? every# capacity"
OPTIM = "batch_size# rate warmup! final! weight_decay! beta1! beta2! clip min_steps# max_epochs"
NUMBERS = [
    *_numbers("config.yaml", ("model",), f"{MODEL} depth# width#"),
    *_numbers("config.yaml", ("optim",), OPTIM),
    *_numbers("space.yaml", (), "seed#!"),
    *_numbers("space.yaml", ("fixed", "model"), MODEL),
    *_numbers("space.yaml", ("fixed", "optim"), OPTIM),
    *_numbers("space.yaml", ("arms", "mod", "model"), "capacity every#"),
    *_numbers("space.yaml", ("arms", "random", "model"), "capacity every#"),
    *_numbers("space.yaml", ("arms", "dense", "optim"), "rate weight_decay!"),
    *_numbers("space.yaml", ("explore",), "trials#? windows#"),
    *_numbers("space.yaml", ("explore", "size"), "depth# width#"),
    *_numbers("space.yaml", ("measure",), "windows#"),
    *_numbers("space.yaml", ("measure", "ladder", 0), "budget depth#"),
    *_numbers("space.yaml", ("confirm",), "seeds# windows#"),
    *_numbers(
        "space.yaml", ("resources",), "threads# micro_batch#? cpus? gpus?! checkpoint_seconds!"
    ),
    Number("space.yaml", ("resources", "workers"), whole=True),
    Number("space.yaml", ("explore", "budgets", 0)),
    Number("space.yaml", ("confirm", "budgets", 0)),
    Number("space.yaml", ("measure", "ladder", 0, "widths", 0), whole=True),
    Number("suite.yaml", ("tasks", 0, "limit"), whole=True, null=True),
    Number("suite.yaml", ("tasks", 0, "dataset_kwargs", "num"), whole=True),
    Number("suite.yaml", ("tasks", 0, "dataset_kwargs", "size"), whole=True),
]
OPTIONS = [
    ("router", "token_choice", "balance_weight"),
    ("router", "token_choice", "bias_rate"),
    ("router", "token_choice", "capacity_factor"),
    ("router", "expert_choice", "init_std"),
    ("router", "predictor", "bce_weight"),
    ("router", "threshold", "momentum"),
    ("ffn", "mlp", "ratio"),
    ("ffn", "moe", "z_weight"),
    ("schedule", "every_nth", "spread"),
    ("schedule", "every_nth", "warmup"),
]
"""Numbers among the options of components."""

MAPPINGS: list[tuple[str, Trail]] = [
    ("config.yaml", ()),
    ("config.yaml", ("model",)),
    ("config.yaml", ("optim",)),
    ("config.yaml", ("data",)),
    ("space.yaml", ()),
    ("space.yaml", ("data",)),
    ("space.yaml", ("fixed",)),
    ("space.yaml", ("fixed", "model")),
    ("space.yaml", ("fixed", "optim")),
    ("space.yaml", ("axes",)),
    ("space.yaml", ("axes", "model")),
    ("space.yaml", ("axes", "optim")),
    ("space.yaml", ("arms",)),
    ("space.yaml", ("arms", "dense")),
    ("space.yaml", ("arms", "dense", "model")),
    ("space.yaml", ("arms", "mod", "optim")),
    ("space.yaml", ("arms", "random", "model")),
    ("space.yaml", ("explore",)),
    ("space.yaml", ("explore", "size")),
    ("space.yaml", ("measure",)),
    ("space.yaml", ("measure", "ladder", 0)),
    ("space.yaml", ("confirm",)),
    ("space.yaml", ("resources",)),
    ("suite.yaml", ()),
    ("suite.yaml", ("tasks", 0, "dataset_kwargs")),
]
LISTS: list[tuple[str, Trail]] = [
    ("space.yaml", ("plugins",)),
    ("space.yaml", ("explore", "budgets")),
    ("space.yaml", ("measure", "ladder")),
    ("space.yaml", ("measure", "ladder", 0, "widths")),
    ("space.yaml", ("confirm", "budgets")),
    ("suite.yaml", ("tasks",)),
]
WORDS: list[tuple[str, Trail]] = [
    ("config.yaml", ("model", "block")),
    ("config.yaml", ("model", "router")),
    ("config.yaml", ("model", "ffn")),
    ("config.yaml", ("model", "schedule")),
    ("space.yaml", ("fixed", "model", "schedule")),
    ("space.yaml", ("arms", "mod", "model", "router")),
    ("space.yaml", ("arms", "mod", "model", "block")),
    ("space.yaml", ("arms", "random", "model", "router")),
    ("space.yaml", ("explore", "sampler")),
    ("space.yaml", ("resources", "device")),
    ("space.yaml", ("resources", "precision")),
    ("space.yaml", ("resources", "keep")),
    ("space.yaml", ("arms", "random", "control_of")),
    ("suite.yaml", ("tasks", 0, "dataset_path")),
]
"""Places of a name out of a few."""

REQUIRED: list[tuple[str, Trail]] = [
    ("space.yaml", ("name",)),
    ("space.yaml", ("arms",)),
    ("space.yaml", ("explore", "budgets")),
    ("space.yaml", ("explore", "size")),
    ("space.yaml", ("measure", "ladder")),
    ("space.yaml", ("measure", "ladder", 0, "budget")),
    ("space.yaml", ("measure", "ladder", 0, "depth")),
    ("space.yaml", ("measure", "ladder", 0, "widths")),
    ("space.yaml", ("confirm", "budgets")),
    ("suite.yaml", ("name",)),
    ("suite.yaml", ("tasks",)),
    ("suite.yaml", ("tasks", 0, "task")),
    ("suite.yaml", ("tasks", 0, "dataset_kwargs", "num")),
]

# --- values that are wrong

DIGITS = Raw("9" * 5000)
TEXTS = ["", " ", "nonsense", "a/b", "../x", "..", "a\nb", "mod\n", "é", "\U0001f600", "x" * 5000]
ODD_TEXTS = [
    Raw('"\\ud800"'),
    Raw('"a\\0b"'),
    Raw('"\\x1b[31m"'),
    Raw('"\\u202e"'),
    Raw("'" + "y" * 10**5 + "'"),
]
NOT_NUMBERS = [
    *(True, False, "0.1", "1e3", "8", "", "abc", [], {}, [1], [[]], {"a": 1}),
    *map(
        Raw, ("yes", "off", "1:30", "2024-01-01", "2024-99-99", "'0.1'", "1,5", "1 2", "0x", "٣")
    ),
    *map(Raw, ("!!str 5", "!!binary AQ==", "!!bool x", "!!timestamp x", "!!set {a}", "=", "1e")),
    *map(Raw, ("!!int x", "!!float x", "!!null x", "!!python/name:os.system", "!x 5")),
]
ABSURD = [
    *map(Raw, (".inf", "-.inf", ".nan", "1e300", "-1e300", "-1")),
    *(10**400, -(10**400), DIGITS, Raw("-" + DIGITS.text), Raw("0x" + "f" * 5000)),
]
ABSURD_COUNTS = [*ABSURD, 10**25, 1e30, 2.5, -3, 1e-9]
NO_MAPPING = [
    [],
    "",
    0,
    False,
    [1],
    "text",
    7,
    True,
    0.0,
    [{}],
    Raw("2024-01-01"),
    Raw("!!set {}"),
]
NO_LIST = [{}, {"a": 1}, "", "x", 3, 0, True, False, Raw("2024-01-01")]
KEYS = [
    *map(Raw, ("1", "null", "~", "true", "1.5", "[1, 2]", "{a: 1}", "2024-01-01", '""', ".inf")),
    *map(Raw, ('"a.b"', '"\\ud800"', "!!binary AQ==", '"a\\nb"', "no", "'" + "k" * 5000 + "'")),
]
TAGGED = [
    *map(Raw, ("!!timestamp x", "!!bool x", "!!int x", "!!float x", "!!binary x", "!!map []")),
    *map(Raw, ("!!seq {}", "!!str {a: 1}", "!!omap [a]", "!!pairs x", "!!merge x", "!!set [a]")),
    *map(Raw, ("!!python/object/apply:os.getcwd []", "!!python/tuple [1]", "!foo x", "!!foo x")),
    *map(
        Raw, ("2024-99-99", "0001-01-01T99:99:99Z", "2024-01-01T00:00:00+99:99", "!<x> 1", "! 1")
    ),
    *map(Raw, ("%x", "@x", "`x", "'x", '"x', "[1", "{a", "a: b: c", "- 1", "*nowhere", "&a *a")),
]

# --- drawing and writing


def at(tree: Any, trail: Trail) -> Any:
    """What lies there; None where nothing does."""
    for key in trail:
        try:
            tree = tree[key]
        except (KeyError, IndexError):
            return None
    return tree


def put(tree: dict[str, Any], trail: Trail, value: Any) -> dict[str, Any]:
    """A copy with a value in its place; mappings on the way are made."""
    if not trail:
        return value
    tree = deepcopy(tree)
    *parents, last = trail
    inner: Any = tree
    for key in parents:
        if isinstance(key, str) and inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
    inner[last] = value
    return tree


def without(tree: dict[str, Any], trail: Trail) -> dict[str, Any]:
    """A copy in which nothing lies there."""
    tree = deepcopy(tree)
    del at(tree, trail[:-1])[trail[-1]]
    return tree


def flow(value: Any) -> str:
    """YAML on one line."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return json.dumps(value)


def block(value: Any, indent: str = "") -> str:
    """YAML with a line for each key."""
    if not isinstance(value, Mapping) or not value:
        return indent + flow(value) + "\n"
    lines = ""
    for key, each in value.items():
        if isinstance(each, Mapping) and each:
            lines += f"{indent}{_key(key)}:\n{block(each, indent + '  ')}"
        else:
            lines += f"{indent}{_key(key)}: {flow(each)}\n"
    return lines


def _key(key: Any) -> str:
    if isinstance(key, Raw):
        return key.text
    return key if re.fullmatch(r"[A-Za-z_]\w*", key) else json.dumps(key)


def _written(draw: Random, tree: Any) -> bytes:
    return (block(tree) if draw.random() < 0.8 else flow(tree) + "\n").encode()


def _argv(draw: Random, file: str) -> tuple[str, ...]:
    """A command that reads a document; `TRIAL` stands for one that has its weights."""
    if file == "config.yaml":
        rest = ("train", "config.yaml", "--flops", "1e12")
        return ("flops", "config.yaml") if draw.random() < 0.95 else rest
    if file == "suite.yaml":
        return ("eval", "study/trials/TRIAL", "--suite", "suite.yaml")
    return (
        ("plan", "space.yaml") if draw.random() < 0.95 else ("search", "space.yaml", "--out", "o")
    )


def _case(
    draw: Random, file: str, tree: Any, expected: Expected = "refused", says: tuple[str, ...] = ()
) -> Case:
    content = tree if isinstance(tree, bytes) else _written(draw, tree)
    return Case(
        _argv(draw, file),
        {file: content},
        expected,
        (file, *says) if expected == "refused" else (),
        study=file == "suite.yaml",
    )


def _put(
    draw: Random,
    place: tuple[str, Trail],
    value: Any,
    expected: Expected = "refused",
    says: tuple[str, ...] | None = None,
) -> Case:
    """A value in its place: in the file, or by `--set`."""
    file, trail = place
    if says is None:
        named = [key for key in trail if isinstance(key, str)][-1:]
        says = tuple(key.removesuffix("s") for key in named)
    text = flow(value)
    by_set = trail and not any(isinstance(key, int) for key in trail) and file != "suite.yaml"
    if by_set and draw.random() < 0.25:
        setting = f"{'.'.join(map(str, trail))}={text}"
        return Case((*_argv(draw, file), "--set", setting), {}, expected, says)
    return _case(draw, file, put(DOCUMENTS[file], trail, value), expected, says)


# --- kinds: values


def not_a_number(draw: Random) -> Case:
    number = draw.choice(NUMBERS)
    wrong = [*NOT_NUMBERS, *([] if number.null else [None, Raw(""), Raw("~")])]
    return _put(draw, (number.file, number.trail), draw.choice(wrong))


def absurd_number(draw: Random) -> Case:
    if draw.random() < 0.15:
        kind, name, option = draw.choice(OPTIONS)
        value = {"name": name, option: draw.choice([*ABSURD, *NOT_NUMBERS])}
        tree = put(CONFIG, ("model", kind), value)
        return _case(draw, "config.yaml", tree, says=(option,))
    number = draw.choice(NUMBERS)
    wrong = ABSURD_COUNTS if number.whole else ABSURD
    return _put(
        draw, (number.file, number.trail), draw.choice([*wrong, *([] if number.zero else [0])])
    )


def beyond_bounds(draw: Random) -> Case:
    """Numbers that are no mistake of the type, but that nothing can be built of."""
    place, values = draw.choice(
        [
            (("config.yaml", ("model", "depth")), [10**7, 10**12]),
            (("config.yaml", ("model", "width")), [10**12, 2**62]),
            (("config.yaml", ("model", "seq_len")), [10**12]),
            (("config.yaml", ("model", "vocab_size")), [10**12, 255, 1]),
            (("config.yaml", ("model", "num_heads")), [10**9, 3]),
            (("config.yaml", ("model", "capacity")), [1.5, 1.0000001]),
            (("config.yaml", ("optim", "batch_size")), [10**12]),
            (("config.yaml", ("optim", "warmup")), [1, 1.5]),
            (("config.yaml", ("optim", "final")), [1.5]),
            (("config.yaml", ("optim", "beta1")), [1, 2]),
            (("space.yaml", ("seed",)), [2**63, 2**64, 10**23, 1e23]),
            (("space.yaml", ("resources", "threads")), [10**5, 10**9]),
            (("space.yaml", ("resources", "workers")), [10**9, 10**12]),
            (("space.yaml", ("resources", "cpus")), [1e9, 1e30]),
            (("space.yaml", ("resources", "gpus")), [1e9, 1e30]),
            (("space.yaml", ("confirm", "seeds")), [2 * 10**6, 10**9]),
            (("space.yaml", ("explore", "size", "depth")), [10**7]),
            (("space.yaml", ("explore", "size", "width")), [10**12]),
            (("space.yaml", ("measure", "ladder", 0, "depth")), [10**7]),
            (("space.yaml", ("measure", "ladder", 0, "widths", 1)), [10**12, 9, 0, -8]),
            (("space.yaml", ("fixed", "model", "seq_len")), [10**12]),
            (("space.yaml", ("fixed", "model", "vocab_size")), [10**12, 1]),
        ]
    )
    value = draw.choice(values)
    in_choice = place[1][0] in ("fixed", "axes") and draw.random() < 0.3
    return _put(draw, place, {"choice": [value]} if in_choice else value)


def numbers_that_may_be(draw: Random) -> Case:
    """Large or odd numbers that a command may take or refuse, but must survive."""
    number = draw.choice(NUMBERS)
    values = [1, 2, 3, 7, 64, 1000, 10**5, 10**6, 10**9, 2**31, 2**53 + 1, 2.0, 1e4]
    if not number.whole:
        values += [1e-300, 5e-324, 1e-30, 0.5, 0.999999999, 1e16, 1e30, 1e100]
    values += [Raw("0x10"), Raw("0b11"), Raw("010"), Raw("1_000"), Raw("+5"), Raw("5."), Raw(".5")]
    return _put(draw, (number.file, number.trail), draw.choice(values), "either")


def wrong_word(draw: Random) -> Case:
    if draw.random() < 0.3:
        where = ("space.yaml", draw.choice([("name",), ("data", "corpus"), ("suite",)]))
        value = draw.choice(
            [*TEXTS[:2], *TEXTS[3:7], *ODD_TEXTS[:2], [], {}, ["x"], {"a": "b"}, Raw("!!set {a}")]
        )
        return _put(draw, where, value, says=())
    place = draw.choice(WORDS)
    wrong = [*TEXTS, *ODD_TEXTS, [], {}, ["x"], [["x"]], 5, 0, 0.5, True, False, Raw("2024-01-01")]
    wrong += [{"name": value} for value in (None, 5, [], {}, "x", True, Raw('"\\ud800"'))]
    wrong += [{"nam": "mod"}, {"name": "mod", "x": [[[[[1] * 50] * 50]]]}, {"": "mod"}]
    return _put(draw, place, draw.choice(wrong))


def wrong_structure(draw: Random) -> Case:
    if draw.random() < 0.75:
        return _put(draw, draw.choice(MAPPINGS), draw.choice(NO_MAPPING))
    value = draw.choice([*NO_LIST, [[1]], [None], [{}], [[]], [True], ["x"]])
    place = draw.choice(LISTS)
    if place[1][-1] in ("plugins", "tasks") and isinstance(value, list):
        value = draw.choice(NO_LIST)
    return _put(draw, place, value)


def unknown_key(draw: Random) -> Case:
    file, trail = draw.choice(MAPPINGS)
    known = [key for key in (at(DOCUMENTS[file], trail) or {}) if isinstance(key, str)]
    names = ["x", "Model", "depht", "__class__", "model_config", "options", "k" * 5000]
    names += [key[:-1] + "_" for key in known] + [key.upper() for key in known]
    name = draw.choice(names)
    value = draw.choice([1, None, {}, [], "x", {"choice": [1, 2]}])
    if trail == ("arms",) and value in (None, {}):
        value = 1  # an arm of that name
    says = (name,) if len(name) < 30 and trail != ("arms",) else ()
    return _case(draw, file, put(DOCUMENTS[file], (*trail, name), value), says=says)


def key_twice(draw: Random) -> Case:
    places = [place for place in MAPPINGS if at(DOCUMENTS[place[0]], place[1])]
    file, trail = draw.choice(places)
    inner = at(DOCUMENTS[file], trail)
    key = draw.choice(list(inner))
    again = Raw(draw.choice([key, f'"{key}"', f"'{key}'", f"!!str {key}"]))
    value = draw.choice([inner[key], 1, None, {}])
    tree = put(DOCUMENTS[file], trail, {**inner, again: value})
    if file == "config.yaml" and draw.random() < 0.3:
        setting = f"{trail[0] if trail else 'model'}={{depth: 2, depth: {draw.choice([2, 4])}}}"
        return Case(("flops", file, "--set", setting), {}, says=("depth",))
    return _case(draw, file, tree, says=(key,))


def odd_key(draw: Random) -> Case:
    file, trail = draw.choice(MAPPINGS)
    value = draw.choice([1, None, {}, "x"])
    inner = {**(at(DOCUMENTS[file], trail) or {}), draw.choice(KEYS): value}
    if trail == ("arms",):
        inner = {draw.choice(KEYS): 1}
    return _case(draw, file, put(DOCUMENTS[file], trail, inner))


def missing_key(draw: Random) -> Case:
    if draw.random() < 0.1:
        tree = {key: SPACE[key] for key in SPACE if key not in ("explore", "measure", "confirm")}
        return _case(draw, "space.yaml", tree)
    file, trail = draw.choice(REQUIRED)
    says = (str(trail[-1]).removesuffix("s"),)
    return _case(draw, file, without(DOCUMENTS[file], trail), says=says)


def candidate_beside(draw: Random) -> Case:
    part = draw.choice(["model", "optim", "data"])
    tree = {"candidate": CONFIG, part: CONFIG[part]}
    if draw.random() < 0.4:
        tree = {"candidate": draw.choice(NO_MAPPING)}
    return _case(draw, "config.yaml", tree, says=("candidate",))


# --- kinds: YAML


def yaml_scalars(draw: Random) -> Case:
    if draw.random() < 0.5:
        number = draw.choice(NUMBERS)
        return _put(draw, (number.file, number.trail), draw.choice(TAGGED), says=())
    file, trail = draw.choice([*WORDS, *MAPPINGS[1:4], *MAPPINGS[5:]])
    return _put(draw, (file, trail), draw.choice(TAGGED), "either")


def yaml_anchors(draw: Random) -> Case:
    number = draw.choice([number for number in NUMBERS if number.file != "suite.yaml"])
    depth, width = draw.choice([(9, 9), (6, 40), (30, 2), (100, 2), (12, 5)])
    bomb = ["&a0 [x, x]"]
    for level in range(1, depth):
        bomb.append(f"&a{level} [" + ", ".join([f"*a{level - 1}"] * width) + "]")
    maps = ["&m0 {x: 1}"]
    for level in range(1, depth):
        inner = ", ".join(f"k{n}: *m{level - 1}" for n in range(width))
        maps.append(f"&m{level} {{{inner}}}")
    bombs = [f"[{', '.join(bomb)}]", f"[{', '.join(maps)}]"]
    held = ["&a [*a]", "&a {b: *a}", "&a [[[*a]]]", "&a {choice: [*a]}", "&a {name: mod, x: *a}"]
    broken = ["*b", "&a", "&a &b 5", "&a *a", "* x", "&! 5", "{<<: 5}", "{<<: [1]}", "{<<: *x}"]
    if draw.random() < 0.35:
        text = draw.choice([f"x: {draw.choice(bombs + held)}\n", "name: &n [*n, *n]\n"])
        file = draw.choice(list(DOCUMENTS))
        return _case(draw, file, text.encode() + _block(file))
    place = (number.file, number.trail)
    return _put(draw, place, Raw(draw.choice(bombs + held + broken)), says=())


def yaml_nesting(draw: Random) -> Case:
    depth = draw.choice([400, 500, 900, 1000, 2000, 5000])
    texts = [
        "[" * depth + "]" * depth,
        "[" * depth,
        "{a: " * depth + "1" + "}" * depth,
        "{a: [" * (depth // 2),
        "[{" * (depth // 2) + "}]" * (depth // 2),
    ]
    if draw.random() < 0.3:
        lines = ["- " * depth + "x", "? " * depth, "".join(" " * n + "a:\n" for n in range(depth))]
        text = draw.choice([*texts, *lines])
        return _case(draw, draw.choice(list(DOCUMENTS)), text.encode())
    if draw.random() < 0.1:
        text = draw.choice(texts[:3])
        return Case(("flops", "config.yaml", "--set", f"model.depth={text}"), {})
    place = draw.choice([*MAPPINGS[1:4], *MAPPINGS[5:], *LISTS, *WORDS])
    return _put(draw, place, Raw(draw.choice(texts)), says=())


def _block(file: str) -> bytes:
    return block(DOCUMENTS[file]).encode()


def not_yaml(draw: Random) -> Case:
    file = draw.choice(list(DOCUMENTS))
    good = _block(file)
    head, _, rest = good.partition(b"\n")
    bad = [
        b"",
        b"\n",
        b"# nothing\n",
        b"null\n",
        b"[]\n",
        b"5\n",
        b"text\n",
        b"- a\n- b\n",
        b"---\n---\n",
        good + b"---\n" + good,
        good + b"...\nx: 1\n",
        good + b"\0",
        head + b"\0\n" + rest,
        good + b"# \x01\n",
        good + b"x: \xff\n",
        good + "x: é\n".encode("latin-1"),
        good + b"\xed\xa0\x80",
        good + b"  x: 1\n y: 2\n",
        good.replace(b"  ", b"\t", 1),
        b"\t" + good,
        b"%YAML 9.9\n" + good,
        b"%TAG ! x\n%TAG ! y\n---\n" + good,
        b"<!DOCTYPE html><html></html>\n",
        b'{"name": "x",\n',
        bytes(draw.randrange(256) for _ in range(64)),
        codecs.BOM_UTF16_LE + b"\xd8",
        good.decode().encode("utf-32"),
        b"x" * 10**6,
        b"? " + good,
        b"x: |\n" + good,
        b"a: 'b\n" * 3 + good,
    ]
    return _case(draw, file, draw.choice(bad))


def changed_bytes(draw: Random) -> Case:
    """A file that was right, after some changes at random."""
    file = draw.choice(list(DOCUMENTS))
    text = bytearray(_block(file))
    how = draw.randrange(4)
    if how == 0:
        text = text[: draw.randrange(len(text))]
    elif how == 1:
        for _ in range(draw.randint(1, 4)):
            text[draw.randrange(len(text))] = draw.randrange(256)
    elif how == 2:
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(text))
            text[place:place] = draw.choice(
                [b"{", b"}", b"[", b"]", b":", b" ", b"\n", b"*", b"&a "]
            )
    else:
        lines = bytes(text).split(b"\n")
        draw.shuffle(lines)
        text = bytearray(b"\n".join(lines))
    return _case(draw, file, bytes(text), "either")


def soup(draw: Random) -> Case:
    """Values of one place in another."""
    file = draw.choice(list(DOCUMENTS))
    tree = DOCUMENTS[file]
    for _ in range(draw.randint(1, 3)):
        trails = _trails(tree)
        tree = put(tree, draw.choice(trails), at(tree, draw.choice(trails)))
        if not isinstance(tree, dict):
            break
    return _case(draw, file, tree, "either")


def _trails(tree: Any, trail: Trail = ()) -> list[Trail]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found: list[Trail] = []
    for key, value in items:
        found.append((*trail, key))
        if isinstance(value, dict | list):
            found += _trails(value, (*trail, key))
    return found


# --- kinds: axes

AXES: list[tuple[str, Trail]] = [
    ("space.yaml", ("axes", "optim", "rate")),
    ("space.yaml", ("axes", "optim", "weight_decay")),
    ("space.yaml", ("arms", "mod", "model", "capacity")),
    ("space.yaml", ("fixed", "model", "every")),
    ("space.yaml", ("explore", "size", "width")),
]
HUGE = 10**400
MALFORMED = [
    *({"choice": value} for value in ([], 3, "x", None, {"a": 1}, True, [None], [[0.5]])),
    *({"choice": [0.5], key: value} for key, value in (("step", 1), ("default", 1), ("int", [1]))),
    *({"choice": [1, {axis: [1, 2]}]} for axis in ("choice", "int", "float", "log")),
    *({"int": value} for value in ([8, 1], [1.5, 8], [True, 8], [1], 8, [1, 2, 3], [], {"a": 1})),
    *({"int": [1, value]} for value in ("2", None, Raw(".inf"), Raw(".nan"), HUGE, 1e30, [2])),
    *({"int": [1, 8], "step": value} for value in (0, -1, 1.5, True, "1", None, HUGE, [1])),
    *({"float": value} for value in ([1, 0], [0.5], 1, [0.1, True], [0.1, "1"], [0.1, HUGE])),
    *({"float": [0.1, value]} for value in (Raw(".nan"), Raw(".inf"), Raw("-.inf"), None)),
    *({"log": value} for value in ([0, 1], [-1, 1], [1, 0.5], ["a", "b"], [None, 1], 1)),
    *({key: [0.1, 0.5], "step": 0.1} for key in ("float", "log")),
    {"int": [1, 8], "float": [0, 1]},
    {"choice": [0.5], None: 1},
    {"Choice": [0.5]},
    {"choices": [0.1, 0.5]},
    {"step": 2},
    {"choice": [0.5], Raw("1"): 1},
    {"choice": [Raw("2024-01-01")]},
    {"choice": [Raw("!!binary AQ==")]},
    {"choice": [True, False]},
    {"choice": ["0.1", "0.2"]},
    [0.25, 0.5],
]


def malformed_axis(draw: Random) -> Case:
    value = draw.choice(MALFORMED)
    if isinstance(value, dict) and None in value:
        value = {Raw("null") if key is None else key: each for key, each in value.items()}
    return _put(draw, draw.choice(AXES), value)


def misplaced_axis(draw: Random) -> Case:
    place = draw.choice(
        [
            *(place for place in MAPPINGS if place[1] and place[0] != "suite.yaml"),
            *LISTS[:5],
            ("space.yaml", ("name",)),
            ("space.yaml", ("seed",)),
            ("space.yaml", ("suite",)),
            ("space.yaml", ("data", "corpus")),
            ("space.yaml", ("explore", "sampler")),
            ("space.yaml", ("explore", "windows")),
            ("space.yaml", ("measure", "ladder", 0, "depth")),
            ("space.yaml", ("measure", "ladder", 0, "widths", 0)),
            ("space.yaml", ("confirm", "seeds")),
            ("space.yaml", ("resources", "threads")),
            ("space.yaml", ("arms", "random", "control_of")),
            ("space.yaml", ("arms", "random", "model", "capacity")),
            ("config.yaml", ("model", "depth")),
            ("config.yaml", ("model", "block")),
            ("config.yaml", ("model", "router")),
            ("config.yaml", ("optim", "rate")),
        ]
    )
    values = [{"choice": [1, 2]}, {"choice": [{}]}, {"choice": ["a"]}, {"int": [1, 2]}]
    return _put(draw, place, draw.choice([*values, {"float": [0.1, 0.2]}, {"log": [0.1, 0.2]}]))


def said_twice(draw: Random) -> Case:
    rung = SPACE["measure"]["ladder"][0]
    option, other = {"name": "random"}, {"name": "random"}
    place, value = draw.choice(
        [
            *((place, {"choice": [1, 1]}) for place in AXES[:4]),
            *((place, {"choice": [1, 1.0]}) for place in AXES[:4]),
            *((place, {"choice": [0.5, 0.50]}) for place in AXES[:3]),
            (AXES[0], {"choice": [Raw("1e-2"), 0.01, 0.02]}),
            (AXES[3], {"choice": [1, Raw("0x1")]}),
            (AXES[4], {"choice": [8, 8]}),
            (AXES[4], {"choice": [8, 8.0]}),
            (("space.yaml", ("arms", "mod", "model", "router")), {"choice": ["random", "random"]}),
            (("space.yaml", ("arms", "mod", "model", "router")), {"choice": [option, other]}),
            (("space.yaml", ("explore", "budgets")), [2e7, 2e7]),
            (("space.yaml", ("explore", "budgets")), [2e7, 20000000]),
            (("space.yaml", ("confirm", "budgets")), [2e7, 2e7]),
            (("space.yaml", ("measure", "ladder", 0, "widths")), [8, 8, 12]),
            (("space.yaml", ("measure", "ladder", 0, "widths")), [8, 12, 8.0]),
            (("space.yaml", ("measure", "ladder")), [rung, rung]),
            (("space.yaml", ("measure", "ladder")), [rung, {**rung, "widths": [16, 12]}]),
            (("suite.yaml", ("tasks",)), SUITE["tasks"] * 2),
        ]
    )
    return _put(draw, place, value)


def huge_grid(draw: Random) -> Case:
    ints = {"int": [1, 64]}
    place, value = draw.choice(
        [
            (AXES[4], {"int": [8, 8_000_000_000], "step": 8}),
            (AXES[4], {"int": [2, 10**18], "step": 2}),
            (AXES[3], {"int": [1, 10**9]}),
            (("space.yaml", ("axes", "optim", "batch_size")), {"int": [1, 10**12]}),
            (("space.yaml", ("axes", "optim", "min_steps")), {"int": [1, 2**62]}),
            (
                ("space.yaml", ("axes",)),
                {"optim": {"batch_size": ints, "min_steps": ints}, "model": {"every": ints}},
            ),
            (
                ("space.yaml", ("axes",)),
                {
                    "optim": {
                        key: {"choice": [n / 10 for n in range(1, 10)]}
                        for key in (
                            "rate",
                            "warmup",
                            "final",
                            "beta1",
                            "beta2",
                            "clip",
                            "max_epochs",
                        )
                    }
                },
            ),
            (("space.yaml", ("axes", "optim", "rate")), {"choice": list(range(1, 10**5))}),
        ]
    )
    # 100,000 points are many, but somebody may want them.
    many = "model" in value or place == AXES[0]
    return _put(draw, place, value, "either" if many else "refused", says=())


def warm_up_at_a_huge_budget(draw: Random) -> Case:
    budget = draw.choice([1e12, 1e14, 1e16, 1e18, 1e22])
    tree = put(SPACE, ("fixed", "model", "schedule"), {"name": "every_nth", "warmup": 0.5})
    for trail in (("explore", "budgets", 0), ("confirm", "budgets", 0)):
        tree = put(tree, trail, budget)
    tree = put(tree, ("measure", "ladder", 0, "budget"), budget)
    return _case(draw, "space.yaml", put(tree, ("fixed", "optim", "max_epochs"), 1e9), "either")


def no_effect(draw: Random) -> Case:
    key = draw.choice(["depth", "width"])
    value = draw.choice([2, 8, 64, {"choice": [8, 12]}])
    trail: Trail = draw.choice(
        [
            ("axes", "model", key),
            ("fixed", "model", key),
            ("arms", "mod", "model", key),
            ("arms", "random", "model", key),
        ]
    )
    if draw.random() < 0.3:
        key = draw.choice(["block", "num_heads", "seq_len", "capacity", "router", "rate"])
        trail, value = ("explore", "size", key), draw.choice(["dense", 1, 0.5])
    return _put(draw, ("space.yaml", trail), value)


def arms_that_do_not_fit(draw: Random) -> Case:
    arms = SPACE["arms"]
    control = {"control_of": "mod", "model": {"router": "random"}}
    places: list[tuple[Trail, Any]] = [
        (("arms", "random", "control_of"), draw.choice(["random", "nobody", "", "mod "])),
        (("arms",), {**arms, "again": {**control, "control_of": "random"}}),
        (("arms",), {"random": control}),
        (("arms",), {}),
        (("arms", "mod", "control_of"), "mod"),
        (("arms", "random", "model", "router"), {"choice": ["random", "static"]}),
        (("arms", draw.choice(["", "a/b", "a b", "a\nb", "x\n", "\u00fc"])), arms["dense"]),
        (("confirm", "budgets"), [3e7]),
        (("explore", "sampler"), "random"),
        (("explore", "trials"), 3),
        (("explore",), None),
        (("resources", "keep"), "none"),
        (("plugins",), ["none.py"]),
        (("plugins",), [draw.choice(["", ".", "..", "corpus.txt", "~", "~nosuchuser/x.py"])]),
        (("plugins",), [Raw('"a\\0b.py"')]),
        (("plugins",), [Raw('"\\ud800.py"')]),
        (("suite",), draw.choice(["quik", "none.yaml", ".", "config.yaml", "corpus.txt"])),
    ]
    trail, value = draw.choice(places)
    return _case(draw, "space.yaml", put(SPACE, trail, value))


# --- kinds: the command line


def malformed_override(draw: Random) -> Case:
    file = draw.choice(["config.yaml", "space.yaml"])
    first = "model" if file == "config.yaml" else "fixed"
    settings = [
        *("x", "", "=", "=1", " =1", ".=1", "a..b=1", ".a=1", "a.=1", f"{first}.=1"),
        *(f"{first}=1", f"{first}.model.x.y.z=1", f"{first}.depth=[1", f"{first}=[]", "data=5"),
        *(f"{first}.x=&a [*a]", f"{first}.x=1\ny: 2", f"{first}.x=*a", f"{first}.x=a: b: c"),
        *("data.corpus.x=1", "x=" + "9" * 5000, "x" * 5000 + "=1", "name.x=1", "é=1"),
        *(
            "data.corpus=\udcff",
            "\udcff=1",
            "data.\udcff=1",
            "data.corpus=caf\udce9",
            "data=\udcff",
        ),
        *(f"{first}.x=!!python/name:os.system", f"{first}.x={'[' * 900}", f"{first}.0=1"),
        *("data={corpus: a, corpus: b}", "__class__=1", f"{first}.__class__=1", "data.corpus="),
    ]
    many = draw.randint(1, 2)
    given = [part for text in draw.sample(settings, many) for part in ("--set", text)]
    return Case((*_argv(draw, file), *given))


BYTES = ["caf\udce9", "\udcff\udcfe", "\udced\udca0\udc80", "a\udc80b"]
BAD_NUMBERS = ["", "x", "nan", "1e999", "-1", "0x10", "1,5", "1 2", "9" * 5000, "é", "\udcff"]


def wrong_argument(draw: Random) -> Case:
    trial, study = "study/trials/TRIAL", "study"
    bytes_, number = draw.choice(BYTES), draw.choice(BAD_NUMBERS)
    whole = draw.choice([*BAD_NUMBERS, "2.5", "1e3", "inf"])
    long = "x" * 5000
    huge = draw.choice(["18446744073709551616", "9" * 30])
    cases: list[tuple[str, ...]] = [
        (
            "train",
            "config.yaml",
            "--flops",
            draw.choice([*BAD_NUMBERS, "0", "inf", "-inf", "1e-9"]),
        ),
        ("train", "config.yaml", "--flops", "1e300"),
        ("train", "config.yaml"),
        ("train", "config.yaml", "--flops", "2e7", "--seed", draw.choice([whole, huge])),
        ("train", "config.yaml", "--flops", "2e7", "--out", study),
        ("train", "config.yaml", "--flops", "2e7", "--out", "corpus.txt"),
        ("search", "space.yaml", "--workers", draw.choice([whole, "0", "1000000000", huge])),
        ("search", "space.yaml", "--stage", draw.choice(["x", "", "Explore", bytes_, long])),
        ("search", "space.yaml", "--engine", draw.choice(["x", "", "LOCAL", bytes_, long])),
        ("search", "space.yaml", "--address", draw.choice(["x", "", bytes_])),
        ("search", "space.yaml", "--storage", draw.choice(["x", "s3://x", bytes_])),
        (
            "search",
            "space.yaml",
            "--ledger",
            draw.choice(["x", "sqlite:///x", "://", bytes_, long]),
        ),
        (
            "search",
            "space.yaml",
            "--ledger",
            "postgresql://" + draw.choice(["", "[", "a:b:c", "%"]),
        ),
        ("search", "space.yaml", "--out", draw.choice(["corpus.txt", "corpus.txt/x", long])),
        ("best", study, "--budget", draw.choice([*BAD_NUMBERS, "0", "-1", "inf", "3e7"])),
        ("generate", trial, "--prompt", draw.choice(BYTES), "--tokens", "2"),
        ("generate", trial),
        *(
            ("generate", trial, "--prompt", "a", "--tokens", "2", option, value)
            for option, value in (
                ("--tokens", draw.choice([whole, "0", huge])),
                ("--temperature", draw.choice([number, "inf", "-inf", "-0.5"])),
                ("--top-k", draw.choice([whole, "0", "-1"])),
                ("--top-p", draw.choice([number, "0", "1.5", "inf"])),
                ("--seed", draw.choice([whole, huge])),
            )
        ),
        ("eval", trial, "--suite", draw.choice(["", "x", ".", "..", "/", bytes_, long, "a\nb"])),
        ("eval", trial, "--corpus", draw.choice(["x", "*.none", bytes_, long, "[", "\n"])),
        ("eval", draw.choice(["", ".", "config.yaml", "nowhere", bytes_, long])),
        ("generate", draw.choice(["", ".", "config.yaml", bytes_, long, study]), "--prompt", "a"),
        *(
            (verb, draw.choice(["", ".", "nowhere", "config.yaml", bytes_, long, "a\nb", trial]))
            for verb in ("status", "best", "report")
        ),
        *(
            (
                verb,
                draw.choice(["", ".", "..", "nowhere", "no.yaml", bytes_, long, "a\nb", "~", "/"]),
            )
            for verb in ("plan", "search", "flops")
        ),
        (
            "components",
            "show",
            draw.choice(["", "x", bytes_, long, "a\nb", "router:", ":", "x:mod"]),
        ),
        (
            "components",
            "check",
            draw.choice(["", "x", bytes_, long, "a\nb", "router:", ":", "x:mod"]),
        ),
        ("components", "--plugin", draw.choice(["", ".", "no.py", "config.yaml", bytes_, long])),
        (
            "flops",
            "config.yaml",
            "--plugin",
            draw.choice(["", ".", "no.py", "corpus.txt", bytes_]),
        ),
        (draw.choice(["", "x", "Plan", bytes_, long, "-", "--x", "--set"]),),
        ("plan", "space.yaml", draw.choice(["x", "--x", "--out", bytes_, long, "--json=1"])),
        ("flops", "config.yaml", "--set"),
    ]
    argv = draw.choice(cases)
    return Case(argv, study=any(part.startswith("study") for part in argv))


def odd_place(draw: Random) -> Case:
    """Names that are right for a file system, whatever another grammar makes of them."""
    name = draw.choice(
        [
            "what?now",
            "run%41",
            "a b",
            "a#b",
            "ü",
            "a;b",
            "x=y",
            "a:b",
            "@",
            "~",
            "-x",
            "a&b",
            "\n",
            "é/ü",
        ]
        + [
            "\udcff",
            "*",
            "[a]",
            "{a}",
            "$HOME",
            "'",
            '"',
            "\\",
            "...",
            "%",
            "?",
            "http://x",
            "a@b:c",
        ]
    )
    argv = draw.choice(
        [
            ("search", "space.yaml", f"--out={name}"),
            ("status", f"./{name}"),
            ("report", "study", f"--out={name}"),
            ("train", "config.yaml", "--flops", "2e7", f"--out={name}"),
            ("flops", f"./{name}.yaml"),
            ("eval", "study/trials/TRIAL", "--suite", f"./{name}.yaml"),
        ]
    )
    files = {f"{name}.yaml": _block("suite.yaml" if argv[0] == "eval" else "config.yaml")}
    return Case(argv, files, "either", study=argv[0] in ("report", "eval"))


# --- kinds: other files


def wrong_suite(draw: Random) -> Case:
    task = SUITE["tasks"][0]
    choices = {
        **task,
        "task": "rows",
        "dataset_path": "modsearch:jsonl",
        "dataset_kwargs": {"file": "rows.jsonl"},
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": "values",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    row = '{"question": "a", "values": [" b", " c"], "right": 1}\n'
    if draw.random() < 0.4:
        rows, expected = draw.choice(
            [
                ("", "refused"),
                ("\n\n", "refused"),
                ("[]\n", "refused"),
                ("5\n", "refused"),
                ("null\n", "refused"),
                (row + "[1, 2]\n", "refused"),
                (row + row[:20], "refused"),
                ("{" * 5000, "refused"),
                ("[" * 10**5, "refused"),
                ("{}\n", "refused"),
                (row + '{"question": 5}\n', "refused"),
                (row + '{"question": [1], "values": 3, "right": "x"}\n', "refused"),
                (row.replace("1}", "7}"), "refused"),
                (row.replace("1}", "null}"), "refused"),
                (row.replace("1}", "NaN}"), "refused"),
                (row.replace('[" b", " c"]', "[]"), "refused"),
                (row.replace('[" b", " c"]', "[1, [2]]"), "refused"),
                (row.replace('"a"', '"\\ud800"'), "refused"),
                (row.replace("1}", "9" * 5000 + "}"), "refused"),
                (row.replace('"a"', '{"b": 1}'), "either"),
                (row.replace('"a"', '""'), "either"),
                (row.replace('"a"', json.dumps("x" * 10**4)), "either"),
                (row + "\u2028" + row, "either"),
            ]
        )
        tree = {**SUITE, "tasks": [choices]}
        content: bytes | None = rows.encode()
        if draw.random() < 0.15:
            content, expected = draw.choice(
                [(None, "refused"), (rows.encode("utf-16"), "refused"), (b"\xff\n", "refused")]
            )
        case = _case(draw, "suite.yaml", tree, "either" if expected == "either" else "refused")
        return Case(case.argv, {**case.files, "rows.jsonl": content}, case.expected, study=True)
    changes: list[tuple[Trail, Any]] = [
        (("name",), draw.choice(["", "a/b", "..", "x\n", "-", 5, None, [], "é"])),
        (("include",), draw.choice([["nowhere"], "x", 5, [5], {}, [""], ["x" * 5000]])),
        (("tasks",), draw.choice([[], {}, "x", [5], [[]], [None], [""], ["nonsense"], [{}]])),
        (("tasks", 0, "task"), draw.choice(["", 5, None, [], {}])),
        (("tasks", 0, "dataset_path"), draw.choice(["modsearch:", "modsearch:x", ""])),
        (("tasks", 0, "dataset_kwargs"), draw.choice([[], 5, "x", {}, {"x": 1}])),
        (("tasks", 0, "dataset_kwargs", "num"), draw.choice([10**9, 10**12])),
        (("tasks", 0, "dataset_kwargs", "size"), draw.choice([10**9, 1])),
        (("tasks", 0, "dataset_kwargs", "x"), 1),
        (("tasks", 0, "output_type"), draw.choice(["x", 5, None, [], "generate_until_x"])),
        (
            ("tasks", 0, "doc_to_text"),
            draw.choice(["{{ x", "{{ 1/0 }}", "{% x %}", "{{ a.b.c }}"]),
        ),
        (("tasks", 0, "doc_to_target"), draw.choice(["{{ x", "{{ 1/0 }}", "{% for %}"])),
        (("tasks", 0, "metric_list"), draw.choice([5, "x", [5], [{"metric": "x"}], [{}]])),
        (("tasks", 0, "metric_list", 0, "aggregation"), draw.choice(["x", 5])),
        (("tasks", 0, "test_split"), draw.choice(["x", 5, []])),
        (("tasks", 0, "x"), draw.choice([1, {}, "x"])),
        (("tasks", 0, "num_fewshot"), draw.choice(["x", -1, [], 10**9])),
        (("tasks", 0, "dataset_path"), "nowhere_to_be_found"),
    ]
    trail, value = draw.choice(changes)
    free = trail[-1] in ("test_split", "aggregation", "num_fewshot", "metric_list")
    return _case(draw, "suite.yaml", put(SUITE, trail, value), "either" if free else "refused")


def wrong_corpus(draw: Random) -> Case:
    gz = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
    contents = [b"", b"\n", b"x", b"\0" * 99, gz, gz + b"x" * 99, b"\x1f\x8b", b"not gz"]
    name = draw.choice(["corpus.txt", "other.txt.gz", "other.gz"])
    if draw.random() < 0.6:
        content = draw.choice(contents)
        fine = name == "corpus.txt" and content not in (b"", b"\n", b"x")
        case = _put(
            draw,
            ("space.yaml", ("data", "corpus")),
            name,
            "either" if fine or content == b"" else "refused",
            says=(),
        )
        says = () if case.expected == "either" else (name,)
        return Case(case.argv, {**case.files, name: content}, case.expected, says)
    corpus = draw.choice(
        ["nowhere", "*.none", "[", "empty/", "~nosuchuser/x", "a\nb", "x" * 5000, "corpus.txt/x"]
        + [Raw('"a\\0b"'), Raw('"\\ud800"'), "empty/**", "{", "http://x", "none"]
    )
    case = _put(draw, ("space.yaml", ("data", "corpus")), corpus, says=())
    return Case(case.argv, {**case.files, "empty/": b""}, "refused")


def wrong_plugin(draw: Random) -> Case:
    """A file that fails as it is read, or whose component fails when a model is made of it."""
    failing = [
        *("x =", "import nowhere", "raise Exception('x' * 10000)", "raise Exception('a\\n' * 99)"),
        *(
            "1 / 0",
            "import sys; sys.exit(0)",
            "import sys; sys.exit('x' * 9999)",
            "raise SystemExit",
        ),
        *(
            "raise KeyError",
            "def f(): f()\nf()",
            "raise BaseException('x')",
            "raise GeneratorExit",
        ),
        *("class E(Exception):\n    def __str__(self): 1/0\nraise E", "(" * 500 + ")" * 500),
        *("raise Exception('\\ud800')", "raise Exception('\\x1b[31mred')", "raise MemoryError"),
        *("raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'x')", "assert False", "a = b", "yield"),
        *("raise OSError(28, 'No space', 'x' * 9999)", "return", "raise StopIteration", "\x00"),
        *(
            "raise ExceptionGroup('x' * 999, [ValueError()])",
            "import modsearch.nowhere",
            "\t x\ny",
        ),
    ]
    head = "from modsearch.nn.contracts import ROUTERS, BLOCKS, FFNS, Options, Router\n"
    failing += [
        head + text
        for text in (
            "ROUTERS.register('mine')(5)",
            "ROUTERS.register('mine')(int)",
            "ROUTERS.register(5)(Router)",
            "ROUTERS.register('random')(Router)",
            "ROUTERS.register('')(Router)",
            "ROUTERS.register('mine')(lambda: 1)",
            "ROUTERS.register('mine' * 999)(int)",
        )
    ]
    later = [
        PLUGIN.replace(old, new)
        for old, new in (
            ("return Cost()", "return None"),
            ("return Cost()", "return 5"),
            ("return Cost()", "1 / 0"),
            ("return Cost()", "raise Exception('x' * 9999)"),
            ("return Cost()", "import sys; sys.exit(3)"),
            ("return Cost()", "return Cost.product('router', 'x')"),
            ("return Cost()", "return Cost.product('nowhere', 5)"),
            ("Config = Options", "Config = 5"),
            ("Config = Options", "Config = None"),
            ("Config = Options", "class Config: pass"),
            ("Config = Options", "class Config(Options):\n        x: int"),
            ("super().__init__(width, capacity, options)", "pass"),
            ("super().__init__(width, capacity, options)", "1 / 0"),
            ("super().__init__(width, capacity, options)", "self.x"),
            ("return num_selected(self.capacity, num_positions)", "return None"),
            ("return num_selected(self.capacity, num_positions)", "return 10**9"),
            ("return num_selected(self.capacity, num_positions)", "return -1"),
            ("(self, width, capacity, options)", "(self)"),
            ("def forward", "def forwart"),
            ("def cost", "def coast"),
            ("def slots", "def slot"),
            ("class Mine(Router)", "class Mine"),
        )
    ]
    if draw.random() < 0.6:
        source = draw.choice(failing)
        argv: tuple[str, ...] = draw.choice(
            [
                ("components", "--plugin", "p.py"),
                ("flops", "config.yaml", "--plugin", "p.py"),
                ("plan", "space.yaml", "--plugin", "p.py"),
                ("plan", "space.yaml", "--set", "plugins=[p.py]"),
            ]
        )
        content = source.encode(errors="replace")
        if draw.random() < 0.1:
            content = draw.choice([b"\xff", "x = 'é'".encode("utf-16"), b"# -*- coding: nope -*-"])
        return Case(argv, {"p.py": content}, "refused", ("p.py",))
    source = draw.choice(later)
    argv = draw.choice(
        [
            ("flops", "config.yaml", "--plugin", "p.py", "--set", "model.router=mine"),
            ("components", "show", "mine", "--plugin", "p.py"),
            ("plan", "space.yaml", "--set", "plugins=[p.py]", "--set", "fixed.model.router=mine"),
            ("plan", "space.yaml", "--plugin=p.py", "--set", "arms.mod.model.router=mine"),
        ]
    )
    return Case(argv, {"p.py": source.encode()}, "either")


# --- kinds: a study that was damaged

DAMAGED = {
    "eval": r"trials/\w+/eval/.*json",
    "metrics": r"trials/\w+/metrics\.jsonl",
    "checkpoint": r"trials/TRIAL/checkpoint/.*",
    "result": r"trials/\w+/result\.json",
    "routing": r"trials/\w+/routing\.json",
    "manifest": r"manifest\.json",
    "space": r"space\.yaml",
    "config": r"trials/(TRIAL|\w+)/config\.yaml",
    "ledger": r"ledger\.db",
}


def damaged(what: str, draw: Random, ground: Ground) -> Case:
    """One file of a study, damaged from outside, and a command that may meet it."""
    pattern = DAMAGED[what].replace("TRIAL", ground.trial)
    name = draw.choice([file for file in ground.files if re.fullmatch(pattern, file)])
    before = (ground.root / name).read_bytes()
    whole = [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"5",
        b'"x"',
        b"true",
        b"NaN",
        b"{",
        b"[" * 10**5,
        b'{"a":' * 10**4,
        b"9" * 5000,
        b"\0" * 100,
        b"\xff\xfe\xfd",
        bytes(draw.randrange(256) for _ in range(200)),
        before[: draw.randrange(len(before))],
        before + b"x",
        before.decode(errors="replace").encode("utf-16"),
        b'{"x": 1}',
        b"[" + before + b"]",
        b'[{"x": 1}]\n[1]\n',
        b"null\n" + before,
    ]
    unreadable = draw.random() < 0.6
    content: bytes | None = draw.choice(whole)
    if not unreadable:
        content = _leaf_changed(draw, before)
    files: dict[str, bytes | None] = {f"study/{name}": content}
    if unreadable and draw.random() < 0.1:
        files = {f"study/{name}": None}
        if draw.random() < 0.5:
            files[f"study/{name}/"] = b""
    argv = _reader(draw, what, name, ground.trial)
    expected: Expected = "either"
    if what == "manifest" and unreadable and argv[0] in ("status", "report", "best"):
        try:
            sound = isinstance(json.loads(content or b"x"), dict) and content == before
        except (ValueError, RecursionError):
            sound = False
        expected = "either" if sound else "refused"
    if what in ("eval", "routing", "metrics") and argv[0] in ("status", "report", "best"):
        expected = "accepted"
    return Case(argv, files, expected, study=True)


def _leaf_changed(draw: Random, before: bytes) -> bytes:
    """A value in a JSON file replaced; other files lose a few bytes."""
    try:
        lines = before.decode().splitlines()
        number = draw.randrange(len(lines))
        one_a_line = len(lines) > 1 and lines[0].endswith("}")
        tree = json.loads(lines[number] if one_a_line else before)
        assert isinstance(tree, dict)
    except (ValueError, AssertionError, RecursionError):
        start = draw.randrange(len(before))
        return before[:start] + draw.choice([b"", b"\0", b"x", b"9"]) + before[start + 1 :]
    trail = draw.choice(_trails(tree))
    value = draw.choice([None, -1, 0, True, "x", [], {}, [1], 1e308, 10**30, "\ud800", "x" * 9999])
    tree = put(tree, trail, value) if draw.random() < 0.8 else _gone(tree, trail)
    text = json.dumps(tree).replace("1e+308", draw.choice(["1e999", "NaN", "-Infinity", "1e308"]))
    if one_a_line:
        return "\n".join([*lines[:number], text, *lines[number + 1 :], ""]).encode()
    return text.encode()


def _gone(tree: dict[str, Any], trail: Trail) -> dict[str, Any]:
    return without(tree, trail)


def _reader(draw: Random, what: str, name: str, trial: str) -> tuple[str, ...]:
    folder = f"study/{name.rpartition('/eval/')[0] or name.rpartition('/')[0]}"
    folder = folder.removesuffix("/checkpoint")
    common: list[tuple[str, ...]] = [
        *[("status", "study")] * 4,
        *[("status", "study", "--json")] * 2,
        *[("best", "study")] * 2,
        ("report", "study"),
    ]
    own: dict[str, list[tuple[str, ...]]] = {
        "eval": [("eval", "study", "--suite", "suite.yaml"), ("report", "study")],
        "checkpoint": [
            *[("generate", f"study/trials/{trial}", "--prompt", "a", "--tokens", "2")] * 12,
            *[("eval", f"study/trials/{trial}", "--suite", "suite.yaml")] * 3,
        ],
        "config": [
            *[("flops", f"{folder}/config.yaml")] * 6,
            *[("eval", folder, "--suite", "suite.yaml")] * 3,
            *[("generate", f"study/trials/{trial}", "--prompt", "a", "--tokens", "2")] * 3,
        ],
        "space": [
            *[("plan", "study/space.yaml")] * 3,
            ("search", "study/space.yaml", "--out=study"),
        ],
        "manifest": [("eval", "study", "--suite", "suite.yaml")],
        "result": [("eval", "study", "--suite", "suite.yaml")],
    }
    if draw.random() < 0.06:
        return ("search", "space.yaml", "--out", "study")
    return draw.choice([*common, *own.get(what, [])])


def stray_files(draw: Random, ground: Ground) -> Case:
    """Things in a study's folder that no study puts there."""
    trial = f"study/trials/{ground.trial}"
    result = (ground.root / "trials" / ground.trial / "result.json").read_bytes()
    evaluation = next(file for file in ground.files if "/eval/" in file)
    files: dict[str, bytes | None] = draw.choice(
        [
            {f"{trial}/eval/notes.json": b"x"},
            {f"{trial}/eval/old.json": b"{}"},
            {f"{trial}/eval/x.json/": b""},
            {f"{trial}/eval/copy.json": (ground.root / evaluation).read_bytes()[:99]},
            {"study/trials/copy/result.json": result},
            {"study/trials/.DS_Store": b"x"},
            {"study/trials/x": b"x"},
            {"study/trials/\udcff/result.json": result},
            {"study/trials/empty/": b""},
            {"study/trials/a b\n/metrics.jsonl": b"[]\n"},
            {"study/trials/0123456789abcdef/metrics.jsonl": b'{"step": "x"}\n'},
            {"study/trials/0123456789abcdef/metrics.jsonl": b"[1]\n5\nnull\n"},
            {"study/trials/0123456789abcdef/metrics.jsonl": b"\xff\n"},
            {"study/trials/0123456789abcdef/metrics.jsonl/": b""},
            {"study/report": b"x"},
            {"study/plugins": b"x"},
            {"study/.lock": None, "study/.lock/": b""},
        ]
    )
    argv = draw.choice([*[("status", "study")] * 3, ("best", "study"), ("report", "study")])
    return Case(argv, files, "either", study=True)


# --- what is right


def right(draw: Random) -> Case:
    """Unusual, but right: strictness must not go too far."""
    file = draw.choice(["config.yaml", "config.yaml", "config.yaml", "space.yaml"])
    tree: Any = DOCUMENTS[file]
    good = block(tree)
    if file == "space.yaml":
        changes: list[tuple[Trail, Any]] = [
            ((), tree),
            (("confirm", "seeds"), 2.0),
            (("explore", "size", "width"), {"choice": [8, 12]}),
            (("explore", "size", "width"), {"int": [8, 12], "step": 4}),
            (("axes", "optim", "rate"), {"choice": [0.01]}),
            (("explore", "trials"), None),
            (("suite",), None),
            (("confirm",), None),
            (("plugins",), []),
            (("resources", "workers"), "auto"),
            (("explore", "budgets", 0), Raw("2e7")),
            (("fixed", "model", "num_kv_heads"), None),
        ]
        trail, value = draw.choice(changes)
        return _case(draw, file, put(tree, trail, value), "accepted")
    texts = [
        good,
        "\ufeff" + good,
        good.replace("\n", "\r\n"),
        "# a comment\n---\n" + good + "...\n",
        block(put(tree, ("model", "depth"), 2.0)),
        block(put(tree, ("model", "ffn"), None)),
        block(put(tree, ("optim", "rate"), Raw("5e-3"))),
        block(put(tree, ("optim", "rate"), 1)),
        block(put(tree, ("model", "router"), {"name": "token_choice", "bias_rate": 0.1})),
        block(put(tree, ("optim",), {})),
        block(without(tree, ("optim",))),
        block({"candidate": tree}),
        flow(tree),
        json.dumps(tree, indent=1),
    ]
    argv = ["flops", file]
    if draw.random() < 0.3:
        argv += ["--set", draw.choice(["model.depth=4", "optim={rate: 0.1}", "data.corpus=a=b"])]
    if draw.random() < 0.2:
        argv.append("--json")
    return Case(tuple(argv), {file: draw.choice(texts).encode()}, "accepted")


DOCUMENT_KINDS: dict[str, Callable[[Random], Case]] = {
    "right": right,
    "not a number": not_a_number,
    "absurd number": absurd_number,
    "beyond bounds": beyond_bounds,
    "large or odd number": numbers_that_may_be,
    "wrong word": wrong_word,
    "wrong structure": wrong_structure,
    "unknown key": unknown_key,
    "key twice": key_twice,
    "odd key": odd_key,
    "missing key": missing_key,
    "beside `candidate`": candidate_beside,
    "YAML scalars and tags": yaml_scalars,
    "YAML anchors": yaml_anchors,
    "YAML nesting": yaml_nesting,
    "not YAML": not_yaml,
    "bytes changed": changed_bytes,
    "values elsewhere": soup,
    "malformed axis": malformed_axis,
    "misplaced axis": misplaced_axis,
    "said twice": said_twice,
    "huge grid": huge_grid,
    "axis without effect": no_effect,
    "arms that do not fit": arms_that_do_not_fit,
}
"""Kinds that reading a document settles."""

COMMAND_KINDS: dict[str, Callable[[Random], Case]] = {
    "warm-up, huge budget": warm_up_at_a_huge_budget,
    "malformed --set": malformed_override,
    "wrong argument": wrong_argument,
    "odd place": odd_place,
    "wrong suite": wrong_suite,
    "wrong corpus": wrong_corpus,
    "wrong plugin": wrong_plugin,
}
