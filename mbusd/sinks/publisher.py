"""What the broker is told of an event, and what a message from it means. Pure: it connects to nothing.

Remembers the keys of each meter, so that the JSON of a meter always carries every key that was announced: Home
Assistant warns about each message that lacks one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from mbusd.exact_json import JsonValue
from mbusd.model import (
    AlarmTaken,
    BusChanged,
    BusStatistics,
    BusTroubled,
    Event,
    MeterChanged,
    MeterInfo,
    Outcome,
    Reading,
    ReadingTaken,
    ScanChanged,
    StatisticsTaken,
)
from mbusd.settings import Settings
from mbusd.sinks.alarms import Alarms
from mbusd.sinks.announcements import Announcements
from mbusd.sinks.emoncms import Emoncms
from mbusd.sinks.homeassistant import Discovery, bridge_payload, meter_payload
from mbusd.sinks.topics import ONLINE, OWN_TOPICS, Asked, Message, Topics

URL = "https://github.com/mbusd/mbusd"


class Publisher:
    """Events in, messages out; messages in, requests out."""

    def __init__(
        self, settings: Settings, version: str, started: datetime, public_settings: Mapping[str, JsonValue]
    ) -> None:
        mqtt = settings.mqtt
        self._settings = settings
        self._topics = Topics(mqtt.base_topic, mqtt.retain, mqtt.qos, mqtt.values, mqtt.telegrams)
        emon = settings.emoncms
        self._emoncms = Emoncms(emon.base_topic, emon.node, emon.format) if emon.enabled else None
        self._discovery = Discovery(mqtt.base_topic, settings.homeassistant.discovery_prefix, version, URL)
        self._alarms = Alarms(self._topics)
        self._announcements = Announcements(self._discovery)
        counts = {"buses": len(settings.buses), "meters": sum(len(bus.meters) for bus in settings.buses)}
        self._info = self._topics.of_info(version, started, counts, public_settings)
        self._meters: dict[tuple[str, str], MeterInfo] = {}  # by bus and address
        self._seen: dict[str, Reading] = {}  # the last reading of each meter, with every measurement it ever had
        self._shapes: dict[str, object] = {}
        self._last: dict[str, Reading] = {}
        self._statistics: dict[str, BusStatistics] = {}
        self._troubles: dict[str, BusTroubled] = {}
        self._said: dict[str, object] = {}  # by topic, for `only_on_change`
        self._has_learnt = False
        self._has_cleared = False
        self.meters_changed = False

    @property
    def will(self) -> Message:
        """What the broker says when we are gone without a word."""
        return self._topics.of_bridge(online=False)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Requests, what others say of us, and what Home Assistant and our earlier life have left at the broker."""
        ours = (*self._topics.requests, self._topics.bridge_state, self._topics.alarm("+"))
        if not self._settings.homeassistant.enabled:
            return ours
        return (*ours, self._birth_topic, f"{self._discovery.discovery_prefix}/device/+/config")

    @property
    def _birth_topic(self) -> str:
        home = self._settings.homeassistant
        return home.status_topic or f"{home.discovery_prefix}/status"

    def greeting(self) -> Iterator[Message]:
        """What is said before anything has happened."""
        yield self._topics.of_bridge(online=True)
        yield self._info
        for bus in self._settings.buses:
            yield self._topics.of_bus(bus.name, up=False)

    def farewell(self) -> Iterator[Message]:
        """What is said at a clean end: everything is offline; the bridge first, which counts for all, time is short."""
        yield self._topics.of_bridge(online=False)
        for bus in self._settings.buses:
            yield self._topics.of_bus(bus.name, up=False)
        for info in self._meters.values():
            if info.name:
                yield self._topics.of_availability(replace(info, online=False))

    def take(self, event: Event) -> Iterator[Message]:
        """The messages that an event makes."""
        match event:
            case ReadingTaken(reading):
                yield from self._reading(reading)
            case AlarmTaken():
                yield from self._alarms.take(event)
            case MeterChanged(info, change, why):
                yield from self._meter(info, change, why)
            case BusChanged(bus, up, why):
                yield self._topics.of_bus(bus, up=up)
                yield self._topics.of_event("bus_back" if up else "bus_lost", bus=bus, why=why)
            case ScanChanged():
                yield self._topics.of_scan(event)
            case BusTroubled():
                yield from self._trouble(event)
            case StatisticsTaken(bus, statistics):
                self._statistics[bus] = statistics
                yield self._topics.of_statistics(bus, statistics, self._troubles.get(bus))

    def meters(self) -> Iterator[Message]:
        """The list of all meters, as it is now."""
        self.meters_changed = False
        yield self._topics.of_meters(self._meters.values())

    def is_birth(self, topic: str, payload: str) -> bool:
        """Home Assistant says that it has started."""
        return self._settings.homeassistant.enabled and topic == self._birth_topic and payload == ONLINE

    def after_birth(self) -> Iterator[Message]:
        """What Home Assistant, newly started, cannot know from what is retained."""
        if not self._settings.mqtt.retain:
            for name, reading in self._last.items():
                yield next(self._topics.of_reading(reading, (item.key for item in self._seen[name].measurements)))

    def correction(self, topic: str, payload: str) -> Iterator[Message]:
        """What is to be said when the will of an old connection, which the broker missed only now, calls us dead."""
        if topic == self._topics.bridge_state and payload != ONLINE:
            yield self._topics.of_bridge(online=True)

    def learn(self, topic: str, payload: str) -> bool:
        """Take note of a discovery message or an alarm found at the broker; False if the message is something else."""
        if self._alarms.learn(topic, payload):
            return True
        if not topic.startswith(f"{self._discovery.discovery_prefix}/device/"):
            return False
        if topic.startswith(f"{self._discovery.discovery_prefix}/device/mbusd_"):
            self._announcements.learn(topic, payload)
            if not payload:
                self._shapes.clear()  # somebody deleted a device: it is announced again with its next reading
        return True

    def learnt(self) -> Iterator[Message]:
        """The broker has told all that it had retained; what is announced from now on leaves no orphans of before.

        The bridge first, since the meters' devices point to it.
        """
        self._has_learnt = True
        if self._settings.homeassistant.enabled:
            payload = bridge_payload(self._discovery, [bus.name for bus in self._settings.buses])
            yield from self._discover(self._announcements.update(self._discovery.bridge_topic, payload))
            for seen in self._seen.values():
                yield from self._announce(seen)
        for info in self._meters.values():
            if not info.has_alarms:
                yield from self._alarms.forget(info.name)
        yield from self._clear_leftovers()

    def asked(self, topic: str, payload: str) -> Asked | None:
        """The request in a message, None where it is none."""
        return self._topics.asked(topic, payload)

    def answer(self, asked: Asked, outcome: Outcome) -> Iterator[Message]:
        """What is said to whoever asked."""
        return self._topics.of_outcome(asked, outcome)

    def _trouble(self, now: BusTroubled) -> Iterator[Message]:
        """Told when it begins and when it ends; in between it stands in the statistics."""
        before = self._troubles.pop(now.bus, None)
        if now.code is not None:
            self._troubles[now.bus] = now
        after = self._troubles.get(now.bus)
        if after == before:
            return
        if after is None:
            yield self._topics.of_event("bus_well", bus=now.bus)
        else:
            yield self._topics.of_event("bus_trouble", bus=now.bus, code=now.code, what=now.what, todo=now.todo)
        if now.bus in self._statistics:
            yield self._topics.of_statistics(now.bus, self._statistics[now.bus], after)

    def _meter(self, info: MeterInfo, change: str, why: str) -> Iterator[Message]:
        before = self._meters.get((info.bus, info.address))
        if before is not None and before.name != info.name:
            yield from self._alarms.forget(before.name)
        if not info.has_alarms:
            yield from self._alarms.forget(info.name)
        self._meters[info.bus, info.address] = info
        self.meters_changed = True
        if info.name:
            yield self._topics.of_availability(info)
        if change:
            yield self._topics.of_event(f"meter_{change}", meter=info.name or info.address, bus=info.bus, why=why)
        yield from self._clear_leftovers()

    def _clear_leftovers(self) -> Iterator[Message]:
        """Take back what was announced for meters that left the file.

        Only when each meter of the file has answered or is known to be silent: until then a leftover may be the same
        meter under its old name, whose history must not go. What has no name until it answers may be any of them; so
        may what a search has not found yet, or has missed.
        """
        if any(bus.scan_at_start for bus in self._settings.buses):
            return
        unsettled = any(
            not info.name or (info.online is None and info.interval != "manual") for info in self._meters.values()
        )
        if self._has_cleared or not self._has_learnt or unsettled or not self._settings.homeassistant.enabled:
            return
        self._has_cleared = True
        names = {info.name for info in self._meters.values()}
        for topic in self._announcements.leftovers(names):
            yield from self._discover(self._announcements.forget(topic))

    def _reading(self, reading: Reading) -> Iterator[Message]:
        before = self._seen.get(reading.meter)
        if before is not None and before.identity != reading.identity:
            yield from self._clear_values(before, reading)
            yield from self._alarms.exchanged(reading.meter, reading.identity)
            before = None
        measurements = {item.key: item for item in before.measurements} if before else {}
        measurements |= {item.key: item for item in reading.measurements}
        self._seen[reading.meter] = seen = replace(reading, measurements=tuple(measurements.values()))
        self._last[reading.meter] = reading
        if self._settings.homeassistant.enabled and self._has_learnt:
            yield from self._announce(seen)
        for message in self._topics.of_reading(reading, measurements):
            if self._is_news(message, reading):
                yield message
        if self._emoncms is not None:
            yield from self._emoncms.of_reading(reading)

    def _clear_values(self, before: Reading, reading: Reading) -> Iterator[Message]:
        """Another meter stands in this one's place: what only the old one had is no value any more."""
        kept = {item.key for item in reading.measurements}
        if self._settings.mqtt.values:
            for item in before.measurements:
                if item.key not in kept | OWN_TOPICS:
                    message = self._topics.of_value(reading.meter, item.key, None)
                    self._said.pop(message.topic, None)
                    yield message

    def _is_news(self, message: Message, reading: Reading) -> bool:
        if not self._settings.mqtt.only_on_change:
            return True
        content: object = message.payload
        if message.topic == self._topics.meter(reading.meter):  # all of it but its time
            content = (reading.status, [(item.key, item.value) for item in reading.measurements])
        known = self._said.get(message.topic)
        self._said[message.topic] = content
        return known != content

    def _announce(self, seen: Reading) -> Iterator[Message]:
        info = next((info for info in self._meters.values() if info.name == seen.meter), None)
        bus, has_alarms = ("", False) if info is None else (info.bus, info.has_alarms)
        items = [(item.key, item.unit, item.kind, item.decimals) for item in seen.measurements]
        shape = (seen.identity, has_alarms, items)
        if self._shapes.get(seen.meter) == shape:
            return
        self._shapes[seen.meter] = shape
        topic = self._discovery.meter_topic(seen.identity, seen.meter)
        payload = meter_payload(self._discovery, seen, bus, has_alarms=has_alarms)
        messages = self._announcements.update(topic, payload)
        if any(not text for _, text in messages):  # the meter was exchanged while nobody looked
            yield from self._alarms.exchanged(seen.meter, seen.identity)
        yield from self._discover(messages)

    def _discover(self, messages: list[tuple[str, str]]) -> Iterator[Message]:
        for topic, payload in messages:
            yield Message(topic, payload, is_unique=True)
