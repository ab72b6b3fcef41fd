"""One wire and whoever drives it: runs one conversation at a time, keeps the deadlines, reopens the port.

Deadlines rest on EN 13757-2 cl. 5.5: a meter begins its answer between 11 bit times and 330 bit times + 50 ms after
the end of the request's last stop bit. `write` returns when the kernel has the bytes, so the end of transmission is
computed: 11 bits a byte. A complete frame ends the waiting at once; nothing waits for silence after a good frame.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from mbusd.mbus.frames import LONGEST, SND_NKE, Ack, FrameReader, Noise, encode
from mbusd.mbus.link import Conversation, Reply, Request, Silence
from mbusd.model import BusStatistics
from mbusd.transport import Port, ProtocolFactory, TransportError, open_port

log = logging.getLogger(__name__)
T = TypeVar("T")

REOPEN_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # the last for ever
STEADY_SECONDS = 30.0  # a port that is lost sooner was as good as not opened: converters with one client at a time
MOST_BYTES = 4 * LONGEST  # of one exchange: more is no bus, but something that talks without end
Opener = Callable[[Port, ProtocolFactory], Awaitable[asyncio.Transport]]


@dataclass(frozen=True, slots=True)
class Timing:
    """All times of a wire in seconds, from its rate (EN 13757-2 cl. 5.5)."""

    bit: float
    window: float  # from the end of transmission to the latest first byte of an answer
    slack: float  # what the way to the converter may add

    @classmethod
    def of(cls, port: Port, window: float | None = None) -> "Timing":
        """The standard's times at the port's rate; `window` replaces 330 bits + 50 ms for slow meters."""
        bit = 1 / port.baudrate
        return cls(bit, 330 * bit + 0.05 if window is None else window, port.slack_seconds)

    def wire(self, size: int) -> float:
        """How long `size` bytes are on the wire: 8E1 is 11 bits a byte."""
        return 11 * size * self.bit

    @property
    def idle(self) -> float:
        """Silence before a request that follows a good answer.

        11 bits are asked for. Slow meters and converters turn round later, and bytes behind a frame, from which a
        second meter can be known, need the time of a character and of a USB chip to be seen.
        """
        return max(11 * self.bit, 0.05)

    @property
    def settle(self) -> float:
        """Silence that ends a disturbed exchange: meters resynchronise after 33 bits."""
        return 33 * self.bit + self.slack / 2

    @property
    def gap(self) -> float:
        """The longest pause inside an answer."""
        return max(33 * self.bit, 0.05) + self.slack


class BusProtocol(asyncio.Protocol):
    """Bytes that arrived, and when the last of them did; wakes whoever waits for more."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._news = asyncio.Event()
        self.last_byte_at = 0.0
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.last_byte_at = time.monotonic()
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

    def __init__(self, port: Port, window: float | None = None, opener: Opener = open_port) -> None:
        self.port = port
        self.timing = Timing.of(port, window)
        self._opener = opener
        self._turn = asyncio.Lock()
        self._transport: asyncio.Transport | None = None
        self._protocol: BusProtocol | None = None
        self._reader = FrameReader()
        self._is_settled = False  # the exchange before ended well: nothing more will come
        self._open_until = 0.0  # an answer that nobody waits for any more may still come until then
        self._counts = BusStatistics()
        self._busy = 0.0
        self._since = self.last_request_at = time.monotonic()

    async def keep_open(self, changed: Callable[[bool, str], None]) -> None:
        """Open the port, and again whenever it is lost, for ever; tell `changed(up, why)` of each change."""
        failures = 0
        while True:
            try:
                lost = await self.open()
            except TransportError as error:
                if not failures:
                    changed(False, str(error))  # noqa: FBT003 - what a positional argument of a callback is
                failures += 1
                await _pause(failures)
                continue
            opened = time.monotonic()
            changed(True, "")  # noqa: FBT003
            try:
                why = await asyncio.shield(lost)  # others look at it too: it must not be cancelled with this task
            finally:
                self.close()
            self._count(reopened=1)
            changed(False, f"{self.port.name}: {why}")  # noqa: FBT003
            failures = 1 if time.monotonic() - opened > STEADY_SECONDS else failures + 1
            await _pause(failures)

    async def open(self) -> asyncio.Future[str]:
        """Open the port once. Gives a future that will tell why it was lost. Raises TransportError."""
        protocol = BusProtocol()
        self._transport = await self._opener(self.port, lambda: protocol)
        self._protocol = protocol
        self._is_settled = False
        protocol.last_byte_at = time.monotonic()
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
        await self._wait_for_silence(protocol, settled=self._is_settled and request.attempt == 1)
        self._is_settled = False  # until the exchange has ended well
        data = encode(request.frame)
        self._count(requests=1, retries=int(request.attempt > 1))
        log.debug("%s > %s", self.port.name, data.hex(" ").upper())
        self.last_request_at = time.monotonic()
        sent = self.last_request_at + self.timing.wire(len(data))
        self._write(data)
        self._open_until = sent + self.timing.window + self.timing.slack
        heard = bytearray()
        try:
            reply = await self._listen(protocol, request, sent, heard)
        finally:
            log.debug("%s < %s", self.port.name, heard.hex(" ").upper() or "(nothing)")
        self._judge(request, reply)
        return reply

    def _judge(self, request: Request, reply: Reply) -> None:
        """Count the reply, and tell whether the line is at rest: not while anything else may still be on its way.

        The answer to a repetition may be the late one to the first transmission; then the second answer is yet to come.
        A telegram that comes for SND_NKE is not the E5 that is due.
        """
        if isinstance(reply, Silence):
            self._count(timeouts=int(request.is_answered))
            return
        if isinstance(reply, Noise) or not self._reader.is_idle:  # bytes behind a frame: perhaps a second meter's
            self._count(noise=1)
            return
        is_due = isinstance(reply, Ack) or request.frame.control != SND_NKE
        self._is_settled = is_due and request.attempt == 1

    def _connected(self) -> BusProtocol:
        if self._protocol is None or self._transport is None or self._protocol.lost.done():
            raise TransportError(self.port.name, "the port is not open")
        return self._protocol

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            raise TransportError(self.port.name, "the port is not open")
        self._transport.write(data)

    async def _wait_for_silence(self, protocol: BusProtocol, *, settled: bool) -> None:
        """Wait until the line was silent as long as the standard asks; drop what belongs to nobody.

        After a reply that was refused, or an exchange that was cancelled, the answer proper may still be on its way.
        """
        open_until = 0.0 if settled else self._open_until
        give_up = max(open_until, time.monotonic()) + self.timing.wire(LONGEST) + self.timing.slack
        stray = protocol.take()
        quiet_for = self.timing.idle if settled and not stray else self.timing.settle
        while time.monotonic() < give_up:
            if not await protocol.more(max(open_until, protocol.last_byte_at + quiet_for)):
                break
            self._connected()
            stray = (stray + protocol.take())[:LONGEST]
            quiet_for = self.timing.settle
        if stray:
            self._count(noise=1)
            log.debug("%s < %s (nobody asked)", self.port.name, stray.hex(" ").upper())

    async def _listen(self, protocol: BusProtocol, request: Request, sent: float, heard: bytearray) -> Reply:
        """The first frame, else the noise that came, else silence; an answer that has begun is given time to end."""
        reader = self._reader
        reader.reset()
        deadline = window_ends = sent + self.timing.window + self.timing.slack
        last_end = window_ends + self.timing.wire(LONGEST)
        noise: Noise | None = None
        while len(heard) < MOST_BYTES and await protocol.more(deadline):
            if protocol.lost.done():
                raise TransportError(self.port.name, protocol.lost.result())
            data = protocol.take()
            heard += data
            for event in reader.feed(data):
                if isinstance(event, Noise):
                    noise = event
                elif event != request.frame:  # a frame that equals the request is the converter's echo
                    return event
            if not reader.is_idle:
                deadline = min(last_end, max(window_ends, protocol.last_byte_at + self.timing.gap))
        for event in reader.flush():
            if not isinstance(event, Noise) and event != request.frame:
                return event
            noise = event if isinstance(event, Noise) else noise
        return noise or Silence()

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = replace(self._counts, **counts)


async def _pause(failures: int) -> None:
    """The back-off before a port is opened again; not in step with others that lost the same converter."""
    pause = REOPEN_SECONDS[min(failures, len(REOPEN_SECONDS)) - 1]
    await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
