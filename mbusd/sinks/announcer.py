"""What Home Assistant is told of the daemon, its buses and meters, and when; the messages are made elsewhere. Pure."""

from collections.abc import Collection, Iterator

from mbusd.model import Identity, MeterInfo, Reading
from mbusd.settings import MeterSettings, Settings, seconds
from mbusd.sinks.absences import Absences, is_wanted
from mbusd.sinks.announcements import Announcements
from mbusd.sinks.homeassistant import Discovery, Place, meter_payload
from mbusd.sinks.own_devices import bridge_payload, bus_payload
from mbusd.sinks.topics import Message

URL = "https://github.com/mbusd/mbusd"


class Announcer:
    """Says nothing until it has learnt what an earlier life has left at the broker; nothing at all if not wanted."""

    def __init__(self, settings: Settings, version: str) -> None:
        home = settings.homeassistant
        base = settings.mqtt.base_topic
        self._settings = settings
        self._discovery = Discovery(base, home.discovery_prefix, version, URL, home.configuration_url or "")
        self._announcements = Announcements(self._discovery)
        self._absences = Absences()
        self._shapes: dict[str, object] = {}
        self._has_learnt = False
        self._has_cleared = False
        self._gone: dict[str, Identity] = {}  # by topic

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
        if not topic.startswith(f"{self._discovery.discovery_prefix}/device/"):
            return False
        if topic.startswith(f"{self._discovery.discovery_prefix}/device/mbusd_"):
            self._announcements.learn(topic, payload)
            if not payload:
                self._shapes.clear()  # somebody deleted a device: it is announced again with its next reading
        return True

    def learnt(self) -> Iterator[Message]:
        """The broker has told all that it had; the daemon's own devices come first, the meters' point to them."""
        self._has_learnt = True
        yield from self._own_devices()

    def reload(self, settings: Settings) -> Iterator[Message]:
        """Other buses and meters from now on; what is left over of those before goes with the next clearing."""
        self._settings = settings
        self._has_cleared = False
        yield from self._own_devices()

    def gone(self, info: MeterInfo) -> None:
        """A meter is read no more under this name: with the next clearing its device goes, or it is another one's."""
        self._shapes.pop(info.name, None)
        self._absences.forget(info.name)
        if info.identity is not None:
            self._gone[self._discovery.meter_topic(info.identity, info.name)] = info.identity

    def _clear_gone(self, infos: Collection[MeterInfo]) -> Iterator[Message]:
        """Not as long as one who has not been asked yet may be the same meter."""
        if not self._has_learnt or any(info.identity is None and _is_unsettled(info) for info in infos):
            return
        gone, self._gone = self._gone, {}
        for topic, identity in gone.items():
            if all(info.identity != identity for info in infos):
                yield from _said(self._announcements.forget(topic))

    def _own_devices(self) -> Iterator[Message]:
        if self._has_learnt and self._settings.homeassistant.enabled:
            own = {self._discovery.bridge_topic: bridge_payload(self._discovery)}
            for bus in self._settings.buses:
                own[self._discovery.bus_topic(bus.name)] = bus_payload(self._discovery, bus.name)
            yield from _said(self._announcements.update_own(own))

    def read(self, meter: str, keys: Collection[str], *, is_exchanged: bool) -> None:
        """A read-out of a meter; `keys`: all that it has had in this life."""
        if is_exchanged:
            self._absences.forget(meter)
            self._shapes.pop(meter, None)
        self._absences.read(meter, keys)

    def absent(self, meter: str) -> tuple[str, ...]:
        """Keys that are announced and that the meter has not sent in this life."""
        return self._absences.keys(meter)

    def announce(self, seen: Reading, info: MeterInfo | None) -> Iterator[Message]:
        """A meter with all that it has had; nothing where nothing but values has changed."""
        if not self._has_learnt or not self._settings.homeassistant.enabled:
            return
        settings = None if info is None else self._settings_of(info)
        topic = self._discovery.meter_topic(seen.identity, seen.meter)
        if seen.meter not in self._shapes:
            known = self._announcements.keys(topic) - {item.key for item in seen.measurements}
            wanted = [key for key in sorted(known) if settings is None or is_wanted(key, settings.shape)]
            self._absences.expect(seen.meter, wanted)
        place, absent = _place(info, settings), self._absences.keys(seen.meter)
        items = [(item.key, item.unit, item.kind, item.decimals) for item in seen.measurements]
        shape = (seen.identity, seen.flags, place, items, absent)
        if self._shapes.get(seen.meter) == shape:
            return
        self._shapes[seen.meter] = shape
        yield from _said(self._announcements.update(topic, meter_payload(self._discovery, seen, place), absent))

    def clear_leftovers(self, infos: Collection[MeterInfo]) -> Iterator[Message]:
        """Take back what was announced for meters that left the file.

        Only when each meter of the file has answered or is known to be silent: until then a leftover may be the same
        meter under its old name, whose history must not go. What has no name until it answers may be any of them; so
        may what a search has not found yet, or has missed.
        """
        yield from self._clear_gone(infos)
        if any(bus.scan_at_start for bus in self._settings.buses):
            return
        unsettled = any(not info.name or _is_unsettled(info) for info in infos)
        if self._has_cleared or not self._has_learnt or unsettled or not self._settings.homeassistant.enabled:
            return
        self._has_cleared = True
        names = {info.name for info in infos}
        known = [(info.identity, info.name) for info in infos if info.identity is not None]
        living = {self._discovery.meter_topic(*one) for one in known}  # perhaps under another name until its reading
        for topic in self._announcements.leftovers(names):
            if topic not in living:
                yield from _said(self._announcements.forget(topic))

    def _settings_of(self, info: MeterInfo) -> MeterSettings | None:
        """What the file says of a meter; None of one that was found."""
        meters = (meter for bus in self._settings.buses if bus.name == info.bus for meter in bus.meters)
        return next((meter for meter in meters if str(meter.address) == info.address), None)


def _is_unsettled(info: MeterInfo) -> bool:
    """It has neither answered nor stayed silent yet, and it will be asked."""
    return info.online is None and info.interval != "manual"


def interval_seconds(info: MeterInfo) -> float | None:
    """Between read-outs; None where they do not come so."""
    try:
        return seconds(info.interval)
    except ValueError:
        return None


def _place(info: MeterInfo | None, settings: MeterSettings | None) -> Place:
    if info is None:
        return Place()
    is_periodic = interval_seconds(info) is not None
    if settings is None:
        return Place(info.bus, "", info.has_alarms, is_periodic)
    return Place(info.bus, settings.area, info.has_alarms, is_periodic, frozenset(settings.keys.rename.values()))


def _said(messages: list[tuple[str, str]]) -> Iterator[Message]:
    for topic, payload in messages:
        yield Message(topic, payload, is_unique=True)
