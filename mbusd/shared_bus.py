"""Serves a bus on over TCP, as a transparent converter would: vendor tools and libmbus reach it between the polls.

What a client sends is cut into frames; each is one exchange of its own turn at the wire. A selection and the requests
to 253 that follow it are one turn together, since any other frame to 253 would deselect the meter (EN 13757-3 cl. 11);
how long a client may be quiet in it, and how long it may last, are limited.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn

from mbusd.mbus.address import BROADCAST, SELECTED
from mbusd.mbus.frames import (
    LONGEST,
    REQ_UD1,
    REQ_UD2,
    SND_NKE,
    SND_UD,
    Ack,
    Frame,
    FrameReader,
    LongFrame,
    Nack,
    Noise,
    ShortFrame,
)
from mbusd.mbus.frames import encode as bytes_of
from mbusd.mbus.link import Conversation, Reply, Request, Silence
from mbusd.transport import TransportError

log = logging.getLogger(__name__)

LEASE_SECONDS = 6.0  # of quiet after which a selection is given up; libmbus waits 4 s behind an E5 for a second one
LONGEST_TURN_SECONDS = 60.0  # 32 telegrams at 2400 Bd; then the selection is lost, whatever the client does
GAP_SECONDS = 0.5  # inside a frame: networks cut anywhere, but not for so long
MOST_CLIENTS = 4
MOST_PENDING = 8  # frames of one client
MOST_NOISE = 4 * LONGEST  # bytes without a frame in between: whoever sends so much speaks something else
MOST_UNREAD = 65536  # bytes that a client has not fetched
RETRY_SECONDS = 30.0  # until an address that could not be listened on is tried again

SELECTIONS = (0x52, 0x56)  # CI fields; 56 is the obsolete "high byte first"
APPLICATION_RESET = 0x50
_FUNCTION, _FROM_MASTER = 0x0F, 0x40  # bits of the C field

MasterFrame = ShortFrame | LongFrame
Run = Callable[[Conversation[Reply]], Awaitable[Reply]]
"""Carries on one conversation on the wire (`Bus.run`)."""
Reserve = Callable[[], contextlib.AbstractAsyncContextManager[Run]]
"""Takes the wire for as long as the context lasts; others wait in the order of their coming."""


class SharedBus:
    """One bus for whoever connects to `listen`.

    `used` is told the A field of every frame that a client put on the wire: what somebody remembered of the link to
    that meter (its FCB, its selection) holds no longer. `allow_writes` lets frames pass that change meters.
    """

    def __init__(  # noqa: PLR0913 - each is one thing that an owner may set
        self,
        reserve: Reserve,
        listen: tuple[str, int],
        *,
        allow_writes: bool = False,
        lease: float = LEASE_SECONDS,
        longest_turn: float = LONGEST_TURN_SECONDS,
        clients: int = MOST_CLIENTS,
        used: Callable[[int], None] = lambda _: None,
        ready: Callable[[tuple[str, int]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reserve = reserve
        self._listen = listen
        self._allow_writes = allow_writes
        self._lease = lease
        self._longest_turn = longest_turn
        self._most_clients = clients
        self._used = used
        self._ready = ready
        self._clock = clock
        self._group: asyncio.TaskGroup | None = None  # while it serves
        self._clients: set[_Client] = set()
        self._one_client = asyncio.Lock()  # so that one of them at most stands in the queue for the wire

    async def serve(self) -> NoReturn:
        """Serve until cancelled; an address that cannot be listened on is tried again for ever."""
        refused = False
        while True:
            try:
                await self._serve_once()
            except OSError as error:
                level = logging.DEBUG if refused else logging.WARNING
                log.log(level, "cannot serve the bus on %s port %d: %s", *self._listen, error.strerror or error)
                refused = True
            await asyncio.sleep(RETRY_SECONDS)

    async def _serve_once(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Client(self, self._clock), *self._listen)
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._ready(server.sockets[0].getsockname()[:2])
                await loop.create_future()
            finally:
                self._group = None
                server.close()
                for client in tuple(self._clients):
                    client.hang_up()

    def admit(self, client: "_Client") -> bool:
        """Attend to one more if there is room, until it `leaves`; whether there is."""
        if self._group is None:
            return False
        if len(self._clients) >= self._most_clients:
            log.warning("%s: refused, %d clients use the bus already", client.name, len(self._clients))
            return False
        self._clients.add(client)
        self._group.create_task(self._attend(client), name=client.name)
        return True

    def leaves(self, client: "_Client") -> None:
        """A client has gone."""
        self._clients.discard(client)

    def objection(self, frame: MasterFrame) -> str | None:
        """Why a frame must not go to the meters, if so."""
        if not frame.control & _FROM_MASTER:
            return "no request of a master"
        if self._allow_writes or isinstance(frame, ShortFrame) or _is_harmless(frame):
            return None
        return f"it may change meters (C {frame.control:02X}, CI {frame.ci:02X}), and allow_writes is off"

    async def _attend(self, client: "_Client") -> None:
        """Turn after turn for one client, until it has gone."""
        while await client.next_frame() is not None:
            try:
                async with self._one_client, self._reserve() as run:
                    await self._take_turn(client, run)
            except TransportError as error:
                log.debug("%s: no answer: %s", client.name, error)
        client.hang_up()

    async def _take_turn(self, client: "_Client", run: Run) -> None:
        """One exchange, or a selection and what follows it at 253."""
        end = self._clock() + self._longest_turn
        frame = client.take()
        if frame is None:  # it has gone while it waited
            return
        if _needs_selection(frame):
            client.complain(f"no meter is selected for it (any more); a selection lasts {self._lease:g} s of quiet")
            return
        reply = await self._exchange(client, frame, run)
        holds = _is_selection(frame) and not isinstance(reply, Silence)
        while holds:
            until = min(self._clock() + self._lease, end)
            following = await client.next_frame(within=until - self._clock())
            if following is None or not _needs_selection(following) or self._clock() >= until:
                return
            client.take()
            await self._exchange(client, following, run)

    async def _exchange(self, client: "_Client", frame: MasterFrame, run: Run) -> Reply:
        self._used(frame.address)
        reply = await run(_once(frame))
        client.deliver(frame, reply)
        return reply


def _once(frame: MasterFrame) -> Conversation[Reply]:
    """One request and whatever comes: repeating is the client's business."""
    return (yield Request(frame, is_answered=frame.address != BROADCAST))


