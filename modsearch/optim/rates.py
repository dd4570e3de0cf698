"""Learning rates, step by step."""

import math

from modsearch.config.optim import OptimConfig


def learning_rate(optim: OptimConfig, width: int, step: int, steps: int) -> float:
    """Warm-up, then cosine to `final` at the last step; the peak goes down with the width."""
    peak = optim.rate * 64 / width
    warmup = max(1, round(optim.warmup * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (optim.final + (1 - optim.final) * 0.5 * (1 + math.cos(math.pi * progress)))
