"""Log-likelihoods of rows: batches of like lengths, shared prefixes processed once.

No row's score depends on the others but for rounding: in fp32 scores differ by some 1e-6 nats a
token between batches of other shapes. A routed model's may differ more where a router's score
lies within rounding of its cut-off: that decision may then fall either way.

Shapes: G families, P shared tokens, M rows, S rows that go on after what they share, T their
tokens, N positions, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from modsearch.evaluation.models import LanguageModel
from modsearch.evaluation.rows import Family, Row, families
from modsearch.nn.cache import LayerCache
from modsearch.nn.contracts import Mode

Score = tuple[float, bool]
"""Log-likelihood in nats, and whether greedy decoding would give the same tokens."""
Integers = npt.NDArray[np.int64]

BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536}
"""In a batch where no size is asked for: as many as a core's cache or a GPU is busy with."""
BATCH_LOGITS = {"cpu": 2**26, "cuda": 2**28}
"""At most so many in a batch, whatever the vocabulary."""
MOST_MEMBERS = 256
"""Of a family, where no batch size is asked for."""
MOST_PICKED = 0.7
"""Share of positions up to which they are copied out of the others for the softmax."""


def batch_tokens(model: LanguageModel) -> int:
    """Tokens of a batch where no size is asked for."""
    kind = "cpu" if model.device.type == "cpu" else "cuda"
    return min(BATCH_TOKENS[kind], BATCH_LOGITS[kind] // model.config.vocab_size)


@dataclass(frozen=True)
class Scorer:
    """Scores rows with a model, which must be in evaluation mode."""

    model: LanguageModel
    mode: Mode
    batch_size: int | None
    """Rows of a batch; None: as many as are fast."""
    dtype: torch.dtype
    """Of matrix products."""

    @cached_property
    def _most_tokens(self) -> int:
        return batch_tokens(self.model)

    def score(self, rows: Sequence[Row], quiet: bool = True) -> list[Score]:
        """Of each row, whatever their order; `quiet` shows no progress."""
        scores: list[Score] = [(0.0, True)] * len(rows)
        batches = list(self._batches(self._families(rows)))
        with tqdm(total=len(rows), disable=quiet, desc="Rows") as bar:
            for batch, found in zip(batches, self._scored(rows, batches), strict=True):
                members = list(chain.from_iterable(family.members for family in batch))
                bar.update(len(members))
                for member, score in zip(members, found, strict=True):
                    scores[member] = score
        return scores

    def _families(self, rows: Sequence[Row]) -> list[Family]:
        """In mode `train` a choice depends on the whole row, so nothing is shared."""
        most = self.batch_size or MOST_MEMBERS
        if self.mode == "causal" and most > 1 and self.model.empty_caches(1) is not None:
            return families(rows, most)
        return [Family([row], len(inputs), 0) for row, (inputs, _) in enumerate(rows)]

    def _batches(self, found: Sequence[Family]) -> Iterator[list[Family]]:
        """Long ones first. In mode `train` rows of a batch are equally long: how many tokens
        top-k chooses depends on the padded length."""
        order = sorted(found, key=lambda each: (each.rest > 0, each.shared, each.rest))[::-1]
        groups = [list(each) for _, each in groupby(order, key=lambda each: each.rest > 0)]
        if self.mode == "train":
            groups = [list(each) for _, each in groupby(order, key=lambda each: each.shared)]
        for group in groups:
            batch: list[Family] = []
            num_rows = rest = 0
            for family in group:
                num_rows += len(family.members)
                rest = max(rest, family.rest)
                if batch and self._too_many(len(batch) + 1, batch[0].shared, num_rows, rest):
                    yield batch
                    batch, num_rows, rest = [], len(family.members), family.rest
                batch.append(family)
            yield batch

    def _too_many(self, num_families: int, shared: int, num_rows: int, rest: int) -> bool:
        if self.batch_size is not None:
            return num_rows > self.batch_size
        return num_families * shared + num_rows * rest > self._most_tokens

    def _scored(self, rows: Sequence[Row], batches: list[list[Family]]) -> Iterator[list[Score]]:
        """Of each batch. On a CPU each thread has batches of its own: models are small, and
        threads that share an operator would wait for each other most of the time."""
        num_threads = torch.get_num_threads()
        if self.model.device.type != "cpu" or min(num_threads, len(batches)) == 1:
            yield from (self._score_batch(rows, batch) for batch in batches)
            return
        with ThreadPoolExecutor(num_threads, initializer=_single_threaded) as pool:
            try:
                yield from pool.map(lambda batch: self._score_batch(rows, batch), batches)
            finally:
                torch.set_num_threads(num_threads)

    @torch.inference_mode()
    def _score_batch(self, rows: Sequence[Row], batch: Sequence[Family]) -> list[Score]:
        members = [member for family in batch for member in family.members]
        inputs = [rows[member][0] for member in members]
        sizes = [len(family.members) for family in batch]
        family_M = np.repeat(np.arange(len(batch)), sizes)
        shared_M = np.repeat([family.shared for family in batch], sizes)
        # Which rows go on after what they share, and where each stands among those.
        goes_on_M = np.array([len(each) for each in inputs]) > shared_M
        place_M = np.cumsum(goes_on_M) - 1
        caches = self.model.empty_caches(len(batch)) if goes_on_M.any() else None
        heads = [rows[family.members[0]][0][: family.shared] for family in batch]
        tails = [each[n:] for each, n in zip(inputs, shared_M, strict=True) if len(each) > n]
        passes = [self._logits(heads, caches)]
        if caches is not None:
            rows_S = torch.from_numpy(family_M[goes_on_M]).to(self.model.device)
            copies = [cache.copied(rows_S) for cache in caches]
            passes.append(self._logits(tails, copies, shared_M[goes_on_M]))

        owner_N, at_N, target_N = _scored_positions([rows[member] for member in members])
        shared_N = shared_M[owner_N]
        in_head_N = at_N < shared_N
        parts = []
        for logits_BTV, row_M, here_N, first_N in zip(
            passes,
            (family_M, place_M),
            (in_head_N, ~in_head_N),
            (0 * at_N, shared_N),
            strict=False,
        ):
            index_N = row_M[owner_N] * logits_BTV.shape[1] + at_N - first_N
            parts.append(
                _Scored(
                    logits_BTV.flatten(0, 1), index_N[here_N], target_N[here_N], owner_N[here_N]
                )
            )
        return _summed(parts, len(members))

    def _logits(
        self,
        rows: Sequence[list[int]],
        caches: Sequence[LayerCache] | None,
        first_B: Integers | None = None,
    ) -> Tensor:
        """Logits of rows of tokens, each from its place on where that is not 0."""
        device = self.model.device
        tokens_BT, valid_BT = padded(rows)
        positions_BT = None
        if first_B is not None:
            positions_BT = torch.from_numpy(first_B[:, None] + np.arange(tokens_BT.shape[1]))
            positions_BT = positions_BT.to(device)
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model.logits(
                tokens_BT.to(device),
                self.mode,
                None if valid_BT is None else valid_BT.to(device),
                positions_BT,
                caches,
            )


def padded(rows: Sequence[list[int]]) -> tuple[Tensor, Tensor | None]:
    """Rows of tokens with padding last (B, T), and what is none; None where there is none."""
    lengths_B = np.array([len(row) for row in rows])
    flat = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths_B.sum()))
    if lengths_B.min() == lengths_B.max():
        return torch.from_numpy(flat.reshape(len(rows), -1)), None
    valid_BT = np.arange(lengths_B.max()) < lengths_B[:, None]
    tokens_BT = np.zeros(valid_BT.shape, np.int64)
    tokens_BT[valid_BT] = flat
    return torch.from_numpy(tokens_BT), torch.from_numpy(valid_BT)


