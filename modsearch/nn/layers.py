"""RMSNorm, rotary self-attention that takes positions, and the sublayers of blocks.

Shapes: B sequences, T rows, D width, N heads, H head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modsearch.config.model import ModelConfig
from modsearch.nn.contracts import Block, Context, Ffn, Rows, Update
from modsearch.nn.cost import Cost, Flops

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
    """Causal self-attention among the rows it is given, at their original positions.

    With fewer heads of keys and values than of queries, groups of queries share one (Ainslie et
    al. 2023, arXiv 2305.13245).
    """

    def __init__(self, width: int, num_heads: int, num_kv_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head = width // num_heads
        self.qkv = nn.Linear(width, (num_heads + 2 * num_kv_heads) * self.head, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Rows ascend in position and padding stands last, so a causal mask is all it takes;
        with a cache, the rows of earlier passes come first."""
        B, T, D = x_BTD.shape
        qkv = self.qkv(x_BTD).view(B, T, -1, self.head).transpose(1, 2)
        num_turned = self.num_heads + self.num_kv_heads
        q_and_k, v_BNTH = qkv[:, :num_turned], qkv[:, num_turned:]
        turned = rotate(q_and_k, context.positions_BT)
        q_BNTH, k_BNTH = turned[:, : self.num_heads], turned[:, self.num_heads :]
        mask = None
        if context.cache is not None:
            keys, values, mask = context.cache.extend(
                k_BNTH.transpose(1, 2), v_BNTH.transpose(1, 2), context.valid_BT
            )
            k_BNTH, v_BNTH = keys.transpose(1, 2), values.transpose(1, 2)
        if self.num_kv_heads != self.num_heads:
            group = self.num_heads // self.num_kv_heads
            k_BNTH = k_BNTH.repeat_interleave(group, dim=1)
            v_BNTH = v_BNTH.repeat_interleave(group, dim=1)
        mixed_BNTH = F.scaled_dot_product_attention(
            q_BNTH, k_BNTH, v_BNTH, attn_mask=mask, is_causal=context.cache is None
        )
        return self.out(mixed_BNTH.transpose(1, 2).reshape(B, T, D))

    def cost(self, num_positions: int) -> Cost:
        """FLOPs for one sequence: projections, and scores and values over the whole square."""
        products = self.qkv.weight.numel() + self.out.weight.numel()
        square = 2 * 2 * num_positions * num_positions * self.out.in_features
        return Cost.product("matmul", 2 * num_positions * products) + Cost.product(
            "attention", square
        )


class AttentionSublayer(Block):
    """Norm and self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = RmsNorm(config.width)
        self.attention = Attention(
            config.width, config.num_heads, config.num_kv_heads or config.num_heads
        )

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """What attention adds."""
        return Update(self.attention(self.norm(x_BTD), context))

    def cost(self, num_positions: int) -> Cost:
        """Projections, scores and values."""
        return self.attention.cost(num_positions)

    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """The same as in training: every row enters."""
        return self.cost(num_positions).forward

    def output_weights(self) -> list[Tensor]:
        """The output projection."""
        return [self.attention.out.weight]


class FfnSublayer(Block):
    """Norm and ffn."""

    def __init__(self, config: ModelConfig, ffn: Ffn) -> None:
        super().__init__()
        self.norm = RmsNorm(config.width)
        self.ffn = ffn

    def delta(self, x_BTD: Tensor, context: Context) -> Update:
        """What the ffn adds."""
        return self.ffn.delta(self.norm(x_BTD), context)

    def cost(self, num_positions: int) -> Cost:
        """The ffn's."""
        return self.ffn.cost(num_positions)

    def causal_forward(self, num_positions: int, rows: Rows) -> Flops:
        """The ffn's."""
        return self.ffn.causal_forward(num_positions, rows)

    def output_weights(self) -> list[Tensor]:
        """The ffn's."""
        return self.ffn.output_weights()
