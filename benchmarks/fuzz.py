"""Does wrong input ever end in a traceback, a hang, or a study of something that nobody meant?

Draws commands with wrong files and arguments, kind by kind (`tests/wrong_input.py`), runs each,
and counts. A case runs `modsearch.cli.app.main` in a fork of this process, in a folder of its
own, so that a crash is seen and nothing is imported twice. A search ends, as accepted, where it
would train. Each kind is one row:

    refused, accepted   exit code 2 with a message; exit code 0
    traceback           an exception that nobody made a message of
    hang                more than 5 s of processor time, or 20 s in all
    crash               a signal, or another exit code
    long                a message over 600 characters or four lines
    jargon              a message in words of our libraries
    unnamed             a message that does not name the file, or neither key nor line
    let in, kept out    wrong input that was accepted; right input that was refused

    python benchmarks/fuzz.py [--cases 10000] [--seed 0] [--kind WORDS] [--workers 2] [--fail-fast]
    python benchmarks/fuzz.py --only 123      # case 123 of these again, with all that it wrote

The exit code is 1 if any column from `traceback` on counts something.
"""

import argparse
import gc
import os
import re
import resource
import select
import shlex
import shutil
import signal as signals
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import torch

import modsearch.study.runner
from modsearch.cli.app import main as modsearch_main
from modsearch.config.records import Job, Record
from modsearch.config.runtime import Signal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import wrong_input  # noqa: E402  # after its folder is known
from inline import Inline, quietly  # noqa: E402
from wrong_input import CORPUS, DAMAGED, DOCUMENTS, Case, Ground, block  # noqa: E402

CPU_SECONDS = 5
WALL_SECONDS = 20
MEMORY = 6 << 30
"""Bytes beyond what this process maps already."""
MOST_CHARACTERS = 600
MOST_LINES = 4
MOST_OUTPUT = 200_000
EXAMPLES = 3
JARGON = re.compile(
    r"constrained-|instance of|<unicode string>|<byte string>|NoneType|object has no|subscriptable"
    r"|unhashable|pydantic|match pattern|\^\[A-Z|codec can't|got an unexpected keyword|<class "
    r"|tag:yaml\.org|dictionary|determine a constructor|recursion depth"
)
FAULTS = ("traceback", "hang", "crash", "long", "jargon", "unnamed", "let in", "kept out")
COLUMNS = ("cases", "refused", "accepted", *FAULTS)


@dataclass(frozen=True)
class Ended:
    """What became of a case."""

    code: int
    """Of the exit; negative for a signal."""
    out: str
    err: str
    hung: bool

    @property
    def message(self) -> str:
        """What the user is told at the end."""
        found = list(re.finditer(r"^(error: |Error: )", self.err, re.MULTILINE))
        return self.err[found[-1].end() :].strip() if found else ""


def faults(case: Case, ended: Ended) -> set[str]:
    """Columns that a case counts in."""
    if ended.hung:
        return {"hang"}
    if "Traceback (most recent call last)" in ended.err:
        return {"traceback"}
    if ended.code not in (0, 2) or (ended.code == 2 and not ended.message):
        return {"crash"}
    found = set()
    text = ended.message
    if ended.code == 0:
        text = max(ended.err.splitlines(), key=len, default="")
        if case.expected == "refused":
            found.add("let in")
    elif case.expected == "accepted":
        found.add("kept out")
    if (
        len(text) > MOST_CHARACTERS
        or len(text.splitlines()) > MOST_LINES
        or len(ended.out) > MOST_OUTPUT
    ):
        found.add("long")
    if "p.py" not in case.files and JARGON.search(text):  # a plugin's own error is shown as it is
        found.add("jargon")
    if ended.code == 2 and not case.named(text):
        found.add("unnamed")
    return found


# --- one case


def lay(case: Case, folder: Path, ground: Ground) -> None:
    """Make the folder of a case."""
    (folder / "corpus.txt").symlink_to(ground.root.parent / "corpus.txt")
    for name, tree in DOCUMENTS.items():
        (folder / name).write_text(block(tree))
    if case.study:
        shutil.copytree(ground.root, folder / "study")
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)


class Untrained(Inline):
    """Ends the command, as accepted, where a trial would be trained."""

    def run(
        self,
        next_job: Callable[[], Job | Signal],
        on_record: Callable[[Job, Record], None],
    ) -> None:
        """Nothing, or the end."""
        if not isinstance(next_job(), Signal):
            raise SystemExit(0)


