"""The file in which messages wait: SQLite, with a write-ahead log. The only room that knows sqlite3.

One write and one fsync make an append safe, little wear for an SD card; a power loss leaves the file whole.
"""

import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import NamedTuple

VERSION = 2  # 1 had no check sums
PAGE = 4096
_ERROR, _CORRUPT, _NO_DATABASE = 1, 11, 26  # SQLITE_ERROR: a table or column is not there
_LAST_NUMBER = 2**62  # nobody gets there
_COMPANIONS = ("", "-wal", "-shm", "-journal")  # a new file must not take old ones for its own
_LOG_PAGES = 256  # of the write-ahead log, about, until the file takes it over
_AT = "CASE typeof(at) WHEN 'real' THEN at END"  # what the disk has made of a number may be a text, and that none
_OLDEST = (
    f"SELECT number, {_AT}, cast(topic AS BLOB), cast(payload AS BLOB), "  # noqa: S608 - of this line and the one above
    "CASE typeof(sum) WHEN 'integer' THEN sum WHEN 'null' THEN NULL ELSE -1 END FROM kept ORDER BY number LIMIT ?"
)
_PART = 100  # where room is needed, one of so many messages goes: seldom much is easier on the disk than often little


class Row(NamedTuple):
    """A message that waits; `at`: of which moment it is, in Unix seconds."""

    number: int
    at: float
    topic: str
    payload: str


def trouble() -> tuple[type[Exception], ...]:
    """What everything here may raise. UnicodeDecodeError: SQLite's own message quotes what is damaged."""
    import sqlite3  # noqa: PLC0415 - a megabyte that only a daemon with a history needs

    return sqlite3.Error, OSError, UnicodeDecodeError


def is_damage(error: Exception) -> bool:
    """Whether the file is no good any more, and not only the disk full or out of reach."""
    is_told = getattr(error, "sqlite_errorcode", 0) & 0xFF in (_ERROR, _CORRUPT, _NO_DATABASE)
    return is_told or isinstance(error, UnicodeDecodeError)


def put_aside(path: Path) -> Path:
    """Make room for a new file; gives where the damaged one is. Raises OSError."""
    aside = path.with_name(f"{path.name}.broken")
    for end in _COMPANIONS:
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).replace(aside.with_name(aside.name + end))
    return aside


