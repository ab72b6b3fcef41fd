"""What is told of the buses: whether they are there, their statistics, and what is wrong with them. Pure."""

from collections.abc import Iterator

from mbusd.model import BusStatistics, BusTroubled
from mbusd.sinks.topics import Message, Topics


class BusReports:
    """The last statistics of each, and its trouble."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._statistics: dict[str, BusStatistics] = {}
        self._troubles: dict[str, BusTroubled] = {}

    def changed(self, bus: str, why: str, *, up: bool) -> Iterator[Message]:
        """It is there, or not."""
        yield self._topics.of_bus(bus, up=up)
        yield self._topics.of_event("bus_back" if up else "bus_lost", bus=bus, why=why)

    def counted(self, bus: str, statistics: BusStatistics) -> Iterator[Message]:
        """New statistics of it."""
        self._statistics[bus] = statistics
        yield self._topics.of_statistics(bus, statistics, self._troubles.get(bus))

    def troubled(self, now: BusTroubled) -> Iterator[Message]:
        """Told when it begins and when it ends; in between it stands in the statistics."""
        before = self._troubles.pop(now.bus, None)
        if now.code is not None:
            self._troubles[now.bus] = now
        after = self._troubles.get(now.bus)
        if after == before:
            return
        if after is None:
            yield self._topics.of_event("bus_well", bus=now.bus)
        else:
            yield self._topics.of_event("bus_trouble", bus=now.bus, code=now.code, what=now.what, todo=now.todo)
        if now.bus in self._statistics:
            yield self._topics.of_statistics(now.bus, self._statistics[now.bus], after)

    def gone(self, bus: str) -> Iterator[Message]:
        """Nothing is left of a bus that left the file."""
        self._statistics.pop(bus, None)
        self._troubles.pop(bus, None)
        yield from self._topics.no_bus(bus)
