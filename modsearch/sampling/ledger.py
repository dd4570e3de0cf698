"""The database that a study's ledger is in, and the lock on the study there.

Asks and tells of one cell are in `modsearch.sampling.cell`.
"""

import hashlib
import os
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from modsearch.config.shipped import PACKAGE
from modsearch.errors import ModsearchError, StudyError, first_line

Storage = optuna.storages.BaseStorage
"""What cells are kept in."""


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


def in_memory() -> optuna.storages.InMemoryStorage:
    """Storage that ends with the process: for searches that train nothing."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages.InMemoryStorage()


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
