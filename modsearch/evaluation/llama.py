"""A Llama-shaped model of somebody else's, with the names that its weights have in files.

It answers as a `Decoder` does, with the same caches, so that what scores one scores the other.

Shapes: B sequences, T positions, S slots of a cache, D width, N heads, H head width, V vocabulary.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import safetensors
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modsearch.errors import DataError, first_line, shown
from modsearch.evaluation.imported import INDEX, WEIGHTS
from modsearch.evaluation.shapes import Rope, Shape, read_shape
from modsearch.nn.cache import LayerCache
from modsearch.nn.contracts import Mode
from modsearch.nn.shapes import shapes_alone

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"


class LlamaAttention(nn.Module):
    """Grouped-query attention; queries and keys may have norms of their own."""

    def __init__(self, shape: Shape, roped: bool) -> None:
        super().__init__()
        self.head, self.roped = shape.head_dim, roped
        self.num_heads, self.num_kv_heads = shape.num_attention_heads, shape.num_key_value_heads
        sizes = [self.num_heads * self.head, self.num_kv_heads * self.head]
        bias = shape.attention_bias or shape.family.qkv_bias
        self.q_proj = nn.Linear(shape.hidden_size, sizes[0], bias=bias)
        self.k_proj = nn.Linear(shape.hidden_size, sizes[1], bias=bias)
        self.v_proj = nn.Linear(shape.hidden_size, sizes[1], bias=bias)
        self.o_proj = nn.Linear(sizes[0], shape.hidden_size, bias=shape.attention_bias)
        self.qk_norm = shape.family.qk_norm
        if self.qk_norm != "none":
            widths = sizes if self.qk_norm == "all" else [self.head, self.head]
            self.q_norm = nn.RMSNorm(widths[0], eps=shape.rms_norm_eps)
            self.k_norm = nn.RMSNorm(widths[1], eps=shape.rms_norm_eps)

    def forward(
        self, x_BTD: Tensor, turn: tuple[Tensor, Tensor], valid_BT: Tensor | None,
        cache: LayerCache | None,
    ) -> Tensor:  # fmt: skip
        """Padding stands last, so a causal mask is all it takes."""
        B, T, _ = x_BTD.shape
        q, k, v = self.q_proj(x_BTD), self.k_proj(x_BTD), self.v_proj(x_BTD)
        if self.qk_norm == "all":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (each.view(B, T, -1, self.head) for each in (q, k, v))
        if self.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        if self.roped:
            q, k = rotated(q, turn), rotated(k, turn)
        mask = None
        if cache is not None:
            k, v, mask = cache.extend(k, v, valid_BT)
        group = self.num_heads // self.num_kv_heads
        k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
        q_BNTH, k_BNSH, v_BNSH = (each.transpose(1, 2) for each in (q, k, v))
        mixed_BNTH = F.scaled_dot_product_attention(
            q_BNTH, k_BNSH, v_BNSH, attn_mask=mask, is_causal=cache is None
        )
        done: Tensor = self.o_proj(mixed_BNTH.transpose(1, 2).reshape(B, T, -1))
        return done


class LlamaMlp(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, hidden, bias = shape.hidden_size, shape.intermediate_size, shape.mlp_bias
        self.gate_proj = nn.Linear(width, hidden, bias=bias)
        self.up_proj = nn.Linear(width, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, width, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """down(silu(gate) * up)."""
        done: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return done


class LlamaLayer(nn.Module):
    """Attention and MLP, with norms before or behind them."""

    def __init__(self, shape: Shape, roped: bool) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(shape, roped)
        self.mlp = LlamaMlp(shape)
        self.post_norm = shape.family.post_norm
        names = ("post_attention_layernorm", "post_feedforward_layernorm")
        if not self.post_norm:
            names = ("input_layernorm", "post_attention_layernorm")
        self.norms = names
        for name in names:
            self.add_module(name, nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps))

    def forward(
        self, x_BTD: Tensor, turn: tuple[Tensor, Tensor], valid_BT: Tensor | None,
        cache: LayerCache | None,
    ) -> Tensor:  # fmt: skip
        """The residual stream after the layer."""
        first, second = (self.get_submodule(name) for name in self.norms)
        if self.post_norm:
            x_BTD = x_BTD + first(self.self_attn(x_BTD, turn, valid_BT, cache))
            delta_BTD: Tensor = second(self.mlp(x_BTD))
        else:
            x_BTD = x_BTD + self.self_attn(first(x_BTD), turn, valid_BT, cache)
            delta_BTD = self.mlp(second(x_BTD))
        return x_BTD + delta_BTD


class LlamaTrunk(nn.Module):
    """All but the head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(LlamaLayer(shape, roped) for roped in shape.roped)
        self.norm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)


