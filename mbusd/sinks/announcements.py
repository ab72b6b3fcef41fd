"""What has been announced at the broker, and which messages change it without leaving orphans in Home Assistant. Pure.

A component that is merely left out lives on until Home Assistant restarts and can never be removed after that, so it
gets a tombstone first.
"""

import json
import re
from collections.abc import Collection, Mapping

from mbusd.configuration.scalars import name_in_topics
from mbusd.exact_json import JsonValue, dumps
from mbusd.sinks.entities import DOCUMENT
from mbusd.sinks.homeassistant import Discovery, Payload
from mbusd.sinks.packed import Packed, Press

MOST_UNHEARD = 50  # devices that went while Home Assistant may have been away
_LONGEST_NAME = 1000
_KEY = re.compile(re.escape(DOCUMENT) + r'\.get\(("(?:[^"\\]|\\.)*")\)')  # as entities.py writes it
_OF_EVERY_READING = ("time", "status")

Messages = list[tuple[str, str]]
"""Topic and payload, to be published retained and in this order."""

_Entities = Mapping[str, Mapping[str, JsonValue]]
"""Components of a payload that live, by their keys."""


class Announcements:
    """Remembers the last payload of each discovery topic; sends nothing itself.

    Packed: that is a hundredth of what its objects take, and a block of flats has thousands.
    """

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._press = Press()
        self._known: dict[str, tuple[str, Packed]] = {}  # state topic and payload, by topic
        self._showing: dict[str, tuple[str, ...]] = {}  # topics by the name of the meter whose readings they show
        self.parked: dict[str, str] = {}
        """Topics of devices whose name another one has taken, which itself had this name before: a swap, perhaps."""
        self.is_heard = False
        """Whether Home Assistant is there for certain: what it does not hear of being taken back, it keeps for ever."""
        self._unheard: dict[str, Packed] = {}  # what was taken back meanwhile, by topic
        self._left: dict[str, set[str]] = {}  # keys by meter
        self._left_buses: list[str] = []

    def update(self, topic: str, payload: Payload, keep: Collection[str] = ()) -> Messages:
        """What to publish so that `payload` holds; nothing if it does already.

        `keep`: what was announced and shows one of these keys stays, though it is not in the payload. Another device on
        the same state topic is removed first: the meter was exchanged, its values are not the old one's. Where the
        meter had another name itself, the other device is only put aside: it may come back under that one.
        """
        messages: Messages = []
        former, others = self.former_name(topic, payload), self.superseded_by(topic, payload)
        for other in others:
            messages += self.forget(other) if former is None else self._park(other, former)
        if former is not None and topic not in self.parked:
            self._left.setdefault(former, set()).update(self.keys(topic))
        self.parked.pop(topic, None)
        known = self._payload(topic)
        before, after = _components(known), _components(payload)
        kept = {key: each for key, each in before.items() if key not in after and _shown(each) in keep}
        after = {**after, **kept}
        if known.get("stat_t") == payload.get("stat_t"):
            after = {key: {**each, **_ids(before.get(key, {}), each)} for key, each in after.items()}
        payload = payload | {"cmps": after}
        if payload == known:
            return messages
        gone = {
            key: {"p": component["p"]}
            for key, component in before.items()
            if key not in after or after[key]["p"] != component["p"]
        }
        self._take_back(topic, known, {key: before[key] for key in gone})
        self._note_vanished(topic, self._meter(payload), before, after)
        if gone:  # what is new waits: it may have the name of what goes
            stays = {key: component for key, component in after.items() if key in before}
            messages.append((topic, dumps(payload | {"cmps": {**stays, **gone}})))
        text = dumps(payload)
        messages.append((topic, text))
        self._keep(topic, payload, text)
        return messages

    def _note_vanished(self, topic: str, name: str | None, before: _Entities, after: _Entities) -> None:
        """What this device, if it still has this name, shows no more: its value shall not stand for ever either."""
        vanished = set(map(_shown, before.values())) - set(map(_shown, after.values())) - {""}
        if vanished and name is not None and name == self.name(topic):
            self._left.setdefault(name, set()).update(vanished)

    def update_own(self, devices: Mapping[str, Payload]) -> Messages:
        """The same for the daemon's own devices, by topic, the bridge first; those of buses that are no more go.

        An entity that moves from one device to another is let go by the first before the second takes it: Home
        Assistant then keeps its id, its history and what its user has made of it.
        """
        gone = [topic for topic, (shown, _) in self._known.items() if topic not in devices and self._is_of_bus(shown)]
        self._left_buses += [self._known[topic][0].split("/")[-2] for topic in gone]
        messages = [message for topic in gone for message in self.forget(topic)]
        left = [topic for topic, payload in devices.items() if self._moves(topic, payload, devices)]
        for topic in left:
            messages.append((topic, dumps({"migr_discvry": True})))
            self._drop(topic)
        stayed = [topic for topic in devices if topic not in left]
        return messages + [message for topic in (*stayed, *left) for message in self.update(topic, devices[topic])]

    def keys(self, topic: str) -> set[str]:
        """The keys of the readings that the entities of this topic show."""
        components = _components(self._payload(topic)).values()
        return {key for key in map(_shown, components) if key}

    def forget(self, topic: str) -> Messages:
        """What to publish so that the device of this topic goes; nothing if it is not known."""
        name = self.name(topic)
        if name is not None and topic not in self.parked:
            self._left.setdefault(name, set()).update(self.keys(topic))
        self.parked.pop(topic, None)
        known = self._payload(topic)
        if not self._drop(topic):
            return []
        self._take_back(topic, known, _components(known))
        return [(topic, "")]

    def heard(self) -> Messages:
        """Home Assistant has started: what was taken back while it was away is announced to it once more, then goes."""
        self.is_heard = True
        unheard, self._unheard = self._unheard, {}
        messages: Messages = []
        for topic, packed in unheard.items():
            payload: Payload = json.loads(packed.text)
            known = self._payload(topic) if topic in self._known else None
            living = _components(known or {})
            lost = {key: each for key, each in _components(payload).items() if key not in living}
            if known is None:
                messages += [(topic, dumps(self._nowhere(topic, payload))), (topic, "")]
            elif lost:
                gone: Payload = {key: {"p": each["p"]} for key, each in lost.items()}
                messages += [(topic, dumps(known | {"cmps": {**living, **some}})) for some in (lost, gone, {})]
                self._keep(topic, known, messages[-1][1])
        return messages

    @property
    def unheard(self) -> dict[str, JsonValue]:
        """What Home Assistant has perhaps not heard of being taken back: payloads by topic, for the next life."""
        return {topic: packed.text for topic, packed in self._unheard.items()}

    def recall(self, unheard: JsonValue) -> None:
        """The same of an earlier life; what is no such payload is nothing."""
        for topic, text in unheard.items() if isinstance(unheard, Mapping) else ():
            document = _document(text) if isinstance(text, str) else None
            if document is not None and self._is_ours(topic, document) and len(self._unheard) < MOST_UNHEARD:
                self._unheard[topic] = self._press.pack(dumps(document), _kind(document))

    def _take_back(self, topic: str, payload: Payload, components: Mapping[str, Mapping[str, JsonValue]]) -> None:
        """Remember it for Home Assistant, if that is perhaps not there."""
        if components and not self.is_heard:
            unheard = self._unheard.get(topic)
            before = {} if unheard is None else _components(json.loads(unheard.text))
            gone: Payload = payload | {"cmps": {**before, **components}}
            self._unheard[topic] = self._press.pack(dumps(gone), _kind(gone))
            if len(self._unheard) > MOST_UNHEARD:
                del self._unheard[next(iter(self._unheard))]

    def left(self) -> tuple[dict[str, set[str]], list[str]]:
        """Names that devices had, with keys that they show no more, and buses that are gone; since the last call."""
        left, self._left = (self._left, self._left_buses), {}
        self._left_buses = []
        return left

    def topics(self) -> Collection[str]:
        """All that is announced."""
        return self._known.keys()

    def learn(self, topic: str, payload: str) -> bool:
        """Take note of a message found at the broker; True if it is one of ours.

        An empty one means that a user deleted the device: it is announced again with the next `update`.
        """
        if not payload:
            return self._drop(topic)
        if topic in self._known and self._known[topic][1].text == payload:
            return True  # our own, as the broker passes it on
        document = _document(payload)
        if document is None or not self._is_ours(topic, document):
            return False
        self._keep(topic, document, payload)
        return True

    def _payload(self, topic: str) -> Payload:
        """What is announced there; empty if nothing is."""
        return json.loads(self._known[topic][1].text) if topic in self._known else {}

    def packed(self, topic: str) -> Packed | None:
        """The payload that is announced there."""
        return self._known[topic][1] if topic in self._known else None

    def _keep(self, topic: str, payload: Payload, text: str) -> None:
        self._drop(topic)
        self._known[topic] = (
            str(payload.get("stat_t", "")),
            self._press.pack(text, _kind(payload), _names_in(topic, payload)),
        )
        name = self.name(topic)
        if name is not None:
            self._showing[name] = (*self._showing.get(name, ()), topic)

    def _drop(self, topic: str) -> bool:
        """Whether anything was announced there."""
        name = self.name(topic)
        if name is not None:
            left = tuple(other for other in self._showing.pop(name) if other != topic)
            if left:
                self._showing[name] = left
        return self._known.pop(topic, None) is not None

    def name(self, topic: str) -> str | None:
        """The name of the meter whose readings the device of this topic shows."""
        return self._named(self._known[topic][0]) if topic in self._known else None

    def is_shown(self, meter: str) -> bool:
        """Whether there is a device of this meter."""
        return meter in self._showing

    def leftovers(self, meters: Collection[str]) -> list[str]:
        """Topics of meters of ours that are not among these names; `forget` them."""
        names = {topic: self.name(topic) for topic in self._known}
        return [topic for topic, name in names.items() if name is not None and name not in meters]

    def via(self, topic: str) -> str:
        """The identifier of the device that the device of this topic is reached by; "" where that is not known."""
        device = self._payload(topic).get("dev")
        return str(device.get("via_device", "")) if isinstance(device, Mapping) else ""

    def in_order(self) -> list[str]:
        """The topics of all that is announced, the daemon's own devices first: the others point to them."""
        bridge = self._discovery.bridge_topic
        return sorted(self._known, key=lambda topic: (topic != bridge, not self._is_of_bus(self._known[topic][0])))

    def _moves(self, topic: str, payload: Payload, devices: Mapping[str, Payload]) -> bool:
        """Whether an entity of this device belongs to another one now."""
        others = {uid for other, each in devices.items() if other != topic for uid in _unique_ids(each)}
        return not others.isdisjoint(_unique_ids(self._payload(topic)) - _unique_ids(payload))

    def _is_bus(self, document: Payload) -> bool:
        state_topic = document.get("stat_t")
        return isinstance(state_topic, str) and self._is_of_bus(state_topic)

    def _is_of_bus(self, state_topic: str) -> bool:
        return state_topic.startswith(f"{self._discovery.base_topic}/bus/")

    def superseded_by(self, topic: str, payload: Payload) -> list[str]:
        """Topics of other devices that show what this one shows from now on."""
        meter = self._meter(payload)
        if meter is None:
            return []
        return [other for other in self._showing.get(meter, ()) if other != topic]

    def former_name(self, topic: str, payload: Payload) -> str | None:
        """What the meter of this topic was called, if it has another name now."""
        before = self.name(topic)
        return before if before != self._meter(payload) else None

    def _park(self, topic: str, holder: str) -> Messages:
        """Out of sight, under a name that no meter has: it must not show another one's values."""
        if topic not in self.parked:
            self._left.setdefault(self.name(topic) or "", set()).update(self.keys(topic))
        self.parked[topic] = holder
        aside = self._nowhere(topic, self._payload(topic))
        text = dumps(aside)
        self._keep(topic, aside, text)
        return [(topic, text)]

    def _nowhere(self, topic: str, payload: Payload) -> Payload:
        """The same device, of a meter that does not exist."""
        nowhere = f"{self._discovery.base_topic}/{topic.split('/')[-2]}"
        device = payload.get("dev")
        if isinstance(device, Mapping):  # its bus may be gone: Home Assistant would make a nameless device of it
            payload = payload | {"dev": {key: said for key, said in device.items() if key != "via_device"}}
        return payload | {"stat_t": nowhere, "avty": [{"t": f"{nowhere}/availability"}]}

    def _meter(self, payload: Payload) -> str | None:
        """The name of the meter whose readings a payload shows; None for the daemon's own device."""
        state_topic = payload.get("stat_t")
        return self._named(state_topic) if isinstance(state_topic, str) else None

    def _named(self, state_topic: str) -> str | None:
        prefix = f"{self._discovery.base_topic}/"
        if not state_topic.startswith(prefix):
            return None
        name = state_topic.removeprefix(prefix)
        return name if _is_name(name) else None

    def _is_ours(self, topic: str, document: Payload) -> bool:
        origin = document.get("o")
        if not isinstance(origin, Mapping) or origin.get("name") != "mbusd":
            return False
        if topic == self._discovery.bridge_topic:
            return True
        is_device = topic.startswith(f"{self._discovery.discovery_prefix}/device/mbusd_")
        return is_device and (self._is_bus(document) or self._meter(document) is not None)


