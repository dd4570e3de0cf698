"""What a model answered, kept by task: an evaluation that was killed goes on with the rest.

A file has the answers to one task's requests of one kind. Its name says what was asked and whom:
the weights, how they are run, and every request as the model is given it, so that another suite
that asks the same finds them, and a changed document, template or number of shots does not.
"""

import gzip
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from lm_eval.api.instance import Instance

from modsearch import __version__
from modsearch.data.cache import cache_folder
from modsearch.store.files import write_bytes

Answer = TypeVar("Answer")

PARTS = ("model.safetensors", "model.json", "tokenizer.json", "tokenizer_config.json")
"""Files of a checkpoint that answers depend on."""


class Answers:
    """Answers in a folder; without one each task is asked afresh."""

    def __init__(
        self,
        folder: Path | None = None,
        identity: str = "",
        on_ask: Callable[[], None] | None = None,
    ) -> None:
        self.folder = folder
        self.identity = identity
        self.on_ask = on_ask
        """Called once, when there is something that is not answered yet."""

    @classmethod
    def beside(cls, weights: Path, on_ask: Callable[[], None] | None = None) -> "Answers":
        """Of a checkpoint: in `eval/answers` of its trial's folder, or of its own."""
        root = weights.parent if weights.name == "checkpoint" else weights
        digest = hashlib.sha256(__version__.encode())
        for name in PARTS:
            with suppress(FileNotFoundError), (weights / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return cls(root / "eval" / "answers", digest.hexdigest(), on_ask)

    @classmethod
    def cached(cls, digest: str, on_ask: Callable[[], None] | None = None) -> "Answers":
        """Of somebody else's weights, whose folder is not ours: in the user's cache."""
        identity = hashlib.sha256(f"{__version__} {digest}".encode()).hexdigest()
        return cls(cache_folder() / "answers" / digest[:16], identity, on_ask)

    def of(
        self,
        kind: str,
        how: str,
        requests: Sequence[Instance],
        ask: Callable[[Sequence[Instance]], Sequence[Answer]],
    ) -> list[Answer]:
        """Answers to requests, task by task: those that are kept, and else what `ask` says.

        Args:
            kind: of request.
            how: whatever else an answer depends on, such as the mode.
            requests: of any tasks, in any order.
            ask: answers the requests of one task.
        """
        places: dict[str, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            places[request.task_name or "requests"].append(place)
        found: dict[int, Answer] = {}
        for task, where in places.items():
            asked = [requests[place] for place in where]
            path = self._path(task, [self.identity, kind, how, *(each.args for each in asked)])
            answers = _read(path, len(asked))
            if answers is None:
                if self.on_ask is not None:
                    self.on_ask()
                    self.on_ask = None
                answers = list(ask(asked))
                _write(path, answers)
            found |= zip(where, answers, strict=True)
        return [found[place] for place in range(len(requests))]

    def _path(self, task: str, asked: list[Any]) -> Path | None:
        if self.folder is None:
            return None
        digest = hashlib.sha256(
            json.dumps(asked, sort_keys=True, default=repr).encode()
        ).hexdigest()[:16]
        return self.folder / f"{re.sub('[^A-Za-z0-9_-]', '_', task)[:60]}-{digest}.json.gz"


def _read(path: Path | None, num: int) -> list[Any] | None:
    """What a file holds; None where there is none, or it is damaged."""
    if path is None:
        return None
    try:
        found = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, RecursionError):
        return None
    if not isinstance(found, list) or len(found) != num:
        return None
    return [tuple(each) if isinstance(each, list) else each for each in found]


def _write(path: Path | None, answers: list[Any]) -> None:
    """Answers that can't be kept, as in a folder that is not ours, are answers all the same."""
    if path is None:
        return
    with suppress(OSError):
        write_bytes(path, gzip.compress(json.dumps(answers).encode(), mtime=0))
