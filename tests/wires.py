"""Real ends of real wires for tests: a pseudo-terminal and a TCP peer that do what a test tells them."""

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from mbusd.line.transport import Port

PATIENCE = 20.0  # seconds, for a machine that is busy with other things


@dataclass
class Terminal:
    """A pseudo-terminal; `device` is what a master opens, `end` the descriptor of the converter's end."""

    device: str
    end: int

    def unplug(self) -> None:
        """The device vanishes."""
        os.close(self.end)
        self.end = -1


@contextmanager
def terminal() -> Iterator[Terminal]:
    """A pseudo-terminal with nobody on it."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    made = Terminal(os.ttyname(theirs), ours)
    os.close(theirs)
    try:
        yield made
    finally:
        if made.end >= 0:
            made.unplug()


class Peer(asyncio.Protocol):
    """The converter's end of one TCP connection."""

    def __init__(self, *, leaves: bool = False) -> None:
        self._leaves = leaves
        self.received = bytearray()
        self.gone = asyncio.Event()
        self._news = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._leaves:
            transport.close()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.gone.set()

    async def hears(self, size: int) -> bytes:
        """The next bytes of the master."""
        async with asyncio.timeout(PATIENCE):
            while len(self.received) < size:
                self._news.clear()
                await self._news.wait()
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    def says(self, text: str) -> None:
        assert self._transport is not None
        self._transport.write(bytes.fromhex(text))

    def floods(self) -> None:
        """Talks without end, as fast as the line takes it."""
        assert self._transport is not None
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() < 1 << 20:
            self._transport.write(b"\x55" * (1 << 16))
        asyncio.get_running_loop().call_soon(self.floods)

    def hangs_up(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def resets(self) -> None:
        """Ends the connection as a converter does that has lost its power in between."""
        assert self._transport is not None
        self._transport.abort()


@dataclass
class Converter:
    """A TCP server; each connection is a `Peer`, in the order of coming."""

    host: str
    number: int = 0
    peers: list[Peer] = field(default_factory=list)
    closes_at_once: bool = False
    _server: asyncio.Server | None = None
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def port(self) -> Port:
        return self.at(2400)

    def at(self, baudrate: int) -> Port:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return Port(f"tcp://{host}:{self.number}", baudrate)

    def _accept(self) -> Peer:
        peer = Peer(leaves=self.closes_at_once)
        self.peers.append(peer)
        self._came.set()
        return peer

    async def peer(self, number: int = 0) -> Peer:
        """The connection with this number, as soon as it is there."""
        async with asyncio.timeout(PATIENCE):
            while len(self.peers) <= number:
                self._came.clear()
                await self._came.wait()
        return self.peers[number]

    async def listen(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._accept, self.host, self.number)
        self.number = self._server.sockets[0].getsockname()[1]

    async def leave(self) -> None:
        """Nobody listens here any more, and all connections end."""
        if self._server is None:
            return
        self._server.close()
        for peer in self.peers:
            peer.resets()
        await self._server.wait_closed()
        self._server = None


@asynccontextmanager
async def converter(host: str = "127.0.0.1") -> AsyncIterator[Converter]:
    """A TCP converter on a free port."""
    made = Converter(host)
    await made.listen()
    try:
        yield made
    finally:
        await made.leave()


@asynccontextmanager
async def oversleeping() -> AsyncIterator[list[float]]:
    """How much later than it wanted to, in seconds, this loop has woken up meanwhile, each millisecond again."""
    late = [0.0]

    async def doze() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.001
            await asyncio.sleep(0.001)
            late.append(loop.time() - due)

    task = asyncio.create_task(doze())
    try:
        yield late
    finally:
        task.cancel()
