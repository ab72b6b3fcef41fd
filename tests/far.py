"""A bus behind a converter far away, on a clock that leaps to whatever comes next: hours of scans take seconds."""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TypeVar
from unittest import mock

from mbusd.line.bus import Bus
from mbusd.line.transport import Port, ProtocolFactory
from mbusd.mbus.frames import Frame, encode
from mbusd.simulation.simulator import Answer, SimulatedBus, SimulatedMeter
from mbusd.simulation.virtual_wire import Wire

T = TypeVar("T")
CLOCK_ERROR = 1e-6  # seconds


class LeapingClock(selectors.DefaultSelector):
    """The selector of a loop that waits for nothing but timers: time moves on at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nobody will ever wake this loop"
            self.seconds += max(0.0, timeout)
        return ready


def leaping(work: Callable[[], Coroutine[object, object, T]]) -> T:
    """What a coroutine gives that runs on such a clock."""
    clock = LeapingClock()
    with mock.patch.object(time, "monotonic", clock.monotonic):
        loop = asyncio.SelectorEventLoop(clock)
        try:
            return loop.run_until_complete(work())
        finally:
            loop.close()


class JudgedBus(SimulatedBus):
    """Notes each request that begins sooner than 11 bit times after an answer, or before a silent window has passed."""

    def __init__(self, meters: list[SimulatedMeter], baudrate: int) -> None:
        super().__init__(meters)
        self.violations: list[str] = []
        self.requests = 0
        self._bit = 1 / baudrate
        self._free_from = 0.0

    def answers(self, request: Frame, seconds: float) -> list[Answer]:
        self.requests += 1
        begin = seconds - 11 * len(encode(request)) * self._bit
        if begin < self._free_from - CLOCK_ERROR:
            self.violations.append(f"request {self.requests} is {1000 * (self._free_from - begin):.1f} ms too soon")
        answers = super().answers(request, seconds)
        ends = [seconds + one.delay + 11 * (len(one.data) + 1) * self._bit for one in answers]
        self._free_from = max(ends) + 11 * self._bit if ends else seconds + 330 * self._bit + 0.05
        return answers


@dataclass
class Way:
    """Seconds from the master to the wire, and back; each byte that arrives may be late by what `jitter` gives."""

    there: float = 0.0
    back: float = 0.0
    jitter: Callable[[], float] = field(default=lambda: 0.0)
    noise: Callable[[], tuple[float, bytes]] | None = None  # seconds until bytes come that nobody has sent


class Far(asyncio.Transport):
    """The master's end."""

    def __init__(self, wire: Wire, way: Way, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._wire = wire
        self._way = way
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._arrives = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        if way.noise is not None:
            self._disturb(b"")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._loop.call_later(self._way.there, self._send, bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self._is_closed = True

    def is_closing(self) -> bool:
        return self._is_closed

    def _disturb(self, data: bytes) -> None:
        if self._is_closed or self._way.noise is None:
            return
        self._receive(data)
        pause, following = self._way.noise()
        self._loop.call_later(pause, self._disturb, following)

    def _send(self, data: bytes) -> None:
        self._wire.send(data, self._loop.time())
        self._pump()

    def _pump(self) -> None:
        now = self._loop.time()
        arrived = self._wire.advance(now)
        if arrived:
            self._arrives = max(self._arrives + 1e-7, now + self._way.back + self._way.jitter())
            self._loop.call_at(self._arrives, self._receive, arrived)
        following = self._wire.next_event()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if following is None else self._loop.call_at(max(following, now + 1e-6), self._pump)

    def _receive(self, data: bytes) -> None:
        if data and not self._is_closed:
            self._protocol.data_received(data)


async def bus_far_away(simulated: SimulatedBus, way: Way, baudrate: int = 2400, scheme: str = "tcp") -> Bus:
    """An open bus to these meters."""

    async def opener(_: Port, factory: ProtocolFactory) -> asyncio.Transport:
        return Far(Wire(simulated, baudrate), way, factory())

    bus = Bus(Port("tcp://converter" if scheme == "tcp" else "/dev/converter", baudrate), opener=opener)
    await bus.open()
    return bus
