"""lm-eval's own command line, with `--model modsearch`.

    python -m modsearch.evaluation run --model modsearch --model_args checkpoint=FOLDER --tasks ...

lm-eval's parser has no entry point for models: importing the adapter registers it.
"""

import sys

from modsearch.data.network import known_network
from modsearch.errors import ModsearchError, first_line


def main() -> None:
    """A mistake of the user is one or two lines and exit code 2."""
    if sys.argv[1:2] == ["run"] and not any(each in SIZED for each in _names(sys.argv)):
        sys.argv += ["--batch_size", "auto"]  # lm-eval would ask for 1
    from modsearch.evaluation.own_tasks import refuse_unreachable

    try:
        with known_network() as offline:
            if offline and sys.argv[1:2] == ["run"]:
                tasks = _values(sys.argv, "--tasks", "-t")
                refuse_unreachable(tasks, _values(sys.argv, "--include_path"))
            from lm_eval.__main__ import cli_evaluate

            import modsearch.evaluation.lm  # noqa: F401  # registers the adapter, and loads torch

            cli_evaluate()
    except ModsearchError as error:
        _end(str(error))
    except ConnectionError as error:
        _end(
            f"a task needs data from the hub, which can't be reached: {first_line(error)}\n"
            f"go online, or name a task of local files with --include_path"
        )
    except (OSError, ValueError) as error:
        _end(first_line(error))


SIZED = ("--batch_size", "-b", "--config", "-C")
"""Options that may say how large batches are."""


def _names(arguments: list[str]) -> list[str]:
    return [argument.partition("=")[0] for argument in arguments]


def _values(arguments: list[str], *options: str) -> list[str]:
    """Of an option, which may stand behind it one by one or with commas between them."""
    found: list[str] = []
    inside = False
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument.startswith("-"):
            inside, argument = name in options, value
        if inside:
            found += [each for each in argument.split(",") if each]
    return found


def _end(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201  # stderr is for messages
    raise SystemExit(2)


if __name__ == "__main__":
    main()
