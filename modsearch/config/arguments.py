"""Arguments of the library's functions, checked as the command line checks its options.

Errors name an argument as the command line does: `--out` is `out`.
"""

import os
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path

from modsearch.config.base import MOST_FLOPS
from modsearch.errors import ConfigError, shown


def check_flops(name: str, flops: object) -> float:
    """A budget.

    Raises:
        ConfigError: it is no number of FLOPs that a training can have.
    """
    if not isinstance(flops, Real) or isinstance(flops, bool):
        raise ConfigError(f"--{name} must be a number of FLOPs, but got {shown(flops)}")
    value = float(flops)
    if not 0 < value <= MOST_FLOPS:
        raise ConfigError(f"--{name} must be over 0 and at most {MOST_FLOPS:g}, not {value:g}")
    return value


def check_count(name: str, count: object, least: int, most: int) -> int:
    """A whole number.

    Raises:
        ConfigError: it is none, or not between both ends.
    """
    whole = isinstance(count, Integral) and not isinstance(count, bool)
    value = int(count) if isinstance(count, Integral) else least
    if not whole or not least <= value <= most:
        raise ConfigError(
            f"--{name} must be a whole number from {least} to {most:,}, but got {shown(count)}"
        )
    return value


def check_seconds(name: str, seconds: object, most: float) -> float:
    """A time.

    Raises:
        ConfigError: it is no number over 0, or too large.
    """
    if not isinstance(seconds, Real) or isinstance(seconds, bool):
        raise ConfigError(f"--{name} must be a number of seconds, but got {shown(seconds)}")
    value = float(seconds)
    if not 0 < value <= most:
        raise ConfigError(f"--{name} must be over 0 and at most {most:g}, not {value:g}")
    return value


def check_path(name: str, path: object) -> Path:
    """A path, as text or an object.

    Raises:
        ConfigError: it is none, or empty.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ConfigError(f"--{name} must be a path, but got {shown(path)}")
    return Path(os.fsdecode(path))


def check_text(name: str, text: object) -> str | None:
    """A text, or None.

    Raises:
        ConfigError: it is something else.
    """
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"--{name} must be text, but got {shown(text)}")
    return text


def check_texts(name: str, values: object) -> list[str]:
    """Several texts.

    Raises:
        ConfigError: it is one text, whose letters would count as several, or holds no texts.
    """
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        raise ConfigError(f"--{name} takes a list of texts, but got {shown(values)}")
    found = list(values)
    for value in found:
        if not isinstance(value, str):
            raise ConfigError(f"--{name} takes a list of texts, but one is {shown(value)}")
    return found


def check_paths(name: str, values: object) -> list[Path]:
    """Several paths.

    Raises:
        ConfigError: it is a single one, or holds something else.
    """
    if isinstance(values, str | os.PathLike) or not isinstance(values, Iterable):
        raise ConfigError(f"--{name} takes a list of paths, but got {shown(values)}")
    return [check_path(name, value) for value in values]
