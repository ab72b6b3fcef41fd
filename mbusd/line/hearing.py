"""What a port hears: bytes and when they came, which of them came broken, and the frames in which none is broken."""

import asyncio
import time
from collections.abc import Iterator
from typing import NamedTuple

from mbusd.mbus.frames import LONGEST, Ack, Frame, FrameReader, Nack, Noise, encode

MOST_BYTES = 4 * LONGEST  # of one exchange: more is no bus, but something that talks without end


class Heard(NamedTuple):
    """Bytes, and the places of those with a parity or framing error."""

    data: bytes
    broken: frozenset[int]


class BusProtocol(asyncio.Protocol):
    """Bytes that arrived, and when the first and the last of them did; wakes whoever waits for more."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._broken = set[int]()
        self._news = asyncio.Event()
        self.first_byte_at = self.last_byte_at = 0.0
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.last_byte_at = time.monotonic()
        if not self._received:
            self.first_byte_at = self.last_byte_at
        self._received += data[: MOST_BYTES - len(self._received)]
        self._news.set()

    def broken_received(self, data: bytes) -> None:
        """Bytes with a parity or framing error, as well as they could be read."""
        begin = len(self._received)
        self.data_received(data)
        self._broken.update(range(begin, len(self._received)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(str(exc) if exc else "the connection was closed")

    def end(self, why: str) -> None:
        """The port is lost, for this reason; what is told later counts no more."""
        if not self.lost.done():
            self.lost.set_result(why)
        self._news.set()

    def take(self) -> Heard:
        """What has arrived since the last call."""
        heard = Heard(bytes(self._received), frozenset(self._broken))
        self._received.clear()
        self._broken.clear()
        self._news.clear()
        return heard

    async def more(self, deadline: float) -> bool:
        """Whether anything arrived (or the port was lost) before `deadline` of the monotonic clock."""
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._news.wait()
        except TimeoutError:
            return self._news.is_set()
        return True


class CheckedReader(FrameReader):
    """A reader of frames that is told which bytes were broken: a frame that holds one is noise, whatever its checksum.

    So is an E5 directly behind such a frame, as behind any noise.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fed = 0
        self._judged = 0  # bytes that have become frames or noise
        self._broken = set[int]()
        self._is_after_broken = False

    @property
    def is_waiting(self) -> bool:
        """The beginning of a frame is there, and the rest of it is missing."""
        return bool(self._pending)

    def hear(self, heard: Heard) -> Iterator[Frame | Noise]:
        """As `feed`."""
        self._broken.update(self._fed + place for place in heard.broken)
        self._fed += len(heard.data)
        for event in self.feed(heard.data):
            yield self._checked(event)

    def end(self) -> Iterator[Frame | Noise]:
        """As `flush`."""
        for event in self.flush():
            yield self._checked(event)

    def reset(self) -> None:
        super().reset()
        self._fed = self._judged = 0
        self._broken.clear()
        self._is_after_broken = False

    def _checked(self, event: Frame | Noise) -> Frame | Noise:
        data = event.data if isinstance(event, Noise) else encode(event)
        begin, self._judged = self._judged, self._judged + len(data)
        is_broken = not self._broken.isdisjoint(range(begin, self._judged))
        if isinstance(event, Ack | Nack):
            is_broken = is_broken or self._is_after_broken
        self._is_after_broken = is_broken
        return Noise(data) if is_broken else event
