"""A model of another library, served to `peers.py` from an environment that has that library and
nothing of ours: a number of steps or tokens in, the seconds of one out."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

VOCAB = 256


def litgpt(shape: dict[str, Any]) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """Rotary, RMSNorm and SwiGLU, as ours."""
    from litgpt import GPT, Config  # type: ignore[import-not-found]

    config = Config(
        block_size=shape["seq_len"],
        vocab_size=VOCAB,
        padded_vocab_size=VOCAB,
        n_layer=shape["depth"],
        n_head=shape["num_heads"],
        n_embd=shape["width"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        intermediate_size=shape["hidden"],
    )
    model = GPT(config)
    return model, model


def x_transformers(shape: dict[str, Any]) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The same, with its flash attention."""
    from x_transformers import Decoder, TransformerWrapper  # type: ignore[import-not-found]

    model = TransformerWrapper(
        num_tokens=VOCAB,
        max_seq_len=shape["seq_len"],
        use_abs_pos_emb=False,
        attn_layers=Decoder(
            dim=shape["width"],
            depth=shape["depth"],
            heads=shape["num_heads"],
            attn_dim_head=shape["width"] // shape["num_heads"],
            attn_flash=True,
            rotary_pos_emb=True,
            rotary_emb_dim=shape["width"] // shape["num_heads"],
            use_rmsnorm=True,
            ff_swish=True,
            ff_glu=True,
            ff_mult=shape["hidden"] / shape["width"],
            ff_no_bias=True,
        ),
    )
    return model, model


def mixture_of_depth(shape: dict[str, Any]) -> nn.Module:
    """Its Llama, with every other layer routed."""
    from MoD import apply_mod_to_hf  # type: ignore[import-not-found]
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=shape["width"],
        intermediate_size=shape["hidden"],
        num_hidden_layers=shape["depth"],
        num_attention_heads=shape["num_heads"],
        max_position_embeddings=4 * shape["seq_len"],
        architectures=["LlamaForCausalLM"],
    )
    model: nn.Module = apply_mod_to_hf(LlamaForCausalLM(config))
    return model.eval()


def trained(shape: dict[str, Any], batch: int) -> tuple[int, Callable[[int], float]]:
    """Parameters, and what takes so many steps as ours are (forward, backward, clipping, AdamW)
    and gives their seconds."""
    torch.manual_seed(0)
    model, logits = {"litgpt": litgpt, "x-transformers": x_transformers}[shape["library"]](shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens_BT = torch.randint(VOCAB, (batch, shape["seq_len"] + 1))

    def steps(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            made_BTV = logits(tokens_BT[:, :-1])
            targets_BT = tokens_BT[:, 1:]
            loss = nn.functional.cross_entropy(made_BTV.flatten(0, 1), targets_BT.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - started

    return sum(p.numel() for p in model.parameters()), steps


def decoded(shape: dict[str, Any], batch: int) -> tuple[int, Callable[[int], float]]:
    """Parameters, and what takes so many tokens for each sequence, greedily, and gives their
    seconds, without the context's."""
    torch.manual_seed(0)
    model = mixture_of_depth(shape)
    length = shape["seq_len"]
    tokens_BT = torch.randint(VOCAB, (batch, length))

    def tokens(count: int) -> float:
        with torch.no_grad():
            # It asks for a row of positions for each sequence.
            places_BT = torch.arange(length + count).expand(batch, -1)
            made = model(tokens_BT, position_ids=places_BT[:, :length], use_cache=True)
            last_B1 = made.logits[:, -1:].argmax(-1)
            started = time.perf_counter()
            for place in range(length, length + count):
                made = model(
                    last_B1,
                    position_ids=places_BT[:, place : place + 1],
                    past_key_values=made.past_key_values,
                    use_cache=True,
                )
                last_B1 = made.logits[:, -1:].argmax(-1)
            return time.perf_counter() - started

    return sum(p.numel() for p in model.parameters()), tokens


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("asked", type=json.loads)
    asked = parser.parse_args().asked
    torch.set_num_threads(asked["threads"])
    make = decoded if asked["shape"]["library"] == "mixture-of-depth" else trained
    params, work = make(asked["shape"], asked["batch"])
    work(2)
    print(json.dumps({"params": params}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": work(int(line)) / int(line)}), flush=True)
