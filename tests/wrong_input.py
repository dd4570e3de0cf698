"""Wrong input by kind: what a user may write or damage, and what must become of it.

Each kind is a function of a `random.Random` that draws one case: files, a command line, and
whether it must be refused. `tests/test_fuzz.py` draws them with hypothesis and reads the files;
`benchmarks/fuzz.py` draws thousands and runs the commands.
"""

import codecs
import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
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
    what: str = ""
    """What was changed, for whoever reads of it."""

    def named(self, message: str) -> bool:
        """Whether a message says where: the file, and the key or a line."""
        files = [name for name in self.says if "." in name]
        by_line = bool(re.search(r"\bline \d", message))
        return all(name in message or (by_line and name not in files) for name in self.says)


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
from modsearch.nn.cost import Cost
from modsearch.nn.contracts import ROUTERS, Options, Router, Routing
from modsearch.nn.selection import pack
from modsearch.nn.contracts import num_selected

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


def trail(dotted: str) -> Trail:
    """`measure.ladder.0.depth` as keys and indices; `.` is the document itself."""
    keys = dotted.strip(".").split(".") if dotted != "." else []
    return tuple(int(key) if key.isdigit() else key for key in keys)


@dataclass(frozen=True)
class Place:
    """A key of a document."""

    file: str
    trail: Trail
    whole: bool = False
    """Takes whole numbers."""
    zero: bool = False
    """Takes zero."""
    null: bool = False
    """Takes null."""


def places(text: str) -> list[Place]:
    """Lines of a file's name and keys in it: `depth#` is whole, `warmup!` may be zero, `trials?`
    may be null; `optim:(rate clip)` is `optim.rate optim.clip`."""
    text = re.sub(
        r"(\S+):\((.*?)\)",
        lambda found: " ".join(f"{found[1]}.{key}" for key in found[2].split()),
        " ".join(text.split()),
    )
    found, file = [], ""
    for word in text.split():
        if word.endswith(".yaml"):
            file = word
        else:
            bare = trail(word.rstrip("#!?"))
            found.append(Place(file, bare, "#" in word, "!" in word, "?" in word))
    return found


def listed(text: str) -> list[Raw]:
    """Values as YAML has them, between semicolons."""
    return [Raw(part.strip()) for part in re.split(r"\s;\s", text)]


NUMBERS = places("""
config.yaml
    model:(vocab_size# seq_len# depth# width# num_heads# num_kv_heads#? every# capacity)
    optim:(batch_size# rate warmup! final! weight_decay! beta1! beta2! clip min_steps# max_epochs)
space.yaml
    seed#! fixed.model:(vocab_size# seq_len# num_heads# num_kv_heads#? every# capacity)
    fixed.optim:(batch_size# rate warmup! final! weight_decay! beta1! beta2! clip min_steps#
        max_epochs)
    arms.mod.model:(capacity every#) arms.random.model:(capacity every#)
    arms.dense.optim:(rate weight_decay!)
    explore:(trials#? windows# budgets.0 size.depth# size.width#)
    measure:(windows# seeds# ladder.0.budget ladder.0.depth# ladder.0.widths.0#)
    confirm:(runs# margin? seeds#? windows#? budgets.0)
    resources:(workers# threads# micro_batch#? ranks# cpus? gpus?! checkpoint_seconds!)
suite.yaml tasks.0.limit#? tasks.0.dataset_kwargs:(num# size#)
""")
OPTIONS = places("""
config.yaml router.token_choice:(balance_weight bias_rate z_weight capacity_factor)
    router.expert_choice.init_std router.predictor.bce_weight router.threshold.momentum
    ffn.mlp.ratio ffn.moe:(z_weight ratio) schedule.every_nth:(spread warmup)
""")
"""Numbers among the options of components: kind, name, option."""

MAPPINGS = places("""
config.yaml . model optim data
space.yaml . data fixed fixed.model fixed.optim axes axes.model axes.optim arms arms.dense
    arms.dense.model arms.mod.optim arms.random.model explore explore.size measure
    measure.ladder.0 confirm resources
suite.yaml . tasks.0.dataset_kwargs
""")
INNER = [place for place in MAPPINGS if place.trail]
LISTS = places("""
space.yaml plugins explore.budgets measure.ladder measure.ladder.0.widths confirm.budgets
suite.yaml tasks
""")
WORDS = places("""
config.yaml model:(block router ffn? schedule) optim:(optimizer schedule width_rule)
space.yaml fixed.optim.optimizer fixed.optim.schedule arms.dense.optim.width_rule
    fixed.model.schedule arms.mod.model.router arms.mod.model.block arms.random.model.router
    explore.sampler resources.device resources.precision resources.keep arms.random.control_of?
suite.yaml tasks.0.dataset_path
""")
"""Places of a name out of a few."""

REQUIRED = places("""
space.yaml name arms explore.budgets explore.size measure.ladder measure.ladder.0.budget
    measure.ladder.0.depth measure.ladder.0.widths confirm.budgets
suite.yaml name tasks tasks.0.task tasks.0.dataset_kwargs.num
""")

# --- values that are wrong

