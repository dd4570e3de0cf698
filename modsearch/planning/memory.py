"""The memory of a training, foreseen: a step and a scoring on the meta device, where every tensor
has a shape and a lifetime and takes nothing; what would be held at once is counted.

So the numbers follow from the model's own code, whatever blocks, routers and experts it has: what
the forward pass leaves for the backward pass, routed tokens at their capacity, logits as they are
taken in turns. benchmarks/memory.py holds them against what trials take.

Shapes: B sequences, T positions.
"""

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from modsearch.config.base import Frozen
from modsearch.config.records import Candidate, Plan
from modsearch.config.runtime import Runtime
from modsearch.nn.model import Decoder
from modsearch.nn.shapes import shapes_alone
from modsearch.optim.parts import optimizer_of
from modsearch.training.scoring import SCORING_TOKENS, scored, windows_at_once
from modsearch.training.spread import Objective, evaluated
from modsearch.training.weights import weights_of

Sized = tuple[Candidate, Plan]

MAPPED = 32 * 2**20
"""glibc gives a block of so many bytes back as soon as it is free (mallopt(3),
`M_MMAP_THRESHOLD`)."""
HEAP = 1.5
"""Bytes of its heap for each one of smaller blocks that are held at once at the most: what is free
lies in pieces. Measured (benchmarks/memory.py): 1.3 to 1.75, the more the longer a training."""


class Memory(Frozen):
    """Bytes that one trial needs beside what its processes take by themselves: on a CPU of all its
    ranks, on GPUs of one.

    Not in it: what an operator takes for itself while it runs. A compiled step takes less.
    """

    weights: int
    gradients: int
    moments: int
    """Of the optimiser."""
    saved: int
    """What the forward pass of a training step leaves for the backward pass."""
    step: int
    """The most that is held at once in a training step, with weights and moments."""
    checkpoint: int
    """The same while one is made."""
    scoring: int
    """The same when the sample is scored, after the training."""
    peak: int
    """What the trial takes from the system: the most of these, and on a CPU what the heap keeps
    beside it."""


@dataclass(frozen=True)
class _Bytes:
    """Of blocks that lie in a heap, and of larger ones."""

    small: int = 0
    large: int = 0

    @classmethod
    def of(cls, sizes: Iterable[int]) -> "_Bytes":
        known = list(sizes)
        small = sum(size for size in known if size < MAPPED)
        return cls(small, sum(known) - small)

    @property
    def all(self) -> int:
        return self.small + self.large

    def __add__(self, other: "_Bytes") -> "_Bytes":
        return _Bytes(self.small + other.small, self.large + other.large)

    def times(self, factor: float) -> "_Bytes":
        return _Bytes(round(factor * self.small), round(factor * self.large))


def memory(candidate: Candidate, runtime: Runtime) -> Memory:
    """Of a trial on its device.

    With `fsdp` gradients are counted as if each rank had all of them, and a block's weights that
    are whole while it computes are not.
    """
    optim, ranks, on_cpu = candidate.optim, runtime.ranks, runtime.device == "cpu"
    rows = optim.batch_size // ranks
    some = min(rows, runtime.micro_batch or rows)
    with shapes_alone():
        model = Decoder(candidate.model)
    weights = _Bytes.of(each.nbytes for each in model.state().values())
    trained = _Bytes.of(each.nbytes for each in model.parameters())
    optimizer = optimizer_of(optim)
    state = 4 * optimizer.state_size(weights_of(model, optim, optimizer.hidden_power))
    moments = trained.times(state / max(1, trained.all))
    with shapes_alone():
        found = _deep(model, lambda short: _find(short, some, rows > some, runtime))
    share = 1 / ranks if runtime.parallel == "fsdp" and ranks > 1 else 1.0
    processes = ranks if on_cpu else 1
    held = (weights + moments).times(share * processes)
    # The first rank puts parts together.
    written = weights + moments if on_cpu and share < 1 else _Bytes()
    phases = {
        "step": held + found.step.times(processes),
        "checkpoint": held + written,
        "scoring": weights + found.scoring,
    }
    return Memory(
        weights=weights.all,
        gradients=trained.all,
        moments=moments.all,
        saved=found.saved.all,
        **{name: each.all for name, each in phases.items()},
        peak=_taken(list(phases.values())) if on_cpu else max(e.all for e in phases.values()),
    )


def _taken(phases: Sequence[_Bytes]) -> int:
    """From the system, one phase after the other: a heap that has grown stays."""
    return round(HEAP * max(e.small for e in phases)) + max(e.large for e in phases)


def rough_memory(candidate: Candidate, params: int, runtime: Runtime) -> int:
    """The order of `Memory.peak`, at once: which of many sizes is the largest, and whether one is
    worth a try."""
    model, rows = candidate.model, candidate.optim.batch_size // runtime.ranks
    tokens = min(rows, runtime.micro_batch or rows) * model.seq_len
    training = tokens * (33 * model.depth * model.width + 4 * model.vocab_size)
    scoring = max(SCORING_TOKENS, model.seq_len) * (12 * model.width + 2 * model.vocab_size)
    return 4 * (9 * params + max(training, scoring))


