"""trackio: one run a trial, in the project that has the study's name.

`TRACKIO_DIR` says where; without it a folder of the study's.
"""

import os
from pathlib import Path

from modsearch.tracking.contract import Tracked, Tracker


class Trackio(Tracker):
    """Curves, configurations and scores."""

    def __init__(self, study: str, folder: Path) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(folder.absolute()))  # it is read by the import
        import trackio

        self.init = trackio.init
        self.study = study

    def log(self, trial: Tracked) -> None:
        """As a run that has the trial's hash."""
        run = self.init(
            project=self.study,
            name=trial.hash,
            group=trial.arm,
            config={**trial.config, "trial": trial.name},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        for step, values in trial.curve:
            run.log(values, step=step)
        if trial.scores:
            run.log({f"scores/{name}": value for name, value in trial.scores.items()})
        run.finish()
