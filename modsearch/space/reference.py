"""docs/space.md: every key of a search space and of a candidate, with what it takes and means.

    python -m modsearch.space.reference > docs/space.md

Types, bounds and defaults are those of the models that read a space, and meanings are the texts
below their fields; a test holds that the page is up to date.
"""

import ast
import inspect
import sys
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from modsearch.config.data import DataConfig, SourceConfig
from modsearch.config.model import Component, ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.runtime import Resources
from modsearch.errors import shown
from modsearch.registry.listing import kind_of
from modsearch.space.explore import Explore
from modsearch.space.space import Arm, Confirm, Measure, Rung, Section, Space

SPACE: tuple[tuple[str, type[BaseModel]], ...] = (
    ("", Space),
    ("data.", DataConfig),
    ("data.corpus.", SourceConfig),
    ("fixed.", Section),
    ("axes.", Section),
    ("arms.NAME.", Arm),
    ("explore.", Explore),
    ("measure.", Measure),
    ("measure.ladder.N.", Rung),
    ("confirm.", Confirm),
    ("resources.", Resources),
)
"""Models of a space, and where they stand in it."""

HEAD = """\
# Every key of a search space

<!-- written by `make docs` from modsearch/space/reference.py and the models that it names -->

A space is one YAML file; `search_spaces/quickstart.yaml` is one to copy. A key that stands
nowhere below is an error, and so is a value of another type or out of its bounds. Times are in
seconds, budgets in training FLOPs (forward and backward), losses in nats per token (per
byte where a study has several tokenizers). `--set a.b=c` overrides one value of a file, lists as a
whole.

## Stages

A study has up to three stages, in this order, and a trial is used for one of them only.
`explore` tries points of the open axes at one size, or at several, and ranks recipes:
everything of a candidate but its size. `measure` trains one recipe an arm, the best of explore
or the fixed one, on a ladder of sizes at every budget: the isoFLOP curves. `confirm` trains the
size nearest to each arm's minimum and its two neighbours again, on fresh seeds, until the headline
is known, and scores them on test text. Each may be left out, but an open axis needs explore, and
a confirm budget needs a ladder.

## Arms and controls

An arm is a family of candidates: `fixed`, then `axes`, then the arm's own values, key by key.
An arm with `control_of` is a control: it is not explored or measured, but takes recipe and size
of the arm that it names, and puts its own values on top. It may have no open axes.

## Axes

Wherever a value of `model` or `optim` stands in `fixed`, `axes` or an arm, and at depth and
width of `explore.size`, a distribution may stand in its place:

| | |
| --- | --- |
| `{choice: [A, B, ...]}` | one of the values, also a component with open options of its own |
| `{int: [LOW, HIGH], step: S}` | LOW, LOW + S, ... up to HIGH; step 1 where it is left out |
| `{float: [LOW, HIGH]}` | a real number, evenly spread; no grid |
| `{log: [LOW, HIGH]}` | a real number over 0, evenly spread in its logarithm; no grid |

Sampler `grid` runs every point, and all others train `explore.trials` of them for each arm and
budget: `random` and `qmc` whatever comes back, `tpe`, `gp` and `nsga2` by what has come back.
`isoflop` trains so many at the most: which of an arm's budgets it spends next, and when it has
enough, is its own choice. What stands in `axes` is open in every arm, with the same values.
`measure.sampler` is `grid` or `isoflop` (docs/search.md says how it chooses sizes).

A component (block, ffn, router, schedule, in `optim` optimizer and schedule, and the sampler) is a
name, or `{name: NAME, OPTION: VALUE}`; `modsearch components` lists them, and
`modsearch components show NAME` says what a component's options are.
"""

PARTS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("`model`", "Of `fixed`, `axes`, arms, and a candidate's configuration.", ModelConfig),
    (
        "`optim`",
        "Of the same places: AdamW, warm-up and cosine decay, where nothing else is said.",
        OptimConfig,
    ),
)


def page() -> str:
    """The whole page, in Markdown."""
    keys = "\n".join(row for prefix, model in SPACE for row in _rows(prefix, model))
    sections = [HEAD, f"## Keys\n\n{_TABLE}\n{keys}\n"]
    for title, where, model in PARTS:
        rows = "\n".join(_rows("", model))
        sections.append(f"## Keys of {title}\n\n{where}\n\n{_TABLE}\n{rows}\n")
    sections.append(
        "A configuration for `train` and `flops` has `model`, `optim` and `data` at its top, each "
        "with\nthese keys, nothing open, and depth and width in `model`.\n"
    )
    return "\n".join(sections)


_TABLE = "| key | type | default | meaning |\n| --- | --- | --- | --- |"


def _rows(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    meanings = _meanings(model)
    for key, field in model.model_fields.items():
        cells = (f"`{prefix}{key}`", kind_of(field), _default(field), meanings[key])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Component):
        return f"`{value.name}`"
    if isinstance(value, BaseModel) or value in ({}, []):
        return ""
    return value if isinstance(value, str) else shown(value)


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field in the sources, of base classes, too."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            [tree] = ast.parse(inspect.getsource(cls)).body
            assert isinstance(tree, ast.ClassDef)
            for field, text in zip(tree.body, tree.body[1:], strict=False):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                        ast.Constant(str(says))
                    ):
                        found[name] = " ".join(says.split())
    return found


if __name__ == "__main__":
    sys.stdout.write(page())