@dataclass(frozen=True)
class _Found:
    """Of one process, beside weights and moments."""

    saved: _Bytes
    step: _Bytes
    scoring: _Bytes

    def beyond(self, shorter: "_Found", times: float) -> "_Found":
        """With what this one has more than a shorter one, so many times more."""

        def more(mine: _Bytes, theirs: _Bytes) -> _Bytes:
            return mine + (mine + theirs.times(-1)).times(times)

        return _Found(
            more(self.saved, shorter.saved),
            more(self.step, shorter.step),
            more(self.scoring, shorter.scoring),
        )


def _deep(model: Decoder, find: Callable[[Decoder], _Found]) -> _Found:
    """Of a deep model whose layers repeat, by two shallow ones: each repetition adds the same."""
    config, capacities = model.config, model.capacities
    period = config.every if model.routed_layers else 1
    short = config.depth % period + period
    repeats = all(one == two for one, two in zip(capacities, capacities[period:], strict=False))
    if config.depth <= short + 2 * period or not repeats:
        return find(model)
    depths = (short, short + period)
    one, two = (Decoder(config.model_copy(update={"depth": depth})) for depth in depths)
    if two.capacities != capacities[: depths[1]] or one.capacities != capacities[:short]:
        return find(model)
    return find(two).beyond(find(one), (config.depth - depths[1]) / period)


def _find(model: Decoder, rows: int, several: bool, runtime: Runtime) -> _Found:
    return _Found(*_step(model, rows, several, runtime), _scoring(model, runtime))


def _step(model: Decoder, rows: int, several: bool, runtime: Runtime) -> tuple[_Bytes, _Bytes]:
    """What forward leaves and the most that there is of a step with passes of so many rows. Of
    several passes the second one has the gradients of the first beside it, and stands for all."""
    model.train()
    model.set_progress(0.0)  # while capacities warm up, more tokens are routed
    tokens_BT = torch.empty((rows, model.config.seq_len + 1), dtype=torch.long, device="meta")
    objective = Objective(model, model.loss)
    saved = _Bytes()
    with _There(runtime), _Held(model.state().values()) as held:
        for _ in range(2 if several else 1):
            before = held.now
            with torch.autocast("cpu", torch.bfloat16, enabled=runtime.precision == "bf16"):
                total, _, _ = evaluated(objective, tokens_BT, 0, None)
            saved = held.now + before.times(-1)
            total.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        most = held.most
        del total
    for parameter in model.parameters():
        parameter.grad = None
    model.set_progress(1.0)
    return saved, most


@torch.no_grad()
def _scoring(model: Decoder, runtime: Runtime) -> _Bytes:
    """Of a batch of windows, routed as in training: how many tokens a causal choice takes, the
    text decides."""
    model.eval()
    T = model.config.seq_len
    tokens_BT = torch.empty((windows_at_once(T), T + 1), dtype=torch.long, device="meta")
    with _There(runtime), _Held(model.state().values()) as held:
        scored(model, tokens_BT, "train", entropies=bool(model.routed_layers))
    most: _Bytes = held.most
    return most


class _There(TorchFunctionMode):
    """On the meta device, what a device would do: its attention without a matrix of scores, its
    autocast, its limits."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.device = runtime.device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is IS_CUDA:
            return self.device == "cuda"
        if func in PRODUCTS and torch.is_autocast_enabled("cpu"):
            args = [_narrow(each) for each in args]
        if func is F.scaled_dot_product_attention:
            mixed, _ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                *args[:3], is_causal=True
            )
            return mixed
        return func(*args, **(kwargs or {}))


IS_CUDA = Tensor.is_cuda.__get__  # type: ignore[attr-defined]  # a property of the C type
PRODUCTS = (
    F.linear, torch.bmm, Tensor.__matmul__, Tensor.matmul, F.scaled_dot_product_attention,
)  # fmt: skip
"""What autocast narrows, of what models here do."""


def _narrow(value: Any) -> Any:
    wide = isinstance(value, Tensor) and value.dtype is torch.float32
    return value.to(torch.bfloat16) if wide else value


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Counts bytes of the tensors that are made while it is on, until each goes."""

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self.now = _Bytes()
        self.most = _Bytes()
        """When all together were the most."""
        self._known = {each.untyped_storage()._cdata for each in there}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, Tensor):
                self._see(each.untyped_storage())
        return made

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, _Bytes.of([storage.nbytes()])
        if key not in self._known:
            self._known.add(key)
            self.now += size
            if self.now.all > self.most.all:
                self.most = self.now
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: _Bytes) -> None:
        self._known.discard(key)
        self.now += size.times(-1)
