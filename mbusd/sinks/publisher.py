"""What the broker is told of an event, and what a message from it means. Pure: it connects to nothing.

Remembers the keys of each meter, so that the JSON of a meter always carries every key that was announced: Home
Assistant warns about each message that lacks one. What is told of meters is said again out of their last readings.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from mbusd.configuration.settings import EmoncmsSettings, Settings
from mbusd.exact_json import JsonValue, dumps
from mbusd.model import (
    AlarmTaken,
    BusChanged,
    BusTroubled,
    Event,
    MeterChanged,
    MeterGone,
    MeterInfo,
    Outcome,
    Reading,
    ReadingTaken,
    ScanChanged,
    StatisticsTaken,
)
from mbusd.sinks.absences import is_wanted
from mbusd.sinks.alarms import Alarms
from mbusd.sinks.announcer import AS_SENT, Announcer, Shapes, shapes_of
from mbusd.sinks.bus_reports import BusReports
from mbusd.sinks.oddities import Oddities
from mbusd.sinks.packed import Packed
from mbusd.sinks.remains import Remains
from mbusd.sinks.requests import Asked
from mbusd.sinks.roll import Roll, interval_seconds
from mbusd.sinks.said import Said
from mbusd.sinks.steady import Steady
from mbusd.sinks.topics import OFFLINE, ONLINE, Message, Topics

if TYPE_CHECKING:
    from mbusd.sinks.emoncms import Emoncms

HOME_ASSISTANT, TOPICS = "home assistant", "topics"  # notes for the next life


class Publisher:
    """Events in, messages out; messages in, requests out."""

    def __init__(
        self, settings: Settings, version: str, started: datetime, public_settings: Mapping[str, JsonValue]
    ) -> None:
        mqtt = settings.mqtt
        self._settings = settings
        kinds = (mqtt.retain, mqtt.qos, mqtt.values, mqtt.telegrams, mqtt.history)
        self._topics = Topics(mqtt.base_topic, *kinds, source=self)
        self._emoncms = _emoncms(settings.emoncms)
        self._alarms = Alarms(self._topics)
        self._announcer = Announcer(settings, version, self)
        self._version, self._started, self._public = version, started, Packed(dumps(public_settings))
        self._log_level: str | None = None  # by request
        self._meters = Roll()
        self._steady = Steady()
        self._oddities = Oddities()
        self._said = Said(self._topics, mqtt)
        self._remains = Remains()
        self._is_listed = self._has_learnt = False
        self._counted = 0  # meters, as last said
        self._buses = BusReports(self._topics)
        self.meters_changed = False

    @property
    def will(self) -> Message:
        """What the broker says when we are gone without a word."""
        return self._topics.of_bridge(online=False)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Requests, what others say of us, and what Home Assistant and our earlier life have left at the broker."""
        ours = (*self._topics.requests, self._topics.bridge_state, self._topics.alarm("+"))
        return ours + self._announcer.subscriptions

    def greeting(self) -> Iterator[Message]:
        """What is said before anything has happened."""
        yield self._topics.of_bridge(online=True)
        yield self._info()
        for bus in self._settings.buses:
            yield self._topics.of_bus(bus.name, up=False)

    def log_level(self, level: str) -> Iterator[Message]:
        """The log tells more or less than the file says."""
        self._log_level = level
        yield self._info()

    def reload(self, settings: Settings, public_settings: Mapping[str, JsonValue]) -> Iterator[Message]:
        """Other buses and meters stand in the file now; the meters that are gone are told of one by one."""
        for name in {bus.name for bus in settings.buses} - {bus.name for bus in self._settings.buses}:
            yield self._topics.of_bus(name, up=False)
        before = shapes_of(self._settings)
        self._settings, self._public, self._log_level = settings, Packed(dumps(public_settings)), None
        yield self._info()
        yield from self._reshape(before, shapes_of(settings))
        self._steady.changed()
        yield from self._discovered(self._announcer.reload(settings))

    def _reshape(self, before: Shapes, after: Shapes) -> Iterator[Message]:
        """What the owner of a meter does not want any more, or has renamed, goes."""
        for info in self._meters:
            old, new = (shapes.get((info.bus, info.address), AS_SENT) for shapes in (before, after))
            known = self._said.known(info.name)
            if known is None or old == new:
                continue
            own = set(old.rename.values()) - set(new.rename.values())
            gone = tuple(key for key in known.keys if key in own or not is_wanted(key, new))
            known.drop(gone)
            self._announcer.reshaped(info.name, gone)
            yield from self._said.clear_values(info.name, gone)

    def no_bus(self, bus: str) -> Iterator[Message]:
        """Nothing is left of a bus that left the file."""
        yield from self._buses.gone(bus)

    def farewell(self) -> Iterator[Message]:
        """What is said at a clean end: everything is offline; the bridge first, which counts for all, time is short."""
        yield self._topics.of_bridge(online=False)
        for bus in self._settings.buses:
            yield self._topics.of_bus(bus.name, up=False)
        for info in self._meters:
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
            case MeterGone(info):
                yield from self._gone(info)
            case BusChanged(bus, up, why):
                yield from self._buses.changed(bus, why, up=up)
            case ScanChanged():
                yield self._topics.of_scan(event)
            case BusTroubled():
                yield from self._buses.troubled(event)
            case StatisticsTaken(bus, statistics):
                yield from self._buses.counted(bus, statistics)

    def meters(self) -> Iterator[Message]:
        """The list of all meters, as it is now."""
        self.meters_changed = False
        self._is_listed = True
        yield self._topics.of_meters(self._meters)
        if len(self._meters) != self._counted:
            yield self._info()

    def again(self) -> Iterator[Message]:
        """All that is retained of settings and meters, for a broker that may have lost it; made one after the other."""
        yield self._info()
        if self._is_listed:
            yield self._topics.of_meters(self._meters)
        yield from self._announcer.again()
        for name, known in self._said:
            yield from self._said.again(name, known, self._keys(name))

    @property
    def notes(self) -> dict[str, JsonValue]:
        """What the next life has to know: what Home Assistant has perhaps not heard of being taken back, and topics."""
        said = {name: known.keys for name, known in self._said}
        is_announced = self._settings.homeassistant.enabled
        return {HOME_ASSISTANT: self._announcer.unheard, TOPICS: {} if is_announced else self._remains.note(said)}

    def recall(self, notes: Callable[[str], JsonValue]) -> None:
        """The notes of an earlier life, by their names."""
        self._announcer.recall(notes(HOME_ASSISTANT))
        self._remains.recall(notes(TOPICS))

    def is_birth(self, topic: str, payload: str) -> bool:
        """Home Assistant says that it has started."""
        return self._settings.homeassistant.enabled and topic == self._announcer.birth_topic and payload == ONLINE

    def after_birth(self) -> Iterator[Message]:
        """What Home Assistant, newly started, cannot know from what is retained."""
        yield from self._announcer.heard()
        if not self._settings.mqtt.retain:
            for name, known in self._said:
                if known.last is not None:
                    yield self._document(name, known.last)

    def correction(self, topic: str, payload: str) -> Iterator[Message]:
        """What is to be said when the will of an old connection, which the broker missed only now, calls us dead."""
        if topic == self._topics.bridge_state and payload != ONLINE:
            yield self._topics.of_bridge(online=True)

    def learn(self, topic: str, payload: str) -> bool:
        """Take note of a discovery message or an alarm found at the broker; False if the message is something else."""
        if self._alarms.learn(topic, payload):
            return True
        self._steady.changed()
        return self._announcer.learn(topic, payload)

    def learnt(self) -> Iterator[Message]:
        """The broker has told all that it had retained; what is announced from now on leaves no orphans of before."""
        self._steady.changed()
        self._has_learnt = True
        yield from self._discovered(self._announcer.learnt())
        for name, known in self._said:
            seen, last = known.whole(), known.last
            if seen is None or last is None:
                continue
            yield from self._announce(seen)
            if self._announcer.absent(name):  # it was said before anybody knew of these
                yield self._document(name, last)
        for info in self._meters:
            if not info.has_alarms:
                yield from self._alarms.forget(info.name)
        yield from self._clear_leftovers()

    def asked(self, topic: str, payload: str) -> Asked | None:
        """The request in a message, None where it is none."""
        return self._topics.asked(topic, payload)

    def answer(self, asked: Asked, outcome: Outcome) -> Iterator[Message]:
        """What is said to whoever asked."""
        return self._topics.of_outcome(asked, outcome)

    def _meter(self, info: MeterInfo, change: str, why: str) -> Iterator[Message]:
        before = self._meters.at(info.bus, info.address)
        if before is None or _place(before) != _place(info):
            self._steady.changed()
        if before is not None and before.name != info.name:
            yield from self._alarms.forget(before.name)
            if before.name:
                yield self._said.interval(before.name, "")
        if not info.has_alarms:
            yield from self._alarms.forget(info.name)
        self._meters.put(info)
        if before is not None and before.name and before.identity != info.identity and not self._is_called(before.name):
            yield from self._no_meter(before.name)  # it goes by its secondary address, which is another now
            self._announcer.gone(before)
        self.meters_changed = True
        if info.name:
            yield from self._said.new_availability(info)
            if before is None or (before.name, before.interval) != (info.name, info.interval):
                yield self._said.interval(info.name, _plain_interval(info))
                seen = self._said.of(info.name).whole()
                if seen is not None:
                    yield from self._announce(seen)
        if change:
            yield self._topics.of_event(f"meter_{change}", meter=info.name or info.address, bus=info.bus, why=why)
        yield from self._clear_leftovers()

    def _gone(self, info: MeterInfo) -> Iterator[Message]:
        """Nothing is left of a meter, except under the name that it may have now."""
        there = self._meters.at(info.bus, info.address)
        if there is not None and there.name == info.name:
            self._meters.drop(info)
        self._steady.changed()
        self.meters_changed = True
        if info.name and not self._is_called(info.name):
            yield from self._alarms.forget(info.name)
            self._announcer.gone(info)
            yield from self._clear_leftovers()
            yield from self._no_meter(info.name)
        else:
            yield from self._clear_leftovers()

    def _no_meter(self, name: str, keys: Iterable[str] = ()) -> Iterator[Message]:
        """Nothing is left of what was said under a name that no meter has any more."""
        self._steady.forget(name)
        self._oddities.forget(name)
        yield from self._said.clear(name, keys)

    def _is_called(self, name: str) -> bool:
        """Whether a meter has that name now."""
        return self._meters.named(name) is not None

    def _is_certain(self, name: str) -> bool:
        """Whether nobody has that name, or its meter was read."""
        return not self._is_called(name) or self._said.of(name).last is not None

    def _clear_leftovers(self) -> Iterator[Message]:
        yield from self._discovered(self._announcer.clear_leftovers(self._meters))
        if self._has_learnt and not self._meters.unsettled:
            for name, keys in self._remains.let_go(self._is_certain):
                yield from self._no_longer(name, keys)

    def forget_left(self, name: str) -> Iterator[Message]:
        """A meter that is not there any more, but was left at the broker by an earlier life, goes."""
        yield from self._discovered(list(self._announcer.forget_left(name, self._meters)))

    def _discovered(self, messages: Iterable[Message]) -> Iterator[Message]:
        """What Home Assistant is told; then nothing is left under names and keys that are no one's now."""
        for message in messages:
            self._steady.changed()
            yield message
        left, buses = self._announcer.left()
        for name, keys in left.items():
            yield from self._no_longer(name, keys)
        for bus in buses:
            yield from self._topics.no_bus(bus)

    def _no_longer(self, name: str, keys: Collection[str]) -> Iterator[Message]:
        """Under this name nobody says these keys any more, unless somebody does."""
        if not self._is_called(name):
            yield from self._alarms.forget(name)
            yield from self._no_meter(name, keys)
        else:
            yield from self._said.clear_values(name, set(keys).difference(self._keys(name)))

    def _reading(self, reading: Reading) -> Iterator[Message]:
        keys = self._steady.keys(reading)
        if keys is None or not self._announcer.is_settled:
            yield from self._news(reading)
        else:
            self._said.of(reading.meter).take(reading)
            yield from self._said.values(reading, keys)
        yield from self._topics.of_history(reading)
        if self._emoncms is not None:
            yield from self._emoncms.of_reading(reading)

    def _news(self, reading: Reading) -> Iterator[Message]:
        """A reading in which more than values may be new."""
        known = self._said.of(reading.meter)
        before = known.last
        is_exchanged = before is not None and before.identity != reading.identity
        if is_exchanged:
            own = {item.key for item in reading.measurements}
            yield from self._said.clear_values(reading.meter, (key for key in known.keys if key not in own))
            yield from self._alarms.exchanged(reading.meter, reading.identity)
            known.forget()
        known.take(reading)
        gone = known.give_way()
        seen = known.whole() or reading
        self._announcer.read(reading.meter, known.keys, is_exchanged=is_exchanged)
        info = self._meters.named(reading.meter)
        is_hidden = info is not None and self._announcer.changes_hands(seen, self._meters)
        if is_hidden:  # until the values under this name are those of the meter that has it
            yield Message(self._topics.availability(reading.meter), OFFLINE, is_unique=True)
        yield from self._announce(seen)
        if gone:
            self._oddities.grows(reading.meter, len(gone), len(known.keys))
            yield from self._said.clear_values(reading.meter, gone)
        yield from self._said.values(reading, self._keys(reading.meter))
        if info is not None and is_hidden:
            yield self._said.availability(info)
        if not self._announcer.absent(reading.meter):
            self._steady.note(reading, self._keys(reading.meter))

    def _keys(self, meter: str) -> tuple[str, ...]:
        """All that its document carries, with a value or without."""
        return self._said.of(meter).keys + self._announcer.absent(meter)

    def _document(self, meter: str, reading: Reading) -> Message:
        return self._said.document(reading, self._keys(meter))

    def _announce(self, seen: Reading) -> Iterator[Message]:
        changes_hands = self._announcer.changes_hands(seen, self._meters)
        messages = list(self._announcer.announce(seen, self._meters))
        if changes_hands:  # perhaps the meter was exchanged while nobody looked
            yield from self._alarms.exchanged(seen.meter, seen.identity)
        yield from self._discovered(messages)

    def _info(self) -> Message:
        buses = self._settings.buses
        listed = sum(len(bus.meters) for bus in buses)
        self._counted = len(self._meters) if self._is_listed else listed  # those that a search has found stand nowhere
        counts = {"buses": len(buses), "meters": self._counted}
        public = json.loads(self._public.text)
        return self._topics.of_info(self._version, self._started, counts, public, self._log_level)


def _place(info: MeterInfo) -> tuple[object, ...]:
    """All that bears on what is announced."""
    return info.name, info.identity, info.interval, info.has_alarms, info.online is None


def _plain_interval(info: MeterInfo) -> str:
    """Seconds, or the word that stands for none."""
    number = interval_seconds(info)
    return info.interval if number is None else f"{number:g}"


def _emoncms(settings: EmoncmsSettings) -> "Emoncms | None":
    if not settings.enabled:
        return None
    from mbusd.sinks.emoncms import Emoncms  # noqa: PLC0415 - for those who have one

    return Emoncms(settings.base_topic, settings.node, settings.format)
