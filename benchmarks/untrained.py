"""From how many steps on does a model of bytes beat bigrams? What `plan` warns of rests on it.

Trains small models of both kinds on sequences of 64 and of 256 bytes, at a few budgets, and prints
how far their causal validation losses lie above the corpus's bigram entropy.
"""

import tempfile
from itertools import product
from pathlib import Path

import torch

from modsearch.config.data import DataConfig, Validation
from modsearch.config.records import Budget, Candidate, Job, Plan, Stage
from modsearch.config.runtime import Runtime
from modsearch.data.corpus import load_corpus
from modsearch.space.candidates import build
from modsearch.training.budget import plan
from modsearch.training.trial import run_trial

LENGTHS = (64, 256)
BLOCKS = ("dense", "mod")
BUDGETS = (1e9, 3e9, 1e10, 2e10)
WIDTHS = (8, 12, 16, 24)
OPTIM = {"batch_size": 2, "min_steps": 5, "rate": 0.01}


def main() -> None:
    torch.set_num_threads(1)
    data = DataConfig(corpus="stdlib")
    facts = load_corpus(data).facts
    print(f"{'seq_len':>8}{'block':>7}{'FLOPs':>8}{'steps':>7}{'parameters':>12}{'gap':>8}")
    for seq_len, block, flops, width in product(LENGTHS, BLOCKS, BUDGETS, WIDTHS):
        model = {"block": block, "width": width, "depth": 2, "num_heads": 2, "seq_len": seq_len}
        candidate = build({"model": model, "optim": OPTIM}, data)
        budget = Budget(flops=flops)
        spent = plan(candidate, budget, facts.train_tokens)
        if isinstance(spent, Plan):
            gap = trained(candidate, budget, spent, facts.fingerprint) - facts.bigram_entropy
            print(
                f"{seq_len:8}{block:>7}{flops:8.0e}{spent.steps:7}{spent.params:12,}{gap:+8.3f}",
                flush=True,
            )


def trained(candidate: Candidate, budget: Budget, spent: Plan, fingerprint: str) -> float:
    """Causal validation loss of one trial."""
    job = Job(
        stage=Stage.EXPLORE,
        arm="a",
        candidate=candidate,
        budget=budget,
        seed=0,
        validation=Validation(part="validation", windows=64),
        fingerprint=fingerprint,
        runtime=Runtime(),
        plan=spent,
    )
    with tempfile.TemporaryDirectory() as folder:
        record = run_trial(Path(folder), job)
    assert record.scores is not None, record.reason
    return record.scores.causal_loss


if __name__ == "__main__":
    main()
