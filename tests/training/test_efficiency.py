"""Tokens and FLOPs a second, and the peaks that they are held against."""

import pytest
import torch

from modsearch.config.data import DataConfig
from modsearch.config.efficiency import Peak
from modsearch.config.records import Budget, Plan
from modsearch.config.runtime import Runtime
from modsearch.space.candidates import build
from modsearch.training import efficiency as of_training
from modsearch.training.budget import plan
from modsearch.training.efficiency import DATA_SHEETS, efficiency, peak_of


def planned(block: str) -> Plan:
    model = {"block": block, "depth": 2, "width": 16, "num_heads": 1, "seq_len": 32}
    given = build({"model": model, "optim": {"min_steps": 1}}, DataConfig())
    spent = plan(given, Budget(flops=1e9), 10**9)
    assert isinstance(spent, Plan)
    return spent


@pytest.mark.parametrize("block", ["dense", "mod"])
def test_utilisation_is_that_of_all_ranks_by_either_count(block: str) -> None:
    spent = planned(block)
    peak = Peak(flops=1e9, source="measured", device="1 thread")
    found = efficiency(spent, 0.5, 2, peak)
    assert found is not None
    assert found.tokens_per_second == pytest.approx(spent.tokens / spent.steps / 0.5)
    assert found.flops_per_second == pytest.approx(spent.flops_per_step / 0.5)
    assert found.mfu == pytest.approx(found.flops_per_second / 2e9)
    by_6nd = 6 * spent.params * found.tokens_per_second
    assert found.mfu_6nd == pytest.approx(by_6nd / 2e9)
    without = efficiency(spent, 0.5, 2, None)
    assert without is not None
    assert (without.mfu, without.mfu_6nd) == (None, None)
    assert efficiency(spent, 0.0, 1, peak) is None, "no step was timed"


def test_a_processor_is_tried_once_in_a_process() -> None:
    of_training._product_flops.cache_clear()
    before = torch.get_rng_state()
    first, again = peak_of(Runtime()), peak_of(Runtime())
    assert first is not None
    assert first == again
    assert 1e8 < first.flops < 1e14
    assert torch.equal(torch.get_rng_state(), before), "what a trial draws must stay"
    assert of_training._product_flops.cache_info().misses == 1


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_a_card_is_known_by_its_name(
    name: str, flops: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    found = peak_of(Runtime(device="cuda", precision="bf16"))
    assert (found.flops if found else None) == flops
    assert all(peaks["fp32"] < peaks["bf16"] for peaks in DATA_SHEETS.values())
