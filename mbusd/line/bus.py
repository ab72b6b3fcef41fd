"""One wire and whoever drives it: one conversation at a time, and its port, which is opened again when it is lost."""

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar
from typing import Protocol as TypingProtocol

from mbusd.line.deafness import Deafness
from mbusd.line.haste import HastyWire
from mbusd.line.hearing import BusProtocol
from mbusd.line.journal import Journal
from mbusd.line.timing import Timing
from mbusd.line.transport import Port, ProtocolFactory, TransportError, open_port
from mbusd.line.wire import Wire
from mbusd.mbus.link import Conversation, Reply, Request, Silence
from mbusd.mbus.observation import Observation
from mbusd.model import BusStatistics

log = logging.getLogger(__name__)
T = TypeVar("T")

REOPEN_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # the last for ever; no converter is asked more often than by the first
STEADY_SECONDS = 30.0  # a port that is lost sooner was as good as not opened: converters with one client at a time
BRIEF_SECONDS, LEAST_PROOF = 3.0, 0.2  # after a connection that was ended as soon, the next one has to prove itself
Opener = Callable[[Port, ProtocolFactory], Awaitable[asyncio.Transport]]
Echo = Literal["auto", "on", "off"]


class Run(TypingProtocol):
    """Carries on a conversation and gives its result."""

    def __call__(self, conversation: Conversation[T], /) -> Awaitable[T]: ...


