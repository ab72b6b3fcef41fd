"""What Home Assistant is told of the daemon, its buses and meters, and when; the messages are made elsewhere. Pure."""

from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from mbusd.configuration.settings import MeterSettings, Settings
from mbusd.exact_json import JsonValue
from mbusd.model import Identity, MeterInfo, Reading
from mbusd.sinks.absences import Absences, is_wanted
from mbusd.sinks.announcements import Announcements
from mbusd.sinks.homeassistant import Discovery, Payload, Place, is_called_alike, meter_payload
from mbusd.sinks.oddities import Oddities
from mbusd.sinks.own_devices import bridge_payload, bus_payload
from mbusd.sinks.roll import Roll, interval_seconds, is_unsettled
from mbusd.sinks.topics import ONLINE, Message, Source
from mbusd.values.shaping import Shape

DIGITS = 8  # of an identification
MOST_SHARED = 512  # places and layouts that several meters have
T = TypeVar("T", bound=Hashable)
AS_SENT = Shape()
URL = "https://github.com/mbusd/mbusd"


class Announcer:
    """Says nothing until it has learnt what an earlier life has left at the broker; nothing at all if not wanted."""

    def __init__(self, settings: Settings, version: str, source: Source | None = None) -> None:
        home = settings.homeassistant
        base = settings.mqtt.base_topic
        self._settings = settings
        self._source = source
        self._meters = _meters_of(settings)
        self._discovery = Discovery(base, home.discovery_prefix, version, URL, home.configuration_url or "")
        self._announcements = Announcements(self._discovery)
        self._absences = Absences()
        self._oddities = Oddities()
        self._shapes: dict[str, object] = {}
        self._unwanted: dict[str, frozenset[str]] = {}  # keys by meter, until it is announced again
        self._has_learnt = False
        self._has_cleared = False
        self._gone: set[str] = set()  # topics
        self._heard: set[str] = set()  # who has been read since a device was put aside

    @property
    def birth_topic(self) -> str:
        """Where Home Assistant says that it has started."""
        home = self._settings.homeassistant
        return home.status_topic or f"{home.discovery_prefix}/status"

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """What Home Assistant says, and what we have said to it."""
        if not self._settings.homeassistant.enabled:
            return ()
        return (self.birth_topic, f"{self._discovery.discovery_prefix}/device/+/config")

    def learn(self, topic: str, payload: str) -> bool:
        """Take note of a discovery message found at the broker; False if the message is something else."""
        if topic == self.birth_topic:
            self._announcements.is_heard = payload == ONLINE
            return True
        if not topic.startswith(f"{self._discovery.discovery_prefix}/device/"):
            return False
        if topic.startswith(f"{self._discovery.discovery_prefix}/device/mbusd_"):
            self._announcements.learn(topic, payload)
            if not payload:
                self._shapes.clear()  # somebody deleted a device: it is announced again with its next reading
        return True

    def heard(self) -> Iterator[Message]:
        """Home Assistant has started: it learns of what went while it was away."""
        yield from self._tell(self._announcements.heard())

    @property
    def unheard(self) -> dict[str, JsonValue]:
        """What Home Assistant is still to learn of what went, for the next life."""
        return self._announcements.unheard

    def recall(self, unheard: JsonValue) -> None:
        """The same of an earlier life."""
        self._announcements.recall(unheard)

    def again(self) -> Iterator[Message]:
        """All that is announced, for a broker that may have lost it, whichever life of ours has said it."""
        if not self._settings.homeassistant.enabled:
            return
        for topic in self._announcements.in_order():
            packed = self._announcements.packed(topic)
            if packed is not None:
                yield Message(topic, packed.text, is_unique=True, source=self._source)

    def _tell(self, messages: list[tuple[str, str]]) -> Iterator[Message]:
        """What has just been noted as announced."""
        known = self._announcements.topics()
        yield from [
            Message(topic, payload, retain=not payload or topic in known, is_unique=True, source=self._source)
            for topic, payload in messages
        ]

    def learnt(self) -> Iterator[Message]:
        """The broker has told all that it had; the daemon's own devices come first, the meters' point to them."""
        self._has_learnt = True
        yield from self._own_devices()

    def reload(self, settings: Settings) -> Iterator[Message]:
        """Other buses and meters from now on; what is left over of those before goes with the next clearing."""
        self._settings = settings
        self._meters = _meters_of(settings)
        self._has_cleared = False
        yield from self._own_devices()

    def reshaped(self, meter: str, gone: Collection[str]) -> None:
        """Its owner wants other keys of a meter, and not these: with its next reading it is announced anew."""
        self._shapes.pop(meter, None)
        self._absences.forget(meter)
        self._unwanted[meter] = frozenset(gone)

    def gone(self, info: MeterInfo) -> None:
        """A meter is read no more under this name: with the next clearing its device goes, or it is another one's."""
        self._shapes.pop(info.name, None)
        self._oddities.forget(info.name)
        self._unwanted.pop(info.name, None)
        self._absences.forget(info.name)
        if info.identity is not None:
            self._gone.add(self._topic_of(info.identity, info.name))

    def left(self) -> tuple[dict[str, set[str]], list[str]]:
        """Names that meters had, with the keys they showed, and buses that are gone; since the last call."""
        return self._announcements.left()

    def _clear_gone(self, infos: Roll) -> Iterator[Message]:
        """Not as long as one who has not been asked yet may be the same meter, nor who may have changed places."""
        if not self._has_learnt or not (self._gone or self._announcements.parked):
            return
        if any(info.identity is None and is_unsettled(info) for info in infos.unsettled):
            return
        waiting = {info.name for info in infos if info.online is not False} - self._heard
        aside = {topic for topic, holder in self._announcements.parked.items() if holder not in waiting}
        gone, self._gone = self._gone | aside, set()
        for topic in gone - self._living(infos):
            yield from self._tell(self._announcements.forget(topic))

    def _living(self, infos: Iterable[MeterInfo]) -> set[str]:
        """Topics of the devices of these meters, whatever they are called there."""
        known = {self._topic_of(info.identity, info.name) for info in infos if info.identity is not None}
        silent = [info.address.partition("-")[0] for info in infos if info.identity is None]
        return known | {topic for topic in self._announcements.topics() for address in silent if _fits(topic, address)}

    def _own_devices(self) -> Iterator[Message]:
        if self._has_learnt and self._settings.homeassistant.enabled:
            own = {self._discovery.bridge_topic: bridge_payload(self._discovery)}
            for bus in self._settings.buses:
                own[self._discovery.bus_topic(bus.name)] = bus_payload(self._discovery, bus.name)
            yield from self._tell(self._announcements.update_own(own))

    def read(self, meter: str, keys: Collection[str], *, is_exchanged: bool) -> None:
        """A read-out of a meter; `keys`: all that it has had in this life."""
        if is_exchanged:
            self._absences.forget(meter)
            self._shapes.pop(meter, None)
        self._absences.read(meter, keys)

    def absent(self, meter: str) -> tuple[str, ...]:
        """Keys that are announced and that the meter has not sent in this life."""
        return self._absences.keys(meter)

    def _topic_of(self, identity: Identity, meter: str) -> str:
        """Where a meter is announced, or will be unless another one says that it is the same."""
        own = self._discovery.meter_topic(identity, meter, is_second=True)
        return own if own in self._announcements.topics() else self._discovery.meter_topic(identity, meter)

    def _is_second(self, seen: Reading, infos: Roll) -> bool:
        """Whether a meter that is there says that it is the same one, and had their device before."""
        identity, meter = seen.identity, seen.meter
        plain = self._discovery.meter_topic(identity, meter)
        holder = self._announcements.name(plain)
        other = None if holder in (None, meter) else infos.named(holder)
        is_double = other is not None and bool(other.online) and other.identity == identity
        is_second = self._topic_of(identity, meter) != plain or (is_double and not self._announcements.is_shown(meter))
        if is_second and is_double and other is not None and not _goes_by_its_place(infos.named(meter)):
            self._oddities.is_double(meter, other.name, identity.address)
        return is_second

    def changes_hands(self, seen: Reading, infos: Roll) -> bool:
        """Whether a device would come to show the values under another name, or another device those of this one."""
        if not self._has_learnt or not self._settings.homeassistant.enabled:
            return False
        is_second = self._is_second(seen, infos)
        topic = self._discovery.meter_topic(seen.identity, seen.meter, is_second=is_second)
        payload = self._shows(seen.meter)
        return bool(
            self._announcements.former_name(topic, payload) or self._announcements.superseded_by(topic, payload)
        )

    def _shows(self, meter: str) -> Payload:
        return {"stat_t": f"{self._discovery.base_topic}/{meter}"}

    @property
    def is_settled(self) -> bool:
        """No device was put aside: who is read as before has nothing to do with what is announced of others."""
        return not self._announcements.parked

    def announce(self, seen: Reading, infos: Roll) -> Iterator[Message]:
        """A meter with all that it has had; nothing where nothing but values has changed."""
        if not self._has_learnt or not self._settings.homeassistant.enabled:
            return
        if self._announcements.parked:
            self._heard.add(seen.meter)
        else:
            self._heard.clear()
        info = infos.named(seen.meter)
        settings = None if info is None else self._settings_of(info)
        is_second = self._is_second(seen, infos)
        topic = self._discovery.meter_topic(seen.identity, seen.meter, is_second=is_second)
        if seen.meter not in self._shapes:
            known = self._announcements.keys(topic) - {item.key for item in seen.measurements}
            known -= self._unwanted.pop(seen.meter, frozenset())
            wanted = [key for key in sorted(known) if settings is None or is_wanted(key, settings.shape)]
            self._absences.expect(seen.meter, wanted)
        has_double = any(_is_double(other, seen) for other in infos.called_by_address)
        is_new = topic not in self._announcements.topics()
        is_successor = is_new and bool(self._announcements.superseded_by(topic, self._shows(seen.meter)))
        place = replace(_place(info, settings), has_double=has_double, is_second=is_second, is_successor=is_successor)
        place = _shared(place)
        absent = self._absences.keys(seen.meter)
        items = _shared(tuple((item.key, item.unit, item.kind, item.decimals) for item in seen.measurements))
        shape = (seen.identity, seen.flags, place, items, absent)
        if self._shapes.get(seen.meter) == shape:
            return
        self._shapes[seen.meter] = shape
        yield from self._tell(self._announcements.update(topic, meter_payload(self._discovery, seen, place), absent))

    def clear_leftovers(self, infos: Roll) -> Iterator[Message]:
        """Take back what was announced for meters that left the file.

        Only when each meter of the file has answered or is known to be silent: until then a leftover may be the same
        meter under its old name, whose history must not go. What has no name until it answers may be any of them; so
        may what a search has not found yet, or has missed.
        """
        yield from self._clear_gone(infos)
        if self._has_cleared or not self._has_learnt or infos.unsettled or not self._settings.homeassistant.enabled:
            return
        self._has_cleared = True
        left = set(self._announcements.leftovers({info.name for info in infos})) - self._announcements.parked.keys()
        for topic in sorted(left - self._living(infos)):  # those live under another name until their reading
            if not self._may_be_found(topic):
                yield from self._tell(self._announcements.forget(topic))

    def forget_left(self, name: str, infos: Roll) -> Iterator[Message]:
        """Take back what was announced under this name, or of the meter with this address, if it is of no meter now."""
        left = set(self._announcements.leftovers({info.name for info in infos})) - self._living(infos)
        for topic in sorted(left):
            if name in (self._announcements.name(topic), topic.split("/")[-2].removeprefix("mbusd_")):
                yield from self._tell(self._announcements.forget(topic))

    def _may_be_found(self, topic: str) -> bool:
        """Whether its meter is perhaps on a bus that is searched: on one of those it was, or on one that is no more."""
        places = {self._discovery.bus_id(bus.name): bus.scan_at_start is not None for bus in self._settings.buses}
        return any(places.values()) and places.get(self._announcements.via(topic), True)

    def _settings_of(self, info: MeterInfo) -> MeterSettings | None:
        """What the file says of a meter; None where that is nothing that is shown, or where a search has found it."""
        return self._meters.get((info.bus, info.address))


