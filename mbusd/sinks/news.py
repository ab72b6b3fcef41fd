"""What of a reading is said: all of it, or with `mqtt.only_on_change` only what is not as it was. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mbusd.sinks.topics import Message


class News:
    """What was last said on each topic, where that decides whether anything is said again."""

    def __init__(self, *, only_on_change: bool) -> None:
        self._only_on_change = only_on_change
        self._said: dict[str, str] = {}

    def of(self, messages: Iterable[Message], document: str) -> Iterator[Message]:
        """Those that are to be said; `document`: the topic of the JSON, of which the time alone is no news."""
        if not self._only_on_change:
            yield from messages
            return
        for message in messages:
            content = message.payload.partition(', "status"')[2] if message.topic == document else message.payload
            if self._said.get(message.topic) != content:
                self._said[message.topic] = content
                yield self.to_keep(message)

    def to_keep(self, message: Message) -> Message:
        """What is not said with each reading cannot be said again out of the last one: it is kept as it is."""
        return replace(message, source=None) if self._only_on_change else message

    def forget(self, message: Message) -> Message:
        """The same, which clears its topic: whatever comes there next is news."""
        self._said.pop(message.topic, None)
        return message
