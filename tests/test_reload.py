"""Requests that change what the daemon does, a configuration that is read again, and what is remembered of a scan."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from mbusd import app, config, memory
from mbusd.app import Daemon
from mbusd.configuration.settings import Settings
from mbusd.document import document_of
from mbusd.memory import Memory
from mbusd.profiles import shelf_of
from mbusd.scanning import scanner
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import SimulatedBus, SimulatedMeter
from mbusd.simulation.virtual_bus import opened
from tests.mosquitto import PATIENCE, Ear, Mosquitto, ear, mosquitto, retained
from tests.test_app import DISCOVERY, SNAPPY, ask, heat_meter, listed, said_of_scans

NOON = datetime(2026, 11, 20, 12)  # noqa: DTZ001 - a meter's clock has no zone


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LEARNING_SECONDS", 0.3), ("METERS_SECONDS", 0.1), ("BIRTH_SECONDS", 0.1)):
        monkeypatch.setattr(app, name, seconds)
    monkeypatch.setattr(scanner, "_ADDRESSES", 3)  # silence at the others would take time and nothing else


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


class Estate:
    """Two simulated buses, a configuration file that can be written anew, and a state folder."""

    def __init__(self, broker: Mosquitto, folder: Path) -> None:
        self.broker = broker
        self.file = folder / "config.yaml"
        self.state = folder / "state"
        self.document: dict[str, object] = {}
        self.ports: list[str] = []

    def read(self) -> Settings:
        return config.load(self.file, {})

    def write(self, *buses: dict[str, object], **others: object) -> None:
        mqtt = {"host": "127.0.0.1", "port": self.broker.port}
        self.file.write_text(json.dumps({"mqtt": mqtt, "buses": buses} | others))

    def bus(self, name: str, index: int, *meters: dict[str, object], **options: object) -> dict[str, object]:
        return {
            "name": name,
            "port": self.ports[index],
            "meters": meters,
            "timeout": "0.06s",
            "discover": "off",
        } | options

    @asynccontextmanager
    async def wires(self, *houses: list[SimulatedMeter]) -> AsyncIterator[None]:
        first, last = (SimulatedBus(house, NOON) for house in (houses[0], houses[-1]))
        here = ("127.0.0.1", 0)
        async with opened(first, tcp=here, baudrate=38400) as one, opened(last, tcp=here, baudrate=38400) as other:
            self.ports = [f"tcp://127.0.0.1:{served.tcp[1]}" for served in (one, other) if served.tcp]
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Ear]:
        async with ear(self.broker.port) as listener:
            daemon = Daemon(self.read(), shelf_of(None)[0], Memory.load(self.state), self.read)
            task = asyncio.create_task(daemon.run())
            try:
                yield listener
            finally:
                assert not task.done(), task.exception()
                task.cancel()
                await asyncio.wait([task], timeout=PATIENCE)
                assert task.cancelled()


@pytest.fixture
def estate(broker: Mosquitto, tmp_path: Path) -> Estate:
    return Estate(broker, tmp_path)


HEAT = {"name": "heat", "address": 5, "interval": "1h"}


async def test_small_requests(estate: Estate) -> None:
    async with estate.wires([heat_meter()]):
        estate.write(estate.bus("cellar", 0, HEAT))
        async with estate.running() as listener:
            await listener.said("mbusd/heat")
            answer = await ask(listener, "interval", '{"meter": "heat", "interval": "10m"}')
            assert answer["status"] == "ok"
            await listener.until(lambda ear: any(one["interval"] == "600s" for one in listed(ear)))
            answer = await ask(listener, "interval", '{"meter": "heat", "interval": "soon"}')
            assert str(answer["error"]).startswith("heat: 'soon' is no duration")
            answer = await ask(listener, "interval", '{"meter": "haet", "interval": "10m"}')
            assert answer["error"] == "there is no meter 'haet'; 'heat' is meant?; there are heat"
            for payload in ("E5", '{"hex": "E5"}'):
                assert (await ask(listener, "decode", payload))["data"] == document_of("E5")
            data = (await ask(listener, "decode", "68 zz"))["data"]
            assert isinstance(data, dict)
            assert data["error"]["code"] == "hex"
            answer = await ask(listener, "log_level", "lodu")
            assert str(answer["error"]).startswith("there is no log level 'lodu'")
            assert (await ask(listener, "log_level", "info"))["status"] == "ok"
            await listener.until(lambda ear: json.loads(ear.last["mbusd/bridge/info"]).get("log_level") == "info")
            answer = await ask(listener, "forget", "heat")
            assert answer["error"] == "heat stands in the configuration: take it out there, then `reload`"
            assert "reload" in str((await ask(listener, "relaod", ""))["error"])


@pytest.mark.parametrize("payload", ["12345678", '"12345678"', '{"meter": "12345678"}', "123456782D2C0104"])
async def test_a_meter_without_a_name_is_called_by_its_number_too(payload: str, estate: Estate) -> None:
    async with estate.wires([heat_meter()]):
        estate.write(estate.bus("cellar", 0, {"address": 5, "interval": "1h"}))
        async with estate.running() as listener:
            await listener.said("mbusd/123456782D2C0104")
            answer = await ask(listener, "read", payload)
            assert answer["status"] == "ok"


async def test_what_a_scan_has_found_is_read_at_once_after_a_restart_and_can_be_forgotten(estate: Estate) -> None:
    meters = household(NOON)
    names = {one.secondary.digits for one in meters}
    async with estate.wires(meters):
        estate.write(estate.bus("mbus", 0, **(SNAPPY | {"discover": "both"})))
        async with estate.running() as listener:
            for name in names:
                await listener.said(DISCOVERY.format(name))
        gone = min(names)
        async with estate.running() as listener:
            for name in names:
                await listener.until(lambda ear, name=name: len(ear.payloads(f"mbusd/{name}")) > 1)  # type: ignore[misc]  # a default argument
            assert not said_of_scans(listener)
            assert (await ask(listener, "forget", gone))["status"] == "ok"
            await listener.until_last(DISCOVERY.format(gone), "")
            await listener.until(lambda ear: {one["name"] for one in listed(ear)} == names - {gone})
        assert not [topic for topic in await retained(estate.broker.port) if gone in topic]
        async with estate.running() as listener:
            await listener.until(lambda ear: {one["name"] for one in listed(ear)} == names - {gone})


async def test_a_reload_does_what_has_changed_and_nothing_else(estate: Estate) -> None:
    async with estate.wires([heat_meter()], [heat_meter("87654321")]):
        estate.write(estate.bus("cellar", 0, HEAT), estate.bus("attic", 1, HEAT | {"name": "top"}))
        async with estate.running() as listener:
            for name in ("heat", "top"):
                await listener.said(f"mbusd/{name}/energy")
            await listener.said(DISCOVERY.format("876543212D2C0104"))
            await ask(listener, "decode", "E5")  # whatever was said before has arrived, too
            listener.heard.clear()
            estate.write(estate.bus("cellar", 0, HEAT), estate.bus("attic", 1, HEAT | {"name": "roof"}))
            data = (await ask(listener, "reload", ""))["data"]
            assert data == {"unchanged": ["cellar"], "restarted": ["attic"], "removed": [], "new": [], "remarks": []}
            await listener.until(lambda ear: '"mbusd/roof"' in ear.last[DISCOVERY.format("876543212D2C0104")])
            await listener.until_last("mbusd/top/energy", "")
            assert "" not in listener.payloads(
                DISCOVERY.format("876543212D2C0104")
            )  # the same meter: its history stays
            estate.write(estate.bus("cellar", 0, HEAT))
            data = (await ask(listener, "reload", ""))["data"]
            assert isinstance(data, dict)
            assert data["removed"] == ["attic"]
            await listener.until_last(DISCOVERY.format("876543212D2C0104"), "")
            await listener.until_last("mbusd/bus/attic/state", "")
            assert not [
                heard for heard in listener.heard if heard.topic.startswith(("mbusd/heat", "mbusd/bus/cellar/state"))
            ]
        left = await retained(estate.broker.port)
        assert not [topic for topic in left if "/top" in topic or "/roof" in topic or "attic" in topic]


@pytest.mark.parametrize("interval", ["1h", "manual", "0 0 1 1 *"])
async def test_who_writes_one_of_the_found_meters_into_the_file_by_its_address_loses_nothing(
    interval: str, estate: Estate
) -> None:
    """Until that one was read it may be any of them: none is gone, and Home Assistant forgets nobody."""
    devices = [DISCOVERY.format(f"{number}2D2C0104") for number in ("12345678", "22222222")]
    async with estate.wires([heat_meter(), heat_meter("22222222", "04 06 07 00 00 00", address=6)]):
        found = estate.bus("cellar", 0, **(SNAPPY | {"discover": "both", "interval": "1h"}))
        estate.write(found)
        async with estate.running() as listener:
            for device in devices:
                await listener.said(device)
            estate.write(found | {"meters": [{"name": "house", "address": 6, "interval": interval}]})
            assert (await ask(listener, "reload", "{}"))["status"] == "ok"
            await listener.until(lambda ear: json.loads(ear.last[devices[1]])["stat_t"] == "mbusd/house")
            await listener.until_last("mbusd/house/energy", "7")
            await listener.until_last("mbusd/222222222D2C0104/energy", "")
            await ask(listener, "read_all", "{}")
            assert all(all(listener.payloads(device)) for device in devices)
            await listener.until(lambda ear: {one["name"] for one in listed(ear)} == {"123456782D2C0104", "house"})
            assert json.loads(listener.last[devices[0]])["stat_t"] == "mbusd/123456782D2C0104"


async def test_a_bus_with_another_name_goes_on_with_what_was_found_on_it(estate: Estate) -> None:
    meters = household(NOON)
    names = {one.secondary.digits for one in meters}
    async with estate.wires(meters):
        estate.write(estate.bus("cellar", 0, **(SNAPPY | {"discover": "both"})))
        async with estate.running() as listener:
            for name in names:
                await listener.said(f"mbusd/{name}")
            await listener.until(lambda ear: any(one.get("state") == "done" for one in said_of_scans(ear)))
            scans = len(said_of_scans(listener))
            estate.write(estate.bus("basement", 0, **(SNAPPY | {"discover": "both"})))
            data = (await ask(listener, "reload", ""))["data"]
            assert isinstance(data, dict)
            assert (data["new"], data["removed"]) == (["basement"], ["cellar"])
            await listener.until(lambda ear: {one["bus"] for one in listed(ear)} == {"basement"})
            assert {one["name"] for one in listed(listener)} == names
            await listener.until_last("mbusd/bus/basement/state", "online")
            assert len(said_of_scans(listener)) == scans
            assert all(listener.last[DISCOVERY.format(name)] for name in names)
            assert "" not in [payload for name in names for payload in listener.payloads(DISCOVERY.format(name))]


async def test_reading_goes_on_while_the_disk_is_full(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "SAVE_SECONDS", 0.05)
    estate.state.mkdir()
    (estate.state / "state.new").mkdir()  # nothing can be written there
    async with estate.wires([heat_meter()]):
        estate.write(estate.bus("cellar", 0, HEAT))
        async with estate.running() as listener:
            await listener.said("mbusd/heat")
            await listener.until(lambda _: "the state cannot be saved" in caplog.text)
            for _ in range(3):
                assert (await ask(listener, "read", "heat"))["status"] == "ok"
    assert caplog.text.count("the state cannot be saved") == 1


async def test_a_broken_file_or_another_broker_changes_nothing(
    estate: Estate, caplog: pytest.LogCaptureFixture
) -> None:
    async with estate.wires([heat_meter()]):
        estate.write(estate.bus("cellar", 0, HEAT))
        async with estate.running() as listener:
            await listener.said("mbusd/heat")
            estate.write(estate.bus("cellar", 0, HEAT | {"adress": 5}, {"address": 999}))
            error = str((await ask(listener, "reload", ""))["error"])
            assert "buses[0].meters[0].adress" in error
            assert "buses[0].meters[1].address" in error
            assert "reload: the configuration is wrong, nothing was changed:" in caplog.messages
            estate.write(estate.bus("cellar", 0, HEAT), mqtt={"host": "127.0.0.2"})
            answer = await ask(listener, "reload", "")
            assert answer["error"] == "mqtt: this needs a restart; nothing was changed"
            assert (await ask(listener, "read", "heat"))["status"] == "ok"
