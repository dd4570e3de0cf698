"""Benchmarks run seldom: what they take from the package must be there all the same."""

import ast
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path: Path) -> None:
    lacking = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        if node.module.startswith("modsearch"):
            module = import_module(node.module)
            there = set(dir(module))
            if "__path__" in there:
                there |= {each.name for each in iter_modules(module.__path__)}
        elif (path.parent / f"{node.module}.py").is_file():
            source = ast.parse((path.parent / f"{node.module}.py").read_text())
            there = {each.id for each in ast.walk(source) if isinstance(each, ast.Name)}
            defined = (ast.FunctionDef, ast.ClassDef)
            there |= {each.name for each in source.body if isinstance(each, defined)}
        else:
            continue
        names = {alias.name for alias in node.names}
        lacking += [f"{node.module}.{name}" for name in sorted(names - there)]
    assert not lacking
