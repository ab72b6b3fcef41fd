"""What the broker is told of the life of meters: first, exchanged, renamed, gone."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

import pytest

from mbusd.configuration.settings import Settings
from mbusd.exact_json import JsonValue
from mbusd.model import (
    Alarm,
    AlarmTaken,
    BusChanged,
    BusStatistics,
    BusTroubled,
    Event,
    Identity,
    MeterChanged,
    MeterGone,
    Outcome,
    ReadingTaken,
    ReadNow,
    ScanChanged,
    StatisticsTaken,
)
from mbusd.sinks.publisher import HOME_ASSISTANT, TOPICS, Publisher
from mbusd.sinks.topics import Message
from tests.sinks.readings import HEAT, NOON, SUCCESSOR, info, measured, reading

CONFIG = "homeassistant/device/mbusd_{}/config"
BUS = CONFIG.format("bridge_bus_cellar")
OLD, NEW, BRIDGE = CONFIG.format(HEAT.address), CONFIG.format(SUCCESSOR.address), CONFIG.format("bridge")
NO_NOTES: dict[str, JsonValue] = {HOME_ASSISTANT: {}, TOPICS: {}}

INFO = (
    '{"version": "1.2", "started": "2026-11-20T12:00:00Z", "counts": {"buses": 1, "meters": 1}, '
    '"config": {"log_level": "info"}}'
)


def publisher(homeassistant: Mapping[str, object] | None = None, **mqtt: object) -> Publisher:
    document = {
        "mqtt": mqtt,
        "homeassistant": homeassistant or {},
        "buses": [{"name": "cellar", "port": "/dev/x", "meters": [{"name": "heat_pump", "address": 68}]}],
    }
    return Publisher(Settings.model_validate(document), "1.2", NOON, {"log_level": "info"})


def said(messages: Iterable[Message]) -> list[tuple[str, str]]:
    return [(message.topic, message.payload) for message in messages]


def taken(who: Publisher, *events: Event) -> list[tuple[str, str]]:
    return [one for event in events for one in said(who.take(event))]


def discovered(messages: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(topic, payload) for topic, payload in messages if topic.startswith("homeassistant/")]


def components(payload: str) -> dict[str, dict[str, object]]:
    document: dict[str, dict[str, dict[str, object]]] = json.loads(payload)
    return document["cmps"]


def announced(identity: Identity = HEAT, meter: str = "heat_pump") -> str:
    """The discovery message that an earlier life has left at the broker."""
    earlier = publisher()
    list(earlier.learnt())
    ((_, payload),) = discovered(taken(earlier, ReadingTaken(reading(identity, meter))))
    return payload


@pytest.fixture
def settled() -> Publisher:
    """A publisher that knows what is retained, and has a meter that answered."""
    one = publisher()
    list(one.greeting())
    list(one.take(MeterChanged(info(online=None))))
    list(one.learnt())
    return one


def test_the_greeting_and_the_farewell() -> None:
    one = publisher()
    assert said(one.greeting()) == [
        ("mbusd/bridge/state", "online"),
        (
            "mbusd/bridge/info",
            INFO,
        ),
        ("mbusd/bus/cellar/state", "offline"),
    ]
    list(one.take(MeterChanged(info())))
    list(one.take(MeterChanged(info("", address="7"))))
    assert said(one.farewell()) == [
        ("mbusd/bridge/state", "offline"),
        ("mbusd/bus/cellar/state", "offline"),
        ("mbusd/heat_pump/availability", "offline"),
    ]
    assert one.will == Message("mbusd/bridge/state", "offline", retain=True)


def test_a_reading_is_announced_before_it_is_said(settled: Publisher) -> None:
    messages = list(settled.take(ReadingTaken(reading())))
    assert [message.topic for message in messages] == [
        OLD,
        "mbusd/heat_pump",
        "mbusd/heat_pump/energy",
        "mbusd/heat_pump/volume",
    ]
    assert messages[0].retain
    assert messages[0].is_unique
    assert set(components(messages[0].payload)) >= {"energy", "volume"}
    assert discovered(taken(settled, ReadingTaken(reading()))) == []


def test_the_document_carries_every_key_that_was_announced(settled: Publisher) -> None:
    list(settled.take(ReadingTaken(reading())))
    after = dict(taken(settled, ReadingTaken(reading(energy=11, power=5))))
    assert set(components(after[OLD])) >= {"energy", "volume", "power"}
    assert json.loads(after["mbusd/heat_pump"]) == {
        "time": "2026-11-20T12:00:00Z",
        "status": [],
        "energy": 11,
        "volume": None,
        "power": 5,
    }
    assert json.loads(dict(taken(settled, ReadingTaken(reading(energy=12))))["mbusd/heat_pump"])["power"] is None


def test_no_value_clears_its_topic(settled: Publisher) -> None:
    list(settled.take(ReadingTaken(reading(energy=10))))
    assert ("mbusd/heat_pump/energy", "") in taken(settled, ReadingTaken(reading(energy=None)))


def test_an_exchanged_meter_goes_before_the_new_one_comes(settled: Publisher) -> None:
    list(settled.take(ReadingTaken(reading(energy=10, volume=5))))
    after = taken(settled, ReadingTaken(reading(SUCCESSOR, energy=1, power=2)))
    assert after[0] == ("mbusd/heat_pump/volume", "")
    assert [(topic, bool(payload)) for topic, payload in discovered(after)] == [(OLD, False), (NEW, True)]
    assert "volume" not in components(dict(after)[NEW])
    assert json.loads(dict(after)["mbusd/heat_pump"]) == {
        "time": "2026-11-20T12:00:00Z",
        "status": [],
        "energy": 1,
        "power": 2,
    }


def test_statistics_of_an_exchanged_meter_do_not_go_on_with_the_new_one(settled: Publisher) -> None:
    """They hang on the ids of entities: 2000 m³ of one and 5000 of the next would be 3000 m³ in a minute."""
    ((_, old),) = discovered(taken(settled, ReadingTaken(reading())))
    new = dict(discovered(taken(settled, ReadingTaken(reading(SUCCESSOR)))))[NEW]
    ids = [{component["def_ent_id"] for component in components(payload).values()} for payload in (old, new)]
    assert "sensor.heat_pump_energy" in ids[0]
    assert "sensor.heat_pump_87654321_energy" in ids[1]
    assert not ids[0] & ids[1]
    more = reading(SUCCESSOR, energy=10, volume=1, power=5)
    later = dict(discovered(taken(settled, ReadingTaken(more))))[NEW]
    ids.append({component["def_ent_id"] for component in components(later).values()})
    assert ids[1] < ids[2]  # what it had, it keeps


@pytest.mark.parametrize(("interval", "is_online"), [("manual", True), ("0 0 * * *", True), ("1h", False)])
def test_who_is_asked_seldom_is_not_silent_until_then(interval: str, *, is_online: bool) -> None:
    """After a restart its last values stand: it was not asked yet."""
    one = publisher()
    list(one.learnt())
    word = {True: "online", False: "offline"}
    asked = info(interval=interval, identity=None, online=None)
    assert ("mbusd/heat_pump/availability", word[is_online]) in taken(one, MeterChanged(asked))
    silent = taken(one, MeterChanged(replace(asked, online=False)))
    assert (("mbusd/heat_pump/availability", "offline") in silent) is is_online  # news only


def test_a_meter_exchanged_while_the_daemon_was_away(settled: Publisher) -> None:
    assert settled.learn(OLD, announced())
    after = discovered(taken(settled, ReadingTaken(reading(SUCCESSOR))))
    assert [(topic, bool(payload)) for topic, payload in after] == [(OLD, False), (NEW, True)]


def test_while_a_device_changes_nothing_is_shown_by_the_wrong_one(settled: Publisher) -> None:
    """Between the two messages the old device would show the values of the new meter."""
    list(settled.take(MeterChanged(info())))
    list(settled.take(ReadingTaken(reading())))
    list(settled.take(MeterChanged(info(identity=SUCCESSOR))))
    messages = list(settled.take(ReadingTaken(reading(SUCCESSOR))))
    places = [
        (one.topic, one.payload)
        for one in messages
        if one.topic in (OLD, NEW, "mbusd/heat_pump", "mbusd/heat_pump/availability")
    ]
    assert [(topic, payload[:7]) for topic, payload in places] == [
        ("mbusd/heat_pump/availability", "offline"),
        (OLD, ""),
        (NEW, '{"dev":'),
        ("mbusd/heat_pump", '{"time"'),
        ("mbusd/heat_pump/availability", "online"),
    ]
    assert next(one for one in messages if one.payload == "offline").is_unique  # the later one does not stand in for it
    assert "mbusd/heat_pump/availability" not in dict(taken(settled, ReadingTaken(reading(SUCCESSOR))))


def pair(first: str, second: str, identity: Identity | None = HEAT, other: Identity | None = SUCCESSOR) -> list[Event]:
    """Two meters with these names, who were or were not asked yet."""
    return [
        MeterChanged(info(first, address="1", identity=identity, online=None if identity is None else True)),
        MeterChanged(info(second, address="2", identity=other, online=None if other is None else True)),
    ]


def test_two_meters_change_names_in_the_file() -> None:
    """Each stays the device that it is; their histories must not go."""
    one = publisher()
    assert one.learn(OLD, announced(HEAT, "left"))
    assert one.learn(NEW, announced(SUCCESSOR, "right"))
    list(one.learnt())
    events: list[Event] = [
        *pair("right", "left", None, None),
        *pair("right", "left", HEAT, None),
        ReadingTaken(reading(HEAT, "right")),
        *pair("right", "left"),
        ReadingTaken(reading(SUCCESSOR, "left")),
        *pair("right", "left"),
    ]
    after = discovered(taken(one, *events))
    assert all(payload for _, payload in after)
    last = dict(after)
    assert json.loads(last[OLD])["stat_t"] == "mbusd/right"
    assert json.loads(last[NEW])["stat_t"] == "mbusd/left"


def test_two_meters_change_places_while_they_are_read(settled: Publisher) -> None:
    events: list[Event] = [
        *pair("left", "right"),
        ReadingTaken(reading(HEAT, "left")),
        ReadingTaken(reading(SUCCESSOR, "right")),
    ]
    list(settled.take(MeterGone(info())))
    list(taken(settled, *events))
    events = [
        *pair("left", "right", SUCCESSOR, SUCCESSOR),
        ReadingTaken(reading(SUCCESSOR, "left")),
        MeterChanged(info("third", address="3", identity=replace(HEAT, address="3"))),
        *pair("left", "right", SUCCESSOR, HEAT),
        ReadingTaken(reading(HEAT, "right")),
        *pair("left", "right", SUCCESSOR, HEAT),
    ]
    after = discovered(taken(settled, *events))
    assert all(payload for _, payload in after)
    assert json.loads(dict(after)[OLD])["stat_t"] == "mbusd/right"


SECOND = CONFIG.format(f"{HEAT.address}_right")


def test_two_meters_that_say_they_are_one_are_two_devices(caplog: pytest.LogCaptureFixture) -> None:
    """Never numbered, or listed twice: neither shows what the other one has counted, whoever is read first."""
    one = publisher()
    list(one.learnt())
    rounds: list[Event] = [
        *pair("left", "right", HEAT, None),
        ReadingTaken(reading(HEAT, "left")),
        *pair("left", "right", HEAT, HEAT),
        ReadingTaken(reading(HEAT, "right")),
        ReadingTaken(reading(HEAT, "left")),
        ReadingTaken(reading(HEAT, "right")),
    ]
    before = discovered(taken(one, *rounds))
    assert [(topic, json.loads(payload)["stat_t"]) for topic, payload in before] == [
        (OLD, "mbusd/left"),
        (SECOND, "mbusd/right"),
    ]
    ids = [{component["uniq_id"] for component in components(payload).values()} for _, payload in before]
    assert not ids[0] & ids[1]
    assert len(caplog.messages) == 1
    assert "right says that it is meter 123456782D2C0804, as left does" in caplog.text

    later = publisher()
    for topic, payload in before:
        assert later.learn(topic, payload)
    list(taken(later, *pair("left", "right", None, None)))
    list(later.learnt())
    again: list[Event] = [
        *pair("left", "right", None, HEAT),
        ReadingTaken(reading(HEAT, "right")),
        *pair("left", "right", HEAT, HEAT),
        ReadingTaken(reading(HEAT, "left")),
    ]
    assert discovered(taken(later, *again)) == []
    gone = taken(later, MeterGone(info("right", address="2")))
    assert (SECOND, "") in gone
    assert (OLD, "") not in gone


def test_a_meter_that_takes_the_place_of_one_that_is_gone(settled: Publisher) -> None:
    """What was put aside goes when the meter that had its place's name before has been asked again."""
    list(settled.take(MeterGone(info())))
    start: list[Event] = [
        *pair("left", "right"),
        ReadingTaken(reading(HEAT, "left")),
        ReadingTaken(reading(SUCCESSOR, "right")),
    ]
    list(taken(settled, *start))
    moved: list[Event] = [*pair("left", "right", SUCCESSOR, SUCCESSOR), ReadingTaken(reading(SUCCESSOR, "left"))]
    assert (OLD, "") not in taken(settled, *moved)
    silent = MeterChanged(info("right", address="2", identity=SUCCESSOR, online=False), "silent")
    assert (OLD, "") in taken(settled, silent)


