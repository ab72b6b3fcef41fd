"""A broker that takes everything and acknowledges nothing for ten minutes, in simulated time: the whole daemon."""

import asyncio
import faulthandler
import json
import os
import signal
from collections.abc import Callable
from itertools import pairwise

import pytest

from bench.numbered import NumberedMeter
from bench.simulated_time import (
    Cellar,
    Clock,
    MemoryBroker,
    MemoryClient,
    broker_in_memory,
    ports_in_memory,
    simulated_time,
)
from mbusd.app import serve
from mbusd.configuration.settings import Settings
from mbusd.simulation.simulator import SimulatedBus
from mbusd.sinks.talk import Patience
from mbusd.sinks.topics import Message

BEGAN = 1_795_000_000.0  # November 2026
INTERVAL, STALLED, SOON = 10.0, 600.0, 30.0  # seconds
UNACKNOWLEDGED = Patience().unacknowledged
STATE, HISTORY = "mbusd/m1", "mbusd/m1/history"


class StalledBroker(MemoryBroker):
    """Publishes all that it gets, and knows when; `stalls` until it `goes_on`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(lambda topic, payload: self.said.append((clock.seconds, topic, payload)))
        self.said: list[tuple[float, str, str]] = []
        self.going = asyncio.Event()
        self.going.set()
        self.unacknowledged: list[Callable[[], None]] = []
        self.connections = 0

    def goes_on(self) -> None:
        """Acknowledges all that it has taken meanwhile."""
        self.going.set()
        for acknowledge in self.unacknowledged:
            acknowledge()

    def connect(self, client: MemoryClient) -> None:
        super().connect(client)
        self.connections += 1

    def numbers(self, topic: str) -> list[tuple[float, int]]:
        """When a reading came, and of which read-out it was."""
        return [(at, json.loads(payload)["power"] // 1000) for at, one, payload in self.said if one == topic]


@pytest.fixture
def _acknowledgements(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come when the broker goes on, or never on a connection that has ended."""
    sent, published = MemoryClient.send, MemoryClient.publish

    def send(self: MemoryClient, message: Message, landed: Callable[[], None]) -> None:
        broker = self._broker
        assert isinstance(broker, StalledBroker)
        sent(self, message, landed if broker.going.is_set() else lambda: broker.unacknowledged.append(landed))

    async def publish(self: MemoryClient, message: Message) -> None:
        await published(self, message)
        broker = self._broker
        assert isinstance(broker, StalledBroker)
        await broker.going.wait()

    monkeypatch.setattr(MemoryClient, "send", send)
    monkeypatch.setattr(MemoryClient, "publish", publish)
    monkeypatch.setattr(faulthandler, "enable", lambda: None)


@pytest.mark.usefixtures("_acknowledgements")
def test_ten_minutes_without_an_acknowledgement_lose_nothing_and_delay_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    meter = NumberedMeter(1)
    bus = {"name": "cellar", "port": "memory://cellar:1", "interval": INTERVAL, "meters": [meter.listed]}
    with simulated_time(BEGAN) as (clock, loop), ports_in_memory({"cellar": Cellar(SimulatedBus([meter.slave]), 2400)}):
        settings = Settings.model_validate({"mqtt": {"host": "memory", "history": True}, "buses": [bus]})
        broker = StalledBroker(clock)
        stalled = gone_on = 0.0

        async def lives() -> None:
            nonlocal stalled, gone_on
            task = asyncio.create_task(serve(settings))
            await asyncio.sleep(60)
            stalled = clock.seconds
            broker.going.clear()
            await asyncio.sleep(STALLED)
            gone_on = clock.seconds
            broker.goes_on()
            await asyncio.sleep(SOON)
            os.kill(os.getpid(), signal.SIGTERM)
            await task

        with broker_in_memory(broker):
            loop.run_until_complete(lives())
    moments = [at for at, _ in meter.told]
    assert max(later - earlier for earlier, later in pairwise(moments)) < 1.1 * INTERVAL
    read = [number for number, at in enumerate(moments) if at < gone_on + SOON / 2]
    assert len(read) > STALLED / INTERVAL
    heard = [number for _, number in broker.numbers(HISTORY)]
    assert list(dict.fromkeys(heard))[: len(read)] == read
    assert broker.connections > STALLED / 60
    doubtful = {number for number in read if stalled - 1 < moments[number] < stalled + UNACKNOWLEDGED}
    assert all(heard.count(number) == 1 for number in read if number not in doubtful)
    assert all(heard.count(number) <= 2 for number in doubtful)
    after = [number for at, number in broker.numbers(STATE) if at >= gone_on]
    assert after == sorted(after)
    assert after[-1] >= read[-1]
    assert "Traceback" not in caplog.text
