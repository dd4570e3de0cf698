"""Keys and values for decoding: one cache a layer, with the rows that the layer processed.

A routed layer's cache is ragged: a sequence holds as many rows as its tokens entered the layer.

Shapes: A active sequences of B, T new rows, S slots, N heads of keys and values, H head width.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

GROWTH = 64
"""Slots are added in multiples of this."""


class _Store:
    """What the views of one layer's cache share."""

    def __init__(self, num_sequences: int, device: torch.device) -> None:
        self.lengths_B = torch.zeros(num_sequences, dtype=torch.long, device=device)
        self.level: int | None = 0
        """Rows of every sequence, where they are known to have the same without a look at
        `lengths_B`, for which a GPU would be waited for."""
        self.log_weight_B = torch.full_like(self.lengths_B, -torch.inf, dtype=torch.float64)
        self.key_B = torch.zeros_like(self.lengths_B)
        self.keys_BSNH: Tensor | None = None
        self.values_BSNH: Tensor | None = None


@dataclass(frozen=True)
class LayerCache:
    """One layer's cache, or a view of some of its sequences."""

    store: _Store
    rows_A: Tensor | None = None
    """Sequences of this view; None: all."""

    @classmethod
    def empty(cls, num_sequences: int, device: torch.device) -> "LayerCache":
        """Without a row."""
        return cls(_Store(num_sequences, device))

    def only(self, rows_A: Tensor) -> "LayerCache":
        """The same cache for some of its sequences; a view of a view counts in the view."""
        return replace(self, rows_A=rows_A if self.rows_A is None else self.rows_A[rows_A])

    def copied(self, rows_A: Tensor) -> "LayerCache":
        """A cache of its own for these sequences, each as often as it is named."""
        new = _Store(len(rows_A), rows_A.device)
        new.lengths_B, new.key_B = self.lengths_A[rows_A], self.key_A[rows_A]
        new.log_weight_B = self.log_weight_A[rows_A]
        new.level = self.store.level
        if self.store.keys_BSNH is not None and self.store.values_BSNH is not None:
            rows_B = rows_A if self.rows_A is None else self.rows_A[rows_A]
            new.keys_BSNH = self.store.keys_BSNH[rows_B]
            new.values_BSNH = self.store.values_BSNH[rows_B]
        return LayerCache(new)

    @property
    def lengths_A(self) -> Tensor:
        """Rows of each sequence."""
        lengths_B = self.store.lengths_B
        return lengths_B if self.rows_A is None else lengths_B[self.rows_A]

    @property
    def log_weight_A(self) -> Tensor:
        """Running log-sum of weights, for gates that are shares of what was chosen so far."""
        log_weight_B = self.store.log_weight_B
        return log_weight_B if self.rows_A is None else log_weight_B[self.rows_A]

    def set_log_weight(self, log_weight_A: Tensor) -> None:
        """Put a new running log-sum in its place."""
        rows_A = self._rows(len(log_weight_A), log_weight_A.device)
        self.store.log_weight_B[rows_A] = log_weight_A.double()

    @property
    def key_A(self) -> Tensor:
        """Running key of the tokens so far; the first layer's cache has it."""
        key_B = self.store.key_B
        return key_B if self.rows_A is None else key_B[self.rows_A]

    def set_key(self, key_A: Tensor) -> None:
        """Put a new running key in its place."""
        self.store.key_B[self._rows(len(key_A), key_A.device)] = key_A

    @property
    def num_bytes(self) -> int:
        """Bytes of the rows that are held; slots that are allocated ahead do not count."""
        keys_BSNH = self.store.keys_BSNH
        if keys_BSNH is None:
            return 0
        row = 2 * keys_BSNH.shape[2] * keys_BSNH.shape[3] * keys_BSNH.element_size()
        return int(self.store.lengths_B.sum()) * row

    def extend(
        self, keys_ATNH: Tensor, values_ATNH: Tensor, valid_AT: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Append rows; padding, which stands last, is overwritten by the next ones.

        Returns:
            All keys and values (A, S, N, H) and which slots each new row may attend to
            (A, 1, T, S): those before it and its own. None where every new row sees all.
        """
        num_new = keys_ATNH.shape[1]
        shortest, longest = self._shortest_and_longest()
        level = shortest == longest
        end = longest + num_new
        keys_BSNH, values_BSNH = self._reserved(end, keys_ATNH)
        slots_AT = self.lengths_A[:, None] + torch.arange(num_new, device=keys_ATNH.device)
        if level and self.rows_A is None:
            keys_BSNH[:, longest:end] = keys_ATNH
            values_BSNH[:, longest:end] = values_ATNH
        else:
            rows_A1 = self._rows(len(keys_ATNH), keys_ATNH.device)[:, None]
            keys_BSNH[rows_A1, slots_AT] = keys_ATNH
            values_BSNH[rows_A1, slots_AT] = values_ATNH
        self._count(num_new if valid_AT is None else valid_AT.sum(1))
        keys_ASNH, values_ASNH = keys_BSNH[:, :end], values_BSNH[:, :end]
        if self.rows_A is not None:
            keys_ASNH, values_ASNH = keys_ASNH[self.rows_A], values_ASNH[self.rows_A]
        if level and num_new == 1:
            return keys_ASNH, values_ASNH, None
        slots_S = torch.arange(end, device=keys_ATNH.device)
        return keys_ASNH, values_ASNH, (slots_S <= slots_AT[..., None])[:, None]

    def _shortest_and_longest(self) -> tuple[int, int]:
        """Rows of sequences of this view."""
        if self.store.level is not None:
            return self.store.level, self.store.level
        shortest, longest = self.lengths_A.aminmax()
        return int(shortest), int(longest)

    def _rows(self, num_rows: int, device: torch.device) -> Tensor:
        return torch.arange(num_rows, device=device) if self.rows_A is None else self.rows_A

    def _count(self, added: Tensor | int) -> None:
        store = self.store
        if self.rows_A is None:
            store.lengths_B += added
        else:
            store.lengths_B[self.rows_A] += added
        if store.level is not None and self.rows_A is None and isinstance(added, int):
            store.level += added
        else:
            store.level = None

    def _reserved(self, num_slots: int, like_ATNH: Tensor) -> tuple[Tensor, Tensor]:
        """Room for so many rows a sequence; grows by half, so that copying stays cheap."""
        old_keys_BSNH, old_values_BSNH = self.store.keys_BSNH, self.store.values_BSNH
        if old_keys_BSNH is None or old_values_BSNH is None:
            old_keys_BSNH = old_values_BSNH = like_ATNH.new_zeros(
                len(self.store.lengths_B), 0, *like_ATNH.shape[2:]
            )
        have = old_keys_BSNH.shape[1]
        if num_slots <= have:
            return old_keys_BSNH, old_values_BSNH
        size = -(-max(num_slots, have * 3 // 2) // GROWTH) * GROWTH
        # Zeros: slots that were never written must not be NaN, not even behind a mask.
        added = (0, 0, 0, 0, 0, size - have)
        keys_BSNH, values_BSNH = F.pad(old_keys_BSNH, added), F.pad(old_values_BSNH, added)
        self.store.keys_BSNH, self.store.values_BSNH = keys_BSNH, values_BSNH
        return keys_BSNH, values_BSNH
