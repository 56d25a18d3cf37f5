"""The database file: whose it is, what is in it, and that it is on disk when it says so."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from nexuskit.backend.errors import StartError
from nexuskit.backend.store import database as module
from nexuskit.backend.store.database import MEMORY, Database, open_database
from nexuskit.backend.store.schema import MIGRATIONS, VERSION

OURS = {
    "meta",
    "namespaces",
    "endpoints",
    "executions",
    "attributes",
    "current_runs",
    "pending",
    "events",
    "task_queues",
    "removals",
}

HOLD = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n  print('held', flush=True)\n  sys.stdin.read()"


@contextmanager
def opened(path: Path | str) -> Iterator[Database]:
    database = open_database(path)
    try:
        yield database
    finally:
        database.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "nexus.db"


@pytest.fixture
def made(file: Path) -> Path:
    """A file of ours, not open."""
    with opened(file):
        pass
    return file


def foreign(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(";".join(statements))


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def refusal(path: Path | str) -> str:
    """What the person who starts it is told: one sentence that names the file."""
    with pytest.raises(StartError) as refused:
        open_database(path)
    message = str(refused.value)
    assert str(path) in message
    assert re.fullmatch(r"The (database|file) FILE [^.\n]+\.", message.replace(str(path), "FILE"))
    return message


def left_open(path: Path) -> list[str]:
    """Files that this process has open beside the lock, which is given back."""
    return [each.path for each in psutil.Process().open_files() if each.path in (str(path), f"{path}-wal")]


# --- who may have it


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_nobody_else_may_read_the_file_whatever_the_umask(file: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with opened(file) as database:
            database.first.execute("INSERT INTO meta VALUES ('key', 'a secret')")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["nexus.db", "nexus.db-wal", "nexus.db-shm", "nexus.db.lock"], 0o600)


def test_a_file_that_another_process_holds_is_refused_until_that_process_ends(file: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, f"{file}.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        assert "held by another process" in refusal(file)
        assert not file.exists()
        holder.kill()
    with opened(file):
        pass


def test_a_file_that_is_open_here_is_refused_until_it_is_closed(file: Path) -> None:
    with opened(file):
        assert "held by another process" in refusal(file)
    with opened(file):
        pass


def test_a_file_may_be_closed_by_another_thread_than_opened_it(file: Path) -> None:
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        database = one.submit(open_database, file).result()
        other.submit(database.close).result()
    with opened(file):
        pass


def test_another_file_of_the_same_folder_is_another_database(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as one, opened(tmp_path / "b.db") as two:
        one.first.execute("INSERT INTO meta VALUES ('key', 'one')")
        assert two.first.execute("SELECT count(*) FROM meta").fetchone() == (0,)


# --- what cannot be opened


def test_a_file_of_a_newer_version_is_refused_and_not_changed(made: Path) -> None:
    foreign(made, f"PRAGMA user_version = {VERSION + 1}")
    before = made.read_bytes()
    message = refusal(made)
    assert f"version {VERSION + 1}" in message
    assert f"up to {VERSION}" in message
    assert "update nexuskit" in message
    assert made.read_bytes() == before
    foreign(made, f"PRAGMA user_version = {VERSION}")
    with opened(made):  # the lock was given back
        pass


@pytest.mark.parametrize("version", [0, VERSION, VERSION + 1])
def test_an_sqlite_file_of_something_else_is_refused_and_not_changed(file: Path, version: int) -> None:
    foreign(file, "CREATE TABLE photos (name)", "INSERT INTO photos VALUES ('x')", f"PRAGMA user_version = {version}")
    before = file.read_bytes()
    assert "of something else" in refusal(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"just a text\n", b"x" * 4096, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_refused_and_not_changed(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "cannot be" in refusal(file)
    assert file.read_bytes() == content


def test_a_file_of_ours_that_was_damaged_is_refused(made: Path) -> None:
    content = made.read_bytes()
    made.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    assert "malformed" in refusal(made)


@pytest.mark.parametrize("fault", ["newer", "foreign", "damaged"])
def test_a_file_that_is_refused_is_not_kept_open(made: Path, fault: str) -> None:
    match fault:
        case "newer":
            foreign(made, f"PRAGMA user_version = {VERSION + 1}")
        case "foreign":
            foreign(made, "DROP TABLE current_runs")
        case _:
            made.write_bytes(made.read_bytes()[:100] + b"\xff" * 8000)
    with pytest.raises(StartError):  # noqa: PT012, while the error is handled, what it came through is alive
        try:
            open_database(made)
        except StartError:
            assert left_open(made) == []
            raise


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "directory" in refusal(tmp_path)


def test_a_file_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot be made: there is no folder .*missing\.$"):
        open_database(tmp_path / "missing" / "nexus.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="wants a folder in which nobody can make a file")
def test_a_file_in_a_folder_where_none_can_be_made_is_refused_for_that_reason() -> None:
    assert "cannot be opened: " in refusal(Path("/proc/nexus.db"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_is_refused(made: Path) -> None:
    made.chmod(0o400)
    assert "cannot be opened: Permission denied" in refusal(made)


# --- what is in it


def test_an_empty_file_becomes_a_database(file: Path) -> None:
    file.touch()
    with opened(file) as database:
        assert tables(database.first) == OURS


def test_a_new_file_is_of_this_version(file: Path) -> None:
    assert len(MIGRATIONS) == VERSION
    with opened(file) as database:
        assert pragma(database.first, "user_version") == VERSION
        assert tables(database.first) == OURS


@pytest.mark.skipif(sys.platform == "win32", reason="files there have no such limit")
@pytest.mark.parametrize("kind", ["new", "older"])
def test_a_file_that_has_little_room_is_opened(file: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """To make the log long before it is needed is worth something, and not worth a start that fails."""
    import resource  # is not everywhere

    if kind == "older":
        open_database(file).close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = module.LOG_BYTES // 4 if kind == "new" else module.LOG_BYTES * 3 // 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with closing(open_database(file)) as database:
            database.first.execute("INSERT INTO meta VALUES ('a', x'00')")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "little room" in caplog.text
    with closing(open_database(file)) as database:
        assert tables(database.first) == OURS
        assert database.first.execute("SELECT key FROM meta").fetchall() == [("a",)]


def test_what_is_left_of_a_full_disk_is_not_taken_by_an_empty_log(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOG_ROOM", 1 << 62)
    with closing(open_database(file)):
        assert sum(each.stat().st_size for each in file.parent.iterdir()) < module.LOG_BYTES
    assert "little room" in caplog.text


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with opened("~/nexus.db") as database:
        assert database.path == tmp_path / "nexus.db"
        assert database.name == "~/nexus.db"


def test_an_older_file_is_brought_to_this_version_and_keeps_what_it_holds(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(made, "INSERT INTO meta VALUES ('key', 'kept')")
    monkeypatch.setattr(module, "VERSION", VERSION + 2)
    steps = ("CREATE TABLE extra (a);", "INSERT INTO extra SELECT value FROM meta;")
    monkeypatch.setattr(module, "MIGRATIONS", MIGRATIONS + steps)
    for _ in range(2):  # the second time there is nothing to do
        with opened(made) as database:
            assert pragma(database.first, "user_version") == VERSION + 2
            assert database.first.execute("SELECT a FROM extra").fetchall() == [("kept",)]


def test_a_step_that_fails_leaves_the_file_at_the_version_before_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERSION", VERSION + 2)
    steps = ("CREATE TABLE good (a);", "CREATE TABLE half (a); CREATE TABLE half (a);")
    monkeypatch.setattr(module, "MIGRATIONS", MIGRATIONS + steps)
    assert "cannot be used: table half already exists" in refusal(file)
    with closing(sqlite3.connect(file)) as connection:
        assert pragma(connection, "user_version") == VERSION + 1
        assert tables(connection) == OURS | {"good"}


# --- on disk when it says so


def test_every_connection_waits_for_the_disk_at_each_commit(file: Path) -> None:
    with opened(file) as database, closing(database.connect()) as another:
        for connection in (database.first, another):
            assert pragma(connection, "journal_mode") == "wal"
            assert pragma(connection, "synchronous") == 2  # FULL
            assert pragma(connection, "fullfsync") == 1
            assert pragma(connection, "checkpoint_fullfsync") == 1


def test_what_was_committed_is_there_though_the_process_died(file: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.mkdir()
    with opened(file) as database:
        database.first.execute("INSERT INTO meta VALUES ('committed', 'x')")
        database.first.execute("BEGIN IMMEDIATE")
        database.first.execute("INSERT INTO meta VALUES ('not committed', 'x')")
        for path in (file, file.with_name("nexus.db-wal")):  # what a process that dies now leaves behind
            shutil.copy(path, left)
    with opened(left / "nexus.db") as database:
        assert database.first.execute("SELECT key FROM meta").fetchall() == [("committed",)]


def test_a_reader_sees_what_the_writer_committed_and_nothing_else(file: Path) -> None:
    with opened(file) as database, closing(database.connect()) as reader:
        database.first.execute("BEGIN IMMEDIATE")
        database.first.execute("INSERT INTO meta VALUES ('key', 'x')")
        assert reader.execute("SELECT count(*) FROM meta").fetchone() == (0,)
        database.first.execute("COMMIT")
        assert reader.execute("SELECT count(*) FROM meta").fetchone() == (1,)


# --- keeping nothing


def test_memory_keeps_nothing_and_cleans_up() -> None:
    with opened(MEMORY) as database:
        assert database.name == MEMORY
        assert pragma(database.first, "synchronous") == 0  # nobody waits for the disk
        database.first.execute("INSERT INTO meta VALUES ('key', 'x')")
        with closing(database.connect()) as another:
            assert another.execute("SELECT count(*) FROM meta").fetchone() == (1,)
        folder = database.path.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()
    with opened(MEMORY) as database:
        assert database.first.execute("SELECT count(*) FROM meta").fetchone() == (0,)


def test_two_that_keep_nothing_know_nothing_of_each_other() -> None:
    with opened(MEMORY) as one, opened(MEMORY) as two:
        one.first.execute("INSERT INTO meta VALUES ('key', 'x')")
        assert two.first.execute("SELECT count(*) FROM meta").fetchone() == (0,)
