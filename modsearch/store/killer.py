"""What Linux has killed because memory ran out: the killed process leaves no word of it."""

from pathlib import Path

COUNTS = Path("/proc/vmstat")
"""Of Linux since it booted, of all processes and containers of the machine (proc(5))."""


def num_killed() -> int | None:
    """Processes that were killed so far; None where the system does not say."""
    lines = COUNTS.read_text().splitlines() if COUNTS.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def has_killed(before: int | None) -> bool:
    """Whether it may have killed somebody since there were so many."""
    now = num_killed()
    return before is None or now is None or now > before
