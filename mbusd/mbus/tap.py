"""Listening to another master: bytes of a tapped bus, with their times, become exchanges (EN 13757-2 cl. 5.5).

Times come from the caller, in seconds of any clock that never goes back. One adapter may hear both directions mixed,
or two hear one each: requests on the master's voltage, answers on the meters' current.
"""

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from mbusd.light import dataclass
from mbusd.mbus.exchanges import Direction, Exchange, Heard, MeterSeen, each_once
from mbusd.mbus.frames import Frame, FrameReader, Noise, encode
from mbusd.mbus.pairing import Pairing

_HEAD_START = 2  # characters: E5 begins 6 after its request and 2 before the next, at least; this is the middle


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of the tapped bus in seconds."""

    character: float  # 11 bits
    window: float  # from the end of a request to the latest begin of its answer, with what the adapter adds
    gap: float  # the longest pause inside a frame, with what the adapter adds
    hold: float = (
        0.0  # with two adapters: how much later than the other one may hand over its bytes; 4 characters are safe
    )


class Tap:
    """Feed it what each adapter hears; it gives the exchanges as soon as nothing can be added to them."""

    def __init__(self, pace: Pace, directions: Sequence[Direction | None] = (None,)) -> None:
        self._pace = pace
        self._ears = [_Ear(pace, direction) for direction in directions]
        self._waiting: list[tuple[float, int, float, Heard]] = []  # begin, order, arrival
        self._count = 0
        self._pairs = Pairing()
        self._now = float("-inf")
        self.crossed = 0  # frames that came from the adapter of the other direction

    def feed(self, received: bytes, at: float, source: int = 0) -> list[Exchange]:
        """Bytes that the adapter `source` handed over at this moment."""
        self._collect(self._ears[source].feed(received, at), at)
        return self.pause(at)

    def pause(self, now: float) -> list[Exchange]:
        """Nothing more until now; to be called a few times a second while the bus is quiet."""
        self._now = max(self._now, now)
        for ear in self._ears:
            self._collect(ear.pause(self._now), self._now)
        done = list(self._release(self._now - self._pace.hold))
        if not self._waiting and all(ear.is_idle for ear in self._ears):
            done += self._expire(self._now - self._pace.hold)
        return done

    def end(self) -> list[Exchange]:
        """Nothing more will come: what is unfinished ends here."""
        for ear in self._ears:
            self._collect(ear.flush(), self._now)
        return [*self._release(float("inf")), *self._expire(float("inf"))]

    def meters(self) -> tuple[MeterSeen, ...]:
        """Everybody who was asked for data or answered, in the order of appearance, each once."""
        return tuple(each_once(tuple(self._pairs.seen.values())))

    def _collect(self, heard: Iterator[Heard], at: float) -> None:
        for one in heard:
            self._count += 1
            self.crossed += not isinstance(one.event, Noise) and one.direction not in (None, one.sender)
            is_early = len(self._ears) > 1 and one.sender == "meter"
            head_start = _HEAD_START * self._pace.character if is_early else 0.0
            heappush(self._waiting, (one.begin - head_start, self._count, at, one))

    def _release(self, until: float) -> Iterator[Exchange]:
        """In the order of their begin, whichever adapter was the quicker one."""
        while self._waiting and self._waiting[0][2] <= until:
            heard = heappop(self._waiting)[3]
            yield from self._expire(heard.begin)
            yield from self._pairs.take(heard)

    def _expire(self, now: float) -> Iterator[Exchange]:
        yield from self._pairs.expire(now, self._pace.window, self._pace.gap)


class _Ear:
    """One adapter: bytes with the time of their arrival become frames with their time on the wire."""

    def __init__(self, pace: Pace, direction: Direction | None) -> None:
        self._pace = pace
        self._direction = direction
        self._reader = FrameReader()
        self._last = float("-inf")

    @property
    def is_idle(self) -> bool:
        return self._reader.is_idle

    def feed(self, received: bytes, at: float) -> Iterator[Heard]:
        """The last byte has just ended, those before it one character earlier each: adapters hand over pieces."""
        yield from self.pause(at - self._pace.character * len(received))
        for index, byte in enumerate(received, 1 - len(received)):
            self._last = max(self._last, at + self._pace.character * index)
            yield from self._placed(tuple(self._reader.feed(bytes([byte]))), self._last)

    def pause(self, now: float) -> Iterator[Heard]:
        if now - self._last > self._pace.gap:
            yield from self.flush()

    def flush(self) -> Iterator[Heard]:
        yield from self._placed(tuple(self._reader.flush()), self._last)

    def _placed(self, events: Sequence[Frame | Noise], end: float) -> Iterator[Heard]:
        """Events that a byte completes, with the last of them at its end and the others straight before it."""
        sizes = [len(event.data) if isinstance(event, Noise) else len(encode(event)) for event in events]
        begin = end - self._pace.character * sum(sizes)
        for event, size in zip(events, sizes, strict=True):
            ends = begin + self._pace.character * size
            yield Heard(begin, ends, event, self._direction)
            begin = ends