def _document(text: str) -> Payload | None:
    """A payload; None for what is none. What cannot be said again is not ours, whatever it calls itself."""
    try:
        document = json.loads(text)
        dumps(document)
    except (ValueError, RecursionError, OverflowError):
        return None
    return document if isinstance(document, dict) else None


def _is_name(text: str) -> bool:
    """Whether a meter can be called so; anybody may have left a message that looks like ours."""
    try:
        name_in_topics(text)
    except ValueError:
        return False
    return len(text) <= _LONGEST_NAME


def _components(payload: Payload) -> dict[str, Mapping[str, JsonValue]]:
    """The components that live: tombstones, which have nothing but their platform, do not."""
    components = payload.get("cmps")
    if not isinstance(components, Mapping):
        return {}
    return {
        key: component
        for key, component in components.items()
        if isinstance(component, Mapping) and "p" in component and len(component) > 1
    }


def _ids(before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The ids that an entity had when it was announced first."""
    is_same = before.get("p") == after.get("p") and "def_ent_id" in after
    return {key: before[key] for key in ("def_ent_id", "obj_id") if is_same and key in before}


def _kind(payload: Payload) -> int:
    """Equal for devices with the same entities."""
    components = payload.get("cmps")
    return hash(tuple(components)) if isinstance(components, Mapping) else 0


def _shown(component: Mapping[str, JsonValue]) -> str:
    """The key of the reading that an entity shows, where it shows a measurement; else ""."""
    said = _KEY.search(str(component.get("val_tpl", "")))
    key = str(json.loads(said[1])) if said else ""
    return "" if key in _OF_EVERY_READING else key


def _names_in(topic: str, payload: Payload) -> tuple[str, ...]:
    """What tells the message of this device from that of another one: its identifier, and what it is called."""
    device = payload.get("dev")
    name = device.get("name") if isinstance(device, Mapping) else None
    identifier = topic.split("/")[-2]
    return (identifier, name) if isinstance(name, str) else (identifier,)


def _unique_ids(payload: Payload) -> set[str]:
    return {str(component.get("uniq_id")) for component in _components(payload).values()}