class Bus:
    """The wire of one port. `run` is the whole of its use; `keep_open` is its life."""

    def __init__(
        self, port: Port, window: float | None = None, opener: Opener = open_port, *, echo: Echo = "auto"
    ) -> None:
        self.port = port
        self._window = window
        self._opener = opener
        self._skips_echo = echo != "off"
        self._turn = asyncio.Lock()
        self._journal = Journal(port.name)
        self._wire: Wire | None = None
        self._deafness = Deafness()
        self._is_kept = False  # somebody opens it again, whenever it is lost
        self._is_deaf = False  # it was hung up for that

    @property
    def is_open(self) -> bool:
        """Whether there is a port to speak to now."""
        return self._wire is not None and self._wire.is_open

    @property
    def baudrate(self) -> int:
        """The rate that the port has now, in Bd."""
        return self.port.baudrate if self._wire is None else self._wire.baudrate

    @property
    def timing(self) -> Timing:
        """The times of the wire, by what is known of it."""
        return (
            Timing.of(self.port.baudrate, self.port.slack_seconds, self._window)
            if self._wire is None
            else self._wire.timing
        )

    @property
    def recent(self) -> deque[Observation]:
        """The last exchanges, for a diagnosis."""
        return self._journal.recent

    @property
    def idle_noise(self) -> bytes:
        """What was heard before anything was asked."""
        return self._journal.idle_noise

    @property
    def last_request_at(self) -> float:
        """When the last request went out, of the monotonic clock; before the first: when this bus was made."""
        return self._journal.last_request_at

    def statistics(self) -> BusStatistics:
        """Counts since the start; utilisation since the last call."""
        return self._journal.statistics()

    async def keep_open(
        self,
        changed: Callable[[bool, str], None],
        reopened: Callable[[], None] = lambda: None,
        longest: Callable[[], float] = lambda: math.inf,
        resumed: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the port, and again whenever it is lost, for ever; tell `changed(up, why)` of each change.

        A gateway that hangs up after a quiet hour and takes the next call is no news to anybody; only `reopened` is
        called then: meanwhile somebody else may have spoken to the meters, or they had no power. A connection that was
        given up for its silence is not even that, only `resumed`: what was learnt of the silence still holds. One that
        ends as soon as it is made, while the port is away, is nothing. `longest`: seconds, which no pause exceeds.
        """
        is_up, failures, life, self._is_kept = False, 0, math.inf, True
        while True:
            try:
                lost = await self.open()
            except TransportError as error:
                if is_up or not failures:
                    changed(False, str(error))  # noqa: FBT003 - what a positional argument of a callback is
                is_up, failures = False, failures + 1
                await _pause(failures, longest())
                continue
            opened = time.monotonic()
            try:
                if is_up:
                    (resumed if self._is_deaf else reopened)()
                elif await proves_itself(lost, life):
                    is_up = True
                    changed(True, "")  # noqa: FBT003
                self._is_deaf = False
                why = await asyncio.shield(lost)  # others look at it too: it must not be cancelled with this task
            finally:
                self.close()
            life = time.monotonic() - opened
            if is_up:
                is_up = self._was_lost(why, life, changed)
            failures = 0 if is_up else failures + 1
            if not is_up:
                await _pause(failures, longest())

    def _was_lost(self, why: str, life: float, changed: Callable[[bool, str], None]) -> bool:
        """A connection that was told of has ended; tells whether to think no more of it than to make another one."""
        self._journal.count(reopened=1)
        is_no_news = self._is_deaf or life > STEADY_SECONDS
        if is_no_news:
            log.info("%s: %s; opening it again", self.port.name, why)
        else:
            changed(False, f"{self.port.name}: {why}")  # noqa: FBT003
        return is_no_news

    async def open(self) -> asyncio.Future[str]:
        """Open the port once. Gives a future that will tell why it was lost. Raises TransportError."""
        protocol = BusProtocol()
        transport = await self._opener(self.port, lambda: protocol)
        self._wire = HastyWire(
            self.port, (transport, protocol), self._journal, window=self._window, skips_echo=self._skips_echo
        )
        return protocol.lost

    def close(self) -> None:
        """Close the port; a conversation that is under way ends with TransportError."""
        if self._wire is not None:
            self._wire.close()
        self._wire = None

    async def run(self, conversation: Conversation[T]) -> T:
        """Carry on a conversation to its end and give its result; one at a time, others wait.

        Raises what the conversation raises, and TransportError when the port is not open or is lost.
        """
        async with self._turn:
            try:
                return await self._carry_on(conversation)
            finally:
                self._hang_up_if_deaf()

    @asynccontextmanager
    async def reserve(self) -> AsyncIterator[Run]:
        """The wire for several conversations that nobody may come between; the same errors as `run`."""
        async with self._turn:
            yield self._carry_on

    async def _carry_on(self, conversation: Conversation[T]) -> T:
        started = time.monotonic()
        try:
            request = next(conversation)
            while True:
                reply = await self._open_wire().ask(request)
                self._listen(request, reply)
                request = conversation.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        except BaseException:
            if self._wire is not None:
                self._wire.unsettle()
            raise
        finally:
            conversation.close()
            self._journal.was_busy(time.monotonic() - started)

    def _listen(self, request: Request, reply: Reply) -> None:
        if not isinstance(reply, Silence):
            self._deafness.hears()
        elif request.is_answered and not request.is_probe:
            self._deafness.misses(time.monotonic())

    def _hang_up_if_deaf(self) -> None:
        """Have a connection through a network made anew that brings nothing any more."""
        wire, is_network = self._wire, self.port.scheme != "serial"
        if wire is None or not self._is_kept or not is_network or not self._deafness.is_deaf(time.monotonic()):
            return
        self._deafness.begins_anew()
        self._is_deaf = True
        wire.hang_up("nothing comes through this connection; perhaps a new one is better")

    def _open_wire(self) -> Wire:
        if self._wire is None or not self._wire.is_open:
            raise TransportError(self.port.name, "the port is not open")
        return self._wire


async def proves_itself(lost: asyncio.Future[str], before: float) -> bool:
    """Whether a connection holds longer than the one `before`, in seconds, which was ended as soon as it was made.

    Converters with one client at a time take every call, and send all others away; a network may make that take long.
    """
    if before < BRIEF_SECONDS:
        await asyncio.wait([lost], timeout=min(max(LEAST_PROOF, 2 * before), BRIEF_SECONDS))
    return not lost.done()


async def _pause(failures: int, longest: float) -> None:
    """The back-off before a port is opened again; not in step with others that lost the same converter."""
    pause = min(REOPEN_SECONDS[min(failures, len(REOPEN_SECONDS)) - 1], longest)
    await asyncio.sleep(max(REOPEN_SECONDS[0], pause * random.uniform(0.8, 1.0)))  # noqa: S311 - no secret
