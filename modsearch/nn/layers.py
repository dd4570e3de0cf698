"""RMSNorm, rotary self-attention that takes positions, and the sublayers of blocks.

Shapes: B sequences, T rows, D width, N heads, H head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modsearch.config.model import ModelConfig
from modsearch.nn.contracts import Block, Context, Ffn, Rows, Update
from modsearch.nn.cost import Cost, Flops
from modsearch.nn.rotary import rotate


class RmsNorm(nn.Module):
    """Root-mean-square norm with a learned scale (Zhang & Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x_BTD, self.weight.shape, self.weight, eps=1e-6)


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
        q_and_k, v_BNTH = qkv.split_with_sizes((num_turned, self.num_kv_heads), dim=1)
        turned = rotate(q_and_k, context.angles_of(self.head, x_BTD.dtype))
        q_BNTH, k_BNTH = turned.split_with_sizes((self.num_heads, self.num_kv_heads), dim=1)
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