def test_a_meter_without_a_name_that_says_it_is_another_leaves_nothing_behind(settled: Publisher) -> None:
    list(settled.take(MeterGone(info())))
    before, after = info(HEAT.address), info(SUCCESSOR.address, identity=SUCCESSOR)
    list(taken(settled, MeterChanged(before), ReadingTaken(reading(HEAT, HEAT.address))))
    said_then = taken(settled, MeterChanged(after), ReadingTaken(reading(SUCCESSOR, SUCCESSOR.address)))
    old = f"mbusd/{HEAT.address}"
    endings = ("", "/availability", "/energy", "/volume", "/interval")
    assert {(f"{old}{ending}", "") for ending in endings} <= set(said_then)
    assert (OLD, "") in said_then
    assert dict(said_then)[NEW]


def test_nothing_is_announced_before_it_is_known_what_was_there() -> None:
    """A component that is left out without a tombstone lives on in Home Assistant as an orphan."""
    one = publisher()
    list(one.greeting())
    assert discovered(taken(one, MeterChanged(info()), ReadingTaken(reading(energy=10)))) == []
    assert one.learn(OLD, announced())  # with a volume, which the meter does not send any more
    assert one.learn(BRIDGE, json.dumps({"o": {"name": "mbusd"}, "cmps": {"bus_attic_state": {"p": "sensor", "x": 1}}}))
    after = discovered(said(one.learnt()))
    assert [topic for topic, _ in after] == [BRIDGE, BRIDGE, BUS, OLD]
    assert components(after[0][1])["bus_attic_state"] == {"p": "sensor"}
    assert "bus_attic_state" not in components(after[1][1])


