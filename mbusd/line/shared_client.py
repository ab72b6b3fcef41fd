"""One program that uses a bus served on: its bytes become frames, and answers go back to it while it waits for them."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from mbusd.mbus.address import BROADCAST
from mbusd.mbus.frames import LONGEST, Ack, Frame, FrameReader, Nack, Noise
from mbusd.mbus.frames import encode as bytes_of
from mbusd.mbus.gate import MasterFrame
from mbusd.mbus.link import Reply, Silence

log = logging.getLogger(__name__)

GAP_SECONDS = 0.5  # inside a frame: networks cut anywhere, but not for so long
MOST_PENDING = 8  # frames of one client
MOST_NOISE = 4 * LONGEST  # bytes without a frame in between: whoever sends so much speaks something else
MOST_UNREAD = 65536  # bytes that a client has not fetched


class Host(Protocol):
    """Who serves the bus."""

    def admit(self, client: "Client", /) -> bool: ...

    def leaves(self, client: "Client", /) -> None: ...

    def objection(self, frame: MasterFrame, /) -> str | None: ...


class Client(asyncio.BufferedProtocol):
    """One connection: bytes become frames, and only what the client still waits for goes to the wire and back.

    A master that speaks again has given up the request before. So a new frame takes the place of those that wait for
    their turn (all but broadcasts, which nobody waits for), and an answer to what was given up is not delivered.
    """

    def __init__(self, host: Host, clock: Callable[[], float]) -> None:
        self.name = "client"
        self._clock = clock
        self._host = host
        self._buffer = bytearray(1024)  # so much is read at once: a flood must not keep the loop from the wire
        self._reader = FrameReader()
        self._pending: list[MasterFrame] = []
        self._news = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._has_gone = False
        self._is_admitted = False
        self._arrived_at = 0.0
        self._noise = 0
        self._complaints = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what create_server promises
        self._transport = transport
        host, port = (transport.get_extra_info("peername") or ("?", 0))[:2]
        self.name = f"client {host} port {port}"
        _tune(transport.get_extra_info("socket"))
        self._is_admitted = self._host.admit(self)
        if not self._is_admitted:
            transport.close()
            return
        log.info("%s: connected to the bus", self.name)

    def get_buffer(self, sizehint: int) -> bytearray:
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._is_admitted:
            return
        now = self._clock()
        if now - self._arrived_at > GAP_SECONDS:
            self._sort(self._reader.flush())
        self._arrived_at = now
        events = list(self._reader.feed(bytes(self._buffer[:nbytes])))
        self._noise = 0 if events else self._noise + nbytes
        self._sort(events)
        if self._noise > MOST_NOISE:
            self.complain(f"{self._noise} bytes that are no M-Bus: hanging up")
            self.hang_up()

    def eof_received(self) -> bool:
        """Whoever has said his last word may still wait for the answer."""
        self._has_gone = True
        self._news.set()
        return self._is_admitted

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._has_gone = True
        self._pending.clear()
        self._news.set()
        if self._is_admitted:
            self._host.leaves(self)
            log.info("%s: left the bus", self.name)

    async def next_frame(self, within: float | None = None) -> MasterFrame | None:
        """The frame whose turn is next, still to be taken; None if none comes `within` seconds or ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not self._pending and not self._has_gone:
                    self._news.clear()
                    await self._news.wait()
        return self._pending[0] if self._pending else None

    def take(self) -> MasterFrame | None:
        """Take the next frame from the queue; None where there is none any more."""
        return self._pending.pop(0) if self._pending else None

    def deliver(self, request: MasterFrame, reply: Reply) -> None:
        """Give the client the answer if it still waits for it."""
        if isinstance(reply, Silence):
            return
        if self._pending and self._pending[-1] == request:  # repeated meanwhile: one answer for both
            self._pending.pop()
        elif self._pending:
            log.debug("%s: an answer to what it had given up is dropped", self.name)
            return
        self._write(reply.data if isinstance(reply, Noise) else bytes_of(reply))

    def complain(self, words: str) -> None:
        """Log why something of this client was dropped; ever more rarely."""
        self._complaints += 1
        level = logging.INFO if self._complaints & self._complaints - 1 == 0 else logging.DEBUG
        log.log(level, "%s: dropped: %s", self.name, words)

    def hang_up(self) -> None:
        """End the connection, after what is still to be delivered."""
        self._has_gone = True
        self._pending.clear()
        self._news.set()
        if self._transport is not None:
            self._transport.close()

    def _sort(self, events: Iterable[Frame | Noise]) -> None:
        for event in events:
            if isinstance(event, Noise):
                self.complain(f"no frame: {event.data[:16].hex(' ').upper()}{' …' * (len(event.data) > 16)}")
            elif isinstance(event, Ack | Nack):
                self.complain("an acknowledgement is no request of a master")
            elif (objection := self._host.objection(event)) is not None:
                self.complain(f"{objection}: {bytes_of(event).hex(' ').upper()}")
            else:
                self._pending = [*filter(_is_broadcast, self._pending), event][-MOST_PENDING:]
                self._news.set()

    def _write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MOST_UNREAD:
            self._transport.abort()


def _is_broadcast(frame: MasterFrame) -> bool:
    return frame.address == BROADCAST


def _tune(wire: socket.socket) -> None:
    """A client whose computer has died is missed within two minutes, or it would keep its place for ever."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
