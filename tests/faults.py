"""Kills drivers, workers, raylets and databases of real studies at random moments, and counts.

Three raylets on loopback, and a PostgreSQL server where there is one. Each row of the table that
is printed is a study that was hurt, against the same study left in peace: finished results that
were lost or made twice, trials that stand as RUNNING at the end, and whether ledger and losses are
the same, trial for trial. The exit code is 1 where one is not.

    python tests/faults.py [--kills 10] [--seed 0] [--only WORDS]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from cluster import (
    ROOT,
    Cluster,
    Postgres,
    postgres,
    postgres_programs,
    ray_cluster,
    short_folder,
)

from modsearch.config.records import State
from modsearch.sampling.ledger import server_url
from modsearch.store.directory import StudyDirectory

GRID = """
name: NAME
fixed: {model: {seq_len: 64, num_heads: 1}, optim: {min_steps: 20}}
arms:
  dense: {model: {block: dense}}
  mod: {model: {block: mod, capacity: {choice: [0.25, 0.5]}}}
  mod-random: {control_of: mod, model: {router: random}}
explore: {budgets: [1e9], size: {depth: 2, width: 12}, windows: 4}
measure: {ladder: [{budget: 1e9, depth: 2, widths: [6, 8, 10, 12, 16, 20]}], windows: 4}
confirm: {budgets: [1e9], seeds: 3, windows: 4}
resources: {checkpoint_seconds: 0.2}
"""
TPE = """
name: NAME
fixed: {model: {seq_len: 64, num_heads: 1}, optim: {min_steps: 20}}
axes: {optim: {rate: {log: [0.001, 0.02]}}}
arms: {mod: {model: {block: mod, capacity: {float: [0.1, 0.9]}}}}
explore:
  budgets: [4e8]
  size: {depth: 2, width: {int: [4, 16], step: 2}}
  sampler: tpe
  trials: 16
  windows: 4
resources: {checkpoint_seconds: 0.2}
"""
SPACES = {"grid": GRID, "tpe": TPE}


HEAD = (
    *("fault", "engine", "ledger", "sampler, workers", "hits", "starts", "trials"),
    *("lost", "run twice", "RUNNING at the end", "same end state", "seconds"),
)


@dataclass
class Run:
    """A study that is started as often as it needs, in a folder of its own."""

    name: str
    space: str
    workers: int
    folder: Path
    environment: dict[str, str]
    address: str | None = None
    server: Postgres | None = None
    kept: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    twice: int = 0
    starts: int = 0

    @property
    def out(self) -> Path:
        """The study directory."""
        return self.folder / self.name

    def start(self) -> subprocess.Popen[bytes]:
        """The driver, started or resumed."""
        path = self.folder / f"{self.name}.yaml"
        path.write_text(SPACES[self.space].replace("NAME", self.name))
        command = [sys.executable, "-m", "modsearch.cli", "search", str(path)]
        command += ["--out", str(self.out), "--workers", str(self.workers)]
        if self.address:
            command += ["--engine", "ray", "--address", self.address]
        if self.server:
            command += ["--ledger", self.server.url]
        self.starts += 1
        with (self.folder / f"{self.name}.log").open("ab") as log:
            return subprocess.Popen(
                command, env=self.environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )

    def count(self) -> None:
        """Compare the finished results with those that were there before."""
        now = {
            record.hash: (self.out / "trials" / record.hash / "result.json").stat().st_mtime_ns
            for record in StudyDirectory(self.out).records()
            if record.state is not State.FAILED
        }
        self.lost += len(self.kept.keys() - now.keys())
        self.twice += sum(now.get(key, stamp) != stamp for key, stamp in self.kept.items())
        self.kept |= now

    def finish(self) -> None:
        """Start it until it ends by itself with no failed trial."""
        for _ in range(5):
            code = self.start().wait()
            self.count()
            if code == 0 and not any(r.state is State.FAILED for r in self.records()):
                return
        raise RuntimeError((self.folder / f"{self.name}.log").read_text()[-3000:])

    def records(self) -> list[Any]:
        """All results."""
        return StudyDirectory(self.out).records()

    def ledger(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every trial of every cell by number: values, loss, state."""
        url = server_url(self.server.url) if self.server else f"sqlite:///{self.out}/ledger.db"
        storage = optuna.storages.RDBStorage(url)
        tables = {}
        for name in optuna.get_all_study_names(storage):
            mine = name.startswith(f"{self.name}-") if self.server else True
            if mine:
                study = optuna.load_study(study_name=name, storage=storage)
                cell = "/".join(name.split("/")[-4:])
                rows = [(t.number, t.params, t.value, t.state.name) for t in study.trials]
                tables[cell] = rows
        storage.engine.dispose()
        return tables

    def losses(self) -> dict[str, tuple[Any, ...]]:
        """Of every result."""
        return {
            r.hash: (r.state, r.scores and (r.scores.causal_loss, r.scores.final_train_loss))
            for r in self.records()
        }


