"""How much the rooms talk to each other while a space is read, planned and asked for its cells.

Counts calls of one run under a profiler: distinct pairs of functions that lie in different rooms
of `modsearch/`, how many of them climb to a higher room, and how often `space.space` and
`space.axes` hand over to each other. Calls through a library count for ours on either side of it.

    python benchmarks/walk.py [search_spaces/quickstart.yaml]
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import modsearch
from modsearch.config.data import CorpusFacts
from modsearch.config.records import Stage
from modsearch.planning.cells import planned_cells
from modsearch.space.candidates import load_space
from modsearch.store.directory import StudyDirectory
from modsearch.study import completeness
from modsearch.study.stages import Stages
from modsearch.training.machine import runtime

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from test_architecture import ROWS

PACKAGE = Path(modsearch.__file__).parent
QUICKSTART = PACKAGE.parent / "search_spaces" / "quickstart.yaml"

ROW = {room: number for number, rooms in enumerate(ROWS) for room in rooms}
ACCESS = ("__iter__", "__getitem__", "__len__")
"""Of a mapping: a look, no call."""
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")

FACTS = CorpusFacts(
    name="made up",
    fingerprint="0" * 16,
    train_tokens=10**7,
    validation_tokens=10**6,
    test_tokens=10**6,
    bytes_per_token=1.0,
    unigram_entropy=3.0,
    bigram_entropy=2.0,
)

Function = tuple[str, str]
"""Module, without the leading `modsearch.`, and name inside it."""


class Calls:
    """Counts calls from one function of ours to another."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Function, Function]] = Counter()

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        """What `sys.setprofile` calls."""
        called = _function(frame) if event == "call" else None
        if called is None:
            return
        above = frame.f_back
        while above is not None and (caller := _function(above)) is None:
            above = above.f_back
        if above is not None and caller is not None:
            self.counts[caller, called] += 1


def _function(frame: FrameType) -> Function | None:
    """The function of a frame, where it is ours; a comprehension is part of its function."""
    code = frame.f_code
    if not code.co_filename.startswith(f"{PACKAGE}/"):
        return None
    name = code.co_qualname
    if name.endswith(ACCESS):
        return None
    while name.endswith(COMPREHENSIONS):
        name = name.rpartition(".<locals>.")[0]
    path = code.co_filename.removeprefix(f"{PACKAGE}/").removesuffix(".py")
    return path.replace("/", "."), name


def walk(path: Path, folder: Path) -> None:
    """Read a space, ask for the cells of explore, plan all of them, count those of a study."""
    space = load_space(path, [])
    constants = runtime(space.resources)
    stages = Stages(space, StudyDirectory(folder), lambda _: FACTS, constants, ())
    if space.explore is not None:
        stages.cells(Stage.EXPLORE)
    planned_cells(space, lambda _: FACTS)
    completeness.cells(space, [], {}, {})


def room(function: Function) -> str:
    """The room in which a function lies."""
    return function[0].partition(".")[0]


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("space", nargs="?", type=Path, default=QUICKSTART)
    path = parser.parse_args().space
    calls = Calls()
    with tempfile.TemporaryDirectory() as folder:
        walk(path, Path(folder))  # loads components, whose imports are no part of the walk
        sys.setprofile(calls)
        try:
            walk(path, Path(folder))
        finally:
            sys.setprofile(None)
    between = [pair for pair in calls.counts if room(pair[0]) != room(pair[1])]
    climbing = [(one, other) for one, other in between if ROW[room(other)] > ROW[room(one)]]
    modules = {"space.space", "space.axes"}
    over = {pair: n for pair, n in calls.counts.items() if {pair[0][0], pair[1][0]} == modules}
    print(f"calls of ours: {calls.counts.total():,}")
    print(f"pairs of functions in different rooms: {len(between)}")
    print(f"  of them to a higher room: {len(climbing)}")
    for one, other in sorted(climbing):
        print(f"    {'.'.join(one)} -> {'.'.join(other)}")
    print(f"space.space and space.axes hand over {sum(over.values()):,} times, {len(over)} pairs")
    for one, other in sorted(over):
        print(f"    {'.'.join(one)} -> {'.'.join(other)}: {over[one, other]}")


if __name__ == "__main__":
    main()
