"""The MQTT contract on one page: which event becomes which topics and payloads. Pure."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from datetime import datetime
from typing import Protocol

from mbusd import exact_json
from mbusd.exact_json import JsonValue, quoted
from mbusd.light import dataclass
from mbusd.model import (
    Alarm,
    BusStatistics,
    BusTroubled,
    ChangeMeter,
    Command,
    FoundMeter,
    Identity,
    MeterInfo,
    Outcome,
    Reading,
    ReadNow,
    Scan,
    ScanChanged,
    Value,
)
from mbusd.sinks.requests import Asked, request
from mbusd.sinks.state import state, utc

ONLINE = "online"
OFFLINE = "offline"
MOST_WITH_KEYS = 1000  # meters in the list of all; more of them say their keys in their own documents only
Keys = tuple[tuple[str, str | None, str], ...]
_LONGEST_NAME = 64  # of a request: the answer's topic has it, too
OWN_TOPICS = frozenset({"alarm", "availability", "get", "history", "interval", "telegram"})
"""Words behind a meter's name that no key may take; no quantity is called so."""


class Source(Protocol):
    """Who can say once more what it has said to be retained, so that nobody else need keep it."""

    def again(self) -> Iterator["Message"]:
        """All that is retained of it, as it is when it is asked for; nothing that is empty."""


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to the broker."""

    topic: str
    payload: str
    retain: bool = True
    qos: int = 1
    is_unique: bool = False  # a later message on the same topic does not stand in for this one
    is_fleeting: bool = False  # of now or never: whoever takes it puts the time to it
    is_stream: bool = False  # has its time with it and must not be lost: QoS 1, not retained, in order
    source: Source | None = field(default=None, compare=False, repr=False)  # who says it again, if it is retained


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics below one base topic."""

    base: str = "mbusd"
    retain: bool = True  # of readings
    qos: int = 1  # of readings
    values: bool = True
    telegrams: bool = False
    history: bool = False
    source: Source | None = field(default=None, compare=False, repr=False)  # of all that is told of meters

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

    def no_bus(self, bus: str) -> Iterator[Message]:
        """Clears the topics of a bus that is no more."""
        yield Message(self.bus_state(bus), "")
        yield Message(f"{self.base}/bus/{bus}/statistics", "")

    def of_statistics(self, bus: str, statistics: BusStatistics, trouble: BusTroubled | None = None) -> Message:
        """Counts by name; `utilisation` in percent of the time; `trouble`: what is wrong with the wire, or null."""
        numbers = {name: getattr(statistics, name) for name in BusStatistics.__slots__}
        numbers["utilisation"] = round(100 * statistics.utilisation, 1)
        numbers["trouble"] = None if trouble is None else _sentences(trouble.what, trouble.todo)
        return Message(f"{self.base}/bus/{bus}/statistics", json.dumps(numbers, ensure_ascii=False))

    def of_reading(self, reading: Reading, keys: Iterable[str]) -> Iterator[Message]:
        """One JSON document, one topic a value; every key of `keys` is in the document, null where it was not sent."""
        yield self._of_meter(self.meter(reading.meter), state(reading, keys))
        if self.values and reading.draft is not None:
            for key, text in reading.draft.texts():
                if key not in OWN_TOPICS:
                    yield self._of_meter(f"{self.base}/{reading.meter}/{key}", plain_text(text))
        elif self.values:
            for item in reading.measurements:
                if item.key not in OWN_TOPICS:
                    yield self.of_value(reading.meter, item.key, item.value)
        if self.telegrams:
            payload = " ".join(telegram.hex().upper() for telegram in reading.telegrams)
            yield Message(f"{self.base}/{reading.meter}/telegram", payload, retain=False)

    def of_history(self, reading: Reading) -> Iterator[Message]:
        """The reading as it is, with its time, for those who want every one; nothing unless `history` is on."""
        if self.history:
            payload = exact_json.dumps(_document(reading))
            topic = f"{self.meter(reading.meter)}/history"
            yield Message(topic, payload, retain=False, is_unique=True, is_stream=True)

    def of_value(self, meter: str, key: str, value: Value) -> Message:
        """The value alone; an empty payload, which clears the topic, where the meter has none."""
        return self._of_meter(f"{self.base}/{meter}/{key}", "" if value is None else plain(value))

    def of_interval(self, meter: str, text: str) -> Message:
        """Seconds between read-outs, or a word; an empty text clears the topic."""
        return Message(f"{self.base}/{meter}/interval", text, source=self.source)

    def _of_meter(self, topic: str, payload: str) -> Message:
        return Message(topic, payload, self.retain, self.qos, source=self.source)

    def of_alarm(self, alarm: Alarm) -> Message:
        """Whether there is one, the alarm byte and its bits; of a meter that answers with records, those by key."""
        said: dict[str, JsonValue] = {
            "time": utc(alarm.taken_at),
            "alarm": alarm.is_raised,
            "code": alarm.code,
            "bits": list(alarm.bits),
        }
        values: dict[str, JsonValue] = {item.key: item.value for item in alarm.measurements}
        return Message(self.alarm(alarm.meter), exact_json.dumps(said | values | said))

    def no_alarm(self, meter: str) -> Message:
        """Clears the topic: nobody asks this meter for alarms any more."""
        return Message(self.alarm(meter), "")

    def no_meter(self, meter: str, keys: Iterable[str]) -> Iterator[Message]:
        """Clears the topics of a meter that is read no more, and that had these keys."""
        topics = [self.availability(meter), self.meter(meter)]
        topics += [f"{self.meter(meter)}/{key}" for key in keys if key not in OWN_TOPICS]
        for topic in topics:
            yield Message(topic, "", source=self.source)

    def of_availability(self, info: MeterInfo) -> Message:
        return Message(self.availability(info.name), ONLINE if info.online else OFFLINE, source=self.source)

    def of_meters(self, meters: Iterable[MeterInfo]) -> Message:
        """The list of all meters with what there is to say of them; without keys where there are very many meters."""
        listed = tuple(meters)
        keys: dict[Keys, str] = {}
        if len(listed) <= MOST_WITH_KEYS:
            keys = {one: exact_json.dumps(_keys(one)) for one in {info.keys for info in listed}}
        texts = [_meter(info, keys.get(info.keys, "null")) for info in listed]
        return Message(f"{self.base}/bridge/meters", f"[{', '.join(texts)}]", source=self.source)

    def of_info(
        self,
        version: str,
        started: datetime,
        counts: Mapping[str, int],
        settings: Mapping[str, JsonValue],
        log_level: str | None = None,
    ) -> Message:
        """Version, start, counts and settings, which must hold no secret; `log_level`: where it is not the file's."""
        document: dict[str, JsonValue] = {
            "version": version,
            "started": utc(started),
            "counts": dict(counts),
            "config": dict(settings),
        }
        if log_level is not None:
            document["log_level"] = log_level
        return Message(f"{self.base}/bridge/info", exact_json.dumps(document), source=self.source)

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
        if len(words) == 3 and words[:2] == ["bridge", "request"] and len(words[2]) <= _LONGEST_NAME:
            response = f"{self.base}/bridge/response/{words[2]}"
            return replace(request(words[2], payload), response_topic=response)
        return None

    def of_outcome(self, asked: Asked, outcome: Outcome) -> Iterator[Message]:
        """The answer to a request, for those who want one."""
        if asked.response_topic is None:
            return
        document: dict[str, JsonValue] = (
            {"status": "error", "error": outcome.error} if outcome.error else {"status": "ok"}
        )
        if outcome.took is not None:
            document["took"] = round(outcome.took, 3)
        if outcome.found or not outcome.error:  # a lost port keeps what was found
            document["data"] = _data(asked.command, outcome)
        if asked.transaction is not None:
            document["transaction"] = asked.transaction
        yield Message(asked.response_topic, exact_json.dumps(document), retain=False, is_unique=True)


