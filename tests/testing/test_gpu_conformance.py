"""On a GPU: every router and block keeps the contract, checked by the conformance kit."""

import os

import pytest
import torch

from modsearch.nn.contracts import ROUTERS
from modsearch.nn.parts import block_names
from modsearch.testing.conformance import Trial, conformance_cases, run_case

DEVICE = os.environ.get("TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE == "cuda" and not torch.cuda.is_available(), reason="torch sees no CUDA device"
    ),
]

ELSEWHERE = {"flops", "router_flops", "builds", "options", "output_weights", "step_seed"}
"""Checks for which a device makes no difference."""
TO_THE_BIT = {"repeats", "saves"}
"""Not for experts: rows that several of them computed are added up in any order on a GPU."""


def trials() -> list[Trial]:
    """The checks on each router before each host, and on each block as it is by default."""
    found = [trial for name in ROUTERS.names() for trial in conformance_cases("router", name)]
    for name in block_names():
        of_block = conformance_cases("block", name)
        first = of_block[0].case.label
        found += [trial for trial in of_block if trial.case.label == first]
    return [trial for trial in found if trial.check not in ELSEWHERE and _fair(trial)]


def _fair(trial: Trial) -> bool:
    ffn = trial.case.config.ffn
    assert ffn is not None
    return DEVICE == "cpu" or ffn.name == "mlp" or trial.check not in TO_THE_BIT


@pytest.mark.parametrize("trial", trials(), ids=str)
def test_the_contract_is_kept(trial: Trial) -> None:
    with torch.device(DEVICE):  # where everything that the checks make lies
        run_case(trial)
