"""The daemon in one process with simulated meters and a real mosquitto: from the wire to the topics and back."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from mbusd import app
from mbusd.app import Daemon
from mbusd.configuration.settings import Settings
from mbusd.memory import Memory
from mbusd.scanning import scanner
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import SimulatedBus, SimulatedMeter
from mbusd.simulation.virtual_bus import opened
from tests.mosquitto import PATIENCE, Ear, Mosquitto, ear, mosquitto, retained

DISCOVERY = "homeassistant/device/mbusd_{}/config"
MULTICAL = {
    "fabrication_number": "68104402",
    "energy": 10,
    "volume": 2.72,
    "on_time": 2423,
    "flow_temperature": 18.36,
    "return_temperature": 18.16,
    "temperature_difference": 0.2,
    "power": 0,
    "power_maximum": 4700,
    "volume_flow": 0,
    "volume_flow_maximum": 1.39,
}


def heat_meter(identification: str = "12345678", *records: str, address: int = 5) -> SimulatedMeter:
    entry = {
        "address": address,
        "identification": identification,
        "manufacturer": "KAM",
        "medium": 4,
        "records": list(records or ("04 06 0A 00 00 00", "04 14 10 01 00 00")),
    }
    return meter_from(entry)


class House:
    """A simulated bus, a broker, and the settings of a daemon that serves both."""

    def __init__(self, broker: Mosquitto, *meters: SimulatedMeter) -> None:
        self.broker = broker
        self.bus = SimulatedBus(list(meters), datetime(2026, 11, 20, 12))  # noqa: DTZ001 - a meter's clock has no zone
        self.meters: list[dict[str, object]] = [{"name": "heat", "address": 5, "interval": "1h"}]
        self.bus_settings: dict[str, object] = {}
        self.pace = 0  # of the wire, in Bd
        self.mqtt: dict[str, object] = {"host": "127.0.0.1", "port": broker.port}
        self.memory = Memory()  # of all lives

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Ear]:
        """The daemon and somebody who listens; ends the daemon as SIGTERM does."""
        async with (
            opened(self.bus, tcp=("127.0.0.1", 0), baudrate=self.pace) as served,
            ear(self.broker.port) as listener,
        ):
            assert served.tcp is not None
            bus = {"name": "cellar", "port": f"tcp://127.0.0.1:{served.tcp[1]}", "meters": self.meters}
            settings = Settings.model_validate({"mqtt": self.mqtt, "buses": [bus | self.bus_settings]})
            task = asyncio.create_task(Daemon(settings, memory=self.memory).run())
            try:
                yield listener
            finally:
                assert not task.done(), task.exception()
                task.cancel()
                await asyncio.wait([task], timeout=PATIENCE)
                assert task.cancelled()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LEARNING_SECONDS", 0.3)
    monkeypatch.setattr(app, "METERS_SECONDS", 0.1)
    monkeypatch.setattr(app, "BIRTH_SECONDS", 0.1)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


@pytest.fixture
def house(broker: Mosquitto) -> House:
    return House(broker, heat_meter())


async def ask(listener: Ear, command: str, payload: str) -> dict[str, object]:
    """Send a request and give its answer, known by its transaction."""
    topic = f"mbusd/bridge/response/{command}"
    before = len(listener.payloads(topic))
    await listener.say(f"mbusd/bridge/request/{command}", payload)
    await listener.until(lambda ear: len(ear.payloads(topic)) > before)
    answer: dict[str, object] = json.loads(listener.payloads(topic)[before])
    took = answer.pop("took")
    assert isinstance(took, int | float)
    assert 0 <= took < PATIENCE
    return answer


async def test_a_multical_is_read_exactly(broker: Mosquitto) -> None:
    house = House(broker, *household(datetime(2026, 11, 20, 12)))  # noqa: DTZ001 - a meter's clock has no zone
    house.meters = [{"name": "heat_pump", "address": 68}, {"address": "21436587", "interval": "manual"}]
    async with house.running() as listener:
        document = json.loads(await listener.said("mbusd/heat_pump"))
        assert document.pop("time").endswith("Z")
        assert document == {"status": [], **MULTICAL}
        await listener.said("mbusd/heat_pump/volume_flow_maximum")
        assert {key: listener.last[f"mbusd/heat_pump/{key}"] for key in MULTICAL} == {
            key: str(value) for key, value in MULTICAL.items()
        }
        await listener.until_last("mbusd/heat_pump/availability", "online")
        await listener.until_last("mbusd/bus/cellar/state", "online")
        await listener.until_last("mbusd/bridge/state", "online")
        config = json.loads(await listener.said(DISCOVERY.format("681044022D2C0904")))
        assert set(MULTICAL) <= set(config["cmps"])
        topics = [heard.topic for heard in listener.heard]
        assert topics.index(DISCOVERY.format("bridge")) < topics.index(DISCOVERY.format("681044022D2C0904"))
        await listener.until(lambda ear: '"last_read": "2' in ear.last.get("mbusd/bridge/meters", ""))
        meters = json.loads(listener.last["mbusd/bridge/meters"])
        assert [(meter["name"], meter["address"], meter["interval"]) for meter in meters] == [
            ("heat_pump", "68", "3600s"),
            (None, "21436587", "manual"),
        ]
        assert {key["key"]: key["unit"] for key in meters[0]["keys"]}["volume_flow_maximum"] == "m³/h"


async def test_the_farewell(house: House) -> None:
    async with house.running() as listener:
        await listener.said(DISCOVERY.format("123456782D2C0104"))
        await listener.until_last("mbusd/heat/availability", "online")
    left = await retained(house.broker.port)
    assert {topic: payload for topic, payload in left.items() if topic.endswith(("/state", "/availability"))} == {
        "mbusd/bridge/state": "offline",
        "mbusd/bus/cellar/state": "offline",
        "mbusd/heat/availability": "offline",
    }
    assert left["mbusd/heat/energy"] == "10"
    assert not [topic for topic in left if topic.startswith(("mbusd/bridge/event", "mbusd/bridge/response"))]


async def test_another_base_topic_and_no_secret_anywhere(house: House) -> None:
    house.mqtt |= {"base_topic": "house/m-bus", "username": "somebody", "password": "hunter2"}
    async with house.running() as listener:
        info = json.loads(await listener.said("house/m-bus/bridge/info"))
        assert info["counts"] == {"buses": 1, "meters": 1}
        assert info["config"]["mqtt"]["username"] == "somebody"
        await listener.said("house/m-bus/heat/energy")
        config = json.loads(await listener.said(DISCOVERY.format("123456782D2C0104")))
        assert config["stat_t"] == "house/m-bus/heat"
        await listener.say("house/m-bus/bridge/request/read", "heat")
        await listener.said("house/m-bus/bridge/response/read")
        assert not [heard for heard in listener.heard if "hunter2" in heard.payload]
        assert not [heard for heard in listener.heard if heard.topic.startswith("mbusd/")]


async def test_requests(house: House) -> None:
    house.meters.append({"name": "absent", "address": 9, "interval": "manual"})
    async with house.running() as listener:
        await listener.said("mbusd/heat")
        answer = await ask(listener, "read", '{"meter": "heat", "transaction": {"a": [1, "ü"]}}')
        assert (answer["status"], answer["transaction"]) == ("ok", {"a": [1, "ü"]})
        assert answer["data"] == {"meter": "heat", "reading": json.loads(listener.last["mbusd/heat"])}
        answer = await ask(listener, "read", '{"meter": "nobody", "transaction": 7}')
        assert answer == {
            "status": "error",
            "error": "there is no meter 'nobody'; there are heat, absent",
            "transaction": 7,
        }
        answer = await ask(listener, "read_all", "")
        data = answer["data"]
        assert isinstance(data, dict)
        assert (answer["status"], list(data["readings"]), list(data["failed"])) == ("ok", ["heat"], ["absent"])
        answer = await ask(listener, "explode", "{}")
        assert (answer["status"], str(answer["error"])[:18]) == ("error", "there is no reques")


def said_of_scans(listener: Ear) -> list[dict[str, object]]:
    events: list[dict[str, object]] = [json.loads(payload) for payload in listener.payloads("mbusd/bridge/event")]
    return [event for event in events if str(event["event"]).startswith("scan")]


SNAPPY: dict[str, object] = {"baudrate": 38400, "timeout": "0.06s", "interval": "1d"}  # a scan consists of silence


async def test_a_scan_by_request(broker: Mosquitto) -> None:
    meters = household(datetime(2026, 11, 20, 12))  # noqa: DTZ001 - a meter's clock has no zone
    house = House(broker, *meters)
    house.bus_settings, house.pace = SNAPPY, 38400
    house.meters = [{"name": "heat_pump", "address": 68}]
    async with house.running() as listener:
        await listener.said("mbusd/heat_pump")
        answer = await ask(listener, "scan", '{"mode": "secondary", "transaction": 7}')
        assert (answer["status"], answer["transaction"]) == ("ok", 7)
        data = answer["data"]
        assert isinstance(data, dict)
        assert {one["address"] for one in data["found"]} == {one.secondary.digits for one in meters}
        assert {one["primary"] for one in data["found"]} == {one.primary for one in meters}
        events = said_of_scans(listener)
        assert {event["found"] for event in events if "found" in event} == {one.secondary.digits for one in meters}
        assert (events[-1]["event"], events[-1]["state"]) == ("scan_ended", "done")
        for one in meters[1:]:  # those that are new are read from now on
            await listener.said(f"mbusd/{one.secondary.digits}")
            await listener.said(DISCOVERY.format(one.secondary.digits))
        assert meters[0].secondary.digits not in {heard.topic.split("/")[1] for heard in listener.heard}


async def test_one_scan_at_a_time_and_it_can_be_ended(broker: Mosquitto) -> None:
    meters = household(datetime(2026, 11, 20, 12))  # noqa: DTZ001 - a meter's clock has no zone
    house = House(broker, *meters)
    house.bus_settings, house.pace = SNAPPY, 38400
    house.meters = [{"name": "heat_pump", "address": 68}]
    answers = "mbusd/bridge/response/scan"
    async with house.running() as listener:
        await listener.said("mbusd/heat_pump")
        answer = await ask(listener, "scan", '{"cancel": true}')
        assert answer == {"status": "error", "error": "no scan runs on cellar"}
        answer = await ask(listener, "scan", '{"bus": "attic"}')
        assert answer == {"status": "error", "error": "there is no bus 'attic'; there are cellar"}
        await listener.say("mbusd/bridge/request/scan", '{"transaction": "first"}')
        await listener.until(lambda ear: any("found" in event for event in said_of_scans(ear)))
        answer = await ask(listener, "scan", "")
        assert answer == {"status": "error", "error": "a scan runs on cellar already"}
        await listener.say("mbusd/bridge/request/scan", '{"cancel": true, "transaction": "second"}')
        await listener.until(lambda ear: len(ear.payloads(answers)) == 5)
        by_name = {one.get("transaction"): one for one in map(json.loads, listener.payloads(answers))}
        assert by_name["second"].items() >= {"status": "ok", "data": {}, "transaction": "second"}.items()
        found = by_name["first"]["data"]["found"]
        assert 0 < len(found) < len(meters)
        assert said_of_scans(listener)[-1]["state"] == "cancelled"
        await listener.said(f"mbusd/{found[0]['address']}")


async def test_two_lines_of_configuration_are_enough(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name and a port. And when the daemon starts again nothing of what Home Assistant knows is taken back."""
    monkeypatch.setattr(scanner, "_ADDRESSES", 3)  # silence at the others would take time and nothing else
    meters = household(datetime(2026, 11, 20, 12))  # noqa: DTZ001 - a meter's clock has no zone
    house = House(broker, *meters)
    house.bus_settings, house.pace, house.meters = SNAPPY, 38400, []
    names = {one.secondary.digits for one in meters}
    for _ in range(2):
        async with house.running() as listener:
            for name in names:
                await listener.until_last(f"mbusd/{name}/availability", "online")
                await listener.said(DISCOVERY.format(name))
            await listener.until(lambda ear: names <= {one["name"] for one in listed(ear)})
            assert {one["address"] for one in listed(listener)} == names
            assert not [
                heard.topic for heard in listener.heard if heard.topic.endswith("/config") and not heard.payload
            ]


