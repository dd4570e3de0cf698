"""Trained weights and their configuration, as a folder keeps them."""

from pathlib import Path

import safetensors
import safetensors.torch
import torch

from modsearch.config.model import ModelConfig
from modsearch.errors import ModsearchError, StudyError, first_line
from modsearch.nn.model import Decoder
from modsearch.store.files import read_model, write_bytes, write_model

LATER_BUFFER = "router.salt"
"""Of router `random`; weights from before it have none, and are read as if it were 0."""


def save_model(model: Decoder, folder: Path) -> None:
    """Weights as safetensors and the configuration as JSON."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state().items()}
    write_bytes(folder / "model.safetensors", safetensors.torch.save(tensors))
    write_model(folder / "model.json", model.config)


def load_model(folder: Path, device: str = "cpu") -> Decoder:
    """A trained model from a checkpoint folder, in evaluation mode.

    Raises:
        StudyError: there is no checkpoint, or it is damaged.
    """
    weights, config = folder / "model.safetensors", folder / "model.json"
    if not (weights.is_file() and config.is_file()):
        raise StudyError(
            f"no checkpoint in {folder}\n"
            f"a checkpoint is a folder with model.safetensors and model.json"
        )
    remedy = "bring the file back; a trial's folder that is deleted is trained again"
    parts = read_model(config, ModelConfig, remedy)
    try:
        tensors = safetensors.torch.load_file(weights, device=device)
        model = Decoder(parts).to(device)
        with torch.no_grad():
            for name, tensor in model.state().items():
                if name not in tensors and name.endswith(LATER_BUFFER):
                    tensor.zero_()
                    continue
                if tensor.shape != tensors[name].shape:  # which might fit all the same
                    raise ValueError(f"{name} has another shape than {config.name} says")
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
