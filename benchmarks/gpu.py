"""What a GPU makes of it: training steps, decoding, and small trials side by side.

Each part writes a table (CSV) and lines of `gpu.md` into a folder, beside what the machine is.
Models take turns in every round, and a ratio is the median over rounds.

    python benchmarks/gpu.py [PART ...] [--out runs/gpu]
"""

import argparse
import csv
import gc
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from decoding import compare
from served import Asked, timed
from step_time import Stepper

import modsearch
from modsearch.api.space import load_space
from modsearch.config.model import ModelConfig
from modsearch.config.runtime import Runtime
from modsearch.engines.local import local
from modsearch.nn.contracts import ROUTERS
from modsearch.nn.model import Decoder
from modsearch.study.events import Event, TrialEnded
from modsearch.study.runner import Runner
from modsearch.training.machine import cores

SHAPE = {"vocab_size": 50304, "depth": 12, "width": 768, "num_heads": 12, "seq_len": 1024}
"""GPT-2 small."""
LARGE = {"depth": 24, "width": 1024, "num_heads": 16}
"""GPT-2 medium."""
SMALL = {"vocab_size": 256, "depth": 4, "width": 64, "num_heads": 2, "seq_len": 256}
ROUTED = {"block": "mod", "capacity": 0.125, "every": 2}
COMPILED = ["expert_choice", "token_choice", "threshold"]
"""Routers of which a card's memory holds all graphs at once."""
STEPS = 5
"""Between two looks at the clock."""
COMPILING = 90.0
"""Seconds that all have for their first steps."""


