"""One wire and whoever drives it: runs one conversation at a time, keeps the deadlines, reopens the port.

Deadlines rest on EN 13757-2 cl. 5.5: a meter begins its answer between 11 bit times and 330 bit times + 50 ms after
the end of the request's last stop bit. `write` returns when the kernel has the bytes, so the end of transmission is
computed: 11 bits a byte. A complete frame ends the waiting at once; nothing waits for silence after a good frame.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal, TypeVar
from typing import Protocol as TypingProtocol

from mbusd.mbus.frames import LONGEST, SND_NKE, Ack, FrameReader, Noise, encode
from mbusd.mbus.link import Conversation, Reply, Request, Silence
from mbusd.mbus.observation import Observation
from mbusd.mbus.quirks import Manner
from mbusd.model import BusStatistics
from mbusd.timing import Timing
from mbusd.transport import Port, ProtocolFactory, TransportError, open_port, set_baudrate

log = logging.getLogger(__name__)
T = TypeVar("T")

REOPEN_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # the last for ever
STEADY_SECONDS = 30.0  # a port that is lost sooner was as good as not opened: converters with one client at a time
REMEMBERED = 64  # exchanges, for a diagnosis
WAKE = 0x55
MOST_BYTES = 4 * LONGEST  # of one exchange: more is no bus, but something that talks without end
Opener = Callable[[Port, ProtocolFactory], Awaitable[asyncio.Transport]]
Echo = Literal["auto", "on", "off"]


class Run(TypingProtocol):
    """Carries on a conversation and gives its result."""

    def __call__(self, conversation: Conversation[T], /) -> Awaitable[T]: ...


class BusProtocol(asyncio.Protocol):
    """Bytes that arrived, and when the last of them did; wakes whoever waits for more."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._news = asyncio.Event()
        self.first_byte_at = self.last_byte_at = 0.0
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.last_byte_at = time.monotonic()
        if not self._received:
            self.first_byte_at = self.last_byte_at
        self._received += data[: MOST_BYTES - len(self._received)]
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(str(exc) if exc else "the connection was closed")
        self._news.set()

    def take(self) -> bytes:
        """What has arrived since the last call."""
        data = bytes(self._received)
        self._received.clear()
        self._news.clear()
        return data

    async def more(self, deadline: float) -> bool:
        """Whether anything arrived (or the port was lost) before `deadline` of the monotonic clock."""
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._news.wait()
        except TimeoutError:
            return self._news.is_set()
        return True


