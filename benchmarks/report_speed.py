"""What does the page of a large study cost, and which part of it?

    python benchmarks/report_speed.py [STUDY] [--trials 500] [--recipe study]

STUDY is a directory or a packed study. It is copied, and made larger by trials like its own: of
other seeds, with losses that are a little off, and with the routing statistics, logs and scores of
the trial that each is made from. Seconds are those of the processor, on one thread, of user and
system; they grow where others use the machine, the shares hardly do.
"""

import argparse
import cProfile
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from itertools import count, cycle
from pathlib import Path
from types import CodeType

import modsearch
from modsearch.config.records import trial_hash
from modsearch.reporting import page as pages
from modsearch.reporting.figures.drawing import render
from modsearch.reporting.material import gather
from modsearch.reporting.parts import Table

SCATTER = 0.01
"""Deviation of the losses of a copy from those of the trial it is made from, in nats."""


def enlarge(source: Path, out: Path, trials: int) -> None:
    """A study with so many trials; those that it has stay as they are."""
    study = modsearch.open_study(source)
    manifest, records = study.manifest, study.trials
    shutil.copytree(
        study.directory.root, out, ignore=shutil.ignore_patterns("checkpoint", "report", ".lock")
    )
    (out / "ledger.db").unlink(missing_ok=True)  # it would not know the new ones
    for trial in (out / "trials").iterdir():
        if trial.name not in {record.hash for record in records}:
            shutil.rmtree(trial)
    draw = random.Random(0)
    for number, record in zip(count(len(records)), cycle(records)):
        if number >= trials:
            return
        values = json.loads((out / "trials" / record.hash / "result.json").read_bytes())
        values["seed"] += 10**6 + number
        if values["scores"]:
            shift = draw.gauss(0, SCATTER)
            for name in ("causal_loss", "train_mode_loss"):
                values["scores"][name] += shift
        tokens = manifest.facts_of(record.candidate.model).fingerprint
        values["hash"] = trial_hash(values, tokens, manifest.plugins.values())
        copy = out / "trials" / values["hash"]
        shutil.copytree(out / "trials" / record.hash, copy)
        (copy / "result.json").write_text(json.dumps(values))


def shares(root: Path, out: Path, recipe: str) -> dict[str, float]:
    """Parts of one compilation under a profiler, which slows all of them."""
    pages.compile_report(root, out, recipe)  # what is loaded once is loaded now
    profile = cProfile.Profile()
    profile.runcall(pages.compile_report, root, out, recipe)
    profile.create_stats()
    seconds = {key: row[3] for key, row in profile.stats.items()}  # type: ignore[attr-defined]

    def of(code: CodeType) -> float:
        return float(seconds.get((code.co_filename, code.co_firstlineno, code.co_name), 0.0))

    everything = of(pages.compile_report.__code__)
    latex = Table.latex.fget
    assert latex is not None
    found = {
        "read, fits and claims": of(gather.__code__),
        "tables and figures before they are written": of(pages._sections.__code__),
        "files of figures": of(render.__code__),
        "tables as LaTeX": of(latex.__code__),
        "page, in HTML and Markdown": of(pages._Page.render.__code__),
    }
    shown = {name: each / everything for name, each in found.items()}
    return shown | {"the rest": 1 - sum(shown.values())}


def whole(root: Path, out: Path, recipe: str) -> float:
    """Seconds of the processor of `modsearch report`, a process of its own."""
    command = [sys.executable, "-m", "modsearch.cli", "report", str(root)]
    command += ["--recipe", recipe, "--out", str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", default="reports/mod-at-cpu-scale/records.tar.xz")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--recipe", default="study")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modsearch-report-") as folder:
        root, out = Path(folder) / "study", Path(folder) / "report"
        enlarge(Path(options.study), root, options.trials)
        print(f"trials: {len(modsearch.open_study(root).trials)}")
        print(f"modsearch report: {whole(root, out, options.recipe):.2f} s of the processor")
        for name, share in shares(root, out, options.recipe).items():
            print(f"  {share:6.1%}  {name}")


if __name__ == "__main__":
    main()
