"""Verbs on text: prepare, show."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

import modsearch
from modsearch.cli.options import Json, Progress, Sets, Shown, TextField, app, as_json
from modsearch.cli.progress import resumable, say

if TYPE_CHECKING:
    from collections.abc import Callable

verbs = typer.Typer(
    help="Text and its tokens: prepare them before a study, and show what is in them."
)
app.add_typer(verbs, name="data")

Target = Annotated[
    str,
    typer.Argument(
        metavar="TEXT|SPACE",
        help="A file, a folder, a glob, `stdlib` or hub:NAME; or a search space.",
    ),
]
TokenizerName = Annotated[
    str | None,
    typer.Option("--tokenizer", help="bytes, bpe, a tokenizer.json, a folder or a hub name."),
]
VocabSize = Annotated[int | None, typer.Option(help="Tokens of a bpe.")]


@verbs.command()
def prepare(
    target: Target,
    tokenizer: TokenizerName = None,
    vocab_size: VocabSize = None,
    text: TextField = None,
    sets: Sets = None,
    progress: Progress = Shown.TEXT,
    as_object: Json = False,
) -> None:
    """Read, split and encode text into the cache that all studies share; a second run goes on."""
    with resumable(progress), _told(progress) as told:
        found = modsearch.prepare_data(
            target,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            text=text,
            overrides=sets or (),
            progress=told,
        )
    from modsearch.cli.text import data_text

    print(as_json(found) if as_object else data_text(found))


@verbs.command()
def show(
    target: Target,
    tokenizer: TokenizerName = None,
    vocab_size: VocabSize = None,
    text: TextField = None,
    sets: Sets = None,
    as_object: Json = False,
) -> None:
    """What is in text that was prepared: documents, tokens, entropies, duplicates."""
    found = modsearch.show_data(
        target, tokenizer=tokenizer, vocab_size=vocab_size, text=text, overrides=sets or ()
    )
    from modsearch.cli.text import data_text

    print(as_json(found) if as_object else data_text(found))


@contextmanager
def _told(how: Shown) -> "Iterator[Callable[[str, int, int], None] | None]":
    """A bar on a terminal, a line for each tenth elsewhere."""
    if how is Shown.TEXT and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress as Bars

        with Bars(console=Console(stderr=True), transient=True) as bars:
            tasks: dict[str, object] = {}

            def bar(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done)  # type: ignore[arg-type]

            yield bar
        return
    last: list[tuple[str, int]] = []

    def line(what: str, done: int, total: int) -> None:
        tenth = what, 10 * done // max(1, total)
        if last[-1:] != [tenth]:
            last.append(tenth)
            say(f"{what}: {done} of {total}", how)

    yield None if how is Shown.NONE else line
