"""Whether a connection through a network is dead though nobody has ended it: requests go out, and nothing comes. Pure.

A box that has lost its serial half, or forgotten its clients, may acknowledge every byte for ever. A new connection
tells; where that is as silent, the bus is, and the next one is tried ever more rarely.
"""

DEAF_SECONDS = 15.0
DEAF_REQUESTS = 9  # three read-outs of one meter, or one of three
MOST_SECONDS = 300.0


class Deafness:
    """Of one port, however often it is opened. Times in seconds of a clock that never jumps."""

    def __init__(self) -> None:
        self._silent = 0  # requests since the last byte, or since the port was opened
        self._since = 0.0  # the first of them
        self._patience = DEAF_SECONDS

    def hears(self) -> None:
        """Something came."""
        self._silent, self._patience = 0, DEAF_SECONDS

    def misses(self, now: float) -> None:
        """An answer was due, and its window is over."""
        if not self._silent:
            self._since = now
        self._silent += 1

    def is_deaf(self, now: float) -> bool:
        """Whether the connection should be made anew."""
        return self._silent >= DEAF_REQUESTS and now - self._since >= self._patience

    def begins_anew(self) -> None:
        """It is; if that changes nothing, the next one has to wait twice as long."""
        self._silent, self._patience = 0, min(2 * self._patience, MOST_SECONDS)
