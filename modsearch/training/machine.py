"""What this machine has: cores, a device, and the memory that its processes take."""

import ctypes
import os
import resource
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import torch

from modsearch.config.runtime import Resources, Runtime
from modsearch.errors import StudyError

RESETS = Path("/proc/self/clear_refs")
"""Of Linux (proc(5)): a 5 written there lets `VmHWM` begin anew."""
MOST = Path("/sys/fs/cgroup/memory.max")
"""Of a container."""


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def runtime(resources: Resources, *, elsewhere: bool = False) -> Runtime:
    """The constants of a study, with the device and the precision that `auto` means here; `auto`
    compiles nothing.

    `elsewhere`: trials run on other machines, which this one can't see.

    Raises:
        StudyError: the device, or a compiler, is not there.
    """
    device = resources.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available() and not elsewhere:
        raise StudyError("device `cuda` is asked for, but torch sees none\nuse device: auto")
    if (
        device == "cuda"
        and not elsewhere
        and (seen := torch.cuda.device_count()) < resources.ranks
    ):
        raise StudyError(
            f"{resources.ranks} ranks take a GPU each, but torch sees {seen}\n"
            f"lower resources.ranks, or name a cluster that has them with --engine ray"
        )
    if resources.compile == "on" and not can_compile(device) and not elsewhere:
        raise StudyError(
            "compile: on needs a C++ compiler, but there is no g++\n"
            "install one, name yours in CXX, or say compile: off"
        )
    precision = resources.precision
    if precision == "auto":
        precision = "bf16" if device == "cuda" else "fp32"
    return Runtime(
        device=device,
        precision=precision,
        compile=resources.compile == "on",
        threads=resources.threads,
        ranks=resources.ranks,
        parallel=resources.parallel,
        micro_batch=resources.micro_batch,
        checkpoint_seconds=resources.checkpoint_seconds,
    )


def can_compile(device: str) -> bool:
    """Whether torch.compile finds what it needs here; on a GPU that comes with torch."""
    return device == "cuda" or shutil.which(os.environ.get("CXX", "g++")) is not None


def num_workers(runtime: Runtime) -> int:
    """What `workers: auto` means here."""
    if runtime.device == "cuda":
        return 1  # local workers share the first GPUs: more of them is the user's choice
    return max(1, cores() // (runtime.threads * runtime.ranks))


def wait(device: str) -> None:
    """Until the device has done what it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def forget_peak(device: str) -> bool:
    """Let the peak of memory begin anew with what is held now; whether this machine can.

    A process that has freed memory keeps much of it for what it asks for next: that is given
    back first, so that it is not what comes next that seems to need it.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return True
    with suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        RESETS.write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """Most bytes that this process has had resident, since `forget_peak` where that can be.

    Linux counts into `ru_maxrss` what the parent had when it started this process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes but on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_memory_of(device: str) -> int:
    """The same of a device, where there is one."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory()


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory has run out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch's CPU allocator raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def all_memory() -> int:
    """Bytes that programs of this machine, or of this container, can have together."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if MOST.is_file() and (limit := MOST.read_text().strip()) != "max":
        total = min(total, int(limit))
    return total + _stated("SwapTotal:")


def free_memory(device: str) -> int:
    """Bytes that a new program could have on a device, as far as this machine says."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free)
    free = _stated("MemAvailable:") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    used = MOST.with_name("memory.current")
    if MOST.is_file() and used.is_file() and (limit := MOST.read_text().strip()) != "max":
        free = min(free, max(0, int(limit) - int(used.read_text())))
    return free


def _stated(name: str) -> int:
    """Bytes of a line of Linux's /proc/meminfo; 0 where there is none."""
    facts = Path("/proc/meminfo")
    lines = facts.read_text().splitlines() if facts.is_file() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(name))