def restarted(**keys: object) -> Publisher:
    """A new life, in which the meter has not been read yet; the one before has announced energy and volume."""
    meter = {"name": "heat_pump", "address": 68, "keys": keys}
    buses = [{"name": "cellar", "port": "/dev/x", "meters": [meter]}]
    one = Publisher(Settings.model_validate({"buses": buses}), "1.2", NOON, {})
    assert one.learn(OLD, announced())
    list(one.take(MeterChanged(info(online=None))))
    return one


def volumes(messages: Iterable[tuple[str, str]]) -> list[object]:
    """What the documents say of the volume; "nothing" where they do not have it."""
    documents = [json.loads(payload) for topic, payload in messages if topic == "mbusd/heat_pump"]
    return [document.get("volume", "nothing") for document in documents]


def test_what_was_announced_and_is_not_read_stays_for_a_while_without_a_value() -> None:
    one = restarted()
    list(one.learnt())
    for _ in range(2):
        after = taken(one, ReadingTaken(reading(energy=10)))
        assert all("volume" in components(payload) for _, payload in discovered(after))
        assert volumes(after) == [None]
    after = taken(one, ReadingTaken(reading(energy=10)))
    (first, second) = discovered(after)
    assert components(first[1])["volume"] == {"p": "sensor"}
    assert "volume" not in components(second[1])
    assert volumes(after) == ["nothing"]


def test_what_was_announced_and_comes_again_is_there_as_before() -> None:
    one = restarted()
    list(one.learnt())
    list(one.take(ReadingTaken(reading(energy=10))))
    assert volumes(taken(one, ReadingTaken(reading()))) == [2.72]
    for _ in range(3):
        assert volumes(taken(one, ReadingTaken(reading(energy=10)))) == [None]


def test_a_document_that_came_before_it_was_known_what_is_announced_is_said_again() -> None:
    one = restarted()
    assert volumes(taken(one, ReadingTaken(reading(energy=10)))) == ["nothing"]
    assert volumes(said(one.learnt())) == [None]


@pytest.mark.parametrize(
    "keys", [{"exclude": ["vol*"]}, {"include": ["energy"]}, {"rename": {"volume": "water_through"}}]
)
def test_what_its_owner_does_not_want_any_more_goes_at_once(keys: Mapping[str, object]) -> None:
    one = restarted(**keys)
    list(one.learnt())
    after = taken(one, ReadingTaken(reading(energy=10)))
    assert components(discovered(after)[0][1])["volume"] == {"p": "sensor"}
    assert volumes(after) == ["nothing"]


