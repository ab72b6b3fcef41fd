"""What is said of each meter, remembered by its name: what was said can be said again, and cleared. Pure."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace

from mbusd.configuration.settings import MqttSettings
from mbusd.model import MeterInfo, Reading
from mbusd.sinks.last_said import LastSaid, states, values
from mbusd.sinks.news import News
from mbusd.sinks.roll import interval_seconds
from mbusd.sinks.topics import OWN_TOPICS, Message, Topics


class Said:
    """By the names of meters."""

    def __init__(self, topics: Topics, settings: MqttSettings) -> None:
        self._topics = topics
        self._settings = settings
        self._known: dict[str, LastSaid] = {}
        self._changes = News(only_on_change=settings.only_on_change)

    def __iter__(self) -> Iterator[tuple[str, LastSaid]]:
        """As they are now, whatever comes meanwhile."""
        for name in tuple(self._known):
            known = self._known.get(name)
            if known is not None:
                yield name, known

    def known(self, meter: str) -> LastSaid | None:
        """What was said of a meter, if anything was."""
        return self._known.get(meter)

    def of(self, meter: str) -> LastSaid:
        """The same, to be added to."""
        known = self._known.get(meter)
        if known is None:
            known = self._known[meter] = LastSaid()
        return known

    def values(self, reading: Reading, keys: Iterable[str]) -> Iterator[Message]:
        """A reading, whose document carries these keys."""
        yield from self._changes.of(self._topics.of_reading(reading, keys), self._topics.meter(reading.meter))

    def document(self, reading: Reading, keys: Iterable[str]) -> Message:
        """The document alone, whether it is news or not."""
        return self._changes.to_keep(next(self._topics.of_reading(reading, keys)))

    def availability(self, info: MeterInfo) -> Message:
        """Whether it is online."""
        is_online = self.of(info.name).online = _is_online(info)
        return self._topics.of_availability(replace(info, online=is_online))

    def new_availability(self, info: MeterInfo) -> Iterator[Message]:
        """It is retained, and said again to a broker that may have lost it: only news need be said."""
        if self.of(info.name).online != _is_online(info):
            yield self.availability(info)

    def interval(self, meter: str, text: str) -> Message:
        """How often it is read; "" takes that back."""
        if text or meter in self._known:
            self.of(meter).interval = sys.intern(text)
        return self._topics.of_interval(meter, text)

    def again(self, name: str, known: LastSaid, keys: Iterable[str]) -> Iterator[Message]:
        """All that is retained of a meter whose document carries these keys."""
        yield from states(known, name, self._topics)
        if self._settings.retain and not self._settings.only_on_change:
            yield from values(known, self._topics, keys)

    def clear(self, name: str, keys: Iterable[str]) -> Iterator[Message]:
        """Nothing is left of what was said under a name that no meter has any more; `keys`: beside those known here."""
        before = self._known.pop(name, None)
        all_keys = dict.fromkeys([*(before.keys if before else ()), *sorted(keys)])
        for message in (*self._topics.no_meter(name, all_keys), self.interval(name, "")):
            yield self._changes.forget(message)

    def clear_values(self, meter: str, keys: Iterable[str]) -> Iterator[Message]:
        """Nothing is left of these values."""
        if self._settings.values:
            for key in keys:
                if key not in OWN_TOPICS:
                    yield self._changes.forget(self._topics.of_value(meter, key, None))


def _is_online(info: MeterInfo) -> bool:
    """Who is asked by request or by a cron line only is not silent before that: his last values stand until then."""
    return bool(info.online) or (info.online is None and interval_seconds(info) is None)
