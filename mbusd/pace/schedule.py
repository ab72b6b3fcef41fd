"""When a meter is due. Pure: whoever asks brings the time, in seconds of a clock that never jumps.

A meter is read once at the start, then on a grid of its interval with a phase of its own, so that the meters of a
house do not stand in a queue at every full hour.
"""

import math

PATIENT_SECONDS = 60.0  # a meter that stays silent is still asked this often, or as often as ever
LONGEST_PAUSE = 86400.0


class Schedule:
    """Due times of what one meter is asked for: its values, or alarms.

    `interval` in seconds, None = only on request; `phase` 0..1 of the interval; `patience`: failures in a row after
    which it is asked more rarely, in the end each `rarest` seconds.
    """

    __slots__ = ("_anchor", "_patience", "_rarest", "_stretch", "asked_at", "due", "failures", "interval")

    def __init__(
        self, interval: float | None, start: float, phase: float, patience: int, rarest: float = PATIENT_SECONDS
    ) -> None:
        self.interval = interval
        self.failures = 0
        self.asked_at = -math.inf  # the last time
        self.due = math.inf if interval is None else start
        self._anchor = start + phase * (interval or 0.0)
        self._patience = patience
        self._rarest = rarest
        self._stretch = 1.0  # what a meter that refuses to be read so often has made of the interval

    def succeeded(self, now: float) -> None:
        """The meter was read: next at its next place in the grid."""
        self.failures, self.asked_at = 0, now
        self._next(now, self._stretch)

    def failed(self, now: float) -> None:
        """The meter did not answer: as usual at first, then ever more rarely, down to once a minute as a rule.

        Whether it is back before that, others may find out by asking less of it.
        """
        self.failures, self.asked_at = self.failures + 1, now
        if self.interval is None:
            self.due = math.inf
            return
        most = max(1.0, self._rarest / self.interval)
        doublings = min(max(0, self.failures - self._patience), 30)
        self._next(now, max(self._stretch, min(2.0**doublings, most)))

    def refused(self, now: float) -> None:
        """The meter's read-out budget is used up (application error 09): half as often from now on, but once a day."""
        self.failures, self.asked_at = self.failures + 1, now
        if self.interval is None:
            return
        self._stretch = min(2 * self._stretch, max(1.0, LONGEST_PAUSE / self.interval))
        self._next(now, self._stretch)

    @property
    def is_refused(self) -> bool:
        """Whether the meter wants to be asked less often than its owner does."""
        return self._stretch > 1.0

    def skip(self, until: float) -> None:
        """Nothing before then; next at the place in the grid after it."""
        if self.due <= until:
            self._next(until, 1.0)

    def lateness(self, now: float, since: float = -math.inf) -> float:
        """How many intervals this meter is behind its schedule, which could be kept to from `since` on."""
        return max(0.0, now - max(since, self.due)) / self.interval if self.interval else 0.0

    def ask_once(self, now: float) -> None:
        """Now, for once, whatever the interval."""
        self.due = min(self.due, now)

    def _next(self, now: float, stretch: float) -> None:
        if self.interval is None:
            self.due = math.inf
            return
        places = math.floor((now - self._anchor) / self.interval) + 1
        self.due = self._anchor + max(0, places) * self.interval + (stretch - 1) * self.interval