def test_the_successor_owes_nothing_of_the_meter_before_it() -> None:
    one = restarted()
    list(one.learnt())
    list(one.take(ReadingTaken(reading(energy=10))))
    assert volumes(taken(one, ReadingTaken(reading(SUCCESSOR, energy=1)))) == ["nothing"]


def test_the_interval_is_said_when_it_changes(settled: Publisher) -> None:
    topic = "mbusd/heat_pump/interval"
    assert topic not in dict(taken(settled, MeterChanged(info())))
    list(settled.take(ReadingTaken(reading())))
    assert dict(taken(settled, MeterChanged(info(interval="600s"))))[topic] == "600"
    after = taken(settled, MeterChanged(info(interval="manual")))
    assert dict(after)[topic] == "manual"
    (first, second) = discovered(after)
    assert components(first[1])["interval"] == {"p": "number"}
    assert "interval" not in components(second[1])
    assert (topic, "") in taken(settled, MeterChanged(info("boiler")))


def test_a_meter_has_the_area_of_its_settings() -> None:
    document = {
        "homeassistant": {"configuration_url": "https://example.org/house"},
        "buses": [{"name": "cellar", "port": "/dev/x", "meters": [{"address": 68, "area": "Boiler room"}]}],
    }
    one = Publisher(Settings.model_validate(document), "1.2", NOON, {})
    list(one.learnt())
    list(one.take(MeterChanged(info())))
    device = json.loads(dict(taken(one, ReadingTaken(reading())))[OLD])["dev"]
    assert (device["sa"], device["cu"]) == ("Boiler room", "https://example.org/house")


def test_a_renamed_meter_is_not_removed_before_it_had_time_to_answer() -> None:
    one = publisher()
    assert one.learn(OLD, announced(meter="boiler"))
    list(one.take(MeterChanged(info(online=None))))
    assert discovered(said(one.learnt()))[0][0] == BRIDGE
    assert discovered(taken(one, MeterChanged(info(online=None, failures=1)))) == []
    everything = taken(one, MeterChanged(info()), ReadingTaken(reading()))
    after = discovered(everything)
    assert [(topic, bool(payload)) for topic, payload in after] == [(OLD, True)]
    assert json.loads(after[-1][1])["stat_t"] == "mbusd/heat_pump"
    gone = {f"mbusd/boiler{ending}" for ending in ("", "/availability", "/interval", "/energy", "/volume")}
    assert {topic for topic, payload in everything if not payload} == gone


def test_meters_that_left_the_file_are_removed_when_all_others_are_settled() -> None:
    one = publisher()
    assert one.learn(NEW, announced(SUCCESSOR, "gone"))
    list(one.take(MeterChanged(info(online=None))))
    list(one.take(MeterChanged(info("second", address="5", online=None))))
    assert (NEW, "") not in said(one.learnt())
    assert discovered(taken(one, MeterChanged(info()))) == []
    after = taken(one, MeterChanged(info("second", address="5", online=False), "silent"))
    assert discovered(after) == [(NEW, "")]
    assert {("mbusd/gone", ""), ("mbusd/gone/energy", ""), ("mbusd/gone/availability", "")} <= set(after)
    assert discovered(taken(one, MeterChanged(info()))) == []


@pytest.mark.parametrize("interval", ["manual", "0 0 1 * *"])
def test_a_meter_that_is_not_read_for_long_keeps_nobody_waiting(interval: str) -> None:
    one = publisher()
    assert one.learn(NEW, announced(SUCCESSOR, "gone"))
    list(one.take(MeterChanged(info(online=None, identity=None, interval=interval))))
    assert discovered(said(one.learnt()))[-1] == (NEW, "")


@pytest.mark.parametrize("address", ["87654321", "876543212D2C0804", "8765432FFFFFFFFF", "876543212D2C0804-11111111"])
def test_a_meter_that_is_not_read_for_long_keeps_its_device_by_its_address(address: str) -> None:
    one = publisher()
    assert one.learn(NEW, announced(SUCCESSOR, "old_name"))
    list(one.take(MeterChanged(info(address=address, online=None, identity=None, interval="manual"))))
    assert (NEW, "") not in said(one.learnt())


@pytest.mark.parametrize("bus", [None, "searched", "cellar"])
def test_a_meter_that_left_the_file_goes_though_another_bus_is_searched(bus: str | None) -> None:
    """What was on the bus that is searched, or on one that is no more, may be found again."""
    buses = [
        {"name": "cellar", "port": "/dev/x", "meters": [{"name": "heat_pump", "address": 68}]},
        {"name": "searched", "port": "/dev/y"},
    ]
    one = Publisher(Settings.model_validate({"buses": buses}), "1.2", NOON, {})
    payload = json.loads(announced(SUCCESSOR, "gone"))
    payload["dev"]["via_device"] = "mbusd_bridge" if bus is None else f"mbusd_bridge_bus_{bus}"
    assert one.learn(NEW, json.dumps(payload))
    list(one.take(MeterChanged(info())))
    assert ((NEW, "") in said(one.learnt())) == (bus == "cellar")


def test_a_meter_that_is_taken_out_goes_before_its_values(settled: Publisher) -> None:
    """An entity that is there still would have to make something of a topic that is cleared."""
    list(taken(settled, MeterChanged(info()), ReadingTaken(reading())))
    after = [topic for topic, payload in taken(settled, MeterGone(info())) if not payload]
    assert after.index(OLD) < after.index("mbusd/heat_pump")


