"""What a reader wants to know before any number: when and with what a study was made, and what
loss is chance."""

import math
from collections.abc import Sequence

from modsearch.analysis.numbers import count, decimal
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record


def facts(manifest: Manifest, records: Sequence[Record]) -> dict[str, str]:
    """Lines below the verdict, of what the study's directory knows."""
    found = {
        "Started": manifest.started or "",
        "Text": _text(manifest),
        "Chance": chance(manifest, records),
        "Made with": _versions(manifest),
        "Device": _device(manifest),
        "Code": _code(manifest),
    }
    return {key: value for key, value in found.items() if value}


def chance(manifest: Manifest, records: Sequence[Record]) -> str:
    """Losses that need no model."""
    corpus = manifest.corpus
    sizes = {record.candidate.model.vocab_size for record in records}
    levels = {f"uniform over {size} tokens": math.log(size) for size in sorted(sizes)}
    levels |= {"by unigrams": corpus.unigram_entropy, "by bigrams": corpus.bigram_entropy}
    each = ", ".join(f"{decimal(level, 3)} {name}" for name, level in levels.items())
    return f"{each} (nats per token)"


def _text(manifest: Manifest) -> str:
    corpus = manifest.corpus
    parts = (corpus.train_tokens, corpus.validation_tokens, corpus.test_tokens)
    train, validation, test = map(count, parts)
    size = corpus.bytes_per_token
    tokens = "bytes" if size == 1 else f"tokens of {decimal(size, 2)} bytes"
    return f"{corpus.name}: {train} {tokens} to train, {validation} to validate, {test} to test"


def _versions(manifest: Manifest) -> str:
    """Those that a result depends on most."""
    names = {"modsearch": "modsearch", "torch": "torch", "python": "Python"}
    known = manifest.versions
    return ", ".join(f"{name} {known[key]}" for key, name in names.items() if key in known)


def _device(manifest: Manifest) -> str:
    machine, runtime = manifest.machine, manifest.runtime
    words = [machine.get("device", runtime.device)]
    if "cores" in machine:
        words.append(f"{machine['cores']} cores")
    if machine.get("device") != runtime.device:
        words.append(runtime.device)
    return ", ".join([*words, runtime.precision])


def _code(manifest: Manifest) -> str:
    if manifest.revision == "unknown":
        return manifest.code
    return f"{manifest.code}, revision {manifest.revision[:12]}"
