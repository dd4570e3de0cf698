"""Runs `modsearch search` in this process, and kills it with -9 at a chosen moment.

    python kill_driver.py MOMENT COUNT ARGUMENTS...

MOMENT is a method of the driver's side, `module:Class.method:before|after`; the process dies
at its COUNT-th call, as if by `kill -9` from outside.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def die_at(moment: str, count: int) -> None:
    """Replace the method by one that kills this process."""
    module, path, when = moment.split(":")
    owner, method = path.split(".")
    cls = getattr(importlib.import_module(module), owner)
    original: Callable[..., Any] = getattr(cls, method)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(cls, method, wrapped)


if __name__ == "__main__":
    die_at(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["modsearch", *sys.argv[3:]]
    from modsearch.cli.app import main

    main()
