"""Serves a simulated bus on a TCP port and a pseudo-terminal, at the pace of the real wire."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.virtual_terminal import pseudo_terminal
from mbusd.simulation.virtual_wire import Wire

__all__ = ["Served", "Wire", "opened", "serve"]

_SHORTEST_SLEEP = 0.001  # seconds; at high rates several bytes are handed over at once, as USB chips do
_LARGEST_BACKLOG = 65536  # bytes for a client that does not read


class _Port(Protocol):
    """A client of the wire."""

    def write(self, data: bytes) -> None: ...


class _Line:
    """The wire, its clients and the clock: wakes up when the next byte is due."""

    def __init__(self, wire: Wire, now: Callable[[], float], speed: float) -> None:
        self.ports: list[_Port] = []
        self.closed = False
        self._wire = wire
        self._now = now
        self._speed = speed
        self._timer: asyncio.TimerHandle | None = None

    def receive(self, data: bytes, rate: int | None) -> None:
        """A client speaks, at so many Bd; None: nobody knows."""
        self._wire.tune(rate)
        self._wire.send(data, self._now())
        self._tick()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self.stop()
        data = self._wire.advance(self._now())
        if data:
            for port in tuple(self.ports):
                port.write(data)
        due = self._wire.next_event()
        if due is not None:
            pause = max((due - self._now()) / self._speed, _SHORTEST_SLEEP)
            self._timer = asyncio.get_running_loop().call_later(pause, self._tick)


class _TcpClient(asyncio.Protocol):
    """One TCP connection; all of them hang on the same wire and hear everything."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (what create_server promises)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport
        self._line.ports.append(self)
        if self._line.closed:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._line.receive(data, None)  # a transparent converter does not tell

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._line.ports.remove(self)

    def write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > _LARGEST_BACKLOG:
            self._transport.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@dataclass(frozen=True, slots=True)
class Served:
    """Where the bus can be reached: the TCP address with its real port, the pseudo-terminal's device."""

    tcp: tuple[str, int] | None = None
    device: str | None = None


@asynccontextmanager
async def opened(
    bus: SimulatedBus,
    *,
    tcp: tuple[str, int] | None = None,
    link: Path | None = None,
    baudrate: int = 2400,
    speed: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Served]:
    """Serve the bus inside an `async with`; TCP port 0 takes a free one, `link` names the pseudo-terminal.

    The client of the pseudo-terminal sets the rate; `baudrate` is that of the others, and of one that sets none. 0
    means no pacing; with `speed` 10 the simulated time runs ten times as fast. Raises OSError.
    """
    began = clock()
    line = _Line(Wire(bus, baudrate), lambda: (clock() - began) * speed, speed)
    async with AsyncExitStack() as stack:
        stack.callback(line.stop)
        device = None if link is None else stack.enter_context(_terminal_port(line, link, baudrate))
        address = None if tcp is None else await stack.enter_async_context(_tcp_port(line, *tcp))
        yield Served(address, device)


async def serve(
    bus: SimulatedBus,
    *,
    tcp: tuple[str, int] | None = None,
    link: Path | None = None,
    baudrate: int = 2400,
    speed: float = 1.0,
    ready: Callable[[Served], None] = lambda _: None,
) -> None:
    """Serve the bus until cancelled; `ready` is told where, as soon as it can be reached. Raises OSError."""
    async with opened(bus, tcp=tcp, link=link, baudrate=baudrate, speed=speed) as served:
        ready(served)
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def _tcp_port(line: _Line, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    server = await asyncio.get_running_loop().create_server(lambda: _TcpClient(line), host, port)
    try:
        name = server.sockets[0].getsockname()
        yield name[0], name[1]
    finally:
        line.closed = True
        server.close()
        for client in tuple(line.ports):
            if isinstance(client, _TcpClient):
                client.abort()
        await server.wait_closed()


@contextmanager
def _terminal_port(line: _Line, link: Path, baudrate: int) -> Iterator[str]:
    with pseudo_terminal(line.receive, link, baudrate) as terminal:
        line.ports.append(terminal)
        try:
            yield terminal.device
        finally:
            line.ports.remove(terminal)
