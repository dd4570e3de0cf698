"""What can be scored by its name: a checkpoint of ours, or weights of somebody else's."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from modsearch.config.model import ModelConfig
from modsearch.data.tokenizers import (
    MODEL,
    SETTINGS,
    FileTokenizer,
    Tokenizer,
    read_tokenizer,
    settings_of,
)
from modsearch.errors import ConfigError
from modsearch.evaluation.imported import WEIGHTS, imported_folder
from modsearch.evaluation.llama import Llama, load_llama
from modsearch.evaluation.shapes import CONFIG, HUB, OWN, is_imported, read_config
from modsearch.nn.model import Decoder
from modsearch.store.files import read_file
from modsearch.store.trial import weights_folder
from modsearch.training.checkpoint import load_model, model_of

PARTS = (CONFIG, "model.json", "model*.safetensors", MODEL, SETTINGS)
"""Files that scores depend on."""


@dataclass(frozen=True)
class Opened:
    """A model that can be scored, and the tokenizer that it was trained with."""

    name: str
    model: Decoder | Llama
    tokenizer: Tokenizer
    folder: Path
    """With its files."""

    @property
    def digest(self) -> str:
        """Of its weights, shape and tokenizer."""
        found = hashlib.sha256()
        for path in sorted(path for pattern in PARTS for path in self.folder.glob(pattern)):
            found.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        return found.hexdigest()


def open_model(target: str, device: str = "cpu") -> Opened:
    """A checkpoint's folder, a trial's, `hf:NAME`, or a folder with Llama-shaped weights or with
    what `modsearch export` wrote, which may have `hf:` before it, too.

    Raises:
        ConfigError: its tokenizer can't be read.
        DataError: the hub has it not, or its shape or weights do not fit.
        StudyError: there is no checkpoint, or it is damaged.
    """
    if is_imported(target):
        name = target.removeprefix(HUB)
        folder = imported_folder(target)
        own = read_config(folder).get("model_type") == OWN
        model = read_back(folder, device) if own else load_llama(folder, device)
        return Opened(target, model, imported_tokenizer(folder, name), folder)
    folder = weights_folder(Path(target))
    return Opened(target, load_model(folder, device), read_tokenizer(folder), folder)


def read_back(folder: Path, device: str = "cpu") -> Decoder:
    """The model of a folder that `modsearch export` has written with code, which is not run.

    Raises:
        ConfigError: a component of it is not known.
        StudyError: its configuration is not there, or something is damaged.
    """
    remedy = "export the checkpoint again, or score the checkpoint itself"
    parts = read_file(folder / CONFIG, _own_parts, remedy)
    return model_of(parts, folder / WEIGHTS, device, remedy)


def _own_parts(data: bytes) -> ModelConfig:
    stated = json.loads(data)
    if OWN not in stated:
        raise ValueError(f"it has no key `{OWN}` with the model's configuration")
    return ModelConfig.model_validate(stated[OWN])


def imported_tokenizer(folder: Path, name: str) -> Tokenizer:
    """That of somebody else's model: it opens texts as its files say, and reads special tokens
    in them, as `transformers` does.

    Raises:
        ConfigError: there is none, or it does not say how a document ends.
    """
    found = read_tokenizer(folder, name=name)
    if not isinstance(found, FileTokenizer):
        raise ConfigError(f"no {MODEL} in {folder}")
    settings = settings_of(folder)
    found.model.encode_special_tokens = _splits_special_tokens(folder)
    begin = found.model.token_to_id(settings.get("bos_token", ""))
    found.begin = found.end if begin is None else begin
    found.opening = tuple(found.model.encode("", add_special_tokens=True).ids)
    return found


def _splits_special_tokens(folder: Path) -> bool:
    """Whether the name of a special token in a text is text, as in what modsearch exports."""
    try:
        stated = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stated, dict) and stated.get("split_special_tokens") is True
