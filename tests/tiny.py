"""A study and a suite that take seconds, as plain data."""

from pathlib import Path

import numpy as np
from inline import CORPUS

SPACE = {
    "name": "small",
    "data": {"corpus": CORPUS},
    "fixed": {
        "model": {"seq_len": 32, "num_heads": 1},
        "optim": {"batch_size": 2, "min_steps": 5},
    },
    "arms": {"dense": {"model": {"block": "dense"}}, "mod": {"model": {"block": "mod"}}},
    "measure": {"ladder": [{"budget": 5e7, "depth": 2, "widths": [4, 6]}], "windows": 2},
    "confirm": {"budgets": [5e7], "seeds": 2, "windows": 2},
    "resources": {"workers": 1},
}

SUITE = {
    "name": "tiny",
    "description": "A few passages.",
    "tasks": [
        {
            "task": "text",
            "dataset_path": "modsearch:excerpts",
            "dataset_kwargs": {"num": 4, "size": 100},
            "test_split": "held_out",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "text",
            "metric_list": [
                {
                    "metric": "bits_per_byte",
                    "aggregation": "bits_per_byte",
                    "higher_is_better": False,
                }
            ],
        }
    ],
}

PICK = {
    "task": "pick",
    "dataset_path": "modsearch:jsonl",
    "dataset_kwargs": {"file": "rows.jsonl"},
    "test_split": "held_out",
    "output_type": "multiple_choice",
    "doc_to_text": "question",
    "doc_to_choice": "values",
    "doc_to_target": "right",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"chance": 0.5},
}
"""Questions of `rows.jsonl` beside the suite."""


def write_words(path: Path) -> Path:
    """A JSONL file of words in random order, of which a small model learns something."""
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdeghilmnorstu"), 5)) for _ in range(40)]
    rows = [" ".join(draw.choice(words, 300)) for _ in range(150)]
    path.write_text("".join(f'{{"text": "{row}"}}\n' for row in rows))
    return path
