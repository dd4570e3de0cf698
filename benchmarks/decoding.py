"""Cached decoding: tokens per second of a routed model over a dense one of the same shape.

Capacity 12.5 %, every 2, after a context of 1024 tokens, batch 1 and 16: once with routing forced
to the capacity (router `static`), once with a router that was trained for a short while. First
the gate: decoding must equal the parallel pass. Rounds are interleaved, and the ratio is the
median over rounds.

    python benchmarks/decoding.py [--threads 2] [--context 1024] [--tokens 64] [--flops 1e12]
"""

import argparse
import platform
import tempfile
from pathlib import Path
from statistics import median

import torch

from modsearch.config.data import DataConfig, Validation
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Plan
from modsearch.config.runtime import Runtime
from modsearch.data.batches import Batches
from modsearch.data.corpus import load_corpus
from modsearch.nn.generate import Decoding
from modsearch.nn.model import Decoder
from modsearch.training.budget import plan
from modsearch.training.speed import Passes, in_turns
from modsearch.training.trainer import Trainer

SHAPE = {"vocab_size": 256, "seq_len": 256, "depth": 8, "width": 256, "num_heads": 4}
ROUTED = {"block": "mod", "capacity": 0.125, "every": 2}
BLOCK = 8
"""Tokens of a turn, right after the context."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--flops", type=float, default=1e12, help="budget of the trained router")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    name = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor()
    print(f"{name or platform.machine()}, {args.threads} threads, torch {torch.__version__}")
    torch.manual_seed(0)
    dense = Decoder(ModelConfig(**SHAPE)).to(args.device).eval()
    forced = Decoder(ModelConfig(**SHAPE, **ROUTED, router="static")).to(args.device).eval()
    trained = train(args.flops, args.device)
    corpus = load_corpus(DataConfig())
    for label, model in (("forced", forced), ("trained", trained)):
        for batch in (1, 16):
            sample = Validation(part="test", windows=batch)
            windows = corpus.windows(sample, args.context + args.tokens - 1)
            tokens_BT = torch.from_numpy(windows).to(args.device).long()
            print(compare(label, dense, model, tokens_BT, args.context)[0])


def train(flops: float, device: str) -> Decoder:
    """A routed model of that shape, trained for a while in a temporary directory."""
    corpus = load_corpus(DataConfig())
    candidate = Candidate(
        model=Decoder(ModelConfig(**SHAPE, **ROUTED)).config,
        optim=OptimConfig(batch_size=4, min_steps=10),
    )
    spent = plan(candidate, Budget(flops=flops), corpus.facts.train_tokens)
    assert isinstance(spent, Plan), spent
    model = Decoder(candidate.model)
    batches = Batches(corpus.parts["train"], SHAPE["seq_len"], 4, 0)
    runtime = Runtime(device=device, threads=torch.get_num_threads(), checkpoint_seconds=1e9)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, candidate.optim, spent, runtime, Path(folder))
        trained = trainer.run(batches, seed=0)
    print(f"trained for {spent.flops:.2g} FLOPs: train loss {trained.final_train_loss:.3f}")
    return model.eval()


def compare(
    label: str, dense: Decoder, routed: Decoder, tokens_BT: torch.Tensor, context: int
) -> tuple[str, float]:
    """One row of the table, and the ratio in it, after the gate."""
    batch, length = tokens_BT.shape
    with torch.no_grad():
        whole_BTV = routed(tokens_BT, "causal").logits_BTV
    decoding = Decoding(routed, batch)
    decoding.extend(tokens_BT[:, :context])
    gaps = [
        (decoding.extend(tokens_BT[:, t : t + 1]) - whole_BTV[:, t]).abs().max(dim=-1).values
        for t in range(context, length)
    ]
    gap = torch.stack(gaps).median().item()
    assert gap < 1e-3, f"decoding differs from the parallel pass by {gap}"
    whole = Decoding(dense, batch)
    whole.extend(tokens_BT)
    passes = [Passes(m, tokens_BT[:, : context + BLOCK], batch, BLOCK) for m in (dense, routed)]
    found = in_turns(passes, (length - context) // BLOCK, 0.0, lambda _: None)
    seconds = dict(zip(("dense", "routed"), found.values(), strict=True))
    ratio = median(d / r for d, r in zip(seconds["dense"], seconds["routed"], strict=True))
    rates = {name: batch / median(values) for name, values in seconds.items()}
    share = decoding.cache_bytes / whole.cache_bytes
    layers = [rows for rows, c in zip(decoding.layer_rows(), routed.capacities, strict=True) if c]
    capacity = sum(map(sum, layers)) / (len(layers) * batch * length)
    flops = sum(whole.flops()) / sum(decoding.flops())
    row = (
        f"{label:8} batch {batch:2}: dense {rates['dense']:8.1f} tokens/s, routed "
        f"{rates['routed']:8.1f}, ratio {ratio:.2f} (FLOPs {flops:.2f}); realised capacity "
        f"{capacity:.1%}, cache bytes {share:.1%}"
    )
    return row, ratio


if __name__ == "__main__":
    main()
