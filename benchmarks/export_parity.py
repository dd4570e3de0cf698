"""Are the scores of an exported model, by lm-eval's own model `hf`, the scores of the checkpoint?

Trains small models for a moment, exports them, and scores both on the same tasks, of all three
kinds of request, with short texts and with some that a model's sequence length cuts. Prints each
metric beside the other, their difference (relative, where a metric is over 1), and the largest
difference of a single answer: of a log-likelihood in nats, or 1 where a text or a greedy choice is
another one. Needs what `pip install lm_eval[hf]` brings.
"""

import argparse
import io
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from modsearch.config.model import ModelConfig
from modsearch.data.tokenizers import ByteTokenizer, Tokenizer, train_bpe
from modsearch.evaluation.export import export
from modsearch.evaluation.lm import ModsearchLM
from modsearch.evaluation.targets import Opened, open_model
from modsearch.nn.model import Decoder
from modsearch.training.checkpoint import save_model

SEQ_LEN = 128
WIDTH = 48
BPE = 384
MODELS = {
    "dense": {"block": "dense"},
    "mod": {"block": "mod", "capacity": 0.25},
    "mode_staged": {"block": "mode_staged", "capacity": 0.5},
}
KINDS = {
    "last_word": ("loglikelihood", ("acc", "perplexity")),
    "choices": ("multiple_choice", ("acc", "acc_norm")),
    "passages": ("loglikelihood_rolling", ("word_perplexity", "bits_per_byte")),
    "continued": ("generate_until", ("exact_match",)),
}
AGGREGATION = {
    "perplexity": "perplexity",
    "word_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte",
}


@dataclass(frozen=True)
class Row:
    """One metric of one task, as both find it."""

    task: str
    kind: str
    metric: str
    hf: float
    ours: float
    worst: float
    """Largest difference of an answer: in nats; 1 where a text or a greedy choice differs."""

    @property
    def difference(self) -> float:
        """Of the metric; relative, where that is over 1: perplexities are powers."""
        return abs(self.hf - self.ours) / max(1.0, abs(self.hf))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150, help="of training, before it is scored")
    parser.add_argument("--documents", type=int, default=24, help="of each task")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # of texts that are cut
    text = Path(argparse.__file__).read_text(encoding="utf-8")
    bpe = train_bpe([text], BPE)
    print(f"{'model':<13}{'tokens':<8}{'task':<11}{'request':<23}{'metric':<16}", end="")
    print(f"{'hf':>14}{'ours':>14}{'difference':>12}{'worst answer':>14}")
    for name, parts in MODELS.items():
        for tokenizer in (ByteTokenizer(), bpe):
            model = trained(parts, tokenizer, text, options.steps)
            for row in compared(model, tokenizer, documents(text, options.documents)):
                print(
                    f"{name:<13}{tokenizer.name:<8}{row.task:<11}{row.kind:<23}{row.metric:<16}"
                    f"{row.hf:14.8g}{row.ours:14.8g}{row.difference:12.1e}{row.worst:14.1e}",
                    flush=True,
                )


def trained(parts: dict[str, Any], tokenizer: Tokenizer, text: str, steps: int) -> Decoder:
    """A model that has seen a text for so many steps."""
    torch.manual_seed(0)
    sizes = {"width": WIDTH, "depth": 2, "num_heads": 4, "seq_len": SEQ_LEN}
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **sizes, **parts))
    stream_N = torch.tensor(tokenizer.encode([text])[0])
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        starts = torch.randint(len(stream_N) - SEQ_LEN - 1, (8,)).tolist()
        rows_BT = torch.stack([stream_N[start : start + SEQ_LEN + 1] for start in starts])
        loss, output = model.loss(rows_BT[:, :-1], rows_BT[:, 1:], step)
        optimiser.zero_grad()
        (loss if output.aux is None else loss + output.aux).backward()
        optimiser.step()
        model.end_step()
    return model.eval()


