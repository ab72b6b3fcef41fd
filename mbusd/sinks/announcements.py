"""What has been announced at the broker, and which messages change it without leaving orphans in Home Assistant. Pure.

A component that is merely left out lives on until Home Assistant restarts and can never be removed after that, so it
gets a tombstone first.
"""

import json
from collections.abc import Collection, Mapping

from mbusd.exact_json import JsonValue, dumps
from mbusd.sinks.homeassistant import Discovery, Payload

Messages = list[tuple[str, str]]
"""Topic and payload, to be published retained and in this order."""


class Announcements:
    """Remembers the last payload of each discovery topic; sends nothing itself."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._known: dict[str, Payload] = {}

    def update(self, topic: str, payload: Payload, *, keep: bool = False) -> Messages:
        """What to publish so that `payload` holds; nothing if it does already.

        `keep`: components that were announced and are not in the payload stay (a read-out that was incomplete). Another
        device on the same state topic is removed first: the meter was exchanged, its values are not the old one's.
        """
        messages = [message for other in self._superseded_by(topic, payload) for message in self.forget(other)]
        known = self._known.get(topic, {})
        before, after = _components(known), _components(payload)
        if keep:
            after = before | after
            payload = payload | {"cmps": after}
        if payload == known:
            return messages
        gone = {
            key: {"p": component["p"]}
            for key, component in before.items()
            if key not in after or after[key]["p"] != component["p"]
        }
        if gone:
            messages.append((topic, dumps(payload | {"cmps": {**after, **gone}})))
        messages.append((topic, dumps(payload)))
        self._known[topic] = payload
        return messages

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
        """All that is announced, for a broker that may have lost it; the daemon's own device first."""
        topics = sorted(self._known, key=lambda topic: topic != self._discovery.bridge_topic)
        return [(topic, dumps(self._known[topic])) for topic in topics]

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
        is_meter = topic.startswith(f"{self._discovery.discovery_prefix}/device/mbusd_") and self._meter(document)
        return topic == self._discovery.bridge_topic or bool(is_meter)


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