class Llama(nn.Module):
    """Embedding, layers, norm, head."""

    def __init__(self, shape: Shape, tied: bool) -> None:
        super().__init__()
        self.config = shape
        self.model = LlamaTrunk(shape)
        self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        if tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.model.embed_tokens.weight.device

    @property
    def num_params(self) -> int:
        """All parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of the next token at every position; padding stands last."""
        B, T = tokens_BT.shape
        if positions_BT is None:
            positions_BT = torch.arange(T, device=tokens_BT.device).expand(B, T)
        angle_BTH = positions_BT[..., None].float() * frequencies(
            self.config.rope, self.config.head_dim, tokens_BT.device
        )
        x_BTD = self.model.embed_tokens(tokens_BT)
        turn = (angle_BTH.cos()[:, :, None].to(x_BTD), angle_BTH.sin()[:, :, None].to(x_BTD))
        for index, layer in enumerate(self.model.layers):
            x_BTD = layer(x_BTD, turn, valid_BT, None if caches is None else caches[index])
        logits_BTV: Tensor = self.lm_head(self.model.norm(x_BTD))
        return logits_BTV

    def logits(
        self,
        tokens_BT: Tensor,
        mode: Mode,
        valid_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """Those of `forward`, asked for as of a `Decoder`; nothing is routed in any mode."""
        found: Tensor = self(tokens_BT, valid_BT, positions_BT, caches)
        return found

    def empty_caches(self, num_sequences: int) -> list[LayerCache]:
        """One a layer."""
        return [LayerCache.empty(num_sequences, self.device) for _ in self.model.layers]


def rotated(x_BTNH: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding, halves as pairs."""
    cos, sin = turn
    first, second = x_BTNH.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def frequencies(rope: Rope, head: int, device: torch.device) -> Tensor:
    """Radians a position of each pair (H / 2,): plain, scaled, or scaled as Llama 3.1 does it
    (Grattafiori et al. 2024, arXiv 2407.21783): long waves by the factor, short ones not at all,
    and smoothly between them."""
    steps = torch.arange(0, head, 2, dtype=torch.float32, device=device) / head
    plain = 1.0 / rope.rope_theta**steps
    if rope.rope_type == "default":
        return plain
    if rope.rope_type == "linear":
        return plain / rope.factor
    turns = rope.original_max_position_embeddings * plain / (2 * math.pi)
    span = rope.high_freq_factor - rope.low_freq_factor
    kept = ((turns - rope.low_freq_factor) / span).clamp(0, 1)
    return (1 - kept) * plain / rope.factor + kept * plain


def load_llama(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Llama:
    """Weights of a folder as `save_pretrained` writes it, in evaluation mode.

    Raises:
        DataError: the shape is none that is read here, or weights are missing, damaged, of other
            shapes, or pickled.
    """
    shape = read_shape(folder)
    files = weight_files(folder)
    try:
        tensors = dict(_read(files, device, dtype))
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"can't read weights of {folder}: {first_line(error)}") from error
    tied = shape.tie_word_embeddings
    tied = HEAD not in tensors if tied is None else tied
    if tied:
        tensors.pop(HEAD, None)
    with shapes_alone():
        model = Llama(shape, tied)
    for name, parameter in model.named_parameters():
        found = tensors.get(name)
        if found is None:
            raise DataError(
                f"{folder}: no weights {shown(name)}, which its {shape.model_type} has"
            )
        if found.shape != parameter.shape:
            raise DataError(
                f"{folder}: weights {shown(name)} are {shown(list(found.shape))}, but its "
                f"config.json means {shown(list(parameter.shape))}"
            )
    known = dict(model.named_parameters())
    for name in sorted(tensors):
        if name.startswith("model.") and name not in known and not name.endswith("inv_freq"):
            raise DataError(
                f"{folder}: weights {shown(name)} have no place in what its config.json means"
            )
    if tied:
        tensors[HEAD] = tensors[EMBEDDING]
    model.load_state_dict(tensors, strict=False, assign=True)
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.eval().requires_grad_(False)


def weight_files(folder: Path) -> list[Path]:
    """Files of safetensors, all that an index names, or the one.

    Raises:
        DataError: there are none, some are missing, or there are pickles alone.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        try:
            names = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"can't read {folder / INDEX}: it names no files of weights"
            ) from error
        for name in sorted(names, key=str):
            if Path(str(name)).name != name or not (folder / name).is_file():
                raise DataError(
                    f"{folder / INDEX} names {shown(name)}, which is not in its folder"
                )
        return [folder / name for name in sorted(names)]
    pickles = [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth")]
    if pickles:
        raise DataError(
            f"{folder} has weights as pickles alone ({sorted(pickles)[0]}), which are not read\n"
            f"`save_pretrained` of transformers writes them as safetensors"
        )
    raise DataError(f"no {WEIGHTS} in {folder}")


def _read(files: Sequence[Path], device: str, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    for path in files:
        with safetensors.safe_open(path, "pt", device=device) as file:
            for name in file.keys():  # noqa: SIM118  # no mapping
                yield name, file.get_tensor(name).to(dtype)
