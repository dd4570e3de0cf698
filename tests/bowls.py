"""Studies whose losses come from a law in the place of training, driven as a study is driven."""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from inline import CORPUS, Inline, quietly

from modsearch.analysis.claims import Claim, study_claims
from modsearch.config.records import Job, Plan, Record, Scores, Stage, State
from modsearch.config.runtime import Share
from modsearch.engines.contract import RunTrial
from modsearch.space.candidates import load_space
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_yaml
from modsearch.store.trial import job_config
from modsearch.study.runner import Runner

SPACE: dict[str, Any] = {
    "name": "looks",
    "data": {"corpus": CORPUS},
    "fixed": {
        "model": {"seq_len": 32, "num_heads": 1},
        "optim": {"batch_size": 2, "min_steps": 5},
    },
    "arms": {
        "dense": {"model": {"block": "dense"}},
        "mod": {"model": {"block": "mod"}},
        "random": {"control_of": "mod", "model": {"router": "random"}},
    },
    "measure": {
        "ladder": [{"budget": 2e9, "depth": 2, "widths": [8, 12, 16, 20, 24]}],
        "windows": 2,
    },
    "confirm": {"budgets": [2e9], "runs": 18, "margin": 0.02, "windows": 2},
    "resources": {"workers": 1},
}

Loss = Callable[[Job], float]


def bowl(job: Job, gain: float = 0.0, sd: float = 0.003, best: float = 17.0) -> float:
    """A parabola in the width, and noise that is a function of the trial."""
    model = job.candidate.model
    noise = math.sin(1000 * job.seed + 77 * model.width + 31 * len(job.arm))
    return 1.5 + 0.1 * math.log(model.width / best) ** 2 + sd * noise - gain * (job.arm == "mod")


def told(root: Path, loss: Loss, _run: RunTrial, workers: int | None, share: Share) -> Inline:
    """An engine whose trials have the loss of a law."""

    def run(job: Job, _: object = None) -> Record:
        assert isinstance(job.plan, Plan)
        value = loss(job)
        record = job.record(
            State.COMPLETE,
            scores=Scores(
                causal_loss=value, train_mode_loss=value, bits_per_byte=value,
                final_train_loss=value, realised_capacity=None, realised_forward_flops=1e3,
                agreement=None, seconds=1.0, step_seconds=0.01, peak_memory=1,
            ),
        )  # fmt: skip
        study = StudyDirectory(root)
        write_yaml(study.trial(job.hash) / "config.yaml", job_config(job))
        study.write_record(record)
        return record

    return Inline(quietly, run, workers, share)


def search(root: Path, loss: Loss, **changes: Any) -> tuple[list[Record], Claim]:
    """Run or resume; the records and the headline."""
    space = load_space({**SPACE, **changes}, [])
    runner = Runner(space, root, make_engine=partial(told, root, loss))
    runner.run()
    records = runner.directory.records()
    return records, study_claims(runner.directory.manifest(), records).headline


def confirmed(records: list[Record]) -> Counter[str]:
    return Counter(record.arm for record in records if record.stage is Stage.CONFIRM)