def test_a_bus_that_left_the_file_leaves_nothing_behind() -> None:
    earlier = Publisher(
        Settings.model_validate({"buses": [{"name": "attic", "port": "/dev/x", "meters": [{"address": 1}]}]}),
        "1.2",
        NOON,
        {},
    )
    ((topic, payload),) = [one for one in discovered(said(earlier.learnt())) if "bus_attic" in one[0]]
    one = publisher()
    assert one.learn(topic, payload)
    after = said(one.learnt())
    assert {(topic, ""), ("mbusd/bus/attic/state", ""), ("mbusd/bus/attic/statistics", "")} <= set(after)


def test_a_silent_meter_without_a_name_may_be_any_of_the_leftovers() -> None:
    one = publisher()
    assert one.learn(OLD, announced(meter=HEAT.address))
    list(one.take(MeterChanged(info("", online=False), "silent")))
    assert (OLD, "") not in said(one.learnt())
    after = taken(one, MeterChanged(info(HEAT.address)), ReadingTaken(reading(meter=HEAT.address)))
    assert (OLD, "") not in after


@pytest.mark.parametrize("discover", [None, "secondary", "both"])
def test_what_a_search_has_not_found_yet_or_has_missed_keeps_its_device(discover: str | None) -> None:
    """Each start begins with no meter at all: what Home Assistant knows of them must not go."""
    bus = {"name": "cellar", "port": "/dev/x", "discover": discover}
    one = Publisher(Settings.model_validate({"buses": [bus]}), "1.2", NOON, {})
    one.learn(OLD, announced(HEAT, HEAT.address))
    one.learn(NEW, announced(SUCCESSOR, SUCCESSOR.address))
    assert (OLD, "") not in said(one.learnt())
    events: list[Event] = [
        ScanChanged("cellar", "done", 260, 0),
        MeterChanged(info("", address=HEAT.address, online=None)),
        MeterChanged(info(HEAT.address, address=HEAT.address)),
        ReadingTaken(reading(HEAT, HEAT.address)),
        MeterChanged(info(HEAT.address, address=HEAT.address)),
    ]
    assert not {(OLD, ""), (NEW, "")} & set(taken(one, *events))


def test_the_progress_of_a_scan_is_an_event(settled: Publisher) -> None:
    ((topic, payload),) = taken(settled, ScanChanged("cellar", "running", 3, 250, "12345678"))
    assert topic == "mbusd/bridge/event"
    assert json.loads(payload)["event"] == "scan_progress"


def test_what_others_have_announced_is_not_touched() -> None:
    one = publisher()
    others = "homeassistant/device/0x00158d/config"
    assert one.learn(others, '{"o": {"name": "Zigbee2MQTT"}, "stat_t": "mbusd/gone", "cmps": {}}')
    assert one.learn(others, "[" * 100_000)
    assert not one.learn("homeassistant/other", "online")
    assert others not in dict(said(one.learnt()))


def test_a_device_that_a_user_deleted_comes_back_with_its_next_reading(settled: Publisher) -> None:
    list(settled.take(ReadingTaken(reading())))
    assert settled.learn(OLD, "")
    assert [topic for topic, _ in discovered(taken(settled, ReadingTaken(reading())))] == [OLD]


def test_without_home_assistant_nothing_is_announced_and_nothing_learnt() -> None:
    one = publisher({"enabled": False})
    topics = [*said(one.greeting()), *said(one.learnt()), *taken(one, ReadingTaken(reading()))]
    assert discovered(topics) == []
    assert not one.is_birth("homeassistant/status", "online")
    assert one.subscriptions == ("mbusd/bridge/request/+", "mbusd/+/get", "mbusd/bridge/state", "mbusd/+/alarm")


def test_the_birth_of_home_assistant_is_where_the_user_says() -> None:
    assert publisher().is_birth("homeassistant/status", "online")
    assert not publisher().is_birth("homeassistant/status", "offline")
    moved = publisher({"status_topic": "ha/birth", "discovery_prefix": "ha"})
    assert moved.is_birth("ha/birth", "online")
    assert not moved.is_birth("homeassistant/status", "online")
    assert set(moved.subscriptions) >= {"ha/birth", "ha/device/+/config"}
    assert publisher({"discovery_prefix": "ha"}).is_birth("ha/status", "online")


@pytest.mark.parametrize("state", [None, "offline"])
def test_a_device_that_went_while_home_assistant_was_away_goes_when_it_is_back(
    settled: Publisher, state: str | None
) -> None:
    """It would keep the device for ever: it forgets only what it knows of by a message in the same life."""
    if state is not None:
        assert settled.learn("homeassistant/status", state)
    list(taken(settled, MeterChanged(info()), ReadingTaken(reading()), ReadingTaken(reading(SUCCESSOR))))
    (again, gone) = settled.after_birth()
    assert (again.topic, again.retain, again.is_unique) == (OLD, False, True)
    assert set(components(again.payload)) >= {"energy", "volume"}
    assert json.loads(again.payload)["stat_t"] != "mbusd/heat_pump"  # where the values of the successor are
    assert "via_device" not in json.loads(again.payload)["dev"]  # its bus may be gone: it would become a device
    assert (gone.topic, gone.payload, gone.retain, gone.is_unique) == (OLD, "", True, True)
    assert list(settled.after_birth()) == []


def test_an_entity_that_went_while_home_assistant_was_away_goes_when_it_is_back(settled: Publisher) -> None:
    list(taken(settled, MeterChanged(info()), ReadingTaken(reading())))
    list(taken(settled, MeterChanged(info(interval="manual"))))
    (again, gone, after) = settled.after_birth()
    assert {(one.topic, one.retain) for one in (again, gone, after)} == {(OLD, True)}
    assert components(again.payload)["interval"]["name"] == "Interval"
    assert components(gone.payload)["interval"] == {"p": "number"}
    assert "interval" not in components(after.payload)


