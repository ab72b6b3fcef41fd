"""What has been announced at the broker, and which messages change it without leaving orphans in Home Assistant. Pure.

A component that is merely left out lives on until Home Assistant restarts and can never be removed after that, so it
gets a tombstone first.
"""

import json
import re
from collections.abc import Collection, Mapping

from mbusd.exact_json import JsonValue, dumps
from mbusd.sinks.homeassistant import Discovery, Payload

_KEY = re.compile(r'value_json\.get\(("(?:[^"\\]|\\.)*")\)')  # as entities.py writes it for measurements
_OF_EVERY_READING = ("time", "status")

Messages = list[tuple[str, str]]
"""Topic and payload, to be published retained and in this order."""


class Announcements:
    """Remembers the last payload of each discovery topic; sends nothing itself."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._known: dict[str, Payload] = {}

    def update(self, topic: str, payload: Payload, keep: Collection[str] = ()) -> Messages:
        """What to publish so that `payload` holds; nothing if it does already.

        `keep`: what was announced and shows one of these keys stays, though it is not in the payload. Another device on
        the same state topic is removed first: the meter was exchanged, its values are not the old one's.
        """
        messages = [message for other in self._superseded_by(topic, payload) for message in self.forget(other)]
        known = self._known.get(topic, {})
        before, after = _components(known), _components(payload)
        kept = {key: each for key, each in before.items() if key not in after and _shown(each) in keep}
        after = {**after, **kept}
        payload = payload | {"cmps": after}
        if payload == known:
            return messages
        gone = {
            key: {"p": component["p"]}
            for key, component in before.items()
            if key not in after or after[key]["p"] != component["p"]
        }
        if gone:  # what is new waits: it may have the name of what goes
            stays = {key: component for key, component in after.items() if key in before}
            messages.append((topic, dumps(payload | {"cmps": {**stays, **gone}})))
        messages.append((topic, dumps(payload)))
        self._known[topic] = payload
        return messages

    def update_own(self, devices: Mapping[str, Payload]) -> Messages:
        """The same for the daemon's own devices, by topic, the bridge first; those of buses that are no more go.

        An entity that moves from one device to another is let go by the first before the second takes it: Home
        Assistant then keeps its id, its history and what its user has made of it.
        """
        gone = [topic for topic in self._known if topic not in devices and self._is_bus(self._known[topic])]
        messages = [message for topic in gone for message in self.forget(topic)]
        left = [topic for topic, payload in devices.items() if self._moves(topic, payload, devices)]
        for topic in left:
            messages.append((topic, dumps({"migr_discvry": True})))
            self._known.pop(topic)
        stayed = [topic for topic in devices if topic not in left]
        return messages + [message for topic in (*stayed, *left) for message in self.update(topic, devices[topic])]

    def keys(self, topic: str) -> set[str]:
        """The keys of the readings that the entities of this topic show."""
        components = _components(self._known.get(topic, {})).values()
        return {key for key in map(_shown, components) if key}

    def forget(self, topic: str) -> Messages:
        """What to publish so that the device of this topic goes; nothing if it is not known."""
        return [] if self._known.pop(topic, None) is None else [(topic, "")]

    def learn(self, topic: str, payload: str) -> bool:
        """Take note of a message found at the broker; True if it is one of ours.

        An empty one means that a user deleted the device: it is announced again with the next `update`.
        """
        if not payload:
            return self._known.pop(topic, None) is not None
        try:
            document = json.loads(payload)
        except (ValueError, RecursionError):
            return False
        if not isinstance(document, dict) or not self._is_ours(topic, document):
            return False
        self._known[topic] = document
        return True

    def leftovers(self, meters: Collection[str]) -> list[str]:
        """Topics of meters of ours that are not among these names; `forget` them."""
        names = {topic: self._meter(payload) for topic, payload in self._known.items()}
        return [topic for topic, name in names.items() if name is not None and name not in meters]

    def messages(self) -> Messages:
        """All that is announced, for a broker that may have lost it; the daemon's own devices first."""
        bridge = self._discovery.bridge_topic
        topics = sorted(self._known, key=lambda topic: (topic != bridge, not self._is_bus(self._known[topic])))
        return [(topic, dumps(self._known[topic])) for topic in topics]

    def _moves(self, topic: str, payload: Payload, devices: Mapping[str, Payload]) -> bool:
        """Whether an entity of this device belongs to another one now."""
        others = {uid for other, each in devices.items() if other != topic for uid in _unique_ids(each)}
        return not others.isdisjoint(_unique_ids(self._known.get(topic, {})) - _unique_ids(payload))

    def _is_bus(self, document: Payload) -> bool:
        state_topic = document.get("stat_t")
        return isinstance(state_topic, str) and state_topic.startswith(f"{self._discovery.base_topic}/bus/")

    def _superseded_by(self, topic: str, payload: Payload) -> list[str]:
        meter = self._meter(payload)
        if meter is None:
            return []
        return [other for other, known in self._known.items() if other != topic and self._meter(known) == meter]

    def _meter(self, payload: Payload) -> str | None:
        """The name of the meter whose readings a payload shows; None for the daemon's own device."""
        state_topic, prefix = payload.get("stat_t"), f"{self._discovery.base_topic}/"
        if not isinstance(state_topic, str) or not state_topic.startswith(prefix):
            return None
        name = state_topic.removeprefix(prefix)
        return None if "/" in name else name

    def _is_ours(self, topic: str, document: Payload) -> bool:
        origin = document.get("o")
        if not isinstance(origin, Mapping) or origin.get("name") != "mbusd":
            return False
        if topic == self._discovery.bridge_topic:
            return True
        is_device = topic.startswith(f"{self._discovery.discovery_prefix}/device/mbusd_")
        return is_device and (self._is_bus(document) or self._meter(document) is not None)


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


def _shown(component: Mapping[str, JsonValue]) -> str:
    """The key of the reading that an entity shows, where it shows a measurement; else ""."""
    said = _KEY.search(str(component.get("val_tpl", "")))
    key = str(json.loads(said[1])) if said else ""
    return "" if key in _OF_EVERY_READING else key


def _unique_ids(payload: Payload) -> set[str]:
    return {str(component.get("uniq_id")) for component in _components(payload).values()}
