"""Whether models have a row for each token of their tokenizer, and how many more than that."""

from collections.abc import Sequence

from modsearch.config.data import BYTES, CorpusFacts
from modsearch.config.model import ModelConfig
from modsearch.data.corpus import Corpora
from modsearch.errors import ConfigError, shown
from modsearch.space.axes import Distribution
from modsearch.space.space import Space, over

FEW_UNUSED = 128
"""Rows that nobody minds: vocabularies are often rounded up. That of bytes is round already."""
MOST = 1000
"""Values of an axis that are looked at."""


def refuse_too_few(space: Space, corpora: Corpora) -> None:
    """Whether every arm can be trained on the tokens that there are. Where each vocabulary has a
    tokenizer of its own, it can.

    Raises:
        ConfigError: the models of an arm have fewer rows than the tokenizer has tokens.
    """
    if corpora.facts:
        return
    facts = corpora.first.facts
    for arm in space.arms:
        if (most := max(_sizes(space, arm))) < facts.vocab_size:
            raise ConfigError(
                f"model.vocab_size of arm `{arm}` is {most}, less than the {facts.vocab_size} "
                f"tokens of tokenizer {shown(facts.tokenizer)}\n"
                f"set it to {facts.vocab_size} or more, or name another data.tokenizer"
            )


def unlike(space: Space, corpora: Corpora) -> list[str]:
    """A line for each vocabulary that has more rows than tokens, and for each arm that has fewer
    with some values of an axis."""
    sizes = {arm: _sizes(space, arm) for arm in space.arms}
    asked = corpora.facts or {max(map(max, sizes.values())): corpora.first.facts}
    found = [line for size, facts in asked.items() for line in unused(size, facts)]
    if corpora.facts:
        return found
    facts = corpora.first.facts
    for arm, each in sizes.items():
        few = [str(size) for size in each if size < facts.vocab_size]
        if few and len(few) < len(each):
            found.append(
                f"vocab_size {', '.join(few)} of arm `{arm}` is less than the "
                f"{facts.vocab_size} tokens of the tokenizer: such trials are rejected"
            )
    return found


def unused(size: int, facts: CorpusFacts) -> list[str]:
    """The head pays for tokens that never occur, too: a line where there are many."""
    few = 1 if facts.tokenizer == BYTES else FEW_UNUSED
    if size < facts.vocab_size + few:
        return []
    instead = "; data.tokenizer is `bytes`, `bpe` would use them" if few == 1 else ""
    return [
        f"vocab_size is {size}, but the tokenizer has {facts.vocab_size} tokens: others never "
        f"occur, and the LM head pays for them{instead}"
    ]


def _sizes(space: Space, arm: str) -> Sequence[int]:
    """Values that the models of an arm may have."""
    settings = space.arms[arm]
    model = over(space.recipe(settings.control_of or arm), settings)["model"]
    value = model.get("vocab_size", ModelConfig().vocab_size)
    values = value.spread(MOST) if isinstance(value, Distribution) else [value]
    return [int(each) for each in values]