def child(argv: list[str], folder: Path) -> None:
    """Run a command as Python runs a script, and never return."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        for stream, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
            place = "/dev/null" if stream == 0 else folder.parent / f"{folder.name}.{stream}"
            os.dup2(os.open(place, flags | (os.O_CREAT if stream else 0)), stream)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, resource.RLIM_INFINITY))
        # A second more than is counted as a hang: what is killed leaves no message.
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS + 1, resource.RLIM_INFINITY))
        modsearch.engines.local.local = partial(Untrained, quietly)
        sys.argv = ["modsearch", *argv]
        code = run()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def run() -> int:
    """The exit code of the command in `sys.argv`."""
    try:
        modsearch_main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


@dataclass
class Running:
    """A case in a fork."""

    number: int
    kind: str
    case: Case
    folder: Path
    pid: int
    descriptor: int
    started: float

    @property
    def late(self) -> bool:
        """Whether it has run for too long."""
        return time.monotonic() - self.started > WALL_SECONDS

    def end(self) -> Ended:
        """What became of it; its processes and its folder go."""
        killed = self.late
        if killed:
            os.kill(self.pid, signals.SIGKILL)
        _, status, used = os.wait4(self.pid, 0)
        with suppress(ProcessLookupError):  # where nothing was left behind
            os.killpg(self.pid, signals.SIGKILL)
        os.close(self.descriptor)
        out, err = (
            path.read_text(errors="backslashreplace")[: 10 * MOST_OUTPUT] if path.exists() else ""
            for path in (self.folder.parent / f"{self.folder.name}.{n}" for n in (1, 2))
        )
        for number in (1, 2):
            (self.folder.parent / f"{self.folder.name}.{number}").unlink(missing_ok=True)
        shutil.rmtree(self.folder)
        seconds = used.ru_utime + used.ru_stime
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, out, err, killed or seconds > CPU_SECONDS)


def start(number: int, kind: str, case: Case, scratch: Path, ground: Ground) -> Running:
    """Begin a case."""
    folder = scratch / str(number)
    folder.mkdir()
    lay(case, folder, ground)
    argv = [part.replace("TRIAL", ground.trial) for part in case.argv]
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        child(argv, folder)
    return Running(number, kind, case, folder, pid, os.pidfd_open(pid), time.monotonic())


# --- all of them


def prepare(scratch: Path) -> Ground:
    """A finished study; running every verb here also imports what the forks will need."""
    os.environ |= {
        "MODSEARCH_CACHE": str(scratch / "cache"),
        "HF_HUB_OFFLINE": "1",  # a data set that is not there is not looked for in the network
        "HF_DATASETS_OFFLINE": "1",
    }
    # Searches train in their own process.
    modsearch.engines.local.local = partial(Inline, quietly)
    (scratch / "corpus.txt").write_text(CORPUS)
    for name, tree in DOCUMENTS.items():
        (scratch / name).write_text(block(tree))
    before = Path.cwd()
    os.chdir(scratch)
    study = scratch / "study"
    for argv in (
        ["flops", "config.yaml"],
        ["plan", "space.yaml"],
        ["search", "space.yaml", "--out", "study"],
        ["components"],
        ["components", "check", "static"],
    ):
        _loudly(argv)
    weights = sorted(study.glob("trials/*/checkpoint/model.safetensors"))
    trial = weights[0].parent.parent.name
    _loudly(["generate", f"study/trials/{trial}", "--prompt", "a", "--tokens", "2"])
    _loudly(["eval", f"study/trials/{trial}", "--suite", "suite.yaml"])
    os.chdir(before)
    found = sorted(path for path in study.rglob("*") if path.is_file())
    return Ground(study, tuple(str(path.relative_to(study)) for path in found), trial)


def _loudly(argv: list[str]) -> None:
    """Run a command that must succeed; its output is shown only where it does not."""
    sys.argv = ["modsearch", *argv]
    with tempfile.TemporaryFile("w+") as file:
        out, err = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = file
        try:
            code = run()
        finally:
            sys.stdout, sys.stderr = out, err
        if code:
            file.seek(0)
            sys.exit(f"modsearch {' '.join(argv)} ended with {code}:\n{file.read()}")


def kinds(ground: Ground) -> dict[str, tuple[Callable[[Random], Case], int]]:
    """Every kind, and how many of its cases stand for one of an ordinary one."""
    found = {
        **{name: (kind, 4) for name, kind in wrong_input.DOCUMENT_KINDS.items()},
        **{name: (kind, 4) for name, kind in wrong_input.COMMAND_KINDS.items()},
        **{
            f"damaged {what}": (partial(wrong_input.damaged, what, ground=ground), 2)
            for what in DAMAGED
        },
        "stray files": (partial(wrong_input.stray_files, ground=ground), 1),
    }
    slow_or_few = ("right", "odd place", "huge grid", "warm-up, huge budget", "beside `candidate`")
    found |= {name: (found[name][0], 1) for name in slow_or_few}
    return found


def drawn(options: argparse.Namespace, ground: Ground) -> Iterator[tuple[int, str, Case]]:
    """Cases in turn; each is drawn by its own number, so one alone can be drawn again."""
    chosen = {name: kind for name, kind in kinds(ground).items() if options.kind in name}
    if not chosen:
        sys.exit(f"no kind has `{options.kind}` in its name: {', '.join(kinds(ground))}")
    order = [name for name, (_, weight) in chosen.items() for _ in range(weight)]
    Random(options.seed).shuffle(order)
    for number in range(options.cases) if options.only is None else [options.only]:
        kind = order[number % len(order)]
        yield number, kind, chosen[kind][0](Random(f"{options.seed} {kind} {number}"))


def shown(running: Running, ended: Ended) -> str:
    """A case in a few lines."""
    case = running.case
    lines = [f"{running.kind} [{running.number}]: modsearch " + " ".join(map(_cut, case.argv))]
    if case.what:
        lines.append(f"  {_cut(case.what)}")
    for name, content in case.files.items():
        if not case.what or name not in DOCUMENTS:
            lines.append(f"  {_cut(name)}: {_changed(name, content)}")
    tail = [line for line in ended.err.splitlines() if line.strip()][-1:]
    lines.append(f"  -> exit {ended.code}: {_cut(ended.message or ' '.join(tail), 300)}")
    if case.says:
        lines.append(f"  should name {', '.join(case.says)}")
    return "\n".join(lines)


def whole(running: Running, ended: Ended) -> str:
    """A case, its files and what it wrote."""
    texts = [f"modsearch {shlex.join(running.case.argv)}", repr(running.case.says)]
    for name, content in running.case.files.items():
        text = "removed" if content is None else content.decode(errors="backslashreplace")
        texts.append(f"--- {name!r}\n{text[:5000]}")
    texts += [f"--- stdout\n{ended.out[-2000:]}", f"--- stderr\n{ended.err[-5000:]}"]
    return "\n".join(texts).encode(errors="backslashreplace").decode() + "\n"


def _changed(name: str, content: bytes | None) -> str:
    """What differs from the document that is right, line by line; else the beginning."""
    if content is None:
        return "removed"
    text = content.decode(errors="backslashreplace")
    if name in DOCUMENTS:
        right = set(block(DOCUMENTS[name]).splitlines())
        lines = [line for line in text.splitlines() if line not in right]
        return " | ".join(_cut(line.strip()) for line in lines[:3])
    return _cut(text)


def _cut(text: str, most: int = 160) -> str:
    text = ascii(text)[1:-1]
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="", help="words in the names of kinds")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", type=int, help="number of one case, to be shown whole")
    parser.add_argument("--fail-fast", action="store_true")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="of each fault and kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    counts: dict[str, Counter[str]] = {}
    spent: Counter[str] = Counter()
    examples: dict[tuple[str, str], list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        ground = prepare(Path(folder))
        (scratch := Path(folder) / "cases").mkdir()
        gc.freeze()  # a collection in a fork would copy all pages
        cases = drawn(options, ground)
        busy: list[Running] = []
        stop = False
        while True:
            while not stop and len(busy) < options.workers and (case := next(cases, None)):
                busy.append(start(*case, scratch, ground))
            if not busy:
                break
            select.select([running.descriptor for running in busy], [], [], 0.5)
            done = select.select([running.descriptor for running in busy], [], [], 0)[0]
            for running in [r for r in busy if r.descriptor in done or r.late]:
                busy.remove(running)
                ended = running.end()
                if options.only is not None:
                    print(whole(running, ended))
                row = counts.setdefault(running.kind, Counter())
                row["cases"] += 1
                spent[running.kind] += time.monotonic() - running.started
                row["refused"] += ended.code == 2
                row["accepted"] += ended.code == 0
                for fault in faults(running.case, ended):
                    row[fault] += 1
                    examples.setdefault((fault, running.kind), []).append(shown(running, ended))
                    stop = stop or options.fail_fast
    total = Counter({name: sum(row[name] for row in counts.values()) for name in COLUMNS})
    print(f"{'':24}" + "".join(f"{name:>10}" for name in COLUMNS) + f"{'s/case':>8}")
    for name in [*(name for name in kinds(ground) if name in counts), "all"]:
        row = total if name == "all" else counts[name]
        print(
            f"{name:24}"
            + "".join(f"{row[column] or '-':>10}" for column in COLUMNS)
            + f"{(spent[name] if name != 'all' else spent.total()) / row['cases']:8.2f}"
        )
    print(f"{time.monotonic() - started:.0f} s")
    for fault in FAULTS:
        for (found, _), texts in sorted(examples.items()):
            if found == fault:
                print(f"\n--- {fault}, {len(texts)} times")
                print("\n".join(texts[: options.examples]))
    sys.exit(any(total[fault] for fault in FAULTS))


if __name__ == "__main__":
    main()
