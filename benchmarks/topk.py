"""Causal scores of routed checkpoints beside what training's top-k routing would give.

Top-k ranks the tokens of a whole sequence, so that what it gives for a token depends on tokens
after it: no likelihood. Two columns show that: the leading metrics of suite `quick` in both modes,
and the total probability of all 256 bytes after a text that is followed by one more (256
continuations of each of 32 texts, mean and largest distance from 1).

    python benchmarks/topk.py TRIAL ...
"""

import argparse
from pathlib import Path

import torch

from modsearch.config.data import DataConfig
from modsearch.config.samples import facts_of
from modsearch.data.corpus import load_corpus
from modsearch.evaluation.evaluate import evaluate
from modsearch.nn.contracts import Mode
from modsearch.nn.model import Decoder
from modsearch.store.trial import trial_config, weights_folder
from modsearch.training.checkpoint import load_model

MODES: tuple[Mode, ...] = ("causal", "train")
NUM_TEXTS, SIZE, BYTES = 32, 64, 256


@torch.inference_mode()
def totals(model: Decoder, data: DataConfig, mode: Mode) -> torch.Tensor:
    """Sum over all next bytes of their probability, each with itself as the last input."""
    text = load_corpus(data).text("test")
    sums = []
    for start in range(0, NUM_TEXTS * SIZE, SIZE):
        context = torch.from_numpy(text[start : start + SIZE].copy()).long()
        last = torch.arange(BYTES)
        tokens_BT = torch.cat([context.expand(BYTES, -1), last[:, None]], dim=1)
        log_BV = model(tokens_BT, mode).logits_BTV[:, -2].double().log_softmax(-1)
        sums.append(log_BV[last, last].exp().sum())
    return torch.stack(sums)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trials", nargs="+", type=Path)
    for trial in parser.parse_args().trials:
        data = trial_config(trial / "config.yaml").candidate.data
        model = load_model(weights_folder(trial))
        print(f"{trial.name}: {model.config.block.name}")
        found = {mode: evaluate(model, "quick", data, "test", mode=mode) for mode in MODES}
        for task, facts in facts_of(found["causal"]).items():
            causal, topk = (
                found[mode]["results"][task][f"{facts.leading},none"] for mode in MODES
            )
            print(f"  {task:14}{facts.leading:22}{causal:10.5f}{topk:10.5f}{topk - causal:+10.5f}")
        for mode in MODES:
            off = (totals(model, data, mode) - 1).abs()
            name = "causal" if mode == "causal" else "top-k"
            print(f"  {name}: total probability off by {off.mean():.2g}, at most {off.max():.2g}")


if __name__ == "__main__":
    main()