class Bus:
    """The wire of one port. `run` is the whole of its use; `keep_open` is its life."""

    def __init__(
        self, port: Port, window: float | None = None, opener: Opener = open_port, *, echo: Echo = "auto"
    ) -> None:
        self.port = port
        self.timing = Timing.of(port.baudrate, port.slack_seconds, window)
        self.baudrate = port.baudrate  # that the port has now
        self.recent: deque[Observation] = deque(maxlen=REMEMBERED)  # the last exchanges, for a diagnosis
        self.idle_noise = b""  # what was heard before anything was asked
        self._window = window
        self._opener = opener
        self._skips_echo = echo != "off"
        self._turn = asyncio.Lock()
        self._transport: asyncio.Transport | None = None
        self._protocol: BusProtocol | None = None
        self._reader = FrameReader()
        self._is_settled = False  # the exchange before ended well: nothing more will come
        self._was_silent = False  # the exchange before was waited out, and nothing came
        self._sent_until = 0.0  # when the last byte of ours was on the wire
        self._began_at = 0.0  # when the first byte of the frame that is arriving came
        self._open_until = 0.0  # an answer that nobody waits for any more may still come until then
        self._counts = BusStatistics()
        self._busy = 0.0
        self._since = self.last_request_at = time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether there is a port to speak to now."""
        return self._protocol is not None and self._transport is not None and not self._protocol.lost.done()

    async def keep_open(
        self, changed: Callable[[bool, str], None], reopened: Callable[[], None] = lambda: None
    ) -> None:
        """Open the port, and again whenever it is lost, for ever; tell `changed(up, why)` of each change.

        A gateway that hangs up after a quiet hour and takes the next call is no news to anybody; only `reopened` is
        called then: meanwhile somebody else may have spoken to the meters, or they had no power.
        """
        is_up, failures = False, 0
        while True:
            try:
                lost = await self.open()
            except TransportError as error:
                if is_up or not failures:
                    changed(False, str(error))  # noqa: FBT003 - what a positional argument of a callback is
                is_up, failures = False, failures + 1
                await _pause(failures)
                continue
            opened = time.monotonic()
            if is_up:
                reopened()
            else:
                changed(True, "")  # noqa: FBT003
            try:
                why = await asyncio.shield(lost)  # others look at it too: it must not be cancelled with this task
            finally:
                self.close()
            self._count(reopened=1)
            is_up = time.monotonic() - opened > STEADY_SECONDS
            if is_up:
                failures = 0
                log.info("%s: %s; opening it again", self.port.name, why)
                continue
            changed(False, f"{self.port.name}: {why}")  # noqa: FBT003
            failures += 1
            await _pause(failures)

    async def open(self) -> asyncio.Future[str]:
        """Open the port once. Gives a future that will tell why it was lost. Raises TransportError."""
        protocol = BusProtocol()
        self._transport = await self._opener(self.port, lambda: protocol)
        self._protocol = protocol
        self._is_settled = self._was_silent = False
        self._take_rate(self.port.baudrate)
        protocol.last_byte_at = time.monotonic()
        self._open_until = protocol.last_byte_at + self.port.warm_up_seconds
        return protocol.lost

    def close(self) -> None:
        """Close the port; a conversation that is under way ends with TransportError."""
        if self._transport is not None:
            self._transport.close()
        self._transport = None

    async def run(self, conversation: Conversation[T]) -> T:
        """Carry on a conversation to its end and give its result; one at a time, others wait.

        Raises what the conversation raises, and TransportError when the port is not open or is lost.
        """
        async with self._turn:
            return await self._carry_on(conversation)

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
                reply = await self._ask(request)
                request = conversation.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        except BaseException:
            self._is_settled = False  # whatever came last was no good end
            raise
        finally:
            conversation.close()
            self._busy += time.monotonic() - started

    def statistics(self) -> BusStatistics:
        """Counts since the start; utilisation since the last call."""
        now = time.monotonic()
        share = self._busy / max(now - self._since, 1e-9)
        self._busy, self._since = 0.0, now
        return replace(self._counts, utilisation=round(min(1.0, share), 4))

    async def _ask(self, request: Request) -> Reply:
        protocol = self._connected()
        await self._tune(request.manner.baudrate or self.port.baudrate)
        settled = self._is_settled and request.attempt == 1
        await self._wait_for_silence(protocol, request.manner.pause, settled=settled)
        was_silent = self._was_silent
        self._is_settled = self._was_silent = False  # until the exchange has ended so
        await self._wake(request.manner)
        data = encode(request.frame)
        self._count(requests=1, retries=int(request.attempt > 1))
        log.debug("%s > %s", self.port.name, data.hex(" ").upper())
        self.last_request_at = time.monotonic()
        self._sent_until = sent = self.last_request_at + self.timing.wire(len(data))
        self._write(data)
        window = max(request.manner.window or self.timing.window, request.manner.shortest_window)
        expected_by = sent + window + self.timing.slack
        window_ends = expected_by if request.attempt == 1 else sent + window + self.timing.caution
        self._open_until = window_ends
        heard = bytearray()
        try:
            reply = await self._listen(protocol, request, window_ends, heard)
        finally:
            log.debug("%s < %s", self.port.name, heard.hex(" ").upper() or "(nothing)")
            self.recent.append(Observation(request.frame, bytes(heard)))
        self._judge(request, reply)
        if isinstance(reply, Silence):
            return reply
        is_too_early = self._began_at < sent + self.timing.wire(1)  # for any meter: given up before, or noise
        if (is_too_early and was_silent) or self._began_at > expected_by:
            self.timing = self.timing.after_late_answer()
        elif not (is_too_early and isinstance(reply, Noise)):  # answers upon each other, too, show how quick the way is
            self.timing = self.timing.after_answer(self._began_at - sent)
        return reply

    async def _wake(self, manner: Manner) -> None:
        """The preamble that rouses an interface which sleeps; nobody answers it."""
        if manner.wake is None:
            return
        self._write(bytes([WAKE]) * manner.wake.count)
        await asyncio.sleep(self.timing.wire(manner.wake.count) + manner.wake.pause)
        self._connected().take()

    async def _tune(self, baudrate: int) -> None:
        """Give the port the rate of the meter that is to be asked. Raises TransportError where it cannot be changed."""
        if baudrate == self.baudrate or self._transport is None:
            return
        await set_baudrate(self.port, self._transport, baudrate)
        self._is_settled = False
        self._take_rate(baudrate)

    def _take_rate(self, baudrate: int) -> None:
        self.baudrate = baudrate
        window = self._window if baudrate == self.port.baudrate else None
        self.timing = Timing.of(baudrate, self.port.slack_seconds, window)

    def _judge(self, request: Request, reply: Reply) -> None:
        """Count the reply, and tell whether the line is at rest: not while anything else may still be on its way.

        The answer to a repetition may be the late one to the first transmission; then the second answer is yet to come.
        A telegram that comes for SND_NKE is not the E5 that is due.
        """
        if isinstance(reply, Silence):
            self._was_silent = True
            self._count(timeouts=int(request.is_answered))
            return
        if isinstance(reply, Noise) or not self._reader.is_idle:  # bytes behind a frame: perhaps a second meter's
            self._count(noise=1)
            return
        is_due = isinstance(reply, Ack) or request.frame.control != SND_NKE
        self._is_settled = is_due and request.attempt == 1

    def _connected(self) -> BusProtocol:
        if self._protocol is None or not self.is_open:
            raise TransportError(self.port.name, "the port is not open")
        return self._protocol

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            raise TransportError(self.port.name, "the port is not open")
        self._transport.write(data)

    async def _wait_for_silence(self, protocol: BusProtocol, pause: float, *, settled: bool) -> None:
        """Wait until the line was silent as long as the standard, or the meter, asks; drop what belongs to nobody.

        After a reply that was refused, or an exchange that was cancelled, the answer proper may still be on its way.
        """
        open_until = 0.0 if settled else self._open_until
        give_up = max(open_until, time.monotonic()) + self.timing.wire(LONGEST) + self.timing.slack
        rested_at = self._sent_until + pause if pause else 0.0
        stray = protocol.take()
        quiet_for = max(pause, self.timing.idle if settled and not stray else self.timing.settle)
        while time.monotonic() < give_up:
            if not await protocol.more(max(open_until, rested_at, protocol.last_byte_at + quiet_for)):
                break
            self._connected()
            stray = (stray + protocol.take())[:LONGEST]
            quiet_for = max(pause, self.timing.settle)
        if stray:
            self._count(noise=1)
            self._remember_stray(stray)
            log.debug("%s < %s (nobody asked)", self.port.name, stray.hex(" ").upper())

    def _remember_stray(self, stray: bytes) -> None:
        if not self.recent:
            self.idle_noise = (self.idle_noise + stray)[-LONGEST:]
            return
        last = self.recent[-1]
        if self._was_silent:
            self.timing = self.timing.after_late_answer()
        self.recent[-1] = replace(last, after=last.after + stray)

    async def _listen(self, protocol: BusProtocol, request: Request, window_ends: float, heard: bytearray) -> Reply:
        """The first frame, else the noise that came, else silence; an answer that has begun is given time to end."""
        reader = self._reader
        reader.reset()
        deadline = window_ends
        last_end = window_ends + self.timing.wire(LONGEST)
        noise: Noise | None = None
        while len(heard) < MOST_BYTES and await protocol.more(deadline):
            if protocol.lost.done():
                raise TransportError(self.port.name, protocol.lost.result())
            if reader.is_idle:
                self._began_at = protocol.first_byte_at
            data = protocol.take()
            heard += data
            for event in reader.feed(data):
                if isinstance(event, Noise):
                    noise = event
                elif not self._is_echo(event, request):
                    return event
            if not reader.is_idle:
                deadline = min(last_end, max(window_ends, protocol.last_byte_at + self.timing.gap))
        for event in reader.flush():
            if not isinstance(event, Noise) and not self._is_echo(event, request):
                return event
            noise = event if isinstance(event, Noise) else noise
        return noise or Silence()

    def _is_echo(self, event: Reply, request: Request) -> bool:
        """A frame that equals the request comes from the converter: no meter speaks like a master."""
        return self._skips_echo and event == request.frame

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = replace(self._counts, **counts)


async def _pause(failures: int) -> None:
    """The back-off before a port is opened again; not in step with others that lost the same converter."""
    pause = REOPEN_SECONDS[min(failures, len(REOPEN_SECONDS)) - 1]
    await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
