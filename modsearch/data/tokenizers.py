"""Tokenizers: bytes, a BPE that is trained on a corpus, and any `tokenizer.json`.

A checkpoint keeps the tokenizer it was trained with, as the files that other tools read; without
any its tokens are bytes.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from modsearch.config.data import BPE, BYTES
from modsearch.data.hub import is_path, looked_for, tokenizer_folder
from modsearch.errors import ConfigError, first_line, shown
from modsearch.store.files import write_text

NUM_BYTES = 256
LEAST_BPE = NUM_BYTES + 1
"""All bytes and the end of a document."""
END = "<|endoftext|>"
USUAL_ENDS = (END, "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[SEP]")
"""Of tokenizers that do not say how a document ends."""
MODEL, SETTINGS = "tokenizer.json", "tokenizer_config.json"
"""Files of a tokenizer in the folder of a checkpoint, by the names that they have everywhere."""


class Tokenizer(Protocol):
    """Text to tokens and back."""

    @property
    def name(self) -> str:
        """What it is, for facts and caches."""

    @property
    def identity(self) -> str:
        """Changes with what it makes of a text."""

    @property
    def vocab_size(self) -> int:
        """Tokens; a model needs as many."""

    @property
    def end(self) -> int:
        """The token that ends a document; text never has it."""

    @property
    def begin(self) -> int:
        """The token before a text that stands alone: `end`, unless the tokenizer has its own."""

    @property
    def opening(self) -> Sequence[int]:
        """What stands before every text, which `encode` leaves out; nothing of our own ones."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, without any that stands for a beginning or an end."""

    def arrays(self, texts: Sequence[bytes]) -> list[npt.NDArray[Any]]:
        """The same of UTF-8, as arrays."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, the end of a document left out; what is no character is U+FFFD."""

    def save(self, folder: Path) -> None:
        """Write the files that `read_tokenizer` reads."""


