"""What was last said of a meter: little more than the readings out of which it can be said again. Pure."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import field, replace
from functools import lru_cache

from mbusd.light import dataclass
from mbusd.model import Measurement, Reading
from mbusd.sinks.topics import OFFLINE, ONLINE, Message, Topics

MOST_LISTS = 256  # of keys, that meters share
MOST_KEYS = 256  # of one meter, unless one read-out has more; beyond it, what was not seen for long gives way
LONG_AGO = 100  # readings
AT_ONCE = 1.5  # times so many: what was not seen for longest gives way, however short that is


@dataclass(slots=True)
class _Ages:
    """When a meter with very many keys has sent each last, counted in its readings since they became so many."""

    count: int = 0
    seen: dict[str, int] = field(default_factory=dict)

    def take(self, reading: Reading) -> None:
        self.count += 1
        self.seen |= dict.fromkeys(_keys(reading), self.count)


@dataclass(slots=True)
class LastSaid:
    """`online`, `interval`: as they were said; None and "": not at all, or taken back."""

    online: bool | None = None
    interval: str = ""
    keys: tuple[str, ...] = ()  # all that it ever had, in the order in which they came
    readings: tuple[Reading, ...] = ()  # the last one, and before it what had keys that all later ones lack
    ages: _Ages | None = None  # of few keys nobody need know how old they are

    @property
    def last(self) -> Reading | None:
        """The last reading."""
        return self.readings[0] if self.readings else None

    def take(self, reading: Reading) -> None:
        """A reading of the same meter."""
        now = reading.called(reading.meter, reading.identity)  # without what others have looked at
        if self.ages is not None:
            self.ages.take(now)
        draft, before = now.draft, self.readings[0].draft if self.readings else None
        if draft is not None and before is not None and draft.form is before.form:
            self.readings = (now, *self.readings[1:])
            return
        kept, covered = [now], dict.fromkeys(_keys(now))
        self.keys = _shared((*dict.fromkeys((*self.keys, *covered)),))
        for older in self.readings:
            own = dict.fromkeys(_keys(older))
            if not own.keys() <= covered.keys():
                kept.append(older)
                covered |= own
        self.readings = tuple(kept)

    def forget(self) -> None:
        """Another meter has taken its place and its name."""
        self.keys = self.readings = ()
        self.ages = None

    def drop(self, gone: Collection[str]) -> None:
        """These keys are not wanted any more."""
        ages = self.ages or self._aged()
        self._forget_keys(dict.fromkeys(key for key in gone if key in ages.seen), ages)

    def give_way(self) -> tuple[str, ...]:
        """Forget keys that the meter has not sent for long, where it has more than a meter can have; gives those.

        A meter that makes up new keys with each reading would grow for ever; one that has many, and sends some of them
        seldom, keeps them all.
        """
        fresh = dict.fromkeys(_keys(self.readings[0])) if self.readings else {}
        most = max(MOST_KEYS, len(fresh))
        too_many = len(self.keys) - most
        if too_many <= 0:
            return ()
        ages = self.ages = self.ages or self._aged()
        by_age = sorted((key for key in self.keys if key not in fresh), key=lambda key: ages.seen[key])[:too_many]
        if len(self.keys) <= AT_ONCE * most:
            by_age = [key for key in by_age if ages.count - ages.seen[key] >= LONG_AGO]
        self._forget_keys(dict.fromkeys(by_age), ages)
        return tuple(by_age)

    def _aged(self) -> _Ages:
        """How old what is kept is."""
        ages = _Ages()
        for reading in reversed(self.readings):
            ages.take(reading)
        return ages

    def _forget_keys(self, gone: Collection[str], ages: _Ages) -> None:
        """Neither they nor what was said of them are there any more."""
        self.keys = tuple(key for key in self.keys if key not in gone)
        for key in gone:
            del ages.seen[key]
        kept: list[Reading] = []
        covered: set[str] = set()
        for reading in self.readings:
            left = set(_keys(reading)).difference(gone)
            if not kept or not left <= covered:
                kept.append(_without(reading, gone))
                covered |= left
        self.readings = tuple(kept)

    def whole(self) -> Reading | None:
        """The last reading, with every measurement that the meter ever had."""
        last = self.last
        if last is None:
            return None
        items = {item.key: item for reading in reversed(self.readings) for item in _items(reading)}
        measurements = tuple(items[key] for key in self.keys)
        return replace(last.called(last.meter, last.identity), measurements=measurements)


def states(known: LastSaid, name: str, topics: Topics) -> Iterator[Message]:
    """Whether the meter is online, and how often it is read, as it was said."""
    if known.online is not None:
        yield Message(topics.availability(name), ONLINE if known.online else OFFLINE)
    if known.interval:
        yield topics.of_interval(name, known.interval)


def values(known: LastSaid, topics: Topics, keys: Iterable[str]) -> Iterator[Message]:
    """The last document, with every key of `keys`, and of each value the last one that came; what is retained."""
    said: set[str] = set()
    for reading in known.readings:
        for message in topics.of_reading(reading, keys):
            if message.retain and message.payload and message.topic not in said:
                yield message
            said.add(message.topic)


def _keys(reading: Reading) -> Iterable[str]:
    if reading.draft is not None:
        return (key for key, _ in reading.draft.texts())
    return (item.key for item in reading.measurements)


def _items(reading: Reading) -> Iterable[Measurement]:
    """Its measurements, which a draft makes each time: in the reading they would stay."""
    return reading.measurements if reading.draft is None else reading.draft.measurements


def _without(reading: Reading, gone: Collection[str]) -> Reading:
    """The same reading without the measurements of these keys."""
    if not any(key in gone for key in _keys(reading)):
        return reading
    left = tuple(item for item in _items(reading) if item.key not in gone)
    return replace(reading.called(reading.meter, reading.identity), measurements=left)


@lru_cache(maxsize=MOST_LISTS)
def _shared(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The same one for all meters that have these."""
    return keys
