"""A meter that is read quickly while it works, and at its usual times while it idles. Pure."""

import math
from collections.abc import Mapping

from mbusd.model import Value
from mbusd.pace.condition import Condition
from mbusd.pace.schedule import Schedule

AT_REST_SECONDS = 3600.0  # a meter that falls silent at work is left to its usual times


class Activity:
    """Whether the last reading has shown the meter at work; as long as it has, it is due every `interval` seconds."""

    def __init__(self, condition: Condition, interval: float, patience: int) -> None:
        self.interval = interval
        self._condition = condition
        self._patience = patience
        self._told: set[str] = set()
        self.schedule: Schedule | None = None  # None: it idles

    @property
    def due(self) -> float:
        """When, in seconds of the monotonic clock; never while it idles."""
        return math.inf if self.schedule is None else self.schedule.due

    def take(self, values: Mapping[str, Value], now: float) -> list[str]:
        """The values of a reading by key; gives those keys of the condition that they lack, each once."""
        if not self._condition.holds(values):
            self.schedule = None
        elif self.schedule is None:
            self.schedule = Schedule(self.interval, now + self.interval, 0.0, self._patience, AT_REST_SECONDS)
        else:
            self.schedule.succeeded(now)
        news = [key for key in self._condition.unknown(values) if key not in self._told]
        self._told.update(news)
        return news