def test_what_home_assistant_has_heard_is_not_repeated(settled: Publisher) -> None:
    list(settled.after_birth())
    list(taken(settled, MeterChanged(info()), ReadingTaken(reading()), ReadingTaken(reading(SUCCESSOR))))
    assert list(settled.after_birth()) == []


def test_a_device_that_is_back_when_home_assistant_is_stays(settled: Publisher) -> None:
    list(taken(settled, MeterChanged(info()), ReadingTaken(reading()), ReadingTaken(reading(SUCCESSOR))))
    list(taken(settled, ReadingTaken(reading())))
    assert {one.topic for one in settled.after_birth()} == {NEW}


def test_readings_that_are_not_retained_are_said_again_after_a_birth() -> None:
    one = publisher(retain=False)
    list(one.take(ReadingTaken(reading(energy=10, volume=2))))
    list(one.take(ReadingTaken(reading(energy=11))))
    (message,) = one.after_birth()
    assert (message.topic, message.retain) == ("mbusd/heat_pump", False)
    assert json.loads(message.payload)["energy"] == 11
    assert json.loads(message.payload)["volume"] is None
    kept = publisher()
    list(kept.take(ReadingTaken(reading())))
    assert list(kept.after_birth()) == []


def test_only_on_change() -> None:
    one = publisher({"enabled": False}, only_on_change=True, telegrams=True)
    first = reading(energy=10, volume=Decimal("2.72"))
    assert len(taken(one, ReadingTaken(first))) == 4
    assert taken(one, ReadingTaken(replace(first, taken_at=NOON.replace(hour=13)))) == []
    after = taken(one, ReadingTaken(reading(energy=11, volume=Decimal("2.72"))))
    assert [topic for topic, _ in after] == ["mbusd/heat_pump", "mbusd/heat_pump/energy"]
    after = taken(one, ReadingTaken(replace(reading(energy=11, volume=Decimal("2.72")), status=("power_low",))))
    assert [topic for topic, _ in after] == ["mbusd/heat_pump"]


def test_only_on_change_forgets_what_was_cleared() -> None:
    one = publisher({"enabled": False}, only_on_change=True)
    list(one.take(ReadingTaken(reading(energy=10, volume=5))))
    assert ("mbusd/heat_pump/volume", "") in taken(one, ReadingTaken(reading(SUCCESSOR, energy=10)))
    assert ("mbusd/heat_pump/volume", "5") in taken(one, ReadingTaken(reading(energy=10, volume=5)))


def test_a_meter_is_called_online_or_offline_once(settled: Publisher) -> None:
    availability = "mbusd/heat_pump/availability"
    told = [(one.topic, one.payload, one.retain) for one in settled.take(MeterChanged(info()))]
    assert told == [(availability, "online", True)]
    assert taken(settled, MeterChanged(info()), MeterChanged(info(failures=1))) == []
    assert taken(settled, MeterChanged(info(online=False))) == [(availability, "offline")]
    assert taken(settled, MeterChanged(info(online=False))) == []
    assert (availability, "offline") in said(settled.again()), "to a broker that may have lost it"
    assert taken(settled, MeterChanged(info())) == [(availability, "online")]
    assert (availability, "") in taken(settled, MeterGone(info()))
    assert (availability, "online") in taken(settled, MeterChanged(info())), "it is back"


def test_meters_that_a_search_has_found_are_counted_too() -> None:
    one = publisher()
    list(one.learnt())
    list(taken(one, *pair("left", "right")))
    (list_of_meters, *more) = said(one.meters())
    assert list_of_meters[0] == "mbusd/bridge/meters"
    assert [(topic, json.loads(payload)["counts"]) for topic, payload in more] == [
        ("mbusd/bridge/info", {"buses": 1, "meters": 2})
    ]
    assert len(said(one.meters())) == 1  # nothing new


def test_the_life_of_meters_and_buses(settled: Publisher) -> None:
    list(settled.take(MeterChanged(info())))
    settled.meters_changed = False
    assert taken(settled, MeterChanged(info(online=False, failures=3), "silent", "no answer")) == [
        ("mbusd/heat_pump/availability", "offline"),
        ("mbusd/bridge/event", '{"event": "meter_silent", "meter": "heat_pump", "bus": "cellar", "why": "no answer"}'),
    ]
    assert settled.meters_changed
    ((topic, payload),) = said(settled.meters())
    assert (topic, json.loads(payload)[0]["failures"], settled.meters_changed) == ("mbusd/bridge/meters", 3, False)
    assert taken(settled, MeterChanged(info("", address="9"), "found")) == [
        ("mbusd/bridge/event", '{"event": "meter_found", "meter": "9", "bus": "cellar"}')
    ]
    assert taken(settled, BusChanged("cellar", up=False, why="unplugged")) == [
        ("mbusd/bus/cellar/state", "offline"),
        ("mbusd/bridge/event", '{"event": "bus_lost", "bus": "cellar", "why": "unplugged"}'),
    ]
    assert taken(settled, BusChanged("cellar", up=True))[1][1] == '{"event": "bus_back", "bus": "cellar"}'
    assert taken(settled, StatisticsTaken("cellar", BusStatistics()))[0][0] == "mbusd/bus/cellar/statistics"


# ------------------------------------------------------------------------------------------------ alarms


ALARM = "mbusd/heat_pump/alarm"
EVENT = "mbusd/bridge/event"


def alarmed(code: int = 0, identity: Identity | None = HEAT, *, is_news: bool = True) -> AlarmTaken:
    return AlarmTaken(Alarm("heat_pump", NOON, code), identity, is_news)


def events(messages: Iterable[tuple[str, str]]) -> list[dict[str, object]]:
    return [json.loads(payload) for topic, payload in messages if topic == EVENT]


def codes(messages: Iterable[tuple[str, str]]) -> list[int | None]:
    """What was said on the topic of the alarm; None where it was cleared."""
    return [json.loads(payload)["code"] if payload else None for topic, payload in messages if topic == ALARM]


