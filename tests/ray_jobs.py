"""What Ray's workers run in tests; light, since every worker imports it."""

import os
import time
from pathlib import Path

from modsearch.config.records import Job, Record, State

MEETING_SECONDS = 120.0


def run_with_others(folder: Path, count: int, given: Job) -> Record:
    """The first `count` jobs wait until all of them are there; says which GPU a process has."""
    (folder / str(given.seed)).touch()
    end = time.monotonic() + MEETING_SECONDS
    while len(list(folder.iterdir())) < count:
        if time.monotonic() > end:
            return given.record(State.FAILED, reason="the others did not come")
        time.sleep(0.02)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    return given.record(State.COMPLETE, reason=f"{os.getpid()} {gpus}")
