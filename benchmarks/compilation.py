"""What torch.compile saves of a training step, what its first step costs, and after how many
steps it has paid.

Forward, backward, clipping and AdamW in fp32, eager and compiled in turns; the median over rounds.

    python benchmarks/compilation.py [--rounds 7] [--threads 1]
"""

import argparse
import platform
import time
from statistics import median

import torch
from step_time import Stepper

from modsearch.config.model import ModelConfig
from modsearch.config.runtime import Runtime
from modsearch.training.speed import in_turns

SHAPES = {
    "d24 L4 T256 B2": ({"depth": 4, "width": 24, "num_heads": 2, "seq_len": 256}, 2),
    "d64 L4 T256 B8": ({"depth": 4, "width": 64, "num_heads": 2, "seq_len": 256}, 8),
    "d256 L8 T512 B8": ({"depth": 8, "width": 256, "num_heads": 4, "seq_len": 512}, 8),
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    print(f"{name or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    print(f"{'':30}{'eager ms':>10}{'ratio':>8}{'first step s':>14}{'pays after steps':>18}")
    for shape, (values, batch) in SHAPES.items():
        for block in ("dense", "mod"):
            config = ModelConfig(vocab_size=256, **values, block=block)
            plain = Stepper(config, batch, Runtime(device=device))
            compiled = Stepper(config, batch, Runtime(device=device, compile=True))
            started = time.perf_counter()
            compiled.seconds()
            first = time.perf_counter() - started
            works = [plain.seconds, compiled.seconds]
            found = in_turns(works, options.rounds, 1.0, lambda _: None)
            slow, fast = (found[work] for work in works)
            ratio = median(one / two for one, two in zip(fast, slow, strict=True))
            step = median(slow)
            after = f"{first / (step * (1 - ratio)):,.0f}" if ratio < 1 else "never"
            row = f"{1000 * step:10.1f}{ratio:8.2f}{first:14.1f}{after:>18}"
            print(f"{shape + ' ' + block:30}{row}", flush=True)


if __name__ == "__main__":
    main()