def test_the_first_alarm_is_said_and_then_only_news(settled: Publisher) -> None:
    assert codes(taken(settled, alarmed(is_news=False))) == [0]
    assert taken(settled, alarmed(is_news=False), alarmed(is_news=False)) == []
    assert codes(taken(settled, alarmed(4), alarmed(4, is_news=False), alarmed(6), alarmed())) == [4, 6, 0]


def test_the_begin_and_the_end_of_an_alarm_are_events(settled: Publisher) -> None:
    after = events(taken(settled, alarmed(), alarmed(4), alarmed(6), alarmed(), alarmed(4), alarmed()))
    began: dict[str, object] = {"event": "meter_alarm", "meter": "heat_pump", "code": 4, "bits": [2]}
    over: dict[str, object] = {"event": "meter_alarm_over", "meter": "heat_pump", "code": 0, "bits": []}
    assert after == [began, over, began, over]


def test_an_alarm_that_was_there_before_us_is_an_event(settled: Publisher) -> None:
    assert [each["code"] for each in events(taken(settled, alarmed(4, is_news=False)))] == [4]


def test_the_alarm_of_a_meter_that_was_exchanged_does_not_stay(settled: Publisher) -> None:
    list(settled.take(MeterChanged(info(has_alarms=True))))
    list(settled.take(ReadingTaken(reading())))
    list(settled.take(alarmed(4)))
    after = taken(settled, ReadingTaken(reading(SUCCESSOR)))
    assert codes(after) == [None]
    assert after.index((ALARM, "")) < after.index((OLD, ""))
    assert codes(taken(settled, alarmed(identity=SUCCESSOR, is_news=False))) == [0]


def test_the_alarm_of_the_successor_stays_if_it_came_before_its_reading(settled: Publisher) -> None:
    list(settled.take(ReadingTaken(reading())))
    assert codes(taken(settled, alarmed(4), alarmed(2, SUCCESSOR, is_news=False))) == [4, 2]
    assert codes(taken(settled, ReadingTaken(reading(SUCCESSOR)))) == []


def test_the_alarm_of_a_meter_exchanged_while_the_daemon_was_away(settled: Publisher) -> None:
    list(settled.take(MeterChanged(info(has_alarms=True))))
    assert settled.learn(OLD, announced())
    assert settled.learn(ALARM, '{"alarm": true, "code": 4, "bits": [2]}')
    assert codes(taken(settled, ReadingTaken(reading(SUCCESSOR)))) == [None]


def test_what_is_not_asked_for_any_more_is_cleared() -> None:
    one = publisher()
    list(one.take(MeterChanged(info(online=None))))
    assert one.learn(ALARM, '{"alarm": true, "code": 4, "bits": [2]}')
    assert codes(said(one.learnt())) == [None]
    assert codes(taken(one, MeterChanged(info()))) == []


def test_what_is_asked_for_still_stays() -> None:
    one = publisher()
    list(one.take(MeterChanged(info(online=None, has_alarms=True))))
    assert one.learn(ALARM, '{"alarm": true, "code": 4, "bits": [2]}')
    assert codes([*said(one.learnt()), *taken(one, MeterChanged(info(has_alarms=True)))]) == []
    assert one.learn(ALARM, "")
    assert codes(taken(one, MeterChanged(info()))) == []


def test_a_meter_that_goes_by_its_address_leaves_no_alarm_behind(settled: Publisher) -> None:
    named = info(HEAT.address, address="5", has_alarms=True)
    list(settled.take(MeterChanged(named)))
    list(settled.take(AlarmTaken(Alarm(HEAT.address, NOON, 4), HEAT, is_news=True)))
    after = taken(settled, MeterChanged(replace(named, name=SUCCESSOR.address)))
    assert (f"mbusd/{HEAT.address}/alarm", "") in after


def test_home_assistant_learns_of_alarms_where_they_are_asked_for(settled: Publisher) -> None:
    list(settled.take(MeterChanged(info(has_alarms=True))))
    after = dict(taken(settled, ReadingTaken(reading())))
    assert components(after[OLD])["alarm"]["stat_t"] == ALARM
    list(settled.take(MeterChanged(info())))
    messages = discovered(taken(settled, ReadingTaken(reading())))
    assert components(messages[0][1])["alarm"] == {"p": "binary_sensor"}
    assert "alarm" not in components(messages[1][1])


# ------------------------------------------------------------------------------------------------ a bus in trouble


STATISTICS = "mbusd/bus/cellar/statistics"
NOISY = BusTroubled("cellar", "noise", "something talks on the idle bus", "look for another master")
WELL = BusTroubled("cellar", None)


def troubles(messages: Iterable[tuple[str, str]]) -> list[str | None]:
    return [json.loads(payload)["trouble"] for topic, payload in messages if topic == STATISTICS]


def test_what_is_wrong_with_a_bus_is_told_once_and_can_be_seen_at_any_time(settled: Publisher) -> None:
    statistics = StatisticsTaken("cellar", BusStatistics(read_outs=3))
    assert troubles(taken(settled, statistics)) == [None]
    after = taken(settled, NOISY, NOISY)
    assert events(after) == [
        {
            "event": "bus_trouble",
            "bus": "cellar",
            "code": "noise",
            "what": "something talks on the idle bus",
            "todo": "look for another master",
        }
    ]
    text = "something talks on the idle bus. look for another master."
    assert troubles(after) == [text]
    assert troubles(taken(settled, statistics, StatisticsTaken("attic", BusStatistics()))) == [text]
    after = taken(settled, WELL, WELL)
    assert (events(after), troubles(after)) == ([{"event": "bus_well", "bus": "cellar"}], [None])
    assert troubles(taken(settled, statistics)) == [None]


