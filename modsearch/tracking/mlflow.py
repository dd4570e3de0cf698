"""MLflow: one run a trial, in the experiment that has the study's name.

`MLFLOW_TRACKING_URI` names a server; without it a database in the study's folder is used.
"""

import logging
import os
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from modsearch.tracking.contract import Tracked, Tracker

MOST_METRICS = 1000
MOST_PARAMS = 100
"""In one request."""


class MLflow(Tracker):
    """Curves, configurations and scores."""

    def __init__(self, study: str, folder: Path) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        place = f"sqlite:///{folder.absolute() / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", place))
        known = self.client.get_experiment_by_name(study)
        self.experiment = known.experiment_id if known else self.client.create_experiment(study)

    def log(self, trial: Tracked) -> None:
        """As a run; one that the same trial made before is deleted."""
        wanted = f"tags.trial = '{trial.hash}'"
        for old in self.client.search_runs([self.experiment], wanted):
            self.client.delete_run(old.info.run_id)
        tags = {"trial": trial.hash, "arm": trial.arm, "stage": trial.stage}
        run = self.client.create_run(self.experiment, tags=tags, run_name=trial.name).info.run_id
        params = [Param(key, str(value)) for key, value in trial.config.items()]
        metrics = [
            Metric(name, value, 0, step)
            for step, values in trial.curve
            for name, value in values.items()
        ]
        metrics += [Metric(name, value, 0, 0) for name, value in trial.scores.items()]
        for first in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(run, params=params[first : first + MOST_PARAMS])
        for first in range(0, len(metrics), MOST_METRICS):
            self.client.log_batch(run, metrics=metrics[first : first + MOST_METRICS])
        self.client.set_terminated(run)
