"""The command line's way in and out: arguments, errors, exit codes."""

import os
import sys
from io import TextIOWrapper
from itertools import pairwise
from typing import Annotated, Any, NoReturn

import typer

from modsearch import __version__
from modsearch.cli import components, data, models, schemas, studies
from modsearch.cli.options import app
from modsearch.errors import ModsearchError, has_surrogates, shortened, shown, told

USAGE_ERROR: Any = typer.BadParameter.__base__
"""What typer raises where a command line can't be read."""

VERBS = (components, data, models, schemas, studies)
"""Importing them adds their verbs to the application."""


def main() -> None:
    """Run a command; a user's mistake is one or two lines and exit code 2."""
    if isinstance(sys.stdout, TextIOWrapper):
        # As stderr has it: what a terminal can't show must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_bytes(sys.argv[1:])
        code = app(sys.argv[1:] or ["--help"], prog_name="modsearch", standalone_mode=False)
        sys.stdout.flush()
    except USAGE_ERROR as error:
        verb = error.ctx.command_path if error.ctx else "modsearch"
        said = " ".join(error.format_message().replace("Value error, ", "").split())
        _fail(f"{shortened(said, 400)}\n`{verb} --help` has what it takes")
    except ModsearchError as error:
        _fail(_in_plugin(error) + str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _unread()
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        _fail(f"{error.strerror or error}{place}")
    except (Exception, SystemExit) as error:  # a plugin may do what it likes
        if isinstance(error.__context__, BrokenPipeError):  # what typer makes of it is 1
            _unread()
        from modsearch.registry.plugins import fault

        if (text := fault(error)) is None:
            raise
        _fail(text)
    sys.exit(code if isinstance(code, int) else 0)


def _unread() -> NoReturn:
    """The reader has gone, as `head` does: nothing is left to say, also not at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


def _fail(text: str) -> NoReturn:
    print(told(f"error: {text}"), file=sys.stderr)
    sys.exit(2)


def _in_plugin(error: ModsearchError) -> str:
    """Which line of a plugin asked for what can't be done; nothing where none did."""
    if "modsearch.registry.plugins" not in sys.modules:
        return ""
    from modsearch.registry.plugins import plugin_frame

    at = plugin_frame(error)
    return f"plugin {at.filename}, line {at.lineno}, in `{at.name}`: " if at else ""


def _check_bytes(arguments: list[str]) -> None:
    """Names of files and values go into files that are UTF-8."""
    for before, argument in pairwise(["", *arguments]):
        prompt = before == "--prompt" or argument.startswith("--prompt=")
        if has_surrogates(argument) and not prompt:
            raise ModsearchError(
                f"argument {shown(argument)} is not UTF-8\nonly --prompt takes other bytes"
            )


def _version(wanted: bool) -> None:
    if wanted:
        print(f"modsearch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass
