"""What a `config.json` of `transformers` says of a Llama-shaped model, and what of it is not one.

Shapes that differ from Llama's in a bias, in norms of queries and keys, or in where norms stand
are read, too. Whatever else would change a logit is refused by its name.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modsearch.config.wording import first_error
from modsearch.errors import DataError, shown

CONFIG = "config.json"
HUB = "hf:"
"""Before the name of a model on the hub."""
OWN = "modsearch"
"""The type of a model that `modsearch export` has written with code, and the key of its
configuration."""
QkNorm = Literal["none", "head", "all"]


@dataclass(frozen=True)
class Family:
    """What the name of a model type says without a word in its `config.json`."""

    qkv_bias: bool = False
    qk_norm: QkNorm = "none"
    """Of queries and keys: of each head alone, or of all heads together."""
    post_norm: bool = False
    """Norms stand behind attention and MLP, not before them."""
    theta: float = 10_000.0
    window_by: str | None = None
    """The key that switches a sliding window on; None: a width of it does."""
    head_dim: int | None = None
    skips_rope: bool = False
    """Whether some layers know no positions."""


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(qkv_bias=True, window_by="use_sliding_window"),
    "qwen3": Family(qk_norm="head", window_by="use_sliding_window", head_dim=128),
    "olmo2": Family(qk_norm="all", post_norm=True),
    "smollm3": Family(theta=2_000_000.0, window_by="use_sliding_window", skips_rope=True),
}


class Rope(BaseModel):
    """Rotary positions; `rope_parameters` in new files, `rope_scaling` and a theta in old ones."""

    model_config = ConfigDict(frozen=True)

    rope_type: Literal["default", "linear", "llama3"] = "default"
    rope_theta: float = Field(gt=0)
    factor: float = Field(1.0, gt=0)
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = Field(8192, gt=0)


class Shape(BaseModel):
    """Keys that a Llama-shaped model is made of."""

    model_config = ConfigDict(frozen=True)

    model_type: str
    vocab_size: int = Field(gt=1)
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0, multiple_of=2)
    max_position_embeddings: int = Field(gt=1)
    rms_norm_eps: float = Field(gt=0)
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool | None = None
    """None: where there are no weights of a head."""
    rope: Rope
    roped: tuple[bool, ...]
    """Whether a layer knows positions."""

    @property
    def family(self) -> Family:
        """What its model type means."""
        return FAMILIES[self.model_type]

    @property
    def seq_len(self) -> int:
        """Positions that it was made for."""
        return self.max_position_embeddings

    @property
    def depth(self) -> int:
        """Layers."""
        return self.num_hidden_layers

    @property
    def width(self) -> int:
        """Of the residual stream."""
        return self.hidden_size


def is_imported(target: str) -> bool:
    """Whether it names a model of the hub, or a folder with one as `transformers` writes it."""
    if target.startswith(HUB):
        return True
    folder = Path(target)
    return (folder / CONFIG).is_file() and not (folder / "model.json").exists()


def read_config(folder: Path) -> dict[str, Any]:
    """What a folder's `config.json` says.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / CONFIG
    try:
        stated: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"can't read {path}: it is no JSON") from error
    if not isinstance(stated, dict):
        raise DataError(f"can't read {path}: it is no mapping of keys to values")
    return stated


def read_shape(folder: Path) -> Shape:
    """The shape that a folder's `config.json` states.

    Raises:
        DataError: there is none, it is damaged, or a part of it is none of Llama's shape.
    """
    path, stated = folder / CONFIG, read_config(folder)
    kind = stated.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise _misfit(path, f"model_type {shown(kind)}", f"one of {', '.join(FAMILIES)}")
    _refuse(path, stated, FAMILIES[kind])
    try:
        values = _completed(stated, FAMILIES[kind])
        return Shape.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{path}: {first_error(error, Shape, stated)}") from error
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise DataError(f"{path}: its keys make no shape of a model") from error


def _misfit(path: Path, what: str, right: str) -> DataError:
    return DataError(f"{path}: {what} does not fit\nwhat fits: {right}")


def _refuse(path: Path, stated: dict[str, Any], family: Family) -> None:
    """What would change a logit and is not computed here."""
    if stated.get("quantization_config") is not None:
        raise _misfit(path, "quantization_config", "weights as fp32, fp16 or bf16")
    if (act := stated.get("hidden_act", "silu")) not in ("silu", "swish"):
        raise _misfit(path, f"hidden_act {shown(act)}", "silu")
    window = stated.get("sliding_window", 4096 if stated["model_type"] == "mistral" else None)
    if window is not None and (family.window_by is None or stated.get(family.window_by)):
        raise _misfit(path, f"sliding_window {shown(window)}", "attention to all earlier tokens")
    for layer in stated.get("layer_types") or ():
        if layer != "full_attention":
            raise _misfit(path, f"layer_types {shown(layer)}", "full_attention in all layers")
    rope = _rope(stated)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise _misfit(path, f"rope_scaling type {shown(kind)}", "default, linear, llama3")
    part = rope.get("partial_rotary_factor", stated.get("partial_rotary_factor"))
    if part not in (None, 1, 1.0):
        raise _misfit(path, f"partial_rotary_factor {shown(part)}", "1: whole heads are rotated")


def _rope(stated: dict[str, Any]) -> dict[str, Any]:
    found = stated.get("rope_parameters") or stated.get("rope_scaling") or {}
    return dict(found) if isinstance(found, dict) else {"rope_type": found}


def _completed(stated: dict[str, Any], family: Family) -> dict[str, Any]:
    """The keys with what older files leave out."""
    rope = _rope(stated)
    rope.setdefault("rope_type", rope.get("type", "default"))
    rope.setdefault("rope_theta", stated.get("rope_theta") or family.theta)
    if rope["rope_type"] == "llama3":
        rope.setdefault("original_max_position_embeddings", stated["max_position_embeddings"])
    heads, layers = stated.get("num_attention_heads"), stated.get("num_hidden_layers", 0)
    head = stated.get("head_dim") or family.head_dim or stated["hidden_size"] // (heads or 1)
    bias = stated.get("attention_bias") or False
    roped = [True] * layers
    if family.skips_rope:
        interval = stated.get("no_rope_layer_interval") or 4
        default = [(layer + 1) % interval != 0 for layer in range(layers)]
        roped = [bool(each) for each in stated.get("no_rope_layers") or default][:layers]
    return {
        **stated,
        "num_key_value_heads": stated.get("num_key_value_heads") or heads,
        "head_dim": head,
        "attention_bias": bias,
        "rope": rope,
        "roped": tuple(roped),
    }