class SpoolFile:
    """A file that is open, and no other program's; `count` messages, the youngest with the number `last`.

    `lost`: how many had to leave for want of room or were too old, as noted in the file.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        import sqlite3  # noqa: PLC0415 - as above

        self._path = path
        log_pages = max(8, min(_LOG_PAGES, most_bytes // PAGE // 64))
        self._most_pages = most_bytes // PAGE - 2 * log_pages - 16
        self.most_at_once = log_pages * PAGE // 2
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=0.1, isolation_level=None, check_same_thread=False)
        try:
            self._begin(log_pages)
            self.count, self.last = self._one("SELECT count(*), coalesce(max(number), 0) FROM kept")
            (self.lost,) = self._one("SELECT CASE typeof(number) WHEN 'integer' THEN number END FROM lost")
            self._check_last()
        except BaseException:
            self._connection.close()
            raise

    def _check_last(self) -> None:
        if self.last > _LAST_NUMBER:  # there must be room behind it
            raise _damage("its numbers are none of ours")

    def _begin(self, log_pages: int) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        (tables,) = self._one("SELECT count(*) FROM sqlite_master")
        (version,) = self._one("PRAGMA user_version")
        if tables and version not in (1, VERSION):
            raise _damage(f"it is no spool of version {VERSION}")
        execute("PRAGMA journal_mode = WAL")
        execute(f"PRAGMA wal_autocheckpoint = {log_pages}")
        if not tables:
            with self._transaction("FULL"):
                columns = "number INTEGER PRIMARY KEY, at REAL, topic TEXT, payload TEXT, sum INTEGER"
                execute(f"CREATE TABLE kept ({columns})")
                execute("CREATE TABLE lost (number INTEGER)")
                execute("INSERT INTO lost VALUES (0)")
                execute(f"PRAGMA user_version = {VERSION}")
            _sync(self._path.parent)
        elif version != VERSION:
            with self._transaction("FULL"):
                execute("ALTER TABLE kept ADD COLUMN sum INTEGER")
                execute(f"PRAGMA user_version = {VERSION}")

    def add(self, rows: Iterable[Row], oldest: float, lost: int) -> int:
        """Append; what is older than `oldest` or has no room leaves, and `lost` with it is noted; gives how many did.

        It is safe from a power loss when this returns.
        """
        new = list(rows)
        with self._transaction("FULL"):
            self._connection.executemany(
                "INSERT INTO kept VALUES (?, ?, ?, ?, ?)", ((*row, _sum(row.topic, row.payload)) for row in new)
            )
            before = left = self.count + len(new)
            while left and self._pages() > self._most_pages:
                left -= self._delete_oldest(1 + left // _PART)
            self._note_lost(lost + before - left)
        self.count, self.lost = left, lost + before - left
        return before - left + self._expire(oldest)

    def _expire(self, oldest: float) -> int:
        """In steps, or the log grows as large as all that leaves."""
        before = self.count
        while self._has_older(oldest):
            with self._transaction("NORMAL"):
                found = self._delete_oldest(1 + self.count // _PART, oldest)
                self._note_lost(self.lost + found)
            self.count, self.lost = self.count - found, self.lost + found
        return before - self.count

    def _has_older(self, oldest: float) -> bool:
        first = self._connection.execute(f"SELECT {_AT} FROM kept ORDER BY number LIMIT 1").fetchone()  # noqa: S608 - as above
        return first is not None and not (isinstance(first[0], float) and first[0] >= oldest)

    def _delete_oldest(self, count: int, until: float = inf) -> int:
        """Of the `count` oldest those before that moment; gives how many they were."""
        query = "DELETE FROM kept WHERE number IN (SELECT number FROM kept ORDER BY number LIMIT ?) AND "
        query += "(typeof(at) <> 'real' OR at < ?)"  # what the disk has spoilt is older than anything
        return self._connection.execute(query, (count, until)).rowcount

    def _note_lost(self, lost: int) -> None:
        if lost != self.lost:
            self._connection.execute("UPDATE lost SET number = ?", (lost,))

    def head(self, count: int) -> list[Row]:
        """The oldest ones, at most `count`. What is not as it was written leaves, and is noted as lost."""
        while True:
            found = self._connection.execute(_OLDEST, (count,)).fetchall()
            rows = [_sound(*row) for row in found]
            spoilt = [row[0] for row, sound in zip(found, rows, strict=True) if sound is None]
            if not spoilt:
                break
            with self._transaction("NORMAL"):
                gone = self._connection.executemany("DELETE FROM kept WHERE number = ?", ((one,) for one in spoilt))
                self._note_lost(self.lost + len(spoilt))
            if gone.rowcount < len(spoilt):  # no search finds what is there
                raise _damage("it is out of order")
            self.count, self.lost = self.count - len(spoilt), self.lost + len(spoilt)
        if len(rows) < min(count, self.count):
            raise _damage("it holds less than it says")
        return [row for row in rows if row is not None]

    def remove(self, numbers: Iterable[int]) -> None:
        """Delete; numbers that are not there do no harm. After a power loss the last of them may be there again."""
        with self._transaction("NORMAL"):
            found = self._connection.executemany("DELETE FROM kept WHERE number = ?", ((one,) for one in numbers))
        self.count -= max(found.rowcount, 0)

    def close(self) -> None:
        self._connection.close()

    def end(self) -> None:
        """Leave nothing of it, and close; still open if that cannot be."""
        self._path.unlink(missing_ok=True)
        self.close()
        for end in _COMPANIONS:
            with suppress(OSError):
                self._path.with_name(self._path.name + end).unlink()

    @contextmanager
    def _transaction(self, synchronous: str) -> Iterator[None]:
        """All of it or nothing. FULL: it is on the disk at the end; NORMAL: in order, but perhaps not yet."""
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(*trouble()):
                self._connection.execute("ROLLBACK")
            raise

    def _one(self, query: str) -> tuple[int, ...]:
        row = self._connection.execute(query).fetchone()
        if row is None or not all(isinstance(one, int) for one in row):
            raise _damage("a number is missing in it")
        found: tuple[int, ...] = row
        return found

    def _pages(self) -> int:
        (pages,), (free,) = self._one("PRAGMA page_count"), self._one("PRAGMA freelist_count")
        return pages - free


def _sum(topic: str, payload: str) -> int:
    return zlib.crc32(f"{topic}\0{payload}".encode())


def _sound(number: int, at: object, topic: object, payload: object, check: object) -> Row | None:
    """The row, unless the disk has made another one of it; those of version 1 have no sum."""
    if not isinstance(at, float) or not isinstance(topic, bytes) or not isinstance(payload, bytes):
        return None
    if check is not None and check != zlib.crc32(topic + b"\0" + payload):
        return None
    try:
        return Row(number, at, topic.decode(), payload.decode())
    except UnicodeDecodeError:
        return None


def _damage(what: str) -> Exception:
    import sqlite3  # noqa: PLC0415 - as above

    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = _NO_DATABASE
    return error


def _sync(folder: Path) -> None:
    """Or the new name is lost with the power."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
