"""What a suite's own documents are made of."""

from pathlib import Path

import numpy as np

from modsearch.config.data import DataConfig
from modsearch.data.corpus import load_corpus
from modsearch.evaluation.asked import Part
from modsearch.evaluation.documents import Origin
from modsearch.evaluation.suites import Suite
from modsearch.evaluation.texts import Texts, whole_texts


def origin_of(
    plan: Suite,
    path: Path,
    data: DataConfig,
    part: Part,
    vocab_size: int,
    fingerprint: str | None,
    seed: int = 0,
) -> tuple[Origin, str | None]:
    """The text of a corpus that a suite asks for, and its hash; None where it asks for none.

    Args:
        plan: the suite.
        path: its file.
        data: the corpus.
        part: of the corpus.
        vocab_size: of a BPE that is trained on it.
        fingerprint: of the tokens that it must have, where that matters.
        seed: of the draws.

    Raises:
        DataError: the corpus is missing, or another one.
    """
    corpus = load_corpus(data, vocab_size, fingerprint) if plan.needs_corpus else None
    held_out = corpus.text(part) if corpus else np.empty(0, np.uint8)
    texts = whole_texts(data) if plan.needs_texts else Texts()
    text = corpus.facts.fingerprint if corpus else texts.fingerprint
    return Origin(held_out, seed, path.parent, texts.texts), text
