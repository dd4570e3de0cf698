"""lm-eval's own command line, with `--model modsearch`.

    python -m modsearch.evaluation run --model modsearch --model_args pretrained=FOLDER --tasks ...

Importing the adapter registers it; lm-eval's parser has no entry point for models.
"""

import sys

from lm_eval.__main__ import cli_evaluate

import modsearch.evaluation.lm  # noqa: F401  # registers the adapter
from modsearch.errors import ModsearchError


def main() -> None:
    """A mistake of the user is one or two lines and exit code 2."""
    try:
        cli_evaluate()
    except ModsearchError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # stderr is for messages
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
