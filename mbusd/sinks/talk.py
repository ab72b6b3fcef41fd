"""What is said over one connection: what waits goes out in order, and what is not acknowledged is not forgotten."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from mbusd.light import dataclass
from mbusd.sinks.connection import Connection, Lost, Unsendable
from mbusd.sinks.echo import Echo
from mbusd.sinks.outbox import Outbox
from mbusd.sinks.topics import Message
from mbusd.sinks.window import SIZE, Window

if TYPE_CHECKING:
    from mbusd.sinks.stream import Stream
    from mbusd.spool import Spool

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
AFTERTHOUGHT_SECONDS = 0.1  # after an acknowledgement: mosquitto gives it, then hangs up on what is too long for it
LONG = 1000  # characters of a message that some broker may find too long
PROOF = 3  # connections in a row that end with the same topic on its way, and nothing else


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds."""

    reconnect: tuple[float, ...] = (1.0, 2.0, 5.0)  # between the tries; the last for ever
    refused: float = 30.0  # after a refused login at the least: some brokers lock out whoever knocks too often
    answer: float = 10.0  # for the broker to accept a connection, a subscription
    late: float = 5.0  # for an acknowledgement; what must not be lost is safe then
    unacknowledged: float = 30.0  # without any acknowledgement: the connection is given up
    forgotten: float = 300.0  # without the acknowledgement of one message, while others have theirs
    steady: float = 10.0  # a connection that ends before has not held
    listeners: float = 8.0  # after a broker came back, until those who listen have found it, too: the stream waits
    back: float = 60.0  # until the first broker is asked whether it is back
    subscribe: float = 5.0  # after a subscription was refused; then twice as long, and so on
    echo: float = 10.0  # for what we publish to come back where we are subscribed to it
    leave: float = 3.0


