"""Time that leaps to the next timer as soon as nobody has anything to do, a wire in memory, and a broker in memory.

The daemon runs on them as it is: it asks `time.monotonic` and `time.time`, opens the port `memory://NAME:1` and is
`connected` to its broker; weeks of it take minutes.
"""

import asyncio
import selectors
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from unittest import mock

from bench.hurry import AtOnce
from mbusd.line import transport
from mbusd.line.transport import Port, ProtocolFactory, TransportError
from mbusd.mbus.frames import FrameReader, Noise
from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.superposition import superpose
from mbusd.sinks import mqtt
from mbusd.sinks.connection import Lost
from mbusd.sinks.topics import Message

BITS = 11  # of a character


class Clock(selectors.DefaultSelector):
    """Both clocks of the machine, and the selector of a loop: instead of waiting it moves them on."""

    def __init__(self, wall: float) -> None:
        super().__init__()
        self.seconds = 1000.0
        self.ahead = wall - self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self.seconds + self.ahead

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; else the time is over at once. Without a timer only a thread can bring anything."""
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self.seconds += timeout
        return ready


@contextmanager
def simulated_time(wall: float) -> Iterator[tuple[Clock, asyncio.AbstractEventLoop]]:
    """A loop on a clock of its own, which shows `wall` at first, in seconds since 1970."""
    clock = Clock(wall)
    with mock.patch.object(time, "monotonic", clock.monotonic), mock.patch.object(time, "time", clock.wall):
        loop = asyncio.SelectorEventLoop(clock)
        loop.set_default_executor(AtOnce())
        try:
            yield clock, loop
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


@dataclass
class Cellar:
    """A simulated bus behind a converter. `spoils`: what becomes of an answer: its bytes and how late they come."""

    bus: SimulatedBus
    baudrate: int
    spoils: Callable[[bytes], tuple[bytes, float]] = lambda data: (data, 0.0)
    is_away: bool = False
    line: "Line | None" = None

    def unplug(self) -> None:
        """The port is lost, and cannot be opened until it is plugged in again."""
        self.is_away = True
        if self.line is not None:
            self.line.end(OSError("unplugged"))


class Line(asyncio.Transport):
    """The open port. An answer arrives in one piece when its last byte would."""

    def __init__(self, cellar: Cellar, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._cellar = cellar
        self._protocol = protocol
        self._reader = FrameReader()
        self._loop = asyncio.get_running_loop()
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        character = BITS / self._cellar.baudrate
        end = self._loop.time() + len(data) * character
        for frame in self._reader.feed(bytes(data)):
            if isinstance(frame, Noise):
                continue
            answers = self._cellar.bus.answers(frame, end)
            if not answers:
                continue
            one_alone = len(answers) == 1
            spoken = answers[0].data if one_alone else superpose((0, answer.data) for answer in answers)
            heard, late = self._cellar.spoils(spoken)
            if heard:
                pause = max(answer.delay for answer in answers) + late
                self._loop.call_at(end + pause + len(heard) * character, self._deliver, heard)

    def _deliver(self, data: bytes) -> None:
        if not self._is_closing:
            self._protocol.data_received(data)

    def end(self, why: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._protocol.connection_lost, why)

    def close(self) -> None:
        self.end(None)

    def abort(self) -> None:
        self.end(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return 0


@contextmanager
def ports_in_memory(cellars: dict[str, Cellar]) -> Iterator[None]:
    """Ports called `memory://NAME:1` lead to these."""

    async def opened(port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
        cellar = cellars[transport.host_and_port(port.name)[0]]
        if cellar.is_away:
            raise TransportError(port.name, "it is unplugged")
        made = protocol()
        cellar.line = Line(cellar, made)
        made.connection_made(cellar.line)
        return cellar.line

    with mock.patch.dict(transport._OPENERS, memory=opened):  # noqa: SLF001 - where a new transport is entered
        yield


class MemoryBroker:
    """A broker that takes everything, and remembers what was retained. `published`: told of each message."""

    def __init__(self, published: Callable[[str, str], None]) -> None:
        self.is_away = False
        self.retained: dict[str, bytes] = {}
        self.count = 0
        self._published = published
        self._clients: set[MemoryClient] = set()

    def say(self, topic: str, payload: str) -> None:
        """Somebody publishes this for us."""
        for client in self._clients:
            client.hears((topic, payload, False))

    def kill(self) -> None:
        """All connections break, and none can be made."""
        self.is_away = True
        for client in self._clients:
            client.hears(None)

    def connect(self, client: "MemoryClient") -> None:
        if self.is_away:
            raise Lost("the broker is away: connection refused")
        self._clients.add(client)

    def disconnect(self, client: "MemoryClient") -> None:
        self._clients.discard(client)

    def take(self, message: Message) -> None:
        self.count += 1
        if message.retain:
            self.retained.pop(message.topic, None)
            if message.payload:
                self.retained[message.topic] = message.payload.encode()
        self._published(message.topic, message.payload)


class MemoryClient:
    """What sinks/mqtt.py asks of a `Connection`."""

    name = "memory"

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._inbox: deque[tuple[str, str, bool] | None] = deque()
        self._news = asyncio.Event()

    def hears(self, message: tuple[str, str, bool] | None) -> None:
        """A message; None: the connection is broken."""
        self._inbox.append(message)
        self._news.set()

    async def received(self) -> AsyncIterator[tuple[str, str, bool]]:
        while True:
            while self._inbox:
                message = self._inbox.popleft()
                if message is None:
                    raise Lost("the broker is away: the connection is broken")
                yield message
            self._news.clear()
            await self._news.wait()

    async def subscribe(self, _topics: Iterable[str]) -> list[str]:
        await asyncio.sleep(0)
        return []

    def send(self, message: Message, landed: Callable[[], None]) -> None:
        if self._broker.is_away:
            raise Lost("the broker is away: the connection is broken")
        self._broker.take(message)
        asyncio.get_running_loop().call_soon(landed)

    async def publish(self, message: Message) -> None:
        await asyncio.sleep(0)
        if self._broker.is_away:
            raise Lost("the broker is away: the connection is broken")
        self._broker.take(message)


@contextmanager
def broker_in_memory(broker: MemoryBroker) -> Iterator[None]:
    """Every connection is one to this broker."""

    @asynccontextmanager
    async def connected(*_words: object) -> AsyncIterator[MemoryClient]:
        await asyncio.sleep(0.001)
        client = MemoryClient(broker)
        broker.connect(client)
        try:
            yield client
        finally:
            broker.disconnect(client)

    with mock.patch.object(mqtt, "connected", connected):
        yield
