"""RMSNorm and rotary self-attention that takes positions.

Shapes: B sequences, T rows, D width, N heads, H head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modsearch.cost import Cost

ROTARY_BASE = 10_000.0


class RmsNorm(nn.Module):
    """Root-mean-square norm with a learned scale (Zhang & Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x_BTD, self.weight.shape, self.weight, eps=1e-6)


def rotate(x_BNTH: Tensor, positions_BT: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864), halves as pairs."""
    half = x_BNTH.shape[-1] // 2
    wide = torch.float64 if x_BNTH.dtype == torch.float64 else torch.float32
    steps = torch.arange(half, device=x_BNTH.device, dtype=wide) / half
    angle_BTH = positions_BT[..., None].to(wide) * ROTARY_BASE**-steps
    cos, sin = angle_BTH.cos()[:, None], angle_BTH.sin()[:, None]
    first, second = x_BNTH[..., :half], x_BNTH[..., half:]
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.to(x_BNTH.dtype)


class Attention(nn.Module):
    """Causal self-attention among the rows it is given, at their original positions."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BTD: Tensor, positions_BT: Tensor) -> Tensor:
        """Rows ascend in position and padding stands last, so a causal mask is all it takes."""
        B, T, D = x_BTD.shape
        qkv = self.qkv(x_BTD).view(B, T, 3 * self.num_heads, D // self.num_heads).transpose(1, 2)
        q_and_k, v_BNTH = qkv[:, : 2 * self.num_heads], qkv[:, 2 * self.num_heads :]
        q_BNTH, k_BNTH = rotate(q_and_k, positions_BT).chunk(2, dim=1)
        mixed_BNTH = F.scaled_dot_product_attention(q_BNTH, k_BNTH, v_BNTH, is_causal=True)
        return self.out(mixed_BNTH.transpose(1, 2).reshape(B, T, D))

    def cost(self, num_positions: int) -> Cost:
        """FLOPs for one sequence: four projections, scores and values over the whole square."""
        width = self.out.in_features
        projections = 2 * num_positions * width * 4 * width
        square = 2 * 2 * num_positions * num_positions * width
        return Cost.product("matmul", projections) + Cost.product("attention", square)
