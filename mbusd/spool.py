"""What must not be lost waits here, in order, while the broker is away: on the disk, bounded by size and by age.

No file is there before something waits, and none when all of it has gone. What the disk does not take is kept in
memory, as far as that reaches, and goes to the disk as soon as it can.
"""

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mbusd.spool_file import Row, SpoolFile, is_damage, put_aside, trouble

log = logging.getLogger(__name__)

MEMORY_BYTES = 8_000_000  # at the most, where no disk takes it
_ROW_BYTES = 300  # what a message costs in memory besides its text


class Kept(NamedTuple):
    """A message that waits; `number` grows from each to the next; `at` as it came."""

    number: int
    topic: str
    payload: str
    at: float


class Entry(NamedTuple):
    """A message that is to wait; `at`: of which moment it is, in Unix seconds or those of another clock."""

    topic: str
    payload: str
    at: float


class Spool:
    """Messages in order, until they are dropped. `path` None: in memory only.

    `lost`: how many had to leave for want of room or were too old, since the file was begun, be it in an earlier life.
    Any thread may call; nothing here raises what the disk raises.
    """

    def __init__(self, path: Path | None, most_bytes: int, most_age: float) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._most_age = most_age
        self._file: SpoolFile | None = None
        self._memory: deque[Row] = deque()  # younger than all that is in the file
        self._memory_bytes = 0
        self._gone: set[int] = set()  # arrived, but the file could not be told
        self._last = 0
        self._shift: int | None = None  # from our numbers to those of the file; what earlier lives left is 0 and below
        self._settled = 0  # of `lost`: those from before the file
        self._trouble = ""
        self._lock = threading.RLock()
        self.lost = 0
        if path is None:
            log.info("what waits for the broker waits in memory only: there is no state_dir, and no $STATE_DIRECTORY")
        self._find_file()

    def beside(self, name: str | None) -> "Spool":
        """Another one within the same bounds, in a file of that name beside; None: in memory only."""
        path = None if self._path is None or name is None else self._path.with_name(name)
        return Spool(path, self._most_bytes, self._most_age)

    def names(self, pattern: str) -> list[str]:
        """The files beside it that are called so, by `*` and `?`."""
        found: list[str] = []
        if self._path is not None:
            with suppress(OSError):
                found = sorted(path.name for path in self._path.parent.glob(pattern))
        return found

    def __len__(self) -> int:
        on_disk = 0 if self._file is None else self._file.count - len(self._gone)
        return max(on_disk, 0) + len(self._memory)

    def append(self, topic: str, payload: str, at: float) -> None:
        """Keep a message of the moment `at` in Unix seconds; no power loss takes it any more when this returns."""
        self.extend((Entry(topic, payload, at),))

    def extend(self, entries: Iterable[Entry]) -> None:
        """Keep several in order, which is cheaper for the disk than one by one."""
        with self._lock:
            for topic, payload, at in entries:
                self._last += 1
                row = Row(self._last, at, _writable(topic), _writable(payload))
                self._memory.append(row)
                self._memory_bytes += _size(row)
            self._save()
            self._trim()

    def head(self, count: int) -> tuple[Kept, ...]:
        """The oldest ones, at most `count`."""
        with self._lock:
            self._find_file()
            found: list[Row] = []
            if self._file is not None:
                with self._surviving():
                    rows = [_moved(row, -(self._shift or 0)) for row in self._head(self._file, count + len(self._gone))]
                    found = [row for row in rows if row.number not in self._gone]
            found = [*found[:count], *islice(self._memory, max(count - len(found), 0))]
            return tuple(Kept(row.number, row.topic, row.payload, row.at) for row in found)

    def drop(self, numbers: Iterable[int]) -> None:
        """These have arrived. After a power loss the last of them may come back."""
        with self._lock:
            dropped = set(numbers)
            while self._memory and self._memory[0].number in dropped:
                dropped.remove(self._pop().number)
            amid = {row.number for row in self._memory} & dropped if self._memory and dropped else set()
            if amid:
                self._memory = deque(row for row in self._memory if row.number not in amid)
                self._memory_bytes = sum(map(_size, self._memory))
            if self._file is None:
                return
            self._gone |= dropped - amid
            with self._surviving():
                self._forget(self._file)

    def close(self) -> None:
        """Put the file down; what waits stays in it."""
        with self._lock:
            self._save()
            if self._file is not None:
                with self._surviving():
                    self._forget(self._file)
            if self._file is not None:
                self._file.close()
                self._file = None
                self._gone.clear()

    def _pop(self) -> Row:
        """The oldest leaves memory."""
        row = self._memory.popleft()
        self._memory_bytes -= _size(row)
        return row

    def _save(self) -> None:
        """What is in memory goes to the disk, as far as the disk takes it."""
        if self._path is None or not self._memory:
            return
        while self._memory:
            if not self._has_saved(self._path) and not self._has_saved(self._path):  # a damaged file is put aside first
                return
        if self._trouble:
            log.info("%s takes what waits for the broker again", self._path)
            self._trouble = ""

    def _has_saved(self, path: Path) -> bool:
        """Whether some of it is on the disk now: as much as goes well at once."""
        with self._surviving():
            if self._file is not None:
                self._forget(self._file)
            file = self._opened(path)
            some: list[Row] = []
            size = 0
            for row in self._memory:
                size += _size(row)
                if some and size > file.most_at_once:
                    break
                some.append(_moved(row, self._shift or 0))
            self.lost += file.add(some, some[-1].at - self._most_age, self.lost - self._settled)
            for _ in some:
                self._pop()
            return True
        return False

    def _trim(self) -> None:
        """Memory has its bounds, too."""
        most = min(self._most_bytes, MEMORY_BYTES)
        while self._memory_bytes > most or (self._memory and self._memory[0].at < self._memory[-1].at - self._most_age):
            self._pop()
            self.lost += 1

    def _find_file(self) -> None:
        """What an earlier life has left, or what could not be opened before."""
        if self._file is None and self._path is not None:
            with self._surviving():
                if self._path.exists() and self._opened(self._path).count == 0 and self._file is not None:
                    self._end(self._file)

    def _opened(self, path: Path) -> SpoolFile:
        if self._file is None:
            self._file = SpoolFile(path, self._most_bytes)
            if self._shift is None:
                self._shift = self._file.last
                self.lost += self._file.lost
        return self._file

    def _forget(self, file: SpoolFile) -> None:
        """What has arrived leaves the file; if that is all there is, the file goes, even where the disk is full."""
        if not self._gone:
            return
        shift = self._shift or 0
        if all(row.number - shift in self._gone for row in self._head(file, len(self._gone) + 1)):
            self._end(file)
        else:
            file.remove(number + shift for number in self._gone)
        self._gone.clear()

    def _head(self, file: SpoolFile, count: int) -> list[Row]:
        """What the disk has spoilt is lost."""
        before = file.lost
        try:
            return file.head(count)
        finally:
            self.lost += file.lost - before

    def _end(self, file: SpoolFile) -> None:
        """Nothing waits there any more."""
        file.end()
        self._file = None
        self._settled = self.lost

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except trouble() as error:
            if is_damage(error):
                self._begin_anew(error)
                return
            hint = ""
            if "locked" in str(error):
                hint = " (by another daemon with the same state_dir?)"
            elif self._path is not None and self._path.parent.exists() and not os.access(self._path.parent, os.W_OK):
                hint = " (nothing can be written there)"
            most = f"memory keeps the last {min(self._most_bytes, MEMORY_BYTES) / 1e6:g} MB"
            self._warn(f"{self._path} cannot be used for what waits for the broker: {error}{hint}; {most}")

    def _warn(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble

    def _begin_anew(self, error: Exception) -> None:
        """The damaged file is there for whoever wants to look into it."""
        if self._path is None:
            return
        if self._file is not None:
            self.lost += len(self) - len(self._memory)
            with suppress(*trouble()):
                self._file.close()
        self._file = None
        self._gone.clear()
        try:
            aside = put_aside(self._path)
        except OSError as problem:
            self._warn(f"{self._path} is damaged ({error}) and cannot be put aside: {problem}")
        else:
            what = "what waited in it for the broker is not sent"
            log.warning("%s is damaged (%s): it is put aside as %s; %s", self._path, error, aside.name, what)


def _moved(row: Row, shift: int) -> Row:
    return row._replace(number=row.number + shift)


def _writable(text: str) -> str:
    """The text as it will be sent; half a surrogate pair cannot be written."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _size(row: Row) -> int:
    return sys.getsizeof(row.topic) + sys.getsizeof(row.payload) + _ROW_BYTES
