"""Serves a bus on over TCP, as a transparent converter would: vendor tools and libmbus reach it between the polls.

What a client sends is cut into frames; each is one exchange of its own turn at the wire. A selection and the requests
to 253 that follow it are one turn together, since any other frame to 253 would deselect the meter (EN 13757-3 cl. 11);
how long a client may be quiet in it, and how long it may last, are limited.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from mbusd.line.shared_client import Client
from mbusd.line.transport import TransportError
from mbusd.mbus.address import BROADCAST
from mbusd.mbus.gate import MasterFrame, is_selection, needs_selection, objection
from mbusd.mbus.link import Conversation, Reply, Request, Silence

log = logging.getLogger(__name__)

LEASE_SECONDS = 6.0  # of quiet after which a selection is given up; libmbus waits 4 s behind an E5 for a second one
LONGEST_TURN_SECONDS = 60.0  # 32 telegrams at 2400 Bd; then the selection is lost, whatever the client does
MOST_CLIENTS = 4
RETRY_SECONDS = 30.0  # until an address that could not be listened on is tried again

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
        self._clients: set[Client] = set()
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
        server = await loop.create_server(lambda: Client(self, self._clock), *self._listen)
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

    def admit(self, client: Client) -> bool:
        """Attend to one more if there is room, until it `leaves`; whether there is."""
        if self._group is None:
            return False
        if len(self._clients) >= self._most_clients:
            log.warning("%s: refused, %d clients use the bus already", client.name, len(self._clients))
            return False
        self._clients.add(client)
        self._group.create_task(self._attend(client), name=client.name)
        return True

    def leaves(self, client: Client) -> None:
        """A client has gone."""
        self._clients.discard(client)

    def objection(self, frame: MasterFrame) -> str | None:
        """Why a frame must not go to the meters, if so."""
        return objection(frame, allow_writes=self._allow_writes)

    async def _attend(self, client: Client) -> None:
        """Turn after turn for one client, until it has gone."""
        while await client.next_frame() is not None:
            try:
                async with self._one_client, self._reserve() as run:
                    await self._take_turn(client, run)
            except TransportError as error:
                log.debug("%s: no answer: %s", client.name, error)
        client.hang_up()

    async def _take_turn(self, client: Client, run: Run) -> None:
        """One exchange, or a selection and what follows it at 253."""
        end = self._clock() + self._longest_turn
        frame = client.take()
        if frame is None:  # it has gone while it waited
            return
        if needs_selection(frame):
            client.complain(f"no meter is selected for it (any more); a selection lasts {self._lease:g} s of quiet")
            return
        reply = await self._exchange(client, frame, run)
        holds = is_selection(frame) and not isinstance(reply, Silence)
        while holds:
            until = min(self._clock() + self._lease, end)
            following = await client.next_frame(within=until - self._clock())
            if following is None or not needs_selection(following) or self._clock() >= until:
                return
            client.take()
            await self._exchange(client, following, run)

    async def _exchange(self, client: Client, frame: MasterFrame, run: Run) -> Reply:
        self._used(frame.address)
        reply = await run(_once(frame))
        client.deliver(frame, reply)
        return reply


def _once(frame: MasterFrame) -> Conversation[Reply]:
    """One request and whatever comes: repeating is the client's business."""
    return (yield Request(frame, is_answered=frame.address != BROADCAST))
