"""sniff: listens to a bus that another master drives, on one adapter or two, and never writes a byte."""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from mbusd.commands.output import complain, say
from mbusd.commands.overheard import Teller, summary
from mbusd.line.timing import Timing
from mbusd.line.transport import Port, TransportError, open_port
from mbusd.mbus.exchanges import Direction
from mbusd.mbus.tap import Pace, Tap

TICK_SECONDS = 0.1  # how often a quiet bus is looked at
PATIENCE_SECONDS = 2.0  # for a late answer while the master is quiet
_TWO: tuple[Direction, ...] = ("master", "meter")


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be listened to. With `second`, the first port hears the master and the second the meters."""

    port: str
    second: str | None
    baudrate: int
    seconds: float | None  # None: until Ctrl-C

    @property
    def ports(self) -> tuple[Port, ...]:
        """All that are to be opened."""
        return tuple(Port(name, self.baudrate) for name in (self.port, self.second) if name)


@dataclass(frozen=True, slots=True)
class _Bytes:
    """What one adapter handed over."""

    source: int
    data: bytes
    at: float


@dataclass(frozen=True, slots=True)
class _Lost:
    """The port is gone."""

    port: str
    why: str


class _Adapter(asyncio.Protocol):
    """One port that is only listened to."""

    def __init__(self, source: int, port: str, news: "asyncio.Queue[_Bytes | _Lost | None]") -> None:
        self._source = source
        self._port = port
        self._news = news

    def data_received(self, data: bytes) -> None:
        self._news.put_nowait(_Bytes(self._source, data, time.monotonic()))

    def connection_lost(self, exc: Exception | None) -> None:
        self._news.put_nowait(_Lost(self._port, str(exc) if exc else "the connection was closed"))


async def run(question: Question, *, as_json: bool) -> int:
    """Print every exchange until Ctrl-C or until the time is over, then a summary. Raises TransportError.

    With `as_json` the exchanges are all that stdout gets, one document a line; the summary goes to stderr.
    """
    news: asyncio.Queue[_Bytes | _Lost | None] = asyncio.Queue()
    tap = Tap(_pace(question.ports), _TWO if question.second else (None,))
    teller = Teller(as_json=as_json)
    with ExitStack() as stack:
        for source, port in enumerate(question.ports):
            transport = await open_port(port, partial(_Adapter, source, port.name, news))
            stack.callback(transport.close)
        names = " and ".join(port.name for port in question.ports)
        complain(f"listening on {names} at {question.baudrate} Bd; Ctrl-C ends it")
        lost = await _listen(question.seconds, news, tap, teller)
    teller.show(tap.end())
    tell = complain if as_json else say
    for line in summary(tap, teller, question.ports[0]):
        tell(line)
    if lost is not None:
        raise TransportError(lost.port, lost.why)
    return 0


def _pace(ports: Sequence[Port]) -> Pace:
    """The times of the slower adapter; a late answer still belongs to its request until the next one comes."""
    slower = max(ports, key=lambda port: port.slack_seconds)
    timing = Timing.of(slower.baudrate, slower.slack_seconds)
    window = max(timing.window + timing.slack, PATIENCE_SECONDS)
    return Pace(timing.wire(1), window, timing.gap, timing.slack / 2 if len(ports) > 1 else 0.0)


async def _listen(
    seconds: float | None, news: "asyncio.Queue[_Bytes | _Lost | None]", tap: Tap, teller: Teller
) -> _Lost | None:
    """Until the time is over, a signal comes (None in the queue) or a port is lost."""
    end = time.monotonic() + (float("inf") if seconds is None else seconds)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, news.put_nowait, None)
    try:
        while (now := time.monotonic()) < end:
            try:
                async with asyncio.timeout(min(TICK_SECONDS, end - now)):
                    item = await news.get()
            except TimeoutError:
                teller.show(tap.pause(time.monotonic()))
                continue
            if not isinstance(item, _Bytes):
                return item
            teller.show(tap.feed(item.data, item.at, item.source))
        return None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
