"""Which rooms import which, where heavy libraries may be used, and what lies in which folder."""

import ast
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "modsearch"

ROWS = (
    ("__init__", "errors"),
    ("config",),
    ("analysis", "registry", "store"),
    ("data", "nn", "optim"),
    ("cost", "schema", "space"),
    ("training",),
    ("engines", "evaluation", "planning", "sampling"),
    ("evaluate", "study"),
    ("reporting", "testing", "tracking"),
    ("api",),
    ("cli",),
)
"""Rooms, and modules at the root, from below: each imports those of lower rows only."""

ONLY = {
    "engines": {
        "config.records",
        "config.runtime",
        "engines.contract",
        "errors",
        "store.killer",
        "store.scratch",
    },
    "registry.table": set(),
}
"""What imports less than its row allows."""

CHECKING = "TYPE_CHECKING"
LONGEST_CHAIN = 10
"""Imports, one after the other."""

PEERS = ("nn.blocks", "nn.ffn", "nn.routers")
"""Folders whose files do not know each other."""

QUARANTINE = {
    "optuna": ("sampling.*",),
    "ray": ("engines.ray",),
    "lm_eval": ("evaluation.*",),
    "matplotlib": ("reporting.figures*",),
    "datasets": ("data.hub", "data.network", "evaluation.*"),
    "huggingface_hub": ("data.hub", "data.network", "evaluation.*"),
    "pyarrow": ("data.tables", "evaluation.local_data"),
    "transformers": ("evaluation.*",),
    "mlflow": ("tracking.mlflow",),
    "trackio": ("tracking.trackio",),
    "wandb": ("tracking.wandb",),
}
"""Libraries that few places alone may import."""

TORCH_FREE = (
    "analysis*",
    "config*",
    "data*",
    "errors",
    "evaluation.documents",
    "evaluation.local_data",
    "evaluation.suites",
    "evaluation.texts",
    "nn.cost",
    "registry*",
    "reporting*",
    "space",
    "space.axes",
    "space.points",
    "space.reference",
    "space.space",
    "store*",
    "study",
    "study.completeness",
    "study.progress",
    "study.status",
)


def module_name(path: Path) -> str:
    """`nn.model` for modsearch/nn/model.py; `nn` for the package itself, `__init__` for ours."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}


def matches(name: str, *patterns: str) -> bool:
    """Whether any pattern fits."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def row(name: str) -> int:
    """The row of a module's room, from below."""
    room = name.partition(".")[0]
    for number, rooms in enumerate(ROWS):
        if room in rooms:
            return number
    pytest.fail(f"modsearch.{name} has no place in ROWS: give it one in {Path(__file__).name}")


def imported(node: ast.AST) -> list[str]:
    """Full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert not node.level, f"line {node.lineno}: imports are absolute"
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        known = [name.removeprefix("modsearch.") in SOURCES for name in full]
        return [
            name if is_module else str(node.module)
            for name, is_module in zip(full, known, strict=True)
        ]
    return []


@cache
def imports(name: str, *, for_types: bool = True) -> list[str]:
    """Full names of all that a module imports, inside functions too; with or without those that
    are for types alone."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(TREES[name]):
        if not for_types and isinstance(node, ast.If) and ast.unparse(node.test) == CHECKING:
            skipped |= set(ast.walk(node))
    nodes = (node for node in ast.walk(TREES[name]) if node not in skipped)
    return [target for node in nodes for target in imported(node)]


@cache
def own_imports(name: str, *, for_types: bool = True) -> set[str]:
    """Those of our own, without the leading `modsearch.`; of the package itself none: its names
    are imported when they are used."""
    if name == "__init__":
        return set()
    own = [
        target
        for target in imports(name, for_types=for_types)
        if target.partition(".")[0] == "modsearch"
    ]
    return {target.partition(".")[2] or "__init__" for target in own}


