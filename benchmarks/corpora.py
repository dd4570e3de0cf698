"""How fast is a corpus prepared, how much memory does it take, and does it go on after a kill?

Makes a JSONL of documents that are all different, prepares it in processes of its own, and prints
MB/s and the peak of the memory of all its processes together (their shares of what they share,
Linux alone). Then it prepares it again in another cache, kills all processes twice on the way,
goes on, and says whether the tokens are the same. Of several sizes each is prepared once, to see
how the peak grows: it has a line for each piece of text.

    python benchmarks/corpora.py [--megabytes 1000] [--tokenizer bpe --vocab-size 2048]
    python benchmarks/corpora.py --megabytes 200 500 1000
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DOCUMENTS = 1000
"""That are made at once."""
WORDS = 20_000
SAMPLED_SECONDS = 0.2


def write_corpus(path: Path, megabytes: int) -> int:
    """Documents of 50 to 800 words, frequent words short; gives bytes."""
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = np.minimum(3 + (np.log1p(np.arange(WORDS))).astype(int), 12)
    words = np.array(["".join(draw.choice(letters, size)) for size in lengths])
    odds = 1 / np.arange(2, WORDS + 2)
    odds /= odds.sum()
    size = 0
    with path.open("w") as file:
        while size < megabytes * 1_000_000:
            counts = draw.integers(50, 800, size=DOCUMENTS)
            chosen = words[draw.choice(WORDS, size=int(counts.sum()), p=odds)]
            for each in np.split(chosen, np.cumsum(counts)[:-1]):
                size += file.write(json.dumps({"text": " ".join(each)}) + "\n")
    return size


def started(corpus: Path, cache: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    """A preparation in a group of its own."""
    command = [sys.executable, "-m", "modsearch.cli", "data", "prepare", str(corpus), "--json"]
    command += ["--progress", "none", "--tokenizer", options.tokenizer]
    if options.tokenizer == "bpe":
        command += ["--vocab-size", str(options.vocab_size)]
    return subprocess.Popen(
        command,
        env={**os.environ, "MODSEARCH_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def memory(group: int) -> int:
    """Bytes of a group's processes, what they share once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) != group:
                continue
            rows = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += 1024 * sum(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
    return total


def watched(process: subprocess.Popen[str], seconds: float | None = None) -> tuple[float, int]:
    """Until it ends, or is killed; how long that took, and the peak of its memory."""
    began, peak = time.monotonic(), 0
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        if seconds is not None and time.monotonic() - began > seconds:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(SAMPLED_SECONDS)
    return time.monotonic() - began, peak


def prepared(corpus: Path, size: int, options: argparse.Namespace) -> tuple[str, float, int]:
    """Prepare a corpus in a cache of its own, and print that; its fingerprint, seconds and the
    peak of memory in bytes."""
    process = started(corpus, corpus.with_name(f"{corpus.stem}-whole"), options)
    seconds, peak = watched(process)
    assert process.stdout is not None
    whole = json.loads(process.stdout.read())["corpus"]
    print(
        f"{size / 1e6:8,.0f} MB, {whole['documents']:,} documents: {seconds:.0f} s, "
        f"{size / 1e6 / seconds:.1f} MB/s, peak of all processes {peak / 2**20:,.0f} MiB",
        flush=True,
    )
    return whole["fingerprint"], seconds, peak


def killed(corpus: Path, wanted: str, seconds: float, options: argparse.Namespace) -> bool:
    """Whether one that is killed twice, and goes on, makes the same tokens."""
    cache = corpus.with_name(f"{corpus.stem}-killed")
    for share in (0.2, 0.3):
        process = started(corpus, cache, options)
        after, _ = watched(process, share * seconds)
        how = "killed after" if process.returncode == -signal.SIGKILL else "ENDED in"
        print(f"{how} {after:.0f} s")
    process = started(corpus, cache, options)
    rest, _ = watched(process)
    assert process.stdout is not None
    same = bool(json.loads(process.stdout.read())["corpus"]["fingerprint"] == wanted)
    print(f"went on for {rest:.0f} s: {'the same' if same else 'OTHER'} tokens")
    return same


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1000])
    parser.add_argument("--tokenizer", default="bytes")
    parser.add_argument("--vocab-size", type=int, default=2048)
    options = parser.parse_args()
    print(f"JSONL, {os.cpu_count()} cores, {options.tokenizer}")
    sizes, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in options.megabytes:
            corpus = Path(folder) / f"{megabytes}.jsonl"
            sizes.append(write_corpus(corpus, megabytes) / 1e9)
            wanted, seconds, peak = prepared(corpus, round(sizes[-1] * 1e9), options)
            peaks.append(peak / 2**20)
            if len(options.megabytes) == 1:
                sys.exit(0 if killed(corpus, wanted, seconds, options) else 1)
            corpus.unlink()
            shutil.rmtree(corpus.with_name(f"{corpus.stem}-whole"))
    slope, base = np.polyfit(sizes, peaks, 1)
    print(f"{base:,.0f} MiB and {slope:,.0f} MiB a GB: 10 GB take some {base + 10 * slope:,.0f}")


if __name__ == "__main__":
    main()
