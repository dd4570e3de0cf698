"""Trials as actors of a Ray cluster: a Ray Tune Tuner that asks us for every next trial.

Tune places trials, reuses actors and tries again what a dead worker or node took along. It
keeps no state of ours: the ledger owns that, so an interrupted Tuner is never restored.
"""

import contextlib
import io
import logging
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.search import Searcher

from modsearch.config.records import Job, Record
from modsearch.config.runtime import Share, Signal
from modsearch.engines.contract import TRIES, RunTrial, given_up
from modsearch.errors import StudyError, first_line
from modsearch.store.scratch import scratch

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
}
"""Of Ray's environment, where the user has none. Chatter is off, since progress is the study's,
and Tune's snapshots are off, since nothing is ever restored from them."""

ANSWER_SECONDS = 10.0
"""Within which an address must take a connection."""

LONGEST_PARENT = 20
"""Of Ray's folder: a path of a socket may have 107 characters."""

FAILURE = "Failure # "
"""Begins what Tune notes of each failure of a trial."""

KILLED = "low on memory"
"""In what Ray says of a worker that it has killed for the memory of its node."""

DIED = "its worker process has died"
"""In what it says of one that ended otherwise, which Linux may have killed for the same reason."""


class RayEngine:
    """Executes jobs on the cluster at `address`, or on a Ray of its own on this machine.

    `workers` None means: as many trials at once as the cluster has room for.
    """

    def __init__(
        self, run_trial: RunTrial, workers: int | None, share: Share, address: str | None = None
    ) -> None:
        self.run_trial = run_trial
        self.share = share
        self.address = address
        self.num_workers = workers or 1
        self._fill = workers is None
        self._folder: Path | None = None
        self._num_runs = 0

    @contextmanager
    def started(self) -> Iterator["RayEngine"]:
        """Connected inside this context; a Ray of our own ends with it.

        Raises:
            StudyError: the cluster does not answer, or no node has room for a trial.
        """
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        with scratch("ms-ray-", LONGEST_PARENT) as folder:
            self._folder = folder
            try:
                if self.address is None:
                    _start(folder, self.num_workers, self.share, self._fill)
                else:
                    _connect(self.address)
                room = _room(self.share)
                if not room and (self._fill or self.address is None):
                    raise StudyError(
                        f"no node of the cluster has room for a trial of {self.share.cpus:g} CPUs "
                        f"and {self.share.gpus:g} GPUs\nlower `resources` in the search space, or "
                        f"bring up nodes that have them"
                    )
                self.num_workers = room if self._fill else self.num_workers
                yield self
            finally:
                ray.shutdown()

    def run(
        self,
        next_job: Callable[[], Job | Signal],
        on_record: Callable[[Job, Record], None],
    ) -> None:
        """Pull jobs and push records until there is nothing left.

        A job whose worker or node dies is tried again, at most `TRIES` times. A worker that Ray
        has killed for memory, or that has died twice, is no try as long as passes can be halved.
        """
        assert self._folder is not None, "the engine has not been started"
        self._num_runs += 1
        jobs = _Jobs(next_job, on_record, self.num_workers)
        tuner = tune.Tuner(
            tune.with_resources(_Trial, {"cpu": self.share.cpus, "gpu": self.share.gpus}),
            param_space={"run_trial": self.run_trial, "cwd": os.getcwd()},
            tune_config=tune.TuneConfig(
                search_alg=jobs,
                num_samples=-1,
                max_concurrent_trials=self.num_workers,
                reuse_actors=True,
                trial_dirname_creator=_short_name,
            ),
            run_config=tune.RunConfig(
                name=f"stage-{self._num_runs}",
                storage_path=str(self._folder / "tune"),
                verbose=0,
                stop=_Failed(jobs),
                callbacks=[_Recovered(jobs)],
                failure_config=tune.FailureConfig(max_failures=TRIES - 1),
                # Trials keep checkpoints of their own, in the trial's directory.
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        )
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # stdout is for results
                tuner.fit()
        except (RayError, TuneError, ConnectionError) as error:
            if jobs.failure is None:
                raise StudyError(
                    f"lost the Ray cluster: {first_line(error)}\n"
                    f"run the same command again: the study goes on from here"
                ) from error
        if jobs.failure is not None:
            raise jobs.failure


class _Trial(tune.Trainable):
    """One training after the other, in one process."""

    def setup(self, config: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # relative paths of corpora mean the driver's
            os.chdir(config["cwd"])
        self._config = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        return {"record": self._config["run_trial"](self._config["job"]), "done": True}


class _Jobs(Searcher):
    """Tune's search algorithm: jobs from the driver, records to it, no more ahead than `limit`.

    What the driver raises is kept for the engine, since Tune would wrap it.
    """

    def __init__(
        self,
        next_job: Callable[[], Job | Signal],
        on_record: Callable[[Job, Record], None],
        limit: int,
    ) -> None:
        super().__init__()
        self.next_job = next_job
        self.on_record = on_record
        self.limit = limit
        self.running: dict[str, Job] = {}
        self.recovered: dict[str, Any] = {}
        """Tune's own trials that have lost a worker; they know why."""
        self.failure: Exception | None = None

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[()]]:
        # Tune pickles its searcher beside its results, for a restore that never comes.
        return (dict, ())

    def suggest(self, trial_id: str) -> Any:
        if self.failure is not None:
            return Searcher.FINISHED
        if len(self.running) >= self.limit:
            return None
        try:
            answer = self.next_job()
            if answer is Signal.WAIT and not self.running:
                raise AssertionError("the driver waits for a record, but nothing runs")
        except Exception as error:
            self.failure = error
            return Searcher.FINISHED
        if isinstance(answer, Signal):
            return None if answer is Signal.WAIT else Searcher.FINISHED
        self.running[trial_id] = answer
        return {"job": answer}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        job = self.running.pop(trial_id)
        trial = self.recovered.pop(trial_id, None)
        if self.failure is not None:
            return  # stopped, not done
        record = given_up(job, _named(trial)) if error or result is None else result["record"]
        try:
            self.on_record(job, record)
        except Exception as failure:
            self.failure = failure

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called."""


class _Failed(tune.Stopper):
    """Ends a run whose driver has raised."""

    def __init__(self, jobs: _Jobs) -> None:
        self.jobs = jobs

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.jobs.failure is not None


class _Recovered(tune.Callback):
    """Notes trials that are tried again, and has them take smaller passes where that may help."""

    def __init__(self, jobs: _Jobs) -> None:
        self.jobs = jobs

    def on_trial_recover(  # type: ignore[override]  # of Tune's further keywords it sends none
        self, iteration: int, trials: list[Any], trial: Any
    ) -> None:
        self.jobs.recovered[trial.trial_id] = trial
        job = self.jobs.running[trial.trial_id]
        said = _said(trial)
        memory = KILLED in said.rpartition(FAILURE)[2] or said.count(DIED) > 1
        if memory and job.rows > 1:
            job = self.jobs.running[trial.trial_id] = job.halved()
            trial.set_config({**trial.config, "job": job})
            trial.max_failures += 1


def _short_name(trial: Any) -> str:
    return str(trial.trial_id)


def _named(trial: Any) -> str:
    """What took a trial's workers, where that is an error with a name, such as of an import."""
    lines = _said(trial).splitlines()
    return next((s for s in reversed(lines) if re.match(r"[\w.]*(Error|Exception): ", s)), "")


def _said(trial: Any) -> str:
    """What Tune has noted of a trial's failures."""
    try:
        return Path(trial.error_file).read_text() if trial is not None else ""
    except (OSError, TypeError):  # none was written
        return ""


def _start(folder: Path, workers: int, share: Share, fill: bool) -> None:
    """A Ray of our own, on loopback and with a token that nobody else has."""
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # The user's word on workers counts, as it does without Ray; a trial never needs the cores.
    num_cpus = None if fill else max(1, round(workers * share.cpus + 0.499))
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            object_store_memory=100 * 2**20,
            _temp_dir=str(folder),
            _node_ip_address="127.0.0.1",
        )
    except (RuntimeError, ValueError, OSError, RayError) as error:
        raise StudyError(
            f"Ray does not start on this machine: {first_line(error)}\n"
            f"run with --engine local, or name a cluster with --address"
        ) from error


