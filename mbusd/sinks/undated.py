"""What was read before the clock of this machine was set: it waits, in order, until its time is known.

It has a spool of its own, in which moments are seconds since the machine was started; once the clock is set that tells
when it was. The file is called by that start: of another one nobody can say when it was, and a wrong time is worse than
none.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import groupby

from mbusd.clock import is_set, start_of_machine
from mbusd.sinks.state import utc
from mbusd.spool import Entry, Kept, Spool

log = logging.getLogger(__name__)

UNDATED = 0  # where Unix seconds are wanted and nobody knows them
FILES = "undated-{}.sqlite"
BATCH = 500  # messages that get their time at once
_NO_TEXT, _NO_SECONDS = '{"time": null, ', f'{{"time": {UNDATED}, '


def is_dated(payload: str) -> bool:
    """Whether a message can be sent as it is: it has its time, or wants none."""
    return not payload.startswith((_NO_TEXT, _NO_SECONDS))


def dated(payload: str, moment: float) -> str:
    """The same with its time, in the form that it wants; `moment` in Unix seconds."""
    for start, value in ((_NO_TEXT, utc(datetime.fromtimestamp(moment, UTC))), (_NO_SECONDS, int(moment))):
        if payload.startswith(start):
            return f'{{"time": {json.dumps(value)}, {payload.removeprefix(start)}'
    return payload


class DatedSpool:
    """A spool that gives away no message without its time. Any thread may call, one at a time.

    `wall` and `monotonic`: the clocks of this machine, in seconds; `start`: the name of its last start, None: unknown.
    """

    def __init__(
        self,
        spool: Spool,
        wall: Callable[[], float] | None = None,
        monotonic: Callable[[], float] | None = None,
        start: Callable[[], str | None] = start_of_machine,
    ) -> None:
        self._spool = spool
        self._wall, self._monotonic = wall or time.time, monotonic or time.monotonic
        name = start()
        self._file = None if name is None else FILES.format(name)
        self._undated: Spool | None = None  # there is none as a rule
        self._forgotten = 0  # of other starts
        for file in spool.names(FILES.format("*")):
            if file == self._file:
                self._undated = spool.beside(file)
            else:
                self._forget(file)

    def __len__(self) -> int:
        return len(self._spool) + self.undated

    @property
    def undated(self) -> int:
        """How many wait for their time."""
        return 0 if self._undated is None else len(self._undated)

    @property
    def lost(self) -> int:
        """As a spool counts them; and those of which nobody knows when they were."""
        return self._spool.lost + self._forgotten + (0 if self._undated is None else self._undated.lost)

    def entry(self, topic: str, payload: str) -> Entry:
        """A message of now."""
        return Entry(topic, payload, self._wall() if is_dated(payload) else self._monotonic())

    def extend(self, entries: Iterable[Entry]) -> None:
        """Keep several in order; none of those that were before them comes later."""
        for is_complete, group in groupby(entries, key=lambda entry: is_dated(entry.payload)):
            if is_complete:
                self.date()
                self._spool.extend(group)
            else:
                self._undated = self._undated or self._spool.beside(self._file)
                self._undated.extend(group)

    def head(self, count: int) -> tuple[Kept, ...]:
        """The oldest ones that have their time, at most `count`."""
        return self._spool.head(count)

    def drop(self, numbers: Iterable[int]) -> None:
        """These have arrived."""
        self._spool.drop(numbers)

    def is_due(self) -> bool:
        """Whether something waits for its time that can be had now."""
        return self.undated > 0 and is_set(datetime.fromtimestamp(self._wall(), UTC))

    def date(self) -> None:
        """What waits for its time gets it, if the clock is set."""
        waits = self._undated
        if waits is None or not self.is_due():
            return
        start = self._wall() - self._monotonic()  # of the machine, in Unix seconds
        count = len(waits)
        while some := waits.head(BATCH):
            self._spool.extend(Entry(one.topic, dated(one.payload, start + one.at), start + one.at) for one in some)
            waits.drop(one.number for one in some)
        log.info("the clock of this machine is set: %d messages that waited for it have their time now", count)

    def close(self) -> None:
        """Put down the file of what still waits for its time."""
        if self._undated is not None:
            self._undated.close()

    def _forget(self, file: str) -> None:
        """Nobody will ever know their time."""
        spool = self._spool.beside(file)
        count = len(spool)
        while some := spool.head(BATCH):
            spool.drop(one.number for one in some)
        spool.close()
        self._forgotten += count
        log.warning("%d messages to the broker are lost: this machine was off before its clock was ever set", count)
