"""Messages on their way to the broker: several at once, in order, and how long the oldest has not been acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable

from mbusd.sinks.topics import Message

SIZE = 20  # as many as paho sends before the first is acknowledged


class Window:
    """Sends in the order of `fly`. `news` is set at each acknowledgement, and when sending has failed."""

    def __init__(self, send: Callable[[Message], Awaitable[None]], news: asyncio.Event, size: int = SIZE) -> None:
        self._send = send
        self._news = news
        self._size = size
        self._flights: dict[asyncio.Task[None], float] = {}
        self.last: Message | None = None  # that was sent, as long as anything is on its way
        self._loop = asyncio.get_running_loop()
        self._acknowledged_at = self._loop.time()
        self._failure: BaseException | None = None
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
        """Send it; `landed` is called when it is acknowledged."""

        async def send() -> None:
            await self._send(message)

        def done(task: asyncio.Task[None]) -> None:
            self._flights.pop(task, None)
            if not self._flights:
                self.last = None
            if task.cancelled():
                return
            error = task.exception()
            if error is None:
                self._acknowledged_at = self._loop.time()
                self.has_landed = True
                landed()
            else:
                self._failure = self._failure or error
            self._news.set()

        task = asyncio.create_task(send(), name=f"mqtt: {message.topic}")
        self._flights[task] = self._loop.time()
        self.last = message
        task.add_done_callback(done)

    def check(self) -> None:
        """Raises what sending has met."""
        if self._failure is not None:
            raise self._failure

    async def ground(self) -> None:
        """Wait for none of them any more."""
        flights = list(self._flights)
        for task in flights:
            task.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
