"""Serves a simulated bus on a TCP port and a pseudo-terminal, at the pace of the real wire.

`Wire` is the pure part: bytes and times in, bytes and times out. What it is strict about is what EN 13757-2 asks of a
master: a request must not run into an answer, and after an error the line must be idle for 33 bit times.
"""

import asyncio
import os
import select
import socket
import termios
import time
import tty
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mbusd.mbus.frames import Frame, FrameReader, Noise
from mbusd.simulator import SimulatedBus
from mbusd.superposition import superpose

CHARACTER = 11  # bit times of one byte: start, 8 data, even parity, stop
SHORTEST_PAUSE = 11  # bit times between a request and its answer
IDLE = 33  # bit times of silence after which a meter listens anew
UNPACED_IDLE = 0.05  # seconds that do the same where bytes take no time

_PIECE_PAUSE = 0.005  # seconds between the pieces of a split answer
_SHORTEST_SLEEP = 0.001  # seconds; at high rates several bytes are handed over at once, as USB chips do
_LOOK = 0.02  # seconds between two looks whether somebody has opened the pseudo-terminal
_LARGEST_BACKLOG = 65536  # bytes that wait for the slow wire, or for a client that does not read


@dataclass(frozen=True, slots=True)
class _Signal:
    """What one meter puts on the wire from `start` on."""

    start: float
    data: bytes
    regular: bool  # within the window of the standard


@dataclass(slots=True)
class _Transmission:
    """What the master receives of the signals, and when each byte has wholly arrived."""

    due: list[float]
    data: bytearray
    regular: bool
    sent: int = 0


