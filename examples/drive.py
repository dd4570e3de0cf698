"""Drives a study by JSON alone, without a terminal: plan, search, verdict, winner, scores.

python examples/drive.py SPACE OUT [SUITE]
"""

import json
import subprocess
import sys
from typing import Any


def modsearch(*arguments: str) -> Any:
    """What a verb answers; what went wrong is on stderr, and ends this program with its code."""
    command = [sys.executable, "-m", "modsearch.cli", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout)


space, out, *suite = sys.argv[1:]
plan = modsearch("plan", space)
print(f"{plan['trials']} trials, {plan['flops']:.3g} FLOPs, about {plan['seconds']:.0f} s")
found = modsearch("search", space, "--out", out, "--progress", "json")
print(f"{found['verdict']}: {found['sentence']}")
winner = modsearch("best", out)
model = winner["candidate"]["model"]
print(f"winner {winner['hash']}: {model['block']['name']} d{model['width']} L{model['depth']}")
scores = modsearch("eval", out, "--suite", *(suite or ["quick"]))
for task, metrics in scores["results"].get(winner["hash"], {}).items():
    print(task, {name: value for name, value in metrics.items() if name.endswith(",none")})