def _connect(address: str) -> None:
    """To a cluster that someone else started, and that outlives us."""
    host, _, port = address.rpartition(":")
    said: list[str] = []
    try:
        if host and port.isdigit() and "://" not in address:
            # Ray's own client would end this process after a minute of silence.
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        with _native_stderr(said):
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (RuntimeError, ValueError, OSError, ImportError, RayError) as error:
        refused = any("InvalidAuthToken" in text for text in said)
        why = "it refuses the token" if refused else first_line(error)
        raise StudyError(
            f"no Ray cluster answers at {address}: {why}\n"
            f"name the head's HOST:PORT, and share its token (RAY_AUTH_TOKEN_PATH)"
        ) from error


@contextmanager
def _native_stderr(said: list[str]) -> Iterator[None]:
    """What Ray's C++ part writes about a connection goes into `said`, not to the terminal."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said.append(file.read().decode(errors="replace"))


def _room(share: Share) -> int:
    """Trials that fit at once; one never spans two nodes."""
    wanted = {"CPU": share.cpus, "GPU": share.gpus}
    room = 0
    for node in ray.nodes():  # type: ignore[no-untyped-call]  # untyped in ray
        if node["Alive"]:
            free = node["Resources"]
            # A share such as 0.1 is not exact in binary: three of them fit into 0.3.
            fits = [free.get(kind, 0) / part + 1e-9 for kind, part in wanted.items() if part]
            room += int(min(fits))
    return room
