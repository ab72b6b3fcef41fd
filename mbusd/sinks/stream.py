"""Messages that must not be lost, in order: in memory while the broker takes them at once, else in the spool.

While the broker is away, is late with an acknowledgement, or has not yet had what the spool holds, everything goes to
the spool first; what the broker acknowledges is dropped from it. So nothing is written while all is well, and kill -9
loses no more than what was younger than the broker's lateness. What has no time yet goes there in any case. After a
connection what waits is held back for a moment: listeners must be back, too, or the broker acknowledges for nobody.
"""

import asyncio
import itertools
import logging
from collections import deque
from contextlib import suppress
from typing import NoReturn

from mbusd.clock import LOOK_SECONDS
from mbusd.light import dataclass
from mbusd.sinks.topics import Message
from mbusd.sinks.undated import DatedSpool, is_dated
from mbusd.spool import Entry, Kept, Spool

log = logging.getLogger(__name__)

BATCH = 100  # messages that are fetched from the spool at once


@dataclass(slots=True)
class _Flight:
    """A message on its way; `number`: of the spool, None where only memory holds it."""

    message: Message
    at: float
    number: int | None = None
    is_acknowledged: bool = False


class Stream:
    """What `take` gives is on its way until `landed` or `lost` is said of it. `news` is set when there is more to take.

    The spool is called in threads, one call at a time: an SD card may take a second, and nobody waits for it.
    """

    def __init__(self, spool: Spool, news: asyncio.Event) -> None:
        self._spool = DatedSpool(spool)
        self._news = news
        self._work = asyncio.Event()
        self._step: asyncio.Task[None] | None = None
        self._fresh: list[Entry] = []  # in memory only, not on their way
        self._flights: dict[int, _Flight] = {}
        self._writing: list[_Flight] = []  # of those, what a thread is just writing
        self._fetched: deque[Kept] = deque()
        self._acknowledged: list[int] = []
        self._tokens = itertools.count(1)
        self._stored = len(self._spool)  # those on their way among them
        self._is_connected = False
        self._is_late = False
        self._told = self._spool.lost  # of what the spool has lost

    @property
    def _is_direct(self) -> bool:
        """Whether memory does."""
        is_busy = self._step is not None and not self._step.done()
        return self._is_connected and not self._is_late and not is_busy and self._stored == 0

    @property
    def has_backlog(self) -> bool:
        """Whether anything waits that was to be said before."""
        return self._stored > 0 or bool(self._fresh)

    def add(self, message: Message) -> None:
        """Say it as soon as it is its turn."""
        self._fresh.append(self._spool.entry(message.topic, message.payload))
        self._news.set()
        if not self._is_direct or not is_dated(message.payload):
            self._work.set()

    def connected(self) -> None:
        """The broker listens: first to what the spool holds."""
        self._is_connected = True
        self.late(is_late=False)
        self._work.set()

    def late(self, *, is_late: bool) -> None:
        """Whether the broker leaves us waiting: what only memory holds is made safe."""
        if self._is_late != is_late:
            self._is_late = is_late
            self._work.set()

    def lost(self) -> None:
        """The connection is gone: what was on its way is to be sent again, before the rest."""
        self._is_connected = False
        unwritten = [
            flight
            for flight in self._flights.values()
            if flight.number is None and not any(flight is other for other in self._writing)
        ]
        self._flights.clear()
        self._fetched.clear()
        self._fresh[:0] = map(_entry, unwritten)
        self._work.set()

    def take(self) -> tuple[int, Message] | None:
        """The next to be sent and the number under which it is on its way; None where it is nobody's turn."""
        if not self._is_connected:
            return None
        if self._fetched:
            kept = self._fetched.popleft()
            flight = _Flight(_message(kept.topic, kept.payload), 0.0, kept.number)
            if not self._fetched:
                self._work.set()
        elif self._fresh and self._is_direct and is_dated(self._fresh[0].payload):
            entry = self._fresh.pop(0)
            flight = _Flight(_message(entry.topic, entry.payload), entry.at)
        else:
            return None
        token = next(self._tokens)
        self._flights[token] = flight
        return token, flight.message

    def landed(self, token: int) -> None:
        """The broker has acknowledged it."""
        flight = self._flights.pop(token, None)
        if flight is None:
            return
        flight.is_acknowledged = True
        if flight.number is not None:
            self._acknowledged.append(flight.number)
            self._work.set()

    async def keep(self) -> NoReturn:
        """Write, drop and fetch, until cancelled."""
        while True:
            await self._has_work()
            self._work.clear()
            self._step = asyncio.create_task(self._exchange(), name="mqtt: spool")
            await asyncio.shield(self._step)  # what a thread has begun, it ends
            if not self._is_direct and (self._fresh or self._acknowledged):
                self._work.set()
            self._news.set()
            self._tell_losses()

    async def _has_work(self) -> None:
        """Wait for it. Nobody tells when the clock of the machine is set: while something waits for that, we look."""
        while self._spool.undated and not self._work.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._work.wait()
            if self._spool.is_due():
                return
        await self._work.wait()

    async def close(self) -> None:
        """What the broker has not acknowledged goes to the spool."""
        if self._step is not None:
            await self._step
        self.lost()
        await self._exchange()
        self._spool.close()

    def _tell_losses(self) -> None:
        """When it begins, whenever they have doubled, and when the broker has had the rest."""
        lost = self._spool.lost
        if lost > self._told and (lost >= 2 * self._told or self._stored == 0):
            log.warning("%d messages to the broker are lost: older than mqtt.history_age, or beyond history_size", lost)
            self._told = lost

    async def _exchange(self) -> None:
        is_direct = self._is_connected and not self._is_late and self._stored == 0
        is_direct = is_direct and all(is_dated(entry.payload) for entry in self._fresh)
        numbers, self._acknowledged = self._acknowledged, []
        entries: list[Entry] = []
        if not is_direct:
            self._writing = [flight for flight in self._flights.values() if flight.number is None]
            entries = [*map(_entry, self._writing), *self._fresh]
            self._fresh = []
        fetches = self._is_connected and not self._fetched and not is_direct
        wanted = len(self._flights) + BATCH if fetches else len(self._writing)
        if entries or numbers or wanted or self._spool.is_due():
            self._stored, kept = await asyncio.to_thread(self._to_disk, numbers, entries, wanted)
            self._written(kept)
        self._writing = []

    def _to_disk(self, numbers: list[int], entries: list[Entry], wanted: int) -> tuple[int, tuple[Kept, ...]]:
        """In a thread. Gives how many the spool holds, and the first ones."""
        self._spool.drop(numbers)
        self._spool.date()
        self._spool.extend(entries)
        return len(self._spool), self._spool.head(wanted)

    def _written(self, kept: tuple[Kept, ...]) -> None:
        """What was written of what is on its way comes before all else: nothing was in the spool when it was sent."""
        for flight, one in zip(self._writing, kept, strict=False):
            if (one.topic, one.payload) == _readable(flight.message):
                flight.number = one.number
                if flight.is_acknowledged:  # meanwhile
                    self._acknowledged.append(one.number)
        if self._is_connected and not self._fetched:
            known = {flight.number for flight in self._flights.values()} | set(self._acknowledged)
            self._fetched.extend(one for one in kept if one.number not in known)


def _entry(flight: _Flight) -> Entry:
    return Entry(flight.message.topic, flight.message.payload, flight.at)


def _message(topic: str, payload: str) -> Message:
    return Message(topic, payload, retain=False, is_unique=True, is_stream=True)


def _readable(message: Message) -> tuple[str, str]:
    """As the spool gives it back."""
    return message.topic, message.payload.encode("utf-8", "replace").decode()