def documents(text: str, num: int) -> dict[str, list[dict[str, Any]]]:
    """Of each task: pieces of a text, of which a third exceeds the sequence length of a model."""
    draw = random.Random(0)
    lines = [line.strip() for line in text.splitlines() if len(line.split()) > 4]

    def piece(words: int) -> list[str]:
        start = draw.randrange(len(lines) - 60)
        return " ".join(lines[start : start + 60]).split()[:words]

    found: dict[str, list[dict[str, Any]]] = {task: [] for task in KINDS}
    for place in range(num):
        words = piece((6, 14, 70)[place % 3])
        context, last = " ".join(words[:-1]), words[-1]
        found["last_word"].append({"context": context, "rest": f" {last}"})
        answers = [last, *(draw.choice(piece(20)) for _ in range(3))]
        found["choices"].append({"context": context, "answers": answers, "right": 0})
        found["passages"].append({"context": " ".join(words), "rest": ""})
        found["continued"].append({"context": context, "rest": f" {last}"})
    return found


def compared(
    model: Decoder, tokenizer: Tokenizer, texts: dict[str, list[dict[str, Any]]]
) -> Iterator[Row]:
    """Each metric of the exported model by `hf`, and of the checkpoint by us."""
    with tempfile.TemporaryDirectory() as place:
        checkpoint, out = Path(place) / "checkpoint", Path(place) / "out"
        save_model(model, checkpoint)
        tokenizer.save(checkpoint)
        opened = open_model(str(checkpoint))
        export(model, opened.tokenizer, out)
        yield from of_both(out, opened, texts)


def of_both(folder: Path, opened: Opened, texts: dict[str, list[dict[str, Any]]]) -> Iterator[Row]:
    """Each metric of a folder of `transformers` by `hf`, and of a model of ours."""
    theirs = scored(
        lambda: HFLM(
            str(folder), device="cpu", dtype="float32", batch_size=4, trust_remote_code=True
        ),
        texts,
    )
    ours = scored(lambda: ModsearchLM(opened.model, tokenizer=opened.tokenizer), texts)
    for task, (kind, metrics) in KINDS.items():
        answers = [
            [each["resps"] for each in sorted(found["samples"][task], key=lambda s: s["doc_id"])]
            for found in (theirs, ours)
        ]
        worst = apart(*answers)
        for metric in metrics:
            hf, own = (
                next(
                    value
                    for key, value in found["results"][task].items()
                    if key.partition(",")[0] == metric
                )
                for found in (theirs, ours)
            )
            yield Row(task, kind, metric, float(hf), float(own), worst)


def apart(theirs: Any, ours: Any) -> float:
    """The largest difference of two log-likelihoods; 1 where texts, or greedy choices, differ."""
    if isinstance(theirs, list | tuple):
        assert len(theirs) == len(ours)
        return max((apart(a, b) for a, b in zip(theirs, ours, strict=True)), default=0.0)
    if isinstance(theirs, float):
        return abs(theirs - float(ours))
    return float(theirs != ours)


def scored(made: Callable[[], LM], texts: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What lm-eval finds."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        manager = TaskManager(include_defaults=False)
        tasks = manager.load([spec(task, texts[task]) for task in KINDS])["tasks"]
        found: dict[str, Any] = evaluate(
            made(), {"tasks": tasks, "groups": {}}, bootstrap_iters=0, log_samples=True
        )
    return found


def spec(task: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A task of lm-eval's over rows."""
    kind, metrics = KINDS[task]
    stated: dict[str, Any] = {
        "task": task,
        "output_type": kind,
        "test_split": "test",
        "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)},
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{rest}}",
        "metric_list": [
            {"metric": each, "aggregation": AGGREGATION.get(each, "mean")} for each in metrics
        ],
    }
    if kind == "multiple_choice":
        stated |= {"doc_to_choice": "answers", "doc_to_target": "right"}
    if kind == "loglikelihood_rolling":
        stated |= {"doc_to_text": "", "doc_to_target": "{{context}}"}
    if kind == "generate_until":
        stated |= {
            "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 24, "do_sample": False}
        }
    return stated


if __name__ == "__main__":
    main()
