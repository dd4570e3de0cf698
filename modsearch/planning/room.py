"""Whether a machine has room for a study's trials: what each needs, its process included."""

from collections.abc import Sequence
from functools import cache

from modsearch.config.records import Candidate
from modsearch.config.runtime import Runtime
from modsearch.planning.memory import Memory, Sized, memory, rough_memory
from modsearch.training.machine import forget_peak, free_memory, peak_memory

FIRST_TRAINING_BYTES = 32 * 2**20
"""What a first training loads, less what this process has for plans alone (measured,
benchmarks/memory.py)."""


@cache
def own_memory() -> int:
    """Bytes that this process has by itself: libraries, as they are at the first call."""
    forget_peak("cpu")
    return peak_memory()


def process_memory(runtime: Runtime) -> int:
    """Bytes of a worker beside its training's, and of each of several ranks. Nothing on a GPU."""
    if runtime.device == "cuda":
        return 0
    processes = 1 if runtime.ranks == 1 else 1 + runtime.ranks
    return processes * (own_memory() + FIRST_TRAINING_BYTES)


class Memories:
    """What trainings take, each size once."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._known: dict[str, Memory | None] = {}

    def largest(self, planned: Sequence[Sized]) -> tuple[Candidate, int, Memory | None]:
        """Of candidates with their plans the one that needs the most, its bytes, and what they
        are made of; None where a component has no shapes without numbers."""
        candidate, spent = max(planned, key=self._rough)
        found = self.of(candidate, self.runtime)
        return (
            candidate,
            self._rough((candidate, spent))[0] if found is None else found.peak,
            found,
        )

    def _rough(self, sized: Sized) -> tuple[int, int]:
        """Of alike ones, that which computes more keeps more."""
        candidate, spent = sized
        return rough_memory(candidate, spent.params, self.runtime), spent.flops_per_step

    def of(self, candidate: Candidate, runtime: Runtime) -> Memory | None:
        """Of one training."""
        step = candidate.optim.model_dump_json(include={"batch_size", "optimizer"})
        key = "".join((candidate.model.model_dump_json(), step, runtime.model_dump_json()))
        if key not in self._known:
            try:
                self._known[key] = memory(candidate, runtime)
            except RuntimeError:  # of a plugin: the conformance kit says which check it fails
                self._known[key] = None
        return self._known[key]


def too_large(memories: Memories, planned: Sequence[Sized], base: int, workers: int) -> list[str]:
    """A line where memory will run out on this machine, with what would help."""
    if not planned:
        return []
    runtime = memories.runtime
    candidate, needed, _ = memories.largest(planned)
    free, alone = free_memory(runtime.device), base + needed
    if alone > free:
        model = candidate.model
        return [
            f"a trial of depth {model.depth}, width {model.width} needs {_gib(alone)} of memory, "
            f"and {_gib(free)} are free here: {_smaller(memories, candidate, base, free)}"
        ]
    if runtime.device == "cpu" and workers * alone > free:
        return [
            f"{workers} workers may need {_gib(workers * alone)} of memory, and {_gib(free)} are "
            f"free here: resources.workers: {free // alone} always fit"
        ]
    return []


def _smaller(memories: Memories, candidate: Candidate, base: int, free: int) -> str:
    """Passes that fit: losses do not depend on them."""
    runtime = memories.runtime
    rows = runtime.micro_batch or candidate.optim.batch_size // runtime.ranks
    while rows > 1:
        rows = (rows + 1) // 2
        found = memories.of(candidate, runtime.model_copy(update={"micro_batch": rows}))
        if found is not None and base + found.peak <= free:
            return (
                f"resources.micro_batch: {rows} needs {_gib(base + found.peak)}, for the same "
                f"losses"
            )
    return "no micro_batch makes it fit, a smaller size does"


def _gib(count: float) -> str:
    return f"{count / 2**30:.3g} GiB"
