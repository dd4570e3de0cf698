"""Ask and tell on Optuna studies, one for each cell of a stage.

The driver alone asks and tells. A trial that was asked and never told stays RUNNING and goes
on under its own number; a candidate that is known already is told without training.
"""

import hashlib
import math
import os
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from modsearch.config.records import Record, Stage, State
from modsearch.config.shipped import PACKAGE
from modsearch.errors import ModsearchError, StudyError, first_line
from modsearch.sampling.samplers import Points, optuna_distribution, sampler_of
from modsearch.space.axes import Distribution
from modsearch.space.points import at_point, grid, is_finite, num_points, resolve
from modsearch.space.space import ASKS_PER_TRIAL, SamplerName

CONSTRAINT = "trainable"


@dataclass(frozen=True)
class CellSpec:
    """One optimisation problem: a tree of values for one arm at one budget in one stage."""

    stage: Stage
    arm: str
    budget: float
    tree: Any
    sampler: SamplerName = "grid"
    trials: int | None = None
    """Trained trials wanted; None: every point of the grid."""
    points: tuple[dict[str, Any], ...] | None = None
    """The grid in the order it is run; None: its own order."""

    @property
    def name(self) -> str:
        """Name of the cell, and of its Optuna study.

        The digest of the tree keeps apart what an extended study asks with another recipe.
        """
        digest = hashlib.sha256(repr(self.tree).encode()).hexdigest()[:8]
        return f"{self.stage}/{self.arm}/{self.budget!r}/{digest}"


@dataclass(frozen=True)
class Asked:
    """A trial of a cell and its resolved values."""

    number: int
    values: dict[str, Any]


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage at a database URL.

    Raises:
        StudyError: it can't be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arguments = FILE if url.startswith("sqlite") else SERVER
    engine = {"connect_args": arguments, "pool_pre_ping": True}
    template = url.replace("{", "{{").replace("}", "}}")  # Optuna formats it
    try:
        return optuna.storages.RDBStorage(template, engine_kwargs=engine)
    except ImportError as error:
        raise StudyError(
            "a ledger on PostgreSQL needs the library psycopg\n"
            "install it with `pip install 'modsearch[postgres]'`"
        ) from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError, UnicodeError) as error:
        remedy = "when it answers, the same command goes on; is the address right?"
        raise StudyError(
            f"can't open the ledger {place(url)}: {_cause(error)}\n{_mended(error) or remedy}"
        ) from error


FILE = {"timeout": 20.0}
"""Seconds to wait for another program that writes to the file."""

SERVER = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": f"modsearch on {socket.gethostname()[:30]}, process {os.getpid()}",
}
"""How a database server is spoken to: a link that was cut is noticed within half a minute, and
the server's list of clients names this one."""


