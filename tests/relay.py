"""A serial server between a master and a TCP bus, with the manners of such boxes: it cuts answers, or holds them."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

Break = Literal["close", "reset", "mute"]


@dataclass
class Relay:
    """`piece`: bytes of an answer that go out at once, with `pause` seconds before the next; 0: all.

    `hold`: seconds of silence that it waits for before it hands anything on; 0: none. `late`: seconds that everything
    that goes to the master takes. `breaks`: what it does, once, when it has handed on `breaks_after` bytes of answers:
    "mute" takes everything from then on and hands on nothing, on this connection. `refuses`: sends masters away.
    `lingers`: it has one master at a time, and misses one that has gone so many seconds later; None: as many as come.
    """

    number: int
    piece: int = 0
    pause: float = 0.0
    hold: float = 0.0
    late: float = 0.0
    breaks: Break | None = None
    breaks_after: int = 0
    refuses: bool = False
    lingers: float | None = None
    is_taken: bool = False
    pieces: int = 0  # that were cut off
    ends: list["_End"] = field(default_factory=list)


class _End(asyncio.Protocol):
    """One of the two connections; what it hears goes out at the other."""

    def __init__(self, relay: Relay, other: "_End | None" = None) -> None:
        self._relay = relay
        self._is_bus = other is not None
        self.other = other
        self.transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()
        self._kept = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[object] | None = None
        self._is_mute = False
        relay.ends.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport = transport
        if self.other is None and (self._relay.refuses or (self._relay.lingers is not None and self._relay.is_taken)):
            self._is_mute = True
            transport.close()
        elif self.other is None:
            self._relay.is_taken = True
            loop = asyncio.get_running_loop()
            bus = loop.create_connection(lambda: _End(self._relay, self), "127.0.0.1", self._relay.number)
            self._connecting = loop.create_task(bus)
        else:
            self.other.other = self
            transport.write(self.other._kept)  # noqa: SLF001 - the other end of the same box

    def data_received(self, data: bytes) -> None:
        other = self.other
        if self._is_mute:
            return
        self._kept += data
        if other is None:
            return
        if not self._is_bus:
            self._kept.clear()
            other.write(data)
            return
        if self._timer is not None and self._relay.hold:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._relay.hold, self._hand_on)

    def _hand_on(self) -> None:
        size = self._relay.piece or len(self._kept)
        piece = bytes(self._kept[:size])
        del self._kept[:size]
        self._timer = None
        if self.other is not None:
            self.other.write(piece)
        if self._kept:
            self._relay.pieces += 1
            self._timer = asyncio.get_running_loop().call_later(self._relay.pause, self._hand_on)

    def write(self, data: bytes) -> None:
        if not self._is_bus and self._relay.late:
            asyncio.get_running_loop().call_later(self._relay.late, self._give, data)
        else:
            self._give(data)

    def _give(self, data: bytes) -> None:
        if self.transport is None or self._is_mute:
            return
        relay = self._relay
        if self._is_bus or relay.breaks is None:
            self.transport.write(data)
            return
        self.transport.write(data[: relay.breaks_after])
        relay.breaks_after -= len(data)
        if relay.breaks_after <= 0:
            how, relay.breaks = relay.breaks, None
            self._break(how)

    def _break(self, how: Break) -> None:
        assert self.transport is not None
        self._is_mute = True
        match how:
            case "close":
                self.transport.close()
            case "reset":
                wire = self.transport.get_extra_info("socket")
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.transport.abort()
            case "mute":
                pass

    def _is_missed(self) -> None:
        self._relay.is_taken = False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._timer is not None:
            self._timer.cancel()
        if self.other is not None and self.other.transport is not None:
            self.other.transport.abort()
            if not self._is_bus:
                asyncio.get_running_loop().call_later(self._relay.lingers or 0.0, self._is_missed)
        self.gone.set()


@asynccontextmanager
async def relayed(number: int) -> AsyncIterator[tuple[int, Relay]]:
    """A relay before the TCP port `number`, and its own port."""
    relay = Relay(number)
    server = await asyncio.get_running_loop().create_server(lambda: _End(relay), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], relay
    finally:
        server.close()
        for end in tuple(relay.ends):
            if end.transport is not None:
                end.transport.abort()
                await end.gone.wait()
        await server.wait_closed()


@contextmanager
def deaf_server() -> Iterator[int]:
    """A TCP port whose connections are made by the kernel, and read by nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel makes its least of it
        yield server.getsockname()[1]
