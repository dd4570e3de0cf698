"""A routed decoder of modsearch as a model of `transformers`, in causal mode.

This file is copied beside exported weights and stands alone. A layer computes the rows that its
router chooses, and nothing else; its cache holds those rows. Names of weights are those of the
checkpoint that it was exported from. It scores and generates; it does not train a router.

Shapes: B sequences, T positions, K chosen rows, S rows in a cache and new ones, D width, N heads,
H head width, E experts, O outputs (experts and no-ops), V vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

KEY_OFFSET = 0x1E3779B97F4A7C15
FIELDS = CausalLMOutputWithPast.__dataclass_fields__
CACHE = "cache" if "cache" in FIELDS else "past_key_values"
"""What this version of `transformers` calls it."""


class ModsearchConfig(PretrainedConfig):
    """Shape and parts, as `config.json` has them."""

    model_type = "modsearch"

    def __init__(self, use_cache: bool = True, **stated: Any) -> None:
        self.use_cache = use_cache
        super().__init__(**{**stated, "tie_word_embeddings": False})  # `tied` says it


@dataclass
class LayerCache:
    """What a layer processed so far; rows differ in number, so some of the last are no rows."""

    keys: Tensor | None = None
    values: Tensor | None = None
    valid_BS: Tensor | None = None
    log_weight_B1: Tensor | None = None
    """Of gates that are shares of what was chosen so far."""


@dataclass
class ModsearchCache:
    """One cache a layer, and what is known of the tokens so far."""

    layers: list[LayerCache]
    positions_B1: Tensor
    """Tokens of each sequence, padding left out."""
    key_B1: Tensor
    length: int = 0
    is_compileable: bool = False
    is_croppable: bool = False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens so far, with padding."""
        return self.length

    def reorder_cache(self, index_B: Tensor) -> None:
        """Let sequence b go on from sequence `index_B[b]`, for beam search."""
        for layer in self.layers:
            for name, value in vars(layer).items():
                if value is not None:
                    setattr(layer, name, value.index_select(0, index_B))
        self.positions_B1 = self.positions_B1.index_select(0, index_B)
        self.key_B1 = self.key_B1.index_select(0, index_B)


@dataclass
class Rows:
    """What a part knows of its rows beside their values."""

    positions_BT: Tensor
    valid_BT: Tensor
    """False for padding and for slots that no row fills."""
    key_BT: Tensor
    """A 64-bit number of each row's token and all before it."""
    layer: int
    cache: LayerCache


def rotate(x_BNTH: Tensor, positions_BT: Tensor) -> Tensor:
    """Rotary position embedding, halves as pairs."""
    half = x_BNTH.shape[-1] // 2
    steps = torch.arange(half, device=x_BNTH.device, dtype=torch.float32) / half
    angle_BTH = positions_BT[..., None].float() * 10_000.0**-steps
    cos, sin = angle_BTH.cos()[:, None], angle_BTH.sin()[:, None]
    first, second = x_BNTH[..., :half], x_BNTH[..., half:]
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.to(x_BNTH.dtype)


