"""What torch.compile saves of a training step, what its first step costs, and after how many
steps it has paid.

Forward, backward, clipping and AdamW in fp32, eager and compiled in turns; the median over rounds.
With `--scoring` the same of scoring a trial's windows, in both modes: in seconds of the processor,
its C++ compiler's among them, and with nothing taken from the compiler's cache on disk.

    python benchmarks/compilation.py [--rounds 7] [--threads 1] [--scoring]
"""

import argparse
import os
import platform
import time
from statistics import median

import torch
import torch._inductor.config
from step_time import Stepper

from modsearch.config.model import ModelConfig
from modsearch.config.runtime import Runtime
from modsearch.nn.contracts import Mode
from modsearch.nn.model import Decoder
from modsearch.training.scoring import scored, windows_at_once
from modsearch.training.speed import in_turns

SHAPES = {
    "d24 L4 T256 B2": ({"depth": 4, "width": 24, "num_heads": 2, "seq_len": 256}, 2),
    "d64 L4 T256 B8": ({"depth": 4, "width": 64, "num_heads": 2, "seq_len": 256}, 8),
    "d256 L8 T512 B8": ({"depth": 8, "width": 256, "num_heads": 4, "seq_len": 512}, 8),
}

SCORED = "d256 L8 T512 B8"
MODES: tuple[Mode, ...] = ("causal", "train")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scoring", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    print(f"{name or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    if options.scoring:
        torch._inductor.config.compile_threads = 1  # so that its time is this process's
        torch._inductor.config.force_disable_caches = True
        torch.compile(torch.sin)(torch.zeros(2))  # what loading the compiler takes, training pays
        for block in ("dense", "mod"):
            for mode in MODES:
                scoring(block, mode, options.rounds)
        return
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


@torch.no_grad()
def scoring(block: str, mode: Mode, rounds: int) -> None:
    """A line: a batch of windows, eager and compiled, and after how many windows it has paid."""
    values, _ = SHAPES[SCORED]
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=256, **values, block=block)).eval()
    windows = windows_at_once(values["seq_len"])
    batches = torch.randint(256, (rounds + 1, windows, values["seq_len"] + 1))
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(model)
    started = processor()
    found = scored(compiled, batches[0], mode).losses_BT
    first = processor() - started
    gap = (found - scored(model, batches[0], mode).losses_BT).mean().abs().item()
    breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
    took: tuple[list[float], list[float]] = ([], [])
    for tokens_BT in batches[1:]:  # each of which routes another number of tokens
        for each, times in zip((model, compiled), took, strict=True):
            started = processor()
            scored(each, tokens_BT, mode)
            times.append(processor() - started)
    ratio = median(fast / slow for slow, fast in zip(*took, strict=True))
    window = median(took[0]) / windows
    pays = f"{first / (window * (1 - ratio)):,.0f}" if ratio < 1 else "never"
    print(
        f"{SCORED} {block} {mode}: {1e3 * window:.1f} ms a window, compiled {ratio:.2f} of it, "
        f"first batch {first:.1f} s, {breaks} breaks of the graph, loss off by {gap:.1e}, "
        f"pays after windows: {pays}",
        flush=True,
    )


def processor() -> float:
    """Seconds of this process and of what it has called."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


if __name__ == "__main__":
    main()