DIGITS = "9" * 5000
NOT_NUMBERS = listed(
    """ true ; false ; "0.1" ; '0.1' ; "1e3" ; '8' ; "" ; abc ; [] ; {} ; [1] ; [[]] ; {a: 1} ;
    yes ; off ; 1:30 ; 2024-01-01 ; 2024-99-99 ; 1,5 ; 1 2 ; 0x ; ٣ ; = ; 1e ; !!str 5 ;
    !!binary AQ== ; !!bool x ; !!timestamp x ; !!set {a} ; !!int x ; !!float x ; !!null x ; !x 5 ;
    !!python/name:os.system """
)
ABSURD = [
    *listed(f".inf ; -.inf ; .nan ; 1e300 ; -1e300 ; -1 ; {DIGITS} ; -{DIGITS} ; 1e{DIGITS}"),
    *listed(f"{10**400} ; -{10**400} ; 0x{'f' * 5000} ; 1e999"),
]
ABSURD_COUNTS = [*ABSURD, *listed(f"{10**25} ; 1e30 ; 2.5 ; -3 ; 1e-9")]
NO_MAPPING = listed(
    """ [] ; "" ; '' ; 0 ; false ; [1] ; text ; 7 ; true ; 0.0 ; [{}] ; 2024-01-01 ; !!set {} """
)
NO_LIST = listed(' {} ; {a: 1} ; "" ; x ; 3 ; 0 ; true ; false ; 2024-01-01 ; !!set {a} ')
ODD_TEXTS = [
    *listed(
        r' "\ud800" ; "a\0b" ; "\x1b[31m" ; "\u202e" ; "a\nb" ; "mod\n" ; "" ; " " ; ".." ; a/b '
    ),
    *listed(f" a/b ; nonsense ; ../x ; é ; \U0001f600 ; {'x' * 5000} ; {'y' * 10**5} ; . "),
]
NO_WORD = [
    *ODD_TEXTS,
    *listed(""" [] ; {} ; [x] ; [[x]] ; 5 ; 0 ; 0.5 ; true ; false ; 2024-01-01 ; {nam: mod} """),
    *listed(""" {name: null} ; {name: 5} ; {name: []} ; {name: {}} ; {name: x} ; {name: true} """),
    *listed(' {name: "\\ud800"} ; {"": mod} ; {name: mod, x: [[[[[1, 1], [1, 1]]]]]} ; {name: } '),
]
KEYS = listed(
    r""" 1 ; null ; ~ ; true ; no ; 1.5 ; [1, 2] ; {a: 1} ; 2024-01-01 ; "" ; .inf ; "a.b" ;
    "\ud800" ; !!binary AQ== ; "a\nb" ; """
    + "k" * 1000
)
TAGGED = listed(
    """ !!timestamp x ; !!bool x ; !!int x ; !!float x ; !!binary x ; !!map [] ; !!seq {} ;
    !!str {a: 1} ; !!omap [a] ; !!pairs x ; !!merge x ; !!set [a] ; !foo x ; !!foo x ; !<x> 1 ;
    !!python/object/apply:os.getcwd [] ; !!python/tuple [1] ; 2024-99-99 ; 0001-01-01T99:99:99Z ;
    2024-01-01T00:00:00+99:99 ; ! x ; %x ; @x ; `x ; 'x ; "x ; [1 ; {a ; a: b: c ; - 1 ; *nowhere ;
    &a *a """
)

# --- drawing and writing


def at(tree: Any, keys: Trail) -> Any:
    """What lies there; None where nothing does."""
    for key in keys:
        try:
            tree = tree[key]
        except (KeyError, IndexError):
            return None
    return tree


def put(tree: Any, keys: Trail, value: Any) -> Any:
    """A copy with a value in its place; mappings on the way are made."""
    if not keys:
        return value
    tree = deepcopy(tree)
    *parents, last = keys
    inner: Any = tree
    for key in parents:
        if isinstance(key, str) and inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
    inner[last] = value
    return tree


def without(tree: Any, keys: Trail) -> Any:
    """A copy in which nothing lies there."""
    tree = deepcopy(tree)
    del at(tree, keys[:-1])[keys[-1]]
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


def _argv(draw: Random, file: str) -> tuple[str, ...]:
    """A command that reads a document; `TRIAL` stands for one that has its weights."""
    if file == "config.yaml":
        rest = ("train", "config.yaml", "--flops", "1e12")
        return ("flops", "config.yaml") if draw.random() < 0.95 else rest
    if file == "suite.yaml":
        return ("eval", "study/trials/TRIAL", "--suite", "suite.yaml")
    rest = ("search", "space.yaml", "--out", "o")
    return ("plan", "space.yaml") if draw.random() < 0.95 else rest


def _case(
    draw: Random,
    file: str,
    content: Any,
    expected: Expected = "refused",
    says: tuple[str, ...] = (),
    what: str = "",
) -> Case:
    """A command on a document, which is a tree or bytes."""
    if not isinstance(content, bytes):
        content = (block(content) if draw.random() < 0.9 else flow(content) + "\n").encode()
    named = (file, *says) if expected == "refused" else ()
    argv = _argv(draw, file)
    return Case(argv, {file: content}, expected, named, file == "suite.yaml", what)


def _put(
    draw: Random,
    place: Place,
    value: Any,
    expected: Expected = "refused",
    says: tuple[str, ...] | None = None,
) -> Case:
    """A value in its place: in the file, or by `--set`. A message must name the key, unless
    `says` says something else."""
    file, keys = place.file, place.trail
    if says is None:
        named = [key for key in keys if isinstance(key, str)][-1:]
        says = tuple(key.removesuffix("s") for key in named)
    dotted = ".".join(map(str, keys))
    what = f"{dotted or 'all of it'} = {flow(value)}"
    by_set = file != "suite.yaml" and keys and all(re.fullmatch(r"[a-z_]+", str(k)) for k in keys)
    if by_set and draw.random() < 0.25:
        setting = f"{dotted}={flow(value)}"
        return Case((*_argv(draw, file), "--set", setting), {}, expected, says)
    tree = put(DOCUMENTS[file], keys, value)
    return _case(draw, file, tree, expected, says, what)


# --- kinds: values


def not_a_number(draw: Random) -> Case:
    place = draw.choice(NUMBERS)
    nulls = [] if place.null else listed("null ; ~ ; ")
    return _put(draw, place, draw.choice([*NOT_NUMBERS, *nulls]))


def absurd_number(draw: Random) -> Case:
    if draw.random() < 0.15:
        kind, name, option = map(str, draw.choice(OPTIONS).trail)
        value = {"name": name, option: draw.choice([*ABSURD, *NOT_NUMBERS])}
        return _put(draw, Place("config.yaml", ("model", kind)), value, says=(option,))
    place = draw.choice(NUMBERS)
    wrong = ABSURD_COUNTS if place.whole else ABSURD
    return _put(draw, place, draw.choice([*wrong, *([] if place.zero else [Raw("0")])]))


