"""A checkpoint as a folder of `transformers`: a Llama where it is one, else with a model of ours,
which is read back, too.

A dense model is a Llama with other names of its weights. A routed one is written with
`modeling_modsearch.py`, which `transformers` runs where it is told to trust it. Neither needs
`transformers` here.
"""

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, Literal

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

from modsearch import __version__
from modsearch.config.answers import Exported
from modsearch.data.tokenizers import MODEL, NUM_BYTES, SETTINGS, ByteTokenizer, Tokenizer
from modsearch.errors import ModsearchError
from modsearch.evaluation.shapes import CONFIG, OWN
from modsearch.nn.contracts import KINDS
from modsearch.nn.model import Decoder
from modsearch.nn.rotary import ROTARY_BASE
from modsearch.registry import table
from modsearch.registry.built_in import base_name
from modsearch.store.files import refuse_taken, write_text
from modsearch.training.checkpoint import write_tensors

Kind = Literal["llama", "modsearch"]
ARCHITECTURES: dict[Kind, str] = {
    "llama": "LlamaForCausalLM",
    "modsearch": "ModsearchForCausalLM",
}
MODELING = "modeling_modsearch"
NORM_EPS = 1e-6
TRAINING_ALONE = ("router.updates",)
"""Buffers that only training reads."""


def export(model: Decoder, tokenizer: Tokenizer, out: Path) -> Exported:
    """Write a folder that `AutoModelForCausalLM` and `AutoTokenizer` open, whole or not at all.

    Raises:
        ModsearchError: a part of the model has no export, or there is something at `out`.
    """
    kind: Kind = "llama" if is_llama(model) else "modsearch"
    stated, out = out, out.absolute()
    if kind == "modsearch":
        refuse_foreign(model)
    refuse_taken(stated)
    part = out.with_name(f".{out.name[:40]}.{secrets.token_hex(8)}")
    try:
        _write(part, kind, model, tokenizer)
        files = {path.name: path.stat().st_size for path in sorted(part.iterdir())}
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(
        folder=str(stated),
        architecture=ARCHITECTURES[kind],
        trust_remote_code=kind == "modsearch",
        params=model.num_params,
        vocab_size=model.config.vocab_size,
        seq_len=model.config.seq_len,
        tokenizer=tokenizer.name,
        files=files,
    )


def is_llama(model: Decoder) -> bool:
    """Whether every token enters every layer, and all of them are attention and a SwiGLU."""
    config = model.config
    assert config.ffn is not None
    routed = any(capacity is not None for capacity in model.capacities)
    known = base_name("block", config.block.name) in table.BLOCKS
    return known and not routed and config.ffn.name == "mlp"


def refuse_foreign(model: Decoder) -> None:
    """Components that are not ours are code that the exported folder has not.

    Raises:
        ModsearchError: names the first of them.
    """
    config = model.config
    assert config.ffn is not None
    named = {"block": base_name("block", config.block.name), "ffn": config.ffn.name}
    if named["block"] == "mod":
        named["router"] = config.router.name
    for kind, name in named.items():
        if name not in table.TABLES[kind]:
            origins = KINDS[kind].origins(name)
            where = f" of {origins[0]}" if origins else ""
            raise ModsearchError(
                f"{kind} `{name}`{where} has no export: only what modsearch itself brings has one"
            )


def _write(folder: Path, kind: Kind, model: Decoder, tokenizer: Tokenizer) -> None:
    tensors = llama_tensors(model) if kind == "llama" else own_tensors(model)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_tensors(folder / "model.safetensors", plain, {"format": "pt"})
    shape = llama_config(model) if kind == "llama" else own_config(model)
    dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.end, "pad_token_id": tokenizer.end}
    _write_json(folder / CONFIG, {**shape, **ends, "torch_dtype": dtype})
    _write_json(folder / "generation_config.json", ends)
    if kind == "modsearch":
        code = Path(__file__).with_name(f"{MODELING}.py").read_text(encoding="utf-8")
        write_text(folder / f"{MODELING}.py", code)
    write_tokenizer(tokenizer, folder, model.config.seq_len)


