"""What a trained model costs when it is used: measured where it was trained.

Shapes: N windows, T positions.
"""

import time
from pathlib import Path
from statistics import median

import torch

from modsearch.config.evaluation import MEASURED, Price
from modsearch.config.records import Job, Scores
from modsearch.data.corpus import load_corpus
from modsearch.nn.generate import Decoding
from modsearch.nn.model import Decoder
from modsearch.training.checkpoint import load_model
from modsearch.training.machine import wait

MOST_WINDOWS = 16
"""Of validation text whose caches are measured."""
MOST_TOKENS = 32
"""Of a window that a pass of decoding times; a quarter of the positions at most."""
PASSES = 5
"""Of decoding, of which the median counts."""


def prices_of(trial: Path, job: Job, scores: Scores) -> dict[Price, float]:
    """Of each price that a job asks for.

    Args:
        trial: folder of the trained trial; its weights are needed for what is measured alone.
        job: asks.
        scores: of the trial.

    Raises:
        StudyError: the weights are not there, or damaged.
    """
    found: dict[Price, float] = {}
    if "forward_flops" in job.prices:
        found["forward_flops"] = scores.realised_forward_flops
    if MEASURED.isdisjoint(job.prices):
        return found
    config = job.candidate.model
    corpus = load_corpus(job.candidate.data, config.vocab_size, job.fingerprint)
    windows = corpus.windows(job.validation, config.seq_len)[:MOST_WINDOWS, : config.seq_len]
    tokens_NT = torch.from_numpy(windows).long().to(job.runtime.device)
    model = load_model(trial / "checkpoint", job.runtime.device)
    if "cache_bytes" in job.prices:
        decoding = Decoding(model, len(tokens_NT))
        decoding.extend(tokens_NT)
        found["cache_bytes"] = decoding.cache_bytes / len(tokens_NT)
    if "decoding" in job.prices:
        speeds = [_tokens_per_second(model, tokens_NT[n % len(tokens_NT)]) for n in range(PASSES)]
        found["decoding"] = median(speeds) * corpus.facts.size(job.unit, job.validation.part)
    return found


def _tokens_per_second(model: Decoder, tokens_T: torch.Tensor) -> float:
    """Of one sequence with a cache, over the last tokens of a window."""
    count = max(1, min(MOST_TOKENS, len(tokens_T) // 4))
    decoding = Decoding(model, 1)
    decoding.extend(tokens_T[None, :-count])
    wait(model.device.type)
    started = time.perf_counter()
    for token in tokens_T[-count:]:
        decoding.extend(token.view(1, 1))
    wait(model.device.type)
    return count / (time.perf_counter() - started)
