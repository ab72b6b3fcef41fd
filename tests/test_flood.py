"""Requests without end: what is beyond a burst is dropped, the schedule goes on, and no meter's battery pays for it."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from mbusd import app, orders
from mbusd.app import Daemon
from mbusd.configuration.settings import Settings
from mbusd.flood import BURST, FloodGate
from mbusd.scanning import scanner
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.virtual_bus import opened
from tests.mosquitto import Ear, Mosquitto, ear, mosquitto
from tests.test_app import ask, said_of_scans

FLOOD = 2000
LONGEST_STEP = 0.5  # seconds of the processor between two turns of the event loop, whoever else needs it
SNAPPY: dict[str, object] = {"baudrate": 38400, "timeout": "0.06s", "interval": "1d", "discover": "off"}

_METER: dict[str, object] = {"manufacturer": "KAM", "medium": 4, "records": ["04 06 01 00 00 00"]}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LEARNING_SECONDS", 0.3)
    monkeypatch.setattr(app, "BIRTH_SECONDS", 0.1)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


@asynccontextmanager
async def running(broker: Mosquitto, **buses: Mapping[str, tuple[int, str]]) -> AsyncIterator[tuple[Daemon, Ear]]:
    """A daemon with buses of meters: name, address and interval of each."""
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(ear(broker.port))
        listed = []
        for name, meters in buses.items():
            simulated = [
                meter_from(_METER | {"address": address, "identification": f"{address:08}"})
                for address, _ in meters.values()
            ]
            bus = SimulatedBus(simulated, datetime(2026, 11, 20, 12))  # noqa: DTZ001 - a meter's clock has no zone
            served = await stack.enter_async_context(opened(bus, tcp=("127.0.0.1", 0), baudrate=38400))
            assert served.tcp is not None
            said = [{"name": key, "address": address, "interval": often} for key, (address, often) in meters.items()]
            listed.append(SNAPPY | {"name": name, "port": f"tcp://127.0.0.1:{served.tcp[1]}", "meters": said})
        mqtt = {"host": "127.0.0.1", "port": broker.port}
        daemon = Daemon(Settings.model_validate({"mqtt": mqtt, "buses": listed}))
        task = asyncio.create_task(daemon.run())
        try:
            yield daemon, listener
        finally:
            assert not task.done(), task.exception()
            task.cancel()
            await asyncio.wait([task])


class Pulse:
    """The longest that the event loop was kept busy at one stretch, in seconds of the processor."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.thread_time() - began)


