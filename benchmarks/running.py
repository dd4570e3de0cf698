"""Jobs of a benchmark, trained on worker processes outside of any study."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from modsearch.config.records import Job, Record
from modsearch.config.runtime import Signal
from modsearch.engines.local import LocalEngine
from modsearch.training.trial import run_trial


def trained(todo: Sequence[Job], out: Path, workers: int) -> list[Record]:
    """Records in the order in which trials end; how many have ended is told."""
    waiting = iter(todo)
    records: list[Record] = []

    def on_record(job: Job, record: Record) -> None:
        records.append(record)
        print(f"{len(records)}/{len(todo)}", end="\r", flush=True)

    engine = LocalEngine(partial(run_trial, out), workers, 1)
    with engine.started():
        engine.run(lambda: next(waiting, Signal.DONE), on_record)
    return records
