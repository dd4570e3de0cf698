"""TensorBoard: one folder of events a trial."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from modsearch.tracking.contract import Tracked, Tracker


class TensorBoard(Tracker):
    """Curves, and a table of configurations and scores."""

    def __init__(self, study: str, folder: Path) -> None:
        self.folder = folder

    def log(self, trial: Tracked) -> None:
        """Into a folder that has the trial's name."""
        place = self.folder / trial.stage / trial.arm / trial.hash
        for old in place.glob("events.*"):
            old.unlink()
        with SummaryWriter(str(place)) as writer:
            for step, values in trial.curve:
                for name, value in values.items():
                    writer.add_scalar(name, value, step)
            config = {key: value for key, value in trial.config.items() if value is not None}
            scores = {f"scores/{name}": value for name, value in trial.scores.items()}
            writer.add_hparams(config, scores, run_name=".")