def _single_threaded() -> None:
    torch.set_num_threads(1)


def _scored_positions(rows: Sequence[Row]) -> tuple[Integers, Integers, Integers]:
    """Row, place in its inputs and target of each token that is scored."""
    num_M = np.array([len(targets) for _, targets in rows])
    first_M = np.array([len(inputs) for inputs, _ in rows]) - num_M
    owner_N = np.repeat(np.arange(len(rows)), num_M)
    before_M = np.cumsum(num_M) - num_M
    at_N = np.arange(len(owner_N)) + (first_M - before_M)[owner_N]
    target_N = np.fromiter(chain.from_iterable(each for _, each in rows), np.int64, len(owner_N))
    return owner_N, at_N, target_N


@dataclass(frozen=True)
class _Scored:
    """Logits of one pass, and which of them score what."""

    logits_NV: Tensor
    index: Integers
    target: Integers
    owner: Integers


def _summed(parts: Sequence[_Scored], num_rows: int) -> list[Score]:
    """Each row's log-likelihood over its tokens, and whether all of them are the likeliest."""
    sums_M = torch.zeros(num_rows, dtype=torch.float64)
    missed_M = torch.zeros(num_rows, dtype=torch.long)
    likely = []
    for part in parts:
        device = part.logits_NV.device
        logits_NV, places = part.logits_NV, part.index
        used, place = np.unique(part.index, return_inverse=True)
        if len(used) < MOST_PICKED * len(logits_NV):
            logits_NV, places = logits_NV[torch.from_numpy(used).to(device)], place
        index, target = (torch.from_numpy(each).to(device) for each in (places, part.target))
        # In fp32 at least, whatever autocast made of them.
        logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
        top_N = logits_NV.amax(-1)
        log_sum_N = (logits_NV - top_N[:, None]).exp_().sum(-1).log_()
        own, top = logits_NV[index, target], top_N[index]
        owner = torch.from_numpy(part.owner)
        sums_M.index_add_(0, owner, ((own - top) - log_sum_N[index]).double().cpu())
        missed_M.index_add_(0, owner, (own < top).long().cpu())
        likely.append((logits_NV, index, target, owner))
    # Of equal logits greedy decoding takes one, which is looked for in the few rows it matters to.
    for logits_NV, index, target, owner in likely:
        here = (missed_M == 0)[owner]
        best = logits_NV[index[here.to(index.device)]].argmax(-1)
        differ = best != target[here.to(index.device)]
        missed_M.index_add_(0, owner[here], differ.long().cpu())
    return list(zip(sums_M.tolist(), (missed_M == 0).tolist(), strict=True))