class Attention(nn.Module):
    """Self-attention of rows to those before them; those of the cache come first."""

    def __init__(self, config: ModsearchConfig) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head = config.hidden_size // self.num_heads
        num_all = self.num_heads + 2 * self.num_kv_heads
        self.qkv = nn.Linear(config.hidden_size, num_all * self.head, bias=False)
        self.out = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor, rows: Rows) -> Tensor:
        """Rows ascend in position."""
        B, T, D = x_BTD.shape
        qkv = self.qkv(x_BTD).view(B, T, -1, self.head).transpose(1, 2)
        q, k, v = qkv.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        q, k = rotate(q, rows.positions_BT), rotate(k, rows.positions_BT)
        valid_BS, cache = rows.valid_BT, rows.cache
        if cache.keys is not None and cache.values is not None and cache.valid_BS is not None:
            k, v = torch.cat([cache.keys, k], dim=2), torch.cat([cache.values, v], dim=2)
            valid_BS = torch.cat([cache.valid_BS, valid_BS], dim=1)
        cache.keys, cache.values, cache.valid_BS = k, v, valid_BS
        num_past = k.shape[2] - T
        seen_TS = torch.ones(T, num_past + T, dtype=torch.bool, device=x_BTD.device).tril(num_past)
        # A row sees itself even where it is padding: a softmax over nothing is NaN.
        mask_BTS = seen_TS & valid_BS[:, None] | seen_TS.triu(num_past)
        group = self.num_heads // self.num_kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_BTS[:, None])
        return self.out(mixed.transpose(1, 2).reshape(B, T, D))


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BTD: Tensor, rows: Rows) -> Tensor:
        """down(silu(gate) * value)."""
        gate, value = self.up(x_BTD).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class ExpertFfn(nn.Module):
    """SwiGLU experts on the rows that choose them, or that they choose; no-ops add nothing."""

    bias_O: Tensor

    def __init__(self, config: ModsearchConfig, hidden: int, capacity: float | None) -> None:
        super().__init__()
        width, options = config.hidden_size, config.ffn
        self.experts_choose = options["selection"] == "expert_choice"
        self.num_experts, self.top_k = options["num_experts"], options["top_k"]
        skips = capacity is not None and capacity < 1 and not self.experts_choose
        num_outputs = self.num_experts + (options.get("num_noops", 0) if skips else 0)
        self.weight = nn.Parameter(torch.zeros(num_outputs, width))
        up, down = (self.num_experts, width, 2 * hidden), (self.num_experts, hidden, width)
        self.experts = nn.ParameterDict({"up": torch.zeros(up), "down": torch.zeros(down)})
        self.register_buffer("bias_O", torch.zeros(num_outputs))

    def forward(self, x_BTD: Tensor, rows: Rows) -> Tensor:
        """The weighted sum of each row's experts."""
        logits_BTO = F.linear(x_BTD.float(), self.weight.float())
        if self.experts_choose:
            taken_BTO, weight_BTO = logits_BTO > 0, torch.sigmoid(logits_BTO)
        else:
            weight_BTO = logits_BTO.softmax(dim=-1)
            biased_BTO = weight_BTO + self.bias_O
            order_BTO = biased_BTO.sort(dim=-1, descending=True, stable=True).indices
            taken_BTO = torch.zeros_like(order_BTO, dtype=torch.bool)
            taken_BTO.scatter_(-1, order_BTO[..., : self.top_k], True)
        taken_BTO = taken_BTO & rows.valid_BT[..., None]
        sum_BTD = torch.zeros_like(x_BTD)
        for expert in range(self.num_experts):
            taken_BT = taken_BTO[..., expert]
            if taken_BT.any():
                gate, value = (x_BTD[taken_BT] @ self.experts["up"][expert]).chunk(2, dim=-1)
                done = (F.silu(gate) * value) @ self.experts["down"][expert]
                sum_BTD[taken_BT] += done * weight_BTO[taken_BT][:, expert, None].to(done.dtype)
        return sum_BTD


def feed_forward(config: ModsearchConfig, capacity: float | None) -> nn.Module:
    """An MLP, or experts."""
    hidden = 4 * max(1, round(config.ffn["ratio"] * config.hidden_size / 4))
    if config.ffn["name"] == "mlp":
        return Mlp(config.hidden_size, hidden)
    return ExpertFfn(config, hidden, capacity)