@dataclass(frozen=True)
class Bench:
    """Where it runs, how large, and where results go."""

    out: Path
    device: str
    shape: Mapping[str, Any]
    batch: int
    rounds: int

    def say(self, text: str) -> None:
        """To the reader, and into the page."""
        print(text, flush=True)
        with (self.out / "gpu.md").open("a") as page:
            page.write(text + "\n")

    def growing(self, name: str, tables: Iterable[list[dict[str, Any]]]) -> None:
        """A table that has more after each round, which a file has at once: what comes next may
        take too long."""
        rows: list[dict[str, Any]] = []
        for rows in tables:
            assert rows, "no model has answered"
            write_csv(self.out / f"{name}.csv", rows)
        self.table(name, rows)

    def table(self, name: str, rows: list[dict[str, Any]]) -> None:
        """As CSV, and in Markdown."""
        write_csv(self.out / f"{name}.csv", rows)
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(map(_shown, r.values()) for r in rows)]
        self.say("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Of rows with the same keys."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def ceiling(bench: Bench) -> float:
    """FLOP/s of a large bf16 matrix product on random data: what this card can do."""
    size = 8192 if bench.device == "cuda" else 512
    left, right = torch.randn(2, size, size, device=bench.device, dtype=torch.bfloat16)
    out = torch.empty_like(left)
    seconds = []
    for turn in range(23):
        _wait(bench)
        started = time.perf_counter()
        for _ in range(STEPS):
            torch.mm(left, right, out=out)
        _wait(bench)
        if turn > 2:
            seconds.append((time.perf_counter() - started) / STEPS)
    return 2 * size**3 / median(seconds)


def _wait(bench: Bench) -> None:
    if bench.device == "cuda":
        torch.cuda.synchronize()


def machine(bench: Bench) -> None:
    """What it is, and its ceiling."""
    name = platform.processor() or platform.machine()
    if bench.device == "cuda":
        facts = torch.cuda.get_device_properties(0)
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv"]
        smi = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        name = f"{facts.name}, {facts.total_memory / 2**30:.1f} GiB, {smi.splitlines()[-1:]}"
    bench.say(
        f"{name}; {cores()} CPU cores; Python {platform.python_version()}, torch "
        f"{torch.__version__}, CUDA {torch.version.cuda}, {platform.release()}; bf16 matrix "
        f"product {ceiling(bench) / 1e12:.3g} TFLOP/s\n"
    )


def configs(bench: Bench, routers: list[str]) -> dict[str, ModelConfig]:
    """Dense first, then each router."""
    dense = ModelConfig.model_validate({**bench.shape})
    return {"dense": dense} | {
        router: ModelConfig.model_validate({**bench.shape, **ROUTED, "router": router})
        for router in routers
    }


def steps(bench: Bench) -> None:
    """Training steps of dense and of each router, eager and compiled."""
    asked = {}
    for compiled in (False, True):
        for router in [None, *(ROUTERS.names() if not compiled else COMPILED)]:
            name = f"124M {'compiled' if compiled else 'eager'} {router or 'dense'}"
            asked[name] = _asked(bench, bench.shape, router, bench.batch, compiled=compiled)
    bench.say(f"Training steps in bf16, {dict(bench.shape)}:\n")
    bench.growing("steps", timed(asked, ceiling(bench), bench.rounds, STEPS, COMPILING))


def sizes(bench: Bench) -> None:
    """The same for a larger model, and for one as small as those of a search."""
    shapes = {"355M": (LARGE, bench.batch // 2), "0.2M": (SMALL, 8)}
    asked = {}
    for label, (shape, batch) in shapes.items():
        shape = {**bench.shape, **(shape if bench.shape == SHAPE else {})}
        for compiled in (False, True):
            if label == "355M" and not compiled:
                continue  # the card's memory holds no more
            for router in (None, "expert_choice"):
                name = f"{label} {'compiled' if compiled else 'eager'} {router or 'dense'}"
                asked[name] = _asked(bench, shape, router, batch, compiled=compiled)
    bench.say("Training steps of other sizes, in bf16:\n")
    bench.growing("sizes", timed(asked, ceiling(bench), bench.rounds, STEPS, COMPILING))


def _asked(
    bench: Bench, shape: Mapping[str, Any], router: str | None, batch: int, *, compiled: bool
) -> Asked:
    routed = {} if router is None else {**ROUTED, "router": router}
    runtime = {"device": bench.device, "precision": "bf16", "compile": compiled}
    return Asked({**shape, **routed}, batch, runtime)


def _emptied(bench: Bench) -> None:
    gc.collect()
    if bench.device == "cuda":
        torch.cuda.empty_cache()


def decoding(bench: Bench) -> None:
    """Cached decoding, forced to the capacity, over dense."""
    bench.say("Decoding in fp32 after 512 tokens, router `static` at 12.5 %:\n")
    torch.manual_seed(0)
    models = configs(bench, ["static"])
    dense, routed = (Decoder(each).to(bench.device).eval() for each in models.values())
    rows = []
    for batch in (1, 32):
        tokens_BT = torch.randint(256, (batch, 512 + 32)).to(bench.device)
        row, ratio = compare("forced", dense, routed, tokens_BT, 512)
        print(row, flush=True)
        rows.append({"batch": batch, "speed over dense": ratio, "all": row})
        write_csv(bench.out / "decoding.csv", rows)
    bench.table("decoding", rows)
    del dense, routed
    _emptied(bench)


def trials(bench: Bench) -> None:
    """Trials a second of a small study, one at a time and side by side."""
    bench.say("Trials of width 56 to 84, 4 layers, some 100 steps of 8 x 256 tokens:\n")
    rows = []
    for workers, seeds in ((1, 1), (8, 4)):
        rate = trials_a_second(bench.device, workers, seeds, 8 if bench.shape == SHAPE else 1)
        rows.append({"device": bench.device, "at once": workers, "trials a second": rate})
        write_csv(bench.out / "trials.csv", rows)  # at once: the next kind may take too long
    bench.table("trials", rows)


def trials_a_second(device: str, workers: int, seeds: int, batch: int) -> float:
    """Of 16 trials a seed, from when every worker has ended its first one to the last end."""
    widths = list(range(56, 88, 4))
    space = {
        "name": "gpu",
        "data": {"corpus": str(Path(modsearch.__file__).parent)},
        "fixed": {
            "model": {"num_heads": 2},
            "optim": {"batch_size": batch, "min_steps": 1, "max_epochs": 1000},
        },
        "arms": {"dense": {}, "mod": {"model": {"block": "mod"}}},
        "measure": {
            "ladder": [{"budget": 6e10 * batch, "depth": 4, "widths": widths}],
            "seeds": seeds,
            "windows": 16,
        },
        "resources": {"workers": workers, "device": device},
    }
    ends = []

    def note(event: Event) -> None:
        if isinstance(event, TrialEnded):
            ends.append(event.time)

    with tempfile.TemporaryDirectory() as folder:
        study = Runner(load_space(space), Path(folder), make_engine=local, on_event=note)
        study.run()
        reasons = {record.reason for record in study.directory.records() if not record.scores}
        assert not reasons, reasons
    ends.sort()
    return (len(ends) - workers) / (ends[-1] - ends[workers - 1])


def repeats(bench: Bench) -> None:
    """Whether the same seed gives the same weights to the bit."""
    bench.say("The same 20 steps twice, from the same seed:\n")
    rows: list[dict[str, Any]] = []
    shape = {**bench.shape, "depth": 2, "seq_len": 256, "every": 1}
    parts = [{"block": "dense"}, {"block": "mod"}, {"block": "mode_staged"}]
    for precision in ("fp32", "bf16"):
        runtime = Runtime.model_validate({"device": bench.device, "precision": precision})
        for part in parts:
            config = ModelConfig.model_validate({**shape, **part})
            one, two = (_weights(Stepper(config, 8, runtime)) for _ in range(2))
            gap = max((a - b).abs().max().item() for a, b in zip(one, two, strict=True))
            rows.append({"precision": precision, **part, "largest difference of a weight": gap})
            write_csv(bench.out / "repeats.csv", rows)
    bench.table("repeats", rows)


def _weights(stepper: Stepper) -> list[torch.Tensor]:
    stepper.seconds(20)
    return [parameter.detach() for parameter in stepper.model.parameters()]


PARTS: dict[str, Callable[[Bench], None]] = {
    "machine": machine,
    "steps": steps,
    "sizes": sizes,
    "decoding": decoding,
    "trials": trials,
    "repeats": repeats,
}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a small shape, to try the script")
    options = parser.parse_args()
    np.random.seed(0)
    options.out.mkdir(parents=True, exist_ok=True)
    shape = {**SMALL, "depth": 2, "width": 32, "seq_len": 64}
    bench = Bench(
        options.out,
        options.device,
        shape if options.small else SHAPE,
        options.batch,
        options.rounds,
    )
    for part in options.parts:
        PARTS[part](bench)


if __name__ == "__main__":
    main()
