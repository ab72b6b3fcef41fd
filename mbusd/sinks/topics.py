"""The MQTT contract on one page: which event becomes which topics and payloads, and what may be asked for. Pure."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite
from typing import cast, get_args

from mbusd import exact_json
from mbusd.exact_json import JsonValue
from mbusd.model import (
    Alarm,
    BusStatistics,
    BusTroubled,
    ChangeMeter,
    ChangeName,
    Command,
    FoundMeter,
    Identity,
    MeterInfo,
    Outcome,
    ReadAll,
    Reading,
    ReadNow,
    Scan,
    ScanChanged,
    ScanMode,
    Value,
)

REQUESTS = ("read", "read_all", "scan", "set_address", "set_identification", "set_baudrate", "set_clock", "reset")
ONLINE = "online"
OFFLINE = "offline"
OWN_TOPICS = frozenset({"alarm", "availability", "get", "telegram"})
"""Words behind a meter's name that no key may take; no quantity is called so."""
LONGEST_REQUEST = 10_000  # characters; answers echo parts of requests, and brokers have a limit


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to the broker."""

    topic: str
    payload: str
    retain: bool = True
    qos: int = 1
    is_unique: bool = False  # a later message on the same topic does not stand in for this one
    is_fleeting: bool = False  # of now or never: whoever takes it puts the time to it


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came by MQTT: a command, or why it is none; and where the answer goes, if anywhere."""

    command: Command | None
    error: str | None = None
    response_topic: str | None = None
    transaction: JsonValue = None


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics below one base topic."""

    base: str = "mbusd"
    retain: bool = True  # of readings
    qos: int = 1  # of readings
    values: bool = True
    telegrams: bool = False

    @property
    def bridge_state(self) -> str:
        return f"{self.base}/bridge/state"

    @property
    def requests(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return (f"{self.base}/bridge/request/+", f"{self.base}/+/get")

    def meter(self, name: str) -> str:
        return f"{self.base}/{name}"

    def availability(self, name: str) -> str:
        return f"{self.base}/{name}/availability"

    def alarm(self, name: str) -> str:
        return f"{self.base}/{name}/alarm"

    def meter_of_alarm(self, topic: str) -> str | None:
        """Whose alarm it is; None where the topic is something else."""
        words = topic.removeprefix(f"{self.base}/").split("/")
        return words[0] if len(words) == 2 and topic == self.alarm(words[0]) else None

    def bus_state(self, bus: str) -> str:
        return f"{self.base}/bus/{bus}/state"

    def of_bridge(self, *, online: bool) -> Message:
        return Message(self.bridge_state, ONLINE if online else OFFLINE)

    def of_bus(self, bus: str, *, up: bool) -> Message:
        return Message(self.bus_state(bus), ONLINE if up else OFFLINE)

    def of_statistics(self, bus: str, statistics: BusStatistics, trouble: BusTroubled | None = None) -> Message:
        """Counts by name; `utilisation` in percent of the time; `trouble`: what is wrong with the wire, or null."""
        numbers = {name: getattr(statistics, name) for name in BusStatistics.__slots__}
        numbers["utilisation"] = round(100 * statistics.utilisation, 1)
        numbers["trouble"] = None if trouble is None else _sentences(trouble.what, trouble.todo)
        return Message(f"{self.base}/bus/{bus}/statistics", json.dumps(numbers, ensure_ascii=False))

    def of_reading(self, reading: Reading, keys: Iterable[str]) -> Iterator[Message]:
        """One JSON document, one topic a value; every key of `keys` is in the document, null where it was not sent."""
        yield self._of_meter(self.meter(reading.meter), exact_json.dumps(_document(reading, keys)))
        if self.values:
            for item in reading.measurements:
                if item.key not in OWN_TOPICS:
                    yield self.of_value(reading.meter, item.key, item.value)
        if self.telegrams:
            payload = " ".join(telegram.hex().upper() for telegram in reading.telegrams)
            yield Message(f"{self.base}/{reading.meter}/telegram", payload, retain=False)

    def of_value(self, meter: str, key: str, value: Value) -> Message:
        """The value alone; an empty payload, which clears the topic, where the meter has none."""
        return self._of_meter(f"{self.base}/{meter}/{key}", "" if value is None else plain(value))

    def _of_meter(self, topic: str, payload: str) -> Message:
        return Message(topic, payload, self.retain, self.qos)

    def of_alarm(self, alarm: Alarm) -> Message:
        """Whether there is one, the alarm byte and its bits; of a meter that answers with records, those by key."""
        said: dict[str, JsonValue] = {
            "time": _utc(alarm.taken_at),
            "alarm": alarm.is_raised,
            "code": alarm.code,
            "bits": list(alarm.bits),
        }
        values: dict[str, JsonValue] = {item.key: item.value for item in alarm.measurements}
        return Message(self.alarm(alarm.meter), exact_json.dumps(said | values | said))

    def no_alarm(self, meter: str) -> Message:
        """Clears the topic: nobody asks this meter for alarms any more."""
        return Message(self.alarm(meter), "")

    def of_availability(self, info: MeterInfo) -> Message:
        return Message(self.availability(info.name), ONLINE if info.online else OFFLINE)

    def of_meters(self, meters: Iterable[MeterInfo]) -> Message:
        """The list of all meters with what there is to say of them."""
        return Message(f"{self.base}/bridge/meters", exact_json.dumps([_meter(info) for info in meters]))

    def of_info(
        self, version: str, started: datetime, counts: Mapping[str, int], settings: Mapping[str, JsonValue]
    ) -> Message:
        """Version, start, counts and settings, which must hold no secret."""
        document: dict[str, JsonValue] = {
            "version": version,
            "started": _utc(started),
            "counts": dict(counts),
            "config": dict(settings),
        }
        return Message(f"{self.base}/bridge/info", exact_json.dumps(document))

    def of_event(self, kind: str, **details: JsonValue) -> Message:
        """Something that happened once: not retained. What is None or empty text is left out."""
        document = {"event": kind} | {name: value for name, value in details.items() if value not in (None, "")}
        payload = json.dumps(document, ensure_ascii=False)
        return Message(f"{self.base}/bridge/event", payload, retain=False, is_unique=True)

    def of_scan(self, scan: ScanChanged) -> Message:
        """Progress of a scan, or its end."""
        document: dict[str, JsonValue] = {
            "event": "scan_progress" if scan.state == "running" else "scan_ended",
            "bus": scan.bus,
            "state": scan.state,
            "done": scan.done,
            "left": scan.left,
        }
        document |= {name: text for name, text in (("found", scan.found), ("why", scan.why)) if text}
        return Message(f"{self.base}/bridge/event", exact_json.dumps(document), retain=False, is_unique=True)

    def asked(self, topic: str, payload: str) -> Asked | None:
        """The command in a message, None where the topic is no request."""
        words = topic.removeprefix(f"{self.base}/").split("/")
        if len(words) == 2 and words[1] == "get":
            return Asked(ReadNow(words[0]))
        if len(words) == 3 and words[:2] == ["bridge", "request"]:
            response = f"{self.base}/bridge/response/{words[2]}"
            return replace(_request(words[2], payload), response_topic=response)
        return None

    def of_outcome(self, asked: Asked, outcome: Outcome) -> Iterator[Message]:
        """The answer to a request, for those who want one."""
        if asked.response_topic is None:
            return
        document: dict[str, JsonValue] = {"status": "ok"}
        if outcome.error:
            document = {"status": "error", "error": outcome.error}
        if outcome.found or (outcome.found is not None and not outcome.error):  # a lost port keeps what was found
            found: list[JsonValue] = [_found(one) for one in outcome.found]
            document["data"] = {"found": found, "remarks": list(outcome.remarks)}
        elif outcome.error:
            pass
        elif isinstance(asked.command, Scan):
            document["data"] = {}
        elif isinstance(asked.command, ChangeMeter):
            document["data"] = {"meter": asked.command.meter, "written": outcome.written}
        elif isinstance(asked.command, ReadNow):
            document["data"] = {"meter": asked.command.meter, "reading": _document(outcome.readings[0])}
        else:
            readings: dict[str, JsonValue] = {reading.meter: _document(reading) for reading in outcome.readings}
            document["data"] = {"readings": readings, "failed": dict(outcome.failed)}
        if asked.transaction is not None:
            document["transaction"] = asked.transaction
        yield Message(asked.response_topic, exact_json.dumps(document), retain=False, is_unique=True)


def plain(value: Value) -> str:
    """A value as the plain text of its own topic."""
    return value if isinstance(value, str) else exact_json.dumps(value).strip('"')


def _sentences(*parts: str) -> str:
    return " ".join(f"{part.rstrip('.')}." for part in parts if part)


def _request(command: str, payload: str) -> Asked:
    if len(payload) > LONGEST_REQUEST:
        return Asked(None, f"the request is longer than {LONGEST_REQUEST} characters")
    document = _parsed(payload)
    if not isinstance(document, dict):
        return Asked(None, "the payload is a JSON object or the name of a meter")
    wanted, error = _command(command, document)
    return Asked(wanted, error, transaction=document.get("transaction"))


def _command(name: str, document: Mapping[str, JsonValue]) -> tuple[Command | None, str | None]:
    """The command of that name, or why there is none."""
    meter = document.get("meter")
    match name:
        case "read" if isinstance(meter, str | int) and not isinstance(meter, bool):
            return ReadNow(str(meter)), None
        case "read":
            return None, 'read needs the name of a meter: {"meter": "…"}'
        case "read_all":
            return ReadAll(), None
        case "scan":
            return _scan(document)
        case "set_address" | "set_identification" | "set_baudrate" | "set_clock" | "reset":
            return _change(name, document)
        case _:
            return None, f"there is no request '{name}'; there are {', '.join(REQUESTS)}"


def _parsed(payload: str) -> object:
    """The JSON of a request; a bare word, also one that looks like a number, is a meter's name."""
    if not payload.strip():
        return {}
    try:
        document = json.loads(payload, parse_float=_finite, parse_constant=_finite)
        exact_json.dumps(document)  # what is nested too deep to be echoed is no request
    except (ValueError, RecursionError):
        return {"meter": payload.strip()}
    if isinstance(document, str):
        return {"meter": document}
    return document if isinstance(document, dict | list) else {"meter": payload.strip()}


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(text)
    return number


