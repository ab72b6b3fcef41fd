"""Messages on their way to the broker: several at once, in order, and how long the oldest has not been acknowledged."""

import asyncio
import itertools
from collections.abc import Callable

from mbusd.sinks.topics import Message

SIZE = 20  # as many as paho sends before the first is acknowledged


class Window:
    """Sends in the order of `fly`. `news` is set at each acknowledgement.

    `send` begins to send a message, and calls what it is given when that is acknowledged, never at once.
    """

    def __init__(
        self, send: Callable[[Message, Callable[[], None]], None], news: asyncio.Event, size: int = SIZE
    ) -> None:
        self._send = send
        self._news = news
        self._size = size
        self._numbers = itertools.count(1)
        self._flights: dict[int, float] = {}  # by number, since when
        self.last: Message | None = None  # that was sent, as long as anything is on its way
        self._loop = asyncio.get_running_loop()
        self._acknowledged_at = self._loop.time()
        self.has_landed = False  # anything at all

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def is_narrow(self) -> bool:
        """One after the other."""
        return self._size == 1

    @property
    def is_full(self) -> bool:
        return len(self._flights) >= self._size

    @property
    def silence(self) -> float:
        """Seconds for which something was on its way and nothing was acknowledged."""
        return self._loop.time() - max(self._acknowledged_at, self._first) if self._flights else 0.0

    @property
    def age(self) -> float:
        """Seconds for which the oldest is on its way."""
        return self._loop.time() - self._first if self._flights else 0.0

    @property
    def _first(self) -> float:
        return next(iter(self._flights.values()))

    def fly(self, message: Message, landed: Callable[[], None]) -> None:
        """Send it; `landed` is called when it is acknowledged. Raises what `send` raises."""
        number = next(self._numbers)

        def done() -> None:
            if self._flights.pop(number, None) is None:
                return  # nobody waits for it any more
            if not self._flights:
                self.last = None
            self._acknowledged_at = self._loop.time()
            self.has_landed = True
            landed()
            self._news.set()

        self._send(message, done)
        self._flights[number] = self._loop.time()
        self.last = message

    def ground(self) -> None:
        """Wait for none of them any more."""
        self._flights.clear()