async def test_a_flood_neither_starves_the_schedule_nor_the_loop_nor_drains_a_meter(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(broker, cellar={"heat": (5, "1d"), "cool": (6, "1s")}) as (daemon, listener):
        await listener.said("mbusd/heat")
        await listener.said("mbusd/cool")
        pulse = Pulse()
        beating = asyncio.create_task(pulse.beat())
        before = len(listener.payloads("mbusd/cool"))
        for number in range(FLOOD):
            topic, payload = (
                ("mbusd/heat/get", "") if number % 2 else ("mbusd/bridge/request/read", '{"meter": "heat"}')
            )
            await listener.client.publish(topic, payload, qos=0)
        await listener.until(lambda ear: len(ear.payloads("mbusd/cool")) >= before + 3)
        await listener.until(lambda _: daemon.requests_dropped >= FLOOD - BURST - 200)
        beating.cancel()
        answers = [json.loads(one) for one in listener.payloads("mbusd/bridge/response/read")]
        refused = [one["error"] for one in answers if one["status"] == "error"]
        assert len(answers) <= BURST
        assert len(listener.payloads("mbusd/heat")) <= orders.READS[0] + 1  # and that of the start
        assert refused
        assert all("heat: it was read by request too often" in why and "`interval`" in why for why in refused)
        assert pulse.longest < LONGEST_STEP
        told = [one.getMessage() for one in caplog.records if "flood" in one.getMessage()]
        assert told == ["a flood of requests: more than 500 at once, and one a second then, are dropped"]


async def test_who_asks_again_and_again_is_refused_and_the_meter_left_alone(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "READS", (3, 60.0))
    async with running(broker, cellar={"heat": (5, "1d"), "cool": (6, "1d")}) as (_, listener):
        await listener.said("mbusd/heat")
        await listener.said("mbusd/cool")
        said = [(await ask(listener, "read", '{"meter": "heat"}'))["status"] for _ in range(5)]
        assert said == ["ok", "ok", "ok", "error", "error"]
        count = len(listener.payloads("mbusd/heat"))
        await listener.say("mbusd/heat/get", "")
        assert (await ask(listener, "read", "cool"))["status"] == "ok"  # asked later, answered: `get` was not obeyed
        assert len(listener.payloads("mbusd/heat")) == count == 4
        assert (await ask(listener, "read", '{"meter": "heat", "force": true}'))["status"] == "ok"
        every = [(await ask(listener, "read_all", "{}"))["status"] for _ in range(4)]
        assert every == ["ok", "ok", "ok", "error"]


async def test_scans_are_limited_too_and_each_bus_for_itself(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "SCANS", (2, 600.0))
    monkeypatch.setattr(scanner, "_ADDRESSES", 2)  # silence at the others would take time and nothing else
    async with running(broker, cellar={"heat": (5, "1d")}, attic={"cool": (6, "1d")}) as (_, listener):
        await listener.said("mbusd/heat")
        await listener.said("mbusd/cool")
        for _ in range(2):
            assert (await ask(listener, "scan", '{"bus": "cellar", "mode": "primary"}'))["status"] == "ok"
        answer = await ask(listener, "scan", '{"bus": "cellar", "mode": "primary"}')
        assert answer["status"] == "error"
        assert str(answer["error"]).startswith("cellar: it was searched too often; 2 requests at once")
        assert (await ask(listener, "scan", '{"bus": "attic", "mode": "primary"}'))["status"] == "ok"


async def test_a_scan_of_no_bus_in_particular_searches_all(broker: Mosquitto) -> None:
    async with running(broker, cellar={"heat": (5, "1d")}, attic={"cool": (6, "1d")}) as (_, listener):
        await listener.said("mbusd/heat")
        await listener.said("mbusd/cool")
        answer = await ask(listener, "scan", '{"mode": "secondary"}')
        data = answer["data"]
        assert isinstance(data, dict)
        assert sorted(one["primary"] for one in data["found"]) == [5, 6]
        ended = {event["bus"]: event["state"] for event in said_of_scans(listener) if event["event"] == "scan_ended"}
        assert ended == {"cellar": "done", "attic": "done"}
        answer = await ask(listener, "scan", '{"cancel": true}')
        assert answer["error"] == "cellar: no scan runs on cellar; attic: no scan runs on attic"


async def test_a_second_scan_on_a_bus_that_is_searched_is_refused_and_those_of_the_others_go_on(
    broker: Mosquitto,
) -> None:
    async with running(broker, cellar={"heat": (5, "1d")}, attic={"cool": (6, "1d")}) as (_, listener):
        await listener.said("mbusd/heat")
        await listener.say("mbusd/bridge/request/scan", '{"bus": "cellar"}')
        await listener.until(lambda ear: bool(said_of_scans(ear)))
        answer = await ask(listener, "scan", '{"mode": "secondary"}')
        data = answer["data"]
        assert isinstance(data, dict)
        assert answer["status"] == "ok"
        assert [one["primary"] for one in data["found"]] == [6]
        assert "cellar: a scan runs on cellar already" in data["remarks"]
        answer = await ask(listener, "scan", '{"cancel": true}')
        assert answer["status"] == "ok"


async def test_home_assistant_that_starts_without_end_is_told_everything_once_in_a_while(broker: Mosquitto) -> None:
    async with running(broker, cellar={"heat": (5, "1d")}) as (daemon, listener):
        await listener.said("mbusd/heat")
        told = "homeassistant/device/mbusd_bridge/config"
        await listener.said(told)
        before = len(listener.payloads(told))
        for _ in range(300):
            await listener.say("homeassistant/status", "online")
        await listener.until(lambda ear: len(ear.payloads(told)) > before)
        assert (await ask(listener, "read", "heat"))["status"] == "ok"
        assert len(listener.payloads(told)) - before < 100
        assert daemon.requests_dropped == 0


def test_the_log_tells_of_a_flood_once_a_minute_and_of_its_end_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    later: list[tuple[float, Callable[[], None]]] = []
    gate = FloodGate(lambda seconds, tell: later.append((seconds, tell)))
    with caplog.at_level(logging.INFO):
        assert [gate.admits(1000.0) for _ in range(BURST + 100)].count(True) == BURST
        assert len(caplog.messages) == 1
        assert [seconds for seconds, _ in later] == [60.0]
        later.pop()[1]()
        assert caplog.messages[1:] == ["100 requests were dropped in the last minute"]
        later.pop()[1]()
        assert (later, len(caplog.messages)) == ([], 2)
        gate.admits(1000.0)
        assert (len(later), len(caplog.messages), gate.dropped) == (1, 3, 101)