class Part(nn.Module):
    """A norm, and attention or a feed-forward behind it."""

    def __init__(self, name: str, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.name = name
        self.add_module(name, inner)

    def forward(self, x_BTD: Tensor, rows: Rows) -> Tensor:
        """What it adds to the rows."""
        return self.get_submodule(self.name)(self.norm(x_BTD), rows)


class Dense(nn.Module):
    """A block that every row enters."""

    def __init__(self, config: ModsearchConfig, capacity: float | None) -> None:
        super().__init__()
        self.attention = Part("attention", Attention(config), config.hidden_size)
        self.ffn = Part("ffn", feed_forward(config, capacity), config.hidden_size)

    def forward(self, x_BTD: Tensor, rows: Rows) -> Tensor:
        """The sum of what both parts add."""
        attention_BTD = self.attention(x_BTD, rows)
        return attention_BTD + self.ffn(x_BTD + attention_BTD, rows)


class Router(nn.Module):
    """Which rows enter a block."""

    cutoff: Tensor
    bias: Tensor
    salt: Tensor

    def __init__(self, width: int, capacity: float, options: dict[str, Any]) -> None:
        super().__init__()
        self.capacity, self.options, self.name = capacity, options, options["name"]
        if self.name not in ("random", "static"):
            num_scores = 2 if self.name == "token_choice" else 1
            self.weight = nn.Parameter(torch.zeros(num_scores, width))
        if self.name == "predictor":
            self.hidden = nn.Parameter(torch.zeros(options["hidden"], width))
            self.hidden_bias = nn.Parameter(torch.zeros(options["hidden"]))
            self.out = nn.Parameter(torch.zeros(1, options["hidden"]))
            self.out_bias = nn.Parameter(torch.zeros(1))
        for name, buffer in (
            ("threshold", "cutoff"),
            ("token_choice", "bias"),
            ("random", "salt"),
        ):
            if self.name == name:
                kind = torch.long if name == "random" else torch.float32
                self.register_buffer(buffer, torch.zeros((), dtype=kind))

    def forward(self, x_BTD: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Which rows are chosen, and their scores (B, T)."""
        if self.name == "static":
            place_BT = rows.positions_BT.double() * self.capacity + 1e-9
            after_BT = (rows.positions_BT + 1).double() * self.capacity + 1e-9
            return after_BT.floor() > place_BT.floor(), torch.ones_like(x_BTD[..., 0])
        if self.name == "random":
            drawn_BT = gaussian(rows.key_BT + self.salt, rows.layer)
            cut = NormalDist().inv_cdf(1 - self.capacity) if self.capacity < 1 else -math.inf
            return drawn_BT > cut, torch.ones_like(x_BTD[..., 0])
        wide_BTD = x_BTD.float()
        scores = F.linear(wide_BTD, self.weight.float())
        if self.name == "token_choice":
            paired = self.options["activation"] == "softmax"
            chances = scores.softmax(dim=-1) if paired else torch.sigmoid(scores)
            scores_BT = scores[..., 0] - scores[..., 1] if paired else scores[..., 0]
            return chances[..., 0] + self.bias > chances[..., 1], scores_BT
        scores_BT = scores[..., 0]
        if self.name == "predictor":
            normed_BTD = F.rms_norm(x_BTD, x_BTD.shape[-1:], eps=1e-6).float()
            hidden_BTH = F.silu(F.linear(normed_BTD, self.hidden.float()) + self.hidden_bias)
            return (F.linear(hidden_BTH, self.out.float()) + self.out_bias)[..., 0] > 0, scores_BT
        return scores_BT > (self.cutoff if self.name == "threshold" else 0), scores_BT


def hashed(counter: Tensor) -> Tensor:
    """The finaliser of SplitMix64 on signed 64-bit numbers."""
    state = counter
    for shift, multiplier in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        shifted = (state >> shift) & ((1 << (64 - shift)) - 1)
        state = (state ^ shifted) * multiplier
    return state ^ ((state >> 31) & 0x1FFFFFFFF)


def gaussian(counter: Tensor, layer: int) -> Tensor:
    """Standard normal values, one a counter."""
    state = hashed(counter + layer * 0x85EBCA77 + 0x2545F491)
    uniform = ((state >> 12) & 0xFFFFFFFFFF).double() / (1 << 40)
    return math.sqrt(2) * torch.erfinv(2 * uniform.clamp(1e-12, 1 - 1e-12) - 1)


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda score: score,
    "one": torch.ones_like,
    "sigmoid": torch.sigmoid,
    "scaled_sigmoid": lambda score: 0.1 * torch.sigmoid(score),
    "tanh": torch.tanh,
    "one_plus_tanh": lambda score: 1 + 0.2 * torch.tanh(score),
}


def gate(name: str, scores_BK: Tensor, valid_BK: Tensor, cache: LayerCache) -> Tensor:
    """Factors of what the chosen rows add."""
    if name != "softmax_selected":
        return GATES[name](scores_BK)
    masked_BK = scores_BK.masked_fill(~valid_BK, -1e30)
    log_sum_BK = masked_BK.logcumsumexp(dim=1)
    if cache.log_weight_B1 is not None:
        log_sum_BK = torch.logaddexp(log_sum_BK, cache.log_weight_B1.to(log_sum_BK.dtype))
    cache.log_weight_B1 = log_sum_BK[:, -1:]
    return (masked_BK - log_sum_BK).exp()


class Mod(nn.Module):
    """A block, or one part of it, that the chosen rows enter and the others skip."""

    def __init__(self, config: ModsearchConfig, capacity: float) -> None:
        super().__init__()
        self.options = config.block
        self.gate = config.router.get("gate", "one")
        self.inner = Dense(config, capacity)
        self.router = Router(config.hidden_size, capacity, config.router)

    def forward(self, x_BTD: Tensor, rows: Rows) -> Tensor:
        """What is added to the rows; zero for those that skip."""
        if self.options["part"] == "block":
            return self.routed(self.inner, x_BTD, rows)
        sum_BTD = torch.zeros_like(x_BTD)
        for name, part in self.inner.named_children():
            before_BTD = x_BTD + sum_BTD
            skipped = name == self.options["part"]
            added = self.routed(part, before_BTD, rows) if skipped else part(before_BTD, rows)
            sum_BTD = sum_BTD + added
        return sum_BTD

    def routed(self, inner: nn.Module, x_BTD: Tensor, rows: Rows) -> Tensor:
        """Gather the chosen rows, compute, gate, and put them back."""
        chosen_BT, scores_BT = self.router(x_BTD, rows)
        chosen_BT = chosen_BT & rows.valid_BT
        num_rows = int(chosen_BT.sum(dim=1).max())
        if num_rows == 0:
            return torch.zeros_like(x_BTD)
        order_BT = chosen_BT.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices
        index_BK = order_BT[:, :num_rows]
        index_BKD = index_BK[..., None].expand(-1, -1, x_BTD.shape[-1])
        valid_BK, rows_BKD = chosen_BT.gather(1, index_BK), x_BTD.gather(1, index_BKD)
        positions_BK = rows.positions_BT.gather(1, index_BK)
        if self.options["positions"] == "renumbered":
            positions_BK = torch.arange(num_rows, device=x_BTD.device).expand_as(index_BK)
            if rows.cache.valid_BS is not None:
                positions_BK = positions_BK + rows.cache.valid_BS.sum(dim=1, keepdim=True)
        inside = replace(rows, positions_BT=positions_BK, valid_BT=valid_BK)
        delta_BKD = inner(rows_BKD, inside)
        if self.options["update"] != "delta":
            delta_BKD = rows_BKD + delta_BKD
        gate_BK = gate(self.gate, scores_BT.gather(1, index_BK), valid_BK, rows.cache)
        delta_BKD = delta_BKD * gate_BK[..., None].to(delta_BKD.dtype)
        if self.options["update"] == "block_replace":
            delta_BKD = delta_BKD - rows_BKD
        delta_BKD = delta_BKD.masked_fill(~valid_BK[..., None], 0.0)
        return torch.zeros_like(x_BTD).scatter(1, index_BKD, delta_BKD.to(x_BTD.dtype))


class ModsearchForCausalLM(PreTrainedModel, GenerationMixin):
    """Embedding, blocks, norm, head."""

    config_class = ModsearchConfig

    def __init__(self, config: ModsearchConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        routed = config.block["name"] == "mod"
        self.blocks = nn.ModuleList(
            Mod(config, capacity) if routed and capacity is not None else Dense(config, capacity)
            for capacity in config.capacities
        )
        self.norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        if not config.tied:
            self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding."""
        return self.embedding

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        cache: ModsearchCache | None = None,
        past_key_values: ModsearchCache | None = None,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token at every position; padding, where the attention mask is 0, may
        stand on either side."""
        B, T = input_ids.shape
        cache = past_key_values if cache is None else cache
        if cache is None:
            zeros_B1 = input_ids.new_zeros(B, 1)
            cache = ModsearchCache([LayerCache() for _ in self.blocks], zeros_B1, zeros_B1)
        valid_BT = torch.ones_like(input_ids, dtype=torch.bool)
        if attention_mask is not None:
            valid_BT = attention_mask[:, -T:].bool()
        count_BT = cache.positions_B1 + valid_BT.cumsum(dim=1)
        positions_BT = (count_BT - 1).clamp(min=0)
        terms_BT = hashed(positions_BT + KEY_OFFSET) * (input_ids + 1)
        key_BT = cache.key_B1 + terms_BT.masked_fill(~valid_BT, 0).cumsum(dim=1)
        x_BTD = self.embedding(input_ids)
        for layer, block in enumerate(self.blocks):
            rows = Rows(positions_BT, valid_BT, key_BT, layer, cache.layers[layer])
            x_BTD = x_BTD + block(x_BTD, rows)
        cache.length += T
        cache.positions_B1, cache.key_B1 = count_BT[:, -1:], key_BT[:, -1:]
        head = self.embedding.weight if self.config.tied else self.head.weight
        logits_BTV = F.linear(self.norm(x_BTD), head)
        output = CausalLMOutputWithPast(logits=logits_BTV)
        if self.config.use_cache if use_cache is None else use_cache:
            output[CACHE] = cache
        return output

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: ModsearchCache | None = None,
        past_key_values: ModsearchCache | None = None,
        use_cache: bool | None = None,
        **others: Any,
    ) -> dict[str, Any]:
        """The tokens that the cache has not, and the mask of all."""
        cache = past_key_values if cache is None else cache
        return {
            "input_ids": input_ids if cache is None else input_ids[:, cache.length :],
            "attention_mask": attention_mask,
            CACHE: cache,
            "use_cache": use_cache,
        }

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # `forward` makes the cache