BEYOND = """
config.yaml model.depth 10000000 1000000000000
config.yaml model.width 1000000000000 4611686018427387904
config.yaml model.seq_len 1000000000000
config.yaml model.vocab_size 1000000000000 1
config.yaml model.num_heads 1000000000 3
config.yaml model.capacity 1.5 1.0000001
config.yaml optim.batch_size 1000000000000
config.yaml optim.warmup 1 1.5
config.yaml optim.final 1.5
config.yaml optim.beta1 1 2
space.yaml seed 9223372036854775808 18446744073709551616 1e23
space.yaml resources.threads 100000 1000000000
space.yaml resources.workers 1000000000 1000000000000
space.yaml resources.cpus 1e9 1e30
space.yaml resources.gpus 1e9 1e30
space.yaml confirm.seeds 2000000 1000000000
space.yaml explore.size.depth 10000000
space.yaml explore.size.width 1000000000000 9
space.yaml measure.ladder.0.depth 10000000
space.yaml measure.ladder.0.widths.1 1000000000000 9 0 -8
space.yaml fixed.model.seq_len 1000000000000
space.yaml fixed.model.vocab_size 1000000000000 1
"""


def beyond_bounds(draw: Random) -> Case:
    """Numbers of the right type that nothing can be built of."""
    file, dotted, *values = draw.choice(BEYOND.strip().splitlines()).split()
    value = Raw(draw.choice(values))
    in_choice = dotted.startswith("fixed") and draw.random() < 0.3
    return _put(draw, Place(file, trail(dotted)), {"choice": [value]} if in_choice else value)


def numbers_that_may_be(draw: Random) -> Case:
    """Large or odd numbers that a command may take or refuse, but must survive."""
    place = draw.choice(NUMBERS)
    values = "1 ; 2 ; 3 ; 7 ; 64 ; 1000 ; 1e5 ; 1e6 ; 1e9 ; 2147483648 ; 9007199254740993 ; 2.0"
    if not place.whole:
        values += " ; 1e-300 ; 5e-324 ; 1e-30 ; 0.5 ; 0.999999999 ; 1e16 ; 1e30 ; 1e100"
    values += " ; 0x10 ; 0b11 ; 010 ; 1_000 ; +5 ; 5. ; .5"
    return _put(draw, place, draw.choice(listed(values)), "either")


def wrong_word(draw: Random) -> Case:
    if draw.random() < 0.3:
        place = draw.choice(places("space.yaml name data.corpus suite"))
        wrong = r' "" ; " " ; a/b ; ../x ; "a\nb" ; "\ud800" ; "a\0b" ; [] ; {} ; [x] '
        case = _put(draw, place, draw.choice(listed(wrong)), says=())
        # A corpus that is not there is named itself.
        return replace(case, says=()) if "data" in place.trail else case
    return _put(draw, draw.choice(WORDS), draw.choice(NO_WORD))


def wrong_structure(draw: Random) -> Case:
    if draw.random() < 0.75:
        return _put(draw, draw.choice(MAPPINGS), draw.choice(NO_MAPPING))
    place = draw.choice(LISTS)
    inner = listed("[[1]] ; [null] ; [{}] ; [[]] ; [true] ; [x]")
    free = place.trail[-1] in ("plugins", "tasks")
    return _put(draw, place, draw.choice([*NO_LIST, *([] if free else inner)]))


def unknown_key(draw: Random) -> Case:
    place = draw.choice(MAPPINGS)
    known = list(at(DOCUMENTS[place.file], place.trail) or {})
    names = ["x", "Model", "depht", "__class__", "model_config", "options", "k" * 1000]
    names += [key[:-1] + "_" for key in known] + [key.upper() for key in known]
    name = draw.choice(names)
    # Beside arms the key is an arm's name, but its value is no arm.
    beside_arms = place.trail == ("arms",)
    value = draw.choice(
        listed("1" if beside_arms else "1 ; null ; {} ; [] ; x ; {choice: [1, 2]}")
    )
    says = (name,) if len(name) < 30 and not beside_arms else ()
    return _put(draw, Place(place.file, (*place.trail, name)), value, says=says)


def key_twice(draw: Random) -> Case:
    if draw.random() < 0.1:
        setting = (
            f"{draw.choice(['model', 'x', 'data'])}={{depth: 2, depth: {draw.choice([2, 4])}}}"
        )
        return Case(("flops", "config.yaml", "--set", setting), {}, says=("depth",))
    place = draw.choice([p for p in MAPPINGS if at(DOCUMENTS[p.file], p.trail)])
    inner = at(DOCUMENTS[place.file], place.trail)
    key = draw.choice(list(inner))
    again = Raw(draw.choice([key, f'"{key}"', f"'{key}'", f"!!str {key}"]))
    value = draw.choice([inner[key], Raw("1"), Raw("null"), {}])
    return _put(draw, place, {**inner, again: value}, says=(key,))


def odd_key(draw: Random) -> Case:
    place = draw.choice(MAPPINGS)
    inner = at(DOCUMENTS[place.file], place.trail) or {}
    value = draw.choice(listed("1" if place.trail == ("arms",) else "1 ; null ; {} ; x"))
    return _put(draw, place, {**inner, draw.choice(KEYS): value}, says=())


def missing_key(draw: Random) -> Case:
    if draw.random() < 0.1:
        tree = {key: SPACE[key] for key in SPACE if key not in ("explore", "measure", "confirm")}
        return _case(draw, "space.yaml", tree)
    place = draw.choice(REQUIRED)
    says = (str(place.trail[-1]).removesuffix("s"),)
    return _case(draw, place.file, without(DOCUMENTS[place.file], place.trail), says=says)


def candidate_beside(draw: Random) -> Case:
    part = draw.choice(["model", "optim", "data"])
    tree = {"candidate": CONFIG, part: CONFIG[part]}
    if draw.random() < 0.4:
        tree = {"candidate": draw.choice(NO_MAPPING)}
    return _case(draw, "config.yaml", tree, says=("candidate",))


# --- kinds: YAML


def yaml_scalars(draw: Random) -> Case:
    value = draw.choice(TAGGED)
    if draw.random() < 0.5:
        return _put(draw, draw.choice(NUMBERS), value, says=())
    return _put(draw, draw.choice([*WORDS, *INNER]), value, "either")


