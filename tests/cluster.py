"""A Ray cluster and a PostgreSQL server on loopback, for tests; they end with their context.

Nothing is stopped by name: only processes that were started here are ended.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 90.0
"""Within which a server must be up, on a busy machine."""


def free_port() -> int:
    """A port of loopback that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def short_folder(prefix: str) -> Iterator[Path]:
    """Directly under /tmp: paths of sockets are short."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Raylet:
    """One node, in a session of its own."""

    process: subprocess.Popen[bytes]

    def pids(self) -> list[int]:
        """Its processes, workers included, as long as they are in its session."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
        return found

    def kill(self) -> None:
        """As if its machine lost power."""
        while pids := self.pids():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
        self.process.wait()


@dataclass
class Cluster:
    """A head and nodes that share a token."""

    folder: Path
    port: int = field(default_factory=free_port)
    nodes: list[Raylet] = field(default_factory=list)

    @property
    def address(self) -> str:
        """For `--address`."""
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Of everything that talks to the cluster."""
        kept = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        tests = ROOT / "tests"
        paths = [str(ROOT), str(tests), str(tests / "engines"), os.environ.get("PYTHONPATH", "")]
        token = str(self.folder / "token")
        return kept | {
            "RAY_AUTH_MODE": "token",
            # A process reads its token once: what a test session has set stays.
            **({} if "RAY_AUTH_TOKEN" in kept else {"RAY_AUTH_TOKEN_PATH": token}),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }

    def add(self, *, cpus: int, gpus: int = 0) -> Raylet:
        """Start a node; the first is the head."""
        if not self.nodes:
            (self.folder / "token").write_text(secrets.token_hex(32))
            place = ["--head", f"--port={self.port}", f"--temp-dir={self.folder / 'ray'}"]
            place += ["--include-dashboard=false"]
        else:
            place = [f"--address={self.address}"]
        command = [
            str(Path(sys.executable).parent / "ray"),
            "start",
            "--block",
            *place,
            "--node-ip-address=127.0.0.1",
            f"--num-cpus={cpus}",
            f"--num-gpus={gpus}",
            "--object-store-memory=100000000",
            "--disable-usage-stats",
            # Any free ports: raylets of one machine share the default range, and would collide.
            "--min-worker-port=0",
            "--max-worker-port=0",
        ]
        with (self.folder / f"node-{len(self.nodes)}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        self.nodes.append(Raylet(process))
        return self.nodes[-1]

    def wait_for(self, count: int) -> None:
        """Until so many nodes are up."""
        code = (
            "import ray, sys, time\n"
            f"ray.init(address={self.address!r}, log_to_driver=False, logging_level=50)\n"
            f"while sum(node['Alive'] for node in ray.nodes()) < {count}: time.sleep(0.2)\n"
        )
        end = time.monotonic() + START_SECONDS
        while not _answers(self.port):
            if time.monotonic() > end or self.nodes[0].process.poll() is not None:
                raise RuntimeError((self.folder / "node-0.log").read_text())
            time.sleep(0.1)
        subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment,
            check=True,
            timeout=START_SECONDS,
            capture_output=True,
        )


@contextmanager
def ray_cluster() -> Iterator[Cluster]:
    """No nodes yet; all that are added end with the context."""
    with short_folder("ms-") as folder:
        cluster = Cluster(folder)
        try:
            yield cluster
        finally:
            for node in reversed(cluster.nodes):
                node.kill()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def postgres_programs() -> Path | None:
    """Where `initdb` and `postgres` are; None where PostgreSQL is not installed."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb")
    places += [Path(found).resolve()] if found else []
    return places[0].parent if places else None


@dataclass
class Postgres:
    """A server on loopback, run by an ordinary user: it refuses root."""

    programs: Path
    folder: Path
    port: int
    password: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its one database, credentials included."""
        return f"postgresql://searcher:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, or start it again."""
        command = [
            *_as_user(),
            str(self.programs / "postgres"),
            *("-D", str(self.folder / "data"), "-p", str(self.port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}"),
            *("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=40"),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder
            )
        end = time.monotonic() + START_SECONDS
        while not (_answers(self.port) and self._takes_queries()):
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.1)

    def _takes_queries(self) -> bool:
        ready = [str(self.programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, capture_output=True, check=False).returncode == 0

    def stop(self) -> None:
        """At once; its clients lose their connections."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()


@contextmanager
def postgres(programs: Path) -> Iterator[Postgres]:
    """A fresh server with a password."""
    with short_folder("ms-pg-") as folder, ExitStack() as stack:
        server = Postgres(programs, folder, free_port(), secrets.token_hex(12))
        (folder / "password").write_text(server.password)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
            shutil.chown(folder / "password", "nobody")
        subprocess.run(
            [
                *_as_user(),
                str(programs / "initdb"),
                *("-D", str(folder / "data"), "-U", "searcher", "--no-sync", "-E", "UTF8"),
                *("--auth=scram-sha-256", f"--pwfile={folder / 'password'}"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        stack.callback(server.stop)
        server.start()
        yield server


def _as_user() -> list[str]:
    return ["setpriv", "--reuid=nobody", "--clear-groups"] if os.geteuid() == 0 else []
