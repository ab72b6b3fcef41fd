"""The MQTT contract: exact topics and payloads, and what a request means."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from mbusd.exact_json import JsonValue
from mbusd.mbus import vif
from mbusd.model import (
    Alarm,
    BusStatistics,
    BusTroubled,
    Command,
    Decode,
    Forget,
    FoundMeter,
    Outcome,
    ReadAll,
    ReadNow,
    Reload,
    Scan,
    ScanChanged,
    SetInterval,
    SetLogLevel,
)
from mbusd.sinks.requests import REQUESTS, Asked
from mbusd.sinks.topics import MOST_WITH_KEYS, OWN_TOPICS, Message, Topics, plain
from tests.sinks.readings import HEAT, NOON, info, measured, reading

TOPICS = Topics()
INTERVAL_TAKES = 'interval takes {"meter": name, "interval": "10m"}, or "bus" in place of "meter" for all on it'
SCAN_TAKES = 'scan takes {"bus": name, "mode": "primary", "secondary" or "both", "cancel": true or false}'


def test_a_reading_is_one_document_and_a_topic_for_each_value() -> None:
    taken = reading(energy=10, volume=Decimal("2.72"), flow_temperature=Decimal("18.360"))
    assert list(TOPICS.of_reading(taken, ("energy", "volume", "flow_temperature"))) == [
        Message(
            "mbusd/heat_pump",
            '{"time": "2026-11-20T12:00:00Z", "status": [], "energy": 10, "volume": 2.72, "flow_temperature": 18.36}',
        ),
        Message("mbusd/heat_pump/energy", "10"),
        Message("mbusd/heat_pump/volume", "2.72"),
        Message("mbusd/heat_pump/flow_temperature", "18.36"),
    ]
    assert all(message.retain and message.qos == 1 for message in TOPICS.of_reading(taken, ()))


def test_the_document_has_every_key_and_null_where_there_is_no_value() -> None:
    taken = replace(reading(energy=None, power=0), status=("power_low", "permanent_error"))
    document, *values = TOPICS.of_reading(taken, ("volume", "energy", "power"))
    assert document.payload == (
        '{"time": "2026-11-20T12:00:00Z", "status": ["power_low", "permanent_error"], '
        '"volume": null, "energy": null, "power": 0}'
    )
    assert values == [Message("mbusd/heat_pump/energy", ""), Message("mbusd/heat_pump/power", "0")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (Decimal("-0.0"), "0"),
        (Decimal("0.0000001"), "0.0000001"),
        (Decimal("1E+6"), "1000000"),
        (123456789012345678901234, "123456789012345678901234"),
        ('quote " and \\', 'quote " and \\'),
        ("", ""),
        (date(2026, 1, 31), "2026-01-31"),
        (datetime(2026, 1, 31, 23, 59), "2026-01-31T23:59:00"),  # noqa: DTZ001 - a meter's clock
        (datetime(2026, 1, 31, 23, 59, tzinfo=UTC), "2026-01-31T23:59:00Z"),
    ],
)
def test_the_plain_value(value: int | Decimal | str | date, text: str) -> None:
    assert plain(value) == text


def test_how_readings_are_published_is_configured() -> None:
    quiet = Topics("house/mbus", retain=False, qos=0, values=False, telegrams=True)
    taken = replace(reading(energy=10), telegrams=(b"\x68\x01", b"\xe5"))
    assert list(quiet.of_reading(taken, ())) == [
        Message(
            "house/mbus/heat_pump", '{"time": "2026-11-20T12:00:00Z", "status": [], "energy": 10}', retain=False, qos=0
        ),
        Message("house/mbus/heat_pump/telegram", "6801 E5", retain=False, qos=1),
    ]
    assert TOPICS.of_value("m", "energy", None) == Message("mbusd/m/energy", "")


def test_history_is_each_reading_with_its_time_for_a_stream_that_loses_nothing() -> None:
    taken = replace(reading(energy=None, volume=Decimal("2.720"), number=10**20), status=("power_low",))
    topics = Topics("house/mbus", retain=True, qos=0, values=False, history=True)
    (message,) = topics.of_history(taken)
    assert message == Message(
        "house/mbus/heat_pump/history",
        '{"time": "2026-11-20T12:00:00Z", "status": ["power_low"], "energy": null, "volume": 2.72, '
        '"number": 100000000000000000000}',
        retain=False,
        qos=1,
        is_unique=True,
        is_stream=True,
    )
    (state,) = topics.of_reading(taken, ())
    assert message.payload == state.payload
    assert not state.is_stream


def test_there_is_no_history_unless_it_is_wanted() -> None:
    assert list(TOPICS.of_history(reading())) == []


def test_states() -> None:
    assert TOPICS.of_bridge(online=True) == Message("mbusd/bridge/state", "online")
    assert TOPICS.of_bridge(online=False) == Message("mbusd/bridge/state", "offline")
    assert TOPICS.of_bus("cellar", up=True) == Message("mbusd/bus/cellar/state", "online")
    assert TOPICS.of_availability(info()) == Message("mbusd/heat_pump/availability", "online")
    assert TOPICS.of_availability(info(online=None)) == Message("mbusd/heat_pump/availability", "offline")


def test_statistics() -> None:
    message = TOPICS.of_statistics("cellar", BusStatistics(5, 1, 20, 2, 3, 4, 1, 0.12345, overload=True, implausible=6))
    assert message.topic == "mbusd/bus/cellar/statistics"
    assert json.loads(message.payload) == {
        "read_outs": 5,
        "failures": 1,
        "implausible": 6,
        "requests": 20,
        "retries": 2,
        "timeouts": 3,
        "noise": 4,
        "reopened": 1,
        "utilisation": 12.3,
        "overload": True,
        "trouble": None,
    }


@pytest.mark.parametrize(
    ("what", "todo", "text"),
    [
        ("two masters", "stop one", "two masters. stop one."),
        ("noise on the idle bus", "", "noise on the idle bus."),
        ("short circuit.", "look at the wires.", "short circuit. look at the wires."),
    ],
)
def test_what_is_wrong_with_a_bus_stands_in_its_statistics(what: str, todo: str, text: str) -> None:
    message = TOPICS.of_statistics("cellar", BusStatistics(), BusTroubled("cellar", "noise", what, todo))
    assert json.loads(message.payload)["trouble"] == text


def test_an_alarm() -> None:
    taken = Alarm("heat_pump", NOON, 0x84, telegram=b"\x68")
    assert TOPICS.of_alarm(taken) == Message(
        "mbusd/heat_pump/alarm", '{"time": "2026-11-20T12:00:00Z", "alarm": true, "code": 132, "bits": [2, 7]}'
    )
    nothing = Topics("house", retain=False, qos=0).of_alarm(Alarm("m", NOON))
    assert (nothing.topic, nothing.retain, nothing.qos) == ("house/m/alarm", True, 1)
    assert json.loads(nothing.payload) == {"time": "2026-11-20T12:00:00Z", "alarm": False, "code": 0, "bits": []}


def test_an_alarm_in_records_and_no_record_takes_a_word_of_ours() -> None:
    items = (measured("error_flags", "02"), measured("volume", Decimal("2.720")), measured("code", 7))
    document = json.loads(TOPICS.of_alarm(Alarm("m", NOON, measurements=items)).payload)
    assert document == {
        "time": "2026-11-20T12:00:00Z",
        "alarm": True,
        "code": 0,
        "bits": [],
        "error_flags": "02",
        "volume": 2.72,
    }


@pytest.mark.parametrize(
    ("topic", "meter"),
    [
        ("house/mbus/heat_pump/alarm", "heat_pump"),
        ("house/mbus/heat_pump/alarm_status", None),
        ("house/mbus/heat_pump", None),
        ("house/mbus/a/b/alarm", None),
        ("heat_pump/alarm", None),
    ],
)
def test_whose_alarm_it_is(topic: str, meter: str | None) -> None:
    assert Topics("house/mbus").meter_of_alarm(topic) == meter


def test_no_value_takes_a_topic_that_means_something_else() -> None:
    """A value under `get` would be a request to read the meter, and so on for ever."""
    taken = reading(energy=1, get=2, alarm=3, availability=4, telegram=5, alarm_status=6, history=7, interval=8)
    topics = [message.topic for message in TOPICS.of_reading(taken, ())]
    assert topics == ["mbusd/heat_pump", "mbusd/heat_pump/energy", "mbusd/heat_pump/alarm_status"]
    rows = [row for rows in (vif.PRIMARY, vif.FB, vif.FD, vif.FD_FD, vif.FIXED) for row in rows]
    assert not OWN_TOPICS & {row.quantity for row in rows}


def test_a_town_of_meters_is_listed_without_their_keys() -> None:
    for count, keys in ((MOST_WITH_KEYS, 1), (MOST_WITH_KEYS + 1, None)):
        listed = json.loads(TOPICS.of_meters([info(f"m{number}") for number in range(count)]).payload)
        assert len(listed) == count
        assert {None if one["keys"] is None else len(one["keys"]) for one in listed} == {keys}


def test_the_list_of_meters() -> None:
    silent = info("", address="5", identity=None, last_read=None, failures=7, online=False, keys=())
    message = TOPICS.of_meters([info(), silent])
    assert message.topic == "mbusd/bridge/meters"
    assert message.retain
    assert json.loads(message.payload) == [
        {
            "name": "heat_pump",
            "bus": "cellar",
            "address": "68",
            "identity": {
                "id": "12345678",
                "manufacturer": "KAM",
                "version": 8,
                "medium": 4,
                "medium_name": "heat",
                "address": "123456782D2C0804",
            },
            "keys": [{"key": "energy", "unit": "kWh", "name": "Energy", "quantity": "energy"}],
            "interval": "10s",
            "last_read": "2026-11-20T12:00:00Z",
            "failures": 0,
            "implausible": 0,
        },
        {
            "name": None,
            "bus": "cellar",
            "address": "5",
            "identity": None,
            "keys": [],
            "interval": "10s",
            "last_read": None,
            "failures": 7,
            "implausible": 0,
        },
    ]


def test_the_bridge_tells_who_it_is_and_what_happens() -> None:
    assert TOPICS.of_info("1.2", NOON, {"meters": 3}, {"x": 1}) == Message(
        "mbusd/bridge/info",
        '{"version": "1.2", "started": "2026-11-20T12:00:00Z", "counts": {"meters": 3}, "config": {"x": 1}}',
    )
    assert TOPICS.of_event("meter_silent", meter="küche", bus="cellar", why="", none=None) == Message(
        "mbusd/bridge/event",
        '{"event": "meter_silent", "meter": "küche", "bus": "cellar"}',
        retain=False,
        is_unique=True,
    )


@pytest.mark.parametrize(
    ("command", "payload", "asked"),
    [
        ("read", '{"meter": "heat_pump"}', ReadNow("heat_pump")),
        ("read", '{"meter": 12345678}', ReadNow("12345678")),
        ("read", "heat_pump", ReadNow("heat_pump")),
        ("read", ' "heat pump"\n', ReadNow("heat pump")),
        ("read", "12345678", ReadNow("12345678")),
        ("read", "01234567", ReadNow("01234567")),
        ("read", "12345E78", ReadNow("12345E78")),
        ("read", "1234567800E00000", ReadNow("1234567800E00000")),
        ("read", "true", ReadNow("true")),
        ("read_all", "", ReadAll()),
        ("read_all", "{}", ReadAll()),
        ("read_all", "PRESS", ReadAll()),
        ("scan", "", Scan()),
        ("scan", "PRESS", Scan()),
        ("scan", "{}", Scan(None, "both")),
        ("scan", '{"bus": "cellar", "mode": "secondary"}', Scan("cellar", "secondary")),
        ("scan", '{"mode": "primary", "bus": null}', Scan(None, "primary")),
        ("scan", '{"cancel": true}', Scan(is_cancel=True)),
        ("scan", '{"bus": "cellar", "cancel": false}', Scan("cellar")),
        ("read_all", '{"bus": "cellar"}', ReadAll("cellar")),
        ("forget", "heat", Forget("heat")),
        ("forget", '{"meter": "heat"}', Forget("heat")),
        ("interval", '{"meter": "heat", "interval": "10m"}', SetInterval("10m", "heat")),
        ("interval", '{"meter": "heat", "interval": 600}', SetInterval("600", "heat")),
        ("interval", '{"bus": "cellar", "interval": "manual"}', SetInterval("manual", None, "cellar")),
        ("decode", "68 03", Decode("68 03")),
        ("decode", "6803", Decode("6803")),
        ("decode", '{"hex": "E5"}', Decode("E5")),
        ("log_level", "debug", SetLogLevel("debug")),
        ("log_level", '{"level": "debug"}', SetLogLevel("debug")),
        ("reload", "", Reload()),
    ],
)
def test_requests(command: str, payload: str, asked: Command) -> None:
    response = f"mbusd/bridge/response/{command}"
    assert TOPICS.asked(f"mbusd/bridge/request/{command}", payload) == Asked(asked, response_topic=response)


@pytest.mark.parametrize(
    ("command", "payload", "error"),
    [
        ("read", "", 'read needs the name of a meter: {"meter": "…"}'),
        (
            "read",
            '{"metre": "x"}',
            "read: there is no field 'metre'; 'meter' is meant?; there are meter, force, transaction",
        ),
        ("read", '{"meter": "x", "now": 1}', "read: there is no field 'now'; there are meter, force, transaction"),
        ("decode", '{"meter": "E5"}', "decode: there is no field 'meter'; there are hex, transaction"),
        ("reload", '{"file": "x"}', "reload: there is no field 'file'; there are transaction"),
        (
            "set_address",
            '{"meter": "x", "adress": 5}',
            (
                "set_address: there is no field 'adress'; 'address' is meant?; "
                "there are meter, value, address, transaction"
            ),
        ),
        (
            "set_clock",
            '{"meter": "x", "address": 5}',
            "set_clock: there is no field 'address'; there are meter, value, clock, transaction",
        ),
        ("read", '{"meter": true}', 'read needs the name of a meter: {"meter": "…"}'),
        ("read", '{"meter": ["x"]}', 'read needs the name of a meter: {"meter": "…"}'),
        ("read", "[1]", "the payload is a JSON object or the name of a meter"),
        ("read", '{"meter": "flat', "the payload is a JSON object or the name of a meter"),
        ("scan", '{"mode": "all"}', SCAN_TAKES),
        ("read_all", '{"bus": 5}', 'read_all takes {"bus": name}'),
        ("decode", "{}", 'decode takes {"hex": "…"}, or only that text'),
        ("log_level", '{"level": true}', 'log_level takes {"level": "…"}, or only that text'),
        ("interval", '{"meter": "heat"}', INTERVAL_TAKES),
        ("interval", '{"meter": "heat", "bus": "cellar", "interval": 5}', INTERVAL_TAKES),
        ("interval", '{"interval": "5m"}', INTERVAL_TAKES),
        ("scan", '{"mode": ["both"]}', SCAN_TAKES),
        ("scan", '{"bus": 5}', SCAN_TAKES),
        ("scan", '{"cancel": 1}', SCAN_TAKES),
        ("scan", "[1]", "the payload is a JSON object or the name of a meter"),
        ("read", "x" * 10001, "the request is longer than 10000 characters"),
        ("explode", "{}", "there is no request 'explode'; there are " + ", ".join(REQUESTS)),
    ],
)
def test_requests_that_are_none_are_told_so(command: str, payload: str, error: str) -> None:
    response = f"mbusd/bridge/response/{command}"
    assert TOPICS.asked(f"mbusd/bridge/request/{command}", payload) == Asked(None, error, response)


@pytest.mark.parametrize("payload", ['{"transaction": NaN}', '{"transaction": 1e999}', "[" * 9000, '{"a":' * 1500])
def test_what_cannot_be_echoed_is_no_request(payload: str) -> None:
    asked = TOPICS.asked("mbusd/bridge/request/read", payload)
    assert asked is not None
    assert asked.command is None
    (answer,) = TOPICS.of_outcome(asked, Outcome(error=asked.error))
    assert json.loads(answer.payload) == {"status": "error", "error": asked.error}


@pytest.mark.parametrize("command", REQUESTS)
def test_a_transaction_may_stand_in_any_request_and_nothing_unknown_in_none(command: str) -> None:
    for strange in ("transactoin", "", "__class__", "meters"):
        asked = TOPICS.asked(f"mbusd/bridge/request/{command}", json.dumps({strange: "x", "transaction": 7}))
        assert asked is not None
        assert (asked.command, asked.transaction) == (None, 7)
        assert f"{command}: there is no field '{strange}'" in (asked.error or "")
    asked = TOPICS.asked(f"mbusd/bridge/request/{command}", '{"transaction": 7}')
    assert asked is not None
    assert asked.transaction == 7
    assert "no field" not in (asked.error or "")


def test_get_reads_a_meter_whatever_the_payload_and_is_not_answered() -> None:
    for payload in ("", "x", '{"transaction": 1}'):
        asked = TOPICS.asked("mbusd/heat pump/get", payload)
        assert asked == Asked(ReadNow("heat pump"))
        assert list(TOPICS.of_outcome(asked, Outcome(readings=(reading(),)))) == []


def test_a_request_whose_answer_would_have_no_topic_is_none() -> None:
    """A topic has 65 535 bytes at the most (MQTT 3.1.1 cl. 1.5.3), and that of the answer is one longer."""
    assert TOPICS.asked("mbusd/bridge/request/" + "x" * 65_514, "") is None


def test_a_number_of_any_length_is_a_text() -> None:
    asked = TOPICS.asked("mbusd/bridge/request/read", "1" * 4000)
    assert asked is not None
    assert asked.command == ReadNow("1" * 4000)


@pytest.mark.parametrize(
    "topic", ["mbusd/heat_pump", "mbusd/bridge/state", "mbusd/a/b/get", "mbusd/bridge/request/a/b"]
)
def test_other_topics_are_no_requests(topic: str) -> None:
    assert TOPICS.asked(topic, "{}") is None


def test_what_to_subscribe_to_covers_all_requests() -> None:
    assert Topics("a/b").requests == ("a/b/bridge/request/+", "a/b/+/get")
    asked = Topics("a/b").asked("a/b/bridge/request/read", "x")
    assert asked is not None
    assert asked.response_topic == "a/b/bridge/response/read"
    assert Topics("a/b").asked("a/b/x/get", "") == Asked(ReadNow("x"))


@pytest.mark.parametrize("transaction", [7, "a b", 0, False, {"a": [1, None]}, 1.5])
def test_the_answer_carries_the_reading_and_the_transaction(transaction: JsonValue) -> None:
    request = json.dumps({"meter": "heat_pump", "transaction": transaction})
    asked = TOPICS.asked("mbusd/bridge/request/read", request)
    assert asked is not None
    (answer,) = TOPICS.of_outcome(asked, Outcome(readings=(reading(volume=Decimal("2.72")),)))
    assert (answer.topic, answer.retain) == ("mbusd/bridge/response/read", False)
    assert json.loads(answer.payload) == {
        "status": "ok",
        "data": {"meter": "heat_pump", "reading": {"time": "2026-11-20T12:00:00Z", "status": [], "volume": 2.72}},
        "transaction": transaction,
    }


def test_the_answer_to_read_all_tells_who_failed() -> None:
    asked = TOPICS.asked("mbusd/bridge/request/read_all", "")
    assert asked is not None
    (answer,) = TOPICS.of_outcome(asked, Outcome(readings=(reading(energy=10),), failed={"flat_1": "no answer"}))
    document = {"time": "2026-11-20T12:00:00Z", "status": [], "energy": 10}
    assert json.loads(answer.payload) == {
        "status": "ok",
        "data": {"readings": {"heat_pump": document}, "failed": {"flat_1": "no answer"}},
    }


def test_an_error_is_an_answer() -> None:
    asked = Asked(ReadNow("x"), response_topic="mbusd/bridge/response/read", transaction=5)
    (answer,) = TOPICS.of_outcome(asked, Outcome(error="there is no meter 'x'"))
    assert json.loads(answer.payload) == {"status": "error", "error": "there is no meter 'x'", "transaction": 5}
    assert HEAT.address not in answer.payload


def test_what_a_scan_has_found_is_its_answer() -> None:
    asked = TOPICS.asked("mbusd/bridge/request/scan", '{"transaction": 7}')
    assert asked is not None
    found = (
        FoundMeter(HEAT.address, 68, HEAT),
        FoundMeter("4", 4, None, "acknowledges but sends no data"),
    )
    (answer,) = TOPICS.of_outcome(asked, Outcome(found=found, remarks=("address 0: several meters answer",)))
    assert (answer.topic, answer.retain, answer.is_unique) == ("mbusd/bridge/response/scan", False, True)
    identity = {
        "id": "12345678",
        "manufacturer": "KAM",
        "version": 8,
        "medium": 4,
        "medium_name": "heat",
        "address": "123456782D2C0804",
    }
    assert json.loads(answer.payload) == {
        "status": "ok",
        "data": {
            "found": [
                {"address": HEAT.address, "primary": 68, "identity": identity, "remark": None},
                {"address": "4", "primary": 4, "identity": None, "remark": "acknowledges but sends no data"},
            ],
            "remarks": ["address 0: several meters answer"],
        },
        "transaction": 7,
    }


def test_a_scan_that_finds_nobody_and_one_that_is_ended() -> None:
    asked = Asked(Scan(), response_topic="mbusd/bridge/response/scan")
    (answer,) = TOPICS.of_outcome(asked, Outcome(found=()))
    assert json.loads(answer.payload) == {"status": "ok", "data": {"found": [], "remarks": []}}
    (answer,) = TOPICS.of_outcome(replace(asked, command=Scan(is_cancel=True)), Outcome())
    assert json.loads(answer.payload) == {"status": "ok", "data": {}}
    (answer,) = TOPICS.of_outcome(asked, Outcome(error="the port is not open", found=()))
    assert json.loads(answer.payload) == {"status": "error", "error": "the port is not open"}


def test_how_a_scan_is_getting_on() -> None:
    running = TOPICS.of_scan(ScanChanged("cellar", "running", 25, 236, HEAT.address))
    assert (running.topic, running.retain, running.is_unique) == ("mbusd/bridge/event", False, True)
    assert json.loads(running.payload) == {
        "event": "scan_progress",
        "bus": "cellar",
        "state": "running",
        "done": 25,
        "left": 236,
        "found": HEAT.address,
    }
    failed = TOPICS.of_scan(ScanChanged("cellar", "failed", 25, 0, why="it was unplugged"))
    assert json.loads(failed.payload) == {
        "event": "scan_ended",
        "bus": "cellar",
        "state": "failed",
        "done": 25,
        "left": 0,
        "why": "it was unplugged",
    }
