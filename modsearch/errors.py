"""Errors that are meant for the user.

Each carries one string and nothing else, so that it survives pickling between processes.
"""

import difflib
import json
import re
from collections.abc import Iterable
from itertools import islice

MOST_LINES = 4
MOST_CHARACTERS = 600
LONGEST_VALUE = 60
MOST_ITEMS = 6


class ModsearchError(ValueError):
    """What the user asked for can't be done; the message says what is wrong and what is right.

    Bytes in it that are not UTF-8, as names of files may have them, are written out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ConfigError(ModsearchError):
    """A configuration, a search space or an override is wrong."""


class DataError(ModsearchError):
    """A corpus is missing, too small, or not what the study was made with."""


class StudyError(ModsearchError):
    """A study directory is locked, of other code, or not a study."""


class Diverged(ModsearchError):
    """A training loss became NaN or infinite."""


class Stopped(ModsearchError):
    """A training was ended before its budget was spent, because others are better.

    Args:
        reason: in words.
        step: the last one.
    """

    def __init__(self, reason: str, step: int) -> None:
        super().__init__(reason)
        self.step = step

    def __reduce__(self) -> tuple[type["Stopped"], tuple[str, int]]:
        return (Stopped, (str(self), self.step))


def unknown(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that nobody knows: says what exists, and the nearest name."""
    names = sorted(known)
    if not names:
        return ConfigError(f"unknown {kind} `{name}`: there are none")
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return ConfigError(f"unknown {kind} `{name}`{hint}\nknown: {', '.join(names)}")


def has_surrogates(text: str) -> bool:
    """Whether a text is more than characters: halves of pairs, or bytes that are not UTF-8."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def printable(text: str) -> str:
    """A text that every file and stream takes: what is no character is written out."""
    named = re.sub("[\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) - 0xDC00:x}", text)
    return named.encode(errors="backslashreplace").decode()


def redacted(text: str) -> str:
    """An argument or a message without the credentials of a URL in it."""
    text = re.sub(r"(\w://).*@", r"\1***@", text, flags=re.DOTALL)
    return re.sub(r"(password=)[^&\s]+", r"\1***", text)


def first_line(error: BaseException) -> str:
    """What went wrong, in one line and without credentials."""
    lines = printable(str(error)).strip().splitlines()
    return redacted(lines[0]) if lines else type(error).__name__


def shown(value: object, longest: int = LONGEST_VALUE) -> str:
    """A value as one writes it in YAML, on one line and cut in the middle where it is long."""
    return shortened(" ".join(_flow(value, longest, 4).split()), longest)


def _flow(value: object, longest: int, levels: int) -> str:
    if isinstance(value, str):
        # Not dumped whole: a text may be a megabyte.
        return json.dumps(shortened(value, 2 * longest), ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if "e" in short and float(short) == value else repr(value)
    if isinstance(value, dict | list | tuple):
        if levels == 0:
            return "..."
        items = islice(value.items() if isinstance(value, dict) else value, MOST_ITEMS)
        if isinstance(value, dict):
            parts = [f"{key}: {_flow(inner, longest, levels - 1)}" for key, inner in items]
        else:
            parts = [_flow(inner, longest, levels - 1) for inner in items]
        text = ", ".join(parts + ["..."] * (len(value) > MOST_ITEMS))
        return f"{{{text}}}" if isinstance(value, dict) else f"[{text}]"
    try:
        return repr(value)
    except ValueError:  # Python prints no integer of over 4,300 digits
        return "a number of thousands of digits"


def shortened(text: str, longest: int) -> str:
    """A text, with its middle left out where it is longer than so many characters."""
    if len(text) <= longest:
        return text
    kept = longest - len(" ... ")
    return f"{text[: (kept + 1) // 2]} ... {text[len(text) - kept // 2 :]}"


def told(error: object) -> str:
    """An error's message within four lines and 600 characters, its longest lines cut."""
    lines = str(error).strip().splitlines()[:MOST_LINES] or [type(error).__name__]
    while sum(map(len, lines)) + len(lines) > MOST_CHARACTERS:
        longest = max(range(len(lines)), key=lambda index: len(lines[index]))
        rest = sum(map(len, lines)) - len(lines[longest]) + len(lines)
        others = max((len(line) for i, line in enumerate(lines) if i != longest), default=0)
        limit = max(others - 1, MOST_CHARACTERS - rest, MOST_CHARACTERS // len(lines) - 1)
        lines[longest] = shortened(lines[longest], min(limit, len(lines[longest]) - 1))
    return "\n".join(lines)


def reason(error: BaseException) -> str:
    """Kind and first line of an error of code that is not ours."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    try:
        text = str(error).strip().partition("\n")[0]
    except Exception:  # a stranger's exception may fail to say what it is
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
