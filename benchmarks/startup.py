"""How long do the package, `--help` and `status` take to answer?

    python benchmarks/startup.py [--study DIR] [--rounds 9]

Each line is the median of fresh processes, their number of imported modules, and whether torch was
among them. `status` needs a study that is finished.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

COUNT = "\nimport sys; print(len(sys.modules), 'torch' in sys.modules, file=sys.stderr)"
CALL = """\
import sys
sys.argv = ["modsearch", *{}]
from modsearch.cli.app import main
try:
    main()
except SystemExit:
    pass
"""


def timed(code: str, rounds: int) -> str:
    """Seconds of a program, modules, torch."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    counted = subprocess.run(
        [sys.executable, "-c", code + COUNT], check=True, capture_output=True, text=True
    )
    modules, torch = counted.stderr.split()[-2:]
    return f"{median(seconds):.3f} s, {modules} modules, torch: {torch == 'True'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    programs = {
        "python": "pass",
        "import modsearch": "import modsearch",
        "modsearch --help": CALL.format(["--help"]),
    }
    if options.study is not None:
        programs["modsearch status"] = CALL.format(["status", str(options.study)])
    for name, code in programs.items():
        print(f"{name:18} {timed(code, options.rounds)}", flush=True)


if __name__ == "__main__":
    main()
