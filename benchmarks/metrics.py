"""Size and style of the code: the figures that the house style gives as a guide."""

import ast
import io
import statistics
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """A parsed file; a line is code unless it is empty, a comment or part of a docstring."""

    tree: ast.Module
    lines: int
    comments: int
    docstrings: int
    code: int

    def nodes(self, *kinds: type[ast.AST]) -> list[ast.AST]:
        """All nodes of these kinds."""
        return [node for node in ast.walk(self.tree) if isinstance(node, kinds)]


def read(path: Path) -> Source:
    """Parse a file and count its lines."""
    text = path.read_text()
    tree = ast.parse(text)
    docstrings = {line for node in ast.walk(tree) for line in docstring_lines(node)}
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    layout = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code = {
        line
        for token in tokens
        if token.type not in layout | {tokenize.COMMENT}
        for line in range(token.start[0], token.end[0] + 1)
    }
    comments = sum(token.type == tokenize.COMMENT for token in tokens)
    return Source(tree, text.count("\n"), comments, len(docstrings), len(code - docstrings))


def docstring_lines(node: ast.AST) -> Iterable[int]:
    """Lines of strings that stand alone in a body: docstrings, also those of attributes."""
    body = node.body if isinstance(node, DOCUMENTED) else []
    for part in body:
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
            yield from range(part.lineno, (part.end_lineno or part.lineno) + 1)


def num_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters without `self` and `cls`."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in {"self", "cls"}])


def is_broad(handler: ast.AST) -> bool:
    """Whether an `except` catches everything."""
    assert isinstance(handler, ast.ExceptHandler)
    caught = [] if handler.type is None else list(ast.walk(handler.type))
    names = {node.id for node in caught if isinstance(node, ast.Name)}
    return handler.type is None or bool(names & {"Exception", "BaseException"})


def spread(values: Sequence[int]) -> str:
    """Median, 90th percentile and largest."""
    ordered = sorted(values) or [0]
    p90 = ordered[min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))]
    return f"median {statistics.median(ordered):g}, p90 {p90}, max {ordered[-1]}"


def show(name: str, value: str, guide: str) -> None:
    """One row."""
    print(f"{name:<22} {value:<36} {guide}")


def main() -> None:
    """Print the figures of the package, each beside its guide."""
    package = [read(path) for path in sorted((ROOT / "modsearch").rglob("*.py"))]
    tests = [read(path) for path in sorted((ROOT / "tests").rglob("*.py"))]
    modules = [source for source in package if source.code > 1]
    code = sum(source.code for source in package)
    functions = [
        node
        for source in package
        for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]
    handlers = [node for source in package for node in source.nodes(ast.ExceptHandler)]
    broad = sum(is_broad(handler) for handler in handlers)
    comments = sum(source.comments for source in package)
    docstrings = sum(source.docstrings for source in package)

    show("code", f"{code} lines in {len(modules)} modules", "")
    show("function, lines", spread(lengths), "median 7 to 13, p90 40 to 47")
    show("file, lines", spread([s.lines for s in modules]), "median 120 to 230, few over 500")
    show("arguments", spread([num_arguments(node) for node in functions]), "p90 at most 5")
    show("comments", f"{100 * comments / code:.1f} per 100 code lines", "about 10")
    show("docstrings", f"{100 * docstrings / code:.1f} lines per 100 code lines", "about 20")
    show("broad excepts", f"{1000 * broad / code:.2f} per 1,000 code lines", "at most 0.6")
    show("tests / code", f"{sum(s.code for s in tests) / code:.2f}", "0.6 to 0.8")


if __name__ == "__main__":
    main()