def listed(listener: Ear) -> list[dict[str, object]]:
    meters: list[dict[str, object]] = json.loads(listener.last.get("mbusd/bridge/meters", "[]"))
    return meters


async def test_the_daemon_stops_in_the_middle_of_a_scan(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async with house.running() as listener:
        await listener.said("mbusd/heat")
        await listener.say("mbusd/bridge/request/scan", "{}")
        await listener.until(lambda ear: bool(said_of_scans(ear)))
    assert (await retained(house.broker.port))["mbusd/bridge/state"] == "offline"
    assert "Traceback" not in caplog.text
    assert "never retrieved" not in caplog.text


async def test_get_reads_now(house: House) -> None:
    async with house.running() as listener:
        await listener.said("mbusd/heat")
        house.bus.meters[:] = [heat_meter("12345678", "04 06 0B 00 00 00")]
        await listener.say("mbusd/heat/get", "")
        await listener.until_last("mbusd/heat/energy", "11")
        assert json.loads(listener.last["mbusd/heat"])["volume"] is None


async def test_retained_requests_are_ignored(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async with ear(house.broker.port) as early:
        await early.say("mbusd/bridge/request/read", "heat", retain=True)
        await early.say("mbusd/heat/get", "", retain=True)
        await early.say("mbusd/heat/get", "x", retain=True)
    with caplog.at_level(logging.WARNING):
        async with house.running() as listener:
            await listener.until_last("mbusd/bridge/state", "online")
            await ask(listener, "read", "heat")
            assert len(listener.payloads("mbusd/bridge/response/read")) == 1
    ignored = [record.getMessage() for record in caplog.records if "ignored a retained request" in record.getMessage()]
    assert len(ignored) == 2


async def test_nothing_that_anybody_publishes_ends_the_daemon(house: House) -> None:
    hostile = [
        b"\xff\xfe",
        b"[" * 9000,
        b'{"a":' * 2000,
        b"NaN",
        b'{"transaction": 1e999}',
        b'"\\ud800"',
        b"x" * 500_000,
    ]
    hostile += [b'{"meter": "\\ud800", "transaction": "\\udfff"}', b"null", b"[]", b'{"meter": {}}', b"\0", b"1" * 9000]
    topics = ["mbusd/bridge/request/read", "mbusd/bridge/request/\u00fc$", "mbusd/no such meter/get", "mbusd/heat/get"]
    topics += ["homeassistant/status", "homeassistant/device/mbusd_x/config", "homeassistant/device/y/config"]
    async with house.running() as listener:
        await listener.said("mbusd/heat")
        for payload in hostile:
            for topic in topics:
                if topic != "homeassistant/device/mbusd_x/config" or not payload.startswith((b"[[", b'{"a":')):
                    await listener.say(topic, payload)
        answer = await ask(listener, "read_all", '{"transaction": "alive"}')
        assert (answer["status"], answer["transaction"]) == ("ok", "alive")


async def test_an_exchanged_meter(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async with house.running() as listener:
        old, new = DISCOVERY.format("123456782D2C0104"), DISCOVERY.format("876543212D2C0104")
        await listener.said(old)
        house.bus.meters[:] = [heat_meter("87654321", "04 06 01 00 00 00")]
        await ask(listener, "read", "heat")
        await listener.said(new)
        await listener.until_last("mbusd/heat/energy", "1")
        topics = [(heard.topic, bool(heard.payload)) for heard in listener.heard]
        assert topics.index((old, True)) < topics.index((old, False)) < topics.index((new, True))
        assert listener.last["mbusd/heat/volume"] == ""
    left = await retained(house.broker.port)
    assert not {old, "mbusd/heat/volume"} & set(left)
    assert "another meter answers here now" in caplog.text


async def test_values_of_meters_with_one_number_never_mix(broker: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    """Neither has a name of its own, and both say that they are 12345678."""
    meters = [heat_meter("12345678", f"04 06 {10 * one:02X} 00 00 00", address=one) for one in (5, 6)]
    house = House(broker, *meters)
    house.meters = [{"address": one, "interval": "1s"} for one in (5, 6)]
    async with house.running() as listener:
        topics = ("mbusd/123456782D2C0104/energy", "mbusd/cellar-6/energy", "mbusd/cellar-5/energy")
        await listener.until(lambda ear: sum(len(ear.payloads(topic)) >= 3 for topic in topics) == 2)
        own, place = (topics[0], next(one for one in topics[1:] if one in listener.last))
        values = {own: set(listener.payloads(own)), place: set(listener.payloads(place))}
        wanted = {"mbusd/cellar-6/energy": ({"50"}, {"60"}), "mbusd/cellar-5/energy": ({"60"}, {"50"})}
        assert (values[own], values[place]) == wanted[place]
        assert sum(topic.startswith("homeassistant/device/mbusd_12345678") for topic in listener.last) == 2
    (told,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert "goes by its place" in told
    house.meters.reverse()
    caplog.clear()
    async with house.running() as listener:
        await listener.until(lambda ear: all(len(ear.payloads(topic)) >= 3 for topic in (own, place)))
        assert {topic: set(listener.payloads(topic)) - {""} for topic in (own, place)} == values
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]  # that is known


async def test_what_an_earlier_life_left_behind(house: House) -> None:
    """A component, a bus and a meter that are not there any more go; what others have announced stays."""
    async with house.running() as listener:
        first = json.loads(await listener.said(DISCOVERY.format("123456782D2C0104")))
        bridge = json.loads(await listener.said(DISCOVERY.format("bridge")))
    gone = first | {"stat_t": "mbusd/attic"}
    first["cmps"]["old_key"] = first["cmps"]["energy"]
    bridge["cmps"]["bus_attic_state"] = bridge["cmps"]["connectivity"]
    others = DISCOVERY.format("0x1234").replace("mbusd_", "z2m_")
    async with ear(house.broker.port) as early:
        for topic, payload in (
            (DISCOVERY.format("123456782D2C0104"), json.dumps(first)),
            (DISCOVERY.format("876543212D2C0104"), json.dumps(gone)),
            (DISCOVERY.format("bridge"), json.dumps(bridge)),
            (others, '{"o": {"name": "Zigbee2MQTT"}}'),
        ):
            await early.say(topic, payload, retain=True)
    async with house.running() as listener:
        await listener.until_last(DISCOVERY.format("876543212D2C0104"), "")
        for topic, component in (("123456782D2C0104", "old_key"), ("bridge", "bus_attic_state")):
            await listener.until(lambda ear, topic=topic: len(ear.payloads(DISCOVERY.format(topic))) == 3)  # type: ignore[misc]  # a default argument
            tombstone, final = map(json.loads, listener.payloads(DISCOVERY.format(topic))[1:])
            assert tombstone["cmps"][component] == {"p": tombstone["cmps"][component]["p"]}
            assert component not in final["cmps"]
    assert others in await retained(house.broker.port)


async def test_a_renamed_meter_keeps_its_device(house: House) -> None:
    topic = DISCOVERY.format("123456782D2C0104")
    async with house.running() as listener:
        await listener.said(topic)
    house.meters[0]["name"] = "boiler"
    async with house.running() as listener:
        await listener.until(lambda ear: '"mbusd/boiler"' in ear.last.get(topic, ""))
        assert "" not in listener.payloads(topic)


async def test_everything_is_said_again_when_home_assistant_starts(house: House) -> None:
    async with house.running() as listener:
        await listener.said(DISCOVERY.format("123456782D2C0104"))
        await listener.until(lambda ear: '"last_read": "2' in ear.last.get("mbusd/bridge/meters", ""))
        before = dict(listener.last)
        listener.heard.clear()
        listener.last.clear()
        await listener.say("homeassistant/status", "offline")
        await listener.say("homeassistant/status", "online")
        await listener.until(lambda ear: {topic for topic in before if "event" not in topic} <= set(ear.last))
        topics = [heard.topic for heard in listener.heard]
        assert topics.index(DISCOVERY.format("bridge")) < topics.index(DISCOVERY.format("123456782D2C0104"))
        assert {topic: listener.last[topic] for topic in before if topic.endswith("/state")} == {
            "mbusd/bridge/state": "online",
            "mbusd/bus/cellar/state": "online",
        }


async def test_who_is_called_dead_says_that_it_lives(house: House) -> None:
    """The will of an old connection may come minutes after the new one: keepalive ran out only now."""
    async with house.running() as listener:
        await listener.until_last("mbusd/bridge/state", "online")
        await listener.say("mbusd/bridge/state", "offline", retain=True)
        await listener.until(lambda ear: ear.payloads("mbusd/bridge/state")[-2:] == ["offline", "online"])


async def test_a_silent_meter_goes_offline_and_comes_back(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.meters[0]["offline_after"] = 1
    async with house.running() as listener:
        await listener.until_last("mbusd/heat/availability", "online")
        meters = list(house.bus.meters)
        house.bus.meters.clear()
        assert (await ask(listener, "read", "heat"))["status"] == "error"
        await listener.until_last("mbusd/heat/availability", "offline")
        house.bus.meters[:] = meters
        assert (await ask(listener, "read", "heat"))["status"] == "ok"
        await listener.until_last("mbusd/heat/availability", "online")
        events = [json.loads(payload)["event"] for payload in listener.payloads("mbusd/bridge/event")]
        assert [event for event in events if event.startswith("meter")] == ["meter_found", "meter_silent", "meter_back"]
    assert "Traceback" not in caplog.text


async def test_a_broker_that_comes_late_and_is_lost_gets_everything(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async with house.running() as listener:
        await listener.said(DISCOVERY.format("123456782D2C0104"))
        before = {topic for topic in listener.last if "event" not in topic}
        await listener.until(lambda ear: '"last_read": "2' in ear.last.get("mbusd/bridge/meters", ""))
        await listener.stop()
        house.broker.kill()
        house.broker.start()
        async with ear(house.broker.port) as second:
            await second.until(lambda ear: before <= set(ear.last))
            assert second.last["mbusd/bridge/state"] == "online"
    assert "Traceback" not in caplog.text
