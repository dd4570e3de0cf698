"""Vocabulary as an axis: which tokenizers a space has trained on its corpus."""

from collections.abc import Iterable
from typing import Any

from modsearch.errors import ConfigError, shown
from modsearch.space.axes import Choice, Distribution, Int

NUM_BYTES = 256
"""Tokens of a BPE without merges: the bytes."""
MOST_VOCABULARIES = 16
"""Tokenizers that a study trains."""
MOST = 1000
"""Values of an axis that are listed, if only to say that they are too many."""


def sizes_of(value: Any, where: str) -> list[int]:
    """All values that a `vocab_size` may have, one or open; `where` is how errors name it.

    Raises:
        ConfigError: some are no vocabularies of a BPE, or can't be listed.
    """
    listed = isinstance(value, Choice) or (isinstance(value, Int) and value.num_values <= MOST)
    if isinstance(value, Distribution) and not listed:
        raise ConfigError(
            f"{where}: where data.tokenizer is `bpe`, each vocab_size has a tokenizer of its own: "
            f"{{choice: [512, 1024]}}, and not all of a range"
        )
    found = []
    for each in value.values if listed else [value]:
        whole = isinstance(each, int) or (isinstance(each, float) and each.is_integer())
        if not whole or each < NUM_BYTES:
            raise ConfigError(
                f"{where}: where data.tokenizer is `bpe`, a whole number of {NUM_BYTES} or more, "
                f"but got {shown(each)}"
            )
        found.append(int(each))
    return found


def vocabularies(sizes: Iterable[int]) -> list[int]:
    """Sizes in their order, each once.

    Raises:
        ConfigError: they are too many, or the bytes alone, which need no BPE.
    """
    found = sorted(set(sizes))
    if len(found) > MOST_VOCABULARIES:
        raise ConfigError(
            f"data.tokenizer: `bpe` would train {len(found)} tokenizers, one for each vocab_size: "
            f"{MOST_VOCABULARIES} are the most"
        )
    if found == [NUM_BYTES]:
        raise ConfigError(
            f"data.tokenizer: `bpe` with a vocab_size of {NUM_BYTES} alone is `bytes`\n"
            f"set a larger fixed.model.vocab_size, or one for each arm"
        )
    return found
