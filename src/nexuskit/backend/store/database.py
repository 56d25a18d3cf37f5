"""The database file: opened by one process at a time, of a version that this code knows, on disk when it says so."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from nexuskit.backend.errors import StartError
from nexuskit.backend.store.schema import MIGRATIONS, VERSION

MEMORY = ":memory:"
"""In place of a file: keep nothing."""

CHECKPOINT_PAGES = 4_000
"""Pages (of 4 KiB) in the write-ahead log before they are moved into the file: 16 MB, so that it happens seldom."""
PAGE_CACHE_KIB = 16_000
"""A connection's cache: holds the upper pages of all trees at a million runs."""


class Database(NamedTuple):
    """An open database.

    Attributes:
        path: the file.
        name: what a person called it.
        lock: held while this process owns the file.
        directory: the directory that goes with it, for one that keeps nothing.
    """

    path: Path
    name: str
    lock: FileLock
    directory: tempfile.TemporaryDirectory[str] | None

    def connect(self) -> sqlite3.Connection:
        """A connection, for one thread. Transactions are begun and ended by whoever uses it."""
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=256)
        # A file that keeps nothing need not survive anything, so it does not wait for the disk.
        synchronous = "OFF" if self.directory else "FULL"
        connection.executescript(
            f"PRAGMA synchronous={synchronous}; PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON;"
            f"PRAGMA cache_size=-{PAGE_CACHE_KIB}; PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES};"
            "PRAGMA busy_timeout=5000; PRAGMA temp_store=MEMORY;"
        )
        return connection

    def close(self) -> None:
        """Give the file back."""
        self.lock.release()
        if self.directory is not None:
            self.directory.cleanup()


def open_database(db: str | os.PathLike[str]) -> Database:
    """Open a database file, make it if there is none, and bring it to this version.

    Args:
        db: a path, or ":memory:" to keep nothing.

    Raises:
        StartError: another process holds it, it is of a newer version, or is no database of ours.
    """
    if os.fspath(db) == MEMORY:
        directory = tempfile.TemporaryDirectory(prefix="nexuskit-")
        path = Path(directory.name) / "memory.db"
    else:
        directory = None
        path = Path(db).expanduser().resolve()
    if not path.parent.is_dir():
        raise StartError(f"The database {path} cannot be made: there is no folder {path.parent}.")
    lock = FileLock(f"{path}.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise StartError(
            f"The database {path} is held by another process; stop that one, or name another --db."
        ) from None
    except OSError as error:
        raise StartError(f"The database {path} cannot be opened: {error.strerror or error}.") from error
    database = Database(path, str(db), lock, directory)
    try:
        _prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: Database) -> None:
    path = database.path
    try:
        # Made by us before SQLite does, so that nobody else may read it, whatever the umask.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = database.connect()
    except (OSError, sqlite3.Error) as error:
        raise StartError(f"The database {path} cannot be opened: {_reason(error)}.") from error
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StartError(
                f"The database {path} is of version {version}, and this nexuskit knows versions up to {VERSION}:"
                " update nexuskit."
            )
        if version == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise StartError(f"The file {path} is an SQLite database of something else; name another --db.")
        connection.execute("PRAGMA journal_mode=WAL")
        for step in range(version, VERSION):
            connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[step]} PRAGMA user_version={step + 1}; COMMIT;")
    except sqlite3.Error as error:
        raise StartError(f"The database {path} cannot be used: {_reason(error)}.") from error
    finally:
        connection.close()


def _reason(error: Exception) -> Any:
    return getattr(error, "strerror", None) or error
