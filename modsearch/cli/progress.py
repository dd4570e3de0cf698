"""What a running study or training shows on stderr: a live table on a terminal, plain lines
elsewhere, or a line of JSON for each event."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from modsearch.cli.options import Shown, as_json

if TYPE_CHECKING:
    from modsearch.study.events import Event, OnEvent


def warn(lines: Iterable[str], how: Shown = Shown.TEXT) -> None:
    """Warnings go to stderr: stdout is for results."""
    for text in lines:
        say(f"warning: {text}", how)


def say(text: str, how: Shown) -> None:
    """A line of the command line's own, in the form of the events around it."""
    if how is Shown.JSON:
        from modsearch.study.events import Note

        json_line(Note(text=text))
    else:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def resumable(how: Shown) -> Iterator[None]:
    """Ctrl-C ends a command that can go on with a line that says so."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted: the same command goes on from here", how)
        raise typer.Exit(130) from None


@contextmanager
def shown_study(how: Shown) -> "Iterator[OnEvent | None]":
    """What a study's events are given to."""
    if how is Shown.TEXT and sys.stderr.isatty():
        from modsearch.cli.live import Live

        with Live() as live:
            yield live
    else:
        yield {Shown.TEXT: line, Shown.JSON: json_line, Shown.NONE: None}[how]


def shown_steps(how: Shown) -> "OnEvent | None":
    """What a single training's events are given to."""
    return {Shown.TEXT: step_line, Shown.JSON: json_line, Shown.NONE: None}[how]


def line(event: "Event") -> None:
    """As text; that a trial began is told when it ends."""
    if event.event != "began":
        # A file has no width, and a log's lines are read by programs: never wrapped.
        print(event, file=sys.stderr, flush=True)


def step_line(event: "Event") -> None:
    """Of one training only its steps: its result goes to stdout."""
    if event.event == "logged":
        print(event, file=sys.stderr, flush=True)


def json_line(event: "Event") -> None:
    """As one line of JSON."""
    print(as_json(event, indent=None), file=sys.stderr, flush=True)