def may_import(name: str, target: str) -> bool:
    """Whether the table allows it."""
    for folder, allowed in ONLY.items():
        if name.startswith(folder) and target not in allowed:
            return False
    for folder in PEERS:
        if name.startswith(f"{folder}.") and target.startswith(f"{folder}."):
            return False
    if target.startswith("testing") and not name.startswith(("api.", "cli.", "testing.")):
        return False
    same_room = name.partition(".")[0] == target.partition(".")[0]
    return same_room or row(target) < row(name)


@cache
def reachable(name: str) -> set[str]:
    """A module and all of ours that it imports, directly or not."""
    found: set[str] = set()
    todo = {name}
    while todo:
        found |= todo
        todo = {target for module in todo for target in own_imports(module)}
        todo &= set(SOURCES) - found
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_imports_lower_rooms_only(name: str) -> None:
    unknown = own_imports(name) - set(SOURCES)
    assert not unknown, f"modsearch.{name} imports what does not exist: {unknown}"
    wrong = [target for target in sorted(own_imports(name)) if not may_import(name, target)]
    assert not wrong, f"modsearch.{name} (row {row(name)}) may not import {', '.join(wrong)}"


GRAPH = {name: own_imports(name, for_types=False) & set(SOURCES) for name in SOURCES}
"""What imports what when it runs."""


def test_there_is_no_circle_and_no_long_chain() -> None:
    longest: dict[str, list[str]] = {}
    for name in TopologicalSorter(GRAPH).static_order():
        below = [longest[target] for target in GRAPH[name]]
        longest[name] = [name, *max(below, key=len, default=[])]
    chain = max(longest.values(), key=len)
    assert len(chain) - 1 <= LONGEST_CHAIN, " > ".join(chain)


@pytest.mark.parametrize("name", SOURCES)
def test_heavy_libraries_stay_in_their_place(name: str) -> None:
    libraries = {target.partition(".")[0] for target in imports(name)}
    for library, places in QUARANTINE.items():
        assert library not in libraries or matches(name, *places), (
            f"modsearch.{name} imports {library}, which only {' and '.join(places)} may"
        )
    if not matches(name, "api.*", "cli.*", *sum(QUARANTINE.values(), ())):
        for function in ast.walk(TREES[name]):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = [node.lineno for node in ast.walk(function) if imported(node)]
                assert not inner, f"modsearch.{name}: import inside a function, line {inner}"


@pytest.mark.parametrize("name", [name for name in SOURCES if matches(name, *TORCH_FREE)])
def test_torch_is_out_of_reach(name: str) -> None:
    for module in sorted(reachable(name)):
        libraries = {target.partition(".")[0] for target in imports(module)}
        assert "torch" not in libraries, f"modsearch.{name} reaches torch through {module}"


def test_reports_work_without_torch() -> None:
    names = [f"modsearch.{name}" for name in SOURCES if matches(name, *TORCH_FREE)]
    code = (
        "import importlib, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError('torch is blocked')\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"for name in {names}: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", SOURCES)
def test_module_has_a_docstring(name: str) -> None:
    assert ast.get_docstring(TREES[name]), f"modsearch.{name} does not say what it is for"


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils.py", "helpers.py", "common.py"} & {path.name for path in SOURCES.values()}
    assert not drawers, f"name a module after what it does, not {drawers}"


def test_attributes_are_seldom_looked_up_by_name() -> None:
    calls = [
        node.func.id
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    found = calls.count("getattr") + calls.count("hasattr")
    lines = sum(path.read_text().count("\n") for path in SOURCES.values())
    assert 1000 * found <= 2 * lines, f"{found} getattr and hasattr in {lines} lines"


def test_the_root_holds_rooms() -> None:
    files = [path.name for path in PACKAGE.iterdir() if path.is_file()]
    assert len(files) <= 6, f"modules go into rooms, not beside them: {', '.join(sorted(files))}"


@pytest.mark.parametrize("folder", ["search_spaces", "evals", "reports"])
def test_data_folders_hold_no_python(folder: str) -> None:
    assert not list((ROOT / folder).rglob("*.py")), f"{folder}/ is for data; code is in modsearch/"