class Talk:
    """The outbox and the stream, and one connection at a time that takes from them.

    `answered` is called at the first acknowledgement on each connection.
    """

    def __init__(self, patience: Patience, spool: "Spool | None", answered: Callable[[], None]) -> None:
        self._answered = answered
        self._patience = patience
        self.news = asyncio.Event()
        self.outbox = Outbox()
        self.stream = _stream(spool, self.news)
        self.echo = Echo()
        self.alive_at = time.monotonic()
        self._broker = ""
        self._is_speaking = False
        self._has_spoken = False  # on an earlier connection
        self._is_late = False
        self._is_leaving = False
        self._is_answered = False
        self._suspect, self._ends = "", 0  # the topic with which the last connections have ended, and how many
        self._timers: list[asyncio.TimerHandle] = []
        self._taken: tuple[Message, float] | None = None  # if LONG, what was acknowledged last here, and when

    def add(self, message: Message) -> None:
        """Say it as soon as it is its turn; what is of now or never only if the broker listens now."""
        if message.is_fleeting and (self._is_late or not self._is_speaking):
            return
        if message.is_stream and self.stream is not None:
            self.stream.add(message)
        else:
            self.outbox.add(message)
        self.news.set()

    def leave(self) -> None:
        """Let what is on its way arrive, and send nothing more: `speak` ends."""
        self._is_leaving = True
        self.news.set()

    async def speak(self, line: Connection, subscriptions: Iterable[str], *, is_careful: bool = False) -> None:
        """Send what there is until we leave; careful: one after the other. Raises Lost."""
        self._broker = line.name
        self._is_leaving = self._is_late = self._is_answered = False
        self._taken = None
        self._is_speaking = True
        self.echo.begin(subscriptions)
        self.outbox.drop_fleeting()
        self.outbox.say_everything()
        self._begin_stream()
        window = Window(partial(self._send, line), self.news, 1 if is_careful else SIZE)
        try:
            await self._converse(window)
        finally:
            self._is_speaking = False
            is_given_up = self._is_leaving or window.silence >= self._patience.unacknowledged
            suspect = None if is_given_up else self._suspect_of(window)
            window.ground()
            self._ended()
            if is_careful and suspect is not None:
                self._suspect_it(suspect)

    def _begin_stream(self) -> None:
        """At once, unless the broker may just have come back: it acknowledges what it passes on to nobody, too."""
        stream, is_first = self.stream, not self._has_spoken
        self._has_spoken = True
        if stream is None:
            return
        if is_first and not stream.has_backlog:
            stream.connected()
        else:
            later = asyncio.get_running_loop().call_later
            self._timers.append(later(self._patience.listeners, stream.connected))

    def _suspect_of(self, window: Window) -> Message | None:
        """For which message the broker may have ended the connection: some acknowledge first what they do not want."""
        if window:
            return window.last
        return self._taken[0] if self._taken is not None and self._doubts_for > 0 else None

    @property
    def _doubts_for(self) -> float:
        """Seconds for which the broker may still hang up because of what it has acknowledged last."""
        if self._taken is None:
            return 0.0
        return self._taken[1] + AFTERTHOUGHT_SECONDS - asyncio.get_running_loop().time()

    def _send(self, line: Connection, message: Message, landed: Callable[[], None]) -> None:
        """Send it; what can never be sent is left out."""
        try:
            line.send(message, landed)
        except Unsendable as error:
            why = str(error)
        else:
            return
        if message.retain:
            self.outbox.bar(message.topic)
        log.error("%s cannot be published and is left out: %s", _shown(message), why)
        asyncio.get_running_loop().call_soon(landed)

    def _suspect_it(self, message: Message) -> None:
        """Some brokers end the connection when they do not want a message, and say nothing."""
        self._ends = self._ends + 1 if message.topic == self._suspect else 1
        self._suspect = message.topic
        if self._ends == PROOF:
            self.outbox.bar(message.topic)
            log.error(
                "the broker %s ends the connection whenever %s is published (%d bytes): do its rules (ACL) refuse it, "
                "or is it too long? It is left out until mbusd is started again",
                self._broker,
                message.topic,
                len(message.payload.encode("utf-8", "replace")),
            )

    def _ended(self) -> None:
        self.outbox.lost()
        if self.stream is not None:
            self.stream.lost()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    async def _converse(self, window: Window) -> None:
        while window or not self._is_leaving:
            self.alive_at = time.monotonic()
            self.news.clear()
            if not self._is_leaving:
                self._fill(window)
            try:
                async with asyncio.timeout(self._may_wait(window)):
                    await self.news.wait()
            except TimeoutError:
                pass
            if window.has_landed and not self._is_answered:
                self._is_answered = True
                self._answered()
            self._look_at(window)

    def _fill(self, window: Window) -> None:
        """From the outbox first: state is of now."""
        if window.is_narrow and self._doubts_for > 0:
            return
        while not window.is_full and (taken := self.outbox.take()) is not None:
            window.fly(taken[1], self._landed(*taken))
        stream = self.stream
        while stream is not None and self._takes_the_stream(window) and (taken := stream.take()) is not None:
            if self.outbox.is_barred(taken[1].topic):
                stream.landed(taken[0])
                continue
            window.fly(taken[1], self._stream_landed(stream, taken[0]))

    def _takes_the_stream(self, window: Window) -> bool:
        """Whether the broker is awake; what one that sleeps gets without acknowledging it, it would get twice."""
        is_awake = window.has_landed or not window
        return is_awake and not window.is_full and window.silence < self._patience.late

    def _landed(self, number: int, message: Message) -> Callable[[], None]:
        def landed() -> None:
            self.outbox.landed(number)
            is_long = len(message.payload) >= LONG
            self._taken = (message, asyncio.get_running_loop().time()) if is_long else None
            for pattern in self.echo.said(message.topic):
                later = asyncio.get_running_loop().call_later
                self._timers.append(later(self._patience.echo, self._miss, pattern))

        return landed

    @staticmethod
    def _stream_landed(stream: "Stream", token: int) -> Callable[[], None]:
        def landed() -> None:
            stream.landed(token)

        return landed

    def _may_wait(self, window: Window) -> float:
        """Seconds until an acknowledgement is overdue in one way or another."""
        if not window:
            return self._doubts_for if window.is_narrow and self._doubts_for > 0 else HEARTBEAT_SECONDS
        until_late = self._patience.late - window.age
        until_given_up = self._patience.unacknowledged - window.silence
        return max(0.01, min(until_given_up, HEARTBEAT_SECONDS if self._is_late else until_late))

    def _look_at(self, window: Window) -> None:
        patience = self._patience
        is_late = window.age >= patience.late
        if is_late and not self._is_late:
            self.outbox.drop_fleeting()
        self._is_late = is_late
        if self.stream is not None:
            self.stream.late(is_late=is_late)
        if window.silence >= patience.unacknowledged or window.age >= patience.forgotten:
            seconds = patience.unacknowledged if window.silence >= patience.unacknowledged else patience.forgotten
            raise Lost(f"the broker {self._broker} has not acknowledged what was published within {seconds:g} s")

    def _miss(self, pattern: str) -> None:
        topic = self.echo.missed(pattern)
        if topic is not None:
            log.warning(
                "the broker %s has acknowledged what we published on %s, but does not pass it on to us, who are "
                "subscribed to %s: do its rules (ACL) let us write and read there?",
                self._broker,
                topic,
                pattern,
            )


def _shown(message: Message) -> str:
    return repr(message.topic if len(message.topic) < 200 else message.topic[:200] + "…")  # may be anybody's


def _stream(spool: "Spool | None", news: asyncio.Event) -> "Stream | None":
    if spool is None:
        return None
    from mbusd.sinks.stream import Stream  # noqa: PLC0415 - as the spool: only a daemon with a history needs it

    return Stream(spool, news)
