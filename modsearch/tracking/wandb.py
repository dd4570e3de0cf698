"""Weights & Biases: one run a trial, in the project that has the study's name.

`WANDB_MODE`, `WANDB_ENTITY` and the like say the rest, as for any program.
"""

import os
from pathlib import Path

import wandb

from modsearch.errors import ModsearchError
from modsearch.tracking.contract import Tracked, Tracker

AWAY = ("offline", "disabled", "dryrun")
QUIET = wandb.Settings(
    silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True
)


class WandB(Tracker):
    """Curves, configurations and scores."""

    def __init__(self, study: str, folder: Path) -> None:
        if os.environ.get("WANDB_MODE") not in AWAY and not wandb.login(prompt=False):
            raise ModsearchError(
                "--track wandb needs a login, but there is none\n"
                "run `wandb login`, or set WANDB_MODE=offline and sync later"
            )
        self.study = study
        self.folder = folder

    def log(self, trial: Tracked) -> None:
        """As a run that the same trial finds again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self.study,
            id=f"{self.study}-{trial.hash}",
            name=trial.name,
            group=trial.arm,
            job_type=trial.stage,
            config=dict(trial.config),
            dir=str(self.folder),
            resume="allow",
            reinit="finish_previous",
            settings=QUIET,
        )
        for step, values in trial.curve:
            run.log(values, step=step)
        run.summary.update(dict(trial.scores))
        run.finish()
