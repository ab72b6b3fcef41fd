"""What went over a bus: counts for its statistics, and the last exchanges, byte for byte, for a diagnosis."""

import logging
import time
from collections import deque
from collections.abc import Collection
from dataclasses import replace

from mbusd.mbus.frames import LONGEST
from mbusd.mbus.link import Request
from mbusd.mbus.observation import Observation
from mbusd.model import BusStatistics

log = logging.getLogger(__name__)

REMEMBERED = 64  # exchanges


class Journal:
    """Of one bus, however often its port is opened."""

    def __init__(self, port: str) -> None:
        self.port = port
        self.recent: deque[Observation] = deque(maxlen=REMEMBERED)
        self.idle_noise = b""  # what was heard before anything was asked
        self.last_request_at = self._since = time.monotonic()
        self._counts = BusStatistics()
        self._busy = 0.0

    def count(self, **more: int) -> None:
        """Add to the counts of these names."""
        counts = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = replace(self._counts, **counts)

    def asks(self, request: Request, data: bytes) -> None:
        """These bytes go out now."""
        self.count(requests=1, retries=int(request.attempt > 1))
        self.last_request_at = time.monotonic()
        log.debug("%s > %s", self.port, data.hex(" ").upper())

    def hears(self, request: Request, heard: bytes, broken: Collection[int] = ()) -> None:
        """What a request brought, until its exchange was over, and the places of bytes that came broken."""
        log.debug("%s < %s", self.port, heard.hex(" ").upper() or "(nothing)")
        self.recent.append(Observation(request.frame, heard, broken=frozenset(broken)))

    def hears_stray(self, stray: bytes) -> None:
        """What came when nobody had asked."""
        self.count(noise=1)
        log.debug("%s < %s (nobody asked)", self.port, stray.hex(" ").upper())
        if self.recent:
            self.recent[-1] = replace(self.recent[-1], after=self.recent[-1].after + stray)
        else:
            self.idle_noise = (self.idle_noise + stray)[-LONGEST:]

    def was_busy(self, seconds: float) -> None:
        """So long a conversation took."""
        self._busy += seconds

    def statistics(self) -> BusStatistics:
        """Counts since the start; utilisation since the last call."""
        now = time.monotonic()
        share = self._busy / max(now - self._since, 1e-9)
        self._busy, self._since = 0.0, now
        return replace(self._counts, utilisation=round(min(1.0, share), 4))
