"""Whether ranks can share every batch of a space."""

from typing import Any

from modsearch.config.optim import OptimConfig
from modsearch.errors import ConfigError
from modsearch.space.axes import Choice, Int


def refuse_uneven(batch_size: Any, ranks: int, arm: str) -> None:
    """Every rank has as many sequences, of whatever size an arm's batches may have.

    Raises:
        ConfigError: of some size they have not.
    """
    stated = OptimConfig().batch_size if batch_size is None else batch_size
    values = stated.values if isinstance(stated, Choice | Int) else (stated,)
    if isinstance(stated, Int):
        values = values[:ranks]  # those behind leave the same remainders
    for size in values:
        if isinstance(size, int) and size % ranks:
            raise ConfigError(
                f"resources.ranks: {ranks} ranks can't share a batch_size of {size} (arm `{arm}`)"
                f": each has as many sequences"
            )
