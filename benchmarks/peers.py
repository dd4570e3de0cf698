"""Against libraries that people use: a dense training step against litgpt's and x-transformers', a
routed one against the dense one, and decoding against mixture-of-depth 1.2.0.

Same width, depth, heads and hidden width of the feed-forward part, bytes for tokens, fp32. Each
model lives in a process of its own, those of other libraries in environments that are made once
under `--envs` (some 2 GB). Models take turns in every round; a ratio is the median over rounds.

    python benchmarks/peers.py [training] [decoding] [--threads 2] [--rounds 7]
"""

import argparse
import itertools
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from served import Server, in_turns

from modsearch.config.model import ModelConfig
from modsearch.nn.ffn.mlp import Mlp
from modsearch.nn.generate import Decoding
from modsearch.nn.model import Decoder

HERE = Path(__file__).parent
ROUTED = {"block": "mod", "capacity": 0.125, "every": 2}
SHAPES: dict[str, tuple[dict[str, int], int]] = {
    "d64 L4 T256 B8": ({"width": 64, "depth": 4, "num_heads": 2, "seq_len": 256}, 8),
    "d256 L8 T512 B8": ({"width": 256, "depth": 8, "num_heads": 4, "seq_len": 512}, 8),
    "d512 L12 T1024 B2": ({"width": 512, "depth": 12, "num_heads": 8, "seq_len": 1024}, 2),
}
NEEDS = {
    "dense": ["litgpt", "x-transformers"],
    "routed": ["mixture-of-depth==1.2.0", "transformers==4.40.2", "numpy<2"],
}
"""By the environment's name."""
DECODED = {"width": 256, "depth": 8, "num_heads": 4, "seq_len": 256}
TOKENS = 32


def python_of(envs: Path, name: str) -> str:
    """Of an environment, which is made where there is none."""
    found = envs / name / "bin" / "python"
    if not found.exists():
        print(f"installing {', '.join(NEEDS[name])} into {envs / name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", envs / name], check=True)
        pip = [found, "-m", "pip", "install", "-q", f"torch=={torch.__version__.split('+')[0]}"]
        subprocess.run(pip, check=True)
        subprocess.run([*pip, *NEEDS[name]], check=True)
    return str(found)


def hidden(width: int) -> int:
    """Of the feed-forward part of ours."""
    return Mlp(width, 1.0, Mlp.Config()).hidden


def theirs(
    python: str, library: str, shape: Mapping[str, int], batch: int, threads: int
) -> Server:
    """A process with a model of another library."""
    asked = {
        "shape": {**shape, "library": library, "hidden": hidden(shape["width"])},
        "batch": batch,
        "threads": threads,
    }
    return Server([python, str(HERE / "peer_models.py"), json.dumps(asked)])


def ours(shape: Mapping[str, int], batch: int, threads: int, routed: dict[str, Any]) -> Server:
    """A process with one of ours."""
    asked = {
        "config": {"vocab_size": 256, **shape, **routed},
        "batch": batch,
        "runtime": {"threads": threads},
    }
    return Server([sys.executable, str(HERE / "served.py"), json.dumps(asked)])


def seconds_of(servers: Mapping[str, Server], rounds: int, count: int) -> dict[str, list[float]]:
    """Of each in every round, the first of which does not count; ends them."""
    for name, server in servers.items():
        facts = server.answer()
        assert facts is not None, f"{name} did not start"
        server.facts = facts
    answers = in_turns(servers, rounds + 1, count)
    for name, server in servers.items():
        server.process.kill()
        assert len(answers[name]) == rounds + 1, f"{name} ended"
    return {name: [each["seconds"] for each in found[1:]] for name, found in answers.items()}


def training(envs: Path, threads: int, rounds: int) -> None:
    """A table for each shape."""
    python = python_of(envs, "dense")
    for label, (shape, batch) in SHAPES.items():
        servers = {
            "dense": ours(shape, batch, threads, {}),
            "litgpt": theirs(python, "litgpt", shape, batch, threads),
            "x-transformers": theirs(python, "x-transformers", shape, batch, threads),
            "mod": ours(shape, batch, threads, ROUTED),
        }
        seconds = seconds_of(servers, rounds, 2)
        print(f"\n{label}: dense {median(seconds['dense']):.3f} s a step")
        for name, server in servers.items():
            params = f"{name:16} {server.facts['params'] / 1e6:7.2f}M parameters"
            pairs = zip(seconds[name], seconds["dense"], strict=True)
            row = f"{params}, {median(a / b for a, b in pairs):.2f} of the dense step's time"
            if name == "mod":
                flops = server.facts["flops"] / servers["dense"].facts["flops"]
                row += f", {flops:.3f} of its FLOPs"
            print(row, flush=True)


def decoding(envs: Path, threads: int, rounds: int) -> None:
    """A row for each batch and router, greedy, with caches, every other layer routed at 12.5 %.

    Nothing is trained, and an untrained router's scores are positive for half of the tokens;
    `static` takes the share that it is asked for, as a trained one does. The library's top-k is
    of the tokens of one call, so that each new token enters every layer.
    """
    python = python_of(envs, "routed")
    print()
    for router, batch in itertools.product(("expert_choice", "static"), (1, 4)):
        torch.manual_seed(0)
        asked = {"vocab_size": 256, **DECODED, **ROUTED, "router": router}
        model = Decoder(ModelConfig.model_validate(asked)).eval()
        server = theirs(python, "mixture-of-depth", DECODED, batch, threads)
        assert server.answer() is not None, "mixture-of-depth did not start"
        tokens_BT = torch.randint(256, (batch, DECODED["seq_len"]))
        ratios, rates = [], []
        for turn in range(rounds + 1):
            mine, share = decoded(model, tokens_BT)
            found = server.ask(TOKENS)
            assert found is not None, "mixture-of-depth ended"
            if turn:
                ratios.append(found["seconds"] / mine)
                rates.append(batch / mine)
        server.process.kill()
        print(
            f"decoding {TOKENS} tokens after {DECODED['seq_len']}, batch {batch}, {router}: "
            f"{share:.0%} of new tokens enter routed layers, {median(rates):.1f} tokens/s, "
            f"{median(ratios):.2f} times mixture-of-depth's",
            flush=True,
        )


def decoded(model: Decoder, tokens_BT: torch.Tensor) -> tuple[float, float]:
    """Seconds of a token of `TOKENS` after the context, and their share in routed layers."""
    made = Decoding(model, len(tokens_BT))
    last_B1 = made.extend(tokens_BT).argmax(-1, keepdim=True)
    before = torch.tensor(made.layer_rows())[model.routed_layers].double()
    started = time.perf_counter()
    for _ in range(TOKENS):
        last_B1 = made.extend(last_B1).argmax(-1, keepdim=True)
    seconds = (time.perf_counter() - started) / TOKENS
    after = torch.tensor(made.layer_rows())[model.routed_layers].double()
    return seconds, ((after - before).mean() / TOKENS).item()


def main() -> None:
    """Both questions, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["training", "decoding", []], default=[])
    parser.add_argument("--envs", type=Path, default=Path("runs/peers"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {options.threads} threads, torch {torch.__version__}")
    for name, part in {"training": training, "decoding": decoding}.items():
        if name in options.parts or not options.parts:
            part(options.envs, options.threads, options.rounds)


if __name__ == "__main__":
    main()