class ByteTokenizer:
    """UTF-8, a token a byte; byte 0 ends a document."""

    name = identity = BYTES
    vocab_size = NUM_BYTES
    end = 0
    begin = end
    opening: Sequence[int] = ()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """A byte that was no UTF-8 where a text was read (PEP 383) is that byte again; any other
        half of a surrogate pair is the replacement character."""
        whole = (re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text) for text in texts)
        return [list(text.encode(errors="surrogateescape")) for text in whole]

    def arrays(self, texts: Sequence[bytes]) -> list[npt.NDArray[Any]]:
        """As they are."""
        return [np.frombuffer(text, np.uint8) for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens beyond the bytes are left out, too."""
        known = (token for token in tokens if 0 < token < NUM_BYTES)
        return bytes(known).decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Nothing: a folder without a tokenizer is one of bytes."""


class FileTokenizer:
    """One of the `tokenizers` library, as a `tokenizer.json` says.

    Raises:
        ConfigError: it has not the token that is to end a document.
    """

    def __init__(self, model: tokenizers.Tokenizer, name: str, end: str) -> None:
        known = model.get_vocab(with_added_tokens=True)
        if end not in known:
            raise ConfigError(
                f"tokenizer {shown(name)} has no token {shown(end)} to end a document\n"
                f"name one of its own with data.end"
            )
        model.encode_special_tokens = True  # what stands in a text is text
        model.no_truncation()
        model.no_padding()
        self.model = model
        self.name = name
        self.end_text = end
        self.end = self.begin = known[end]
        self.opening: Sequence[int] = ()
        self.vocab_size = max(known.values()) + 1

    @property
    def identity(self) -> str:
        """A hash of all that it says, with its end."""
        said = f"{self.end_text}\n{self.model.to_str()}"
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """What a text says is text: names of special tokens in it are no such tokens."""
        whole = [re.sub("[\ud800-\udfff]", "\ufffd", text) for text in texts]
        found = self.model.encode_batch_fast(whole, add_special_tokens=False)
        return [each.ids for each in found]

    def arrays(self, texts: Sequence[bytes]) -> list[npt.NDArray[Any]]:
        """Bytes that are no UTF-8 are not taken."""
        tokens = self.encode([text.decode() for text in texts])
        return [np.array(each, np.uint32) for each in tokens]

    def decode(self, tokens: Sequence[int]) -> str:
        """Special tokens are left out."""
        text: str = self.model.decode(list(tokens), skip_special_tokens=True)
        return text

    def save(self, folder: Path) -> None:
        """As `transformers` writes it, too."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / MODEL, self.model.to_str())
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "name_or_path": self.name,
            "eos_token": self.end_text,
        }
        write_text(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")


def open_tokenizer(name: str, end: str | None = None) -> Tokenizer:
    """`bytes`, a `tokenizer.json`, a folder that has one, or one of the hub's by its name.

    Args:
        name: which.
        end: the token that ends a document, where it does not say so itself.

    Raises:
        ConfigError: there is none, it can't be read, or how a document ends is not known.
        DataError: the hub has it not, or can't be reached.
    """
    if name == BYTES:
        return ByteTokenizer()
    path = Path(name).expanduser()
    if path.is_dir():
        return read_tokenizer(path, end, name)
    if path.is_file():
        return _opened(path, end, name)
    if is_path(name):
        raise ConfigError(
            f"no tokenizer at {shown(name)}{looked_for(name)}\n"
            f"a tokenizer is `bytes`, `bpe`, a tokenizer.json, a folder with one, or a name of "
            f"the hub, NAME or OWNER/NAME"
        )
    return read_tokenizer(tokenizer_folder(name, [MODEL, SETTINGS]), end, name)


def read_tokenizer(folder: Path, end: str | None = None, name: str | None = None) -> Tokenizer:
    """That of a folder with a model; bytes where a checkpoint has none.

    Raises:
        ConfigError: it can't be read, or a folder that was named has none.
    """
    path = folder / MODEL
    if path.is_file():
        return _opened(path, end, name)
    if name is None:
        return ByteTokenizer()
    raise ConfigError(
        f"no {MODEL} in {shown(name)}\n"
        f"`save_pretrained` of transformers writes one of every tokenizer"
    )


def train_bpe(texts: Iterable[str], vocab_size: int) -> FileTokenizer:
    """A BPE of bytes (Sennrich et al. 2016, arXiv 1508.07909; of bytes as GPT-2 has it).

    Args:
        texts: what it is fitted to.
        vocab_size: tokens, with all bytes and the end of a document; fewer where the texts have
            not so many pairs.

    Raises:
        ConfigError: `vocab_size` does not hold the bytes.
    """
    if vocab_size < LEAST_BPE:
        raise ConfigError(
            f"a bpe needs a vocab_size of {LEAST_BPE} or more: every byte and the end of a "
            f"document, but got {vocab_size}"
        )
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(_clean(texts), trainer)
    return FileTokenizer(model, f"{BPE}-{vocab_size}", END)


def _clean(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield re.sub("[\ud800-\udfff]", "\ufffd", text)


def _opened(path: Path, end: str | None, name: str | None) -> FileTokenizer:
    settings = settings_of(path.parent)
    name = name or settings.get("name_or_path") or str(path)
    try:
        model = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no kind of its own
        raise ConfigError(f"can't read tokenizer {path}: {first_line(error)}") from error
    chosen = (
        end
        or settings.get("eos_token")
        or next((each for each in USUAL_ENDS if model.token_to_id(each) is not None), None)
    )
    if chosen is None:
        raise ConfigError(
            f"tokenizer {shown(name)} does not say which token ends a document\n"
            f"name one of its tokens with data.end"
        )
    return FileTokenizer(model, name, chosen)


def settings_of(folder: Path) -> dict[str, str]:
    """Texts of the settings beside a tokenizer; a token may be a text or have one."""
    try:
        found: Any = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    items = found.items() if isinstance(found, dict) else ()
    texts = {key: each.get("content") if isinstance(each, dict) else each for key, each in items}
    return {key: each for key, each in texts.items() if isinstance(each, str)}