def _meters_of(settings: Settings) -> dict[tuple[str, str], MeterSettings]:
    """Those with an area or a shape of their own, by bus and address; should one stand there twice, the first."""
    meters = [(bus.name, meter) for bus in settings.buses for meter in bus.meters]
    first = {(bus, str(meter.address)): meter for bus, meter in reversed(meters)}
    return {place: meter for place, meter in first.items() if meter.area or meter.shape != AS_SENT}


Shapes = dict[tuple[str, str], Shape]


def shapes_of(settings: Settings) -> Shapes:
    """What owners have made of the values of their meters, by bus and address."""
    return {place: meter.shape for place, meter in _meters_of(settings).items()}


def _goes_by_its_place(info: MeterInfo | None) -> bool:
    """Whether it has no name because another one has it: that is told already."""
    return info is not None and info.name == f"{info.bus}-{info.address}"


def _is_double(other: MeterInfo, seen: Reading) -> bool:
    """Whether another meter without a name of its own would be called as this one is."""
    identity = other.identity
    return identity is not None and other.name == identity.address and is_called_alike(identity, seen.identity)


def _fits(topic: str, address: str) -> bool:
    """Whether a device may be the one of a meter that has this secondary address; F in it stands for any digit."""
    mine = topic.split("/")[-2].removeprefix("mbusd_")
    return len(address) >= DIGITS and all(one in (other, "F") for one, other in zip(address, mine, strict=False))


def _place(info: MeterInfo | None, settings: MeterSettings | None) -> Place:
    if info is None:
        return Place()
    is_periodic = interval_seconds(info) is not None
    if settings is None:
        return Place(info.bus, "", info.has_alarms, is_periodic)
    return Place(info.bus, settings.area, info.has_alarms, is_periodic, frozenset(settings.keys.rename.values()))


@lru_cache(maxsize=MOST_SHARED)
def _shared(what: T) -> T:
    """The same one for all meters that are alike."""
    return what
