"""What waits for the broker, and what is on its way to it. Pure.

State is kept by topic, the latest counts; what happened once is kept in order, in bounds. What was on its way when the
connection broke waits again, in its place, unless something newer stands in for it.
"""

import itertools

from mbusd.sinks.topics import Message

MOST_UNIQUE = 1000  # answers and events that wait for a broker that is away; the oldest go first

_Key = tuple[str, int]  # the topic, and a number where a later message on it does not stand in for this one


class Outbox:
    """Messages in the order in which the broker is to hear them."""

    def __init__(self) -> None:
        self._retained: dict[str, Message] = {}
        self._waiting: dict[_Key, Message] = {}
        self._passing: dict[_Key, None] = {}  # those that wait and are of no use after a while
        self._flying: dict[int, tuple[_Key, Message]] = {}
        self._barred: set[str] = set()
        self._numbers = itertools.count(1)

    @property
    def waiting(self) -> tuple[Message, ...]:
        """What is to be sent, in order."""
        return tuple(self._waiting.values())

    def add(self, message: Message) -> None:
        """Queue it; what waits on its topic and may be stood in for is dropped."""
        if message.topic in self._barred:
            return
        if message.retain:
            self._retained.pop(message.topic, None)
            if message.payload:
                self._retained[message.topic] = message
        self._waiting.pop((message.topic, 0), None)
        if not message.is_unique:
            self._waiting[message.topic, 0] = message
            return
        key = message.topic, next(self._numbers)
        self._waiting[key] = message
        if not message.retain:
            self._passing[key] = None
            if len(self._passing) > MOST_UNIQUE:
                self._drop(next(iter(self._passing)))

    def say_everything(self) -> None:
        """Queue all that is retained once more; what waits already keeps its order, behind it."""
        waiting = {message.topic for message in self._waiting.values()}
        again = {(topic, 0): message for topic, message in self._retained.items() if topic not in waiting}
        self._replace(again | self._waiting)

    def drop_fleeting(self) -> None:
        """What was of then is not of now."""
        self._replace({key: message for key, message in self._waiting.items() if not message.is_fleeting})

    def bar(self, topic: str) -> None:
        """Nothing goes out on this topic any more."""
        self._barred.add(topic)
        self._retained.pop(topic, None)
        self._replace({key: message for key, message in self._waiting.items() if message.topic != topic})

    def _drop(self, key: _Key) -> None:
        del self._waiting[key]
        del self._passing[key]

    def _replace(self, waiting: dict[_Key, Message]) -> None:
        self._waiting = waiting
        self._passing = dict.fromkeys(key for key, one in waiting.items() if one.is_unique and not one.retain)

    def is_barred(self, topic: str) -> bool:
        return topic in self._barred

    def take(self) -> tuple[int, Message] | None:
        """The next to be sent, and the number under which it is on its way; None where nothing waits."""
        if not self._waiting:
            return None
        key = next(iter(self._waiting))
        message = self._waiting.pop(key)
        self._passing.pop(key, None)
        number = next(self._numbers)
        self._flying[number] = key, message
        return number, message

    def landed(self, number: int) -> None:
        """The broker has acknowledged it."""
        self._flying.pop(number, None)

    def lost(self) -> None:
        """The connection is gone; what was not acknowledged is to be sent again, before the rest."""
        newer = {message.topic for message in self._waiting.values()}
        back: dict[_Key, Message] = {}
        for key, message in self._flying.values():
            back.pop((message.topic, 0), None)
            if key[1] or message.topic not in newer:
                back[key] = message
        self._flying.clear()
        self._replace(back | self._waiting)
