"""What a trial's folder holds beside its result: its configuration and its log."""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from modsearch.config.reading import read_yaml
from modsearch.config.records import Job, TrialConfig
from modsearch.config.wording import first_error
from modsearch.errors import ConfigError, StudyError

WEIGHTS = "checkpoint/model.safetensors"
"""Of a trained model, in its trial's folder."""
LOGGED = ("step", "steps", "loss")


DIGITS = 6
"""Of a logged number: more than anything shows, and what a packed study keeps."""


def read_metrics(path: Path) -> Iterator[dict[str, float]]:
    """Rows of a metrics file, to be shown: with six significant digits, so that a study and its
    packed records have the same."""
    for row in metrics_of(path):
        yield {key: _rounded(value) for key, value in row.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def metrics_of(path: Path) -> Iterator[dict[str, float]]:
    """Rows of a metrics file as they were written; a line that was cut short or is none ends
    it."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                return
            if not isinstance(row, dict):
                return
            if not all(isinstance(row.get(key), int | float) for key in LOGGED):
                return
            yield row


def weights_folder(path: Path) -> Path:
    """The folder with weights: that of a trial, or the path itself."""
    inside = path / "checkpoint"
    return inside if inside.is_dir() else path


def check_weights(folder: Path) -> None:
    """Told before anything heavy is imported.

    Raises:
        StudyError: a folder has no checkpoint.
    """
    if (folder / "model.safetensors").is_file() and (folder / "model.json").is_file():
        return
    for trial in (folder, folder.parent):
        if (trial / "result.json").is_file():
            raise StudyError(
                f"no weights in {trial}\n`resources.keep` of its search space says whose are "
                f"kept: `winners` (confirmed trials, the default), `all` or `none`"
            )
    inside = next(iter(sorted(folder.glob("trials/*/checkpoint"))), None)
    hint = "a checkpoint is a folder with model.safetensors and model.json"
    if inside is not None:
        hint += f", here for one {inside.parent}"
    raise StudyError(f"no checkpoint in {folder}\n{hint}")


def trial_config(config: Path) -> TrialConfig:
    """What a trial's `config.yaml` says that it was made with.

    Raises:
        ConfigError: it can't be read.
    """
    values = read_yaml(config, [])
    try:
        return TrialConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{config}: {first_error(error, TrialConfig, values)}") from error


def job_config(job: Job) -> dict[str, object]:
    """What is written beside a result: the resolved configuration, as plain data."""
    return job.model_dump(mode="json", exclude={"plan", "scoring", "micro_batch"})