def _needs_selection(frame: MasterFrame) -> bool:
    return frame.address == SELECTED and frame.control != SND_NKE and not _is_selection(frame)


def _is_selection(frame: MasterFrame) -> bool:
    return (
        isinstance(frame, LongFrame)
        and frame.address == SELECTED
        and frame.ci in SELECTIONS
        and frame.control & _FUNCTION == SND_UD & _FUNCTION
    )


def _is_harmless(frame: LongFrame) -> bool:
    """It only selects, resets the application, or asks for data (some meters take a CI with that)."""
    function = frame.control & _FUNCTION
    if function in (REQ_UD1 & _FUNCTION, REQ_UD2 & _FUNCTION):
        return True
    return _is_selection(frame) or (function == SND_UD & _FUNCTION and frame.ci == APPLICATION_RESET)


class _Client(asyncio.BufferedProtocol):
    """One connection: bytes become frames, and only what the client still waits for goes to the wire and back.

    A master that speaks again has given up the request before. So a new frame takes the place of those that wait for
    their turn (all but broadcasts, which nobody waits for), and an answer to what was given up is not delivered.
    """

    def __init__(self, bus: SharedBus, clock: Callable[[], float]) -> None:
        self.name = "client"
        self._clock = clock
        self._bus = bus
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
        self._is_admitted = self._bus.admit(self)
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
            self._bus.leaves(self)
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
            elif (objection := self._bus.objection(event)) is not None:
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
