"""What a training tells while it goes, and what it leaves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

OnLog = Callable[[Mapping[str, float]], None]
"""What is given each line of a training's log."""


@dataclass(frozen=True)
class Trained:
    """What training leaves beside the weights."""

    final_train_loss: float
    step_seconds: float
    phase_seconds: Mapping[str, float]
    """Of the steps since the last start, by phase."""
