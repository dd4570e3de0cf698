"""Does a training step cost what its FLOPs say? Step time over that of the dense model of the
same shape, for each router, beside the ratio of their FLOPs.

Capacity 12.5 %, every 2; forward, backward, clipping and AdamW. Models take turns in every round,
and a ratio is the median over rounds. 1.00 in the last column means that a FLOP of the routed
model takes as long as one of the dense model.

    python benchmarks/step_time.py [--rounds 5] [--threads 2] [--shape small|large|both]
"""

import argparse
import platform
import time
from statistics import median

import torch

from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.runtime import Runtime
from modsearch.nn.contracts import ROUTERS
from modsearch.nn.model import Decoder
from modsearch.optim.rates import Rates
from modsearch.training.compilation import CompiledLoss
from modsearch.training.speed import in_turns, wait
from modsearch.training.spread import Loss
from modsearch.training.trainer import autocast
from modsearch.training.weights import optimizer_for

SHAPES = {
    "small": ({"depth": 8, "width": 256, "num_heads": 4, "seq_len": 512}, 8),
    "large": ({"depth": 12, "width": 512, "num_heads": 8, "seq_len": 1024}, 2),
}


class Stepper:
    """One model and its optimiser."""

    def __init__(self, config: ModelConfig, batch: int, runtime: Runtime) -> None:
        torch.manual_seed(0)
        self.runtime = runtime
        self.model = Decoder(config).to(runtime.device)
        self.loss: Loss = CompiledLoss(self.model) if runtime.compile else self.model.loss
        tokens_BT = torch.randint(config.vocab_size, (batch, config.seq_len + 1))
        self.tokens_BT = tokens_BT.to(runtime.device)
        self.optimizer = optimizer_for(self.model, OptimConfig())
        Rates(OptimConfig(), 1000).set(self.optimizer, 0)
        self.flops = self.model.cost(config.seq_len).training.total
        self.seed = 0

    def seconds(self, steps: int = 1) -> float:
        """Of one step, as a mean of some without a wait between them."""
        wait(self.runtime.device)
        started = time.perf_counter()
        for _ in range(steps):
            self._step()
        wait(self.runtime.device)
        return (time.perf_counter() - started) / steps

    def _step(self) -> None:
        self.seed += 1
        tokens_BT = self.tokens_BT
        with autocast(self.runtime):
            loss, output = self.loss(tokens_BT[:, :-1], tokens_BT[:, 1:], self.seed, None)
        (loss if output.aux is None else loss + output.aux).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.model.end_step()


def main() -> None:
    """Print a table for each shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=[*SHAPES, "both"], default="both")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = options.device
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    print(f"{name or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    for shape in SHAPES if options.shape == "both" else [options.shape]:
        compare(shape, options.rounds, device)


def compare(shape: str, rounds: int, device: str) -> None:
    """One table."""
    values, batch = SHAPES[shape]
    runtime = Runtime(device=device)
    dense = Stepper(ModelConfig(vocab_size=256, **values), batch, runtime)
    routed = {
        router: Stepper(
            ModelConfig(vocab_size=256, **values, block="mod", router=router), batch, runtime
        )
        for router in ROUTERS.names()
    }
    steppers = {"dense": dense, **routed}
    found = in_turns([each.seconds for each in steppers.values()], rounds, 0.0, lambda _: None)
    seconds = {name: found[each.seconds] for name, each in steppers.items()}
    print(f"\n{shape}: {values}, batch {batch}, dense {median(seconds['dense']):.3f} s a step")
    print(f"{'router':14}{'time ratio':>12}{'FLOP ratio':>12}{'time / FLOPs':>14}")
    for name, stepper in routed.items():
        pairs = zip(seconds[name], seconds["dense"], strict=True)
        ratio = median(mine / other for mine, other in pairs)
        flops = stepper.flops / dense.flops
        print(f"{name:14}{ratio:12.3f}{flops:12.3f}{ratio / flops:14.3f}", flush=True)


if __name__ == "__main__":
    main()
