"""Whatever is wrong in a document, reading it says so in a few lines that name it, and soon."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from types import FrameType

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from wrong_input import COMMAND_KINDS, CORPUS, DOCUMENT_KINDS, DOCUMENTS, NUMBERS, Case, block

from modsearch.api.space import outline
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.runtime import Resources
from modsearch.data.corpus import load_corpus
from modsearch.errors import MOST_CHARACTERS, MOST_LINES, ModsearchError, told
from modsearch.evaluation.suites import load_suite
from modsearch.space.candidates import load_candidate, load_space
from modsearch.space.space import Confirm, Explore, Measure, Rung

SECONDS = 5
"""Of the processor."""
EXAMPLES = 25
KINDS = {**DOCUMENT_KINDS, "malformed --set": COMMAND_KINDS["malformed --set"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder of all examples."""
    path = tmp_path_factory.mktemp("fuzz")
    (path / "corpus.txt").write_text(CORPUS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield path


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fails where what it holds takes more processor time, however busy the machine is."""

    def late(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"it takes more than {seconds} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def read(case: Case) -> None:
    """What a command does before anything is built or trained."""
    verb, *arguments = case.argv
    sets = [given for word, given in pairwise(arguments) if word == "--set"]
    if verb in ("flops", "train"):
        load_candidate(Path("config.yaml"), sets)
    elif verb in ("plan", "search"):
        outline("space.yaml", sets)
        load_corpus(load_space(Path("space.yaml"), sets).data)
    else:
        load_suite("suite.yaml")


@pytest.mark.parametrize("kind", KINDS)
@given(draw=st.randoms(use_true_random=False))
# Cases are small and print themselves: shrinking them takes minutes.
@settings(max_examples=EXAMPLES, phases=[Phase.generate])
def test_what_is_wrong_is_refused_in_few_words(kind: str, draw: Random, folder: Path) -> None:
    case = KINDS[kind](draw)
    for name, tree in DOCUMENTS.items():
        (folder / name).write_bytes(case.files.get(name, block(tree).encode()) or b"")
    try:
        with within(SECONDS):
            read(case)
    except ModsearchError as error:
        message = told(error)
        assert case.expected != "accepted", message
        assert len(message) <= MOST_CHARACTERS
        assert len(message.splitlines()) <= MOST_LINES
        assert case.named(message), (case.says, message)
    else:
        # What is wrong inside a suite's task is told where it is scored.
        assert case.expected != "refused" or case.argv[0] == "eval", case.what or case.argv


@pytest.mark.parametrize(
    ("model", "file", "parent"),
    [
        (ModelConfig, "config.yaml", ("model",)),
        (OptimConfig, "config.yaml", ("optim",)),
        (Explore, "space.yaml", ("explore",)),
        (Measure, "space.yaml", ("measure",)),
        (Rung, "space.yaml", ("measure", "ladder", 0)),
        (Confirm, "space.yaml", ("confirm",)),
        (Resources, "space.yaml", ("resources",)),
    ],
)
def test_every_number_of_the_models_is_tried(
    model, file: str, parent: tuple[str | int, ...]
) -> None:
    tried = {place.trail[: len(parent) + 1] for place in NUMBERS if place.file == file}
    for name, field in model.model_fields.items():
        if re.search(r"\b(int|float)\b", str(field.annotation)):
            assert (*parent, name) in tried