def is_busy(run: Run) -> bool:
    """Whether a trial is being trained: something has been logged since the last result."""
    return any(
        not (path.parent / "result.json").exists() for path in run.out.glob("trials/*/config.yaml")
    )


def kill_drivers(run: Run, kills: int, dice: random.Random) -> int:
    """At moments drawn evenly over start-up, training and telling; as many as the study lasts."""
    done = 0
    while done < kills:
        driver = run.start()
        began = time.monotonic()
        # Half of the moments are counted from the first training, so that not all are start-up.
        if dice.random() < 0.7:
            while driver.poll() is None and not is_busy(run) and time.monotonic() - began < 60:
                time.sleep(0.02)
        end = time.monotonic() + dice.uniform(0, 6)
        while driver.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if driver.poll() is not None:
            break  # the study is over
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        done += 1
        run.count()
    return done


def ray_workers(cluster: Cluster) -> list[int]:
    """Processes of the cluster that train."""
    found = []
    for node in cluster.nodes:
        for pid in node.pids():
            try:
                name = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"Trainable.train" in name:
                found.append(pid)
    return found


def local_workers(driver: int) -> list[int]:
    """Processes that a driver has spawned to train."""
    children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
    spawned = [
        pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return [int(pid) for pid in spawned]


def kill_workers(
    run: Run, kills: int, dice: random.Random, workers: Callable[[int], list[int]]
) -> int:
    """While they train; a driver that ends before the last kill is started again."""
    done = 0
    driver = run.start()
    while done < kills and driver.poll() is None:
        end = time.monotonic() + dice.uniform(0.2, 3)
        while driver.poll() is None and (time.monotonic() < end or not is_busy(run)):
            time.sleep(0.01)
        try:
            found = workers(driver.pid)
        except OSError:
            break
        if found:
            os.kill(dice.choice(found), signal.SIGKILL)
            done += 1
    driver.wait()
    run.count()
    return done


def kill_a_raylet(run: Run, cluster: Cluster) -> int:
    """The last one, when the study is half through; the others take its trials."""
    driver = run.start()
    seen: set[int] = set()
    while driver.poll() is None:
        for index, node in enumerate(cluster.nodes):
            lone = Cluster(cluster.folder, cluster.port, [node])
            if ray_workers(lone):
                seen.add(index)
        if len(seen) == len(cluster.nodes) and len(run.records()) >= 8:
            cluster.nodes.pop().kill()
            driver.wait()
            run.count()
            return 1
        time.sleep(0.05)
    raise RuntimeError(f"the study ended on raylets {sorted(seen)} before one could be killed")


def restart_server(run: Run, kills: int, dice: random.Random, server: Postgres) -> int:
    """While trials run; the driver goes on, or ends in two lines and is started again."""
    done = 0
    while done < kills:
        driver = run.start()
        while driver.poll() is None and not is_busy(run):
            time.sleep(0.02)
        end = time.monotonic() + dice.uniform(0, 4)
        while driver.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if driver.poll() is not None:
            break
        server.stop()
        time.sleep(dice.uniform(0, 2))
        server.start()
        done += 1
        driver.wait()
        run.count()
    return done


@dataclass
class Row:
    """One line of the table."""

    fault: str
    engine: str
    ledger: str
    sampler: str
    workers: int
    hurt: Callable[[Run], int]


def rows(kills: int, dice: random.Random, cluster: Cluster, server: Postgres | None) -> list[Row]:
    """Every fault; those that need a server are left out where there is none."""

    def drivers(run: Run) -> int:
        return kill_drivers(run, kills, dice)

    def few_drivers(run: Run) -> int:
        return kill_drivers(run, max(1, kills // 3), dice)

    found = [
        Row("driver kill -9", "ray", "sqlite", "grid", 3, drivers),
        Row(
            "worker kill -9",
            "ray",
            "sqlite",
            "grid",
            3,
            lambda run: kill_workers(run, kills, dice, lambda _: ray_workers(cluster)),
        ),
        Row("driver kill -9", "local", "sqlite", "grid", 2, drivers),
        Row(
            "worker kill -9",
            "local",
            "sqlite",
            "grid",
            2,
            lambda run: kill_workers(run, kills, dice, local_workers),
        ),
        Row("driver kill -9", "local", "sqlite", "tpe", 1, few_drivers),
        Row("driver kill -9", "ray", "sqlite", "tpe", 1, few_drivers),
    ]
    if server is not None:
        restarts = max(1, kills // 3)
        found += [
            Row("driver kill -9", "local", "postgresql", "tpe", 1, few_drivers),
            Row("driver kill -9", "ray", "postgresql", "tpe", 1, few_drivers),
            Row(
                "database restarted",
                "ray",
                "postgresql",
                "grid",
                3,
                lambda run: restart_server(run, restarts, dice, server),
            ),
        ]
    # Last: the raylet does not come back.
    raylet = Row("raylet killed", "ray", "sqlite", "grid", 3, lambda r: kill_a_raylet(r, cluster))
    return [*found, raylet]


def main() -> int:
    """Print the table as it grows; 1 where a study was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="rows that have all of these words")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dice = random.Random(options.seed)
    failures = 0
    with ExitStack() as stack:
        folder = stack.enter_context(short_folder("ms-faults-"))
        cluster = stack.enter_context(ray_cluster())
        programs = postgres_programs()
        server = stack.enter_context(postgres(programs)) if programs else None
        if server is None:
            print("no PostgreSQL here: its rows are left out")
        for count in (1, 2, 3):
            cluster.add(cpus=1)
            cluster.wait_for(count)
        environment = cluster.environment | {"MODSEARCH_CACHE": str(folder / "cache")}
        peace: dict[str, Run] = {}
        print("| " + " | ".join(HEAD) + " |")
        print("|" + " --- |" * len(HEAD), flush=True)
        for number, row in enumerate(rows(options.kills, dice, cluster, server)):
            if not all(word in f"{row}" for word in options.only.split()):
                continue
            if row.sampler not in peace:
                workers = 1 if row.sampler == "tpe" else 2
                made = Run(f"peace-{row.sampler}", row.sampler, workers, folder, environment)
                made.finish()
                peace[row.sampler] = made
            run = Run(
                f"r{number}",
                row.sampler,
                row.workers,
                folder,
                environment,
                cluster.address if row.engine == "ray" else None,
                server if row.ledger == "postgresql" else None,
            )
            began = time.monotonic()
            hits = row.hurt(run)
            run.finish()
            table, whole = run.ledger(), peace[row.sampler]
            running = sum(t[3] == "RUNNING" for cell in table.values() for t in cell)
            same = (table, run.losses()) == (whole.ledger(), whole.losses())
            good = same and not (run.lost or run.twice or running) and hits
            failures += not good
            cells = [row.fault, row.engine, row.ledger, f"{row.sampler}, {row.workers}", hits]
            cells += [run.starts, len(run.records()), run.lost, run.twice, running]
            cells += ["yes" if same else "NO", f"{time.monotonic() - began:.0f}"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
            if not good:
                print((folder / f"{run.name}.log").read_text()[-3000:], file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
