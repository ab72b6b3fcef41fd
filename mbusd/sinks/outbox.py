"""What waits for the broker, and what is on its way to it. Pure.

State is kept by topic, the latest counts; what happened once is kept in order, in bounds. What was on its way when the
connection broke waits again, in its place, unless something newer stands in for it. What its source can say again is
not kept: it is made when its turn comes.
"""

import itertools
from collections.abc import Iterator

from mbusd.sinks.topics import Message, Source

MOST_UNIQUE = 1000  # answers and events that wait for a broker that is away; the oldest go first

_Key = tuple[str, int]  # the topic, and a number where a later message on it does not stand in for this one


class Outbox:
    """Messages in the order in which the broker is to hear them."""

    def __init__(self) -> None:
        self._retained: dict[str, Message] = {}  # of those without a source
        self._sources: dict[Source, None] = {}
        self._again: Iterator[Message] | None = None  # what is said once more, before all that waits
        self._newer: set[str] = set()  # topics on which something waits that stands in for that
        self._waiting: dict[_Key, Message] = {}
        self._passing: dict[_Key, None] = {}  # those that wait and are of no use after a while
        self._flying: dict[int, tuple[_Key, Message]] = {}
        self._barred: set[str] = set()
        self._numbers = itertools.count(1)

    @property
    def waiting(self) -> tuple[Message, ...]:
        """What is to be sent, in order."""
        again = [one for one in self._again or () if self._is_wanted(one)]
        self._again = iter(again) if again else None
        return (*again, *self._waiting.values())

    def add(self, message: Message) -> None:
        """Queue it; what waits on its topic and may be stood in for is dropped."""
        if message.topic in self._barred:
            return
        if message.retain:
            self._retained.pop(message.topic, None)
            if message.source is not None:
                self._sources[message.source] = None
            elif message.payload:
                self._retained[message.topic] = message
        if self._again is not None:
            self._newer.add(message.topic)
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
        self._newer = {message.topic for message in self._waiting.values()}
        sources = (source.again() for source in tuple(self._sources))
        self._again = itertools.chain(tuple(self._retained.values()), *sources)

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
        message = None if self._again is None else self._next_again()
        if message is not None:
            key = message.topic, 0
        elif self._waiting:
            key = next(iter(self._waiting))
            message = self._waiting.pop(key)
            self._passing.pop(key, None)
        else:
            return None
        number = next(self._numbers)
        self._flying[number] = key, message
        return number, message

    def _next_again(self) -> Message | None:
        for message in self._again or ():
            if self._is_wanted(message):
                return message
        self._again = None
        self._newer = set()
        return None

    def _is_wanted(self, message: Message) -> bool:
        """Whether it is to be said once more."""
        return message.topic not in self._newer and message.topic not in self._barred

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