def plain(value: Value) -> str:
    """A value as the plain text of its own topic."""
    return value if isinstance(value, str) else exact_json.dumps(value).strip('"')


def plain_text(text: str) -> str:
    """The JSON text of a value as the plain text of its own topic."""
    if text == "null":
        return ""
    return str(json.loads(text)) if text[0] == '"' else text


def _data(command: Command | None, outcome: Outcome) -> JsonValue:
    """What the answer to a command consists of."""
    if outcome.found is not None:
        return {"found": [_found(one) for one in outcome.found], "remarks": list(outcome.remarks)}
    if outcome.data is not None:
        return outcome.data
    match command:
        case Scan():
            return {}
        case ChangeMeter(meter):
            return {"meter": meter, "written": outcome.written}
        case ReadNow(meter):
            return {"meter": meter, "reading": _document(outcome.readings[0])}
    readings: dict[str, JsonValue] = {reading.meter: _document(reading) for reading in outcome.readings}
    return {"readings": readings, "failed": dict(outcome.failed)}


def _sentences(*parts: str) -> str:
    return " ".join(part if part.endswith("?") else f"{part.rstrip('.')}." for part in parts if part)


def _found(meter: FoundMeter) -> dict[str, JsonValue]:
    return {
        "address": meter.address,
        "primary": meter.primary,
        "identity": None if meter.identity is None else _identity(meter.identity),
        "remark": meter.remark or None,
    }


def _document(reading: Reading, keys: Iterable[str] = ()) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {item.key: item.value for item in reading.measurements}
    return {"time": utc(reading.taken_at), "status": list(reading.status), **dict.fromkeys(keys), **values}


def _keys(keys: Keys) -> JsonValue:
    return [
        {"key": key, "unit": unit, "name": key.replace("_", " ").capitalize(), "quantity": quantity}
        for key, unit, quantity in keys
    ]


def _meter(info: MeterInfo, keys: str) -> str:
    """One entry of the list, as JSON text; `keys`: as such, too."""
    identity = "null" if info.identity is None else exact_json.dumps(_identity(info.identity))
    last_read = exact_json.dumps(None if info.last_read is None else utc(info.last_read))
    return (
        f'{{"name": {quoted(info.name) if info.name else "null"}, "bus": {quoted(info.bus)}, '
        f'"address": {quoted(info.address)}, "identity": {identity}, "keys": {keys}, '
        f'"interval": {quoted(info.interval)}, "last_read": {last_read}, "failures": {info.failures}, '
        f'"implausible": {info.implausible}}}'
    )


def _identity(identity: Identity) -> dict[str, JsonValue]:
    return {
        "id": identity.identification,
        "manufacturer": identity.manufacturer or None,
        "version": identity.version,
        "medium": identity.medium,
        "medium_name": identity.medium_name,
        "address": identity.address,
    }
