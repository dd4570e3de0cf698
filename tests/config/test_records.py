"""What a trial is known by: names that were given stay."""

from typing import Any

import pytest

from modsearch.config.data import DataConfig, Validation
from modsearch.config.records import Budget, Candidate, Job, Plan, Stage, trial_hash
from modsearch.config.runtime import Runtime
from modsearch.space.candidates import build
from modsearch.training.budget import plan

FINGERPRINT = "0a7f2abffa4b5609"
WRITTEN: dict[str, Any] = {
    "arm": "dense",
    "budget": {"flops": 25000000000.0},
    "seed": 1001,
    "validation": {"part": "validation", "windows": 64},
    "candidate": {
        "model": {
            "vocab_size": 256, "seq_len": 256, "depth": 2, "width": 16, "num_heads": 2,
            "num_kv_heads": 2, "tied": True, "block": {"name": "dense"},
            "ffn": {"name": "mlp", "ratio": 2.6666666666666665},
            "router": {
                "name": "expert_choice", "gate": "identity", "z_weight": 0.0, "init_std": 0.02,
                "bce_weight": 0.01,
            },
            "schedule": {"name": "every_nth", "decay": "uniform", "spread": 0.5, "warmup": 0.0},
            "capacity": 0.125, "every": 2,
        },
        "optim": {
            "batch_size": 2, "rate": 0.005, "warmup": 0.1, "final": 0.1, "weight_decay": 0.1,
            "beta1": 0.9, "beta2": 0.99, "clip": 1.0, "min_steps": 100, "max_epochs": 4.0,
        },
        "data": {"corpus": "stdlib"},
    },
}  # fmt: skip
"""Of a published study, from before optimisers had names."""
NAME = "0a34b11a044ae89b"


def job(**optim: Any) -> Job:
    """The same trial as it would be planned now."""
    written = WRITTEN["candidate"]
    given = build({"model": written["model"], "optim": written["optim"] | optim}, DataConfig())
    found = plan(given, Budget(flops=2.5e10), 10**9)
    assert isinstance(found, Plan)
    return Job(
        stage=Stage.MEASURE,
        arm="dense",
        candidate=given,
        budget=Budget(flops=2.5e10),
        seed=1001,
        validation=Validation(windows=64),
        fingerprint=FINGERPRINT,
        runtime=Runtime(),
        plan=found,
    )


def test_a_trial_of_before_keeps_its_name_as_it_was_written_read_and_planned() -> None:
    assert trial_hash(WRITTEN, FINGERPRINT, []) == NAME
    read = Candidate.model_validate(WRITTEN["candidate"]).model_dump(mode="json")
    assert read["optim"]["optimizer"] == {"name": "adamw"}
    assert trial_hash(WRITTEN | {"candidate": read}, FINGERPRINT, []) == NAME
    assert job().hash == NAME
    assert job(optimizer="adamw", schedule={"name": "cosine"}, width_rule="inverse").hash == NAME


@pytest.mark.parametrize(
    "said",
    [
        {"optimizer": "muon"},
        {"optimizer": {"name": "muon", "momentum": 0.9}},
        {"schedule": "linear"},
        {"schedule": "wsd"},
        {"schedule": {"name": "wsd", "decay": 0.1}},
        {"width_rule": "mup"},
    ],
    ids=str,
)
def test_what_trains_otherwise_is_another_trial(said: dict[str, Any]) -> None:
    assert job(**said).hash != NAME


def test_an_option_at_its_default_and_one_left_out_are_one_trial() -> None:
    assert job(schedule="wsd").hash == job(schedule={"name": "wsd", "decay": 0.2}).hash
    assert job(optimizer="muon").hash != job(optimizer={"name": "muon", "steps": 6}).hash
