"""A flood of requests: what is beyond a burst is dropped without an answer, counted, and told once a minute."""

import logging
from collections.abc import Callable

from mbusd.valve import Valve

log = logging.getLogger(__name__)

BURST, SECONDS = 500, 1.0  # so many requests at once, and one more each second
TELL_SECONDS = 60.0

Later = Callable[[float, Callable[[], None]], object]
"""Calls something after so many seconds."""


class FloodGate:
    """Stands before all requests."""

    def __init__(self, later: Later) -> None:
        self.dropped = 0
        self._valve = Valve(BURST, SECONDS)
        self._later = later
        self._told: int | None = None  # of those dropped, while a flood lasts

    def admits(self, now: float) -> bool:
        """Whether one more request is looked at; `now` is of a monotonic clock."""
        if self._valve.admits(now):
            return True
        self.dropped += 1
        if self._told is None:
            self._told = self.dropped - 1
            log.warning("a flood of requests: more than %d at once, and one a second then, are dropped", BURST)
            self._later(TELL_SECONDS, self._tell)
        return False

    def _tell(self) -> None:
        count = self.dropped - (self._told or 0)
        if count == 0:
            self._told = None
            return
        log.warning("%d requests were dropped in the last minute", count)
        self._told = self.dropped
        self._later(TELL_SECONDS, self._tell)