def yaml_anchors(draw: Random) -> Case:
    """Bombs of aliases, anchors that hold themselves, and broken ones."""
    depth, width = draw.choice([(9, 9), (6, 40), (30, 2), (100, 2), (12, 5)])
    lists, maps = ["&a0 [x, x]"], ["&m0 {x: 1}"]
    for level in range(1, depth):
        lists.append(f"&a{level} [" + ", ".join([f"*a{level - 1}"] * width) + "]")
        inner = ", ".join(f"k{n}: *m{level - 1}" for n in range(width))
        maps.append(f"&m{level} {{{inner}}}")
    bombs = [Raw(f"[{', '.join(each)}]") for each in (lists, maps)]
    held = listed("&a [*a] ; &a {b: *a} ; &a [[[*a]]] ; &a {choice: [*a]} ; &a {name: mod, x: *a}")
    broken = listed("*b ; &a &b 5 ; &a *a ; * x ; &! 5 ; {<<: 5} ; {<<: [1]} ; {<<: *x} ; &a")
    if draw.random() < 0.35:
        file = draw.choice(list(DOCUMENTS))
        return _put(draw, Place(file, ("x",)), draw.choice(bombs + held), says=())
    place = draw.choice([place for place in NUMBERS if not place.null])
    return _put(draw, place, draw.choice(bombs + held + broken), says=())


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
        steps = "".join(" " * n + "a:\n" for n in range(min(depth, 1000)))
        text = draw.choice([*texts, "- " * depth + "x", "? " * depth, steps])
        return _case(draw, draw.choice(list(DOCUMENTS)), text.encode())
    return _put(draw, draw.choice([*INNER, *LISTS, *WORDS]), Raw(draw.choice(texts)), says=())


def _block(file: str) -> bytes:
    return block(DOCUMENTS[file]).encode()


def not_yaml(draw: Random) -> Case:
    file = draw.choice(list(DOCUMENTS))
    good = _block(file)
    head, _, rest = good.partition(b"\n")
    nothing = draw.choice([b"", b"\n", b"# x\n", b"null", b"[]", b"5", b"text", b"- a\n- b", b"{"])
    noise = bytes(draw.randrange(256) for _ in range(64))
    bad = [
        *[nothing] * 3,
        *(b"---\n---\n", good + b"---\n" + good, good + b"...\nx: 1\n", b"x: |\n" + good),
        *(good + b"\0", head + b"\0\n" + rest, good + b"# \x01\n", good + b"x: \xff\n"),
        *(good + "x: é\n".encode("latin-1"), good + b"\xed\xa0\x80", good + b"  x: 1\n y: 2\n"),
        *(b"\t" + good, b"%YAML 9.9\n" + good, b"%TAG ! x\n%TAG ! y\n---\n" + good, b"? " + good),
        *(b"<!DOCTYPE html><html></html>\n", noise, codecs.BOM_UTF16_LE + b"\xd8", b"x" * 10**6),
        *(good.decode().encode("utf-32"), b"a: 'b\n" * 3 + good),
    ]
    return _case(draw, file, draw.choice(bad))


def changed_bytes(draw: Random) -> Case:
    """A file that was right, after some changes at random."""
    file = draw.choice(list(DOCUMENTS))
    text = bytearray(_block(file))
    how = draw.randrange(4)
    if how == 0:
        text = text[: draw.randrange(len(text))]
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(text) + 1)
        if how == 1:
            text[start : start + 1] = bytes([draw.randrange(256)])
        elif how == 2:
            text[start:start] = draw.choice(b"{ } [ ] : \n *a &a \" ' # - ? !! |".split(b" "))
    if how == 3:
        lines = bytes(text).split(b"\n")
        draw.shuffle(lines)
        text = bytearray(b"\n".join(lines))
    return _case(draw, file, bytes(text), "either")


def soup(draw: Random) -> Case:
    """Values of one place in another."""
    file = draw.choice(list(DOCUMENTS))
    tree = DOCUMENTS[file]
    for _ in range(draw.randint(1, 3)):
        source, target = draw.choice(trails(tree)), draw.choice(trails(tree))
        tree = put(tree, target, at(tree, source))
    return _case(draw, file, tree, "either")


def trails(tree: Any, start: Trail = ()) -> list[Trail]:
    """Every place in a document."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found: list[Trail] = []
    for key, value in items:
        found.append((*start, key))
        if isinstance(value, dict | list):
            found += trails(value, (*start, key))
    return found


# --- kinds: axes

AXES = places("""
space.yaml axes.optim.rate axes.optim.weight_decay arms.mod.model.capacity fixed.model.every
    explore.size.width
""")
MALFORMED = listed(
    """
    {choice: []} ; {choice: 3} ; {choice: x} ; {choice: null} ; {choice: {a: 1}} ;
    {choice: true} ; {choice: [null]} ; {choice: [[0.5]]} ; {choice: [0.5], step: 1} ;
    {choice: [0.5], default: 1} ; {choice: [0.5], int: [1, 2]} ; {choice: [0.5], 1: 1} ;
    {choice: [0.5], null: 1} ; {choice: [1, {choice: [2, 4]}]} ; {choice: [1, {int: [2, 4]}]} ;
    {choice: [2024-01-01]} ; {choice: [!!binary AQ==]} ; {choice: [true, false]} ;
    {choice: [1, true]} ; {choice: ["0.1", "0.2"]} ; {Choice: [0.5]} ; {choices: [0.1, 0.5]} ;
    {int: [8, 1]} ; {int: [1.5, 8]} ; {int: [true, 8]} ; {int: [1]} ; {int: 8} ; {int: []} ;
    {int: [1, 2, 3]} ; {int: {a: 1}} ; {int: [1, "2"]} ; {int: [1, null]} ; {int: [1, .inf]} ;
    {int: [1, .nan]} ; {int: [1, 1e30]} ; {int: [1, [2]]} ; {int: [1, HUGE]} ;
    {int: [1, 8], step: 0} ; {int: [1, 8], step: -1} ; {int: [1, 8], step: 1.5} ;
    {int: [1, 8], step: true} ; {int: [1, 8], step: "1"} ; {int: [1, 8], step: null} ;
    {int: [1, 8], step: HUGE} ; {int: [1, 8], steps: 1} ; {int: [1, 8], float: [0, 1]} ;
    {float: [1, 0]} ; {float: [0.5]} ; {float: 1} ; {float: [0.1, true]} ; {float: [0.1, "1"]} ;
    {float: [0.1, HUGE]} ; {float: [0.1, .nan]} ; {float: [-.inf, .inf]} ; {float: [0.1, null]} ;
    {log: [0, 1]} ; {log: [-1, 1]} ; {log: [1, 0.5]} ; {log: [a, b]} ; {log: 1} ;
    {log: [0.1, 1], step: 2} ; {float: [0.1, 1], step: 0.1} ; {step: 2} ; [0.25, 0.5] """.replace(
        "HUGE", str(10**400)
    )
)


def malformed_axis(draw: Random) -> Case:
    return _put(draw, draw.choice(AXES), draw.choice(MALFORMED))


NO_AXIS = places("""
space.yaml name seed suite data.corpus explore:(sampler windows) measure.ladder.0.depth
    measure.ladder.0.widths.0 confirm.seeds resources.threads arms.random.control_of
    arms.random.model.capacity