def _change(what: ChangeName, document: Mapping[str, JsonValue]) -> tuple[Command | None, str | None]:
    """`value` may also stand under the name of the thing: `{"meter": "flat_1", "address": 5}`."""
    meter, value = document.get("meter"), document.get("value", document.get(what.removeprefix("set_")))
    if not isinstance(meter, str) or isinstance(value, bool) or not isinstance(value, str | int | None):
        return None, f'{what} takes {{"meter": name, "value": …}}'
    return ChangeMeter(meter, what, None if value is None else str(value)), None


def _scan(document: Mapping[str, JsonValue]) -> tuple[Command | None, str | None]:
    bus, mode, cancel = document.get("bus"), document.get("mode", "both"), document.get("cancel", False)
    if not isinstance(bus, str | None) or mode not in get_args(ScanMode) or not isinstance(cancel, bool):
        return None, 'scan takes {"bus": name, "mode": "primary", "secondary" or "both", "cancel": true or false}'
    return Scan(bus, cast("ScanMode", mode), cancel), None


def _found(meter: FoundMeter) -> dict[str, JsonValue]:
    return {
        "address": meter.address,
        "primary": meter.primary,
        "identity": None if meter.identity is None else _identity(meter.identity),
        "remark": meter.remark or None,
    }


def _document(reading: Reading, keys: Iterable[str] = ()) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {item.key: item.value for item in reading.measurements}
    return {"time": _utc(reading.taken_at), "status": list(reading.status), **dict.fromkeys(keys), **values}


def _meter(info: MeterInfo) -> dict[str, JsonValue]:
    keys: list[JsonValue] = [
        {"key": key, "unit": unit, "name": key.replace("_", " ").capitalize(), "quantity": quantity}
        for key, unit, quantity in info.keys
    ]
    return {
        "name": info.name or None,
        "bus": info.bus,
        "address": info.address,
        "identity": None if info.identity is None else _identity(info.identity),
        "keys": keys,
        "interval": info.interval,
        "last_read": None if info.last_read is None else _utc(info.last_read),
        "failures": info.failures,
    }


def _identity(identity: Identity) -> dict[str, JsonValue]:
    return {
        "id": identity.identification,
        "manufacturer": identity.manufacturer or None,
        "version": identity.version,
        "medium": identity.medium,
        "medium_name": identity.medium_name,
        "address": identity.address,
    }


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
