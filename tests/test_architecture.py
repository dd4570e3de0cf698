"""The import layers, where heavy libraries may be used, and what lies in which folder."""

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "modsearch"

LAYERS = """
cli
study report.page testing.*
trial engines.* report.tables report.routing report.figures progress forecast
evaluate status search.*
lm suites speed
train budget documents provenance mirror nn.generate
candidates completeness machine reference
observe
nn.model
nn.routers.* nn.blocks.* nn.ffn.* nn.schedules
nn.experts
nn.layers nn.selection data space lock analysis.*
store
reading
nn.contracts inventory
wording
registry
plugins
cost components schema axes texts nn.cache nn.passes
errors scratch __init__
"""
"""A module imports lower rows only, never its own row."""

CHAINS = [
    ("search.samplers", "search.ledger"),
    ("analysis.fits", "analysis.compare", "analysis.numbers", "analysis.power", "analysis.claims"),
    ("testing.checks", "testing.conformance"),
]
"""Within one row of one package, a later name may import an earlier one."""

ONLY = {
    "components": set(),
    "nn.contracts": {
        "wording",
        "registry",
        "components",
        "cost",
        "schema",
        "errors",
        "nn.cache",
        "nn.passes",
    },
    "engines.*": {"schema", "errors", "scratch"},
}
"""Modules that import less than their row allows."""

QUARANTINE = {
    "optuna": ("search.*",),
    "ray": ("engines.ray",),
    "lm_eval": ("lm", "evaluate"),
    "matplotlib": ("report.figures",),
}
"""Libraries that few places alone may import."""

TORCH_FREE = (
    "analysis*",
    "report*",
    "schema",
    "store",
    "components",
    "axes",
    "reading",
    "wording",
    "space",
    "status",
    "completeness",
    "lock",
    "texts",
    "data",
    "documents",
    "suites",
    "registry",
    "plugins",
    "inventory",
    "reference",
    "cost",
    "errors",
)


def module_name(path: Path) -> str:
    """`nn.model` for modsearch/nn/model.py; `nn` for the package itself, `__init__` for ours."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}
ROWS = list(reversed([row.split() for row in LAYERS.strip().splitlines()]))


def matches(name: str, *patterns: str) -> bool:
    """Whether any pattern fits."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def layer(name: str) -> int:
    """The row of a module, from below; a package's own file stands with the root's."""
    name = "__init__" if SOURCES[name].name == "__init__.py" else name
    for number, row in enumerate(ROWS):
        if matches(name, *row):
            return number
    pytest.fail(f"modsearch.{name} has no place in LAYERS: give it one in {Path(__file__).name}")


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


def imports(name: str) -> list[str]:
    """Full names of all that a module imports, inside functions too."""
    return [target for node in ast.walk(TREES[name]) for target in imported(node)]


def own_imports(name: str) -> set[str]:
    """Those of our own, without the leading `modsearch.`."""
    own = [target for target in imports(name) if target.partition(".")[0] == "modsearch"]
    return {target.partition(".")[2] or "__init__" for target in own}


def may_import(name: str, target: str) -> bool:
    """Whether the table allows it."""
    for pattern, allowed in ONLY.items():
        if matches(name, pattern) and target not in allowed:
            return False
    if matches(target, "testing.*", "testing") and not matches(name, "cli", "testing.*"):
        return False
    chained = any(
        {name, target} <= set(chain) and chain.index(target) < chain.index(name)
        for chain in CHAINS
    )
    return chained or layer(target) < layer(name)


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
def test_imports_lower_rows_only(name: str) -> None:
    unknown = own_imports(name) - set(SOURCES)
    assert not unknown, f"modsearch.{name} imports what does not exist: {unknown}"
    row = layer(name)
    wrong = [target for target in sorted(own_imports(name)) if not may_import(name, target)]
    assert not wrong, f"modsearch.{name} (row {row}) may not import {', '.join(wrong)}"


@pytest.mark.parametrize("name", SOURCES)
def test_heavy_libraries_stay_in_their_place(name: str) -> None:
    libraries = {target.partition(".")[0] for target in imports(name)}
    for library, places in QUARANTINE.items():
        assert library not in libraries or matches(name, *places), (
            f"modsearch.{name} imports {library}, which only {' and '.join(places)} may"
        )
    if not matches(name, "cli", *sum(QUARANTINE.values(), ())):
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


@pytest.mark.parametrize("folder", ["search_spaces", "evals", "reports"])
def test_data_folders_hold_no_python(folder: str) -> None:
    assert not list((ROOT / folder).rglob("*.py")), f"{folder}/ is for data; code is in modsearch/"
