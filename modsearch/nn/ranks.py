"""The processes that train one step together, each on its share of the sequences.

Shapes: N values of one rank, M of all ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process among them. Every rank asks for the same things in the same order, and each
    is given the same answer."""

    place: int = 0
    """Of this process, from 0."""
    count: int = 1
    group: dist.ProcessGroup | None = None
    """None where the process is alone."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all of them have in common."""
        return self.place == 0

    def sums(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Of each value over all ranks, in its own type, by one exchange in fp64 (in which counts
        are exact)."""
        if self.group is None or not values:
            return list(values)
        flat_N = torch.cat([value.detach().double().flatten() for value in values])
        dist.all_reduce(flat_N, group=self.group)
        parts = torch.split(flat_N, [value.numel() for value in values])
        return [
            part.view(value.shape).to(value.dtype)
            for part, value in zip(parts, values, strict=True)
        ]

    def sum(self, value: Tensor) -> Tensor:
        """Over all ranks."""
        return self.sums([value])[0]

    def together(self, values_N: Tensor) -> Tensor:
        """Values of all ranks (M,), rank after rank; each may have another number of them."""
        if self.group is None:
            return values_N
        size = torch.tensor([len(values_N)], device=values_N.device)
        sizes = [torch.empty_like(size) for _ in range(self.count)]
        dist.all_gather(sizes, size, group=self.group)
        counts = [int(each) for each in sizes]
        padded_N = values_N.new_zeros(max(counts))
        padded_N[: len(values_N)] = values_N
        found = [torch.empty_like(padded_N) for _ in range(self.count)]
        dist.all_gather(found, padded_N, group=self.group)
        return torch.cat([each[:num] for each, num in zip(found, counts, strict=True)])

    def agreed(self, answer: bool, device: torch.device) -> bool:
        """The first rank's answer to what each would decide by its own clock."""
        if self.group is None:
            return answer
        return bool(self.sum(torch.tensor(float(answer and self.is_first), device=device)))


ALONE = Ranks()
"""A process that trains by itself."""
