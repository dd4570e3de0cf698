"""Where and with what a trial runs."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from modsearch.config.base import Frozen, Stated

EngineName = Literal["local", "ray"]
"""What executes trials."""

Parallel = Literal["ddp", "fsdp"]
"""All of a model on each rank, or a part of it."""


class Runtime(Frozen):
    """Constants of a study: the same for every trial, whatever the number of workers."""

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = Field(1, gt=0)
    micro_batch: int | None = Field(None, gt=0)
    """Sequences in one pass: a step adds up the gradients of several, in less memory. None: the
    whole batch."""
    compile: bool = False
    """Whether the training loss goes through torch.compile."""
    ranks: int = Field(1, gt=0)
    """Processes that train one trial, each on its share of every batch."""
    parallel: Parallel = "ddp"
    """What of a model each of several ranks has."""
    checkpoint_seconds: float = Field(10.0, ge=0)
    """Between checkpoints of an unfinished trial."""


class Plugin(Frozen):
    """A plugin file, and what was in it."""

    path: str
    """Absolute."""
    digest: str
    """Hash of its content."""


class Share(Frozen):
    """What one trial takes of a machine; an engine places trials by it."""

    threads: int = Field(1, gt=0)
    cpus: float = Field(1, gt=0)
    gpus: float = Field(0, ge=0)


class Signal(StrEnum):
    """What a driver answers when it has no job to hand out."""

    WAIT = "wait"
    """Until a record comes back."""
    DONE = "done"


class Lease(Frozen):
    """Which worker has a trial on a storage."""

    host: str
    """Where `process` means one process: machine, boot and namespace."""
    process: int
    token: str
    """Tells apart what one process does one after the other."""
    beat: int
    """Counted up while the holder lives."""


class Resources(Stated):
    """How trials are executed; `threads`, `device`, `precision`, `compile` and `micro_batch` are
    constants of the study."""

    workers: Annotated[int, Field(gt=0, le=1024)] | Literal["auto"] = "auto"
    """Trials at once; `auto`: as many as the cores hold, one on GPUs."""
    threads: int = Field(1, gt=0, le=256)
    """Of one trial, or of each of its ranks."""
    ranks: int = Field(1, gt=0, le=64)
    """Processes of one machine that train one trial, each on its share of every batch, and each on
    a GPU of its own where the device is `cuda`. Losses do not depend on it, and it may change
    while a study goes on."""
    parallel: Parallel = "ddp"
    """What each of several ranks has: the whole model (`ddp`), or a part of weights, gradients and
    moments, where all do not fit (`fsdp`; it is not compiled)."""
    cpus: float | None = Field(None, gt=0, le=1024)
    """CPUs that engine `ray` reserves for a trial; null: as many as `threads` of all ranks."""
    gpus: float | None = Field(None, ge=0, le=1024)
    """GPUs, also a fraction of one; null: one, or one for each rank, where the device is
    `cuda`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: a GPU where torch sees one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of training's matrix products; weights, moments and scores are fp32. `auto`: bf16 on a
    GPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether training goes through torch.compile; `auto`: where that saves more time than the
    study's shapes take to compile."""
    micro_batch: int | None = Field(None, gt=0, le=65_536)
    """Sequences in one pass (of one rank), where a whole batch does not fit the memory."""
    checkpoint_seconds: float = Field(10.0, ge=0, le=1e6)
    """Between checkpoints of an unfinished trial."""
    keep: Literal["all", "winners", "none"] = "winners"
    """Which final weights stay on disk."""

    @model_validator(mode="after")
    def _ranks_fit(self) -> "Resources":
        if self.ranks > 1 and self.gpus not in (None, 0, self.ranks):
            raise ValueError(
                f"gpus is {self.gpus:g}, but {self.ranks} ranks have a GPU each: leave `gpus` out"
            )
        if self.ranks > 1 and self.parallel == "fsdp" and self.compile == "on":
            raise ValueError("compile: on needs parallel: ddp, since shards are not compiled")
        return self
