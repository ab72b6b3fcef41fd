"""A Broker as the daemon has it, in a hurry; and its log, for somebody who waits for a line of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mbusd.configuration.settings import MqttSettings
from mbusd.sinks.mqtt import Broker
from mbusd.sinks.talk import Patience
from mbusd.sinks.topics import Message
from mbusd.spool import Spool
from tests.mosquitto import PATIENCE

WILL = Message("mbusd/bridge/state", "offline")
FAREWELL = (Message("mbusd/bridge/state", "offline"), Message("mbusd/m/availability", "offline"))
HURRY = Patience(reconnect=(0.05,), refused=0.05, steady=0.0, listeners=0.0)


class Client:
    """A Broker and what it received. `given`: of the patience what a test is about."""

    def __init__(
        self,
        port: int,
        *,
        spool: Spool | None = None,
        given: dict[str, float] | None = None,
        subscriptions: tuple[str, ...] = ("asked/#",),
        **settings: object,
    ) -> None:
        self.received: list[tuple[str, str, bool]] = []
        self._news = asyncio.Event()
        where = {} if "hosts" in settings else {"host": "127.0.0.1"}
        document = where | {"port": port} | settings
        self.broker = Broker(
            MqttSettings.model_validate(document),
            WILL,
            subscriptions,
            self._take,
            spool=spool,
            patience=replace(HURRY, **(given or {})),  # type: ignore[arg-type]  # no test is about the only tuple
        )

    def _take(self, topic: str, payload: str, retained: bool) -> None:  # noqa: FBT001 - the broker's callback
        self.received.append((topic, payload, retained))
        self._news.set()

    async def receives(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.received) < count:
                await self._news.wait()
                self._news.clear()

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.broker.publish(message)

    @asynccontextmanager
    async def running(self, farewell: Iterable[Message] = FAREWELL) -> AsyncIterator[asyncio.Task[None]]:
        task: asyncio.Task[None] = asyncio.create_task(self.broker.run(lambda: farewell))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled()

    async def connects(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.broker.connected.wait()


class Journal(logging.Handler):
    """The log, for somebody who waits for a line of it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self._news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}: {record.getMessage()}")
        self._news.set()

    async def until(self, text: str, count: int = 1) -> None:
        """Wait until so many lines have this text."""
        try:
            async with asyncio.timeout(PATIENCE):
                while sum(text in line for line in self.lines) < count:
                    await self._news.wait()
                    self._news.clear()
        except TimeoutError:
            raise AssertionError(f"'{text}' was not logged: {self.lines}") from None

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.lines if not line.startswith("INFO")]


@pytest.fixture
async def journal(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Journal]:
    one = Journal()
    logger = logging.getLogger("mbusd.sinks")
    with caplog.at_level(logging.INFO, logger.name):
        logger.addHandler(one)
        yield one
        logger.removeHandler(one)