config.yaml model:(depth block router) optim.rate
""")


def misplaced_axis(draw: Random) -> Case:
    place = draw.choice([*INNER, *LISTS, *NO_AXIS])
    values = "{choice: [1, 2]} ; {choice: [{}]} ; {choice: [a]} ; {int: [1, 2]} ; {log: [0.1, 1]}"
    return _put(draw, place, draw.choice(listed(values)))


RUNG = "{budget: 2e7, depth: 2, widths:"
TWICE = f"""
space.yaml axes.optim.rate {{choice: [1, 1]}} ; {{choice: [1, 1.0]}}
space.yaml axes.optim.rate {{choice: [1e-2, 0.01, 0.02]}}
space.yaml axes.optim.weight_decay {{choice: [0.5, 0.50]}} ; {{choice: [1.0, 1]}}
space.yaml arms.mod.model.capacity {{choice: [0.5, 0.5]}} ; {{choice: [1, 0.5, 1.0]}}
space.yaml fixed.model.every {{choice: [1, 1]}} ; {{choice: [1, 1.0]}} ; {{choice: [1, 0x1]}}
space.yaml explore.size.width {{choice: [8, 8]}} ; {{choice: [8, 8.0]}}
space.yaml arms.mod.model.router {{choice: [random, random]}}
space.yaml arms.mod.model.router {{choice: [{{name: random}}, {{name: random}}]}}
space.yaml explore.budgets [2e7, 2e7] ; [2e7, 20000000]
space.yaml confirm.budgets [2e7, 2e7] ; [2e7, 20000000]
space.yaml measure.ladder.0.widths [8, 8, 12] ; [8, 12, 8.0]
space.yaml measure.ladder [{RUNG} [8]}}, {RUNG} [8]}}] ; [{RUNG} [8, 12]}}, {RUNG} [16, 12]}}]
"""


def said_twice(draw: Random) -> Case:
    if draw.random() < 0.05:
        return _put(draw, Place("suite.yaml", ("tasks",)), SUITE["tasks"] * 2)
    file, dotted, values = draw.choice(TWICE.strip().splitlines()).split(" ", 2)
    return _put(draw, Place(file, trail(dotted)), draw.choice(listed(values)))


def huge_grid(draw: Random) -> Case:
    tenths = ", ".join(f"{n / 10}" for n in range(1, 10))
    many = ", ".join(f"{n}e-6" for n in range(1, 10**5))
    seven = ("rate", "warmup", "final", "beta1", "beta2", "clip", "max_epochs")
    ints = "{int: [1, 64]}"
    tables: list[tuple[Expected, str]] = [
        ("refused", "explore.size.width {int: [8, 8000000000], step: 8}"),
        ("refused", "explore.size.width {int: [2, 1000000000000000000], step: 2}"),
        ("refused", "fixed.model.every {int: [1, 1000000000]}"),
        ("either", "axes.optim.batch_size {int: [1, 1000000000000]}"),
        ("either", "axes.optim.min_steps {int: [1, 999999]}"),
        ("either", f"axes {{optim: {{batch_size: {ints}, min_steps: {ints}, clip: {ints}}}}}"),
        (
            "refused",
            f"axes.optim {{{', '.join(f'{key}: {{choice: [{tenths}]}}' for key in seven)}}}",
        ),
        ("either", f"axes.optim.rate {{choice: [{many}]}}"),
    ]
    expected, line = draw.choice(tables)
    dotted, value = line.split(" ", 1)
    return _put(draw, Place("space.yaml", trail(dotted)), Raw(value), expected, says=())


def warm_up_at_a_huge_budget(draw: Random) -> Case:
    budget = Raw(draw.choice(["1e12", "1e14", "1e16", "1e18", "1e22"]))
    tree = put(SPACE, trail("fixed.model.schedule"), {"name": "every_nth", "warmup": 0.5})
    for dotted in ("explore.budgets.0", "confirm.budgets.0", "measure.ladder.0.budget"):
        tree = put(tree, trail(dotted), budget)
    tree = put(tree, ("fixed", "optim", "max_epochs"), Raw("1e9"))
    return _case(draw, "space.yaml", tree, "either", what=f"budgets {budget.text}")


def no_effect(draw: Random) -> Case:
    key = draw.choice(["depth", "width"])
    value = draw.choice(listed("2 ; 8 ; 64 ; {choice: [8, 12]}"))
    parent = draw.choice(["axes.model", "fixed.model", "arms.mod.model", "arms.random.model"])
    if draw.random() < 0.3:
        key = draw.choice(["block", "num_heads", "seq_len", "capacity", "router", "rate"])
        parent, value = "explore.size", draw.choice(listed("dense ; 1 ; 0.5"))
    return _put(draw, Place("space.yaml", trail(f"{parent}.{key}")), value)


MISFITS = r"""
arms.random.control_of random ; nobody ; "" ; "mod "
arms.mod.control_of mod ; dense
arms {} ; {random: {control_of: mod}} ; {a: {}, b: {control_of: a}, c: {control_of: b}}
arms.random.model.router {choice: [random, static]}
confirm.budgets [3e7]
explore.sampler random ; tpe
explore.trials 3
explore null
resources.keep none
plugins [none.py] ; [""] ; [.] ; [..] ; [corpus.txt] ; [~nosuchuser/x.py] ; ["a\0b.py"] ; ["~"]
plugins ["\ud800.py"] ; [config.yaml]
suite quik ; none.yaml ; . ; config.yaml ; corpus.txt
"""


def arms_that_do_not_fit(draw: Random) -> Case:
    if draw.random() < 0.15:
        name = draw.choice(["", "a/b", "a b", "a\nb", "x\n", "\u00fc"])
        return _put(draw, Place("space.yaml", ("arms", name)), SPACE["arms"]["dense"], says=())
    dotted, values = draw.choice(MISFITS.strip().splitlines()).split(" ", 1)
    return _put(draw, Place("space.yaml", trail(dotted)), draw.choice(listed(values)), says=())


# --- kinds: the command line


SYMBOLS = {
    "BYTES": ["caf\udce9", "\udcff\udcfe", "\udced\udca0\udc80", "a\udc80b"],
    "NUMBER": ["", "x", "nan", "1e999", "-1", "0x10", "1,5", "1 2", DIGITS, "é", "\udcff"],
    "WHOLE": ["", "x", "nan", "-1", "0x10", "2.5", "1e3", "inf", "1 2", DIGITS, "é", "\udcff"],
    "HUGE": ["18446744073709551616", "9" * 30],
    "EMPTY": [""],
    "LONG": ["x" * 5000],
    "LINES": ["a\nb"],
    "TAGS": ["a b", "&a [*a]", "1\ny: 2", "*a", "a: b: c", "[1", "[" * 900, "!!int x", "{a: {}"],
}
"""Words of `filled`."""


def filled(draw: Random, line: str) -> tuple[str, ...]:
    """Words of a line, with one of several in the place of `<one other>`."""

    def one(found: re.Match[str]) -> str:
        word = draw.choice(found[1].split())
        return draw.choice(SYMBOLS.get(word, [word]))

    words = re.findall(r"(?:<[^>]*>|[^\s<])+", line)
    return tuple(re.sub("<([^>]*)>", one, word) for word in words)


SETTINGS = """
<x EMPTY = =1 .=1 a..b=1 .a=1 a.=1 model=1 model.=1 model=[] data=5 __class__=1 LONG BYTES>
model.depth=<TAGS EMPTY BYTES>
optim.rate=<TAGS EMPTY BYTES>
model.<__class__ 0 x depht>=1
model.depth.x.y=1
data.corpus.x=1
data=<TAGS BYTES LONG>
data={corpus:a,corpus:b}
<LONG BYTES é>=1
model.<LONG BYTES>=1
"""


def malformed_override(draw: Random) -> Case:
    lines = draw.sample(SETTINGS.strip().splitlines(), draw.randint(1, 2))
    settings = [part for line in lines for part in ("--set", *filled(draw, line))]
    if draw.random() < 0.5:
        return Case((*_argv(draw, "config.yaml"), *settings))
    settings = [re.sub("^(model|optim)", r"fixed.\1", text) for text in settings]
    return Case((*_argv(draw, "space.yaml"), *settings))


ARGUMENTS = """
train config.yaml --flops <NUMBER 0 inf -inf 1e-9 1e300>
train config.yaml
train config.yaml --flops 2e7 --seed <WHOLE HUGE>
train config.yaml --flops 2e7 --out <study corpus.txt>
search space.yaml --workers <WHOLE 0 1000000000 HUGE>
search space.yaml --stage <x Explore EMPTY BYTES LONG>
search space.yaml --engine <x LOCAL EMPTY BYTES LONG>
search space.yaml --address <x EMPTY BYTES>
search space.yaml --storage <x s3://x EMPTY BYTES>
search space.yaml --ledger <x sqlite:///x :// BYTES LONG>
search space.yaml --ledger postgresql://<[ a:b:c % BYTES LONG>
search space.yaml --out <corpus.txt corpus.txt/x LONG>
best study --budget <NUMBER 0 -1 inf 3e7>
generate study/trials/TRIAL
generate study/trials/TRIAL --prompt a --tokens <WHOLE 0 HUGE>
generate study/trials/TRIAL --prompt a --tokens 2 --temperature <NUMBER inf -inf -0.5>
generate study/trials/TRIAL --prompt a --tokens 2 --top-k <WHOLE 0>
generate study/trials/TRIAL --prompt a --tokens 2 --top-p <NUMBER 0 1.5 inf>
generate study/trials/TRIAL --prompt a --tokens 2 --seed <WHOLE HUGE>
generate <EMPTY . config.yaml BYTES LONG study> --prompt a
eval study/trials/TRIAL --suite <EMPTY x . .. / BYTES LONG LINES>
eval study/trials/TRIAL --corpus <x *.none BYTES LONG [ LINES>
eval <EMPTY . config.yaml nowhere BYTES LONG>
<status best report> <EMPTY . nowhere config.yaml BYTES LONG LINES study/trials/TRIAL>
<plan search flops> <EMPTY . .. nowhere no.yaml BYTES LONG LINES ~ />
components <show check> <EMPTY x BYTES LONG LINES router: : x:mod>
components --plugin <EMPTY . no.py config.yaml BYTES LONG>
flops config.yaml --plugin <EMPTY . no.py corpus.txt BYTES>
<EMPTY x Plan BYTES LONG - --x --set>
plan space.yaml <x --x --out BYTES LONG --json=1>
flops config.yaml --set
"""


def wrong_argument(draw: Random) -> Case:
    argv = filled(draw, draw.choice(ARGUMENTS.strip().splitlines()))
    return Case(argv, study=any(part.startswith("study") for part in argv))


PLACES = r"""
what?now run%41 a#b ü a;b x=y a:b @ ~ -x a&b é/ü * [a] {a} $HOME ' " \ ... % ? http://x a@b:c %s {}
\n \x00
"""


def odd_place(draw: Random) -> Case:
    """Names that are right for a file system, whatever another grammar makes of them."""
    name = draw.choice([*PLACES.split(), "a b", "\n", "caf\udce9"])
    argv: tuple[str, ...] = draw.choice(
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


ROW = '{"question": "a", "values": [" b", " c"], "right": 1}\n'
ROWS: list[tuple[str, str]] = [
    *((text, "refused") for text in ("", "\n\n", "[]\n", "5\n", "null\n", "{}\n", "{" * 5000)),
    *((ROW + text, "refused") for text in ("[1, 2]\n", ROW[:20], '{"question": 5}\n', "5\n")),
    *((ROW.replace("1}", text + "}"), "refused") for text in ("7", "null", "NaN", '"x"', DIGITS)),
    *((ROW.replace('[" b", " c"]', text), "refused") for text in ("[]", "[1, [2]]", "3", "null")),
    *((ROW.replace('"a"', text), "either") for text in ('{"b": 1}', '""', "5", "0.5")),
    (ROW + '{"question": [1], "values": 3, "right": "x"}\n', "refused"),
    (ROW.replace('"a"', '"\\ud800"'), "refused"),
    ("[" * 10**5, "refused"),
    (ROW + "\u2028" + ROW, "either"),
]
SUITES = """
name "" ; a/b ; .. ; "x\\n" ; 5 ; null ; [] ; é
include [nowhere] ; x ; 5 ; [5] ; {}
tasks [] ; {} ; x ; [5] ; [[]] ; [null] ; [""] ; [nonsense] ; [{}]
tasks.0.task "" ; 5 ; null ; [] ; {}
tasks.0.dataset_path "modsearch:" ; modsearch:x ; "" ; nowhere_to_be_found
tasks.0.dataset_kwargs [] ; 5 ; x ; {} ; {x: 1}
tasks.0.dataset_kwargs.num 1000000000 ; 1000000000000
tasks.0.dataset_kwargs.size 1000000000 ; 1
tasks.0.dataset_kwargs.x 1
tasks.0.output_type x ; 5 ; null ; []
tasks.0.doc_to_text "{{ x" ; "{{ 1/0 }}" ; "{% x %}" ; "{{ a.b.c }}"
tasks.0.doc_to_target "{{ x" ; "{{ 1/0 }}" ; "{% for %}"
tasks.0.x 1 ; {} ; x
"""
LOOSE_SUITES = """
tasks.0.metric_list 5 ; x ; [5] ; [{metric: x}] ; [{}]
tasks.0.metric_list.0.aggregation x ; 5
tasks.0.test_split x ; 5 ; []
tasks.0.num_fewshot x ; -1 ; [] ; 1000000000
tasks.0.doc_to_text 5 ; null ; [] ; x
"""


def wrong_suite(draw: Random) -> Case:
    if draw.random() < 0.4:
        return _rows(draw)
    loose = draw.random() < 0.3
    table = LOOSE_SUITES if loose else SUITES
    dotted, values = draw.choice(table.strip().splitlines()).split(" ", 1)
    place = Place("suite.yaml", trail(dotted))
    expected: Expected = "either" if loose else "refused"
    return _put(draw, place, draw.choice(listed(values)), expected, says=())


def _rows(draw: Random) -> Case:
    """A task whose documents are lines of JSON."""
    task = {
        **SUITE["tasks"][0],
        "dataset_path": "modsearch:jsonl",
        "dataset_kwargs": {"file": "rows.jsonl"},
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": "values",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    rows, expected = draw.choice(ROWS)
    content: bytes | None = rows.encode()
    if draw.random() < 0.15:
        content, expected = draw.choice([None, ROW.encode("utf-16"), b"\xff\n"]), "refused"
    case = _case(draw, "suite.yaml", {**SUITE, "tasks": [task]})
    return replace(
        case,
        files={**case.files, "rows.jsonl": content},
        expected=expected,
        says=("rows.jsonl",) if expected == "refused" else (),
        what="a task with rows of JSON",
    )


def wrong_corpus(draw: Random) -> Case:
    place = Place("space.yaml", ("data", "corpus"))
    if draw.random() < 0.5:
        corpora = r"""nowhere ; "*.none" ; "[" ; empty/ ; ~nosuchuser/x ; "a\nb" ; corpus.txt/x ;
            "{" ; "a\0b" ; "\ud800" ; "empty/**" ; http://x ; none ; """
        case = _put(draw, place, draw.choice(listed(corpora + "x" * 5000)), says=())
        return replace(case, files={**case.files, "empty/": b""}, says=())
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
    name = draw.choice(["corpus.txt", "other.txt.gz", "other.gz"])
    broken = [head, head + b"x" * 99, b"\x1f\x8b", b"no gz"]
    content = draw.choice([b"", b"\n", b"x", b"\0" * 99, *broken])
    fine = name == "corpus.txt" and len(content) > 1
    expected: Expected = "either" if fine or not content else "refused"
    case = _put(draw, place, name, expected, says=(name,) if expected == "refused" else ())
    return replace(case, files={**case.files, name: content}, says=case.says[-1:])


FAILING = r"""
x = ;; import nowhere ;; raise Exception('x' * 10000) ;; raise Exception('a\n' * 99) ;; 1 / 0 ;;
import sys; sys.exit(0) ;; import sys; sys.exit('x' * 9999) ;; raise SystemExit ;;
raise KeyError ;;
f = lambda: f(); f() ;; raise BaseException('x') ;; raise GeneratorExit ;; raise MemoryError ;;
raise type('E', (Exception,), {'__str__': lambda self: 1 / 0}) ;; raise Exception('\ud800') ;;
raise Exception('\x1b[31mred') ;; raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'x') ;; yield ;;
assert False ;; a = b ;; raise OSError(28, 'No space', 'x' * 9999) ;; return ;;
raise StopIteration ;;
raise ExceptionGroup('x' * 999, [ValueError()]) ;; import modsearch.nowhere ;;
from modsearch.nn.contracts import ROUTERS as R; R.register('mine')(5) ;;
from modsearch.nn.contracts import ROUTERS as R; R.register('mine')(int) ;;
from modsearch.nn.contracts import ROUTERS as R; R.register('mine')(lambda: 1) ;;
from modsearch.nn.contracts import ROUTERS as R; R.register('mine' * 999)(int) ;;
from modsearch.nn.contracts import ROUTERS as R, Router; R.register(5)(Router) ;;
from modsearch.nn.contracts import ROUTERS as R, Router; R.register('random')(Router) ;;
from modsearch.nn.contracts import ROUTERS as R, Router; R.register('')(Router)
"""
LATER = """
return Cost() -> return None
return Cost() -> return 5
return Cost() -> 1 / 0
return Cost() -> raise Exception('x' * 9999)
return Cost() -> import sys; sys.exit(3)
return Cost() -> return Cost.product('router', 'x')
return Cost() -> return Cost.product('nowhere', 5)
Config = Options -> Config = 5
Config = Options -> Config = None
Config = Options -> class Config: pass
Config = Options -> class Config(Options): x: int
super().__init__(width, capacity, options) -> pass
super().__init__(width, capacity, options) -> 1 / 0
super().__init__(width, capacity, options) -> self.x
return num_selected(self.capacity, num_positions) -> return None
return num_selected(self.capacity, num_positions) -> return 10**9
return num_selected(self.capacity, num_positions) -> return -1
(self, width, capacity, options) -> (self)
def forward -> def forwart
def cost -> def coast
def slots -> def slot
class Mine(Router) -> class Mine
"""
BROKEN_BYTES = ["(" * 500 + ")" * 500, "\0", "\t x\ny", "x = 'é'\0", "# -*- coding: nope -*-"]


def wrong_plugin(draw: Random) -> Case:
    """A file that fails as it is read, or whose component fails when a model is made of it."""
    if draw.random() < 0.4:
        old, new = draw.choice(LATER.strip().splitlines()).split(" -> ")
        use = """flops config.yaml --plugin p.py --set model.router=mine
            components show mine --plugin p.py
            plan space.yaml --set plugins=[p.py] --set fixed.model.router=mine
            plan space.yaml --plugin=p.py --set arms.mod.model.router=mine"""
        source = PLUGIN.replace(old, new).encode()
        argv = tuple(draw.choice(use.splitlines()).split())
        return Case(argv, {"p.py": source}, "either", what=f"{old} -> {new}")
    source = draw.choice([*FAILING.strip().split(" ;;"), *BROKEN_BYTES]).strip(" ").encode()
    if draw.random() < 0.1:
        source = draw.choice([b"\xff", "x = 'é'".encode("utf-16"), b"x = '\xe9'"])
    read = """components --plugin p.py
        flops config.yaml --plugin p.py
        plan space.yaml --plugin p.py
        plan space.yaml --set plugins=[p.py]"""
    argv = tuple(draw.choice(read.splitlines()).split())
    return Case(argv, {"p.py": source}, "refused", ("p.py",))


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
        *(b"", b"null", b"[]", b"{}", b"5", b'"x"', b"true", b"NaN", b"{", b'{"x": 1}'),
        *(b"[" * 10**5, b'{"a":' * 10**4, b"9" * 5000, b"\0" * 100, b"\xff\xfe\xfd"),
        *(b"[" + before + b"]", b'[{"x": 1}]\n[1]\n', b"null\n" + before, b'{"step": "x"}\n'),
        before[: draw.randrange(len(before))],
        before.decode(errors="replace").encode("utf-16"),
        before + b"x",
        bytes(draw.randrange(256) for _ in range(200)),
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
    keys = draw.choice(trails(tree))
    value = draw.choice([None, -1, 0, True, "x", [], {}, [1], 1e308, 10**30, "\ud800", "x" * 9999])
    tree = put(tree, keys, value) if draw.random() < 0.8 else without(tree, keys)
    text = json.dumps(tree).replace("1e+308", draw.choice(["1e999", "NaN", "-Infinity", "1e308"]))
    if one_a_line:
        return "\n".join([*lines[:number], text, *lines[number + 1 :], ""]).encode()
    return text.encode()


def _reader(draw: Random, what: str, name: str, trial: str) -> tuple[str, ...]:
    folder = f"study/{name.rpartition('/eval/')[0] or name.rpartition('/')[0]}"
    folder = folder.removesuffix("/checkpoint")
    common: list[tuple[str, ...]] = [
        *[("status", "study")] * 6,
        *[("status", "study", "--json")] * 4,
        *[("best", "study")] * 3,
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


RIGHT = """
config.yaml . ; model.depth 2.0 ; model.ffn null ; optim.rate 5e-3 ; optim.rate 1 ; optim {}
config.yaml model.router {name: token_choice, bias_rate: 0.1} ; data {} ; model.capacity 1
config.yaml model.num_kv_heads null ; model.schedule {name: explicit, layers: [1]} ; optim.clip 1e2
space.yaml . ; confirm.seeds 2.0 ; explore.size.width {choice: [8, 12]} ; explore.trials null
space.yaml explore.size.width {int: [8, 12], step: 4} ; axes.optim.rate {choice: [0.01]}
space.yaml suite null ; confirm null ; plugins [] ; resources.workers auto ; explore.budgets [2e7]
space.yaml axes.optim.rate {log: [0.001, 0.1]} ; fixed.model.num_kv_heads null ; resources {}
"""


def right(draw: Random) -> Case:
    """Unusual, but right: strictness must not go too far."""
    file, changes = draw.choice(RIGHT.strip().splitlines()).split(" ", 1)
    dotted, _, value = draw.choice(changes.split(" ; ")).partition(" ")
    tree = DOCUMENTS[file] if dotted == "." else put(DOCUMENTS[file], trail(dotted), Raw(value))
    if "log" in value:
        tree = put(put(tree, ("explore", "sampler"), "random"), ("explore", "trials"), 2)
    if file == "config.yaml" and draw.random() < 0.1:
        tree = {"candidate": tree}
    text = draw.choice([block(tree), block(tree), flow(tree)])
    dressed = [text, text, "\ufeff" + text, text.replace("\n", "\r\n"), f"# x\n---\n{text}\n...\n"]
    case = _case(draw, file, draw.choice(dressed).encode(), "accepted", what=f"{dotted} {value}")
    sets = "model.depth=4 ; optim={rate: 0.1} ; data.corpus=a=b ; model.ffn= ; model.router=static"
    if case.argv[0] != "flops":
        return replace(case, argv=("plan", file) if file == "space.yaml" else ("flops", file))
    if draw.random() < 0.3:
        case = replace(case, argv=(*case.argv, "--set", draw.choice(sets.split(" ; "))))
    return case


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
