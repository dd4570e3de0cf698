"""Two ranks: the test's own process and a second one, which do the same things at once."""

import multiprocessing
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from modsearch.nn.ranks import Ranks

SECONDS = 120.0
"""Within which the other rank must answer, on a busy machine."""

FSDP_VIEW = "FSDP2-wrapped module"
"""Of what a block gives: nothing changes it in place."""


def joined(store: Path, place: int) -> Ranks:
    """This process in a group of two."""
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(store), 2),
        rank=place,
        world_size=2,
        timeout=timedelta(seconds=SECONDS),
    )
    return Ranks(place, 2, dist.group.WORLD)


class Pair:
    """Functions that are given their rank, on both at once."""

    def __init__(self, ranks: Ranks, pipe: Connection) -> None:
        self.ranks = ranks
        self.pipe = pipe

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
        """What it answers on each rank."""
        self.pipe.send((function, arguments))
        mine = _answer(function, self.ranks, *arguments)
        assert self.pipe.poll(SECONDS), "the other rank does not answer"
        theirs = self.pipe.recv()
        for answer in (theirs, mine):
            if isinstance(answer, Exception):
                raise answer
        return mine, theirs


@contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Both ranks, until the context ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, folder / "store"), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Pair(joined(folder / "store", 0), ours)
    finally:
        ours.close()
        process.join(SECONDS)
        process.kill()
        if dist.is_initialized():
            dist.destroy_process_group()


def _serve(pipe: Connection, store: Path) -> None:
    warnings.simplefilter("error")
    for known in (FSDP_VIEW, "`torch.jit"):  # what torch itself uses is deprecated
        warnings.filterwarnings("ignore", message=known)
    torch.set_num_threads(1)
    ranks = joined(store, 1)
    while True:
        try:
            function, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_answer(function, ranks, *arguments))


def _answer(function: Callable[..., Any], ranks: Ranks, *arguments: Any) -> Any:
    """What it answers, or what it raises."""
    try:
        return function(ranks, *arguments)
    except Exception as error:
        error.add_note(f"on rank {ranks.place}: {traceback.format_exc()}")
        return error