class Wire:
    """Half duplex, one byte after the other. Times are seconds on any clock that never goes back.

    `baudrate` 0: bytes take no time, and meters answer at once unless they are late beyond the standard's window.
    """

    def __init__(self, bus: SimulatedBus, baudrate: int) -> None:
        self._bus = bus
        self._bit = 1 / baudrate if baudrate else 0.0
        self._idle = IDLE * self._bit or UNPACED_IDLE
        self._window = 0.05 + 330 * self._bit
        self._reader = FrameReader()
        self._spoilt = False  # the request under way cannot be understood any more
        self._incoming: deque[tuple[float, int]] = deque()
        self._busy_until = float("-inf")
        self._heard_until = float("-inf")
        self._transmissions: list[_Transmission] = []
        self._echo: list[tuple[float, int]] = []

    def send(self, data: bytes, now: float) -> None:
        """The master puts bytes on the wire; they take their time, after what it is still sending."""
        end = max(now, self._busy_until)
        for byte in data[: max(_LARGEST_BACKLOG - len(self._incoming), 0)]:
            end += CHARACTER * self._bit
            self._incoming.append((end, byte))
        self._busy_until = end

    def advance(self, now: float) -> bytes:
        """What the master has received since the last call."""
        while self._incoming and self._incoming[0][0] <= now:
            end, byte = self._incoming.popleft()
            self._hear(byte, end)
        arrived, self._echo = self._echo, []
        for transmission in self._transmissions:
            first = transmission.sent
            transmission.sent = bisect_right(transmission.due, now)
            arrived += zip(transmission.due[first : transmission.sent], transmission.data[first:], strict=False)
        self._transmissions = [one for one in self._transmissions if one.sent < len(one.data)]
        return bytes(byte for _, byte in sorted(arrived, key=lambda item: item[0]))

    def next_event(self) -> float | None:
        """When `advance` has something to do next; None while the line is idle."""
        times = [transmission.due[transmission.sent] for transmission in self._transmissions]
        if self._incoming:
            times.append(self._incoming[0][0])
        return min(times, default=None)

    def _hear(self, byte: int, end: float) -> None:
        start = end - CHARACTER * self._bit
        if start - self._heard_until > self._idle:
            self._reader.reset()
            self._spoilt = False
        self._heard_until = end
        if self._bus.echo:
            self._echo.append((end, byte))
        disturbed = [one for one in self._transmissions if one.regular and one.due[-1] > start]
        if disturbed:
            self._disturb(disturbed, start)
            return
        for event in self._reader.feed(bytes([byte])):
            if isinstance(event, Noise):
                self._spoilt = True
            elif not self._spoilt:
                self._let_answer(event, end)

    def _disturb(self, transmissions: list[_Transmission], start: float) -> None:
        """The master speaks although an answer is due or under way: both are lost."""
        if not self._spoilt:
            self._bus.early_requests += 1
        self._spoilt = True
        for transmission in transmissions:
            for index in range(transmission.sent, len(transmission.data)):
                if transmission.due[index] > start:
                    transmission.data[index] = 0

    def _let_answer(self, request: Frame, end: float) -> None:
        """Put the meters' answers on the wire; those that overlap, also with a late one, become one jumble."""
        signals = [self._rest(transmission) for transmission in self._transmissions]
        for answer in self._bus.answers(request, end):
            start = self._start(answer.delay, end)
            signals.append(_Signal(start, answer.data, regular=start - end <= self._window))
        self._transmissions = []
        together: list[_Signal] = []
        for signal in sorted(signals, key=lambda signal: signal.start):
            if together and signal.start > max(self._end(one) for one in together):
                self._transmissions.append(self._transmission(together))
                together = []
            together.append(signal)
        if together:
            self._transmissions.append(self._transmission(together))

    def _start(self, delay: float, end: float) -> float:
        if not self._bit:
            return end if delay <= self._window else end + delay
        return end + SHORTEST_PAUSE * self._bit + delay

    def _end(self, signal: _Signal) -> float:
        return signal.start + CHARACTER * self._bit * len(signal.data)

    def _rest(self, transmission: _Transmission) -> _Signal:
        sent = transmission.sent
        start = transmission.due[sent] - CHARACTER * self._bit
        return _Signal(start, bytes(transmission.data[sent:]), transmission.regular)

    def _transmission(self, signals: list[_Signal]) -> _Transmission:
        start = signals[0].start
        offsets = [round((signal.start - start) / self._bit) if self._bit else 0 for signal in signals]
        data = superpose(zip(offsets, (signal.data for signal in signals), strict=True))
        split = self._bus.split or len(data)
        due = [
            start + CHARACTER * self._bit * (index + 1) + _PIECE_PAUSE * (index // split) for index in range(len(data))
        ]
        return _Transmission(due, bytearray(data), any(signal.regular for signal in signals))


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

    def receive(self, data: bytes) -> None:
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
        self._line.receive(data)

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

    `baudrate` 0 means no pacing; with `speed` 10 the simulated time runs ten times as fast. Raises OSError.
    """
    began = clock()
    line = _Line(Wire(bus, baudrate), lambda: (clock() - began) * speed, speed)
    async with AsyncExitStack() as stack:
        stack.callback(line.stop)
        device = None if link is None else stack.enter_context(_pseudo_terminal(line, link))
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


class _Terminal:
    """The converter's end of a pseudo-terminal; its client may come and go.

    As on a real port, nobody finds what was said on the wire before he opened it.
    """

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._ours, theirs = os.openpty()
        tty.setraw(theirs)
        self.device = os.ttyname(theirs)
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._state = select.poll()
        self._state.register(self._ours, select.POLLIN)
        line.ports.append(self)
        self._timer = self._loop.call_soon(self._look)

    def close(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._ours)
        self._line.ports.remove(self)
        os.close(self._ours)

    def write(self, data: bytes) -> None:
        if not self._flags() & select.POLLHUP:
            with suppress(BlockingIOError):  # nobody reads: a wire keeps nothing
                os.write(self._ours, data)

    def _flags(self) -> int:
        return next((flags for _, flags in self._state.poll(0)), 0)

    def _look(self) -> None:
        """Wait for a client: Linux tells only by the absence of a hang-up."""
        flags = self._flags()
        if flags & select.POLLIN or not flags & select.POLLHUP:
            self._loop.add_reader(self._ours, self._read)
        else:
            self._timer = self._loop.call_later(_LOOK, self._look)

    def _read(self) -> None:
        try:
            data = os.read(self._ours, 4096)
        except BlockingIOError:
            return
        except OSError:  # the client has left
            self._loop.remove_reader(self._ours)
            self._forget_unread()
            self._look()
            return
        self._line.receive(data)

    def _forget_unread(self) -> None:
        theirs = os.open(self.device, os.O_RDWR | os.O_NOCTTY)
        termios.tcflush(theirs, termios.TCIFLUSH)
        os.close(theirs)


@contextmanager
def _pseudo_terminal(line: _Line, link: Path) -> Iterator[str]:
    terminal = _Terminal(line)
    try:
        _point(link, terminal.device)
        try:
            yield terminal.device
        finally:
            if link.is_symlink() and str(link.readlink()) == terminal.device:
                link.unlink()
    finally:
        terminal.close()


def _point(link: Path, device: str) -> None:
    """Make the link, in the place of an old one. Raises FileExistsError where something else has the name."""
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise FileExistsError(f"{link} exists and is no symbolic link: remove it or choose another name for the port")
    link.symlink_to(device)
