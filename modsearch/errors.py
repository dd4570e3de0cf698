"""Errors that are meant for the user.

Each carries one string and nothing else, so that it survives pickling between processes.
"""

import re


class ModsearchError(ValueError):
    """What the user asked for can't be done; the message says what is wrong and what is right."""


class ConfigError(ModsearchError):
    """A configuration, a search space or an override is wrong."""


class DataError(ModsearchError):
    """A corpus is missing, too small, or not what the study was made with."""


class StudyError(ModsearchError):
    """A study directory is locked, of other code, or not a study."""


class Diverged(ModsearchError):
    """A training loss became NaN or infinite."""


def redacted(text: str) -> str:
    """An argument or a message without the credentials of a URL in it."""
    text = re.sub(r"(\w://).*@", r"\1***@", text, flags=re.DOTALL)
    return re.sub(r"(password=)[^&\s]+", r"\1***", text)


def first_line(error: BaseException) -> str:
    """What went wrong, in one line and without credentials."""
    lines = str(error).strip().splitlines()
    return redacted(lines[0]) if lines else type(error).__name__