def server_url(url: str) -> str:
    """A user's URL of a PostgreSQL database, with the driver that we use.

    Raises:
        StudyError: it is something else. The message does not repeat it: it may have a password.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg") or not rest:
        raise StudyError(
            "--ledger takes postgresql://USER@HOST/DATABASE, but got another kind of address\n"
            "leave it out for a ledger in the study directory"
        )
    try:
        host = sqlalchemy.make_url(f"postgresql+psycopg://{rest}").host or ""
    except (ArgumentError, ValueError):
        host = "@"
    if "@" in host:  # what follows the first one of a password
        raise StudyError(
            "--ledger takes postgresql://USER@HOST/DATABASE, but what it got can't be read\n"
            "write special characters of a password as %40 and the like"
        )
    return f"postgresql+psycopg://{rest}"


def place(url: str) -> str:
    """Where a database is, without user, password and options."""
    parsed = sqlalchemy.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return str(parsed.database)
    host = f"{parsed.host or parsed.query.get('host', 'localhost')}:{parsed.port or 5432}"
    return f"postgresql://{host}/{parsed.database or ''}"


class Ledger:
    """A database with studies, and the lock on one of them.

    A file needs none beside the study directory's. On a server one connection holds an advisory
    lock, which the server frees when that connection ends, however its driver died.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.storage = open_storage(url)
        self._connection: sqlalchemy.Connection | None = None

    @classmethod
    def in_file(cls, path: Path) -> "Ledger":
        """SQLite: for one machine, and one study."""
        url = sqlalchemy.URL.create("sqlite", database=str(path))  # a path may have ? or % in it
        return cls(url.render_as_string(hide_password=False))

    @contextmanager
    def held(self, study: str) -> Iterator[None]:
        """A study's lock is ours inside this context; a database's errors are told in two lines.

        Raises:
            StudyError: another driver has it, or the database does not answer any more.
        """
        try:
            if self.url.startswith("sqlite"):
                yield
                return
            engine = sqlalchemy.create_engine(
                self.url, connect_args=SERVER, poolclass=sqlalchemy.NullPool
            ).execution_options(isolation_level="AUTOCOMMIT")
            with engine.connect() as self._connection:
                self._lock(self._connection, study)
                yield
        except (SQLAlchemyError, StorageInternalError) as error:
            remedy = "when it does again, the same command goes on from here"
            raise StudyError(
                f"the ledger {place(self.url)} does not answer: {_cause(error)}\n"
                f"{_mended(error) or remedy}"
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ModsearchError) or not _in_optuna(error):
                raise
            raise StudyError(f"the ledger {place(self.url)} is damaged\n{AWAY}") from error
        finally:
            self._connection = None
            self.close()

    def close(self) -> None:
        """Drop the connections; those that are needed later are made anew."""
        self.storage.engine.dispose()

    def check(self) -> None:
        """Whether the lock is still ours: with its connection it is gone.

        Raises:
            SQLAlchemyError: it is not; `held` tells it.
        """
        if self._connection is not None:
            self._connection.execute(sqlalchemy.text("select 1"))

    def _lock(self, connection: sqlalchemy.Connection, study: str) -> None:
        digest = hashlib.sha256(f"modsearch {study}".encode()).digest()
        # Two keys of 31 bits: in pg_locks they stand as they are.
        keys = {
            "one": int.from_bytes(digest[:4], "little") >> 1,
            "two": int.from_bytes(digest[4:8], "little") >> 1,
        }
        # The server's side of what SERVER asks of ours, so that a lost machine's lock goes, too.
        for name, value in (("idle", "10"), ("interval", "5"), ("count", "3")):
            connection.execute(sqlalchemy.text(f"set tcp_keepalives_{name} = {value}"))
        got = connection.execute(sqlalchemy.text("select pg_try_advisory_lock(:one, :two)"), keys)
        if got.scalar_one():
            return
        holder = connection.execute(
            sqlalchemy.text(
                "select application_name from pg_stat_activity join pg_locks using (pid) where "
                "locktype = 'advisory' and classid = :one and objid = :two and granted"
            ),
            keys,
        ).scalar()
        who = holder.removeprefix("modsearch ") if holder else "who does not say its name"
        raise StudyError(
            f"another driver ({who}) has study {study} at {place(self.url)}\n"
            f"wait for it, or end it: its lock goes with its connection"
        )


def _cause(error: BaseException) -> str:
    """The database's own words, which have neither statements nor credentials, in one line."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    return first_line(root)


def _mended(error: BaseException) -> str | None:
    """What to do about a file that will not answer as it is; None where waiting may help."""
    damaged = any(text in _cause(error) for text in ("not a database", "malformed"))
    return AWAY if damaged else None


AWAY = "move that file away: the same command makes a new one from the results in trials/"


def _in_optuna(error: BaseException) -> bool:
    """Whether an error comes from what Optuna made of its rows, and not from code of ours."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    ours = max(place for place, file in enumerate(files) if file.startswith(str(PACKAGE)))
    return any(file.startswith(str(Path(optuna.__file__).parent)) for file in files[ours + 1 :])


