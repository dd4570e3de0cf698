"""Trained weights and their configuration, as a folder keeps them."""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from modsearch.config.model import ModelConfig
from modsearch.errors import ModsearchError, StudyError, first_line
from modsearch.nn.model import Decoder
from modsearch.store.files import read_model, whole, write_model
from modsearch.store.trial import check_weights

MAY_LACK = ("router.salt", "router.updates")
"""Buffers that are read as 0 where weights have none: older ones lack the salt of router `random`,
exported ones what training alone reads."""


RESUME = Path("checkpoint", "resume.safetensors")
"""Of a training that goes on, in a trial's folder."""


def take_weights(model: Decoder, trial: Path) -> None:
    """What the training of a trial has come to, for a model of its shape."""
    with (
        torch.no_grad(),
        safetensors.safe_open(trial / RESUME, framework="pt") as file,
    ):
        for name, tensor in model.state().items():
            tensor.copy_(file.get_tensor(f"model.{name}"))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str] | None = None
) -> None:
    """Contiguous tensors of the processor as a file of safetensors, whole or not at all, and
    without a copy of them in memory.

    Raises:
        OSError: it can't be written.
    """
    try:
        with whole(path) as part:
            part.touch()
            mode = part.stat().st_mode
            safetensors.torch.save_file(dict(tensors), part, dict(meta) if meta else None)
            part.chmod(mode)  # it makes files for their owner alone
    except safetensors.SafetensorError as error:
        raise OSError(f"can't write {path}: {first_line(error)}") from error


def save_model(model: Decoder, folder: Path) -> None:
    """Weights as safetensors and the configuration as JSON."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state().items()}
    write_tensors(folder / "model.safetensors", tensors)
    write_model(folder / "model.json", model.config)


def load_model(folder: Path, device: str = "cpu") -> Decoder:
    """A trained model from a checkpoint folder, in evaluation mode.

    Raises:
        StudyError: there is no checkpoint, or it is damaged.
    """
    check_weights(folder)
    weights, config = folder / "model.safetensors", folder / "model.json"
    remedy = "bring the file back; a trial's folder that is deleted is trained again"
    return model_of(read_model(config, ModelConfig, remedy), weights, device, remedy)


def model_of(parts: ModelConfig, weights: Path, device: str, remedy: str) -> Decoder:
    """A model with the weights of a file, in evaluation mode.

    Raises:
        StudyError: they are damaged, or of another model; says the remedy.
    """
    try:
        tensors = safetensors.torch.load_file(weights, device=device)
        model = Decoder(parts).to(device)
        with torch.no_grad():
            for name, tensor in model.state().items():
                if name not in tensors and name.endswith(MAY_LACK):
                    tensor.zero_()
                    continue
                if tensor.shape != tensors[name].shape:  # which might fit all the same
                    raise ValueError(f"{name} has another shape than its configuration says")
                tensor.copy_(tensors[name])
    except (ModsearchError, torch.OutOfMemoryError):
        raise
    except (
        safetensors.SafetensorError,
        KeyError,
        RuntimeError,
        ValueError,
        OverflowError,
        TypeError,
    ) as error:
        raise StudyError(f"can't read {weights}: {first_line(error)}\n{remedy}") from error
    return model.eval()