def test_trouble_before_there_are_statistics_comes_with_the_first(settled: Publisher) -> None:
    assert [topic for topic, _ in taken(settled, NOISY)] == [EVENT]
    assert troubles(taken(settled, StatisticsTaken("cellar", BusStatistics()))) != [None]


def test_a_bus_that_was_well_is_no_news(settled: Publisher) -> None:
    assert taken(settled, WELL) == []


def test_who_is_called_dead_and_is_alive_says_so() -> None:
    one = publisher()
    assert said(one.correction("mbusd/bridge/state", "offline")) == [("mbusd/bridge/state", "online")]
    assert said(one.correction("mbusd/bridge/state", "")) == [("mbusd/bridge/state", "online")]
    assert said(one.correction("mbusd/bridge/state", "online")) == []
    assert said(one.correction("mbusd/other/state", "offline")) == []


def test_requests_are_understood_and_answered(settled: Publisher) -> None:
    asked = settled.asked("mbusd/bridge/request/read", '{"meter": "heat_pump", "transaction": 4}')
    assert asked is not None
    assert asked.command == ReadNow("heat_pump")
    ((topic, payload),) = said(settled.answer(asked, Outcome(readings=(reading(energy=1),))))
    assert topic == "mbusd/bridge/response/read"
    assert json.loads(payload)["transaction"] == 4


def test_a_meter_that_makes_up_keys_does_not_fill_the_broker(
    settled: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    retained: dict[str, str] = {}
    for number in range(0, 1200, 20):
        items = tuple(measured(f"key_{one}", one) for one in range(number, number + 20))
        retained.update(taken(settled, ReadingTaken(replace(reading(), measurements=items))))
    values = {topic.removeprefix("mbusd/heat_pump/") for topic, payload in retained.items() if payload}
    keys_left = {key for key in values if key.startswith("key_")}
    assert len(keys_left) <= 1.5 * 256
    assert "key_1199" in keys_left
    document = json.loads(retained["mbusd/heat_pump"])
    assert {key for key in document if key.startswith("key_")} == keys_left
    living = {key for key, component in components(retained[OLD]).items() if len(component) > 1}
    assert {key for key in living if key.startswith("key_")} == keys_left
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "heat_pump names ever new values" in caplog.text
    again = {message.topic for message in settled.again()}
    assert {topic for topic in again if "/key_" in topic} == {f"mbusd/heat_pump/{key}" for key in keys_left}


def test_what_an_earlier_life_has_left_of_a_meter_goes_by_request() -> None:
    """By the name that it had, or by its address; not what may be the device of a meter that has not answered yet."""
    for name in ("heat_pump", HEAT.address):
        one = publisher()
        list(one.take(MeterChanged(info("boiler", online=None, identity=None))))
        assert one.learn(OLD, announced())
        list(one.learnt())
        after = said(one.forget_left(name))
        assert (OLD, "") in after
        assert ("mbusd/heat_pump", "") in after
        assert ("mbusd/heat_pump/energy", "") in after
        assert said(one.forget_left(name)) == said(one.forget_left("boiler")) == []


def test_what_is_there_is_not_left(settled: Publisher) -> None:
    list(taken(settled, MeterChanged(info()), ReadingTaken(reading())))
    assert said(settled.forget_left("heat_pump")) == said(settled.forget_left(HEAT.address)) == []


def test_what_home_assistant_has_not_heard_of_outlives_a_restart(settled: Publisher) -> None:
    list(taken(settled, MeterChanged(info()), ReadingTaken(reading()), ReadingTaken(reading(SUCCESSOR))))
    one = publisher()
    one.recall(json.loads(json.dumps(settled.notes)).get)
    list(one.learnt())
    assert said(one.after_birth()) == said(settled.after_birth())
    assert said(one.after_birth()) == []
    assert one.notes == settled.notes == NO_NOTES


@pytest.mark.parametrize(
    "notes", [None, [], "x", {OLD: None}, {OLD: "{"}, {OLD: "[]"}, {OLD: "{}"}, {"a/b": announced()}]
)
def test_notes_that_are_none_are_nothing(notes: JsonValue) -> None:
    one = publisher()
    one.recall({HOME_ASSISTANT: notes, TOPICS: notes}.get)
    assert one.notes == NO_NOTES
    assert list(one.after_birth()) == []


def alone() -> Publisher:
    """Nobody is told of its meters but by their topics; it has one called "heat_pump"."""
    one = publisher({"enabled": False})
    list(one.take(MeterChanged(info(identity=None, online=None))))
    return one


def test_what_a_meter_was_called_in_an_earlier_life_goes_without_home_assistant_too() -> None:
    earlier = alone()
    list(earlier.learnt())
    list(taken(earlier, MeterChanged(info("boiler")), ReadingTaken(reading(HEAT, "boiler"))))
    later = alone()
    later.recall(json.loads(json.dumps(earlier.notes)).get)
    assert later.notes[TOPICS] == {"boiler": ["energy", "volume"], "heat_pump": []}
    assert list(later.learnt()) == []  # it may be called so still: nobody has answered yet
    gone = taken(later, MeterChanged(info()), ReadingTaken(reading()))
    for topic in ("", "/energy", "/volume", "/availability", "/interval"):
        assert (f"mbusd/boiler{topic}", "") in gone
        assert (f"mbusd/heat_pump{topic}", "") not in gone
    assert later.notes[TOPICS] == {"heat_pump": ["energy", "volume"]}


def test_what_a_meter_says_no_more_goes_without_home_assistant_too() -> None:
    later = alone()
    later.recall({TOPICS: {"heat_pump": ["energy", "power"]}}.get)
    list(later.learnt())
    assert taken(later, MeterChanged(info()))[-1] == ("mbusd/heat_pump/availability", "online")  # not read yet
    messages = taken(later, ReadingTaken(reading()), MeterChanged(info()))
    assert ("mbusd/heat_pump/power", "") in messages
    assert ("mbusd/heat_pump/energy", "") not in messages
