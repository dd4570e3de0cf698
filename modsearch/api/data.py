"""Corpora as token shards, made before a study asks for them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modsearch.config.answers import Prepared
from modsearch.config.arguments import check_count
from modsearch.errors import ModsearchError, shown

if TYPE_CHECKING:
    from modsearch.api.space import SpaceLike
    from modsearch.config.data import DataConfig
    from modsearch.data.corpus import Corpus

MOST_VOCABULARY = 1_048_576


def prepare_data(
    target: "SpaceLike | DataConfig",
    *,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    text: str | None = None,
    overrides: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> Prepared:
    """Read, split and encode a corpus, so that studies find its tokens ready; what an earlier try
    has done is not done again.

    Args:
        target: a search space (a YAML file, a shipped name, plain data), or a place of text: a
            file, a folder, a glob, `stdlib` or `hub:NAME`.
        tokenizer: of a place of text: `bytes`, `bpe`, a `tokenizer.json`, a folder or a name of
            the hub.
        vocab_size: of a `bpe` for a place of text.
        text: the field of a place of text that has it.
        overrides: values of a space to replace.
        progress: is told what is done, and how many of how many parts.

    Raises:
        ModsearchError: nothing is there, a file can't be read, or there is too little text.
    """
    return _loaded(target, tokenizer, vocab_size, text, overrides, progress, prepare=True)


def show_data(
    target: "SpaceLike | DataConfig",
    *,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    text: str | None = None,
    overrides: Sequence[str] = (),
) -> Prepared:
    """What is in a corpus that was prepared; arguments are those of `prepare_data`.

    Raises:
        ModsearchError: it was not.
    """
    return _loaded(target, tokenizer, vocab_size, text, overrides, None, prepare=False)


def _loaded(
    target: "SpaceLike | DataConfig",
    tokenizer: str | None,
    vocab_size: int | None,
    text: str | None,
    overrides: Sequence[str],
    progress: Callable[[str, int, int], None] | None,
    *,
    prepare: bool,
) -> Prepared:

    from modsearch.data.corpus import load_corpora

    data, sizes = _asked(target, tokenizer, vocab_size, text, overrides)
    corpora = load_corpora(data, sizes, told=progress, prepare=prepare)
    first, *others = map(_prepared, corpora.by_size.values())
    return first.model_copy(update={"others": others})


def _prepared(corpus: "Corpus") -> Prepared:
    return Prepared(
        corpus=corpus.facts,
        folder=str(corpus.folder),
        bytes=sum(path.stat().st_size for path in corpus.folder.glob("*.bin")),
    )


def _asked(
    target: "SpaceLike | DataConfig",
    tokenizer: str | None,
    vocab_size: int | None,
    text: str | None,
    overrides: Sequence[str],
) -> "tuple[DataConfig, list[int]]":
    from modsearch.config.data import BPE, DataConfig

    options = {"--tokenizer": tokenizer, "--vocab-size": vocab_size, "--text": text}
    given = [name for name, value in options.items() if value is not None]
    if isinstance(target, DataConfig):
        return target, [vocab_size or 256]
    if not _is_space(target):
        if overrides:
            raise ModsearchError(f"--set is for a search space, but {shown(target)} is text")
        if tokenizer == BPE and vocab_size is None:
            raise ModsearchError("--vocab-size is missing: a bpe is trained to so many tokens")
        size = check_count("vocab-size", vocab_size or 256, 2, MOST_VOCABULARY)
        return _config(str(target), tokenizer or "bytes", text), [size]
    from modsearch.api.space import outline

    if given:
        raise ModsearchError(f"{given[0]} is for a place of text: a search space says it in data")
    space = outline(target, overrides)
    return space.data, space.vocab_sizes


def _is_space(target: object) -> bool:
    """A place of text is what is no YAML file and no shipped name."""
    if not isinstance(target, str | Path):
        return True
    if Path(target).suffix.lower() in (".yaml", ".yml"):
        return True
    from modsearch.config.shipped import shipped_names

    return str(target) in shipped_names("search_spaces") and not os.path.exists(target)


def _config(place: str, tokenizer: str, text: str | None) -> "DataConfig":
    from pydantic import ValidationError

    from modsearch.config.data import DataConfig
    from modsearch.config.wording import first_error

    corpus = {"path": place, "text": text} if text else place
    values = {"corpus": corpus, "tokenizer": tokenizer}
    try:
        return DataConfig.model_validate(values)
    except ValidationError as error:
        raise ModsearchError(first_error(error, DataConfig, values)) from error
