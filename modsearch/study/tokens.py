"""Whether a study goes on with the tokens that it was begun with."""

from collections.abc import Sequence
from pathlib import Path

from modsearch.config.data import BYTES
from modsearch.config.manifest import Manifest
from modsearch.errors import StudyError, shown


def refuse_other_tokens(old: Manifest, new: Manifest, sizes: Sequence[int], root: Path) -> None:
    """Hold the tokens of this run against those of a study; `sizes` are its vocabularies.

    Raises:
        StudyError: they are others: by the number of tokenizers, by the tokenizer, or by the text.
    """
    if new.unit != old.unit:
        raise StudyError(
            f"{root} has losses for each {old.unit}, and with vocabularies "
            f"{', '.join(map(str, sizes))} they are for each {new.unit}: a study keeps its "
            f"tokenizers\nuse another --out for the changed space"
        )
    shared = old.corpora.keys() & new.corpora.keys()
    if shared and all(_prints(old, size) == _prints(new, size) for size in shared):
        return  # arms with another vocabulary may come and go
    if new.fingerprints == old.fingerprints:
        return
    before, now = old.corpus, new.corpus
    if (before.tokenizer, before.vocab_size) != (now.tokenizer, now.vocab_size):
        raise StudyError(
            f"{root} was made with tokenizer {shown(before.tokenizer)} of {before.vocab_size:,} "
            f"tokens, not {shown(now.tokenizer)} of {now.vocab_size:,}: a study keeps its "
            f"tokenizer\nset data.tokenizer as it was, or use another --out"
        )
    by_tokenizer = "" if now.tokenizer == BYTES else f", by tokenizer {shown(now.tokenizer)}"
    raise StudyError(
        f"the corpus has changed: {', '.join(old.fingerprints)} is now "
        f"{', '.join(new.fingerprints)}, by its text{by_tokenizer} or by how this version splits "
        f"it\nuse another --out, or bring back what it was"
    )


def _prints(manifest: Manifest, size: int) -> str:
    return manifest.corpora[size].fingerprint
