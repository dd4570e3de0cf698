"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), halves as pairs.

Shapes: B sequences, T rows, N heads, H head width.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

ROTARY_BASE = 10_000.0


@dataclass(frozen=True)
class Angles:
    """How far rows are turned."""

    positions_BT: Tensor
    """Those that the angles are of."""
    head: int
    cos: Tensor
    """(B, 1, T, H / 2), or (T, H / 2) where all sequences have the same positions."""
    sin: Tensor

    @classmethod
    def of(cls, positions_BT: Tensor, head: int, dtype: torch.dtype) -> "Angles":
        """In fp32; in fp64 for rows of that type."""
        # Of positions that were expanded over sequences one row says all.
        same = positions_BT.stride(0) == 0
        places = positions_BT[0] if same else positions_BT[:, None]
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        half = head // 2
        steps = torch.arange(half, device=positions_BT.device, dtype=wide) / half
        angles = places[..., None].to(wide) * ROTARY_BASE**-steps
        return cls(positions_BT, head, angles.cos(), angles.sin())

    def chosen(self, index_BK: Tensor, positions_BK: Tensor) -> "Angles":
        """Those of some rows of each sequence, looked up: sines cost more than memory does."""
        if self.cos.ndim == 2:
            return replace(
                self,
                positions_BT=positions_BK,
                cos=self.cos[index_BK][:, None],
                sin=self.sin[index_BK][:, None],
            )
        index_B1K1 = index_BK[:, None, :, None].expand(-1, -1, -1, self.cos.shape[-1])
        cos, sin = self.cos.gather(2, index_B1K1), self.sin.gather(2, index_B1K1)
        return replace(self, positions_BT=positions_BK, cos=cos, sin=sin)


def rotate(x_BNTH: Tensor, angles: Angles) -> Tensor:
    """Heads turned by their angles."""
    first, second = x_BNTH.chunk(2, dim=-1)
    cos, sin = angles.cos, angles.sin
    left = torch.addcmul(first * cos, second, sin, value=-1)
    right = torch.addcmul(second * cos, first, sin)
    return torch.cat([left, right], dim=-1).to(x_BNTH.dtype)
