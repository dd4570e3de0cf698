"""What a reader wants to know before any number: when and with what a study was made, and what
loss is chance."""

import math
from collections.abc import Sequence

from modsearch.analysis.numbers import count, decimal
from modsearch.analysis.spending import taken_line
from modsearch.config.data import CorpusFacts
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record
from modsearch.config.units import nats_per


def facts(manifest: Manifest, records: Sequence[Record]) -> dict[str, str]:
    """Lines below the verdict, of what the study's directory knows."""
    found = {
        "Started": manifest.started or "",
        "Text": _text(manifest),
        "Chance": chance(manifest, records),
        "Spent": taken_line(records),
        "Warm start": _warm(manifest),
        "Made with": _versions(manifest),
        "Device": _device(manifest),
        "Code": _code(manifest),
    }
    return {key: value for key, value in found.items() if value}


def chance(manifest: Manifest, records: Sequence[Record]) -> str:
    """Losses that need no model."""
    corpus = manifest.corpus
    sizes = {record.candidate.model.vocab_size for record in records}
    several = [
        f"vocab_size {size}: {_levels([size], each, each.size(manifest.unit, 'validation'))}"
        for size, each in sorted(manifest.corpora.items())
    ]
    said = "; ".join(several) or _levels(sorted(sizes), corpus, 1.0)
    return f"{said} ({nats_per(manifest.unit)})"


def _levels(sizes: Sequence[int], corpus: CorpusFacts, size: float) -> str:
    """By one tokenizer, of whose tokens each has a size."""
    levels = {f"uniform over {each} tokens": math.log(each) for each in sizes}
    levels |= {"by unigrams": corpus.unigram_entropy, "by bigrams": corpus.bigram_entropy}
    return ", ".join(f"{decimal(level / size, 3)} {name}" for name, level in levels.items())


def _warm(manifest: Manifest) -> str:
    told = "; ".join(each.told for each in manifest.warm)
    return told and f"explore's sampler was told of {told}; none of these is a result here"


def _text(manifest: Manifest) -> str:
    several = sorted(manifest.corpora.items())
    if several:
        each = "; ".join(f"vocab_size {size}: {_parts(facts)}" for size, facts in several)
        return f"{manifest.corpus.name}: {each}"
    return f"{manifest.corpus.name}: {_parts(manifest.corpus)}"


def _parts(corpus: CorpusFacts) -> str:
    parts = (corpus.train_tokens, corpus.validation_tokens, corpus.test_tokens)
    train, validation, test = map(count, parts)
    size = corpus.bytes_per_token
    tokens = "bytes" if size == 1 else f"tokens of {decimal(size, 2)} bytes"
    return f"{train} {tokens} to train, {validation} to validate, {test} to test"


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
