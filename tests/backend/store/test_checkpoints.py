"""The log is moved into the file beside the writer, and begins anew."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexuskit.backend.store import checkpoints
from nexuskit.backend.store.database import Database, open_database
from nexuskit.backend.store.writer import Writer

PUT = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_database(tmp_path / "nexus.db")
    yield made
    made.close()


def commit(writer: Writer, rows: list[tuple[str, bytes]]) -> None:
    """Writes some rows, and waits until they are on disk."""
    done = threading.Event()
    errors: list[BaseException | None] = []

    def ended(error: BaseException | None) -> None:
        errors.append(error)
        done.set()

    writer.write([(PUT, list(rows))], lambda: None, ended)
    assert done.wait(20)
    assert errors == [None]


def moved(database: Database) -> tuple[int, int]:
    """Pages in the log, and how many of them are in the file."""
    connection = database.connect()
    _, logged, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    connection.close()
    return logged, done


def test_a_log_that_was_moved_begins_anew(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHANGES", 500)
    finished = threading.Semaphore(0)
    database.first.set_trace_callback(lambda sql: finished.release() if "checkpoint" in sql else None)
    log = Path(f"{database.path}-wal")
    before = log.stat().st_size
    writer = Writer(database.first, database.connect)
    for number in range(20):  # 20 MB in all
        commit(writer, [(f"{part}", bytes([number]) * 2000) for part in range(500)])
        assert finished.acquire(timeout=20)
    writer.close()
    assert log.stat().st_size == before < 10_000_000


def test_commits_go_on_while_the_log_is_moved_and_the_rest_is_moved_after_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHANGES", 10)
    begun, go_on, finished = threading.Event(), threading.Event(), threading.Event()

    def connect() -> sqlite3.Connection:
        begun.set()
        assert go_on.wait(20)
        return database.connect()

    writer = Writer(database.first, connect)
    watched: list[str] = []
    database.first.set_trace_callback(
        lambda sql: (watched.append(sql), finished.set() if "checkpoint" in sql else None)
    )
    commit(writer, [(f"first-{number}", b"x") for number in range(10)])
    assert begun.wait(20)
    commit(writer, [("meanwhile", b"y")])
    go_on.set()
    assert finished.wait(20)
    commit(writer, [("after", b"z")])
    writer.close()
    assert [sql for sql in watched if "checkpoint" in sql] == [checkpoints.MOVE]
    logged, done = moved(database)
    assert logged == done


def test_a_fault_of_the_disk_is_told_and_the_next_time_it_is_tried_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoints, "CHANGES", 1)
    tried = threading.Semaphore(0)

    def connect() -> sqlite3.Connection:
        tried.release()
        raise sqlite3.OperationalError("disk I/O error")

    writer = Writer(database.first, connect)
    for number in range(2):
        commit(writer, [(str(number), b"x")])
        assert tried.acquire(timeout=20)
    writer.close()
    assert {record.message for record in caplog.records} == {
        "the write-ahead log could not be moved into the database: disk I/O error"
    }
