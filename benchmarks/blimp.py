"""BLiMP on a checkpoint: seconds, pairs a second, and the ratio to lm-eval's generic path.

The generic path takes requests as they come, pads them to the longest of each batch, and takes
the softmax of every position: batches of 1, as lm-eval asks for unless told otherwise, of every
`--sparse`th pair alone, and of 32. Paradigms are scored in turns by all, and first the gate: both
must give the same scores to 1e-5 nats a token; what differs is shown and counted (a routed model's
decision may fall either way where its router's score lies within rounding of the cut-off).

Threads that share an operator wait for each other, the more so where a machine is not quiet:
--threads 1 leaves that out of both.

    python benchmarks/blimp.py CHECKPOINT [--data DIR] [--limit 100] [--threads 2]
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from lm_eval.api.instance import Instance

from modsearch.data.tokenizers import read_tokenizer
from modsearch.evaluation.lm import ModsearchLM
from modsearch.evaluation.models import LanguageModel
from modsearch.store.trial import weights_folder
from modsearch.training.checkpoint import load_model

Pair = tuple[str, str]
"""A sentence, and one with a fault."""
TOLERANCE = 1e-5


@dataclass
class Spent:
    """What a path took."""

    seconds: float = 0.0
    cpu: float = 0.0
    pairs: int = 0

    def timed(self, pairs: int, work: Callable[[], list[float]]) -> list[float]:
        """Run it, and count it."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = work()
        self.seconds += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        self.pairs += pairs
        return found

    @property
    def rate(self) -> float:
        """Pairs a second."""
        return self.pairs / self.seconds

    def line(self, name: str, of: int) -> str:
        """One line of the table; what took a part of the pairs alone is scaled up."""
        seconds = self.seconds * of / self.pairs
        return (
            f"{name:24s} {seconds:8.1f} s for {of:,} pairs, {self.rate:9,.0f} pairs a second, "
            f"CPU {self.cpu * of / self.pairs:8.1f} s"
        )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a trial's folder, or one with weights")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/blimp"))
    parser.add_argument("--limit", type=int, help="pairs of each paradigm; default: all")
    parser.add_argument("--sparse", type=int, default=20, help="of batches of 1")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = weights_folder(args.checkpoint)
    lm = ModsearchLM(load_model(folder), tokenizer=read_tokenizer(folder))
    paradigms = {
        path.stem: pairs_of(path, args.limit) for path in sorted(args.data.glob("*.jsonl"))
    }
    if not paradigms:
        parser.error(f"no *.jsonl in {args.data}")
    load = os.getloadavg()[0]
    print(
        f"{lm.model.num_params:,} parameters, {len(paradigms)} paradigms, {args.threads} threads, "
        f"{platform.machine()}, torch {torch.__version__}, load before {load:.1f}"
    )
    ours, single, batched = Spent(), Spent(), Spent()
    right = apart = 0
    ours_of(lm, next(iter(paradigms.values()))[:32])  # warm
    for name, pairs in paradigms.items():
        scores = ours.timed(len(pairs), lambda pairs=pairs: ours_of(lm, pairs))
        some = pairs[:: args.sparse]
        single.timed(len(some), lambda some=some: generic(lm, some, 1))
        naive = batched.timed(len(pairs), lambda pairs=pairs: generic(lm, pairs, 32))
        apart += differing(name, lm, pairs, scores, naive)
        right += sum(good > bad for good, bad in zip(scores[::2], scores[1::2], strict=True))
    total = ours.pairs
    same = f"{2 * total - apart:,} of {2 * total:,} scores are the same"
    print(f"accuracy {right / total:.4f}; {same} to {TOLERANCE:g} nats a token")
    print(ours.line("modsearch", total))
    print(batched.line("generic, batches of 32", total))
    print(single.line("generic, batches of 1", total))
    print(
        f"ratio of rates: {ours.rate / batched.rate:.1f} to batches of 32, "
        f"{ours.rate / single.rate:.1f} to batches of 1"
    )


def pairs_of(path: Path, limit: int | None) -> list[Pair]:
    """Of one paradigm."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:limit]]
    return [(row["sentence_good"], row["sentence_bad"]) for row in rows]


def ours_of(lm: ModsearchLM, pairs: Sequence[Pair]) -> list[float]:
    """As lm-eval asks for them."""
    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=("", sentence), idx=0)
        for sentence in chain.from_iterable(pairs)
    ]
    return [score for score, _ in lm.loglikelihood(requests, disable_tqdm=True)]


@torch.inference_mode()
def generic(lm: ModsearchLM, pairs: Sequence[Pair], batch_size: int) -> list[float]:
    """Sentence by sentence as they come, each as a row of its own."""
    sentences = list(chain.from_iterable(pairs))
    scores = []
    for start in range(0, len(sentences), batch_size):
        texts = [lm.tok_encode(text) for text in sentences[start : start + batch_size]]
        scores += batch_of(lm.model, [[lm.eot_token_id, *text] for text in texts])
    return scores


def batch_of(model: LanguageModel, rows: list[list[int]]) -> list[float]:
    """Padded on the right, the softmax of every position, each row's own part of it."""
    longest = max(map(len, rows)) - 1
    tokens_BT = torch.zeros(len(rows), longest, dtype=torch.long)
    for b, row in enumerate(rows):
        tokens_BT[b, : len(row) - 1] = torch.tensor(row[:-1])
    lengths_B = torch.tensor([len(row) - 1 for row in rows])
    valid_BT = torch.arange(longest) < lengths_B[:, None]
    logits_BTV = model.logits(tokens_BT, "causal", None if valid_BT.all() else valid_BT)
    chances_BTV = logits_BTV.log_softmax(-1)
    found = []
    for row, chances_TV in zip(rows, chances_BTV, strict=True):
        chances_TV = chances_TV[: len(row) - 1]
        targets_T = torch.tensor(row[1:])
        _ = bool((chances_TV.argmax(-1) == targets_T).all())
        found.append(float(chances_TV.gather(1, targets_T[:, None]).sum()))
    return found


def differing(
    name: str,
    lm: ModsearchLM,
    pairs: Sequence[Pair],
    scores: Sequence[float],
    naive: Sequence[float],
) -> int:
    """The gate: sentences with two scores."""
    found = 0
    for sentence, one, other in zip(chain.from_iterable(pairs), scores, naive, strict=True):
        apart = abs(one - other) / len(lm.tok_encode(sentence))
        if apart > TOLERANCE:
            found += 1
            print(f"{name}: {apart:.1e} nats a token apart: {sentence}")
    return found


if __name__ == "__main__":
    main()
