"""Where somebody else's model is; without torch, so that a mistake is told at once."""

from pathlib import Path

from modsearch.data.hub import model_folder
from modsearch.evaluation.shapes import CONFIG, HUB

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FILES = (CONFIG, "model*.safetensors", WEIGHTS, INDEX, "tokenizer*.json")
"""Of a model on the hub; never a pickle."""


def imported_folder(target: str) -> Path:
    """The folder of `hf:NAME`, fetched where it is not there, or of what is a folder already.

    Raises:
        DataError: it is not to be had.
    """
    name = target.removeprefix(HUB)
    return Path(name) if Path(name).is_dir() else model_folder(name, FILES)
