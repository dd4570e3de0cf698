"""Tokens and FLOPs a second of a training, and how much of its device's peak they are."""

import time
from functools import cache

import torch

from modsearch.config.efficiency import Efficiency, Peak
from modsearch.config.records import Plan
from modsearch.config.runtime import Runtime

DATA_SHEETS: dict[str, dict[str, float]] = {
    "H200": {"bf16": 989e12, "fp32": 67e12},
    "H100 NVL": {"bf16": 835e12, "fp32": 60e12},
    "H100 PCIe": {"bf16": 756e12, "fp32": 51e12},
    "H100": {"bf16": 989e12, "fp32": 67e12},
    "A100": {"bf16": 312e12, "fp32": 19.5e12},
    "L40S": {"bf16": 362e12, "fp32": 91.6e12},
}
"""FLOP/s by a part of the card's name, of which the first counts: NVIDIA's data sheets, without
sparsity. fp32 is that of plain cores: TF32 is off unless somebody turns it on."""

SIDE = 1024
"""Of the matrices of which a processor is tried: much larger ones bring it nothing."""
SECONDS = 0.1
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def peak_of(runtime: Runtime) -> Peak | None:
    """Of one rank's device; None for a card that is not known here."""
    if runtime.device == "cpu":
        threads = torch.get_num_threads()
        return Peak(
            flops=_product_flops(runtime.precision, threads),
            source="measured",
            device=f"{threads} threads" if threads > 1 else "1 thread",
        )
    name = torch.cuda.get_device_name()
    for part, peaks in DATA_SHEETS.items():
        if part in name:
            return Peak(flops=peaks[runtime.precision], source="data sheet", device=name)
    return None


@cache
def _product_flops(precision: str, threads: int) -> float:
    """FLOP/s of the fastest of some products on so many threads; once in a process, a tenth of a
    second."""
    factor = torch.ones(SIDE, SIDE, dtype=DTYPES[precision])
    torch.mm(factor, factor)  # the first one loads what it needs
    began, fastest = time.perf_counter(), float("inf")
    while fastest == float("inf") or time.perf_counter() - began < SECONDS:
        started = time.perf_counter()
        torch.mm(factor, factor)
        fastest = min(fastest, time.perf_counter() - started)
    return float(2 * SIDE**3 / fastest)


def efficiency(
    plan: Plan, step_seconds: float, ranks: int, peak: Peak | None
) -> Efficiency | None:
    """Of a training whose typical step took so long; None where that is not known."""
    if not step_seconds:
        return None
    tokens = plan.tokens / plan.steps / step_seconds
    exact, by_6nd = plan.flops_per_step / step_seconds, tokens * plan.conventions["6N"]
    whole = peak.flops * ranks if peak is not None else None
    return Efficiency(
        tokens_per_second=tokens,
        flops_per_second=exact,
        flops_per_second_6nd=by_6nd,
        peak=peak,
        mfu=exact / whole if whole else None,
        mfu_6nd=by_6nd / whole if whole else None,
    )