class Cell:
    """Asks and tells of one cell."""

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        spec: CellSpec,
        seed: int,
        prefix: str = "",
    ) -> None:
        self.spec = spec
        self.seed = seed
        # Studies that share a database are told apart; draws must not depend on where they are.
        self.study = optuna.create_study(
            storage=storage,
            study_name=prefix + spec.name,
            load_if_exists=True,
            direction="minimize",
        )
        self._trials: list[FrozenTrial] | None = None
        """As read since the last change: the driver alone changes them."""
        self._keys: dict[int, str] = {}
        """Of finished trials, whose points stay as they are."""

    @cached_property
    def _grid(self) -> list[dict[str, Any]]:
        return list(self.spec.points) if self.spec.points else list(grid(self.spec.tree))

    @cached_property
    def _grid_keys(self) -> list[str]:
        return [_key(point) for point in self._grid]

    @cached_property
    def _size(self) -> float:
        """Points that there are."""
        if self.spec.points:
            return len(self.spec.points)
        return num_points(self.spec.tree) if is_finite(self.spec.tree) else math.inf

    @property
    def wanted(self) -> int:
        """Trained trials at which the cell is full."""
        trials = math.inf if self.spec.trials is None else self.spec.trials
        return int(min(self._size, trials))

    def trials(self) -> list[FrozenTrial]:
        """All trials, in order of their numbers."""
        if self._trials is None:
            self._trials = self.study.get_trials(deepcopy=False)
        return self._trials

    def orphans(self) -> Iterator[Asked]:
        """Trials that were asked and never told, continued under their own numbers."""
        for trial in self.trials():
            if trial.state is TrialState.RUNNING:
                yield self._suggest(self._continued(trial))

    def told(self) -> Iterator[tuple[str, Asked]]:
        """Finished trials, by the hash of what was trained."""
        for trial in self.trials():
            if trial.state.is_finished() and "hash" in trial.user_attrs:
                values = at_point(self.spec.tree, trial.params)
                yield trial.user_attrs["hash"], Asked(trial.number, values)

    def upcoming(self) -> dict[str, Any] | None:
        """The point that a grid would ask next, or None."""
        if self.spec.sampler != "grid":
            return None
        asked = self._asked()
        points = zip(self._grid, self._grid_keys, strict=True)
        return next((point for point, key in points if key not in asked), None)

    def _asked(self) -> set[str]:
        """Keys of the points that have been asked for."""
        for trial in self.trials():
            if trial.number not in self._keys and trial.state.is_finished():
                self._keys[trial.number] = _key(trial.params)
        return {self._keys.get(t.number) or _key(t.params) for t in self.trials()}

    def why_done(self) -> str | None:
        """Which rule ended the cell, or None while it may ask.

        Trials in flight count as trained: they will be.
        """
        trials = self.trials()
        trained = sum(not trial.user_attrs.get("untrained", False) for trial in trials)
        if trained >= self.wanted and self.spec.sampler != "grid":
            return f"{trained} trained"
        if self.spec.sampler == "grid":
            # A point that reads back as another one would be asked for ever.
            asked_all = len(trials) >= self.wanted or self.upcoming() is None
            return "exhausted" if asked_all else None
        if len(trials) >= self._size and len(self._asked()) >= self._size:
            return "exhausted"
        asks = ASKS_PER_TRIAL * self.wanted
        return f"{asks} asks" if len(trials) >= asks else None

    def ask(self) -> Asked:
        """A new trial."""
        number = len(self.trials())
        self.study.sampler = self._sampler(number)
        trial = self.study.ask()
        assert trial.number == number, "another driver asks"
        return self._suggest(trial)

    def note_hash(self, number: int, trial_hash: str) -> None:
        """Write down what a trial is, before it is handed out."""
        self._continued(self.trials()[number]).set_user_attr("hash", trial_hash)
        self._trials = None

    def is_repeat(self, number: int, trial_hash: str) -> bool:
        """Whether an earlier trial of the cell is the same."""
        return any(trial.user_attrs.get("hash") == trial_hash for trial in self.trials()[:number])

    def tell(self, number: int, record: Record, *, repeat: bool = False) -> None:
        """What became of a trial; `repeat`: it was known and cost nothing."""
        trial = self._continued(self.trials()[number])
        trial.set_user_attr("state", str(record.state))
        if record.reason:
            trial.set_user_attr("reason", record.reason)
        if repeat or record.state is State.INFEASIBLE:
            trial.set_user_attr("untrained", True)
        if record.scores is not None:
            self._constrain(trial, 0)
            self.study.tell(number, record.cost)
        else:
            self._constrain(trial, 1)
            self.study.tell(number, state=TrialState.PRUNED)
        self._trials = None

    def _constrain(self, trial: Trial, value: int) -> None:
        """Say whether the trial could be trained; a driver that was stopped has said it."""
        if CONSTRAINT not in trial.constraints:
            trial.set_constraint(CONSTRAINT, value)

    def _continued(self, trial: FrozenTrial) -> Trial:
        """A handle on a trial that exists; making it samples again, as its ask did."""
        if trial.state is TrialState.RUNNING:
            self.study.sampler = self._sampler(trial.number)
        return Trial(self.study, trial._trial_id)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        spec = self.spec
        if spec.sampler == "grid":
            return Points(self.upcoming() or {})
        return sampler_of(spec.sampler, spec.tree, self.seed, spec.name, number)

    def _suggest(self, trial: Trial) -> Asked:
        """Values of a trial; those that it has already stay as they are."""

        def pick(path: str, axis: Distribution) -> Any:
            return axis.labelled(trial._suggest(path, optuna_distribution(axis)))

        values = resolve(self.spec.tree, pick)
        self._trials = None
        return Asked(trial.number, values)


def _key(params: dict[str, Any]) -> str:
    return repr(sorted(params.items()))
