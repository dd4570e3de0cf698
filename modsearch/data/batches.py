"""Training batches as a pure function of seed and step."""

import numpy as np
import numpy.typing as npt

from modsearch.data.corpus import Tokens
from modsearch.errors import DataError


class Batches:
    """Training batches: (batch_size, seq_len + 1) tokens, a pure function of seed and step.

    An epoch visits every window of the train part once, in an order and from an offset that
    depend on seed and epoch.
    """

    def __init__(self, tokens: Tokens, seq_len: int, batch_size: int, seed: int) -> None:
        self.tokens = tokens
        self.seq_len = seq_len
        self.batch_size = batch_size
        self.seed = seed
        self.per_epoch = (len(tokens) - seq_len) // (seq_len + 1)
        if self.per_epoch < 1:
            raise DataError(
                f"the train part has {len(tokens):,} tokens, but a sequence of {seq_len} needs "
                f"{2 * seq_len + 1:,}\nuse a larger corpus, or a shorter seq_len"
            )
        self._epoch = -1
        self._starts: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def __call__(self, step: int) -> npt.NDArray[np.int64]:
        """Tokens of one step."""
        first = step * self.batch_size
        starts = [self._start(index) for index in range(first, first + self.batch_size)]
        rows = np.array(starts)[:, None] + np.arange(self.seq_len + 1)
        return self.tokens[rows].astype(np.int64)

    def _start(self, index: int) -> int:
        epoch, place = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            generator = np.random.default_rng([self.seed, epoch])
            offset = generator.integers(self.seq_len)
            self._starts = generator.permutation(self.per_epoch) * (self.seq_len + 1) + offset
            self._epoch = epoch
        return int(self._starts[place])
