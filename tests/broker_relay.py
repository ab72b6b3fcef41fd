"""The way to a broker, with the faults of ways and of brokers: nothing comes back, nothing gets through, it is cut.

It reads what the broker says packet by packet (MQTT 3.1.1 cl. 2.2), so that some kinds can be kept back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.mosquitto import PATIENCE

CONNACK, PUBACK = 2, 4  # kinds of packets, cl. 2.2.1


@dataclass
class BrokerRelay:
    """`withheld`: kinds of packets of the broker that are kept back; `delay`: seconds for each piece, each way."""

    number: int
    withheld: frozenset[int] = frozenset()
    held: frozenset[int] = frozenset()  # as `withheld`, but to come later
    delay: float = 0.0
    is_dead: bool = False  # nothing gets through in either direction, and nobody hears of it
    refuses: bool = False  # new connections are closed at once
    connections: int = 0
    kept: int = 0  # packets that were kept back
    most_unanswered: int = 0  # packets kept back on one connection
    _ways: set["_Way"] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def connected(self, count: int) -> None:
        """Wait until there were so many connections."""
        async with asyncio.timeout(PATIENCE):
            while self.connections < count:
                self._news.clear()
                await self._news.wait()

    def add(self, way: "_Way") -> None:
        self.connections += 1
        self._ways.add(way)
        self._news.set()

    def hold(self, *kinds: int) -> None:
        """Keep these kinds of packets back until `release`."""
        self.held = frozenset(kinds)

    def release(self) -> None:
        """What was held comes now."""
        self.held = frozenset()
        for way in tuple(self._ways):
            way.release()

    def cut(self) -> None:
        """Every connection is reset."""
        for way in tuple(self._ways):
            way.close()


class _Way:
    """One connection: the client's end and the broker's."""

    def __init__(self, relay: BrokerRelay) -> None:
        self.relay = relay
        self.client: asyncio.Transport | None = None
        self.broker: asyncio.Transport | None = None
        self.early = bytearray()
        self.answers = bytearray()
        self.late = bytearray()
        self.kept = 0

    def close(self) -> None:
        self.relay._ways.discard(self)  # noqa: SLF001 - its own box
        for end in (self.client, self.broker):
            if end is not None:
                end.abort()

    def from_client(self, data: bytes) -> None:
        if self.broker is None:
            self.early += data
        else:
            self.hand_on(self.broker, data)

    def from_broker(self, data: bytes) -> None:
        self.answers += data
        while (packet := self._packet()) is not None:
            if packet[0] >> 4 in self.relay.withheld:
                self.relay.kept += 1
                self.kept += 1
                self.relay.most_unanswered = max(self.relay.most_unanswered, self.kept)
            elif packet[0] >> 4 in self.relay.held:
                self.late += packet
            elif self.client is not None:
                self.hand_on(self.client, packet)

    def release(self) -> None:
        if self.client is not None:
            self.hand_on(self.client, bytes(self.late))
        self.late.clear()

    def _packet(self) -> bytes | None:
        """The next whole one: its length is in 7 bits a byte, the lowest first (cl. 2.2.3)."""
        size = 0
        for at, byte in enumerate(self.answers[1:5]):
            size |= (byte & 0x7F) << (7 * at)
            if byte < 0x80:
                end = at + 2 + size
                packet = bytes(self.answers[:end])
                if len(packet) < end:
                    return None
                del self.answers[:end]
                return packet
        return None

    def hand_on(self, end: asyncio.Transport, data: bytes) -> None:
        if self.relay.is_dead:
            return
        if self.relay.delay:
            asyncio.get_running_loop().call_later(self.relay.delay, end.write, data)
        else:
            end.write(data)


class _ClientEnd(asyncio.Protocol):
    def __init__(self, relay: BrokerRelay) -> None:
        self._way = _Way(relay)
        self._relay = relay
        self._task: asyncio.Task[object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._way.client = transport
        if self._relay.refuses:
            transport.abort()
            return
        self._relay.add(self._way)
        loop = asyncio.get_running_loop()
        connect = loop.create_connection(lambda: _BrokerEnd(self._way), "127.0.0.1", self._relay.number)
        self._task = loop.create_task(connect)

    def data_received(self, data: bytes) -> None:
        self._way.from_client(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self._relay.is_dead:
            self._way.close()


class _BrokerEnd(asyncio.Protocol):
    def __init__(self, way: _Way) -> None:
        self._way = way

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._way.broker = transport
        self._way.hand_on(transport, bytes(self._way.early))

    def data_received(self, data: bytes) -> None:
        self._way.from_broker(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self._way.relay.is_dead:
            self._way.close()


@asynccontextmanager
async def broker_relay(number: int) -> AsyncIterator[tuple[int, BrokerRelay]]:
    """A relay before the broker on TCP port `number`, and its own port."""
    relay = BrokerRelay(number)
    server = await asyncio.get_running_loop().create_server(lambda: _ClientEnd(relay), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], relay
    finally:
        server.close()
        relay.cut()
        await server.wait_closed()