def _write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def llama_config(model: Decoder) -> dict[str, Any]:
    """The shape in Llama's words, for old and new versions of `transformers`."""
    config = model.config
    up = dict(model.named_parameters())["blocks.0.ffn.ffn.up.weight"]
    return {
        "architectures": [ARCHITECTURES["llama"]],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": up.shape[0] // 2,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.width // config.num_heads,
        "max_position_embeddings": config.seq_len,
        "hidden_act": "silu",
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROTARY_BASE,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tied,
    }


def llama_tensors(model: Decoder) -> dict[str, Tensor]:
    """Weights by Llama's names; both rotate halves of a head as pairs, so no row moves."""
    config = model.config
    head = config.width // config.num_heads
    num_kv = config.num_kv_heads or config.num_heads
    sizes = [config.num_heads * head, num_kv * head, num_kv * head]
    ours = model.state()
    found = {
        "model.embed_tokens.weight": ours["embedding.weight"],
        "model.norm.weight": ours["norm.weight"],
    }
    if not config.tied:
        found["lm_head.weight"] = ours["head.weight"]
    for layer in range(config.depth):
        at, to = f"blocks.{layer}", f"model.layers.{layer}"
        q, k, v = torch.split(ours[f"{at}.attention.attention.qkv.weight"], sizes)
        gate, value = ours[f"{at}.ffn.ffn.up.weight"].chunk(2)
        parts = {
            "input_layernorm": ours[f"{at}.attention.norm.weight"],
            "self_attn.q_proj": q,
            "self_attn.k_proj": k,
            "self_attn.v_proj": v,
            "self_attn.o_proj": ours[f"{at}.attention.attention.out.weight"],
            "post_attention_layernorm": ours[f"{at}.ffn.norm.weight"],
            "mlp.gate_proj": gate,
            "mlp.up_proj": value,
            "mlp.down_proj": ours[f"{at}.ffn.ffn.down.weight"],
        }
        found |= {f"{to}.{name}.weight": tensor for name, tensor in parts.items()}
    return found


def own_config(model: Decoder) -> dict[str, Any]:
    """The shape and the parts, as `modeling_modsearch.py` reads them."""
    config = model.config
    assert config.ffn is not None
    name = base_name("block", config.block.name)
    router = config.router.options
    return {
        "architectures": [ARCHITECTURES["modsearch"]],
        "auto_map": {
            "AutoConfig": f"{MODELING}.ModsearchConfig",
            "AutoModelForCausalLM": f"{MODELING}.ModsearchForCausalLM",
        },
        "model_type": OWN,
        "modsearch_version": __version__,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "max_position_embeddings": config.seq_len,
        "tied": config.tied,
        "use_cache": True,
        "block": {"name": name, **config.block.options},
        "ffn": {"name": config.ffn.name, **config.ffn.options},
        "router": {"name": config.router.name, **router},
        "capacities": model.capacities,
        OWN: config.model_dump(mode="json"),
    }


def own_tensors(model: Decoder) -> dict[str, Tensor]:
    """Weights by our own names, without what training alone reads."""
    return {
        name: tensor for name, tensor in model.state().items() if not name.endswith(TRAINING_ALONE)
    }


def write_tokenizer(tokenizer: Tokenizer, folder: Path, seq_len: int) -> None:
    """`tokenizer.json` and its settings; what stands in a text is text, as it was in training."""
    if isinstance(tokenizer, ByteTokenizer):
        model, end = byte_model()
        write_text(folder / MODEL, model.to_str())
        settings: dict[str, Any] = {"eos_token": end, "name_or_path": tokenizer.name}
    else:
        tokenizer.save(folder)
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    settings |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "pad_token": settings["eos_token"],
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
        "model_max_length": seq_len,
    }
    _write_json(folder / SETTINGS, settings)


def byte_model() -> tuple[tokenizers.Tokenizer, str]:
    """A tokenizer whose tokens are bytes by their values, and the name of byte 0, which ends a
    document."""
    letters = _letters()
    model = tokenizers.Tokenizer(
        models.BPE(vocab={letter: byte for byte, letter in enumerate(letters)}, merges=[])
    )
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens([letters[0]])
    return model, letters[0]


def _letters() -> list[str]:
    """What a byte is called where a vocabulary is text: as GPT-2 has it, printable ones by
    themselves and the others by letters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(NUM_BYTES)]
